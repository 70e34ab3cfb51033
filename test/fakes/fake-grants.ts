import type { GrantLedger, GrantRow, RefusalRow } from '../../worker/access/ports.ts';

const sortKey = ({ tenant, scope, owner }: Pick<GrantRow, 'tenant' | 'scope' | 'owner'>): string =>
  [tenant, scope, owner ?? '*'].join('\n');
const sorted = (rows: Iterable<GrantRow>): GrantRow[] =>
  [...rows].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1)).map((row) => ({ ...row }));

/** The ledger of grants as a model. */
export function createFakeGrantLedger(): GrantLedger {
  const rows = new Map<string, GrantRow>();
  const refusals = new Map<string, RefusalRow>();
  const refuses = (tenant: string, owner: string | null) => refusals.has(`${tenant}\n${owner}`);
  const refusedBy = (tenant: string) =>
    [...refusals.values()]
      .filter((row) => row.tenant === tenant)
      .sort((a, b) => (a.owner < b.owner ? -1 : 1))
      .map((row) => ({ ...row }));
  const counts = ({ tenant, owner }: Pick<GrantRow, 'tenant' | 'owner'>) => {
    const all = [...rows.values()];
    const given = all.filter((row) => row.owner === owner);
    return {
      holder: all.filter((row) => row.tenant === tenant && !refuses(tenant, row.owner)).length,
      pair: given.filter((row) => row.tenant === tenant).length,
      giver: given.length,
    };
  };
  return {
    async add(row, caps) {
      if (rows.has(sortKey(row))) return 'known';
      const { holder, pair, giver } = counts(row);
      if (holder >= caps.holder || pair >= caps.pair || giver >= caps.giver) return 'full';
      rows.set(sortKey(row), { ...row });
      return 'added';
    },
    get: async (grant) => structuredClone(rows.get(sortKey(grant))) ?? null,
    counts: async (grant) => counts(grant),
    async remove({ scope, tenant, owner }) {
      const found = [...rows.values()].filter(
        (row) => row.scope === scope && row.tenant === tenant && (owner === undefined || row.owner === owner),
      );
      for (const row of found) rows.delete(sortKey(row));
      return found.length;
    },
    heldBy: async (tenants) => sorted(rows.values()).filter((row) => tenants.includes(row.tenant)),
    usableBy: async (tenant) =>
      sorted(rows.values()).filter(
        (row) => [tenant, '*'].includes(row.tenant) && !refuses(tenant, row.owner),
      ),
    async list({ owner, cursor, limit }) {
      const items = sorted(rows.values())
        .filter((row) => owner === null || row.owner === owner)
        .filter((row) => cursor === null || sortKey(row) > cursor)
        .slice(0, limit);
      const last = items.length === limit ? items.at(-1) : undefined;
      return { items, cursor: last === undefined ? null : sortKey(last) };
    },
    async refuse(row, max) {
      if (refuses(row.tenant, row.owner)) return 'known';
      if (refusedBy(row.tenant).length >= max) return 'full';
      refusals.set(`${row.tenant}\n${row.owner}`, { ...row });
      return 'added';
    },
    accept: async ({ tenant, owner }) => refusals.delete(`${tenant}\n${owner}`),
    refusedBy: async (tenant) => refusedBy(tenant),
  };
}
