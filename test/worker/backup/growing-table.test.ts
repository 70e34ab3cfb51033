/** A backup of a table that grows while it is read. */
import { expect, it } from 'vitest';
import { createD1Backup } from '../../../worker/backup/d1-backup.ts';
import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';
import { openDatabase } from '../platform/database.ts';

const insert = (db: SqlDatabase, name: string): Promise<unknown> =>
  db.prepare("INSERT INTO pins (name, at, actor) VALUES (?, 1, 'key_1')").bind(name).run();

/** @param meanwhile called after each statement that reads. */
function interrupted(db: SqlDatabase, meanwhile: () => Promise<unknown>): SqlDatabase {
  const wrap = (statement: SqlStatement): SqlStatement => {
    const all: SqlStatement['all'] = async <T>() => {
      const answer = await statement.all<T>();
      await meanwhile();
      return answer;
    };
    return {
      bind: (...values) => wrap(statement.bind(...values)),
      all,
      run: all,
      first: async <T>() => (await all<T>()).results[0] ?? null,
    };
  };
  return { prepare: (sql) => wrap(db.prepare(sql)), batch: (statements) => db.batch(statements) };
}

it('has each row that was there at its beginning', async () => {
  const db = await openDatabase();
  for (const name of ['m', 'n', 'z']) await insert(db, name);
  let added = 0;
  const backup = createD1Backup(
    interrupted(db, () => insert(db, `a${(added += 1)}`)),
    db,
  );
  const seen: unknown[] = [];
  for (let cursor: string | null = null; ;) {
    const page = await backup.rows({ table: 'pins', cursor });
    if (page === null) throw new Error('no such table');
    seen.push(...page.rows.map((row) => row[page.columns.indexOf('name')]));
    if (page.cursor === null) break;
    ({ cursor } = page);
  }
  expect(added).toBeGreaterThan(2);
  expect(seen).toEqual(expect.arrayContaining(['m', 'n', 'z']));
});
