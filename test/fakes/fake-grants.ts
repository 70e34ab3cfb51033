import type { GrantLedger, GrantRow } from '../../worker/stores/types.ts';

const sortKey = ({ tenant, scope, owner }: Pick<GrantRow, 'tenant' | 'scope' | 'owner'>): string =>
  [tenant, scope, owner ?? '*'].join('\n');
const sorted = (rows: Iterable<GrantRow>): GrantRow[] =>
  [...rows].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1)).map((row) => ({ ...row }));

/** The ledger of grants as a model. */
export function createFakeGrantLedger(): GrantLedger {
  const rows = new Map<string, GrantRow>();
  return {
    async add(row) {
      if (rows.has(sortKey(row))) return false;
      rows.set(sortKey(row), { ...row });
      return true;
    },
    async remove({ scope, tenant, owner }) {
      const found = [...rows.values()].filter(
        (row) => row.scope === scope && row.tenant === tenant && (owner === undefined || row.owner === owner),
      );
      for (const row of found) rows.delete(sortKey(row));
      return found.length;
    },
    heldBy: async (tenants) => sorted(rows.values()).filter((row) => tenants.includes(row.tenant)),
    async list({ owner, cursor, limit }) {
      const items = sorted(rows.values())
        .filter((row) => owner === null || row.owner === owner)
        .filter((row) => cursor === null || sortKey(row) > cursor)
        .slice(0, limit);
      const last = items.length === limit ? items.at(-1) : undefined;
      return { items, cursor: last === undefined ? null : sortKey(last) };
    },
  };
}
