import { Miniflare, Response as MiniflareResponse } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createKvGrantIndex, createKvKeyIndex } from '../../worker/registry/kv-indexes.ts';
import { createKvNameIndex } from '../../worker/registry/kv-indexes.ts';
import type { KvNamespace } from '../../worker/platform/store-calls.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import { grantIndexContract, keyIndexContract, nameIndexContract } from '../contracts/kv-indexes.ts';
import type { ResponseCache } from '../../worker/platform/location-cache.ts';
import { responseCacheContract } from '../contracts/response-cache.ts';
import { FakeLocationCache } from '../fakes/fake-location-cache.ts';
import { kvNamespaceContract } from '../contracts/kv-namespace.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { FakeKv } from '../fakes/fake-kv.ts';

let miniflare: Miniflare;

beforeAll(async () => {
  miniflare = new Miniflare({
    modules: true,
    script: 'export default {}',
    kvNamespaces: ['KV'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
});
afterAll(() => miniflare.dispose());

const realKv = async () => (await miniflare.getKVNamespace('KV')) as unknown as KvNamespace;

const sealer = createSealer(new Uint8Array(32).fill(1));
const pointer = (kv: KvNamespace, sleep: (ms: number) => Promise<void>) => ({
  kv,
  sealer,
  cacheTtl: 30,
  retryAfterMs: 1_000,
  pacing: { pauseMs: 1_100, tries: 4, sleep },
});
const noSleep = async () => undefined;

function fake() {
  const clock = new FakeClock();
  const kv = new FakeKv(clock.now);
  return { kv, params: pointer(kv, clock.sleep), afterWrite: () => clock.advance(61_000) };
}

let settled: () => void = () => undefined;
kvNamespaceContract(
  'the fake',
  async () => {
    const { kv, afterWrite } = fake();
    settled = afterWrite;
    return kv;
  },
  { settled: async () => settled() },
);
kvNamespaceContract('Miniflare', realKv, { listed: 20 });

const caching = new FakeClock();
responseCacheContract('the fake', async () => new FakeLocationCache(caching.now), {
  later: (ms) => caching.advance(ms),
});
responseCacheContract('Miniflare', async () => {
  const cache = (await (await miniflare.getCaches()).open('graft-kv')) as unknown as ResponseCache;
  // The proxy takes Miniflare's own responses only.
  const put: ResponseCache['put'] = async (url, response) =>
    cache.put(
      url,
      new MiniflareResponse(await response.text(), {
        headers: [...response.headers] as [string, string][],
      }) as unknown as Response,
    );
  return { match: (url) => cache.match(url), put, delete: (url) => cache.delete(url) };
});

nameIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvNameIndex(params), afterWrite };
});
nameIndexContract('Miniflare', async () => ({
  index: createKvNameIndex(pointer(await realKv(), noSleep)),
  afterWrite: () => undefined,
}));

grantIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvGrantIndex(params), afterWrite };
});
grantIndexContract('Miniflare', async () => ({
  index: createKvGrantIndex(pointer(await realKv(), noSleep)),
  afterWrite: () => undefined,
}));

keyIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvKeyIndex(params), afterWrite };
});
keyIndexContract('Miniflare', async () => ({
  index: createKvKeyIndex(pointer(await realKv(), noSleep)),
  afterWrite: () => undefined,
}));
