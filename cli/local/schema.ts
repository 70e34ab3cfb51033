/** The schema of a database, and the one that this version of graft needs. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { CliError, EXIT } from '../cli-error.ts';
import { ROOT } from './origin-process.ts';

export const MIGRATIONS = path.join(ROOT, 'migrations');
/** One row, one column: `hash`. */
export const SCHEMA_QUERY = 'SELECT hash FROM schema_hash';

const STATEMENT = /INSERT INTO schema_hash VALUES \('([0-9a-f]{64})'\);/;

/** Names of the migrations, in their order. */
export const migrationFiles = async (): Promise<string[]> =>
  (await readdir(MIGRATIONS)).filter((file) => file.endsWith('.sql')).sort();

/** The hash that a database has once `migrations/` is applied. */
export async function neededSchema(): Promise<string> {
  const first = await readFile(path.join(MIGRATIONS, '0001_schema.sql'), 'utf8');
  return STATEMENT.exec(first)![1]!;
}

/**
 * @param found null = the database has tables, but no hash. @param afresh the command that starts with an empty
 * one.
 */
export const otherSchema = (params: {
  where: string;
  found: string | null;
  needed: string;
  afresh: string;
}): CliError =>
  new CliError({
    message:
      `${params.where} was created by another version of graft: its schema is ${short(params.found)}, ` +
      `this version needs ${short(params.needed)}. Nothing was changed. Use the version that created it, ` +
      `or start with an empty one: ${params.afresh}`,
    exitCode: EXIT.refused,
    code: 'other_schema',
  });

const short = (hash: string | null): string => (hash === null ? 'unknown' : hash.slice(0, 8));
