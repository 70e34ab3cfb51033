import { createSealedIndex, type SealedIndexParams } from '../platform/sealed-index.ts';
import { KeyRecord, type KeyIndex } from './ports.ts';
import { z } from 'zod';
import { GONE_MARK_TTL_S } from '../limits.ts';
import { Grant, type GrantIndex } from './ports-grants.ts';

/** `key:<sha256 of the API key>` -> sealed record, or a sealed tombstone once it is revoked. */
export function createKvKeyIndex(params: SealedIndexParams): KeyIndex {
  const { get, put, remove } = createSealedIndex({ ...params, prefix: 'key:', schema: KeyRecord });
  return { get, put, revoke: remove };
}

const Grants = z.strictObject({
  grants: z.array(Grant),
  /** Not there in values from before tenants could refuse grants. */
  refused: z.array(z.string().min(1)).optional(),
});

/**
 * `grant:<tenant>` and `grant:*` -> sealed `{grants: [{scope, owner}], refused?: [owner]}`: all that the tenant, or
 * everybody, has, and whose grants it refuses.
 */
export function createKvGrantIndex(params: SealedIndexParams): GrantIndex {
  const schema = Grants.transform(({ grants, refused = [] }) => ({ grants, refused }));
  const { get, put } = createSealedIndex({ ...params, prefix: 'grant:', schema });
  return {
    get,
    put: (tenant, { grants, refused }) =>
      put(
        tenant,
        {
          grants: grants.map(({ scope, owner }) => ({ scope, owner })),
          ...(refused.length === 0 ? {} : { refused }),
        },
        // D1 says the same of a tenant that has nothing, once nobody remembers that it had.
        grants.length + refused.length === 0 ? GONE_MARK_TTL_S : undefined,
      ),
  };
}
