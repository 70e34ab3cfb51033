import { z } from 'zod';
import { AdapterName, Digest, fnv1a, isHolder } from '../../protocol/index.ts';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { PointerWriter } from './ports-pointers.ts';
import type { RightsWriter } from '../access/ports.ts';

/** What the Durable Object is asked to write. */
export const PointerCall = z.union([
  z.strictObject({
    name: AdapterName,
    mark: z.boolean().default(false),
    erased: z.boolean().default(false),
  }),
  z.strictObject({ key: Digest, mark: z.boolean().default(false) }),
  z.strictObject({ grants: z.string().refine(isHolder) }),
]);
type PointerCall = z.input<typeof PointerCall>;
const Answer = z.object({ ok: z.boolean(), reason: z.string().optional() });

/** Objects that share the records of a kind among them: each writes a record's changes in order, all of them at once. */
export const POINTER_SHARDS = 64;

/** The number of a record's shard must never change while two versions of the worker run. */
export const shardOf = (record: string, kind: 'names' | 'keys' | 'grants' = 'names'): string =>
  `${kind}-${fnv1a(record) % POINTER_SHARDS}`;

/** Names, keys and grants in KV, written by Durable Objects (`PointerWriter`). */
export function createDoPointers(params: {
  namespace: DurableNamespace;
  timeoutMs: number;
}): PointerWriter & RightsWriter {
  const { namespace, timeoutMs } = params;
  async function ask(name: string, call: PointerCall): Promise<void> {
    const answer = await askObject({
      ...{ namespace, name, what: 'pointer writer', call, timeoutMs },
      parse: (said) => Answer.parse(said),
    });
    if (!answer.ok) throw new StoreUnavailable('DO', new Error(answer.reason ?? 'no reason given'));
  }
  return {
    sync: (name, { mark = false, erased = false } = {}) =>
      ask(shardOf(name), { name, mark, ...(erased ? { erased } : {}) }),
    syncKey: (key, { mark = false } = {}) => ask(shardOf(key, 'keys'), { key, mark }),
    syncGrants: (tenant) => ask(shardOf(tenant, 'grants'), { grants: tenant }),
  };
}
