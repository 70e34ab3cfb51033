import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createClient } from '../../dashboard/api/client.ts';
import { VersionList } from '../../protocol/admin-api/versions.ts';

const fetch = vi.fn<typeof globalThis.fetch>();
const client = createClient('ga_secret', fetch);
beforeEach(() => fetch.mockReset());

const keys = { authorization: 'Bearer ga_secret' };
const flipped = { name: 'a/b', version: 2, from: null };

describe('a call', () => {
  it("requests the operation's path, with its query", async () => {
    fetch.mockResolvedValue(Response.json({ names: [], cursor: null, later: 1 }));
    const answer = await client.call('GET /admin/names', { query: { prefix: 'a/', cursor: null } });
    expect(answer).toEqual({ ok: true, value: { names: [], cursor: null } });
    expect(fetch).toHaveBeenCalledExactlyOnceWith('/admin/names?prefix=a%2F', {
      ...{ method: 'GET', headers: keys, cache: 'no-store', credentials: 'omit' },
      signal: expect.any(AbortSignal),
    });
  });

  it('sends its body as JSON; without one it sends none', async () => {
    fetch.mockImplementation(async () => Response.json(flipped));
    const body = { name: 'a/b', version: 2, why: undefined };
    expect(await client.call('POST /admin/promote', { body })).toEqual({ ok: true, value: flipped });
    expect(fetch.mock.calls[0]?.[1]).toMatchObject({
      method: 'POST',
      headers: { ...keys, 'content-type': 'application/json' },
      body: '{"name":"a/b","version":2}',
    });
    await client.call('POST /admin/experiments/:id/evaluate', { params: { id: 'exp_1' } });
    expect(fetch.mock.calls[1]).toEqual([
      '/admin/experiments/exp_1/evaluate',
      {
        ...{ method: 'POST', headers: keys, cache: 'no-store', credentials: 'omit' },
        signal: expect.any(AbortSignal),
      },
    ]);
  });

  it("parses the operation's schema, or a narrower one", async () => {
    fetch.mockImplementation(async () => Response.json({ versions: [{ name: 'a', version: 1 }] }));
    const query = { name: 'a' };
    expect(await client.call('GET /admin/versions', { query })).toMatchObject({ ok: true });
    expect(await client.call('GET /admin/versions', { query, as: VersionList })).toMatchObject({
      ok: false,
      error: { code: 'odd_answer', message: expect.stringContaining('to /admin/versions is not') as string },
    });
  });
});
