import type { PinLedger, PinRow } from '../../worker/origins/ports.ts';

export function createFakePins(): PinLedger {
  const rows = new Map<string, PinRow>();
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
