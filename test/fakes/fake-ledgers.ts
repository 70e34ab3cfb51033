import type { BlobRecord } from '../../protocol/index.ts';
import type { BlobLedger, KeyLedger, KeyRow, PartRow } from '../../worker/stores/types.ts';

export function createFakeBlobLedger(): BlobLedger {
  const parts = new Map<string, Map<number, PartRow>>();
  const records = new Map<string, BlobRecord>();
  const holders = new Set<string>();
  const id = (digest: string, tenant: string) => `${digest} ${tenant}`;
  return {
    async addPart({ digest, tenant, part }) {
      const sent = parts.get(id(digest, tenant)) ?? new Map<number, PartRow>();
      parts.set(id(digest, tenant), sent.set(part.index, { ...part }));
    },
    parts: async (digest, tenant) =>
      [...(parts.get(id(digest, tenant))?.values() ?? [])].sort((a, b) => a.index - b.index),
    async complete({ digest, tenant, record }) {
      if (!records.has(digest)) records.set(digest, structuredClone(record));
      holders.add(id(digest, tenant));
    },
    record: async (digest) => structuredClone(records.get(digest)) ?? null,
    holds: async (digest, tenant) => holders.has(id(digest, tenant)),
  };
}

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
    async revoke(id, at) {
      const row = rows.get(id);
      if (row !== undefined && row.revokedAt === null) row.revokedAt = at;
    },
  };
}
