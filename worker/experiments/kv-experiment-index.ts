import { putPaced, type KvNamespace, type WritePacing } from '../platform/kv-namespace.ts';
import { readSealed } from '../platform/sealed-index.ts';
import type { Sealer } from '../platform/sealed-value.ts';
import { ExperimentEntry, type ExperimentIndex } from './ports.ts';

/** `experiment:<id>` -> sealed document and manifests of an experiment that is live, or was; or a sealed tombstone. */
export function createKvExperimentIndex(params: {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}): ExperimentIndex {
  const { kv, sealer, pacing, retryAfterMs } = params;
  const keyOf = (id: string) => `experiment:${id}`;
  const write = async (id: string, value: unknown) => {
    const key = keyOf(id);
    await putPaced(kv, key, await sealer.seal(key, value), pacing);
  };
  return {
    async get(id) {
      const found = await readSealed({ ...params, key: keyOf(id), schema: ExperimentEntry });
      // The seal is over the key, so this can only be our own mistake; it must not assign by another's document.
      return found.state === 'found' && found.value.id !== id
        ? { state: 'trouble', reason: 'an entry in KV is that of another experiment', retryAfterMs }
        : found;
    },
    put: (entry) => write(entry.id, entry),
    remove: (id) => write(id, { gone: true }),
  };
}
