/** Units by the coverage that they came under, for the sample ratio: each step of a ramp deals by its own buckets. */
import type { Experiment, ExperimentEvaluation } from '../../protocol/index.ts';
import { rangesOf } from './assign-variant.ts';
import type { DealtPhase } from './statistics/sample-ratio.ts';

/** New units, by variant's key, while this coverage was set; 0 = before it was written down which. */
export type CoveragePhase = NonNullable<ExperimentEvaluation['sample_ratio']['phases']>[number];

/** A ramp has 20 steps at most; of more, the oldest are put together, and not tested any more. */
const MOST_PHASES = 40;

/** Fewer than at the last look: a tally that was lost, as a backup has none, began anew. */
const countedAnew = (before: ExperimentEvaluation | null, units: Readonly<Record<string, number>>): boolean =>
  Object.entries(before?.units ?? {}).some(([key, count]) => (units[key] ?? 0) < count);

/**
 * Who has come since the last look came under the present coverage. Those who came between that look and a change by
 * hand did not; they are few, and {@link dealtPhases} allows for them.
 * @param before the last look of this seed. @param units by now.
 */
export function coveragePhases(
  before: ExperimentEvaluation | null,
  { coverage, variants }: Pick<Experiment, 'coverage' | 'variants'>,
  units: Readonly<Record<string, number>>,
): CoveragePhase[] {
  const unknown = before === null ? [] : [{ coverage: 0, units: before.units }];
  const known = countedAnew(before, units) ? [] : (before?.sample_ratio.phases ?? unknown);
  const earlier = known.at(-1)?.coverage === coverage ? known.slice(0, -1) : known;
  const counted = (phases: readonly CoveragePhase[], key: string): number =>
    phases.reduce((sum, phase) => sum + (phase.units[key] ?? 0), 0);
  const byVariant = (of: (key: string) => number): Record<string, number> =>
    Object.fromEntries(variants.map(({ key }) => [key, of(key)]));
  const old = earlier.slice(0, Math.max(0, earlier.length - MOST_PHASES));
  const joined = old.length === 0 ? [] : [{ coverage: 0, units: byVariant((key) => counted(old, key)) }];
  return [
    ...joined,
    ...earlier.slice(old.length),
    { coverage, units: byVariant((key) => Math.max(0, (units[key] ?? 0) - counted(earlier, key))) },
  ];
}

/**
 * What each phase deals by. The first time that a bucket is covered, its units are new; later, those of the buckets that
 * were covered before have mostly been seen. So new units come by all present buckets, by those that were added, or by
 * a mixture.
 */
export function dealtPhases(
  { variants }: Pick<Experiment, 'variants'>,
  phases: readonly CoveragePhase[],
): DealtPhase[] {
  const bucketsAt = (coverage: number): number[] =>
    rangesOf({ variants, coverage }).map(({ from, to }) => to - from);
  return phases.flatMap(({ coverage, units }, place) => {
    const present = bucketsAt(coverage);
    if (coverage === 0) return [];
    const others = phases
      .slice(0, place)
      .map((phase) => bucketsAt(phase.coverage))
      .flatMap((earlier) => [earlier, present.map((buckets, arm) => buckets - earlier[arm]!)])
      .filter((buckets) => buckets.some((one) => one > 0) && buckets.every((one) => one >= 0));
    return [{ units: variants.map(({ key }) => units[key] ?? 0), dealt: [present, ...others] as const }];
  });
}
