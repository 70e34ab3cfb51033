import { z } from 'zod';
import { AdapterName } from '../../protocol/index.ts';
import type { DurableNamespace } from './do-quotas.ts';
import { StoreUnavailable, type PointerWriter } from './types.ts';
import { withTimeout } from './with-timeout.ts';

/** What the Durable Object is asked. */
export const PointerCall = z.strictObject({ name: AdapterName, mark: z.boolean().default(false) });
const Answer = z.object({ ok: z.boolean(), reason: z.string().optional() });

/** Objects that share the names among them: each writes its names one after the other, so more of them write faster. */
export const POINTER_SHARDS = 64;

/** FNV-1a. The number of a name's shard must never change while two versions of the worker run. */
export function shardOf(name: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i += 1) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return `names-${(hash >>> 0) % POINTER_SHARDS}`;
}

/** Pointers written by Durable Objects (`PointerWriter` of worker/durable). */
export function createDoPointers(params: { namespace: DurableNamespace; timeoutMs: number }): PointerWriter {
  const { namespace, timeoutMs } = params;
  return {
    async sync(name, { mark = false } = {}) {
      const send = async (): Promise<z.infer<typeof Answer>> => {
        const object = namespace.get(namespace.idFromName(shardOf(name)));
        // The address is for nobody: it never leaves the platform.
        const response = await object.fetch('https://pointers.invalid/', {
          method: 'POST',
          body: JSON.stringify({ name, mark }),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(`the pointer writer answered ${response.status}`);
        return Answer.parse(JSON.parse(text));
      };
      let answer: z.infer<typeof Answer>;
      try {
        answer = await withTimeout(send(), timeoutMs);
      } catch (error) {
        throw new StoreUnavailable('DO', error);
      }
      if (!answer.ok) throw new StoreUnavailable('DO', new Error(answer.reason ?? 'no reason given'));
    },
  };
}
