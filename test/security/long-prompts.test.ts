/** Texts that are slow to encode must not keep the event loop, which every tenant and the health check share. */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PromptQueue, SLICE_MS } from '../../gpu-origin/prompts/prompt.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { createTokenizer, STEP_CHARACTERS, type Chunked } from '../../gpu-origin/model/tokenizer.ts';
import { readUsageNote, USAGE_HEADER } from '../../protocol/origin-wire.ts';
import { envelope, signedFetch, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { TINY_KINDS, tinySentencePiece } from '../gpu-origin/model-tokenizer/tiny-tokenizer.ts';

/** Measured on a slow core with the slowest text, a run that merges whole: 1.2 microseconds. */
const MS_PER_CHARACTER = 0.001_2;
/** What may be encoded in one turn of the event loop: a slice, and the step that passes its end. */
const MOST_IN_A_TURN = SLICE_MS / MS_PER_CHARACTER + STEP_CHARACTERS;

/** Time passes by characters that were encoded, so that slices are the same on every machine. */
const work = { total: 0, turn: 0, worst: 0 };
const clock = {
  now: () => work.total * MS_PER_CHARACTER,
  yield: () => {
    work.turn = 0;
    return new Promise<void>((resolve) => setImmediate(resolve));
  },
};

beforeEach(() => {
  Object.assign(work, { total: 0, turn: 0, worst: 0 });
  const encode = Library.prototype.encode;
  vi.spyOn(Library.prototype, 'encode').mockImplementation(function (this: Library, text: string, options) {
    work.total += text.length;
    work.turn += text.length;
    work.worst = Math.max(work.worst, work.turn);
    return encode.call(this, text, options as never) as never;
  });
});
afterEach(() => vi.restoreAllMocks());

const SIZE = 24_000;
const UNITS = {
  spaces: ' ',
  tabs: '\t',
  dashes: '-',
  'equal signs': '=',
  hashes: '#',
  dots: '.',
  'one letter': 'a',
  words: 'hello ',
  digits: '12',
  accents: 'é',
  CJK: '你',
  'joined emoji': '👩‍👩‍👧',
  'byte order marks': '\ufeff',
  mixture: ' -a1é你👍\t= hello#',
};

const origins: Origin[] = [];
afterEach(async () => {
  await Promise.all(origins.splice(0).map((origin) => origin.stop()));
});

async function originOf(kind: string, options: { signed?: boolean; context?: number } = {}): Promise<Origin> {
  const tokenizer = createTokenizer(TINY_KINDS[kind]!());
  const origin = await startTestOrigin({
    ...(options.signed === undefined ? {} : { signed: options.signed }),
    runner: { context: options.context ?? SIZE },
    services: { tokenizer, chatTemplate: createChatTemplate(tokenizer), prompts: new PromptQueue(clock) },
  });
  origins.push(origin);
  return origin;
}

const post = (origin: Origin, path: string, body: object) =>
  fetch(origin.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'fake', max_tokens: 1, ...body }),
  });

describe.each(Object.keys(TINY_KINDS))('a long prompt for %s', (kind) => {
  it('takes no more than a slice of a turn, and each character once', async () => {
    const origin = await originOf(kind);
    for (const [name, unit] of Object.entries(UNITS)) {
      Object.assign(work, { total: 0, turn: 0, worst: 0 });
      const content = unit.repeat(Math.floor(SIZE / unit.length));
      await post(origin, '/v1/chat/completions', { messages: [{ role: 'user', content }] });
      expect(work.total, name).toBeLessThan(content.length + 200);
      expect(work.total, name).toBeGreaterThan(0);
      expect(work.worst, name).toBeLessThanOrEqual(MOST_IN_A_TURN);
    }
    expect(origin.faults).toEqual([]);
  });
});

describe('a prompt that is too long', () => {
  it('is refused before it is encoded when its bytes cannot fit, by every way in', async () => {
    const origin = await originOf('smollm', { context: 512 });
    const long = ' '.repeat(990_000);
    for (const [path, body] of [
      ['/v1/chat/completions', { messages: [{ role: 'user', content: long }] }],
      ['/v1/completions', { prompt: long, echo: true }],
      ['/v1/responses', { input: long, max_tokens: undefined }],
    ] as const) {
      const response = await post(origin, path, body);
      expect(response.status).toBe(400);
      expect(await response.text()).toContain('maximum context length is 512 tokens');
    }
    const rows = [
      { prompt: long.slice(1_000), expected: 'x' },
      { prompt: 'x', expected: 'hello' },
    ];
    const scored = await post(origin, `/adapters/${origin.adapter}/evaluate`, {
      model: undefined,
      max_tokens: undefined,
      rows,
    });
    expect(await scored.json()).toMatchObject({
      rows: [{ error: expect.stringContaining('maximum context') }, { tokens: 2 }],
    });
    expect(work.total).toBeLessThan(100);
  });

  it('costs what was encoded of it until it was known', async () => {
    const origin = await originOf('smollm', { signed: true, context: 512 });
    const ask = async (content: string) => {
      const body = envelope({ model: 'm', messages: [{ role: 'user', content }] });
      const response = await signedFetch(origin, '/v1/chat/completions', { body });
      expect(response.status).toBe(400);
      return readUsageNote(response.headers.get(USAGE_HEADER));
    };
    const counted = await ask('a '.repeat(1_000));
    expect(counted!.promptTokens).toBeGreaterThan(512);
    expect(counted!.promptTokens).toBeLessThan(512 + STEP_CHARACTERS);
    expect(await ask(' '.repeat(990_000))).toBeNull();
  });
});

/** Characters of the text that a step handles on average. */
function pace(steps: Chunked<unknown>, characters: number): number {
  let count = 1;
  while (steps.next().done !== true) count += 1;
  return characters / count;
}

describe('a template', () => {
  const tokenizer = createTokenizer({
    ...tinySentencePiece(),
    chatTemplate:
      "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<s>' + message['content'] }}{% endif %}{% endfor %}",
  });
  const template = createChatTemplate(tokenizer)!;

  it.each(['</s>', '</', '<', '\u{E000}', '</s', ' '])(
    'guards and finds control strings in %j in steps',
    (unit) => {
      const content = unit.repeat(Math.floor(40_000 / unit.length));
      // A limit of nothing: the text is rendered, cut and restored, and then refused by its bytes.
      expect(pace(template.encodeChunked([{ role: 'user', content }], 0), content.length)).toBeLessThan(
        STEP_CHARACTERS,
      );
    },
  );

  it('renders a long conversation in steps', () => {
    const messages = Array.from({ length: 2_048 }, () => ({ role: 'user', content: '<' }));
    expect(pace(template.encodeChunked(messages, 0), messages.length)).toBeLessThanOrEqual(32);
  });
});
