import type { BlobPart, BlobRecord } from '../../protocol/index.ts';
import type { BlobLedger, GarbageLedger, SurplusPart, UnusedFile } from '../../worker/blobs/ports.ts';

interface StoredFile {
  parts: number;
  touchedAt: number;
  deletingAt: number | null;
  collectingAt: number | null;
}

interface StoredPart extends SurplusPart {
  keptAt: number;
  recorded: boolean;
  collectingAt: number | null;
}

/** @param inUse whether a version's chain contains the file; comes from the registry. */
export function createFakeBlobLedger(
  inUse: (digest: string) => boolean | Promise<boolean> = () => false,
): BlobLedger & GarbageLedger {
  const sent = new Map<string, Map<number, BlobPart & { at: number }>>();
  const records = new Map<string, BlobRecord & { damaged: boolean; readAt: number }>();
  const holders = new Set<string>();
  const files = new Map<string, StoredFile>();
  const stored = new Map<string, StoredPart>();
  let position: string | null = null;
  const id = (digest: string, other: string) => `${digest} ${other}`;
  const partsOf = (digest: string) => [...stored.values()].filter((part) => part.digest === digest);
  const sum = (parts: readonly { bytes: number }[]) => parts.reduce((bytes, part) => bytes + part.bytes, 0);
  const forgetSenders = (digest: string) => {
    records.delete(digest);
    for (const key of [...sent.keys()]) if (key.startsWith(`${digest} `)) sent.delete(key);
    for (const key of [...holders]) if (key.startsWith(`${digest} `)) holders.delete(key);
  };
  const recordOf = (digest: string): BlobRecord | null => {
    const found = records.get(digest);
    return found === undefined ? null : { bytes: found.bytes, parts: structuredClone(found.parts) };
  };
  return {
    async touch({ digest, at }) {
      const file = files.get(digest);
      if (file !== undefined && file.collectingAt !== null) return false;
      files.set(digest, {
        parts: file?.parts ?? 0,
        touchedAt: Math.max(file?.touchedAt ?? 0, at),
        deletingAt: null,
        collectingAt: null,
      });
      return true;
    },
    async storing({ digest, part: { sha256, bytes }, at }) {
      const key = id(digest, sha256);
      const known = stored.get(key);
      if (known !== undefined && known.collectingAt !== null) return false;
      const keptAt = Math.max(known?.keptAt ?? 0, at);
      stored.set(key, { recorded: false, collectingAt: null, ...known, digest, sha256, bytes, keptAt });
      return true;
    },
    async addPart({ digest, tenant, part, at }) {
      const key = id(digest, tenant);
      const { index, bytes, sha256 } = part;
      sent.set(key, (sent.get(key) ?? new Map<number, never>()).set(index, { index, bytes, sha256, at }));
    },
    sent: async (digest, tenant) =>
      [...(sent.get(id(digest, tenant))?.values() ?? [])]
        .sort((a, b) => a.index - b.index)
        .map((part) => ({ ...part, stored: stored.get(id(digest, part.sha256))?.collectingAt === null })),
    async forgetPart({ digest, tenant, index }) {
      sent.get(id(digest, tenant))?.delete(index);
    },
    async keep({ digest, sha256s, at }) {
      const parts = sha256s.map((sha256) => stored.get(id(digest, sha256)));
      for (const part of parts) if (part?.collectingAt === null) part.keptAt = Math.max(part.keptAt, at);
      return parts.every((part) => part?.collectingAt === null);
    },
    async finish({ digest, record, at }) {
      const before = records.get(digest);
      const better = before === undefined || before.damaged || record.parts.length < before.parts.length;
      const readBack = better || JSON.stringify(before.parts) === JSON.stringify(record.parts);
      const readAt = readBack ? at : before.readAt;
      records.set(digest, { ...structuredClone(better ? record : before), damaged: false, readAt });
      const standing = recordOf(digest) as BlobRecord;
      for (const part of partsOf(digest)) {
        const recorded = standing.parts.some(({ sha256 }) => sha256 === part.sha256);
        if (part.recorded && !recorded) part.keptAt = at;
        part.recorded = recorded;
      }
      return standing;
    },
    async hold({ digest, tenant }) {
      if (!records.has(digest)) return false;
      holders.add(id(digest, tenant));
      return true;
    },
    record: async (digest) => recordOf(digest),
    async records({ cursor, limit }) {
      const all = [...records.keys()].sort().filter((digest) => digest > (cursor ?? ''));
      const items = all.slice(0, limit).map((digest) => ({ digest, record: recordOf(digest) as BlobRecord }));
      return { items, cursor: items.length === limit ? (items.at(-1)?.digest ?? null) : null };
    },
    holds: async (digest, tenant) =>
      holders.has(id(digest, tenant)) && records.get(digest)?.damaged === false,
    readBackAt: async (digest) => records.get(digest)?.readAt ?? null,
    async noteReadBack({ digest, at }) {
      const record = records.get(digest);
      if (record !== undefined) record.readAt = Math.max(record.readAt, at);
    },
    async markDamaged({ digest }) {
      const record = records.get(digest);
      if (record === undefined) return;
      record.damaged = true;
      const lost = new Set(record.parts.map(({ sha256 }) => sha256));
      for (const [key, parts] of sent)
        if (key.startsWith(`${digest} `))
          for (const [index, { sha256 }] of parts) if (lost.has(sha256)) parts.delete(index);
    },
    async mended({ digest, at }) {
      const record = records.get(digest);
      if (record === undefined) return false;
      record.damaged = false;
      record.readAt = Math.max(record.readAt, at);
      for (const part of partsOf(digest))
        part.recorded = record.parts.some(({ sha256 }) => sha256 === part.sha256);
      return true;
    },

    async unused({ touchedBefore, cursor, scan, limit }) {
      const all = [...files]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .filter(([digest]) => digest > (cursor ?? ''));
      const items: UnusedFile[] = [];
      for (const [digest, file] of all.slice(0, scan)) {
        if ((await inUse(digest)) || items.length === limit) continue;
        if (file.touchedAt >= touchedBefore && file.collectingAt === null) continue;
        const bytes = records.get(digest)?.bytes ?? sum(partsOf(digest));
        items.push({ digest, bytes, finished: records.has(digest), ...file });
      }
      const full = items.length === limit ? items.at(-1)?.digest : undefined;
      return { items, cursor: full ?? all[scan - 1]?.[0] ?? null };
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
    async beginDropping({ digest, touchedBefore, at }) {
      const file = files.get(digest);
      const good = file !== undefined && file.touchedAt < touchedBefore && file.collectingAt === null;
      if (!good || records.has(digest) || (await inUse(digest))) return false;
      file.collectingAt = at;
      forgetSenders(digest);
      return true;
    },
    storedParts: async (digest, limit) =>
      partsOf(digest)
        .map(({ sha256 }) => sha256)
        .sort()
        .slice(0, limit),
    async partsCollected(digest, sha256s) {
      for (const sha256 of sha256s) stored.delete(id(digest, sha256));
      for (const [key, parts] of sent) {
        if (!key.startsWith(`${digest} `) || holders.has(key)) continue;
        for (const [index, part] of parts) if (sha256s.includes(part.sha256)) parts.delete(index);
      }
    },
    async collected(digest) {
      if (files.get(digest)?.collectingAt == null) return;
      forgetSenders(digest);
      files.delete(digest);
    },
    surplus: async ({ keptBefore, limit }) =>
      [...stored.values()]
        .filter((part) => !part.recorded && part.keptAt < keptBefore)
        .sort((a, b) => a.keptAt - b.keptAt)
        .slice(0, limit)
        .map(({ digest, sha256, bytes }) => ({ digest, sha256, bytes })),
    async beginPart({ digest, sha256, keptBefore, at }) {
      const part = stored.get(id(digest, sha256));
      if (part === undefined || part.recorded || part.keptAt >= keptBefore) return false;
      part.collectingAt ??= at;
      return true;
    },
    async postpone({ digest, at }) {
      for (const part of partsOf(digest)) if (!part.recorded && part.collectingAt === null) part.keptAt = at;
    },
    position: async () => position,
    async setPosition(cursor) {
      position = cursor;
    },
  };
}
