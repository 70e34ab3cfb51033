/** Composition root of the edge: bindings in, one app per isolate out. */
import { createApp, type Services } from './app.ts';
import { parseEnv, type RawEnv } from './env.ts';
import { hashStreams } from './hash-streams.ts';
import { createHotIndexes } from './hot-indexes.ts';
import * as limits from './limits.ts';
import { createOriginClient } from './origin-client.ts';
import { createD1BlobLedger } from './stores/d1-blob-ledger.ts';
import { guardDatabase } from './stores/d1-database.ts';
import { createD1KeyLedger } from './stores/d1-key-ledger.ts';
import { createD1Registry } from './stores/d1-registry.ts';
import { createKvBlobStore } from './stores/kv-blob-store.ts';
import { createSealer } from './stores/sealed-value.ts';

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function createServices(raw: RawEnv): Services {
  const config = parseEnv(raw);
  const now = Date.now;
  const retryAfterMs = limits.RETRY_AFTER_MS;
  const kv = raw.ADAPTERS;
  const db = guardDatabase(raw.DB);
  const sealer = createSealer(config.macKey);
  const pacing = { pauseMs: limits.KV_WRITE_PAUSE_MS, tries: limits.KV_WRITE_TRIES, sleep };
  const pointer = { kv, sealer, cacheTtl: limits.POINTER_CACHE_TTL_S, retryAfterMs, pacing };
  const { names, keys, nameIndex, keyIndex } = createHotIndexes({ pointer, now });
  const blobs = createKvBlobStore({
    kv,
    cacheTtl: limits.BLOB_CACHE_TTL_S,
    retryCacheTtl: limits.BLOB_RETRY_CACHE_TTL_S,
    timeoutMs: limits.BLOB_TIMEOUT_MS,
    pacing,
  });
  const fetchOrigin = (url: string, init: RequestInit) => fetch(url, init);
  return {
    names,
    keys,
    intake: {
      blobs,
      blobLedger: createD1BlobLedger(db),
      registry: createD1Registry(db),
      names: nameIndex,
      hashStreams,
      now,
    },
    keyIndex,
    keyLedger: createD1KeyLedger(db),
    origins: createOriginClient({
      ...config,
      keys: config.originKeys,
      blobs,
      fetch: fetchOrigin,
      now,
      sleep,
    }),
    adminKeyHash: config.adminKeyHash,
  };
}

/** Bindings are the same object for all requests of an isolate. */
let app: { env: RawEnv; fetch: ReturnType<typeof createApp>['fetch'] } | undefined;

export default {
  fetch(request, env, context) {
    if (app?.env !== env) app = { env, fetch: createApp(createServices(env)).fetch };
    return app.fetch(request, env, context);
  },
} satisfies ExportedHandler<RawEnv>;
