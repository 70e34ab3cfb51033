import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';

export interface Asked {
  sql: string;
  values: (string | number | null)[];
  /** As D1 bills it. */
  rowsRead: number;
}

interface Answer {
  results: unknown[];
  meta?: { rows_read?: number };
}

/** Notes each statement that is run, and how many rows it read. */
export function recordStatements(db: SqlDatabase): { db: SqlDatabase; asked: Asked[] } {
  const asked: Asked[] = [];
  const inner = new WeakMap<
    SqlStatement,
    { statement: SqlStatement; sql: string; values: Asked['values'] }
  >();
  const note = (sql: string, values: Asked['values'], answer: Answer) =>
    asked.push({ sql, values, rowsRead: answer.meta?.rows_read ?? 0 });
  const wrap = (sql: string, statement: SqlStatement, values: Asked['values']): SqlStatement => {
    const all = async <T>() => {
      const answer = await statement.all<T>();
      note(sql, values, answer);
      return answer;
    };
    const recorded: SqlStatement = {
      bind: (...given) => wrap(sql, statement.bind(...given), given),
      all,
      first: async <T>() => (await all<T>()).results[0] ?? null,
      run: all,
    };
    inner.set(recorded, { statement, sql, values });
    return recorded;
  };
  return {
    asked,
    db: {
      prepare: (sql) => wrap(sql, db.prepare(sql), []),
      async batch(statements) {
        const known = statements.map((statement) => inner.get(statement));
        const answers = await db.batch(
          known.map((one, i) => one?.statement ?? (statements[i] as SqlStatement)),
        );
        for (const [i, answer] of answers.entries())
          note(known[i]?.sql ?? '', known[i]?.values ?? [], answer);
        return answers;
      },
    },
  };
}

/**
 * @returns the steps of SQLite's plan that go through a whole table or index of the database. What a query inside gives
 * is neither; how it comes by it is a step of its own.
 */
export async function scansOf(db: SqlDatabase, { sql, values }: Asked): Promise<string[]> {
  const { results } = await db
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .bind(...values)
    .all<{ detail: string }>();
  return results
    .map(({ detail }) => detail)
    .filter(
      (detail) =>
        detail.startsWith('SCAN') &&
        !/VIRTUAL TABLE|CONSTANT ROW|^SCAN (found|line|\(subquery-\d+\))$/.test(detail),
    );
}
