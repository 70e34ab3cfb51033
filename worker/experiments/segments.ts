import type { Experiment, ExperimentSegments } from '../../protocol/experiment.ts';
import { ALPHA, compare, MIN_VALUES } from './analyze.ts';
import { MAX_SEGMENT_CHARACTERS, MAX_SHOWN_SEGMENTS } from './limits.ts';
import type { SegmentTally, TallySnapshot } from './ports.ts';
import { addMoments, armOf, NO_MOMENTS } from './statistics/moments.ts';

const HEADER = 'header:';
/** Prefix of the key of a segment with a value, so that no value equals one of the two others. */
const VALUE = '=';
/** Units whose request has no value, and those beyond the maximum. */
const NONE = 'none';
export const OTHER_SEGMENT = 'other';

/** A request's value of the experiment's dimension; null = none. */
export function segmentOf(
  { name, segment_by: by }: Pick<Experiment, 'name' | 'segment_by'>,
  asked: { tenant: string; name: string; header: (name: string) => string | null },
): string | null {
  if (by === 'tenant') return asked.tenant;
  if (by === 'name') {
    if (asked.name === name) return null;
    return asked.name.startsWith(`${name}/`) ? asked.name.slice(name.length + 1) : asked.name;
  }
  return by === undefined ? null : asked.header(by.slice(HEADER.length))?.trim() || null;
}

/** The counted key: a text that distinguishes the three kinds. */
export const segmentKey = (segment: string | null): string =>
  segment === null ? NONE : VALUE + segment.slice(0, MAX_SEGMENT_CHARACTERS);

const EMPTY: SegmentTally = { units: {}, metrics: {} };
const sum = (units: Readonly<Record<string, number>>): number =>
  Object.values(units).reduce((total, n) => total + n, 0);

function joined(a: SegmentTally, b: SegmentTally): SegmentTally {
  const units = { ...a.units };
  for (const [variant, n] of Object.entries(b.units)) units[variant] = (units[variant] ?? 0) + n;
  const metrics = Object.fromEntries(
    Object.entries(a.metrics).map(([metric, arms]) => [metric, { ...arms }]),
  );
  for (const [metric, arms] of Object.entries(b.metrics))
    for (const [variant, moments] of Object.entries(arms)) {
      const own = (metrics[metric] ??= {});
      own[variant] = addMoments(own[variant] ?? NO_MOMENTS, moments);
    }
  return { units, metrics };
}

/** The segments with the most units, the others together at the end; null if not requested. Decides nothing. */
export function segmentsAtLook(
  experiment: Experiment,
  { segments }: Pick<TallySnapshot, 'segments'>,
): ExperimentSegments | null {
  const { segment_by: by } = experiment;
  if (by === undefined) return null;
  const { [OTHER_SEGMENT]: noRoom, ...told } = segments;
  const largest = Object.entries(told).sort(
    ([a, { units: x }], [b, { units: y }]) => sum(y) - sum(x) || (a < b ? -1 : 1),
  );
  const shown = largest.slice(0, MAX_SHOWN_SEGMENTS);
  const rest = largest.slice(MAX_SHOWN_SEGMENTS).map(([, tally]) => tally);
  const others = [...(noRoom === undefined ? [] : [noRoom]), ...rest];
  const count = shown.length + (others.length > 0 ? 1 : 0);
  const rows = shown.map(([key, tally]) => ({
    segment: key === NONE ? null : key.slice(VALUE.length),
    ...rowOf(experiment, tally, count),
  }));
  if (others.length === 0) return { by, rows };
  const other = { segment: null, other: true, ...rowOf(experiment, others.reduce(joined, EMPTY), count) };
  return { by, rows: [...rows, other] };
}

/** @param segments shown ones: their intervals are jointly valid in at least 95 % of experiments. */
function rowOf(experiment: Experiment, { units, metrics }: SegmentTally, segments: number) {
  const { variants } = experiment;
  const [control, ...treatments] = variants.map(({ key }) => key) as [string, ...string[]];
  const of = (metric: string, variant: string) => metrics[metric]?.[variant] ?? NO_MOMENTS;
  const deciding = experiment.metrics[0]!;
  const alpha = ALPHA / (treatments.length * segments);
  const lifts = treatments.map((variant) => {
    const arms = { control: of(deciding.key, control), treatment: of(deciding.key, variant) };
    const enough = Math.min(arms.control.n, arms.treatment.n) >= MIN_VALUES;
    const lift = enough ? compare({ metric: deciding, variant, ...arms, alpha }).result?.lift : null;
    return [variant, lift ? { estimate: lift.estimate, ...lift.interval } : null] as const;
  });
  return {
    units: Object.fromEntries(variants.map(({ key }) => [key, units[key] ?? 0])),
    means: Object.fromEntries(
      experiment.metrics.map(({ key: metric, kind }) => [
        metric,
        Object.fromEntries(
          variants.map(({ key }) => {
            const { n, mean } = armOf(of(metric, key), kind);
            return [key, { n, mean }];
          }),
        ),
      ]),
    ),
    lifts: Object.fromEntries(lifts),
  };
}
