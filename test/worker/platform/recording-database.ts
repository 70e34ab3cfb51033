import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';

export interface Asked {
  sql: string;
  values: (string | number | null)[];
  /** As D1 bills it. */
  rowsRead: number;
  rowsWritten: number;
}

interface Answer {
  results: unknown[];
  meta?: { rows_read?: number; rows_written?: number };
}

/** Notes each statement that is run, and how many rows it read; one that fails is noted too, with none. */
export function recordStatements(db: SqlDatabase): { db: SqlDatabase; asked: Asked[] } {
  const asked: Asked[] = [];
  const inner = new WeakMap<
    SqlStatement,
    { statement: SqlStatement; sql: string; values: Asked['values'] }
  >();
  const note = (sql: string, values: Asked['values'], answer: Answer) =>
    asked.push({
      ...{ sql, values, rowsRead: answer.meta?.rows_read ?? 0 },
      rowsWritten: answer.meta?.rows_written ?? 0,
    });
  async function noted<T>(
    answer: Promise<T>,
    of: readonly (Pick<Asked, 'sql' | 'values'> | undefined)[],
  ): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      for (const one of of) note(one?.sql ?? '', one?.values ?? [], { results: [] });
      throw error;
    }
  }
  const wrap = (sql: string, statement: SqlStatement, values: Asked['values']): SqlStatement => {
    const all = async <T>() => {
      const answer = await noted(statement.all<T>(), [{ sql, values }]);
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
        const batch = known.map((one, i) => one?.statement ?? (statements[i] as SqlStatement));
        const answers = await noted(db.batch(batch), known);
        for (const [i, answer] of answers.entries())
          note(known[i]?.sql ?? '', known[i]?.values ?? [], answer);
        return answers;
      },
    },
  };
}

/** A step of a plan that makes the rows of a query inside, and what they are called. */
const INSIDE = /^(?:MATERIALIZE|CO-ROUTINE) (.+)$/;
/** D1 takes so many statements in one request without trouble. */
const EXPLAINED_AT_ONCE = 60;

/**
 * @returns of each statement, in order, the steps of SQLite's plan that go through a whole table or index of the
 * database, or sort. What a query inside gives is no table; how it comes by it is a step of its own.
 */
export async function slowStepsOf(
  db: SqlDatabase,
  asked: readonly Pick<Asked, 'sql' | 'values'>[],
): Promise<string[][]> {
  const plans: { results: unknown[] }[] = [];
  for (let from = 0; from < asked.length; from += EXPLAINED_AT_ONCE)
    plans.push(
      ...(await db.batch(
        asked
          .slice(from, from + EXPLAINED_AT_ONCE)
          .map(({ sql, values }) => db.prepare(`EXPLAIN QUERY PLAN ${sql}`).bind(...values)),
      )),
    );
  return plans.map(({ results }) => slowSteps((results as { detail: string }[]).map(({ detail }) => detail)));
}

function slowSteps(steps: readonly string[]): string[] {
  const inside = new Set(steps.map((step) => INSIDE.exec(step)?.[1]));
  return steps.filter((step) => {
    const scanned = /^SCAN (\S+)/.exec(step)?.[1];
    if (scanned === undefined) return step.includes('TEMP B-TREE');
    return !inside.has(scanned) && !/VIRTUAL TABLE|CONSTANT ROW/.test(step);
  });
}

/** @returns those that do not sort. */
export const scansOf = async (db: SqlDatabase, asked: Asked): Promise<string[]> =>
  (await slowStepsOf(db, [asked])).flat().filter((step) => step.startsWith('SCAN'));
