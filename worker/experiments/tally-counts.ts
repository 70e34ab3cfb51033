/** What a tally counts of answers beside their values, and of feedback that was refused. */
import type { EventMark, TallyCounts } from './ports.ts';

export type SqlValue = string | number | null;

/** The part of a Durable Object's SQLite that tallies use; `SqlStorage` fits it. */
export interface TallySql {
  exec(query: string, ...bindings: SqlValue[]): { toArray(): Record<string, unknown>[] };
}

export const NO_COUNTS: TallyCounts = { answers: 0, nameless: 0, namelessUnits: 0, cold: 0 };

/** A table of its own: objects from before get it when they next wake. */
export const COUNTS_SCHEMA = `
  CREATE TABLE IF NOT EXISTS tallied (
    seed TEXT, variant TEXT, what TEXT, n INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (seed, variant, what)) WITHOUT ROWID;
`;

/** Names of refused metrics that are kept of a seed; whoever sends more made-up ones is counted under this one. */
const MAX_REFUSED_NAMES = 20;
const OTHER = 'other';
/** Stands in the place of a variant; no variant's key is empty. */
const REFUSED = '';

type What = keyof TallyCounts;
interface Place {
  seed: string;
  variant: string;
}

const ASIDE = ['nameless', 'cold'] as const;

/** @returns what one answer, or one unit's first, adds. */
export function countsOf(marks: readonly EventMark[], isNewUnit: boolean): What[] {
  const answered: What[] = marks.includes('answered')
    ? ['answers', ...ASIDE.filter((mark) => marks.includes(mark))]
    : [];
  return isNewUnit && marks.includes('nameless') ? [...answered, 'namelessUnits'] : answered;
}

export function createTallyCounts(sql: TallySql) {
  const add = (place: Place, what: string, n: number, at: number): void =>
    void sql.exec(
      `INSERT INTO tallied (seed, variant, what, n, at) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (seed, variant, what) DO UPDATE SET n = n + excluded.n, at = MAX(at, excluded.at)`,
      ...[place.seed, place.variant, what, n, at],
    );
  const refusedNames = (seed: string): string[] =>
    sql
      .exec('SELECT what FROM tallied WHERE seed = ? AND variant = ?', seed, REFUSED)
      .toArray()
      .map(({ what }) => String(what));

  return {
    /** Gathers what a batch adds: one write a variant and count. */
    open(at: number) {
      const sums = new Map<string, { place: Place; what: What; n: number }>();
      return {
        count({ seed, variant }: Place, counted: readonly What[]): void {
          for (const what of counted) {
            const key = JSON.stringify([seed, variant, what]);
            const sum = sums.get(key) ?? { place: { seed, variant }, what, n: 0 };
            sums.set(key, { ...sum, n: sum.n + 1 });
          }
        },
        write(): void {
          for (const { place, what, n } of sums.values()) add(place, what, n, at);
        },
      };
    },

    refuse({ seed, metric, at }: { seed: string; metric: string; at: number }): void {
      const known = refusedNames(seed);
      const what = known.includes(metric) || known.length < MAX_REFUSED_NAMES ? metric : OTHER;
      add({ seed, variant: REFUSED }, what, 1, at);
    },

    of(seed: string): {
      counts: Record<string, TallyCounts>;
      refused: Record<string, { n: number; at: number }>;
    } {
      const counts: Record<string, TallyCounts> = {};
      const refused: Record<string, { n: number; at: number }> = {};
      const rows = sql.exec('SELECT variant, what, n, at FROM tallied WHERE seed = ?', seed).toArray();
      // The rows are those of this file's own statements.
      for (const { variant, what, n, at } of rows as {
        variant: string;
        what: string;
        n: number;
        at: number;
      }[])
        if (variant === REFUSED) refused[what] = { n, at };
        else counts[variant] = { ...(counts[variant] ?? NO_COUNTS), [what]: n };
      return { counts, refused };
    },
  };
}
