/** What one page of a backup makes the edge hold: rows of D1's own. */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BACKUP_PAGE_BYTES } from '../../../protocol/admin-api/backup.ts';
import { createD1Backup } from '../../../worker/backup/d1-backup.ts';
import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';
import { openRealDatabase, startDatabases } from '../platform/real-database.ts';

const ROWS = 200;
const ROW_CHARACTERS = 100_000;

let databases: Miniflare;
beforeAll(() => {
  databases = startDatabases();
});
afterAll(() => databases.dispose());

/** @param heard characters of each answer. */
function measured(db: SqlDatabase, heard: (characters: number) => void): SqlDatabase {
  const wrap = (statement: SqlStatement): SqlStatement => {
    const all: SqlStatement['all'] = async <T>() => {
      const answer = await statement.all<T>();
      heard(JSON.stringify(answer.results).length);
      return answer;
    };
    return {
      bind: (...values) => wrap(statement.bind(...values)),
      ...{ all, run: all },
      first: async <T>() => (await all<T>()).results[0] ?? null,
    };
  };
  return { prepare: (sql) => wrap(db.prepare(sql)), batch: (statements) => db.batch(statements) };
}

it('reads no more of long rows than a page takes, and all of them page by page', async () => {
  const db = await openRealDatabase(databases);
  await db
    .prepare(
      `INSERT INTO evaluation_rows (name, label, first, secret, sealed)
       WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
       SELECT 'acme', 'label', i, 'secret', hex(zeroblob(?2 / 2)) FROM n`,
    )
    .bind(ROWS, ROW_CHARACTERS)
    .run();
  let most = 0;
  const backup = createD1Backup(
    measured(db, (characters) => (most = Math.max(most, characters))),
    db,
  );
  const seen: unknown[] = [];
  for (let cursor: string | null = null; ;) {
    const page = await backup.rows({ table: 'evaluation_rows', cursor });
    if (page === null) throw new Error('no such table');
    seen.push(...page.rows.map((row) => row[page.columns.indexOf('first')]));
    if (page.cursor === null) break;
    ({ cursor } = page);
  }
  expect(seen).toEqual(Array.from({ length: ROWS }, (_, i) => i + 1));
  expect(most).toBeLessThan(2 * BACKUP_PAGE_BYTES);
});
