import { sameJson, type Experiment } from '../../protocol/index.ts';
import { rangesOf, BUCKETS } from './assign-variant.ts';

/** The field at fault, and what to do instead. */
interface EmptyArm {
  field: string;
  reason: string;
}

type Dealt = Pick<Experiment, 'variants' | 'coverage' | 'ramp'>;

/**
 * Is there an arm that nobody would come into, at the coverage or at a step of the ramp? Its results would never come,
 * and the sample ratio could not tell that from units that are lost. A coverage of 0 is nobody's, and means it.
 * @param before what does not change is not asked about.
 */
export function emptyArm(after: Dealt, before: Dealt | null = null): EmptyArm | null {
  const { variants, coverage, ramp } = after;
  if (before !== null && sameJson(dealing(before), dealing(after))) return null;
  const steps = ramp?.steps ?? [];
  /** The smallest: what is enough for it is enough for all. */
  const emptyAt = (share: number) => {
    const ranges = rangesOf({ variants, coverage: share });
    return variants
      .filter((_, place) => ranges[place]!.to === ranges[place]!.from)
      .sort((a, b) => a.weight - b.weight)[0];
  };
  for (const [field, share] of [
    ['coverage', coverage] as const,
    ...steps.map((step, i) => [`ramp.steps.${i}`, step] as const),
  ]) {
    const variant = share === 0 ? undefined : emptyAt(share);
    if (variant === undefined) continue;
    // Half a bucket is rounded up to one.
    const least = Math.ceil(0.5 / variant.weight);
    const reason =
      `at a coverage of ${share}, variant '${variant.key}' with weight ${variant.weight} would get none of the ` +
      `${BUCKETS} buckets; take at least ${least / BUCKETS}, or a larger weight`;
    return { field, reason };
  }
  return null;
}

const dealing = ({ variants, coverage, ramp }: Dealt) => ({
  weights: variants.map(({ weight }) => weight),
  coverage,
  steps: ramp?.steps ?? [],
});
