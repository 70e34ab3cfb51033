/** What is counted by the dimension that an experiment is told by: sums a segment, variant and metric. */
import { z } from 'zod';
import { MAX_SEGMENTS_HELD } from './limits.ts';
import { OTHER_SEGMENT } from './segments.ts';
import { addValue, NO_MOMENTS, replaceValue, type Moments } from './statistics/moments.ts';
import type { TallySql } from './tally-counts.ts';

/** A table of its own: objects from before get it when they next wake. Under metric '' units are counted, in `n`. */
export const SEGMENT_SCHEMA = `
  CREATE TABLE IF NOT EXISTS segments (
    seed TEXT, segment TEXT, variant TEXT, metric TEXT, n INTEGER NOT NULL, sum REAL NOT NULL,
    sum_squares REAL NOT NULL, PRIMARY KEY (seed, segment, variant, metric)) WITHOUT ROWID;
`;
export const UNITS = '';

export const SegmentRow = z.object({
  ...{ segment: z.string(), variant: z.string(), metric: z.string() },
  ...{ n: z.number(), sum: z.number(), sumSquares: z.number() },
});
export type SegmentRow = z.infer<typeof SegmentRow>;

interface Place {
  seed: string;
  segment: string;
  variant: string;
  metric: string;
}

export function createTallySegments(sql: TallySql) {
  const SUMS = 'SELECT segment, variant, metric, n, sum, sum_squares AS sumSquares FROM segments';
  const keyOf = ({ seed, segment, variant, metric }: Place): [string, string, string, string] => [
    ...([seed, segment, variant, metric] as const),
  ];
  // The rows are those of this file's own statements.
  const rowsOf = (where: string, ...values: string[]): SegmentRow[] =>
    sql.exec(`${SUMS} WHERE ${where}`, ...values).toArray() as unknown as SegmentRow[];

  return {
    /** Reads and writes each row once a call. */
    open() {
      const open = new Map<string, { place: Place; sums: Moments }>();
      const known = new Map<string, Set<string>>();
      const change = (place: Place, how: (sums: Moments) => Moments): void => {
        const key = JSON.stringify(keyOf(place));
        const sums =
          open.get(key)?.sums ??
          rowsOf('seed = ? AND segment = ? AND variant = ? AND metric = ?', ...keyOf(place))[0] ??
          NO_MOMENTS;
        open.set(key, { place, sums: how(sums) });
      };
      function segmentsOf(seed: string): Set<string> {
        const has = known.get(seed);
        if (has !== undefined) return has;
        const rows = sql.exec('SELECT DISTINCT segment FROM segments WHERE seed = ?', seed).toArray();
        const segments = new Set(rows.map(({ segment }) => String(segment)));
        known.set(seed, segments);
        return segments;
      }
      return {
        /** Counts a new unit. @returns its own segment, or that of the others where there is no room. */
        take({ seed, variant }: Pick<Place, 'seed' | 'variant'>, own: string): string {
          const segments = segmentsOf(seed);
          const segment = segments.has(own) || segments.size < MAX_SEGMENTS_HELD ? own : OTHER_SEGMENT;
          segments.add(segment);
          change({ seed, segment, variant, metric: UNITS }, (sums) => ({ ...sums, n: sums.n + 1 }));
          return segment;
        },
        /** A unit's value moves; `was` null = it is its first. */
        move(place: Place, { was, is }: { was: number | null; is: number }): void {
          change(place, (sums) => (was === null ? addValue(sums, is) : replaceValue(sums, was, is)));
        },
        write(): void {
          for (const { place, sums } of open.values())
            sql.exec(
              `INSERT OR REPLACE INTO segments (seed, segment, variant, metric, n, sum, sum_squares)
               VALUES (?, ?, ?, ?, ?, ?, ?)`,
              ...keyOf(place),
              ...[sums.n, sums.sum, sums.sumSquares],
            );
        },
      };
    },

    of: (seed: string): SegmentRow[] => rowsOf('seed = ?', seed),
  };
}
