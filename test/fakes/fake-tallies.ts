import { StoreUnavailable } from '../../worker/platform/ports.ts';
import type {
  ExperimentTallies,
  TallyCounts,
  TallyMoments,
  TallySnapshot,
} from '../../worker/experiments/ports.ts';
import { SHADOW_METRICS } from '../../protocol/experiment.ts';
import {
  joinSketch,
  moveInSketch,
  type OpenSketch,
  type Sketch,
} from '../../worker/experiments/statistics/sketch.ts';
import { addValue, NO_MOMENTS } from '../../worker/experiments/statistics/moments.ts';
import { countsOf, NO_COUNTS } from '../../worker/experiments/tally-tables.ts';

interface Unit {
  segment: string | null;
  seed: string;
  variant: string;
  values: Map<string, { told: number[]; before: number | null }>;
}

export interface FakeTallies extends ExperimentTallies {
  /** Every call fails while it is set. */
  down: boolean;
  /** Loses the answers of that many further writes, after having carried them out. */
  loseAnswers: number;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
const square = (one: number): number => one * one;
const plain = (values: readonly number[]): TallyMoments => ({
  n: values.length,
  sum: sum(values),
  sumSquares: sum(values.map(square)),
});

const isRate = (metric: string): boolean =>
  SHADOW_METRICS.some(({ key, kind }) => key === metric && kind === 'proportion') || metric === 'left_rate';

/** A unit that was told one value lies where that does: so the two are put in one after the other. */
function sketchOf(units: readonly number[], told: readonly number[]): Sketch {
  const sketch: OpenSketch = new Map();
  for (const is of units) moveInSketch(sketch, { was: null, is, told: is });
  for (const [index, bucket] of sketch) sketch.set(index, { ...bucket, told: 0 });
  const single: OpenSketch = new Map();
  for (const is of told) moveInSketch(single, { was: null, is, told: is });
  joinSketch(
    sketch,
    new Map([...single].map(([index, { told: n }]) => [index, { n: 0, sum: 0, sumSquares: 0, told: n }])),
  );
  return sketch;
}

/** Keeps everything that it was told and adds it up when it is asked: nothing runs along that could go wrong. */
export function createFakeTallies(): FakeTallies {
  const batches = new Set<string>();
  const spent = new Set<string>();
  const units = new Map<string, Unit>();
  const refused: { experiment: string; seed: string; metric: string; at: number }[] = [];
  const marked: { experiment: string; seed: string; variant: string; counts: (keyof TallyCounts)[] }[] = [];
  const shadows: { experiment: string; seed: string; metric: string; value: number }[] = [];
  const keyOf = (experiment: string, seed: string, unit: string) => JSON.stringify([experiment, seed, unit]);

  function expose(
    ...[experiment, seed, unit, variant, segment = null]: [string, string, string, string, (string | null)?]
  ): Unit {
    const key = keyOf(experiment, seed, unit);
    const known = units.get(key) ?? { seed, variant, segment, values: new Map() };
    known.segment ??= segment;
    units.set(key, known);
    return known;
  }
  function tell(of: Unit, variant: string, metric: string, value: number, before: number | null): void {
    if (of.variant !== variant) return;
    const has = of.values.get(metric) ?? { told: [], before: null };
    of.values.set(metric, has);
    has.told.push(value);
    has.before ??= before;
  }
  function lookAlive(): void {
    if (fake.down) throw new StoreUnavailable('DO', new Error('down'));
  }
  function answer<T>(value: T): T {
    if (fake.loseAnswers > 0) {
      fake.loseAnswers -= 1;
      throw new StoreUnavailable('DO', new Error('the answer was lost'));
    }
    return value;
  }

  const erased = new Set<string>();
  const fake: FakeTallies = {
    down: false,
    loseAnswers: 0,
    async add(experiment, { id, events }) {
      lookAlive();
      const key = JSON.stringify([experiment, id]);
      if (batches.has(key) || erased.has(experiment)) return answer(undefined);
      batches.add(key);
      for (const { seed, unit, variant, values, shadow, marks = [], segment } of events) {
        const isNew = !shadow && !units.has(keyOf(experiment, seed, unit));
        const of = shadow ? null : expose(experiment, seed, unit, variant, segment);
        if (of?.variant === variant)
          marked.push({ experiment, seed, variant, counts: countsOf(marks, isNew) });
        for (const [metric, value] of Object.entries(values))
          if (of === null) shadows.push({ experiment, seed, metric, value });
          else tell(of, variant, metric, value, null);
      }
      answer(undefined);
    },
    async feedback(experiment, { token, metric, seed, unit, variant, value, before }) {
      lookAlive();
      const key = JSON.stringify([experiment, token, metric]);
      if (erased.has(experiment)) return answer('counted');
      if (spent.has(key)) return answer('repeated');
      spent.add(key);
      const elsewhere = [...units].find(([of]) => {
        const [inExperiment, , known] = JSON.parse(of) as string[];
        return inExperiment === experiment && known === unit;
      });
      const home =
        units.get(keyOf(experiment, seed, unit)) ?? elsewhere?.[1] ?? expose(experiment, seed, unit, variant);
      tell(home, variant, metric, value, before);
      return answer('counted');
    },
    async refused(experiment, { seed, metric, at }) {
      lookAlive();
      if (!erased.has(experiment)) refused.push({ experiment, seed, metric, at });
    },
    async erase(experiment) {
      lookAlive();
      erased.add(experiment);
      for (const key of units.keys()) if ((JSON.parse(key) as string[])[0] === experiment) units.delete(key);
      for (const list of [refused, marked, shadows] as { experiment: string }[][])
        list.splice(0, list.length, ...list.filter((one) => one.experiment !== experiment));
      return answer(undefined);
    },
    async snapshot(experiment, seed) {
      lookAlive();
      const snapshot: TallySnapshot = {
        ...{ units: {}, metrics: {}, shadow: {}, counts: {}, refused: {} },
        ...{ sketches: {}, shadowSketches: {}, segments: {} },
      };
      const here = (one: { experiment: string; seed: string }) =>
        one.experiment === experiment && one.seed === seed;
      for (const { variant, counts } of marked.filter(here))
        for (const what of counts) {
          const sums = (snapshot.counts[variant] ??= { ...NO_COUNTS });
          sums[what] += 1;
        }
      for (const { metric, at } of refused.filter(here)) {
        const known = snapshot.refused[metric] ?? { n: 0, at: 0 };
        snapshot.refused[metric] = { n: known.n + 1, at: Math.max(known.at, at) };
      }
      const found = new Map<
        string,
        { metric: string; variant: string; pairs: [number, number | null][]; told: number[] }
      >();
      for (const [key, { variant, values, seed: of, segment }] of units) {
        if (of !== seed || (JSON.parse(key) as string[])[0] !== experiment) continue;
        snapshot.units[variant] = (snapshot.units[variant] ?? 0) + 1;
        const inSegment =
          segment === null ? null : (snapshot.segments[segment] ??= { units: {}, metrics: {} });
        if (inSegment !== null) inSegment.units[variant] = (inSegment.units[variant] ?? 0) + 1;
        for (const [metric, { told, before }] of values) {
          if (inSegment !== null) {
            const arms = (inSegment.metrics[metric] ??= {});
            arms[variant] = addValue(arms[variant] ?? NO_MOMENTS, sum(told) / told.length);
          }
          const place = JSON.stringify([metric, variant]);
          const at = found.get(place) ?? { metric, variant, pairs: [], told: [] };
          found.set(place, at);
          at.pairs.push([sum(told) / told.length, before]);
          at.told.push(...told);
        }
      }
      for (const { metric, variant, pairs, told } of found.values()) {
        const moments = plain(pairs.map(([value]) => value));
        const befores = pairs.flatMap(([, before]) => (before === null ? [] : [before]));
        if (befores.length > 0)
          Object.assign(moments, {
            paired: befores.length,
            pairedSum: sum(pairs.flatMap(([value, before]) => (before === null ? [] : [value]))),
            preSum: sum(befores),
            preSumSquares: sum(befores.map(square)),
            products: sum(pairs.map(([value, before]) => value * (before ?? 0))),
          });
        (snapshot.metrics[metric] ??= {})[variant] = moments;
        const values = pairs.map(([value]) => value);
        if (!isRate(metric)) (snapshot.sketches[metric] ??= {})[variant] = sketchOf(values, told);
      }
      for (const metric of new Set(shadows.map((one) => one.metric))) {
        const own = shadows.filter(
          (one) => one.metric === metric && one.seed === seed && one.experiment === experiment,
        );
        if (own.length === 0) continue;
        const values = own.map(({ value }) => value);
        snapshot.shadow[metric] = plain(values);
        if (!isRate(metric)) snapshot.shadowSketches[metric] = sketchOf(values, values);
      }
      return snapshot;
    },
  };
  return fake;
}
