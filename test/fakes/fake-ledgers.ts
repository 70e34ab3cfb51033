import type { BlobPart, BlobRecord } from '../../protocol/index.ts';
import type { BlobLedger, GarbageLedger, KeyLedger, KeyRow, UnusedFile } from '../../worker/stores/types.ts';

interface StoredFile {
  parts: number;
  touchedAt: number;
  deletingAt: number | null;
  collectingAt: number | null;
}

/** @param inUse whether a version's chain contains the file; comes from the registry. */
export function createFakeBlobLedger(
  inUse: (digest: string) => boolean | Promise<boolean> = () => false,
): BlobLedger & GarbageLedger {
  const parts = new Map<string, Map<number, BlobPart>>();
  const records = new Map<string, BlobRecord>();
  const holders = new Set<string>();
  const files = new Map<string, StoredFile>();
  const id = (digest: string, tenant: string) => `${digest} ${tenant}`;
  const bytesOf = (digest: string) =>
    records.get(digest)?.bytes ??
    [...parts]
      .filter(([key]) => key.startsWith(`${digest} `))
      .flatMap(([, sent]) => [...sent.values()])
      .reduce((sum, part) => sum + part.bytes, 0);
  const forgetSenders = (digest: string) => {
    records.delete(digest);
    for (const key of [...parts.keys()]) if (key.startsWith(`${digest} `)) parts.delete(key);
    for (const key of [...holders]) if (key.startsWith(`${digest} `)) holders.delete(key);
  };
  return {
    async touch({ digest, parts: count, at }) {
      const file = files.get(digest);
      if (file !== undefined && file.collectingAt !== null) return false;
      files.set(digest, {
        parts: Math.max(file?.parts ?? 0, count),
        touchedAt: Math.max(file?.touchedAt ?? 0, at),
        deletingAt: null,
        collectingAt: null,
      });
      return true;
    },
    async addPart({ digest, tenant, part }) {
      const sent = parts.get(id(digest, tenant)) ?? new Map<number, BlobPart>();
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

    async unused({ touchedBefore, cursor, limit }) {
      const items: UnusedFile[] = [];
      for (const [digest, file] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (digest <= (cursor ?? '') || (await inUse(digest)) || items.length === limit) continue;
        if (file.touchedAt < touchedBefore || file.collectingAt !== null)
          items.push({ digest, bytes: bytesOf(digest), ...file });
      }
      return { items, cursor: items.length === limit ? (items.at(-1)?.digest ?? null) : null };
    },
    async mark({ digest, touchedBefore, at }) {
      const file = files.get(digest);
      const good =
        file !== undefined &&
        file.touchedAt < touchedBefore &&
        file.deletingAt === null &&
        file.collectingAt === null;
      if (!good || (await inUse(digest))) return false;
      file.deletingAt = at;
      return true;
    },
    async beginCollecting({ digest, markedBefore, at }) {
      const file = files.get(digest);
      const good = file?.deletingAt != null && file.deletingAt < markedBefore && file.collectingAt === null;
      if (!good || (await inUse(digest))) return false;
      file.collectingAt = at;
      forgetSenders(digest);
      return true;
    },
    async collected(digest) {
      if (files.get(digest)?.collectingAt == null) return;
      forgetSenders(digest);
      files.delete(digest);
    },
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
