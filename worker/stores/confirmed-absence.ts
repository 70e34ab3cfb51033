import {
  StoreUnavailable,
  type AbsenceCheck,
  type Pointer,
  type PointerWriter,
  type Registry,
} from './types.ts';

/**
 * KV remembers for a while that a name was missing, and may wrongly say so; nobody is to be given a name's ancestor, or
 * told that it does not exist, because of that. So an absence is checked once in `ttlMs` and isolate. While the system
 * of record does not answer, KV's word stands.
 */
export function createAbsenceCheck(params: {
  registry: Pick<Registry, 'pointer'>;
  ttlMs: number;
  maxEntries: number;
  now: () => number;
}): AbsenceCheck & { forget(name: string): void } {
  const { registry, ttlMs, maxEntries, now } = params;
  const absent = new Map<string, number>();

  return {
    async confirm(name) {
      if (now() < (absent.get(name) ?? -Infinity)) return { state: 'absent' };
      absent.delete(name);
      let pointer: Pointer;
      try {
        pointer = await registry.pointer(name);
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        console.error(JSON.stringify({ event: 'absence_unconfirmed', reason: error.message }));
        return { state: 'absent' };
      }
      if (pointer.kind === 'version' || pointer.kind === 'alias')
        return { state: 'found', value: pointer, stale: false };
      absent.set(name, now() + ttlMs);
      const oldest = absent.keys().next();
      if (absent.size > maxEntries && !oldest.done) absent.delete(oldest.value);
      return { state: 'absent' };
    },
    forget: (name) => void absent.delete(name),
  };
}

/** What is written through this isolate is there at the next request, whatever was asked for before. */
export const forgettingAbsences = (
  pointers: PointerWriter,
  absence: { forget(name: string): void },
): PointerWriter => ({
  async sync(name, options) {
    try {
      await pointers.sync(name, options);
    } finally {
      absence.forget(name);
    }
  },
});
