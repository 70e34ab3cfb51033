import {
  metricOf,
  type Experiment,
  type ExperimentEvaluation,
  type ExperimentSpread,
} from '../../protocol/index.ts';
import type { TallySnapshot } from './ports.ts';
import type { Moments } from './statistics/moments.ts';
import { percentile, toldIn, type Sketch } from './statistics/sketch.ts';

/** Told of every experiment, listed or not: a mean hides the answers that somebody waited long for. */
const TIMES = ['ttft_ms', 'latency_ms'];

/** How times, and the values of the listed metrics that are no rates, are spread; where it is known. */
export function spreadOf(
  experiment: Experiment,
  { metrics, sketches }: Pick<TallySnapshot, 'metrics' | 'sketches'>,
): NonNullable<ExperimentEvaluation['spread']> {
  const listed = experiment.metrics.map(({ key }) => key);
  const wanted = [...listed, ...TIMES.filter((key) => !listed.includes(key))].filter(
    (key) => metricOf(experiment, key)?.kind === 'mean',
  );
  const byMetric = wanted.map((metric) => {
    const arms = experiment.variants.flatMap(({ key }) => {
      const spread = spreadOfArm(metrics[metric]?.[key], sketches[metric]?.[key]);
      return spread === null ? [] : [[key, spread] as const];
    });
    return [metric, Object.fromEntries(arms)] as const;
  });
  return Object.fromEntries(byMetric.filter(([, arms]) => Object.keys(arms).length > 0));
}

/** @returns null where nobody knows, or where half of the values are below 0. */
export function spreadOfArm(
  moments: Moments | undefined,
  sketch: Sketch | undefined,
): ExperimentSpread | null {
  if (moments === undefined || moments.n === 0 || sketch === undefined) return null;
  const [p50, p95] = [percentile(sketch, 0.5), percentile(sketch, 0.95)];
  if (p50 === null || p95 === null) return null;
  return { values: toldIn(sketch), mean: moments.sum / moments.n, p50, p95 };
}
