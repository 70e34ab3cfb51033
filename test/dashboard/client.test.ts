import { beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { createClient } from '../../dashboard/api/client.ts';

const KEY = 'ga_secret';
const Shape = z.object({ count: z.int() });
const json = (body: unknown, status = 200): Response => Response.json(body, { status });

const fetch = vi.fn<typeof globalThis.fetch>();
const client = createClient(KEY, fetch);
// What a hook returns is called after the test.
beforeEach(() => void fetch.mockReset());

describe('a request', () => {
  it('sends the key in a header, never in an address; without caching or cookies', async () => {
    fetch.mockResolvedValue(json({ count: 1 }));
    await client.get('/admin/names?prefix=a', Shape);
    expect(fetch).toHaveBeenCalledExactlyOnceWith('/admin/names?prefix=a', {
      method: 'GET',
      headers: { authorization: `Bearer ${KEY}` },
      cache: 'no-store',
      credentials: 'omit',
      signal: expect.any(AbortSignal),
    });
  });

  it('posts JSON with its type', async () => {
    fetch.mockResolvedValue(json({ count: 1 }));
    await client.post('/admin/promote', { name: 'a', why: undefined, expect: 0 }, Shape);
    expect(fetch.mock.calls[0]?.[1]).toMatchObject({
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body: '{"name":"a","expect":0}',
    });
  });

  it.each(['', 'ga_ x', 'ga_\nx', 'ga_“x”', 'ga_\u0000'])('is not made with the key %j', async (key) => {
    expect(await createClient(key, fetch).get('/admin/names', Shape)).toMatchObject({
      ok: false,
      error: { status: 0, code: 'invalid_api_key', advice: 'Check the key, or sign in with another one.' },
    });
    expect(fetch).not.toHaveBeenCalled();
  });
});

describe('an answer', () => {
  it('is parsed, and unknown fields are dropped', async () => {
    fetch.mockResolvedValue(json({ count: 3, more: true }, 201));
    expect(await client.get('/x', Shape)).toEqual({ ok: true, value: { count: 3 } });
  });

  it.each<[string, Response, object]>([
    [
      'an error with its code, field and advice',
      json({ error: { message: 'Too old.', type: 'x', code: 'version_conflict', param: 'expect' } }, 409),
      { status: 409, code: 'version_conflict', message: 'Too old.', param: 'expect', advice: /check it/i },
    ],
    [
      'an error without a code',
      json({ error: { message: 'No.', code: null } }, 400),
      { status: 400, code: 'unknown', message: 'No.', param: null, advice: '' },
    ],
    [
      'an error that is a page of something in between',
      new Response('<html><img src=x onerror=alert(1)></html>', { status: 502 }),
      { status: 502, code: 'odd_answer', message: 'The edge gave an unexpected answer (502).' },
    ],
    ['an empty error', new Response(null, { status: 503 }), { status: 503, code: 'odd_answer' }],
    ['a redirect', new Response(null, { status: 302 }), { status: 302, code: 'odd_answer' }],
    ['a success that is no JSON', new Response('<html>'), { status: 200, code: 'odd_answer' }],
    ['a success without a body', new Response(null, { status: 204 }), { status: 200, code: 'odd_answer' }],
    ['a success of another shape', json({ count: 'three' }), { status: 200, code: 'odd_answer' }],
  ])('may be %s', async (_what, response, expected) => {
    fetch.mockResolvedValue(response);
    const answer = await client.get('/admin/x', Shape);
    const advice = 'advice' in expected ? expected.advice : undefined;
    expect(answer).toMatchObject({
      ok: false,
      error: { ...expected, ...(advice instanceof RegExp ? { advice: expect.stringMatching(advice) } : {}) },
    });
  });

  it('reports an unexpected one with its path', async () => {
    fetch.mockResolvedValue(json([]));
    expect(await client.get('/admin/x?from=2026-11-27T01%3A26', Shape)).toMatchObject({
      error: { message: 'The answer to /admin/x is not what this page expects.' },
    });
  });

  it('gives up after a minute, and closes the connection', async () => {
    vi.useFakeTimers();
    try {
      fetch.mockImplementation(
        (_path, init) =>
          new Promise((_, reject) =>
            init?.signal?.addEventListener('abort', () => reject(new DOMException('', 'AbortError'))),
          ),
      );
      const answer = client.get('/admin/x', Shape);
      await vi.advanceTimersByTimeAsync(59_000);
      expect(vi.getTimerCount()).toBe(1);
      await vi.advanceTimersByTimeAsync(1_000);
      expect(await answer).toMatchObject({ error: { status: 0, code: 'too_late' } });
      // What changes something is waited for: nobody knows whether it was done.
      void client.post('/admin/promote', {}, Shape);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('handles a missing or broken one', async () => {
    const broken = new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode('{"cou'));
          controller.error(new TypeError('network error'));
        },
      }),
    );
    fetch.mockRejectedValueOnce(new TypeError('Failed to fetch')).mockResolvedValueOnce(broken);
    for (const _case of ['never', 'breaks off'])
      expect(await client.get('/x', Shape)).toMatchObject({
        ok: false,
        error: { status: 0, code: 'no_answer', message: 'The edge does not answer.' },
      });
  });
});
