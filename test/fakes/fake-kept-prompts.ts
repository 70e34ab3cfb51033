import type { KeyLedger } from '../../worker/access/ports.ts';
import { MAX_KEPT_BYTES, MAX_KEPT_PROMPTS } from '../../worker/prompts/limits.ts';
import type { KeptPrompts, PromptRow } from '../../worker/prompts/ports.ts';

const HOUR_MS = 3_600_000;
type Reading = Parameters<KeptPrompts['noteReading']>[0];

/** Rows in memory. */
export function createFakeKeptPrompts(
  keys: Pick<KeyLedger, 'get' | 'change'>,
): KeptPrompts & { readings: Reading[] } {
  let rows: (PromptRow & { expiresAt: number })[] = [];
  const readings: Reading[] = [];
  return {
    readings,
    async add(more) {
      for (const row of more) {
        const key = await keys.get(row.keyId);
        const isThere = rows.some(({ tenant, at, id }) =>
          [tenant === row.tenant, at === row.at, id === row.id].every(Boolean),
        );
        if (isThere || key === null || key.tenant !== row.tenant || key.keepPrompts === null) continue;
        rows.push({ ...row, expiresAt: row.at + HOUR_MS * key.keepPrompts });
      }
      rows.sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1));
      const kept = new Map<string, { rows: number; bytes: number }>();
      rows = rows.filter(({ tenant, sealed }) => {
        const before = kept.get(tenant) ?? { rows: 0, bytes: 0 };
        const after = { rows: before.rows + 1, bytes: before.bytes + sealed.length };
        kept.set(tenant, after);
        return after.rows <= MAX_KEPT_PROMPTS && after.bytes <= MAX_KEPT_BYTES;
      });
    },
    read: async ({ tenant, id, at, now }) =>
      rows.find(
        (row) =>
          row.tenant === tenant && row.id === id && (at === null || row.at === at) && row.expiresAt > now,
      ) ?? null,
    async noteReading(reading) {
      readings.push(reading);
    },
    async limit({ tenant, keyIds, hours }) {
      const isMeant = (row: PromptRow) => row.tenant === tenant && keyIds.includes(row.keyId);
      if (hours === null) {
        rows = rows.filter((row) => !isMeant(row));
        for (const id of keyIds) {
          const key = await keys.get(id);
          if (key !== null) await keys.change({ ...key, keepPrompts: null }, key);
        }
        return;
      }
      for (const row of rows)
        if (isMeant(row)) row.expiresAt = Math.min(row.expiresAt, row.at + HOUR_MS * hours);
    },
    async tend(now) {
      rows = rows.filter(({ expiresAt }) => expiresAt > now);
    },
  };
}
