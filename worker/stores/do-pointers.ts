import { z } from 'zod';
import { AdapterName, fnv1a } from '../../protocol/index.ts';
import { askObject, type DurableNamespace } from './ask-object.ts';
import { StoreUnavailable, type PointerWriter } from './types.ts';

/** What the Durable Object is asked. */
export const PointerCall = z.strictObject({ name: AdapterName, mark: z.boolean().default(false) });
const Answer = z.object({ ok: z.boolean(), reason: z.string().optional() });

/** Objects that share the names among them: each writes its names one after the other, so more of them write faster. */
export const POINTER_SHARDS = 64;

/** The number of a name's shard must never change while two versions of the worker run. */
export const shardOf = (name: string): string => `names-${fnv1a(name) % POINTER_SHARDS}`;

/** Pointers written by Durable Objects (`PointerWriter` of worker/durable). */
export function createDoPointers(params: { namespace: DurableNamespace; timeoutMs: number }): PointerWriter {
  const { namespace, timeoutMs } = params;
  return {
    async sync(name, { mark = false } = {}) {
      const answer = await askObject({
        ...{ namespace, name: shardOf(name), what: 'pointer writer', call: { name, mark }, timeoutMs },
        parse: (said) => Answer.parse(said),
      });
      if (!answer.ok) throw new StoreUnavailable('DO', new Error(answer.reason ?? 'no reason given'));
    },
  };
}
