/** Composition of what writes names, keys and grants: Durable Objects, and this isolate's memory that hears of it. */
import { POINTER_TIMEOUT_MS } from './limits.ts';
import { createDoPointers } from './do-pointers.ts';
import type { DurableNamespace } from '../platform/ask-object.ts';
import { forgettingPointers, forgettingRights } from '../platform/short-memory.ts';
import type { PointerWriter } from './ports-pointers.ts';
import type { RightsWriter } from '../access/ports.ts';

export interface KvWriters {
  pointers: PointerWriter;
  rights: RightsWriter;
}

export function createKvWriters(params: {
  namespace: DurableNamespace;
  forgetName: (name: string) => void;
  forgetKey: (hash: string) => void;
  forgetGrants: (tenant: string) => void;
}): KvWriters {
  const writers = createDoPointers({ namespace: params.namespace, timeoutMs: POINTER_TIMEOUT_MS });
  return {
    pointers: forgettingPointers(writers, params.forgetName),
    rights: forgettingRights(writers, { key: params.forgetKey, grants: params.forgetGrants }),
  };
}
