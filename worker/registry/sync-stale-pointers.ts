import { STALE_POINTERS_AT_ONCE } from './limits.ts';
import type { PointerWriter } from './ports-pointers.ts';
import type { Registry } from './ports.ts';
import type { StalePointer } from './ports-rooms.ts';
import { logLine, reasonOf } from '../log.ts';

/**
 * Writes a page of the pointers that KV is still to be told of, because whoever changed their names died before that, or
 * because what they lead to was withdrawn. The writer strikes off what it has written; what fails is left for the next
 * time.
 * @param params.newest what changed last comes first, else the oldest.
 * @throws StoreUnavailable when the system of record does not answer.
 */
export async function syncStalePointers(
  deps: { registry: Pick<Registry, 'stalePointers'>; pointers: PointerWriter },
  params: { limit: number; newest: boolean },
): Promise<void> {
  const stale = await deps.registry.stalePointers(params);
  for (let at = 0; at < stale.length; at += STALE_POINTERS_AT_ONCE) {
    const page = stale.slice(at, at + STALE_POINTERS_AT_ONCE);
    await Promise.all(page.map((pointer) => sync(deps.pointers, pointer)));
  }
}

async function sync(pointers: PointerWriter, { name }: StalePointer): Promise<void> {
  try {
    await pointers.sync(name);
  } catch (error) {
    const reason = reasonOf(error);
    logLine('pointer_not_written', { name, reason });
  }
}
