/** Where adapters' bytes lie and where files are dropped: every backend against the same suites. */
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createFallbackBlobStore,
  createKvBlobStore,
  createR2BlobStore,
  type ObjectBucket,
} from '../../../worker/blobs/parts.ts';
import { createKvInbox } from '../../../worker/kv-inbox/take-drops.ts';
import type { KvNamespace } from '../../../worker/platform/store-calls.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import type { BlobStore } from '../../../worker/blobs/ports.ts';
import { blobStoreContract, blobTroubleContract } from '../../contracts/blob-store.ts';
import { dropBoxContract } from '../../contracts/kv-inbox.ts';
import { digestOf } from '../../contracts/sample-rows.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { FakeKv } from '../../fakes/fake-kv.ts';
import { FakeR2 } from '../../fakes/fake-r2.ts';
import { WAIT_MS } from '../../setup/slow.ts';

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = new Miniflare({
    modules: true,
    script: 'export default {}',
    kvNamespaces: ['KV', 'DROPPED'],
    r2Buckets: ['R2'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
});
afterAll(() => miniflare.dispose());

const realKv = async (name = 'KV') => (await miniflare.getKVNamespace(name)) as unknown as KvNamespace;
const realR2 = async () => (await miniflare.getR2Bucket('R2')) as unknown as ObjectBucket;

const timeoutMs = 20;
const pacing = (sleep: (ms: number) => Promise<void>) => ({ pauseMs: 1_100, tries: 4, sleep });
const real = pacing(async () => undefined);
const inKv = (kv: KvNamespace, paced = real) =>
  createKvBlobStore({
    kv,
    cacheTtl: 86_400,
    recordCacheTtl: 300,
    retryCacheTtl: 30,
    timeoutMs: paced === real ? WAIT_MS : timeoutMs,
    pacing: paced,
  });
const inR2 = (bucket: ObjectBucket, paced = real) =>
  createR2BlobStore({ bucket, timeoutMs: paced === real ? WAIT_MS : timeoutMs, pacing: paced });

function fakes() {
  const clock = new FakeClock();
  const kv = new FakeKv(clock.now);
  const r2 = new FakeR2(clock.now);
  const paced = pacing(clock.sleep);
  // A blob's absence, and a blob, may be remembered for as long as blobs are cached.
  const afterWrite = () => clock.advance(86_400_000);
  return { clock, kv, r2, afterWrite, kvStore: inKv(kv, paced), r2Store: inR2(r2, paced) };
}
const now = () => undefined;

blobStoreContract("the fake's KV", async () => {
  const { kvStore, afterWrite } = fakes();
  return { store: kvStore, afterWrite };
});
blobStoreContract("Miniflare's KV", async () => ({ store: inKv(await realKv()), afterWrite: now }), {
  largest: false,
});
blobStoreContract("the fake's R2", async () => {
  const { r2Store, afterWrite } = fakes();
  return { store: r2Store, afterWrite };
});
blobStoreContract("Miniflare's R2", async () => ({ store: inR2(await realR2()), afterWrite: now }));
blobStoreContract('R2 before KV, the fakes', async () => {
  const { kvStore, r2Store, afterWrite } = fakes();
  return { store: createFallbackBlobStore(r2Store, kvStore), afterWrite };
});

blobTroubleContract('KV', () => {
  const { kv, kvStore } = fakes();
  return {
    store: kvStore,
    trouble: (trouble) => (kv.trouble = trouble),
    reads: () => kv.reads,
    // Under its hash and its number, each once more past the cache.
    readsOfAbsence: 2,
  };
});
blobTroubleContract('R2', () => {
  const { r2, r2Store } = fakes();
  return {
    store: r2Store,
    trouble: (trouble) => (r2.trouble = trouble),
    reads: () => r2.reads,
    readsOfAbsence: 1,
  };
});

describe('R2', () => {
  it.each(['the fake', 'Miniflare'])(
    'refuses bytes that are not what they are said to be: %s',
    async (which) => {
      const store = which === 'Miniflare' ? inR2(await realR2()) : fakes().r2Store;
      const digest = digestOf(`wrong ${which}`);
      const place = { index: 0, sha256: digestOf('others') };
      const put = store.putPart(digest, place.sha256, new Uint8Array(3));
      await expect(put).rejects.toBeInstanceOf(StoreUnavailable);
      expect(await store.getPart(digest, place.sha256)).toBeNull();
    },
  );
});

describe('R2 before KV', () => {
  const digest = digestOf('moved');
  const bytes = new Uint8Array([1, 2, 3]);
  const sha256 = '039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81';
  const record = { bytes: 3, parts: [{ bytes: 3, sha256 }] };
  const fill = async (store: BlobStore) => {
    await store.putPart(digest, sha256, bytes);
    await store.putRecord(digest, record);
  };
  const holds = async (store: BlobStore) => [
    await store.getRecord(digest),
    (await store.getPart(digest, sha256)) !== null,
  ];

  it('reads what was published before the bucket was bound', async () => {
    const { kvStore, r2Store } = fakes();
    await fill(kvStore);
    expect(await holds(createFallbackBlobStore(r2Store, kvStore))).toEqual([record, true]);
  });

  it('writes to R2 alone, and deletes from both', async () => {
    const { kvStore, r2Store, kv, afterWrite } = fakes();
    const both = createFallbackBlobStore(r2Store, kvStore);
    await fill(both);
    expect((await kv.list({ prefix: 'blob:', cursor: null })).keys).toEqual([]);
    await fill(kvStore);
    afterWrite();
    await both.deleteParts(digest, [sha256]);
    await both.delete(digest);
    for (const store of [both, r2Store, kvStore]) expect(await holds(store)).toEqual([null, false]);
  });

  it('does not take trouble of R2 for absence', async () => {
    const { kvStore, r2Store, r2 } = fakes();
    await fill(kvStore);
    r2.trouble = 'throw';
    const both = createFallbackBlobStore(r2Store, kvStore);
    await expect(both.getPart(digest, sha256)).rejects.toBeInstanceOf(StoreUnavailable);
    await expect(both.getRecord(digest)).rejects.toBeInstanceOf(StoreUnavailable);
  });
});

/** The longest that a key can be, in the one case that the suite has. */
const shownKey = (name: string) => `drop-error:${name}`.slice(0, 261);

dropBoxContract('the fake', async () => {
  const { clock, kv } = fakes();
  return {
    box: createKvInbox({ kv, cacheTtl: 30, timeoutMs, pacing: pacing(clock.sleep) }),
    drop: (name, bytes) => kv.put(`drop:${name}`, bytes),
    error: (name) => kv.get(shownKey(name), { type: 'text', cacheTtl: 30 }),
    afterWrite: () => clock.advance(60_000),
  };
});
dropBoxContract('Miniflare', async () => {
  const kv = await realKv('DROPPED');
  for (const { name } of (await kv.list({ prefix: 'drop', cursor: null })).keys) await kv.delete(name);
  return {
    box: createKvInbox({ kv, cacheTtl: 30, timeoutMs: WAIT_MS, pacing: real }),
    drop: (name, bytes) => kv.put(`drop:${name}`, bytes),
    error: (name) => kv.get(shownKey(name), { type: 'text', cacheTtl: 30 }),
    afterWrite: now,
  };
});

it.each(['throw', 'hang'] as const)('dropped files: says so when KV answers with %s', async (trouble) => {
  const { clock, kv } = fakes();
  const box = createKvInbox({ kv, cacheTtl: 30, timeoutMs, pacing: pacing(clock.sleep) });
  await kv.put('drop:a', new Uint8Array(3));
  kv.trouble = trouble;
  await expect(box.list(null)).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(box.read('a')).rejects.toBeInstanceOf(StoreUnavailable);
});

it('lists more dropped files than KV lists at once', async () => {
  const { clock, kv } = fakes();
  const box = createKvInbox({ kv, cacheTtl: 30, timeoutMs, pacing: pacing(clock.sleep) });
  const names = Array.from({ length: 1_001 }, (_, index) => `n${String(index).padStart(4, '0')}`);
  for (const name of names) await kv.put(`drop:${name}`, new Uint8Array(1));
  const first = await box.list(null);
  const rest = await box.list(first.cursor);
  expect([...first.items, ...rest.items]).toEqual(names);
  expect([first.items.length, rest.cursor]).toEqual([1_000, null]);
});
