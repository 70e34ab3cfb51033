/** Streams that wait for long, break off or hang: a client always hears how its answer ended. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { STREAM_STALL_MS } from '../../protocol/limits.ts';
import {
  CONNECTION_BYTES,
  HEADERS_PATIENCE_MS,
  PULSE_MS,
  STREAM_STALL_CHECK_MS,
  UNREAD_MS,
} from '../../worker/origins/limits.ts';
import { createStreamRig, rest, type StreamRig } from './stream-rig.ts';

let rig: StreamRig;
let key: string;
let logged: string[];
beforeEach(async () => {
  logged = [];
  vi.spyOn(console, 'error').mockImplementation((line: string) => void logged.push(line));
  rig = await createStreamRig();
  key = await rig.keyOf('alice');
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const messages = (length: number) => [{ role: 'user', content: 'a '.repeat(length) }];

/** What a client has of a stream so far. */
function reading(asking: Promise<Response>) {
  const seen = { text: '', status: 0, ended: false };
  const work = (async () => {
    const response = await asking;
    seen.status = response.status;
    const decoder = new TextDecoder();
    try {
      for await (const chunk of response.body as ReadableStream<Uint8Array>)
        seen.text += decoder.decode(chunk);
    } finally {
      seen.ended = true;
    }
  })();
  work.catch(() => undefined);
  return seen;
}
type Reading = ReturnType<typeof reading>;

const isWhole = ({ text }: Reading): boolean =>
  text.includes('"finish_reason":"length"') && text.endsWith('data: [DONE]\n\n');
const hasError = ({ text }: Reading): boolean => text.includes('"code":"origin_unavailable"');
const usage = async () => {
  const answer = await rig.edge.request('/admin/usage?by=key&from=2020-01-01');
  return (await answer.json()) as object;
};

describe('streams that have to wait', () => {
  it.each([
    ['64 streams of 512 tokens', 64, 4, 512],
    ['32 prompts of 2,000 tokens', 32, 1_990, 24],
  ])('end whole: %s at once', async (_what, count, words, tokens) => {
    const streams = Array.from({ length: count }, () =>
      reading(rig.chat(key, { messages: messages(words), max_tokens: tokens })),
    );
    while (rig.engine.stats().waiting + rig.engine.stats().running < count) await rest();
    const ms = await rig.run(() => streams.every(({ ended }) => ended));
    // Some of them waited for longer than a stream may be silent.
    expect(ms).toBeGreaterThan(STREAM_STALL_MS);
    expect(streams.filter((stream) => !isWhole(stream))).toEqual([]);
    await rig.close();
  });

  it('get a first token soon beside a tenant with 16 streams of 8,000 tokens', async () => {
    for (let i = 0; i < 16; i += 1) reading(rig.chat(key, { messages: messages(4), max_tokens: 8_000 }));
    while (rig.engine.stats().waiting + rig.engine.stats().running < 16) await rest();
    await rig.run(() => rig.engine.stats().kvTokens > 16 * 200);
    const bob = reading(rig.chat(await rig.keyOf('bob'), { messages: messages(4), max_tokens: 32 }));
    while (rig.engine.stats().waiting === 0) await rest();
    const ms = await rig.run(() => /"content":"[^"]/.test(bob.text));
    expect(ms).toBeLessThan(500);
    await rig.run(() => bob.ended);
    expect(isWhole(bob)).toBe(true);
    await rig.close();
  });
});

describe('an origin that hangs', () => {
  it('in the middle of streams: each ends with an error event, and the origin is left alone', async () => {
    const streams = Array.from({ length: 3 }, () =>
      reading(rig.chat(key, { messages: messages(4), max_tokens: 500 })),
    );
    while (rig.engine.stats().waiting + rig.engine.stats().running < 3) await rest();
    await rig.run(() => streams.every(({ text }) => text.includes('"content"')));
    rig.freeze();
    await rig.pass(STREAM_STALL_MS + STREAM_STALL_CHECK_MS);
    expect(streams.map(({ ended }) => ended)).toEqual([true, true, true]);
    expect(streams.every(hasError)).toBe(true);
    expect(JSON.stringify(await usage())).toContain('"errors":3');
  });

  it('before a request is begun: the only one there is is given up after 10 s', async () => {
    rig.freeze();
    const asked = reading(rig.chat(key, { messages: messages(4), max_tokens: 5 }));
    while (!rig.edge.asked.includes('POST /v1/chat/completions')) await rest();
    await rig.pass(HEADERS_PATIENCE_MS + PULSE_MS - 500);
    expect(asked.ended).toBe(false);
    await rig.pass(1_000);
    expect([asked.ended, asked.status, asked.text]).toEqual([
      true,
      503,
      expect.stringContaining('origin_unavailable'),
    ]);
  });
});

describe('an origin that stops before the end of an answer', () => {
  it.each([
    ['closes in order', 'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'],
    ['says nothing at all', ''],
  ])('and %s: the client hears it', async (_what, text) => {
    const { answer } = rig.edge.origin;
    rig.edge.origin.answer = (method, path, init) =>
      path.startsWith('/v1')
        ? new Response(text, {
            headers: { 'content-type': 'text/event-stream', 'x-graft-usage': 'prompt=1' },
          })
        : answer(method, path, init);
    const stream = reading(rig.chat(key, { messages: messages(4) }));
    while (!stream.ended) await rest();
    expect(hasError(stream)).toBe(true);
    await rest();
    expect(JSON.stringify(await usage())).toContain('"errors":1');
    expect(logged.filter((line) => line.includes('stream_cut'))).toHaveLength(1);
  });
});

describe('a client that does not read', () => {
  /** Its stream has begun. */
  async function unread(): Promise<Response> {
    const asking = rig.chat(key, { messages: messages(4), max_tokens: 4_000 });
    while (rig.engine.stats().waiting + rig.engine.stats().running < 1) await rest();
    let answered: Response | null = null;
    void asking.then((response) => (answered = response));
    await rig.run(() => answered !== null);
    return answered!;
  }

  it('and then does: it has what was kept for it, and why there is no more', async () => {
    const { body } = await unread();
    // A connection takes something even when nobody reads.
    const buffer = new ByteLengthQueuingStrategy({ highWaterMark: 2 * CONNECTION_BYTES });
    const response = new Response(body!.pipeThrough(new TransformStream<Uint8Array, Uint8Array>({}, buffer)));
    await rig.run(() => rig.engine.stats().running === 0);
    const text = await response.text();
    expect(text).toContain('"code":"deadline_exceeded"');
    expect(text.length).toBeGreaterThan(200_000);
    expect(text.length).toBeLessThan(400_000);
    await rest();
    expect(JSON.stringify(await usage())).toContain('"requests":1,"errors":0');
    expect(logged.filter((line) => line.includes('stream_cut'))).toEqual([]);
  });

  it('is given up, and is no failure of the origin', async () => {
    const response = await unread();
    await rig.pass(UNREAD_MS + 2 * STREAM_STALL_CHECK_MS);
    await expect(response.text()).rejects.toThrow();
    // The row is free, and the next request goes there without a question before.
    await rig.run(() => rig.engine.stats().running === 0);
    const next = reading(rig.chat(key, { messages: messages(4), max_tokens: 3 }));
    while (rig.engine.stats().waiting + rig.engine.stats().running < 1) await rest();
    await rig.run(() => next.ended);
    expect(isWhole(next)).toBe(true);
    expect(JSON.stringify(await usage())).toContain('"requests":2,"errors":0');
    expect(logged.filter((line) => line.includes('stream_cut'))).toEqual([]);
  });
});
