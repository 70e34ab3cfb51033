import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  csvRecords,
  encodeRows,
  MAX_HELD_OUT_ROWS,
  MAX_ROW_PROBLEMS,
  MAX_ROWS_FILE_BYTES,
  MAX_TRAINING_ROW_BYTES,
  MAX_TRAINING_ROWS,
  MIN_SPLIT_ROWS,
  parseRows,
  splitRows,
  type Row,
  type RowFormat,
  type TrainingRow,
} from '../../../gpu-origin/training/rows.ts';
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
const message = (role: string, content: string, trained = false) => ({ role, content, trained });
const [question, answer] = [message('user', 'hi'), message('assistant', 'hello', true)];

describe('parseRows', () => {
  it.each<[string, TrainingMethod, object, Row['conversations']]>([
    [
      "OpenAI's chat format",
      'sft',
      {
        messages: [
          { role: 'developer', content: 'Be brief.' },
          {
            role: 'user',
            content: [
              { type: 'text', text: 'h' },
              { type: 'text', text: 'i' },
            ],
            name: 'ann',
          },
          { role: 'assistant', content: 'what?', weight: 0 },
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello', weight: 1, refusal: null, tool_calls: null },
        ],
        tools: null,
      },
      [
        {
          messages: [
            message('system', 'Be brief.'),
            { ...question, name: 'ann' },
            message('assistant', 'what?'),
            question,
            answer,
          ],
        },
      ],
    ],
    [
      'every answer of a chat by default',
      'sft',
      {
        messages: [
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello' },
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello' },
        ],
      },
      [{ messages: [question, answer, question, answer] }],
    ],
    ['a raw text', 'sft', { prompt: 'a', completion: ' b' }, [{ prompt: 'a', completion: ' b' }]],
    ['an evaluation row', 'sft', { user: 'hi', expected: 'hello' }, [{ messages: [question, answer] }]],
    [
      'an evaluation row with a system text',
      'sft',
      { system: 'Be brief.', user: 'hi', expected: 'hello' },
      [{ messages: [message('system', 'Be brief.'), question, answer] }],
    ],
    ['a raw evaluation row', 'sft', { prompt: 'a', expected: 'b' }, [{ prompt: 'a', completion: 'b' }]],
    [
      "OpenAI's preference format",
      'dpo',
      {
        input: {
          messages: [
            { role: 'user', content: 'hi' },
            { role: 'assistant', content: 'hello' },
            { role: 'user', content: 'hi' },
          ],
        },
        preferred_output: [{ role: 'assistant', content: 'hello' }],
        non_preferred_output: [{ role: 'assistant', content: 'what?' }],
      },
      ['hello', 'what?'].map((content) => ({
        messages: [question, message('assistant', 'hello'), question, message('assistant', content, true)],
      })),
    ],
    [
      'a pair',
      'dpo',
      { user: 'hi', chosen: 'hello', rejected: 'what?' },
      ['hello', 'what?'].map((content) => ({ messages: [question, message('assistant', content, true)] })),
    ],
    [
      'a pair on a raw text',
      'dpo',
      { prompt: 'a', chosen: 'b', rejected: 'c' },
      [
        { prompt: 'a', completion: 'b' },
        { prompt: 'a', completion: 'c' },
      ],
    ],
  ])('reads %s', (_, method, row, conversations) => {
    expect(parse(JSON.stringify(row), method)).toEqual({
      rows: [{ line: 1, conversations }],
      problems: [],
      problemCount: 0,
    });
  });

  const chat = (...messages: object[]) => ({ messages });
  const assistant = { role: 'assistant', content: 'hello' };
  const user = { role: 'user', content: 'hi' };
  const pair = {
    input: { messages: [user] },
    preferred_output: [assistant],
    non_preferred_output: [{ role: 'assistant', content: 'what?' }],
  };

  it.each<[TrainingMethod, unknown, string]>([
    ['sft', 7, 'The row is not a JSON object.'],
    [
      'sft',
      {},
      "The row needs 'messages', or 'prompt' and 'completion', or 'user' or 'prompt' and 'expected'.",
    ],
    [
      'dpo',
      { id: 1 },
      "The row needs 'input', 'preferred_output' and 'non_preferred_output', or 'user' or 'prompt' with 'chosen' and 'rejected'.",
    ],
    ['sft', pair, "The row has two answers, as the method 'dpo' needs them. The method 'sft' learns one."],
    [
      'dpo',
      chat(user, assistant),
      "The row has one answer, as the method 'sft' needs it. The method 'dpo' compares two.",
    ],
    [
      'sft',
      { ...chat(user, assistant), tools: [] },
      "Tools cannot be trained yet. Remove 'tools', or the row.",
    ],
    [
      'sft',
      chat(user, { role: 'assistant', content: null, tool_calls: [{}] }),
      "Tools cannot be trained yet. Remove 'messages[1].tool_calls', or the row.",
    ],
    [
      'sft',
      chat(user, { role: 'tool', content: '4' }, assistant),
      "Tools cannot be trained yet. Remove 'messages[1]', or the row.",
    ],
    [
      'dpo',
      { ...pair, input: { messages: [user], parallel_tool_calls: true } },
      "Tools cannot be trained yet. Remove 'input.parallel_tool_calls', or the row.",
    ],
    [
      'dpo',
      { ...pair, preferred_output: [{ ...assistant, tool_calls: [] }] },
      "Tools cannot be trained yet. Remove 'preferred_output[0].tool_calls', or the row.",
    ],
    ['sft', chat(), "Invalid value for 'messages': must not be empty."],
    ['sft', chat(assistant, user), "Invalid value for 'messages': the last message must be the assistant's."],
    [
      'sft',
      chat({ role: 'robot', content: 'hi' }, assistant),
      "Invalid value for 'messages[0].role': must be 'system', 'developer', 'user' or 'assistant'.",
    ],
    [
      'sft',
      chat(user, { ...assistant, weight: 0.5 }),
      "Invalid value for 'messages[1].weight': must be 0 or 1.",
    ],
    [
      'sft',
      chat({ ...user, weight: 1 }, assistant),
      "Invalid value for 'messages[0].weight': only an assistant's message has a weight.",
    ],
    [
      'sft',
      chat(user, { ...assistant, content: '' }),
      "Invalid value for 'messages[1].content': must not be empty.",
    ],
    [
      'sft',
      chat({ role: 'user', content: [{ type: 'image_url', image_url: {} }] }, assistant),
      "Invalid value for 'messages[0].content': must be a string or an array of text parts.",
    ],
    ['sft', chat({ ...user, text: 'x' }, assistant), "Unknown field 'messages[0].text'."],
    ['sft', { prompt: 'a', completion: '' }, "Invalid value for 'completion': must not be empty."],
    ['sft', { prompt: 'a', completion: 'b', id: 1 }, "Unknown field 'id'."],
    ['sft', { expected: 'b' }, "A row needs either 'prompt' or 'user'."],
    ['dpo', { user: 'a', prompt: 'a', chosen: 'b', rejected: 'c' }, "A row needs either 'prompt' or 'user'."],
    [
      'dpo',
      { prompt: 'a', system: 'a', chosen: 'b', rejected: 'c' },
      "'system' needs 'user'; it cannot be combined with 'prompt'.",
    ],
    ['dpo', { user: 'a', chosen: 'b', rejected: 'b' }, 'The chosen and the rejected answer are the same.'],
    [
      'dpo',
      { ...pair, preferred_output: [assistant, assistant] },
      "Invalid value for 'preferred_output': must be one assistant's message.",
    ],
    [
      'dpo',
      { ...pair, preferred_output: [user] },
      "Invalid value for 'preferred_output[0].role': must be 'assistant'.",
    ],
  ])('refuses for %s: %j', (method, row, problem) => {
    expect(parse(`\n${JSON.stringify(row)}`, method)).toEqual({
      rows: [],
      problems: [{ line: 2, problem }],
      problemCount: 1,
    });
  });

  const row = '{"prompt": "a", "completion": "b"}';

  it('counts lines from 1, skips empty ones, and reads a byte order mark and CRLF', () => {
    const { rows, problems } = parse(`\u{FEFF}${row}\r\n\r\n  \n${row}\r\n{"a"\n${row}`);
    expect(rows.map(({ line }) => line)).toEqual([1, 4, 6]);
    expect(problems).toEqual([{ line: 5, problem: 'The line is not JSON.' }]);
  });

  it('names the first line that is not UTF-8', () => {
    const bytes = Uint8Array.from([...bytesOf(`${row}\n"é"\n`), 0x22, 0xe9, 0x22, 0x0a, 0xff]);
    const problem = 'The file is not UTF-8 text. Save it as UTF-8.';
    expect(parseRows({ bytes, format: 'jsonl', method: 'sft' }).problems).toEqual([{ line: 3, problem }]);
  });

  it('says that a JSON array is not JSON Lines', () => {
    expect(parse(`\n[\n${row},\n${row}]`).problems).toEqual([
      {
        line: 1,
        problem: expect.stringContaining('The file is a JSON array. Write one object a line') as string,
      },
    ]);
  });

  it('finds no rows in an empty file', () => {
    expect(parse('')).toEqual({ rows: [], problems: [], problemCount: 0 });
    expect(parse('', 'sft', 'csv')).toEqual({ rows: [], problems: [], problemCount: 0 });
  });

  it('survives a deeply nested row', () => {
    const { problemCount } = parse(`{"messages": ${'['.repeat(200_000)}${']'.repeat(200_000)}}`);
    expect(problemCount).toBe(1);
  });

  it('keeps some problems and counts all, beside the rows that have none', () => {
    const { rows, problems, problemCount } = parse(`${row}\n${'{}\n'.repeat(MAX_ROW_PROBLEMS + 20)}${row}`);
    expect([rows.length, problems.length, problemCount]).toEqual([
      2,
      MAX_ROW_PROBLEMS,
      MAX_ROW_PROBLEMS + 20,
    ]);
  });

  it('bounds the bytes of a row, in UTF-8', () => {
    const around = '{"prompt": "a", "completion": ""}'.length;
    const of = (size: number) =>
      parse(`{"prompt": "a", "completion": "${'é'.repeat(Math.floor((size - around) / 2))}"}`);
    expect(of(MAX_TRAINING_ROW_BYTES)).toMatchObject({ problemCount: 0 });
    expect(of(MAX_TRAINING_ROW_BYTES + 2).problems).toEqual([
      { line: 1, problem: 'The row has more than 1048576 bytes.' },
    ]);
  });

  it('bounds the rows', () => {
    const { rows, problems } = parse(`${row}\n`.repeat(MAX_TRAINING_ROWS + 2));
    expect(rows).toHaveLength(MAX_TRAINING_ROWS);
    expect(problems).toEqual([{ line: 100_001, problem: 'The file has more than 100000 rows. Split it.' }]);
  });

  it('bounds the bytes of a file', () => {
    const bytes = new Uint8Array(MAX_ROWS_FILE_BYTES + 1);
    expect(parseRows({ bytes, format: 'jsonl', method: 'sft' }).problems).toEqual([
      { line: 1, problem: 'The file has 67108865 bytes. The most is 67108864.' },
    ]);
  });
});

describe('parseRows of CSV', () => {
  it('reads each kind of columns, in any order', () => {
    expect(parse('completion,prompt\n b,a\n', 'sft', 'csv').rows).toEqual([
      { line: 2, conversations: [{ prompt: 'a', completion: ' b' }] },
    ]);
    expect(parse('user,system,expected\r\nhi,Be brief.,hello\r\nhi,,hello', 'sft', 'csv').rows).toEqual([
      { line: 2, conversations: [{ messages: [message('system', 'Be brief.'), question, answer] }] },
      { line: 3, conversations: [{ messages: [question, answer] }] },
    ]);
    expect(parse('prompt,chosen,rejected\na,b,c', 'dpo', 'csv').rows).toEqual([
      {
        line: 2,
        conversations: [
          { prompt: 'a', completion: 'b' },
          { prompt: 'a', completion: 'c' },
        ],
      },
    ]);
  });

  it('names the first line of a record', () => {
    const { rows, problems } = parse(
      '\u{FEFF}prompt,completion\n"a\n\nb","c ""d"", e"\n\na\na,\n"x"y,z\na,b\n"never closed,b\na,b',
      'sft',
      'csv',
    );
    expect(rows).toEqual([
      { line: 2, conversations: [{ prompt: 'a\n\nb', completion: 'c "d", e' }] },
      { line: 9, conversations: [{ prompt: 'a', completion: 'b' }] },
    ]);
    expect(problems).toEqual([
      { line: 6, problem: 'The record has 1 cells, but the header has 2 columns.' },
      {
        line: 7,
        problem:
          "The row needs 'messages', or 'prompt' and 'completion', or 'user' or 'prompt' and 'expected'.",
      },
      { line: 8, problem: 'A closing quote must be followed by a comma or the end of the line.' },
      { line: 10, problem: 'A quoted cell is not closed.' },
    ]);
  });

  it.each<[TrainingMethod, string, string]>([
    ['sft', 'prompt;completion', "Unknown column 'prompt;completion'. The first line names the columns"],
    ['sft', 'id,prompt,completion', "Unknown column 'id'."],
    ['sft', 'prompt,prompt,completion', "Column 'prompt' is there twice."],
    ['sft', 'prompt,user', "Columns are missing. Name 'prompt' and 'completion'"],
    ['sft', 'expected', 'Columns are missing.'],
    ['dpo', 'prompt,chosen', "Columns are missing. Name 'prompt', 'chosen' and 'rejected'"],
    ['dpo', 'prompt,completion', "Unknown column 'completion'."],
    ['sft', '"prompt', 'A quoted cell is not closed.'],
  ])('refuses for %s the header %s', (method, header, problem) => {
    const { rows, problems, problemCount } = parse(`\n${header}\na,b\n`, method, 'csv');
    expect(rows).toEqual([]);
    expect(problemCount).toBe(1);
    expect(problems[0]).toMatchObject({ line: 2, problem: expect.stringContaining(problem) as string });
  });

  it('bounds the bytes of a record', () => {
    const { problems } = parse(`prompt,completion\na,${'b'.repeat(MAX_TRAINING_ROW_BYTES)}`, 'sft', 'csv');
    expect(problems).toEqual([{ line: 2, problem: 'The row has more than 1048576 bytes.' }]);
  });

  it('reads back whatever cells were written', () => {
    const cell = fc.array(fc.constantFrom('a', 'é', ' ', ',', '"', '\n', '\r\n', ';'), { maxLength: 8 });
    const record = fc.array(
      cell.map((parts) => parts.join('')),
      { minLength: 2, maxLength: 4 },
    );
    fc.assert(
      fc.property(fc.array(record), fc.constantFrom('\n', '\r\n'), fc.boolean(), (records, end, ends) => {
        const lines = records.map((cells) =>
          cells.map((one) => (/[",\r\n]/.test(one) ? `"${one.replaceAll('"', '""')}"` : one)).join(','),
        );
        const text = lines.join(end) + (ends && lines.length > 0 ? end : '');
        const read = [...csvRecords(text)];
        expect(read.map(({ cells }) => cells)).toEqual(records.map((value) => ({ ok: true, value })));
        let line = 1;
        for (const [at, { line: first }] of read.entries()) {
          expect(first).toBe(line);
          line += lines[at]!.split('\n').length;
        }
      }),
    );
  });
});

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
