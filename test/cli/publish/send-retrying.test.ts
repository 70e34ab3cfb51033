import { describe, expect, it } from 'vitest';
import { createApiClient, sendRetrying } from '../../../cli/api-client.ts';
import { EXIT, interrupted } from '../../../cli/cli-error.ts';

const CUT = 'cut';
type Outcome = number | typeof CUT | { status: number; headers: Record<string, string> };

/** Sends once against a server that answers with `outcomes` in turn. */
async function send(outcomes: Outcome[], signal?: AbortSignal) {
  const waits: [number, string][] = [];
  let requests = 0;
  const client = createApiClient({
    url: 'http://edge',
    key: 'ga_x',
    fetchFn: async () => {
      const outcome = outcomes[requests++] ?? 200;
      if (outcome === CUT) throw new TypeError('fetch failed', { cause: new Error('reset') });
      const { status, headers } = typeof outcome === 'number' ? { status: outcome, headers: {} } : outcome;
      return new Response('', { status, headers });
    },
  });
  const sent = sendRetrying(
    client,
    'ask',
    '/x',
    {},
    {
      signal,
      onWait: (ms, reason) => waits.push([ms, reason]),
      sleep: async () => signal?.throwIfAborted(),
    },
  );
  const result = await sent.then(
    (response) => response.status,
    (error: unknown) => error,
  );
  return { result, waits, requests };
}

describe('sendRetrying', () => {
  it('retries temporary failures, with longer and longer pauses', async () => {
    expect(await send([503, CUT, 500])).toEqual({
      result: 200,
      requests: 4,
      waits: [
        [500, 'the server answered 503'],
        [1_000, 'no answer'],
        [2_000, 'the server answered 500'],
      ],
    });
  });

  it('gives up after four attempts', async () => {
    const failed = await send([429, 429, 429, 429]);
    expect(failed).toMatchObject({ requests: 4, result: { exitCode: EXIT.unavailable, code: 'http_429' } });
    expect(await send([CUT, CUT, CUT, CUT])).toMatchObject({ requests: 4, result: { code: 'no_answer' } });
  });

  it('waits as long as the server asks, within limits', async () => {
    expect((await send([{ status: 429, headers: { 'retry-after': '3' } }])).waits[0]?.[0]).toBe(3_000);
    expect((await send([{ status: 503, headers: { 'retry-after-ms': '1500' } }])).waits[0]?.[0]).toBe(1_500);
    const dated = { status: 503, headers: { 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT' } };
    expect((await send([dated])).waits[0]?.[0]).toBe(500);
    expect(await send([{ status: 429, headers: { 'retry-after': '3600' } }])).toMatchObject({
      requests: 1,
      waits: [],
      result: { message: expect.stringContaining('3600 s') as string },
    });
  });

  it.each([400, 401, 403, 404, 409, 413, 422])('does not try %i again', async (status) => {
    expect(await send([status])).toMatchObject({ requests: 1, waits: [] });
  });

  it('stops when it is interrupted', async () => {
    const ending = new AbortController();
    ending.abort(interrupted());
    expect(await send([503], ending.signal)).toMatchObject({
      requests: 1,
      result: { exitCode: EXIT.interrupted },
    });
  });
});
