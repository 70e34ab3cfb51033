import { DROPS_REMEMBERED, type DropLedger, type DropRow } from '../../worker/kv-inbox/ports.ts';

export function createFakeDropLedger(): DropLedger {
  const rows = new Map<string, DropRow[]>();
  return {
    recent: async (name) => [...(rows.get(name) ?? [])],
    async put(row) {
      const others = (rows.get(row.name) ?? []).filter(({ sha256 }) => sha256 !== row.sha256);
      const sorted = [...others, { ...row }].sort((a, b) => b.at - a.at || (a.sha256 < b.sha256 ? -1 : 1));
      rows.set(row.name, sorted.slice(0, DROPS_REMEMBERED));
    },
  };
}
