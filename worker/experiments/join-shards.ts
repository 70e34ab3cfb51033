/** What an experiment's tallies have, put together from its shards. */
import { z } from 'zod';
import type { TallyCounts, TallyMoments, TallySnapshot } from './ports.ts';
import { fromRows, isSketchOf, joinSketch, type OpenSketch, type Sketch } from './statistics/sketch.ts';
import { addMoments, NO_MOMENTS, type Moments } from './statistics/moments.ts';
import { NO_COUNTS, SegmentRow, UNITS, SketchRows } from './tally-tables.ts';

const Sums = z.object({
  n: z.number(),
  sum: z.number(),
  sumSquares: z.number(),
  /** Units that have a value from before; the sums after it are theirs alone. */
  paired: z.number(),
  pairedSum: z.number(),
  preSum: z.number(),
  preSumSquares: z.number(),
  products: z.number(),
});
type Sums = z.infer<typeof Sums>;

/** What one shard has of one seed. */
export const ShardTally = z.object({
  units: z.record(z.string(), z.number()),
  metrics: z.record(z.string(), z.record(z.string(), Sums)),
  shadow: z.record(z.string(), Sums),
  counts: z.record(
    z.string(),
    z.object({ answers: z.number(), nameless: z.number(), namelessUnits: z.number(), cold: z.number() }),
  ),
  refused: z.record(z.string(), z.object({ n: z.number(), at: z.number() })),
  /** `variant` null: the shadow's. Objects from before have none. */
  sketches: z
    .array(z.object({ metric: z.string(), variant: z.string().nullable(), rows: SketchRows }))
    .default([]),
  segments: z.array(SegmentRow).default([]),
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

/** Without those that not all shards have kept from the first value on. */
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
