import { StoreUnavailable } from './ports.ts';

/** The part of D1 that graft uses; `D1Database` fits it. */
export interface SqlStatement {
  bind(...values: (string | number | null)[]): SqlStatement;
  first<T>(): Promise<T | null>;
  all<T>(): Promise<{ results: T[] }>;
  run(): Promise<unknown>;
}

export interface SqlDatabase {
  prepare(query: string): SqlStatement;
  /** One transaction: all or nothing. @returns what each statement gave, in order. */
  batch(statements: SqlStatement[]): Promise<{ results: unknown[] }[]>;
}

export const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Error && /UNIQUE constraint failed|SQLITE_CONSTRAINT/i.test(error.message);

/** @returns the least string above all that begin with `prefix`; names are ASCII. */
export const prefixEnd = (prefix: string): string => `${prefix}\u007f`;

/** Turns every failure but a violated key, which is an answer, into StoreUnavailable. */
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
