import { AdapterManifest } from '../../protocol/index.ts';
import { putPaced, type KvNamespace, type WritePacing } from './kv-namespace.ts';
import { readSealed } from './kv-sealed-index.ts';
import type { Sealer } from './sealed-value.ts';
import type { NameIndex } from './types.ts';

/** `name:<name>` -> sealed manifest of the live version. */
export function createKvNameIndex(params: {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}): NameIndex {
  const { kv, sealer, pacing } = params;
  return {
    get: async (name) => {
      const found = await readSealed({ ...params, key: `name:${name}`, schema: AdapterManifest });
      if (found.state === 'found' && found.value.name !== name)
        return {
          state: 'trouble',
          reason: 'a manifest in KV names another adapter',
          retryAfterMs: params.retryAfterMs,
        };
      return found;
    },
    async put(manifest) {
      const key = `name:${manifest.name}`;
      await putPaced(kv, key, await sealer.seal(key, manifest), pacing);
    },
  };
}
