import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Miniflare } from 'miniflare';
import { splitSql } from '../../../cli/local/edge.ts';
import { MIGRATIONS, migrationFiles } from '../../../cli/local/schema.ts';
import { guardDatabase, type SqlDatabase } from '../../../worker/platform/d1-database.ts';

/** Tables of each Miniflare's database, once it has the schema. */
const tables = new WeakMap<Miniflare, string[]>();

/** @returns a Miniflare that has nothing but the binding `DB`; the caller disposes of it. */
export const startDatabases = (): Miniflare =>
  new Miniflare({
    modules: true,
    script: 'export default {}',
    d1Databases: ['DB'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });

/** @returns Miniflare's binding `DB`, emptied, with the schema of `migrations/`. */
export async function openRealDatabase(miniflare: Miniflare): Promise<SqlDatabase> {
  const db = (await miniflare.getD1Database('DB')) as unknown as SqlDatabase;
  const known = tables.get(miniflare);
  if (known === undefined) tables.set(miniflare, await createSchema(db));
  else await db.batch(known.map((name) => db.prepare(`DELETE FROM "${name}"`)));
  return guardDatabase(db);
}

/** Applies the migrations in their order. */
export async function migrate(db: SqlDatabase): Promise<void> {
  const statements: string[] = [];
  for (const file of await migrationFiles())
    statements.push(...splitSql(await readFile(path.join(MIGRATIONS, file), 'utf8')));
  await db.batch(statements.map((statement) => db.prepare(statement)));
}

async function createSchema(db: SqlDatabase): Promise<string[]> {
  await migrate(db);
  const { results } = await db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'")
    .all<{ name: string }>();
  return results.map(({ name }) => name);
}
