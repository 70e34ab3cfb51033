import { putPaced, type KvNamespace, type WritePacing } from '../platform/kv-namespace.ts';
import { readSealed } from '../platform/sealed-index.ts';
import type { Sealer } from '../platform/sealed-value.ts';
import { KeyRecord, type KeyIndex } from './ports.ts';

/** `key:<sha256 of the API key>` -> sealed record, or a sealed tombstone once it is revoked. */
export function createKvKeyIndex(params: {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}): KeyIndex {
  const { kv, sealer, pacing } = params;
  const write = async (hash: string, value: unknown) => {
    const key = `key:${hash}`;
    await putPaced(kv, key, await sealer.seal(key, value), pacing);
  };
  return {
    get: (hash) => readSealed({ ...params, key: `key:${hash}`, schema: KeyRecord }),
    put: write,
    revoke: (hash) => write(hash, { gone: true }),
  };
}
