/** No statement joins names with different first segments but those that are listed: there is room for more databases. */
import { describe, expect, it } from 'vitest';
import { createD1Stores } from '../../../worker/d1-stores.ts';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { ACROSS_SEGMENTS, segmentsJoined } from './across-segments.ts';
import { driveAll } from './drive-ledgers.ts';
import { recordStatements } from './recording-database.ts';
import { openSqlite } from './sqlite.ts';

const plain = (sql: string): string => sql.replaceAll(/\s+/g, ' ').trim();

async function planOf(db: SqlDatabase, sql: string, values: (string | number | null)[]): Promise<string[]> {
  const { results } = await db
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .bind(...values)
    .all<{ detail: string }>();
  return results.map(({ detail }) => detail);
}

it('joins names with different first segments only where there is a reason', async () => {
  const bare = openSqlite();
  const { db, asked } = recordStatements(bare);
  expect(await driveAll(createD1Stores(db), asked)).toEqual([]);
  const { results } = await bare.prepare('SELECT DISTINCT name FROM history').all<{ name: string }>();
  const known = new Set(results.map(({ name }) => name));
  const plans = new Map<string, string[]>();
  const used = new Set<(typeof ACROSS_SEGMENTS)[number]>();
  const unexplained = new Map<string, string[]>();
  for (const one of asked) {
    const sql = plain(one.sql);
    const plan = plans.get(sql) ?? (await planOf(bare, one.sql, one.values));
    plans.set(sql, plan);
    const joined = segmentsJoined({ ...one, sql }, plan, known);
    if (joined.length === 0) continue;
    const reasons = ACROSS_SEGMENTS.filter(({ of }) => of.test(sql));
    for (const reason of reasons) used.add(reason);
    if (reasons.length === 0) unexplained.set(sql, joined);
  }
  expect(Object.fromEntries(unexplained)).toEqual({});
  expect(ACROSS_SEGMENTS.filter((reason) => !used.has(reason))).toEqual([]);
  expect(plans.size).toBeGreaterThan(600);
});

describe('segmentsJoined', () => {
  const db = openSqlite();
  const known = new Set(['team', 'team/notes', 'you/notes']);
  const joined = async (sql: string, values: (string | number | null)[]): Promise<string[]> =>
    segmentsJoined({ sql, values }, await planOf(db, sql, values), known);

  it('lets statements about one name pass', async () => {
    const own =
      'SELECT * FROM names n JOIN versions v ON v.name = n.name AND v.version = n.version WHERE n.name = ?';
    expect(await joined(own, ['team'])).toEqual([]);
    expect(await joined('SELECT * FROM names WHERE owner = ?', ['me'])).toEqual([]);
  });

  it.each([
    ['SELECT * FROM names n JOIN names t ON t.name = n.alias WHERE n.name = ?', ['team']],
    ['SELECT * FROM names n JOIN versions v ON v.digest = ? WHERE n.name = ?', ['d', 'team']],
    ['SELECT * FROM names n JOIN versions v ON v.name = ? WHERE n.name = ?', ['team/notes', 'you/notes']],
    ['SELECT * FROM json_each(?) e JOIN names n ON n.name = e.value JOIN rooms r ON r.name = n.name', ['[]']],
    ['SELECT * FROM names n JOIN versions v ON v.name = n.name WHERE n.owner = ?', ['me']],
  ])('finds %s', async (sql, values) => {
    expect(await joined(sql, values)).not.toEqual([]);
  });
});
