import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ResidentList } from '../../../protocol/origin-wire.ts';
import { gate } from '../engine/harness.ts';
import { envelope, sha256, signedFetch, startTestOrigin, type Origin } from './harness.ts';

const bytes = (text: string): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
const PARTS = ['first part ', 'second part ', 'third'].map(bytes);
const WHOLE = bytes('first part second part third');
const DIGEST = sha256(WHOLE);
const RECORD = JSON.stringify({
  bytes: WHOLE.length,
  parts: PARTS.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
});

describe('adapters over HTTP, signed', () => {
  let origin: Origin;
  beforeEach(async () => {
    origin = await startTestOrigin({ signed: true });
  });
  afterEach(() => origin.stop());

  const declare = (digest = DIGEST, body = RECORD) =>
    signedFetch(origin, `/adapters/${digest}`, { method: 'PUT', body });
  const put = (i: number, body = PARTS[i]!, signed = {}, path = `/adapters/${DIGEST}/parts/${i}`) =>
    signedFetch(origin, path, { method: 'PUT', body }, signed);
  const ask = () =>
    signedFetch(origin, '/v1/chat/completions', {
      method: 'POST',
      body: envelope(
        { model: 'x', messages: [{ role: 'user', content: 'hello' }], max_tokens: 2 },
        { chain: [{ digest: DIGEST, scale: 1 }] },
      ),
    });

  it('receives an adapter in parts, then serves it', async () => {
    expect((await ask()).status).toBe(409);
    const declared = await declare();
    expect(declared.status).toBe(201);
    expect(await declared.json()).toEqual({ digest: DIGEST, held: false, missing_parts: [0, 1, 2] });
    expect((await put(0)).status).toBe(204);
    expect((await put(0)).status).toBe(200);
    expect((await ask()).status).toBe(409);
    expect((await declare()).status).toBe(201);
    expect((await put(2)).status).toBe(204);
    expect((await put(1)).status).toBe(204);
    expect((await ask()).status).toBe(200);
    expect((await declare()).status).toBe(200);
    const list = (await (await signedFetch(origin, '/adapters')).json()) as ResidentList;
    expect(list.adapters).toMatchObject([{ digest: DIGEST, state: 'ready', references: 0, pinned: false }]);
  });

  it('drops an adapter from memory and disk, and accepts it again', async () => {
    const drop = (digests: unknown) =>
      signedFetch(origin, '/adapters/drop', { method: 'POST', body: JSON.stringify({ digests }) });
    const bring = async () => {
      await declare();
      for (const i of [0, 1, 2]) expect((await put(i)).status).toBe(204);
      expect((await ask()).status).toBe(200);
    };
    await bring();
    const other = sha256('another');
    expect(await (await drop([DIGEST, other])).json()).toEqual({ files: 1, in_use: 0 });
    expect(await origin.store.read(DIGEST)).toBeNull();
    expect((await ask()).status).toBe(409);
    expect(origin.engine.residents().adapters).toEqual([]);
    expect(await (await drop([DIGEST])).json()).toEqual({ files: 0, in_use: 0 });
    await bring();
    // Also drops a file that is still being received.
    await drop([DIGEST]);
    await declare();
    await put(0);
    expect(await (await drop([DIGEST])).json()).toEqual({ files: 1, in_use: 0 });
    expect((await put(1)).status).toBe(404);
    for (const bad of [[], ['../../etc/passwd'], Array.from({ length: 101 }, () => DIGEST)])
      expect((await drop(bad)).status).toBe(400);
  });

  it('rejects manipulated, truncated or wrongly signed parts, and continues', async () => {
    await declare();
    const tampered = PARTS[1]!.map((byte, i) => (i === 3 ? byte ^ 1 : byte));
    // The header has the part's true hash, but the bytes differ.
    const bad = await put(1, tampered, { bodyHash: sha256(PARTS[1]!) });
    expect(bad.status).toBe(422);
    expect(await bad.json()).toMatchObject({
      error: { code: 'adapter_invalid', param: '1', message: expect.stringContaining('Part 1') },
    });
    const short = await put(1, PARTS[1]!.slice(1), { bodyHash: sha256(PARTS[1]!) });
    expect(short.status).toBe(422);
    expect((await put(1, tampered)).status).toBe(401);
    expect((await put(1, PARTS[0]!)).status).toBe(401);
    expect((await put(7, PARTS[1]!)).status).toBe(404);
    expect((await put(1, PARTS[1]!, { path: `/adapters/${DIGEST}/parts/0` })).status).toBe(401);
    for (const i of [0, 1, 2]) expect((await put(i)).status).toBe(204);
    expect((await ask()).status).toBe(200);
  });

  it.each([
    ['an upper-case digest', DIGEST.toUpperCase(), RECORD, 400],
    ['a short digest', DIGEST.slice(1), RECORD, 400],
    ['a path for a digest', '..%2f..%2fetc%2fpasswd', RECORD, 400],
    ['sizes that do not add up', DIGEST, RECORD.replace(String(WHOLE.length), '1'), 400],
    ['no parts', DIGEST, '{"bytes":1,"parts":[]}', 400],
    [
      'a part that is too large',
      DIGEST,
      JSON.stringify({ bytes: 24 * 1024 ** 2 + 1, parts: [{ bytes: 24 * 1024 ** 2 + 1, sha256: DIGEST }] }),
      400,
    ],
    [
      'a file beyond the disk budget',
      DIGEST,
      JSON.stringify({ bytes: 20_000_000, parts: [{ bytes: 20_000_000, sha256: DIGEST }] }),
      413,
    ],
    [
      '43 parts',
      DIGEST,
      JSON.stringify({ bytes: 43, parts: Array.from({ length: 43 }, () => ({ bytes: 1, sha256: DIGEST })) }),
      400,
    ],
    ['no JSON', DIGEST, '{', 400],
  ])('refuses %s', async (_what, digest, body, status) => {
    expect((await declare(digest, body)).status).toBe(status);
  });

  it('returns slices of a stored file only', async () => {
    const give = (query: string, digest = DIGEST) => signedFetch(origin, `/adapters/${digest}/file${query}`);
    expect((await give('?begin=0&end=5')).status).toBe(404);
    await declare();
    for (const i of [0, 1, 2]) await put(i);
    const bytesOf = async (response: Response) => new Uint8Array(await response.arrayBuffer());
    const whole = await bytesOf(await give('?begin=0&end=1000'));
    expect(sha256(whole)).toBe(DIGEST);
    expect(await bytesOf(await give('?begin=2&end=5'))).toEqual(whole.slice(2, 5));
    expect((await give(`?begin=${whole.length}&end=${whole.length + 1}`)).status).toBe(200);
    for (const query of [
      '',
      '?begin=0',
      '?begin=5&end=5',
      '?begin=-1&end=5',
      '?begin=0&end=1e3',
      '?begin=0&end=x',
    ])
      expect((await give(query)).status, query).toBe(400);
    expect((await give('?begin=0&end=5', DIGEST.toUpperCase())).status).toBe(400);
    expect((await fetch(`${origin.url}/adapters/${DIGEST}/file?begin=0&end=5`)).status).toBe(401);
  });

  it('verifies a stored adapter', async () => {
    await declare();
    for (const i of [0, 1, 2]) await put(i);
    const missing = 'd'.repeat(64);
    const verified = await signedFetch(origin, `/adapters/${DIGEST}/verify`, { method: 'POST', body: '' });
    const body = (await verified.json()) as { base: unknown[]; adapter: unknown[] };
    expect(body).toMatchObject({ digest: DIGEST, ok: true, reason: null });
    expect([body.base.length, body.adapter.length]).toEqual([20, 20]);
    expect(
      (await signedFetch(origin, `/adapters/${missing}/verify`, { method: 'POST', body: '' })).status,
    ).toBe(409);
  });

  it('lists a path’s allowed methods', async () => {
    for (const [method, path] of [
      ['POST', '/base'],
      ['PATCH', '/adapters'],
      ['GET', `/adapters/${DIGEST}`],
      ['DELETE', `/adapters/${DIGEST}`],
      ['DELETE', '/v1/models/x'],
    ] as const)
      expect((await signedFetch(origin, path, { method })).status).toBe(405);
    expect((await signedFetch(origin, '/adapters/a/b/c/d')).status).toBe(404);
  });
});

describe('adapters that do not load', () => {
  it('are reported by verify, and fail their own requests with a reason', async () => {
    const origin = await startTestOrigin();
    try {
      await origin.store.put(sha256(''), new Uint8Array(0));
      const digest = sha256('');
      const verified = await fetch(`${origin.url}/adapters/${digest}/verify`, { method: 'POST' });
      expect(await verified.json()).toMatchObject({
        digest,
        ok: false,
        adapter: [],
        reason: expect.stringContaining('empty'),
      });
      const body = JSON.stringify({
        model: digest,
        stream: true,
        messages: [{ role: 'user', content: 'x' }],
      });
      const failed = await fetch(`${origin.url}/v1/chat/completions`, { method: 'POST', body });
      expect(failed.status).toBe(422);
      expect((await fetch(`${origin.url}/healthz`)).status).toBe(200);
    } finally {
      await origin.stop();
    }
  });
});

describe('a file on a small disk', () => {
  const inputs = Array.from({ length: 6 }, (_, at) => `text ${at}`);
  it.each<[string, (digest: string) => string, object, number]>([
    // The third prompt is not queued yet while the first runs.
    ['prompts', () => '/v1/completions', { model: 'alice/notes', prompt: inputs, max_tokens: 2 }, 0],
    ['texts to embed', () => '/v1/embeddings', { model: 'alice/notes', input: inputs }, 16],
    [
      'rows to score',
      (digest) => `/adapters/${digest}/evaluate`,
      { rows: inputs.map((prompt) => ({ prompt, expected: 'so' })) },
      16,
    ],
    ['an adapter to verify', (digest) => `/adapters/${digest}/verify`, {}, 16],
  ])('makes no room while a request has %s left that need it', async (_what, path, body, maxQueue) => {
    const [running, go] = [gate(), gate()];
    const origin = await startTestOrigin({
      ...{ diskBytes: 100, maxQueue },
      runner: {
        slots: 1,
        async duringStep() {
          running.open();
          await go.opened;
        },
      },
    });
    const { adapter, store, url } = origin;
    const put = async (seed: number) => {
      const file = new Uint8Array(90).fill(seed);
      expect(await store.put(sha256(file), file)).toEqual({ ok: true, value: undefined });
      return store.status(adapter);
    };
    const asking = fetch(url + path(adapter), { method: 'POST', body: JSON.stringify(body) });
    await running.opened;
    expect(await put(1)).toBe('held');
    go.open();
    const answer = await asking;
    expect(answer.status, await answer.text()).toBe(200);
    expect(await put(2)).toBe('missing');
    await origin.stop();
  });

  it('is requested again before a list starts, if its adapter might be evicted in between', async () => {
    let atStep = (): void => undefined;
    const origin = await startTestOrigin({ maxQueue: 0, runner: { slots: 1, duringStep: () => atStep() } });
    const ask = (prompt: unknown) =>
      fetch(`${origin.url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'alice/notes', prompt, max_tokens: 2, stream: true }),
      });
    expect((await ask('once')).status).toBe(200);
    await origin.store.drop(origin.adapter);
    expect((await ask('once more, from memory')).status).toBe(200);
    atStep = () => void origin.engine.drop(new Set([origin.adapter]));
    const answer = await ask(inputs);
    expect(await answer.json()).toMatchObject({
      error: { code: 'adapter_missing', missing: [origin.adapter] },
    });
    expect(answer.status).toBe(409);
    await origin.stop();
  });

  it('is the last to be deleted while requests use its adapter, even if that was loaded long ago', async () => {
    const origin = await startTestOrigin({ diskBytes: 100 });
    const { adapter, store, url } = origin;
    const ask = async () => {
      const body = JSON.stringify({ model: 'alice/notes', prompt: 'a', max_tokens: 1 });
      expect((await fetch(`${url}/v1/completions`, { method: 'POST', body })).status).toBe(200);
    };
    const put = (seed: number) => {
      const file = new Uint8Array(60).fill(seed);
      return store.put(sha256(file), file);
    };
    await ask();
    await put(1);
    await ask();
    await put(2);
    expect(await store.status(adapter)).toBe('held');
    await origin.stop();
  });
});
