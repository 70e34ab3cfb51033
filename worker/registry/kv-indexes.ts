/** The hot path's data in KV, all sealed: names, keys, grants, experiments. */
import type { HeldGrants } from '../access/ports.ts';
import { z } from 'zod';
import { AdapterManifest, NameAlias, type NameEntry } from '../../protocol/adapter-manifest.ts';
import { createSealedIndex, type SealedIndexParams } from '../platform/kv-cache.ts';
import type { NameIndex } from './ports.ts';
import { KeyRecord, Grant } from '../access/ports.ts';
import { GONE_MARK_TTL_S } from '../limits.ts';
import { ExperimentEntry, type ExperimentIndex } from '../experiments/ports.ts';

const schema: z.ZodType<NameEntry> = z.union([AdapterManifest, NameAlias]);

/** Keys of KV. */
export const nameKey = (name: string): string => NAME_PREFIX + name;
export const keyKey = (hash: string): string => KEY_PREFIX + hash;
const NAME_PREFIX = 'name:';
const KEY_PREFIX = 'key:';

/** `name:<name>` -> the live version's sealed manifest, a sealed alias, or a sealed tombstone. */
export function createKvNameIndex(params: SealedIndexParams): NameIndex {
  const index = createSealedIndex({ ...params, prefix: NAME_PREFIX, schema, idField: 'name' });
  return { ...index, put: (entry) => index.put(entry.name, entry) };
}

/** `key:<sha256 of the API key>` -> sealed record, or a sealed tombstone once it is revoked. */
export function createKvKeyIndex(params: SealedIndexParams) {
  const { get, put, remove } = createSealedIndex({ ...params, prefix: KEY_PREFIX, schema: KeyRecord });
  return {
    get,
    put,
    /** Leaves a signed mark, so a missing value never means revocation. */
    revoke: (hash: string) => remove(hash),
  };
}
/** By sha256 of the key. */
export type KeyIndex = ReturnType<typeof createKvKeyIndex>;

const Grants = z.strictObject({
  grants: z.array(Grant),
  /** Absent = none. */
  refused: z.array(z.string().min(1)).optional(),
});

/**
 * `grant:<tenant>` and `grant:*` -> sealed `{grants: [{scope, owner}], refused?: [owner]}`: all grants to the
 * tenant, or to everybody, and whose grants it refuses.
 */
export function createKvGrantIndex(params: SealedIndexParams) {
  const schema = Grants.transform(({ grants, refused = [] }) => ({ grants, refused }));
  const { get, put } = createSealedIndex({ ...params, prefix: 'grant:', schema });
  return {
    get,
    /**
     * Replaces all of the tenant's grants; an empty list if none are left.
     * @throws StoreUnavailable
     */
    put: (tenant: string, { grants, refused }: HeldGrants): Promise<void> =>
      put(
        tenant,
        {
          grants: grants.map(({ scope, owner }) => ({ scope, owner })),
          ...(refused.length === 0 ? {} : { refused }),
        },
        // For a tenant without grants an absent entry means the same, once no cache has the old one.
        grants.length + refused.length === 0 ? GONE_MARK_TTL_S : undefined,
      ),
  };
}
/** Grants to each tenant, and to {@link PUBLIC}. */
export type GrantIndex = ReturnType<typeof createKvGrantIndex>;

/**
 * `experiment:<id>` -> sealed document and manifests of an experiment that is or was live, or a sealed
 * tombstone.
 */
export function createKvExperimentIndex(params: SealedIndexParams): ExperimentIndex {
  const { get, put, remove } = createSealedIndex({
    ...{ ...params, prefix: 'experiment:', schema: ExperimentEntry },
    idField: 'id',
  });
  return { get, remove, put: (entry) => put(entry.id, entry) };
}
