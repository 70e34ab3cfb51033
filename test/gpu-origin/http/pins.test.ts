import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ResidentList } from '../../../protocol/origin-wire.ts';
import { sha256, signedFetch, startTestOrigin, type Origin } from './harness.ts';

const file = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
const FILES = ['one', 'two'].map((text) => ({ bytes: file(text), digest: sha256(file(text)) }));
const [ONE, TWO] = FILES.map(({ digest }) => digest) as [string, string];

describe('pins over HTTP, signed', () => {
  let origin: Origin;
  beforeEach(async () => {
    origin = await startTestOrigin({ signed: true });
  });
  afterEach(() => origin.stop());

  const bring = async ({ bytes, digest }: (typeof FILES)[number]) => {
    const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
    await signedFetch(origin, `/adapters/${digest}`, { method: 'PUT', body: JSON.stringify(record) });
    const put = await signedFetch(origin, `/adapters/${digest}/parts/0`, { method: 'PUT', body: bytes });
    expect(put.status).toBe(204);
  };
  const pins = (method: 'POST' | 'PUT', digests: unknown) =>
    signedFetch(origin, '/adapters/pins', { method, body: JSON.stringify({ digests }) });
  const pinned = async () => {
    const list = (await (await signedFetch(origin, '/adapters')).json()) as ResidentList;
    return list.adapters.flatMap((adapter) => (adapter.pinned ? adapter.digest : []));
  };

  it('asks for missing files before it loads anything, then pins all of them', async () => {
    await bring(FILES[0]!);
    const lacking = await pins('POST', [ONE, TWO]);
    expect(lacking.status).toBe(409);
    expect(await lacking.json()).toMatchObject({ error: { code: 'adapter_missing', missing: [TWO] } });
    expect(await pinned()).toEqual([]);
    await bring(FILES[1]!);
    const done = await pins('POST', [ONE, TWO]);
    expect(done.status).toBe(200);
    expect(await done.json()).toEqual({
      results: [
        { digest: ONE, ok: true },
        { digest: TWO, ok: true },
      ],
    });
    expect((await pinned()).sort()).toEqual([ONE, TWO].sort());
  });

  it('loads without a pin, asks for missing files first, and only replaces what is in memory', async () => {
    await bring(FILES[0]!);
    const prefetch = (body: object) =>
      signedFetch(origin, '/adapters/prefetch', { method: 'POST', body: JSON.stringify(body) });
    const ready = () =>
      origin.engine.residents().adapters.flatMap(({ digest, state }) => (state === 'ready' ? digest : []));
    expect(await (await prefetch({ digests: [ONE], if_resident: TWO })).json()).toEqual({ results: [] });
    expect(ready()).toEqual([]);
    expect((await prefetch({ digests: [ONE, TWO] })).status).toBe(409);
    expect(await (await prefetch({ digests: [ONE] })).json()).toEqual({
      results: [{ digest: ONE, ok: true }],
    });
    const lacking = await prefetch({ digests: [TWO], if_resident: ONE });
    expect(await lacking.json()).toMatchObject({ error: { code: 'adapter_missing', missing: [TWO] } });
    await bring(FILES[1]!);
    expect((await prefetch({ digests: [TWO], if_resident: ONE })).status).toBe(200);
    expect(ready().sort()).toEqual([ONE, TWO].sort());
    expect(await pinned()).toEqual([]);
  });

  it('unpins all but the named ones', async () => {
    for (const one of FILES) await bring(one);
    await pins('POST', [ONE, TWO]);
    expect(await (await pins('PUT', [TWO])).json()).toEqual({ unpinned: 1 });
    expect(await pinned()).toEqual([TWO]);
    expect(await (await pins('PUT', [])).json()).toEqual({ unpinned: 1 });
    expect(await pinned()).toEqual([]);
  });

  it.each([
    ['POST', []],
    ['POST', ['../../etc/passwd']],
    ['POST', Array.from({ length: 9 }, () => ONE)],
    ['PUT', Array.from({ length: 513 }, () => ONE)],
    ['PUT', 'all'],
  ] as const)('refuses %s %j', async (method, digests) => {
    expect((await pins(method, digests)).status).toBe(400);
  });

  it('is for signed requests only', async () => {
    const response = await fetch(`${origin.url}/adapters/pins`, { method: 'PUT', body: '{"digests":[]}' });
    expect(response.status).toBe(401);
  });
});
