/** Origins in D1: their load over time, pins, and names of the files that they hold. */
import type { SqlDatabase } from '../platform/d1-database.ts';
import type { OriginHistoryLedger, OriginMinute, PinLedger, PinRow, FileNames } from './ports.ts';
import type { NamedFile } from '../../protocol/admin-api/origins.ts';

/** Columns and their names elsewhere. */
const FIGURES = {
  rows_running: 'rowsRunning',
  requests_waiting: 'requestsWaiting',
  slots: 'slots',
  adapters_resident: 'adaptersResident',
  adapter_bytes: 'adapterBytes',
  memory_bytes: 'memoryBytes',
} as const satisfies Record<string, keyof OriginMinute>;
type Column = keyof typeof FIGURES;
const COLUMNS = Object.keys(FIGURES) as Column[];

const NOTE = `INSERT INTO origin_minutes (at, origin, ${COLUMNS.join(', ')})
  SELECT value ->> 0, value ->> 1, ${COLUMNS.map((_, i) => `value ->> ${i + 2}`).join(', ')}
  FROM json_each(?) WHERE true
  ON CONFLICT DO UPDATE SET ${COLUMNS.map((column) => `${column} = excluded.${column}`).join(', ')}`;

const READ = `SELECT at / CAST(? AS INTEGER) * CAST(? AS INTEGER) AS begins,
    ${COLUMNS.map((column) => `MAX(${column}) AS ${column}`).join(', ')}
  FROM origin_minutes WHERE at IN (SELECT value FROM json_each(?)) AND origin = ?
  GROUP BY begins ORDER BY begins`;

const MINUTE_S = 60;

export const createD1OriginHistory = (db: SqlDatabase): OriginHistoryLedger => ({
  async note(minutes) {
    const rows = minutes.map((minute) => [
      minute.at,
      minute.origin,
      ...COLUMNS.map((column) => minute[FIGURES[column]]),
    ]);
    await db.prepare(NOTE).bind(JSON.stringify(rows)).run();
  },
  async read({ origin, from, to, step }) {
    const times = Array.from({ length: Math.ceil((to - from) / MINUTE_S) }, (_, i) => from + i * MINUTE_S);
    const { results } = await db
      .prepare(READ)
      .bind(step, step, JSON.stringify(times), origin)
      .all<Record<Column | 'begins', number>>();
    return results.map((row) => ({
      ...{ origin, at: row.begins, rowsRunning: row.rows_running, requestsWaiting: row.requests_waiting },
      ...{ slots: row.slots, adaptersResident: row.adapters_resident },
      ...{ adapterBytes: row.adapter_bytes, memoryBytes: row.memory_bytes },
    }));
  },
  async forget(before) {
    await db.prepare('DELETE FROM origin_minutes WHERE at < ?').bind(before).run();
  },
});

export function createD1Pins(db: SqlDatabase): PinLedger {
  return {
    async add({ name, at, actor }, max) {
      await db
        .prepare(
          `INSERT INTO pins (name, at, actor) SELECT ?, ?, ? WHERE (SELECT COUNT(*) FROM pins) < ?
           ON CONFLICT DO NOTHING`,
        )
        .bind(name, at, actor, max)
        .run();
      return (await db.prepare('SELECT name FROM pins WHERE name = ?').bind(name).first()) !== null;
    },
    async remove(name) {
      const { results } = await db.prepare('DELETE FROM pins WHERE name = ? RETURNING name').bind(name).all();
      return results.length > 0;
    },
    async list() {
      return (await db.prepare('SELECT name, at, actor FROM pins ORDER BY name').all<PinRow>()).results;
    },
  };
}

export const createD1FileNames = (db: SqlDatabase): FileNames => ({
  async of(digests, limit) {
    const { results } = await db
      .prepare(
        `SELECT m.digest, v.name, v.version, v.owner
         FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
         WHERE m.digest IN (SELECT value FROM json_each(?)) AND m.below = 0 AND v.removed_at IS NULL
         ORDER BY m.digest, m.name, m.version DESC LIMIT ?`,
      )
      .bind(JSON.stringify(digests), limit)
      .all<NamedFile>();
    return results;
  },
});
