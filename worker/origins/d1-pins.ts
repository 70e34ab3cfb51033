import type { SqlDatabase } from '../platform/d1-database.ts';
import type { PinLedger, PinRow } from './ports.ts';

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
