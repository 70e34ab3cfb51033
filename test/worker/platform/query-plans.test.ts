/** What a publication asks the database, and how SQLite answers: by an index each time, however many names a file has. */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';
import { createD1Garbage } from '../../../worker/blobs/d1-blob-ledger.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { openRealDatabase, startDatabases } from './real-database.ts';

let miniflare: Miniflare;
let db: SqlDatabase;
/** Queries by their text, with values that they were asked with. */
const asked = new Map<string, (string | number | null)[]>();
beforeAll(async () => {
  miniflare = startDatabases();
  db = await openRealDatabase(miniflare);
});
afterAll(() => miniflare.dispose());

const spy = (real: SqlDatabase): SqlDatabase => ({
  ...real,
  prepare(query) {
    asked.set(query, []);
    const statement = real.prepare(query);
    const bind: SqlStatement['bind'] = (...values) => {
      asked.set(query, values);
      return statement.bind(...values);
    };
    return Object.assign(Object.create(statement) as SqlStatement, { bind });
  },
});

/** Tables that grow with the files and versions of all tenants. */
const GROWS = /\b(versions|chain_members|history|blobs|blob_parts|blob_holders|stored_files|stored_parts)\b/;

/** Steps over few rows, whatever the registry holds. */
const BOUNDED: readonly [query: RegExp, step: RegExp][] = [
  // Of the chain that a version stands on: at most eight members.
  [/json_each\(\?\) below/, /TEMP B-TREE FOR GROUP BY/],
  // Of one name's experiments.
  [/FROM experiments x WHERE x.name = n.name/, /TEMP B-TREE FOR ORDER BY/],
  // Of what stands on what is removed, each found by an index.
  [/FROM versions s WHERE \(s.name, s.version\) IN/, /TEMP B-TREE FOR ORDER BY/],
  [/^INSERT INTO stale_pointers .* FROM \(\s+SELECT value/s, /SCAN \(subquery/],
  // Of the rows that the query inside was limited to.
  [/FROM \(SELECT \* FROM stored_files WHERE digest > \? ORDER BY digest LIMIT \?\)/, /SCAN stored_files/],
];

/** Steps of a plan that look at a whole table, or sort. Lists in a value (`json_each`) are no tables. */
async function slowSteps(query: string): Promise<string[]> {
  const { results } = await db
    .prepare(`EXPLAIN QUERY PLAN ${query}`)
    .bind(...(asked.get(query) ?? []))
    .all<{ detail: string }>();
  return results
    .map(({ detail }) => detail)
    .filter((detail) => /^SCAN|TEMP B-TREE/.test(detail) && !/VIRTUAL TABLE|CONSTANT ROW/.test(detail))
    .filter((detail) => !BOUNDED.some(([of, step]) => of.test(query) && step.test(detail)));
}

/** A version, and a name with all that stands on it; and back. */
async function withdrawAndRestore(graft: AppHarness): Promise<void> {
  const post = async (path: string, body: object) => {
    const answer = await graft.request(`/admin/${path}`, { body });
    expect([path, answer.status, await answer.text()]).toEqual([path, 200, expect.any(String)]);
  };
  await post('alias', { name: 'short', target: 'a' });
  for (const body of [
    { name: 'c', version: 1 },
    { name: 'a', cascade: true },
  ]) {
    await post('remove', body);
    await post('restore', body);
  }
}

it('takes no longer for the thousandth name of a file than for the first', async () => {
  const spied = spy(db);
  const registry = createD1Registry(spied);
  const graft = await createAppHarness({ db: spied });
  const adapter = tinyAdapter({ seed: 1 });
  for (const name of ['a', 'a/b', 'c']) expect((await graft.publish(name, adapter)).status).toBe(201);
  expect((await graft.publish('c', tinyAdapter({ seed: 2 }))).status).toBe(201);
  expect((await graft.request(`/admin/versions?digest=${adapter.digest}`)).status).toBe(200);
  await withdrawAndRestore(graft);
  // What the schedule asks each minute.
  expect(await registry.forgetRemoved({ before: 1, limit: 9 })).toBe(0);
  const garbage = createD1Garbage(spied);
  await garbage.surplus({ keptBefore: 1, limit: 9 });
  await garbage.unused({ touchedBefore: 1, cursor: null, scan: 500, limit: 9 });
  expect(asked.size).toBeGreaterThan(15);
  const slow = await Promise.all(
    [...asked.keys()]
      .filter((query) => GROWS.test(query))
      .map(async (query) => [query, await slowSteps(query)] as const),
  );
  expect(slow.filter(([, steps]) => steps.length > 0)).toEqual([]);
});
