import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';

/** @returns the same database, each call of which goes through `call`; a batch is one. */
export function throughDatabase(
  db: SqlDatabase,
  call: <T>(work: () => Promise<T>) => Promise<T>,
): SqlDatabase {
  const inner = new WeakMap<SqlStatement, SqlStatement>();
  const wrap = (statement: SqlStatement): SqlStatement => {
    const wrapped: SqlStatement = {
      bind: (...values) => wrap(statement.bind(...values)),
      first: () => call(() => statement.first()),
      all: () => call(() => statement.all()),
      run: () => call(() => statement.run()),
    };
    inner.set(wrapped, statement);
    return wrapped;
  };
  return {
    prepare: (sql) => wrap(db.prepare(sql)),
    batch: (statements) => call(() => db.batch(statements.map((one) => inner.get(one) ?? one))),
  };
}
