import type { BackupLedger } from '../../worker/backup/ports.ts';

/** One table of one row, which takes any backup; how tables are read and written is for the real database alone. */
export function createFakeBackups(): BackupLedger {
  let begun: string | null = null;
  return {
    plan: async () => ({ schema: '', mark: '0', tables: [{ name: 'names', rows: 1 }] }),
    rows: async ({ table }) =>
      table === 'names' ? { columns: ['name', 'latest'], rows: [['a', 1]], cursor: null } : null,
    async begin({ id }) {
      const before = begun;
      begun = id;
      return before === id ? 'resumed' : 'begun';
    },
    isBegun: async (id) => begun === id,
    write: async ({ table }) => (table === 'names' ? null : 'no such table'),
    async end() {
      begun = null;
    },
  };
}
