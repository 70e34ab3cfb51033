import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import type { Registry } from './ports.ts';
import type { StalePointer } from './ports-rooms.ts';

/**
 * Id of the change whose transaction this stands in. The newest row of history is never deleted, so that no two changes
 * have the same.
 */
export const THIS_CHANGE = '(SELECT MAX(id) FROM history)';

/** Notes that KV is to be told of a name; stands behind the change's row of history. @param at unix ms. */
export const notePointer = (db: SqlDatabase, name: string, at: number): SqlStatement =>
  db
    .prepare(
      `INSERT INTO stale_pointers (name, since, change) VALUES (?, ?, ${THIS_CHANGE})
       ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change`,
    )
    .bind(name, at);

export function createD1StalePointers(db: SqlDatabase): Pick<Registry, 'stalePointers' | 'pointersWritten'> {
  return {
    async stalePointers({ limit, newest }) {
      const { results } = await db
        .prepare(
          newest
            ? 'SELECT name, since, change FROM stale_pointers ORDER BY since DESC, name DESC LIMIT ?'
            : 'SELECT name, since, change FROM stale_pointers ORDER BY since, name LIMIT ?',
        )
        .bind(limit)
        .all<StalePointer>();
      return results;
    },

    async pointersWritten(pointers) {
      if (pointers.length === 0) return;
      await db
        .prepare(
          `DELETE FROM stale_pointers WHERE (name, change) IN (
             SELECT json_extract(value, '$.name'), json_extract(value, '$.change') FROM json_each(?))`,
        )
        .bind(JSON.stringify(pointers))
        .run();
    },
  };
}
