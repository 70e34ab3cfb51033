/** What the rest of the tests take for granted of D1, so that SQLite in their process is no kinder. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { openDatabase } from './database.ts';

let db: SqlDatabase;
const ask = async (sql: string, ...values: unknown[]) =>
  (
    await db
      .prepare(sql)
      .bind(...(values as string[]))
      .all()
  ).results;
const pin = (name: string) => db.prepare(`INSERT INTO pins (name, at, actor) VALUES ('${name}', 1, 'x')`);

beforeEach(async () => {
  db = await openDatabase();
});

describe('the database', () => {
  it('binds numbers as reals, which columns of integers make integers again', async () => {
    expect(await ask("SELECT ?1 || '' AS text, typeof(?1) AS type, ?1 / 2 AS half", 5)).toEqual([
      { text: '5.0', type: 'real', half: 2.5 },
    ]);
    await ask("INSERT INTO pins (name, at, actor) VALUES ('a', ?, 'x')", 5);
    expect(await ask("SELECT at || '' AS at FROM pins WHERE at = ? LIMIT ?", 5, 1)).toEqual([{ at: '5' }]);
  });

  it('finds what is bound in places by their number, and none in a text', async () => {
    expect(await ask(`SELECT ?2 AS b, ?1 AS a, '?3' AS "c?"`, 'one', null)).toEqual([
      { b: null, a: 'one', 'c?': '?3' },
    ]);
  });

  it('carries a batch out as one: all of it or nothing', async () => {
    await expect(db.batch([pin('a'), pin('b'), pin('a')])).rejects.toThrow(/UNIQUE constraint failed/);
    expect(await ask('SELECT name FROM pins')).toEqual([]);
    const answers = await db.batch([pin('a'), db.prepare('SELECT name FROM pins'), pin('b')]);
    expect(answers.map(({ results }) => results)).toEqual([[], [{ name: 'a' }], []]);
    await expect(db.batch([])).rejects.toThrow();
  });

  it('has a first row or null', async () => {
    expect(await db.prepare('SELECT 1 AS n UNION SELECT 2').first()).toEqual({ n: 1 });
    expect(await db.prepare('SELECT 1 WHERE 0').first()).toBeNull();
  });

  it.each([
    ['more than 100 values', `SELECT ${Array(101).fill('?').join()}`, Array(101).fill(1)],
    ['a long statement', `SELECT '${'x'.repeat(100_000)}'`, []],
    ['too few values', 'SELECT ?1, ?2', ['a']],
    ['too many values', 'SELECT ?', ['a', 'b']],
    ['no value', 'SELECT ?', [undefined]],
    ['an unknown column', 'SELECT nope FROM pins', []],
    ['a row without what it must have', 'INSERT INTO pins (name) VALUES (NULL)', []],
  ])('refuses %s', async (_, sql, values) => {
    await expect((async () => ask(sql, ...values))()).rejects.toThrow();
  });
});
