import type { Experiment, ExperimentTargeting, ExperimentVariant } from '../../protocol/experiment.ts';
import { fnv1a } from '../../protocol/identity.ts';

/**
 * GrowthBook's second hash (`hash(seed, value, 2)` of its SDKs, MIT) over UTF-8 bytes: FNV-1a of 32 bits,
 * twice, so that similar units do not get adjacent buckets. The JavaScript SDK hashes UTF-16 units, which is
 * the same only for ASCII.
 */

/** Buckets are 0 to 9,999; a share of the units is a number of buckets. */
export const BUCKETS = 10_000;

/** @param unit a lone surrogate is hashed as U+FFFD. @returns 0 … {@link BUCKETS} - 1. */
export function bucketOf(seed: string, unit: string): number {
  return fnv1a(String(fnv1a(seed + unit))) % BUCKETS;
}

/** Buckets from `from` on, before `to`. */
interface BucketRange {
  from: number;
  to: number;
}

export const inRange = (bucket: number, { from, to }: BucketRange): boolean => bucket >= from && bucket < to;

/** A share of 0 to 1 as a border between buckets. */
export const border = (share: number): number => Math.min(BUCKETS, Math.round(share * BUCKETS));

/**
 * Each variant's buckets. They start where the weights alone determine and grow with the coverage, so that more
 * coverage only adds units. Their number depends on coverage and weight, not on the start: equal weights have
 * the same number at every step.
 * @param weights sum to 1. @param coverage 0 … 1.
 */
export function variantRanges(weights: readonly number[], coverage: number): BucketRange[] {
  let start = 0;
  return weights.map((weight) => {
    const from = border(start);
    start += weight;
    const next = border(start);
    return { from, to: coverage === 1 ? next : Math.min(next, from + border(coverage * weight)) };
  });
}

/** Of one request. */
export interface Candidate {
  /** See `unitOf`. */
  unit: string;
  tenant: string;
  /** The requested name; an alias or a name below the experiment's may lead to it. */
  name: string;
  /** By a header's name in lower case; null without the header. */
  header: (name: string) => string | null;
}

/** Why a request gets the name's live version. */
export type NotAssigned =
  'not_running' | 'killed' | 'not_targeted' | 'held_out' | 'other_range' | 'not_covered' | 'dropped';

export type VariantPick =
  | {
      kind: 'variant';
      variant: ExperimentVariant;
      /** false = a tester, who is not recorded. */
      counted: boolean;
    }
  | { kind: 'none'; reason: NotAssigned };

/** Separate seeds: the holdout of one experiment must not depend on another's treatment. */
const namespaceSeed = (name: string): string => `__namespace/${name}`;
const holdoutSeed = (name: string): string => `__holdout/${name}`;

const none = (reason: NotAssigned): VariantPick => ({ kind: 'none', reason });

/** The variant of a request. Pure: the same document and candidate give the same result everywhere. */
export function pickVariant(experiment: Experiment, candidate: Candidate): VariantPick {
  if (experiment.status !== 'running' && experiment.status !== 'ramping') return none('not_running');
  if (experiment.killed) return none('killed');
  const { unit } = candidate;
  const override = experiment.overrides.find((entry) => entry.unit === unit);
  if (override !== undefined) return assigned(experiment, override.variant, false);
  if (!isTargeted(experiment.targeting, candidate)) return none('not_targeted');
  const { holdout, namespace } = experiment;
  if (holdout !== undefined && bucketOf(holdoutSeed(holdout.name), unit) < border(holdout.share))
    return none('held_out');
  if (namespace !== undefined) {
    const range = { from: border(namespace.range[0]), to: border(namespace.range[1]) };
    if (!inRange(bucketOf(namespaceSeed(namespace.name), unit), range)) return none('other_range');
  }
  const bucket = bucketOf(experiment.seed, unit);
  const place = rangesOf(experiment).findIndex((range) => inRange(bucket, range));
  const variant = experiment.variants[place];
  if (variant === undefined) return none('not_covered');
  if (experiment.dropped?.includes(variant.key) === true) return none('dropped');
  return { kind: 'variant', variant, counted: true };
}

export function rangesOf({ variants, coverage }: Pick<Experiment, 'variants' | 'coverage'>): BucketRange[] {
  return variantRanges(
    variants.map(({ weight }) => weight),
    coverage,
  );
}

function assigned({ variants }: Experiment, key: string, counted: boolean): VariantPick {
  const variant = variants.find((candidate) => candidate.key === key);
  return variant === undefined ? none('not_covered') : { kind: 'variant', variant, counted };
}

function isTargeted(targeting: ExperimentTargeting | undefined, candidate: Candidate): boolean {
  if (targeting === undefined) return true;
  const { tenants, name_prefix: prefix, headers } = targeting;
  if (tenants !== undefined && !tenants.includes(candidate.tenant)) return false;
  if (prefix !== undefined && candidate.name !== prefix && !candidate.name.startsWith(`${prefix}/`))
    return false;
  return (headers ?? []).every(({ name, values }) => {
    const value = candidate.header(name);
    return value !== null && values.includes(value);
  });
}
