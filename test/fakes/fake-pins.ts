import type { FakeNames } from './fake-names.ts';
import type { PinLedger, PinRow } from '../../worker/origins/ports.ts';

/** @param names of the fake registry that it shares a database with. */
export function createFakePins(names?: FakeNames): PinLedger {
  const rows = new Map<string, PinRow>();
  if (names !== undefined) {
    names.isPinned = (name) => rows.has(name);
    names.unpin = (name) => rows.delete(name);
  }
  return {
    async add(row, max) {
      if (!rows.has(row.name) && rows.size >= max) return false;
      if (!rows.has(row.name)) rows.set(row.name, row);
      return true;
    },
    remove: async (name) => rows.delete(name),
    list: async () => [...rows.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}
