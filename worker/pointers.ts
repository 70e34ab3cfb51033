/** Composition of what writes names: Durable Objects, and this isolate's memory that has to hear of it. */
import * as limits from './limits.ts';
import { createDoPointers } from './stores/do-pointers.ts';
import type { DurableNamespace } from './stores/ask-object.ts';
import { forgettingPointers } from './stores/short-memory.ts';
import type { PointerWriter } from './stores/types.ts';

export function createPointers(params: {
  namespace: DurableNamespace;
  forgetName: (name: string) => void;
}): PointerWriter {
  const pointers = createDoPointers({ namespace: params.namespace, timeoutMs: limits.POINTER_TIMEOUT_MS });
  return forgettingPointers(pointers, params.forgetName);
}
