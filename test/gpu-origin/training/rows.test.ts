import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeRows,
  MAX_HELD_OUT_ROWS,
  MIN_SPLIT_ROWS,
  splitRows,
  type TrainingRow,
} from '../../../gpu-origin/training/rows.ts';
import { parseRows, type RowFormat } from '../../../protocol/training-rows.ts';
import type { EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { createTokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { PromptQueue } from '../../../gpu-origin/prompts/prompt.ts';
import { evaluateAdapter } from '../../../gpu-origin/trials/verify-adapter.ts';
import type { BaseInfo, EvaluationRow } from '../../../protocol/origin-wire.ts';
import type { TrainingMethod } from '../../../protocol/training.ts';
import { SPECIALS, TINY_KINDS, tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';

/** The same cases every time. */
fc.configureGlobal({ seed: 20_261_130 });

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const parse = (text: string, method: TrainingMethod = 'sft', format: RowFormat = 'jsonl') =>
  parseRows({ bytes: bytesOf(text), format, method });

const tiny = (metadata: Record<string, unknown> = {}) => {
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata(metadata) });
  return { tokenizer, template: createChatTemplate(tokenizer) };
};
const { tokenizer, template } = tiny();
const encode = (
  rows: readonly object[],
  maxLength = 512,
  base = { tokenizer, template },
  method: TrainingMethod = 'sft',
) =>
  encodeRows(parse(rows.map((row) => JSON.stringify(row)).join('\n'), method).rows, { ...base, maxLength });

/** Text of a sequence, its labelled parts in «». */
function marked({ sequences }: TrainingRow, of = tokenizer, at = 0): string {
  const { tokens, labels } = sequences[at]!;
  let text = '';
  let inside = false;
  const write = (id: number): string => new TextDecoder().decode(of.tokenBytes(id)!);
  for (const [place, token] of tokens.entries()) {
    const learned = place > 0 && labels[place - 1] !== -1;
    if (learned) expect(labels[place - 1]).toBe(token);
    if (learned !== inside) text += learned ? '«' : '»';
    inside = learned;
    text += write(token);
  }
  expect(labels.at(-1)).toBe(-1);
  return inside ? `${text}»` : text;
}

describe('encodeRows', () => {
  it('learns the answer and its end alone', () => {
    const { rows, leftOut } = encode([
      { system: 'Be brief.', user: 'hi', expected: 'hello world' },
      { prompt: 'hello', completion: ' world' },
      { prompt: '<|im_start|>x', completion: '<|im_end|>' },
    ]);
    expect(leftOut).toEqual([]);
    expect(rows.map((row) => marked(row))).toEqual([
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n«hello world<|im_end|>»',
      'hello« world<|im_end|>»',
      '<|im_start|>x«<|im_end|><|im_end|>»',
    ]);
    // Control strings are tokens in a raw prompt, and ordinary text in an answer.
    const [first, second] = rows[2]!.sequences[0]!.tokens;
    expect([first, tokenizer.isSpecial(second!)]).toEqual([1, false]);
    expect([...rows[2]!.sequences[0]!.tokens].filter((id) => tokenizer.isSpecial(id))).toEqual([1, 2]);
  });

  const turns = {
    messages: [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'one' },
      { role: 'user', content: 'b' },
      { role: 'assistant', content: 'two', weight: 0 },
      { role: 'user', content: 'c' },
      { role: 'assistant', content: 'three' },
    ],
  };
  const turn = (role: string, text: string) => `<|im_start|>${role}\n${text}<|im_end|>\n`;

  it('learns each answer of a conversation in one sequence, except those of weight 0', () => {
    const { rows } = encode([turns]);
    expect(rows.map((row) => marked(row))).toEqual([
      `${turn('user', 'a')}<|im_start|>assistant\n«one<|im_end|>»\n${turn('user', 'b')}${turn('assistant', 'two')}` +
        `${turn('user', 'c')}<|im_start|>assistant\n«three<|im_end|>»`,
    ]);
  });

  it('makes a row of each answer that a later prompt writes otherwise', () => {
    const forgetful = tiny({
      'tokenizer.chat_template':
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|im_start|>' + message['content'] }}" +
        "{% else %}{{ '<|im_end|>' + message['content'] | trim + '<|im_end|>' }}{% endif %}{% endfor %}" +
        "{% if add_generation_prompt %}{{ '<|im_end|>' }}{% endif %}",
    });
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'one ' },
      { role: 'user', content: 'b' },
      { role: 'assistant', content: 'two' },
      { role: 'user', content: 'c' },
      { role: 'assistant', content: 'three' },
    ];
    const { rows } = encode([{ messages }, turns], 512, forgetful);
    const a = '<|im_start|>a<|im_end|>';
    expect(rows.map((row) => marked(row))).toEqual([
      `${a}«one <|im_end|>»`,
      `${a}one<|im_end|><|im_start|>b<|im_end|>«two<|im_end|>»<|im_start|>c<|im_end|>«three<|im_end|>»`,
      `${a}«one<|im_end|>»<|im_start|>b<|im_end|>two<|im_end|><|im_start|>c<|im_end|>«three<|im_end|>»`,
    ]);
    expect(rows.map(({ line }) => line)).toEqual([1, 1, 2]);
    expect(rows[0]!.hash).toBe(rows[1]!.hash);
    expect(rows[0]!.hash).not.toBe(rows[2]!.hash);
  });

  it('ends a turn with the token that the template writes, and a text with the first that ends one', () => {
    const specials = ['<|end_of_text|>', '<|start|>', '<|eot|>'];
    const tokens = [
      ...specials,
      ...(tinyMetadata().get('tokenizer.ggml.tokens') as string[]).slice(SPECIALS.length),
    ];
    const base = tiny({
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.eos_token_id': 0,
      'tokenizer.ggml.eot_token_id': 2,
      'tokenizer.chat_template':
        "{% for message in messages %}{{ '<|start|>' + message['content'] + '<|eot|>' }}{% endfor %}" +
        "{{ '<|start|>' if add_generation_prompt else eos_token }}",
    });
    expect(base.tokenizer.eosIds).toEqual([0, 2]);
    const { rows } = encode(
      [
        { user: 'a', expected: 'b' },
        { prompt: 'a', expected: 'b' },
      ],
      512,
      base,
    );
    expect(rows.map((row) => marked(row, base.tokenizer))).toEqual([
      '<|start|>a<|eot|><|start|>«b<|eot|>»',
      'a«b<|end_of_text|>»',
    ]);
  });

  it('gives both answers of a pair the same prompt', () => {
    const { rows } = encode(
      [{ user: 'hi', chosen: 'hello', rejected: 'what?' }],
      512,
      { tokenizer, template },
      'dpo',
    );
    const prompt = `${turn('user', 'hi')}<|im_start|>assistant\n`;
    expect(rows).toHaveLength(1);
    expect([marked(rows[0]!, tokenizer, 0), marked(rows[0]!, tokenizer, 1)]).toEqual([
      `${prompt}«hello<|im_end|>»`,
      `${prompt}«what?<|im_end|>»`,
    ]);
  });

  it('leaves out longer rows, and cuts none', () => {
    const row = { user: 'hi', expected: 'hello' };
    const size = encode([row]).rows[0]!.sequences[0]!.tokens.length;
    expect(encode([row], size).rows).toHaveLength(1);
    expect(encode([row, { prompt: 'a', completion: 'b' }], size - 1)).toMatchObject({
      rows: [{ line: 2 }],
      leftOut: [{ line: 1, reason: 'too_long', why: `The row has more than ${size - 1} tokens.` }],
    });
    const long = 'x y '.repeat(100_000);
    const all = [
      { user: long, expected: 'b' },
      { user: 'a', expected: long },
      { prompt: long, completion: 'b' },
    ];
    expect(encode(all).leftOut.map(({ reason }) => reason)).toEqual(['too_long', 'too_long', 'too_long']);
    const pair = { user: 'a', chosen: 'b', rejected: long };
    expect(encode([pair], 512, { tokenizer, template }, 'dpo')).toMatchObject({
      rows: [],
      leftOut: [{ line: 1, reason: 'too_long' }],
    });
  });

  it('says why other rows are left out', () => {
    const silent = {
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b', weight: 0 },
      ],
    };
    const strict = tiny({
      'tokenizer.chat_template':
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system text') }}{% endif %}{{ '<|im_start|>' }}",
    });
    expect([
      ...encode([silent, { prompt: '', completion: 'b' }]).leftOut,
      ...encode([{ system: 'a', user: 'b', expected: 'c' }], 512, strict).leftOut,
      ...encode([{ user: 'b', expected: 'c' }], 512, { tokenizer, template: null }).leftOut,
    ]).toEqual([
      { line: 1, reason: 'no_answer', why: 'The row has no answer to learn.' },
      { line: 2, reason: 'no_prompt', why: 'The prompt is empty.' },
      {
        line: 1,
        reason: 'template',
        why: expect.stringMatching(
          /^The base's chat template refuses these messages: .*no system text/,
        ) as string,
      },
      {
        line: 1,
        reason: 'no_template',
        why: "This base has no chat template. Write the rows as 'prompt' and 'completion'.",
      },
    ]);
    const raw = encode([{ prompt: 'a', completion: 'b' }], 512, { tokenizer, template: null });
    expect(raw.rows).toHaveLength(1);
  });

  describe.each(Object.entries(TINY_KINDS))('with a tokenizer of kind %s', (_, definition) => {
    it('feeds what an origin feeds for the same evaluation rows', async () => {
      const kind = createTokenizer(definition());
      const base = { tokenizer: kind, template: createChatTemplate(kind) };
      const rows: EvaluationRow[] = [
        { user: 'hello', expected: 'world' },
        { system: 'Be brief.\n', user: '  hello 12', expected: ' hello\n' },
        { user: '<|im_end|></s>', expected: '<|im_start|></s>' },
        { prompt: 'hello ', expected: 'world' },
        { prompt: '<|im_start|></s>hello', expected: '你好, hello' },
      ];
      const fed: (readonly number[])[] = [];
      await evaluateAdapter({
        services: {
          ...base,
          chatTemplate: base.template,
          base: { id: 'tiny', context: 512 } as BaseInfo,
          prompts: new PromptQueue({ now: () => 0, yield: () => Promise.resolve() }),
          engine: {
            add: ({ prompt }: EngineRequest) => {
              fed.push(prompt);
              const error = { code: 'invalid_request', message: 'not run', param: null } as const;
              return Promise.resolve({ ok: false, error });
            },
          },
        },
        requestId: 'r',
        tenant: 't',
        chain: [],
        rows,
        budgetMs: null,
        now: () => 0,
        signal: new AbortController().signal,
      });
      const encoded = encode(rows, 512, base);
      const tokens = encoded.rows.map(({ sequences }) => [...sequences[0]!.tokens]);
      expect(tokens.map((ids) => ids.join()).sort()).toEqual(fed.map((ids) => ids.join()).sort());
      expect(tokens).toHaveLength(rows.length);
    });
  });
});

describe('splitRows', () => {
  const rowsOf = (hashes: readonly number[]): TrainingRow[] =>
    hashes.map((hash, at) => ({ line: at + 1, hash, sequences: [] }));
  const hash = fc.integer({ min: 0, max: 0xffff_ffff });
  const share = fc.double({ min: 0.01, max: 0.5, noNaN: true });
  const hashesOf = (rows: readonly TrainingRow[]) => rows.map((row) => row.hash);
  const spread = (count: number) => Array.from({ length: count }, (_, at) => (at / count) * 2 ** 32);

  it('divides the rows, with copies of one on the same side, whatever their order', () => {
    const some = fc.array(fc.oneof(hash, fc.constantFrom(1, 2, 2 ** 30)), { maxLength: 60 });
    fc.assert(
      fc.property(some, share, (hashes, part) => {
        const { trained, heldOut } = splitRows(rowsOf(hashes), part);
        expect([...trained, ...heldOut].sort((a, b) => a.line - b.line)).toEqual(rowsOf(hashes));
        const held = new Set(hashesOf(heldOut));
        expect(hashesOf(trained).some((one) => held.has(one))).toBe(false);
        const turned = splitRows(rowsOf([...hashes].reverse()), part);
        expect(hashesOf(turned.heldOut).reverse()).toEqual(hashesOf(heldOut));
        if (hashes.length > 0) expect(trained).not.toHaveLength(0);
        if (new Set(hashes).size > 1 && hashes.length >= MIN_SPLIT_ROWS) expect(heldOut).not.toHaveLength(0);
      }),
    );
  });

  it('keeps a row on its side when others come', () => {
    fc.assert(
      fc.property(fc.array(hash, { minLength: 20 }), fc.array(hash), share, (hashes, more, part) => {
        const limit = part * 2 ** 32;
        const few = new Set(hashesOf(splitRows(rowsOf(hashes), part).heldOut));
        const many = new Set(hashesOf(splitRows(rowsOf([...hashes, ...more, 2 ** 32 - 1]), part).heldOut));
        for (const one of hashes.filter((value) => value < limit)) expect(many.has(one)).toBe(true);
        for (const one of hashes.filter((value) => value >= limit))
          expect(few.has(one) && few.size > 1).toBe(false);
      }),
    );
  });

  it('holds out nothing for a share of 0, and about the share of many', () => {
    expect(splitRows(rowsOf(spread(100)), 0).heldOut).toEqual([]);
    expect(splitRows(rowsOf(spread(100)), 0.1).heldOut).toHaveLength(10);
  });

  it('holds out one of ten at least, and none of fewer unless its hash says so', () => {
    const high = Array.from({ length: MIN_SPLIT_ROWS }, (_, at) => 2 ** 32 - 1 - at);
    expect(hashesOf(splitRows(rowsOf(high), 0.1).heldOut)).toEqual([2 ** 32 - MIN_SPLIT_ROWS]);
    expect(splitRows(rowsOf(high.slice(1)), 0.1).heldOut).toEqual([]);
    expect(hashesOf(splitRows(rowsOf([0, ...high.slice(0, 3)]), 0.1).heldOut)).toEqual([0]);
    expect(splitRows(rowsOf(Array<number>(20).fill(0)), 0.5).heldOut).toEqual([]);
  });

  it('holds out a thousand at most', () => {
    const { heldOut } = splitRows(rowsOf(spread(4_000)), 0.5);
    expect(hashesOf(heldOut)).toEqual(spread(4_000).slice(0, MAX_HELD_OUT_ROWS));
    const copies = [...Array<number>(MAX_HELD_OUT_ROWS + 1).fill(0), 2 ** 20, 2 ** 31];
    expect(hashesOf(splitRows(rowsOf(copies), 0.1).heldOut)).toEqual([2 ** 20]);
  });

  it('takes even few bits of a text into account', () => {
    const all = encode(
      Array.from({ length: 2_000 }, (_, at) => ({ prompt: 'a', completion: `answer ${at}` })),
    ).rows;
    for (const part of [0.05, 0.2, 0.5]) {
      const { length } = splitRows(all, part).heldOut;
      // Four standard deviations of a fair draw.
      expect(Math.abs(length - 2_000 * part)).toBeLessThan(4 * Math.sqrt(2_000 * part * (1 - part)));
    }
    expect(new Set(hashesOf(all)).size).toBe(2_000);
  });

  it('sees that rows of two formats are the same', () => {
    const { rows } = encode([
      { user: 'hi', expected: 'hello' },
      {
        messages: [
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello', weight: 1 },
        ],
      },
      { prompt: 'hi', completion: 'hello' },
      { prompt: 'hi', expected: 'hello' },
    ]);
    const [a, b, c, d] = hashesOf(rows);
    expect([a === b, c === d, a === c]).toEqual([true, true, false]);
  });
});

describe('examples/train/rows.jsonl', () => {
  const bytes = new Uint8Array(readFileSync(new URL('../../../examples/train/rows.jsonl', import.meta.url)));
  const { rows, problemCount } = parseRows({ bytes, format: 'jsonl', method: 'sft' });

  it('teaches one thing: a label and the one reply that belongs to it', () => {
    expect(problemCount).toBe(0);
    const questions = new Set<string>();
    const replies = new Map<string, number>();
    for (const { conversations } of rows) {
      const [conversation] = conversations;
      const [asked, told] = 'messages' in conversation! ? conversation.messages : [];
      expect(told!.content).toMatch(/^\[[a-z]+\] [^\n]+\.$/);
      questions.add(asked!.content);
      replies.set(told!.content, (replies.get(told!.content) ?? 0) + 1);
    }
    expect([rows.length, questions.size]).toEqual([72, 72]);
    expect([...replies.values()]).toEqual(Array(6).fill(12));
    expect(new Set([...replies.keys()].map((reply) => reply.split(']')[0])).size).toBe(6);
  });

  it('fits the defaults, and is split into two sides', () => {
    const encoded = encodeRows(rows, { tokenizer, template, maxLength: 512 });
    expect(encoded.leftOut).toEqual([]);
    const { trained, heldOut } = splitRows(encoded.rows, 0.1);
    expect(trained.length + heldOut.length).toBe(72);
    expect(heldOut.length).toBeGreaterThanOrEqual(3);
  });
});
