import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { streamChat, type Answer } from '../../dashboard/api/stream-chat.ts';

const BODY = {
  ...{ model: 'support/intent', messages: [{ role: 'user', content: 'hi' }] },
  ...{ max_tokens: 8, temperature: 0 },
};
const event = (data: unknown): string =>
  `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;
const delta = (content: string): string => event({ choices: [{ index: 0, delta: { content } }] });
const usage = event({ choices: [], usage: { prompt_tokens: 2, completion_tokens: 5 } });
const DONE = event('[DONE]');
const FAILED = event({ error: { message: 'It is gone.', type: 'x', param: null, code: 'adapter_loading' } });

interface Source {
  response: Response;
  send(bytes: string | Uint8Array): void;
  end(): void;
  fail(): void;
  readonly cancelled: ReturnType<typeof vi.fn>;
}

/** A streamed answer that is sent by hand. */
function source(headers: Record<string, string> = {}): Source {
  let to!: ReadableStreamDefaultController<Uint8Array>;
  const cancelled = vi.fn();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => void (to = controller),
    cancel: cancelled,
  });
  return {
    response: new Response(body, { headers }),
    send: (bytes) => to.enqueue(typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes),
    end: () => to.close(),
    fail: () => to.error(new TypeError('network error')),
    cancelled,
  };
}

/** Asks, and keeps every answer that was heard of. A clock that goes on by one with each look. */
function ask(answer: Response | Error | 'never') {
  const heard: Answer[] = [];
  const ending = new AbortController();
  let now = 0;
  const fetch = vi.fn<typeof globalThis.fetch>((_url, init) => {
    if (answer instanceof Error) return Promise.reject(answer);
    if (answer !== 'never') return Promise.resolve(answer);
    return new Promise((_resolve, reject) =>
      init?.signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError'))),
    );
  });
  const done = streamChat({
    key: 'gk_secret',
    body: BODY,
    signal: ending.signal,
    onAnswer: (one) => heard.push(one),
    now: () => now++,
    fetch,
  }).then(() => heard.at(-1) as Answer);
  return { heard, done, fetch, ending };
}

/** Everything at once. */
async function answerTo(...pieces: (string | Uint8Array)[]): Promise<Answer> {
  const from = source();
  for (const piece of pieces) from.send(piece);
  from.end();
  return ask(from.response).done;
}

it('requests a stream with its usage and settings, with the key only in a header', async () => {
  const from = source();
  from.send(DONE);
  const { done, fetch, ending } = ask(from.response);
  await done;
  const [url, init] = fetch.mock.calls[0] ?? [];
  expect(url).toBe('/v1/chat/completions');
  expect(init).toMatchObject({
    method: 'POST',
    headers: { authorization: 'Bearer gk_secret', 'content-type': 'application/json' },
    cache: 'no-store',
    credentials: 'omit',
    signal: ending.signal,
  });
  expect(JSON.parse(init?.body as string)).toEqual({
    ...BODY,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
});

it('reports the answer as it grows: its server, its text, its speed', async () => {
  const from = source({
    'x-graft-adapter': 'support@3',
    'x-graft-inherited': 'true',
    'x-graft-variant': 'treatment',
    'x-graft-degraded': 'stale',
  });
  const { heard, done } = ask(from.response);
  from.send(delta('a'));
  await vi.waitFor(() => expect(heard.at(-1)?.text).toBe('a'));
  expect(new Set(heard.map(({ state }) => state))).toEqual(new Set(['running']));
  from.send(delta('b') + usage + DONE);
  expect(await done).toEqual({
    state: 'done',
    text: 'ab',
    scores: [],
    pace: { sentAt: 0, firstAt: 1, lastAt: 2, pieces: 2, tokens: 5 },
    adapter: 'support@3',
    inherited: true,
    variant: 'treatment',
    degraded: 'stale',
    problem: null,
  });
  expect(heard[0]).toMatchObject({ state: 'running', text: '', adapter: null, inherited: false });
});

describe('the stream', () => {
  it('ends at [DONE], even if the connection stays, and reads nothing after it', async () => {
    const from = source();
    const { done } = ask(from.response);
    from.send(delta('a') + DONE + delta('b') + FAILED);
    expect(await done).toMatchObject({ state: 'done', text: 'a', problem: null });
    await vi.waitFor(() => expect(from.cancelled).toHaveBeenCalledOnce());
  });

  it('may contain [DONE] in an answer without ending', async () => {
    expect(await answerTo(delta('data: [DONE]\n\n'), delta(' x'), DONE)).toMatchObject({
      state: 'done',
      text: 'data: [DONE]\n\n x',
    });
  });

  it('may be split anywhere, within a line and within a character', async () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 });
    const words = fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 5 }), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(words, cuts, async (texts, sizes) => {
        const whole = new TextEncoder().encode(`: ping\n\n${texts.map(delta).join('')}${DONE}`);
        const pieces: Uint8Array[] = [];
        for (let at = 0; at < whole.length; at += pieces.at(-1)?.length ?? 0)
          pieces.push(whole.slice(at, at + (sizes[pieces.length % sizes.length] ?? 1)));
        expect(await answerTo(...pieces)).toMatchObject({ state: 'done', text: texts.join('') });
      }),
      { numRuns: 50 },
    );
    expect(
      (
        await answerTo(
          ...Array.from(new TextEncoder().encode(delta('🌱é') + DONE), (byte) => Uint8Array.of(byte)),
        )
      ).text,
    ).toBe('🌱é');
  });

  it('may fail midway, with a reason; earlier text stays', async () => {
    const from = source();
    const { done } = ask(from.response);
    from.send(delta('a') + FAILED + delta('b') + DONE);
    expect(await done).toMatchObject({
      state: 'failed',
      text: 'a',
      problem: {
        code: 'adapter_loading',
        message: 'It is gone.',
        advice: expect.stringMatching(/again/) as string,
      },
    });
    await vi.waitFor(() => expect(from.cancelled).toHaveBeenCalledOnce());
  });

  it.each(['data: <html>\n\n', 'data: {"choices":1}\n\n'])('may be none of ours: %j', async (text) => {
    expect(await answerTo(text, DONE)).toMatchObject({ state: 'failed', problem: { code: 'odd_answer' } });
  });

  it('counts as cut off when it ends, or breaks, without [DONE]', async () => {
    expect(await answerTo(delta('a'))).toMatchObject({
      state: 'failed',
      text: 'a',
      problem: { code: 'stream_cut' },
    });
    const from = source();
    const { heard, done } = ask(from.response);
    from.send(delta('a'));
    await vi.waitFor(() => expect(heard.at(-1)?.text).toBe('a'));
    from.fail();
    expect(await done).toMatchObject({ state: 'failed', text: 'a', problem: { code: 'stream_cut' } });
  });
});

describe('no stream', () => {
  it.each<[string, Response | Error, object]>([
    [
      'an error with a code',
      Response.json({ error: { message: 'Not so fast.', code: 'rate_limit_exceeded' } }, { status: 429 }),
      { status: 429, code: 'rate_limit_exceeded', message: 'Not so fast.' },
    ],
    [
      'an error that is no JSON',
      new Response('<html>Bad gateway</html>', { status: 502 }),
      { status: 502, code: 'odd_answer' },
    ],
    ['no answer', new TypeError('Failed to fetch'), { status: 0, code: 'no_answer' }],
  ])('but %s', async (_what, answer, problem) => {
    expect(await ask(answer).done).toMatchObject({ state: 'failed', text: '', problem });
  });

  it('when the connection breaks before the first piece', async () => {
    const from = source();
    const { done } = ask(from.response);
    from.fail();
    expect(await done).toMatchObject({ state: 'failed', problem: { code: 'no_answer' } });
  });
});

describe('given up', () => {
  it('before an answer it stops without a failure', async () => {
    const { done, ending } = ask('never');
    ending.abort();
    expect(await done).toMatchObject({ state: 'stopped', text: '', problem: null });
  });

  it('midway it keeps the text, and reports nothing afterwards', async () => {
    const from = source();
    const { heard, done, ending } = ask(from.response);
    from.send(delta('a'));
    await vi.waitFor(() => expect(heard.at(-1)?.text).toBe('a'));
    // As a browser does: the body fails.
    ending.abort();
    from.fail();
    expect(await done).toMatchObject({ state: 'stopped', text: 'a', problem: null });
    const count = heard.length;
    await new Promise((resolve) => setTimeout(resolve));
    expect(heard).toHaveLength(count);
  });
});

it('keeps the log-probabilities of each token', async () => {
  const scored = (content: string, logprob: number): string =>
    event({
      choices: [
        {
          delta: { content },
          logprobs: { content: [{ token: content, logprob, bytes: null, top_logprobs: [] }], refusal: null },
        },
      ],
    });
  const { scores } = await answerTo(scored('a', -1), scored('b', -2) + usage + DONE);
  expect(scores.map(({ token }) => token)).toEqual(['a', 'b']);
});
