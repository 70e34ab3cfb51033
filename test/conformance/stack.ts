import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import OpenAI from 'openai';
import {
  chainId,
  generateApiKey,
  hashApiKey,
  parseSigningKeys,
  type AdapterManifest,
} from '../../protocol/index.ts';
import { createApp } from '../../worker/app.ts';
import { createOriginClient } from '../../worker/origin-client.ts';
import { createKvBlobStore } from '../../worker/stores/kv-blob-store.ts';
import type { KeyIndex, KeyRecord, Lookup, NameIndex, VersionRow } from '../../worker/stores/types.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { createFakeBlobLedger, createFakeKeyLedger } from '../fakes/fake-ledgers.ts';
import { createFakeRegistry } from '../fakes/fake-registry.ts';
import { KEY, ORIGIN_ID, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';

/** Name of the published adapter: an id with slashes. */
export const ADAPTER = 'alice/support/notes';

export interface ConformanceStack {
  /** Of the edge, with `/v1`. */
  baseURL: string;
  origin: Origin;
  apiKey: string;
  /** Base and adapter. */
  models: readonly ['fake', typeof ADAPTER];
  stop(): Promise<void>;
}

export const clientOf = ({ baseURL, apiKey }: ConformanceStack): OpenAI =>
  new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const absent = { state: 'absent' } as const;

/**
 * The whole path of a request in this process, over real sockets: client, edge (its app on fakes), signature, origin
 * (its app, the fake runner and a tiny tokenizer). One adapter is published under a name with slashes.
 */
export async function startConformanceStack(
  options: Parameters<typeof startTestOrigin>[0] = {},
): Promise<ConformanceStack> {
  const origin = await startTestOrigin({ ...options, signed: true });
  const apiKey = generateApiKey('gk');
  const hash = await hashApiKey(apiKey);
  const record: KeyRecord = { id: 'k1', tenant: 'alice', scopes: [] };
  const manifest: AdapterManifest = {
    name: ADAPTER,
    version: 1,
    digest: origin.adapter,
    chain: [{ digest: origin.adapter, scale: 1, name: ADAPTER, owner: 'alice' }],
    chainId: await chainId([{ digest: origin.adapter, scale: 1 }]),
    owner: 'alice',
    base: { id: origin.runner.base.id, digest: origin.runner.base.digest },
    bytes: 16,
    rank: 8,
    createdAt: 1_700_000_000_000,
  };
  const row: VersionRow = {
    ...manifest,
    parent: null,
    rankSum: 8,
    createdBy: 'k1',
    proof: null,
    evaluation: null,
  };
  const registry = createFakeRegistry();
  await registry.publish({ row, stage: false, before: null });

  const found = <T>(value: T): Lookup<T> => ({ state: 'found', value, stale: false });
  const names: NameIndex = {
    get: async (name) => (name === ADAPTER ? found(manifest) : absent),
    put: async () => undefined,
  };
  const keyIndex: KeyIndex = {
    get: async (key) => (key === hash ? found(record) : absent),
    put: async () => undefined,
    revoke: async () => undefined,
  };
  const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  const pacing = { pauseMs: 1, tries: 1, sleep };
  const blobs = createKvBlobStore({
    kv: new FakeKv(Date.now),
    cacheTtl: 86_400,
    retryCacheTtl: 30,
    timeoutMs: 1_000,
    pacing,
  });
  const app = createApp({
    names,
    keys: keyIndex,
    intake: {
      blobs,
      blobLedger: createFakeBlobLedger(),
      registry,
      names,
      hashStreams: () => Promise.reject(new Error('nothing is uploaded here')),
      now: Date.now,
    },
    keyIndex,
    keyLedger: createFakeKeyLedger(),
    origins: createOriginClient({
      origins: [{ id: ORIGIN_ID, url: origin.url }],
      keys: parseSigningKeys(`${KEY.kid}:${Buffer.from(KEY.secret).toString('base64')}`),
      blobs,
      fetch: (url, init) => fetch(url, init),
      now: Date.now,
      sleep,
    }),
    adminKeyHash: null,
  });
  const server = serve({
    fetch: app.fetch,
    hostname: '127.0.0.1',
    port: 0,
    overrideGlobalObjects: false,
  }) as Server;
  if (!server.listening) await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    baseURL: `http://127.0.0.1:${port}/v1`,
    origin,
    apiKey,
    models: ['fake', ADAPTER],
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await origin.stop();
    },
  };
}
