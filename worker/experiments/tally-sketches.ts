/** How values are spread, kept beside their sums: one row a seed, variant and metric. */
import { z } from 'zod';
import { SHADOW_METRICS, AUTOMATIC_METRICS } from '../../protocol/index.ts';
import { fromRows, isSketchOf, moveInSketch, toRows, type OpenSketch } from './statistics/sketch.ts';
import type { Moments } from './statistics/moments.ts';
import type { TallySql } from './tally-counts.ts';

/** A table of its own: objects from before get it when they next wake. */
export const SKETCH_SCHEMA = `
  CREATE TABLE IF NOT EXISTS sketches (
    seed TEXT, variant TEXT, metric TEXT, buckets TEXT NOT NULL, PRIMARY KEY (seed, variant, metric)) WITHOUT ROWID;
`;

/** Of rates the mean says all. */
const RATES = new Set(
  [...AUTOMATIC_METRICS, ...SHADOW_METRICS].flatMap(({ key, kind }) => (kind === 'proportion' ? [key] : [])),
);

export const SketchRows = z.array(z.tuple([z.int(), z.int(), z.number(), z.number(), z.int()]));
export type SketchRows = z.infer<typeof SketchRows>;

interface Place {
  seed: string;
  variant: string;
  metric: string;
}

export function createTallySketches(sql: TallySql) {
  const keyOf = ({ seed, variant, metric }: Place): [string, string, string] => [seed, variant, metric];

  function read(place: Place, moments: Moments): OpenSketch | null {
    const [row] = sql
      .exec('SELECT buckets FROM sketches WHERE seed = ? AND variant = ? AND metric = ?', ...keyOf(place))
      .toArray();
    // Units that were counted before sketches were kept are in none: half of a sketch is worse than none.
    if (row === undefined) return moments.n === 0 ? new Map() : null;
    const sketch = fromRows(SketchRows.parse(JSON.parse(String(row['buckets']))));
    return isSketchOf(sketch, moments) ? sketch : null;
  }

  return {
    /** Reads and writes each sketch once a call. */
    open() {
      const open = new Map<string, { place: Place; sketch: OpenSketch | null }>();
      return {
        /** @param before the sums without this value. @param move see {@link moveInSketch}. */
        move(place: Place, before: Moments, move: Parameters<typeof moveInSketch>[1]): void {
          if (RATES.has(place.metric)) return;
          const key = JSON.stringify(keyOf(place));
          const known = open.get(key) ?? { place, sketch: read(place, before) };
          open.set(key, known);
          if (known.sketch !== null) moveInSketch(known.sketch, move);
        },
        write(): void {
          for (const { place, sketch } of open.values())
            if (sketch !== null)
              sql.exec(
                'INSERT OR REPLACE INTO sketches (seed, variant, metric, buckets) VALUES (?, ?, ?, ?)',
                ...keyOf(place),
                JSON.stringify(toRows(sketch)),
              );
        },
      };
    },

    of(seed: string): { variant: string; metric: string; rows: SketchRows }[] {
      return sql
        .exec('SELECT variant, metric, buckets FROM sketches WHERE seed = ?', seed)
        .toArray()
        .map(({ variant, metric, buckets }) => ({
          variant: String(variant),
          metric: String(metric),
          rows: SketchRows.parse(JSON.parse(String(buckets))),
        }));
    },
  };
}
