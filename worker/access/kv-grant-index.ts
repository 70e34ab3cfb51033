import { z } from 'zod';
import { putPaced, type KvNamespace, type WritePacing } from '../platform/kv-namespace.ts';
import { readSealed } from '../platform/sealed-index.ts';
import type { Sealer } from '../platform/sealed-value.ts';
import { Grant, type GrantIndex } from './ports-grants.ts';

const Grants = z.strictObject({
  grants: z.array(Grant),
  /** Not there in values from before tenants could refuse grants. */
  refused: z.array(z.string().min(1)).optional(),
});

/**
 * `grant:<tenant>` and `grant:*` -> sealed `{grants: [{scope, owner}], refused?: [owner]}`: all that the tenant, or
 * everybody, has, and whose grants it refuses.
 */
export function createKvGrantIndex(params: {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}): GrantIndex {
  const { kv, sealer, pacing } = params;
  const schema = Grants.transform(({ grants, refused = [] }) => ({ grants, refused }));
  return {
    get: (tenant) => readSealed({ ...params, key: `grant:${tenant}`, schema }),
    async put(tenant, { grants, refused }) {
      const key = `grant:${tenant}`;
      const value = {
        grants: grants.map(({ scope, owner }) => ({ scope, owner })),
        ...(refused.length === 0 ? {} : { refused }),
      };
      await putPaced(kv, key, await sealer.seal(key, value), pacing);
    },
  };
}
