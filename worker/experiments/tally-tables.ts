/**
 * The tables of a tally beside its moments (counts of answers and refused feedback, sketches of how values are spread,
 * sums by segment), and how an experiment's shards are joined.
 */
import { z } from 'zod';
import { SHADOW_METRICS, AUTOMATIC_METRICS } from '../../protocol/experiment.ts';
import { MAX_SEGMENTS_HELD } from './limits.ts';
import { OTHER_SEGMENT } from './segments.ts';
import { type Moments, addValue, NO_MOMENTS, replaceValue, addMoments } from './statistics/moments.ts';
import {
  fromRows,
  isSketchOf,
  moveInSketch,
  toRows,
  type OpenSketch,
  joinSketch,
  type Sketch,
} from './statistics/sketch.ts';
import type { ObjectSql } from '../platform/store-calls.ts';
import type { EventMark, TallyCounts, TallyMoments, TallySnapshot } from './ports.ts';

export const NO_COUNTS: TallyCounts = { answers: 0, nameless: 0, namelessUnits: 0, cold: 0 };

export const COUNTS_SCHEMA = `
  CREATE TABLE IF NOT EXISTS tallied (
    seed TEXT, variant TEXT, what TEXT, n INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (seed, variant, what)) WITHOUT ROWID;
`;

/** Names of refused metrics kept per seed; further made-up ones are counted under this one. */
const MAX_REFUSED_NAMES = 20;
const OTHER = 'other';
/** Stands in the place of a variant; no variant's key is empty. */
const REFUSED = '';

type What = keyof TallyCounts;
interface CountPlace {
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

export function createTallyCounts(sql: ObjectSql) {
  const add = (place: CountPlace, what: string, n: number, at: number): void =>
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
    /** Gathers a batch's additions: one write per variant and count. */
    open(at: number) {
      const sums = new Map<string, { place: CountPlace; what: What; n: number }>();
      return {
        count({ seed, variant }: CountPlace, counted: readonly What[]): void {
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

export const SKETCH_SCHEMA = `
  CREATE TABLE IF NOT EXISTS sketches (
    seed TEXT, variant TEXT, metric TEXT, buckets TEXT NOT NULL, PRIMARY KEY (seed, variant, metric)) WITHOUT ROWID;
`;

/** Of rates the mean says everything. */
const RATES = new Set(
  [...AUTOMATIC_METRICS, ...SHADOW_METRICS].flatMap(({ key, kind }) => (kind === 'proportion' ? [key] : [])),
);

const SketchRows = z.array(z.tuple([z.int(), z.int(), z.number(), z.number(), z.int()]));
type SketchRows = z.infer<typeof SketchRows>;

interface Place {
  seed: string;
  variant: string;
  metric: string;
}

/** How values are spread: one row a seed, variant and metric. */
export function createTallySketches(sql: ObjectSql) {
  const keyOf = ({ seed, variant, metric }: Place): [string, string, string] => [seed, variant, metric];

  function read(place: Place, moments: Moments): OpenSketch | null {
    const [row] = sql
      .exec('SELECT buckets FROM sketches WHERE seed = ? AND variant = ? AND metric = ?', ...keyOf(place))
      .toArray();
    // Units counted before sketches existed are in none: half a sketch is worse than none.
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

/** Under metric '' units are counted, in `n`. */
export const SEGMENT_SCHEMA = `
  CREATE TABLE IF NOT EXISTS segments (
    seed TEXT, segment TEXT, variant TEXT, metric TEXT, n INTEGER NOT NULL, sum REAL NOT NULL,
    sum_squares REAL NOT NULL, PRIMARY KEY (seed, segment, variant, metric)) WITHOUT ROWID;
`;
const UNITS = '';

const SegmentRow = z.object({
  ...{ segment: z.string(), variant: z.string(), metric: z.string() },
  ...{ n: z.number(), sum: z.number(), sumSquares: z.number() },
});
type SegmentRow = z.infer<typeof SegmentRow>;

interface SegmentPlace extends Place {
  segment: string;
}

/** By the experiment's dimension: sums per segment, variant and metric. */
export function createTallySegments(sql: ObjectSql) {
  const SUMS = 'SELECT segment, variant, metric, n, sum, sum_squares AS sumSquares FROM segments';
  const keyOf = ({ seed, segment, variant, metric }: SegmentPlace): [string, string, string, string] => [
    ...([seed, segment, variant, metric] as const),
  ];
  // The rows are those of this file's own statements.
  const rowsOf = (where: string, ...values: string[]): SegmentRow[] =>
    sql.exec(`${SUMS} WHERE ${where}`, ...values).toArray() as unknown as SegmentRow[];

  return {
    /** Reads and writes each row once a call. */
    open() {
      const open = new Map<string, { place: SegmentPlace; sums: Moments }>();
      const known = new Map<string, Set<string>>();
      const change = (place: SegmentPlace, how: (sums: Moments) => Moments): void => {
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
        /** Counts a new unit. @returns its own segment, or that of the others beyond the maximum. */
        take({ seed, variant }: Pick<SegmentPlace, 'seed' | 'variant'>, own: string): string {
          const segments = segmentsOf(seed);
          const segment = segments.has(own) || segments.size < MAX_SEGMENTS_HELD ? own : OTHER_SEGMENT;
          segments.add(segment);
          change({ seed, segment, variant, metric: UNITS }, (sums) => ({ ...sums, n: sums.n + 1 }));
          return segment;
        },
        /** A unit's value moves; `was` null = it is its first. */
        move(place: SegmentPlace, { was, is }: { was: number | null; is: number }): void {
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

const Sums = z.object({
  n: z.number(),
  sum: z.number(),
  sumSquares: z.number(),
  /** Units with an earlier value; the sums after it cover only those. */
  paired: z.number(),
  pairedSum: z.number(),
  preSum: z.number(),
  preSumSquares: z.number(),
  products: z.number(),
});
type Sums = z.infer<typeof Sums>;

/** One shard's data of one seed. */
export const ShardTally = z.object({
  units: z.record(z.string(), z.number()),
  metrics: z.record(z.string(), z.record(z.string(), Sums)),
  shadow: z.record(z.string(), Sums),
  counts: z.record(
    z.string(),
    z.object({ answers: z.number(), nameless: z.number(), namelessUnits: z.number(), cold: z.number() }),
  ),
  refused: z.record(z.string(), z.object({ n: z.number(), at: z.number() })),
  /** `variant` null: the shadow's. */
  sketches: z.array(z.object({ metric: z.string(), variant: z.string().nullable(), rows: SketchRows })),
  segments: z.array(SegmentRow),
});
export type ShardTally = z.infer<typeof ShardTally>;

const plus = (a: Sums | undefined, b: Sums): Sums =>
  a === undefined
    ? b
    : {
        n: a.n + b.n,
        sum: a.sum + b.sum,
        sumSquares: a.sumSquares + b.sumSquares,
        paired: a.paired + b.paired,
        pairedSum: a.pairedSum + b.pairedSum,
        preSum: a.preSum + b.preSum,
        preSumSquares: a.preSumSquares + b.preSumSquares,
        products: a.products + b.products,
      };

function shown({ n, sum, sumSquares, ...pre }: Sums): TallyMoments {
  return pre.paired > 0 ? { n, sum, sumSquares, ...pre } : { n, sum, sumSquares };
}

const showAll = (sums: Record<string, Sums>): Record<string, TallyMoments> =>
  Object.fromEntries(Object.entries(sums).map(([key, one]) => [key, shown(one)]));

const sumOf = (a: TallyCounts = NO_COUNTS, b: TallyCounts): TallyCounts => ({
  answers: a.answers + b.answers,
  nameless: a.nameless + b.nameless,
  namelessUnits: a.namelessUnits + b.namelessUnits,
  cold: a.cold + b.cold,
});

/** What all shards together have of one seed. */
export function joinShards(shards: readonly ShardTally[]): TallySnapshot {
  const units: Record<string, number> = {};
  const metrics: Record<string, Record<string, Sums>> = {};
  const shadow: Record<string, Sums> = {};
  const counts: TallySnapshot['counts'] = {};
  const refused: TallySnapshot['refused'] = {};
  for (const shard of shards) {
    for (const [variant, n] of Object.entries(shard.units)) units[variant] = (units[variant] ?? 0) + n;
    for (const [metric, variants] of Object.entries(shard.metrics)) {
      const joined = (metrics[metric] ??= {});
      for (const [variant, sums] of Object.entries(variants)) joined[variant] = plus(joined[variant], sums);
    }
    for (const [metric, sums] of Object.entries(shard.shadow)) shadow[metric] = plus(shadow[metric], sums);
  }
  for (const shard of shards) {
    for (const [variant, of] of Object.entries(shard.counts)) counts[variant] = sumOf(counts[variant], of);
    for (const [metric, { n, at }] of Object.entries(shard.refused)) {
      const known = refused[metric] ?? { n: 0, at: 0 };
      refused[metric] = { n: known.n + n, at: Math.max(known.at, at) };
    }
  }
  const sketches = joinSketches(shards, (metric, variant) =>
    variant === null ? shadow[metric] : metrics[metric]?.[variant],
  );
  return {
    units,
    metrics: Object.fromEntries(Object.entries(metrics).map(([metric, sums]) => [metric, showAll(sums)])),
    shadow: showAll(shadow),
    ...{ counts, refused, ...sketches, segments: joinSegments(shards) },
  };
}

function joinSegments(shards: readonly ShardTally[]): TallySnapshot['segments'] {
  const joined: TallySnapshot['segments'] = {};
  for (const { segment, variant, metric, ...sums } of shards.flatMap((shard) => shard.segments)) {
    const { units, metrics } = (joined[segment] ??= { units: {}, metrics: {} });
    if (metric === UNITS) {
      units[variant] = (units[variant] ?? 0) + sums.n;
      continue;
    }
    const arms = (metrics[metric] ??= {});
    arms[variant] = addMoments(arms[variant] ?? NO_MOMENTS, sums);
  }
  return joined;
}

/** Without those that some shard has not kept from the first value on. */
function joinSketches(
  shards: readonly ShardTally[],
  momentsOf: (metric: string, variant: string | null) => Moments | undefined,
): Pick<TallySnapshot, 'sketches' | 'shadowSketches'> {
  const joined = new Map<string, { metric: string; variant: string | null; sketch: OpenSketch }>();
  for (const { metric, variant, rows } of shards.flatMap((shard) => shard.sketches)) {
    const key = JSON.stringify([metric, variant]);
    const { sketch } = joined.get(key) ?? { sketch: new Map() };
    joinSketch(sketch, fromRows(rows));
    joined.set(key, { metric, variant, sketch });
  }
  const sketches: Record<string, Record<string, Sketch>> = {};
  const shadowSketches: Record<string, Sketch> = {};
  for (const { metric, variant, sketch } of joined.values()) {
    const moments = momentsOf(metric, variant);
    if (moments === undefined || !isSketchOf(sketch, moments)) continue;
    if (variant === null) shadowSketches[metric] = sketch;
    else (sketches[metric] ??= {})[variant] = sketch;
  }
  return { sketches, shadowSketches };
}
