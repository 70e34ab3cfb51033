import { createHash } from 'node:crypto';
import {
  generateApiKey,
  hashApiKey,
  parseSigningKeys,
  VerifyRequest,
  type VerifyAnswer,
} from '../../protocol/index.ts';
import { createApp, type Services } from '../../worker/app.ts';
import { createOriginClient } from '../../worker/origin-client.ts';
import type { Fetch } from '../../worker/origin-fetch.ts';
import { createKvBlobStore } from '../../worker/stores/kv-blob-store.ts';
import { createKvKeyIndex } from '../../worker/stores/kv-key-index.ts';
import { createKvNameIndex } from '../../worker/stores/kv-name-index.ts';
import { withLastKnownGood } from '../../worker/stores/last-known-good.ts';
import { createSealer } from '../../worker/stores/sealed-value.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { createFakeBlobLedger, createFakeKeyLedger } from '../fakes/fake-ledgers.ts';
import { createFakeRegistry } from '../fakes/fake-registry.ts';
import { fakeVerification } from '../fakes/fake-trials.ts';
import { TINY_BASE, type TinyAdapter } from '../fakes/tiny-adapters.ts';

export interface AppHarness {
  clock: FakeClock;
  kv: FakeKv;
  services: Services;
  adminKey: string;
  /** Requests that reached the origin, as `METHOD path`. */
  asked: string[];
  /** Answers the origin's requests; by default it has every adapter. */
  origin: {
    answer: (method: string, path: string, init: RequestInit) => Response | Promise<Response>;
  };
  request(path: string, init?: { method?: string; key?: string; body?: unknown }): Promise<Response>;
  upload(adapter: TinyAdapter): Promise<Response>;
  publish(name: string, adapter: TinyAdapter, more?: object): Promise<Response>;
}

async function hashStreams(streams: AsyncIterable<ReadableStream<Uint8Array>>): Promise<string> {
  const hash = createHash('sha256');
  for await (const stream of streams) for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}

/** An origin's answer when it tries a chain that it holds and likes. */
export const verification = (init: RequestInit): VerifyAnswer => {
  const { chain = [], expected } = VerifyRequest.parse(JSON.parse(init.body as string));
  return fakeVerification({ base: TINY_BASE, chain, expected });
};

/** The real app in this process, on the fakes: for what only fakes can do. */
export async function createAppHarness(options: { verifyTimeoutMs?: number } = {}): Promise<AppHarness> {
  const clock = new FakeClock();
  const kv = new FakeKv(clock.now);
  const { now, sleep } = clock;
  const asked: string[] = [];
  const origin: AppHarness['origin'] = {
    answer: (_, path, init) => {
      if (path === '/base') return Response.json(TINY_BASE);
      return Response.json(path.endsWith('/verify') ? verification(init) : { ok: true });
    },
  };
  const fetch: Fetch = async (url, init) => {
    const { pathname } = new URL(url);
    asked.push(`${init.method} ${pathname}`);
    return origin.answer(init.method ?? 'GET', pathname, init);
  };
  const pacing = { pauseMs: 1_100, tries: 4, sleep };
  const pointer = {
    kv,
    sealer: createSealer(new Uint8Array(32).fill(3)),
    cacheTtl: 30,
    retryAfterMs: 2_000,
    pacing,
  };
  const memory = { timeoutMs: 1_000, maxAgeMs: 86_400_000, maxEntries: 100, retryAfterMs: 2_000, now };
  const blobs = createKvBlobStore({ kv, cacheTtl: 86_400, retryCacheTtl: 30, timeoutMs: 1_000, pacing });
  const names = createKvNameIndex(pointer);
  const keyIndex = createKvKeyIndex(pointer);
  const adminKey = generateApiKey('ga');
  const services: Services = {
    names: withLastKnownGood(names, memory),
    keys: withLastKnownGood(keyIndex, memory),
    intake: {
      blobs,
      blobLedger: createFakeBlobLedger(),
      registry: createFakeRegistry(),
      names,
      hashStreams,
      now,
    },
    keyIndex,
    keyLedger: createFakeKeyLedger(),
    origins: createOriginClient({
      origins: [{ id: 'o1', url: 'http://origin.test' }],
      keys: parseSigningKeys(`k1:${Buffer.alloc(32, 7).toString('base64')}`),
      blobs,
      fetch,
      now,
      sleep,
      ...options,
    }),
    adminKeyHash: await hashApiKey(adminKey),
  };
  const app = createApp(services);
  const request: AppHarness['request'] = async (path, init = {}) => {
    const raw = init.body instanceof Uint8Array;
    return app.request(path, {
      method: init.method ?? (init.body === undefined ? 'GET' : 'POST'),
      headers: { authorization: `Bearer ${init.key ?? adminKey}` },
      ...(init.body === undefined
        ? {}
        : { body: raw ? (init.body as Uint8Array<ArrayBuffer>) : JSON.stringify(init.body) }),
    });
  };
  const upload: AppHarness['upload'] = async ({ bytes, digest }) => {
    const sent = await request(`/admin/blobs/${digest}/parts/0`, {
      method: 'PUT',
      body: new Uint8Array(bytes),
    });
    if (!sent.ok) return sent;
    const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
    return request(`/admin/blobs/${digest}`, { body: record });
  };
  return {
    clock,
    kv,
    services,
    adminKey,
    asked,
    origin,
    request,
    upload,
    async publish(name, adapter, more = {}) {
      const uploaded = await upload(adapter);
      if (!uploaded.ok) return uploaded;
      return request('/admin/versions', { body: { name, digest: adapter.digest, ...more } });
    },
  };
}
