import { USAGE_TABLES } from '../../../worker/backup/d1-backup.ts';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';

/** Of each, drops the tables that lie in the other, so that a statement which names one of them fails. */
export async function splitDatabases(db: SqlDatabase, usageDb: SqlDatabase): Promise<void> {
  const { results } = await db
    .prepare(
      `SELECT name FROM sqlite_master WHERE type = 'table'
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf%' ESCAPE '\\'`,
    )
    .all<{ name: string }>();
  const names = results.map(({ name }) => name).filter((name) => !/^(schema_hash|d1_migrations)$/.test(name));
  const drop = (from: SqlDatabase, isThere: (name: string) => boolean) =>
    from.batch(names.filter(isThere).map((name) => from.prepare(`DROP TABLE "${name}"`)));
  await drop(db, (name) => USAGE_TABLES.includes(name));
  await drop(usageDb, (name) => !USAGE_TABLES.includes(name));
}
