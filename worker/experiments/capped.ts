import type { Experiment } from '../../protocol/index.ts';
import { NO_MOMENTS, type Moments } from './statistics/moments.ts';
import { capAt, cappedMoments, type Sketch } from './statistics/sketch.ts';

/**
 * Units of control with a value before a metric is capped by them: two of them lie above the p99 then. By fewer the cap
 * would be control's largest value, which cuts off the treatment's alone.
 */
export const MIN_CAPPING_UNITS = 200;
const P99 = 0.99;

/** A metric whose document says `cap`. */
export interface CappedMetric {
  /** The units' values above it count as it; null = it cannot be told. */
  value: number | null;
  /** By variant's key, capped; empty while it cannot be told. */
  arms: Readonly<Record<string, Moments>>;
}
export type CappedMetrics = Readonly<Record<string, CappedMetric>>;

interface Counted {
  metrics: Readonly<Record<string, Readonly<Record<string, Moments>>>>;
  sketches: Readonly<Record<string, Readonly<Record<string, Sketch>>>>;
}

const UNKNOWN: CappedMetric = { value: null, arms: {} };

/** The metrics that are capped at control's p99, both arms at the same value. */
export function cappedMetrics(
  { metrics, variants }: Pick<Experiment, 'metrics' | 'variants'>,
  counted: Counted,
): CappedMetrics {
  const keys = variants.map(({ key }) => key);
  return Object.fromEntries(
    metrics.filter(({ cap }) => cap !== undefined).map(({ key }) => [key, cappedMetric(key, keys, counted)]),
  );
}

function cappedMetric(metric: string, keys: readonly string[], { metrics, sketches }: Counted): CappedMetric {
  const own = sketches[metric] ?? {};
  const control = keys[0] === undefined ? undefined : own[keys[0]];
  const unitsOf = (key: string): number => metrics[metric]?.[key]?.n ?? 0;
  if (control === undefined || unitsOf(keys[0] ?? '') < MIN_CAPPING_UNITS) return UNKNOWN;
  // An arm whose values are not known one by one cannot be capped, and would be compared with one that is.
  if (keys.some((key) => unitsOf(key) > 0 && own[key] === undefined)) return UNKNOWN;
  const cap = capAt(control, P99);
  if (cap === null) return UNKNOWN;
  const arms = keys.map((key) => {
    const sketch = own[key];
    return [key, sketch === undefined ? NO_MOMENTS : cappedMoments(sketch, cap)] as const;
  });
  return { value: cap.value, arms: Object.fromEntries(arms) };
}

/** What was counted, with the capped sums of what is capped. */
export const withCaps = <T extends Pick<Counted, 'metrics'>>(counted: T, capped: CappedMetrics): T => ({
  ...counted,
  metrics: {
    ...counted.metrics,
    ...Object.fromEntries(
      Object.entries(capped).flatMap(([key, { value, arms }]) => (value === null ? [] : [[key, arms]])),
    ),
  },
});
