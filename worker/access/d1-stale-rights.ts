/** Keys and grants whose latest change KV does not have yet. */
import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';

/** How a record is stored: with the hash of a key, or the tenant whose grants they are. */
const KEY = 'key:';
const GRANTS = 'grants:';

/**
 * Notes API keys; a condition follows. Every change of a key does so in its own transaction, because its
 * request may end before KV is written. Admin keys are never in KV.
 */
export const NOTE_KEYS = `INSERT OR REPLACE INTO stale_rights (record)
  SELECT '${KEY}' || hash FROM keys WHERE kind = 'api' AND`;
/** Notes the grants of a tenant; `grants` or `grant_refusals` and a condition follow. */
export const NOTE_GRANTS = `INSERT OR REPLACE INTO stale_rights (record) SELECT '${GRANTS}' || tenant FROM`;

/** @returns the statement that reads what {@link changeOf} returns. */
export const readChange = (db: SqlDatabase, of: { key: string } | { grants: string }): SqlStatement =>
  db
    .prepare('SELECT change FROM stale_rights WHERE record = ?')
    .bind('key' in of ? KEY + of.key : GRANTS + of.grants);

/** @returns the record's change that KV does not have; null = it has all of them. */
export const changeOf = (answer: { results: unknown[] } | undefined): number | null =>
  (answer?.results[0] as { change: number } | undefined)?.change ?? null;

/** A key by its hash, or the grants of a tenant or of everybody. */
export type StaleRight = { change: number } & ({ key: string } | { grants: string });

export function createD1StaleRights(db: SqlDatabase) {
  return {
    /** Oldest first. */
    async list(limit: number): Promise<StaleRight[]> {
      const { results } = await db
        .prepare('SELECT change, record FROM stale_rights ORDER BY change LIMIT ?')
        .bind(limit)
        .all<{ change: number; record: string }>();
      return results.map(({ change, record }) =>
        record.startsWith(KEY)
          ? { change, key: record.slice(KEY.length) }
          : { change, grants: record.slice(GRANTS.length) },
      );
    },
    /** KV has this change; a record that has changed since remains noted, by another number. */
    async written(change: number): Promise<void> {
      await db.prepare('DELETE FROM stale_rights WHERE change = ?').bind(change).run();
    },
  };
}

/** Throws StoreUnavailable. */
export type StaleRights = ReturnType<typeof createD1StaleRights>;
