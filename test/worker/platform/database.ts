/** The database of a test: SQLite in this process; Miniflare's D1 where `npm run check` says so. */
import type { Miniflare } from 'miniflare';
import { guardDatabase, type SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { bytesOf, openSqlite } from './sqlite.ts';

/** Set by vitest.check.config.ts. */
const ON_D1 = process.env.GRAFT_TEST_DATABASE === 'd1';

let miniflare: Miniflare | undefined;

/** @returns one with the schema of `migrations/` and no rows. On D1 there is one at a time: the last that was opened. */
export async function openDatabase(): Promise<SqlDatabase> {
  if (!ON_D1) return guarded(openSqlite());
  // Loads Miniflare.
  const { openRealDatabase, startDatabases } = await import('./real-database.ts');
  return openRealDatabase((miniflare ??= startDatabases()));
}

/** What is behind the guard. */
const bare = new WeakMap<SqlDatabase, SqlDatabase>();

function guarded(db: SqlDatabase): SqlDatabase {
  const guard = guardDatabase(db);
  bare.set(guard, db);
  return guard;
}

/** @returns what opens databases with the rows that this one has now; null on D1, which cannot be copied. */
export function copiesOf(db: SqlDatabase): (() => SqlDatabase) | null {
  const source = bare.get(db);
  if (source === undefined) return null;
  const bytes = bytesOf(source);
  return () => guarded(openSqlite(bytes));
}

export async function closeDatabases(): Promise<void> {
  await miniflare?.dispose();
  miniflare = undefined;
}
