import type { KeyLimits, TenantLimits, TenantLimitsRow } from '../../worker/metering/ports.ts';

export interface FakeTenantLimits extends TenantLimits {
  /** As a key's row brings them. */
  of(tenant: string): KeyLimits | null;
}

export function createFakeTenantLimits(): FakeTenantLimits {
  const rows = new Map<string, TenantLimitsRow>();
  const sorted = () => [...rows.values()].sort((a, b) => (a.tenant < b.tenant ? -1 : 1));
  return {
    of: (tenant) => structuredClone(rows.get(tenant)?.limits ?? null),
    get: async (tenant) => structuredClone(rows.get(tenant)) ?? null,
    async set({ was, ...change }) {
      if ((rows.get(change.tenant)?.revision ?? 0) !== was) return null;
      const row: TenantLimitsRow = { ...structuredClone(change), revision: was + 1, writtenTo: '' };
      rows.set(row.tenant, row);
      return structuredClone(row);
    },
    async wrote({ tenant, revision, writtenTo }) {
      const row = rows.get(tenant);
      if (row?.revision === revision) row.writtenTo = writtenTo;
    },
    async list({ cursor, limit }) {
      const items = sorted()
        .filter((row) => row.tenant > (cursor ?? '') && (row.limits !== null || row.writtenTo !== null))
        .slice(0, limit);
      return { items, cursor: items.length === limit ? (items.at(-1)?.tenant ?? null) : null };
    },
    unwritten: async (limit) =>
      sorted()
        .filter(({ writtenTo }) => writtenTo !== null)
        .slice(0, limit),
  };
}
