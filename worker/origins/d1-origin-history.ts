import type { SqlDatabase } from '../platform/d1-database.ts';
import type { OriginHistoryLedger, OriginMinute } from './ports.ts';

/** Columns, and what they are called elsewhere. */
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
