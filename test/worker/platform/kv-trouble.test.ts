import { CacheRoom } from '../../../worker/platform/bounded-map.ts';
import { beforeEach, describe, expect, it } from 'vitest';
import { manifestOf } from '../../../worker/registry/write-pointer.ts';
import { createKvKeyIndex, createKvNameIndex } from '../../../worker/registry/kv-indexes.ts';
import { withLastKnownGood, createSealer } from '../../../worker/platform/kv-cache.ts';
import type { Index } from '../../../worker/platform/ports.ts';
import type { KeyRecord } from '../../../worker/access/ports.ts';
import type { KeyIndex } from '../../../worker/registry/kv-indexes.ts';
import type { NameIndex } from '../../../worker/registry/ports.ts';
import { digestOf, versionRow } from '../../contracts/sample-rows.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { FakeKv, type KvTrouble } from '../../fakes/fake-kv.ts';
import { HANG_MS } from '../../setup/slow.ts';

const CACHE_TTL_MS = 30_000;
const sealer = createSealer(new Uint8Array(32).fill(1));
const hash = digestOf('key');
const record: KeyRecord = { id: 'key_1', tenant: 'me', scopes: [] };

let clock: FakeClock;
let kv: FakeKv;
let names: NameIndex;
let keys: KeyIndex;
let remembered: Index<KeyRecord>;

beforeEach(async () => {
  clock = new FakeClock();
  kv = new FakeKv(clock.now);
  const params = {
    kv,
    sealer,
    cacheTtl: CACHE_TTL_MS / 1_000,
    retryAfterMs: 2_000,
    pacing: { pauseMs: 1_100, tries: 4, sleep: clock.sleep },
  };
  names = createKvNameIndex(params);
  keys = createKvKeyIndex(params);
  remembered = withLastKnownGood(keys, {
    timeoutMs: HANG_MS,
    maxAgeMs: 3_600_000,
    maxEntries: 2,
    room: new CacheRoom(Infinity),
    retryAfterMs: 2_000,
    now: clock.now,
  });
  await keys.put(hash, record);
});

describe('sealed values', () => {
  it('are refused when changed, moved, made by another or cut', async () => {
    await names.put(manifestOf(versionRow('mine', 1, { owner: 'me' })));
    await names.put(manifestOf(versionRow('yours', 1, { owner: 'you' })));
    let yours = '';
    kv.tamper('name:yours', (value) => (yours = value as string));
    const forger = createSealer(new Uint8Array(32).fill(2));
    const forged = await forger.seal('name:mine', manifestOf(versionRow('mine', 2)));
    const forgeries: ((value: string | null) => string)[] = [
      (value) => (value as string).replace('"owner":"me"', '"owner":"it"'),
      () => yours,
      () => forged,
      (value) => (value as string).slice(0, -1),
      (value) => (value as string).slice(65),
      () => '',
      () => 'null',
      () => '0'.repeat(64),
    ];
    let genuine = '';
    kv.tamper('name:mine', (value) => (genuine = value as string));
    for (const forge of forgeries) {
      kv.tamper('name:mine', () => forge(genuine));
      expect(await names.get('mine'), forge.toString()).toMatchObject({ state: 'trouble' });
    }
    kv.tamper('name:mine', () => genuine);
    expect(await names.get('mine')).toMatchObject({ state: 'found' });
  });

  it('cannot be used for another purpose: a key is no name', async () => {
    let value = '';
    kv.tamper(`key:${hash}`, (current) => (value = current as string));
    kv.tamper('name:mine', () => value);
    expect(await names.get('mine')).toMatchObject({ state: 'trouble' });
  });

  it('flipping any bit of a value is noticed', async () => {
    let genuine = '';
    kv.tamper(`key:${hash}`, (value) => (genuine = value as string));
    for (let at = 0; at < genuine.length; at += 1) {
      const changed = String.fromCharCode(genuine.charCodeAt(at) ^ 1);
      kv.tamper(`key:${hash}`, () => genuine.slice(0, at) + changed + genuine.slice(at + 1));
      expect((await keys.get(hash)).state, `character ${at}`).toBe('trouble');
    }
  });
});

describe('last known good', () => {
  const troubles: KvTrouble[] = ['throw', 'hang', 'null', 'garbage'];

  it.each(troubles)('serves a known key when KV answers with %s, marked stale', async (trouble) => {
    expect(await remembered.get(hash)).toEqual({ state: 'found', value: record, stale: false });
    clock.advance(CACHE_TTL_MS);
    kv.trouble = trouble;
    expect(await remembered.get(hash)).toEqual({ state: 'found', value: record, stale: true });
    kv.trouble = null;
    expect(await remembered.get(hash)).toEqual({ state: 'found', value: record, stale: false });
  });

  it.each(troubles.filter((trouble) => trouble !== 'null'))(
    'never denies an unknown key on %s',
    async (trouble) => {
      kv.trouble = trouble;
      expect(await remembered.get(hash)).toMatchObject({ state: 'trouble', retryAfterMs: 2_000 });
    },
  );

  it('forgets a revoked key for good', async () => {
    await remembered.get(hash);
    clock.advance(CACHE_TTL_MS);
    await keys.revoke(hash);
    expect(await remembered.get(hash)).toEqual({ state: 'gone' });
    clock.advance(CACHE_TTL_MS);
    kv.trouble = 'throw';
    expect(await remembered.get(hash)).toMatchObject({ state: 'trouble' });
  });

  it('ends with its age and its size', async () => {
    await remembered.get(hash);
    kv.trouble = 'throw';
    clock.advance(3_600_000);
    expect((await remembered.get(hash)).state).toBe('found');
    clock.advance(1);
    expect((await remembered.get(hash)).state).toBe('trouble');

    kv.trouble = null;
    const others = [digestOf('k2'), digestOf('k3')];
    await remembered.get(hash);
    for (const other of others) {
      await keys.put(other, record);
      await remembered.get(other);
    }
    kv.trouble = 'throw';
    expect((await remembered.get(hash)).state).toBe('trouble');
    for (const other of others) expect((await remembered.get(other)).state).toBe('found');
  });

  it('never stands between a change and the next read of KV', async () => {
    await remembered.get(hash);
    await keys.put(hash, { ...record, scopes: ['a'] });
    clock.advance(CACHE_TTL_MS);
    expect(await remembered.get(hash)).toMatchObject({ value: { scopes: ['a'] }, stale: false });
  });
});

describe('the fake of KV', () => {
  it('keeps a negative answer for the cache time, as KV does', async () => {
    const text = { type: 'text', cacheTtl: 60 } as const;
    expect(await kv.get('late', text)).toBeNull();
    await kv.put('late', 'x');
    expect(await kv.get('late', text)).toBeNull();
    clock.advance(60_000);
    expect(await kv.get('late', text)).toBe('x');
  });

  it('takes one write a second a key; the drivers wait and write again', async () => {
    await kv.put('k', '1');
    await expect(kv.put('k', '2')).rejects.toThrow('429');
    const started = clock.time;
    await keys.put(hash, { ...record, scopes: ['b'] });
    await keys.put(hash, { ...record, scopes: ['c'] });
    expect(clock.time - started).toBeGreaterThanOrEqual(1_000);
    expect(await keys.get(hash)).toMatchObject({ value: { scopes: ['c'] } });
  });
});
