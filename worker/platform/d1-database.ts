import { StoreUnavailable, DamagedRow, type DamagedPlace } from './ports.ts';
import type { z } from 'zod';
import { logLine } from '../log.ts';

/** The part of D1's interface that graft uses; `D1Database` implements it. */
export interface SqlStatement {
  bind(...values: (string | number | null)[]): SqlStatement;
  first<T>(): Promise<T | null>;
  all<T>(): Promise<{ results: T[] }>;
  run(): Promise<unknown>;
}

export interface SqlDatabase {
  prepare(query: string): SqlStatement;
  /** One transaction: all or nothing. @returns each statement's result, in order. */
  batch(statements: SqlStatement[]): Promise<{ results: unknown[] }[]>;
}

export const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Error && /UNIQUE constraint failed|SQLITE_CONSTRAINT/i.test(error.message);

/** @returns whether a statement's `RETURNING` produced a row. */
export const gaveRow = (answer: { results: unknown[] } | undefined): boolean =>
  (answer?.results.length ?? 0) > 0;

/** @returns the smallest string above all that begin with `prefix`; names are ASCII. */
export const prefixEnd = (prefix: string): string => `${prefix}\u007f`;

/**
 * The place in a list by time that a cursor `<time>-<id>` names. It is no row, which may be gone by the next page.
 * @returns values for `(created_at, id) < (?, ?)`; null = at the beginning.
 */
export function placeOf(cursor: string | null): [time: number, id: string] | null {
  if (cursor === null) return null;
  const [time = '', ...id] = cursor.split('-');
  return [Number(time) || 0, id.join('-')];
}

/**
 * The key with this id may still act: it has a row that is not revoked. The row of a revoked key goes with its
 * tenant's erasure, so a missing one says the same. Others that act, such as the bootstrap key, have no such id.
 * @param id an expression of SQL.
 */
export const mayAct = (id: string): string =>
  `(${id} NOT GLOB 'key_*' OR EXISTS (SELECT 1 FROM keys actor WHERE actor.id = ${id} AND actor.revoked_at IS NULL))`;

/** Turns every failure except a violated key, which is an answer, into StoreUnavailable. */
export function guardDatabase(db: SqlDatabase): SqlDatabase {
  const guard = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await answer;
    } catch (error) {
      throw isUniqueViolation(error) ? error : new StoreUnavailable('D1', error);
    }
  };
  const inner = new WeakMap<SqlStatement, SqlStatement>();
  const wrap = (statement: SqlStatement): SqlStatement => {
    const guarded: SqlStatement = {
      bind: (...values) => wrap(statement.bind(...values)),
      first: () => guard(statement.first()),
      all: () => guard(statement.all()),
      run: () => guard(statement.run()),
    };
    inner.set(guarded, statement);
    return guarded;
  };
  return {
    prepare: (query) => wrap(db.prepare(query)),
    batch: (statements) => guard(db.batch(statements.map((statement) => inner.get(statement) ?? statement))),
  };
}

/** @throws DamagedRow when the text is not JSON, or not the column's content. */
export function readColumn<T>(schema: z.ZodType<T>, text: string, place: DamagedPlace): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new DamagedRow(place);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new DamagedRow(place);
  return parsed.data;
}

/** @returns the readable entries of a list; the rest is left out and logged. */
export function readable<R, T>(records: readonly R[], read: (record: R) => T): T[] {
  return records.flatMap((record) => {
    try {
      return [read(record)];
    } catch (error) {
      if (!(error instanceof DamagedRow)) throw error;
      logLine('row_damaged', { ...error.place });
      return [];
    }
  });
}

/** Size of one value in a statement, bytes. D1 takes 2,000,000, and a minute of many tenants is several times that. */
const MAX_VALUE_BYTES = 1_000_000;

/** Packs the items in order into JSON arrays small enough for D1. */
export function jsonLists(items: readonly unknown[]): string[] {
  const encoder = new TextEncoder();
  const lists: string[][] = [];
  let bytes = Infinity;
  for (const item of items) {
    const json = JSON.stringify(item);
    const more = encoder.encode(json).length + 1;
    if (bytes + more > MAX_VALUE_BYTES) {
      lists.push([]);
      bytes = 0;
    }
    lists.at(-1)?.push(json);
    bytes += more;
  }
  return lists.map((list) => `[${list.join(',')}]`);
}
