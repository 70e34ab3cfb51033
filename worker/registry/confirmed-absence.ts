import { StoreUnavailable } from '../platform/ports.ts';
import type { AbsenceCheck, PointerWriter, Pointer, Registry } from './ports.ts';
import { logLine } from '../log.ts';

/**
 * KV remembers for a while that a name was missing, and may wrongly say so; nobody is to be given a name's ancestor, or
 * told that it does not exist, because of that. So an absence is checked once in `ttlMs` and isolate. While the system
 * of record does not answer, KV's word stands.
 */
export function createAbsenceCheck(params: {
  registry: Pick<Registry, 'pointer'>;
  ttlMs: number;
  maxEntries: number;
  /** @returns a name that nobody can have, for one that is there. */
  decoyOf: (name: string) => string;
  now: () => number;
}): AbsenceCheck & { forget(name: string): void } {
  const { registry, ttlMs, maxEntries, decoyOf, now } = params;
  /** Names, and until when they are not asked about again, unix ms. */
  const absent = new Map<string, number>();
  const pretended = new Map<string, number>();

  const recall = (memory: Map<string, number>, name: string): boolean => {
    if (now() < (memory.get(name) ?? -Infinity)) return true;
    memory.delete(name);
    return false;
  };
  const remember = (memory: Map<string, number>, name: string) => {
    memory.set(name, now() + ttlMs);
    const oldest = memory.keys().next();
    if (memory.size > maxEntries && !oldest.done) memory.delete(oldest.value);
  };
  /** @returns null when nobody can say. */
  const ask = async (name: string): Promise<Pointer | null> => {
    try {
      return await registry.pointer(name);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      logLine('absence_unconfirmed', { reason: error.message });
      return null;
    }
  };

  return {
    async confirm(name) {
      if (recall(absent, name)) return { state: 'absent' };
      const pointer = await ask(name);
      if (pointer?.kind === 'version' || pointer?.kind === 'alias')
        return { state: 'found', value: pointer, stale: false };
      if (pointer !== null) remember(absent, name);
      return { state: 'absent' };
    },
    async pretend(name) {
      if (recall(pretended, name)) return;
      if ((await ask(decoyOf(name))) !== null) remember(pretended, name);
    },
    forget(name) {
      absent.delete(name);
      pretended.delete(name);
    },
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
