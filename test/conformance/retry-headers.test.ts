import OpenAI from 'openai';
import { describe, expect, it, vi } from 'vitest';
import { errorResponse, type ApiError } from '../../protocol/api-error.ts';
import { ADAPTER, startConformanceStack, type ConformanceStack } from './stack.ts';

interface Refusal {
  status: number;
  code: string;
  shouldRetry: string | null;
  afterMs: number | null;
}

interface Outcome {
  asked: number;
  /** null: answered. */
  last: Refusal | null;
}

/** Asks with a client that would repeat at once: `asked` says how often it did. */
async function ask(
  { baseURL, apiKey }: Pick<ConformanceStack, 'baseURL' | 'apiKey'>,
  model: string = ADAPTER,
): Promise<Outcome> {
  let asked = 0;
  let last: Refusal | null = null;
  const client = new OpenAI({
    baseURL,
    apiKey,
    maxRetries: 1,
    fetch: async (url, init) => {
      asked += 1;
      const response = await fetch(url, init);
      const { error } = (await response.clone().json()) as { error?: { code: string } };
      const after = response.headers.get('retry-after-ms');
      const seconds = response.headers.get('retry-after');
      expect(seconds).toBe(after === null ? null : String(Math.max(1, Math.ceil(Number(after) / 1000))));
      last =
        error === undefined
          ? null
          : {
              status: response.status,
              code: error.code,
              shouldRetry: response.headers.get('x-should-retry'),
              afterMs: after === null ? null : Number(after),
            };
      if (after === null) return response;
      // Nobody waits in a test.
      const headers = new Headers(response.headers);
      headers.set('retry-after-ms', '1');
      return new Response(response.body, { status: response.status, headers });
    },
  });
  const messages = [{ role: 'user' as const, content: 'hello' }];
  await client.chat.completions.create({ model, messages, max_tokens: 4 }).catch(() => undefined);
  return { asked, last };
}

async function withStack(
  options: Parameters<typeof startConformanceStack>[0],
  use: (stack: ConformanceStack) => Promise<void>,
): Promise<void> {
  const stack = await startConformanceStack(options);
  try {
    await use(stack);
  } finally {
    await stack.stop();
  }
}

async function keyWith(stack: ConformanceStack, limits: object): Promise<string> {
  const made = await stack.edge.request('/admin/keys', { body: { tenant: 'alice', limits } });
  return ((await made.json()) as { key: string }).key;
}

describe('every 429 and 503 says whether to come back, and when', () => {
  const later = (status: number, code: string): Outcome => ({
    asked: 2,
    last: { status, code, shouldRetry: 'true', afterMs: expect.toSatisfy((ms: number) => ms > 0) as number },
  });
  const never = (status: number, code: string): Outcome => ({
    asked: 1,
    last: { status, code, shouldRetry: 'false', afterMs: null },
  });

  it('when the origin is going away', () =>
    withStack({}, async (stack) => {
      stack.origin.serving.drain();
      expect((await ask(stack)).last).toBeNull();
      stack.origin.serving.refuse();
      expect(await ask(stack)).toEqual(later(503, 'origin_unavailable'));
    }));

  it('when the registry does not answer', () =>
    withStack({}, async (stack) => {
      stack.edge.kv.trouble = 'throw';
      expect(await ask(stack)).toEqual(later(503, 'registry_unavailable'));
    }));

  it('when an adapter cannot be brought', () =>
    withStack({ unsent: 'alice/other' }, async (stack) => {
      vi.spyOn(stack.edge.services.blobs, 'getRecord').mockResolvedValue(null);
      expect(await ask(stack, 'alice/other')).toEqual(later(503, 'adapter_unavailable'));
    }));

  it.each<[string, ApiError, Outcome]>([
    ['a queue is full', { code: 'queue_full', message: 'm', retryAfterMs: 1_700 }, later(429, 'queue_full')],
    ['it never fits', { code: 'queue_full', message: 'm', retryAfterMs: null }, never(429, 'queue_full')],
    [
      'the time of the request is spent',
      { code: 'deadline_exceeded', message: 'm' },
      never(503, 'deadline_exceeded'),
    ],
  ])('when the origin says that %s', (_what, error, wanted) =>
    withStack({}, async (stack) => {
      stack.edge.origin.answer = () => errorResponse(error);
      expect(await ask(stack)).toEqual(wanted);
    }),
  );

  it('when the limit of a key is reached, and when its budget is spent', () =>
    withStack({}, async (stack) => {
      const rated = { ...stack, apiKey: await keyWith(stack, { requests_per_minute: 1 }) };
      expect((await ask(rated)).last).toBeNull();
      expect(await ask(rated)).toEqual(later(429, 'rate_limit_exceeded'));
      const spent = { ...stack, apiKey: await keyWith(stack, { tokens_per_day: 1 }) };
      await ask(spent);
      expect(await ask(spent)).toEqual(never(429, 'insufficient_quota'));
    }));

  it('when the clocks differ: the operator hears which way, the client only that it may ask again', () =>
    withStack({ originAheadMs: 90_000 }, async (stack) => {
      const log = vi.spyOn(console, 'error').mockImplementation(() => undefined);
      try {
        expect(await ask(stack)).toEqual(later(503, 'origin_unavailable'));
        const lines = log.mock.calls.map(([line]) => String(line));
        expect(lines.find((line) => line.includes('origin_refused_signature'))).toMatch(
          /"reason":"clock_skew".*differ by 90 s \(the edge is behind\)/,
        );
      } finally {
        log.mockRestore();
      }
    }));
});
