import { z } from 'zod';
import { putPaced, type KvNamespace, type WritePacing } from './kv-namespace.ts';
import { readSealed } from './kv-sealed-index.ts';
import type { Sealer } from './sealed-value.ts';
import { Grant, type GrantIndex } from './types.ts';

const Grants = z.strictObject({ grants: z.array(Grant) });

/** `grant:<tenant>` and `grant:*` -> sealed `{grants: [{scope, owner}]}`, all that the tenant, or everybody, has. */
export function createKvGrantIndex(params: {
  kv: KvNamespace;
  sealer: Sealer;
  /** Seconds. */
  cacheTtl: number;
  retryAfterMs: number;
  pacing: WritePacing;
}): GrantIndex {
  const { kv, sealer, pacing } = params;
  const schema = Grants.transform(({ grants }) => grants);
  return {
    get: (tenant) => readSealed({ ...params, key: `grant:${tenant}`, schema }),
    async put(tenant, grants) {
      const key = `grant:${tenant}`;
      await putPaced(
        kv,
        key,
        await sealer.seal(key, { grants: grants.map(({ scope, owner }) => ({ scope, owner })) }),
        pacing,
      );
    },
  };
}
