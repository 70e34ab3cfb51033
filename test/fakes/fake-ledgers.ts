import type { KeyLedger, KeyRow } from '../../worker/stores/types.ts';

export function createFakeKeyLedger(): KeyLedger {
  const rows = new Map<string, KeyRow>();
  return {
    async add(row) {
      if ([...rows.values()].some(({ id, hash }) => id === row.id || hash === row.hash))
        throw new Error('UNIQUE constraint failed: keys.hash');
      rows.set(row.id, structuredClone(row));
    },
    list: async (tenant) =>
      [...rows.values()]
        .filter((row) => tenant === null || row.tenant === tenant)
        .sort((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? -1 : 1)),
    get: async (id) => structuredClone(rows.get(id)) ?? null,
    admin: async (hash) =>
      [...rows.values()].find((row) => row.hash === hash && row.kind === 'admin' && row.revokedAt === null) ??
      null,
    async rotate({ row, old, expiresAt }) {
      await this.add(row);
      const replaced = rows.get(old);
      if (replaced === undefined) return;
      replaced.replacedBy = row.id;
      replaced.expiresAt = Math.min(replaced.expiresAt ?? expiresAt, expiresAt);
    },
    async change({ id, scopes, owners, label, limits, strict, degrade }) {
      const row = rows.get(id);
      if (row === undefined || row.revokedAt !== null) return;
      Object.assign(row, structuredClone({ scopes, owners, label, limits, strict, degrade }));
    },
    async revoke(id, at) {
      const row = rows.get(id);
      if (row !== undefined && row.revokedAt === null) row.revokedAt = at;
    },
    async page({ cursor, limit }) {
      const items = [...rows.values()]
        .filter(({ id }) => id > (cursor ?? ''))
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .slice(0, limit)
        .map((row) => structuredClone(row));
      return { items, cursor: items.length === limit ? (items.at(-1)?.id ?? null) : null };
    },
  };
}
