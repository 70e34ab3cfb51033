import { z } from 'zod';
import { AdapterManifest, NameAlias, type NameEntry } from '../../protocol/index.ts';
import { putPaced, type KvNamespace, type WritePacing } from '../platform/kv-namespace.ts';
import { readSealed, readSealedMany } from '../platform/sealed-index.ts';
import type { Sealer } from '../platform/sealed-value.ts';
import type { Lookup } from '../platform/ports.ts';
import type { NameIndex } from './ports-pointers.ts';

const schema: z.ZodType<NameEntry> = z.union([AdapterManifest, NameAlias]);

/** `name:<name>` -> sealed manifest of the live version, or sealed alias, or a sealed tombstone of an alias. */
export function createKvNameIndex(params: {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}): NameIndex {
  const { kv, sealer, pacing, retryAfterMs } = params;
  const keyOf = (name: string) => `name:${name}`;
  /** The seal is over the key, so this can only be our own mistake; it must not serve another's weights. */
  const checked = (name: string, found: Lookup<NameEntry>): Lookup<NameEntry> =>
    found.state === 'found' && found.value.name !== name
      ? { state: 'trouble', reason: 'an entry in KV is that of another name', retryAfterMs }
      : found;
  const write = async (name: string, value: unknown) => {
    const key = keyOf(name);
    await putPaced(kv, key, await sealer.seal(key, value), pacing);
  };
  return {
    get: async (name) => checked(name, await readSealed({ ...params, key: keyOf(name), schema })),
    async getMany(names) {
      if (names.length === 0) return [];
      const found = await readSealedMany({ ...params, keys: names.map(keyOf), schema });
      return found.map((lookup, i) => checked(names[i] as string, lookup));
    },
    put: (entry) => write(entry.name, entry),
    remove: (name) => write(name, { gone: true }),
  };
}
