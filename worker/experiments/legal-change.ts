import { err, ok, type Result } from '../../protocol/api-error.ts';
import type { Experiment, ExperimentStatus } from '../../protocol/experiment.ts';
import { sameJson } from '../../protocol/identity.ts';
import { rangesOf, BUCKETS } from './pick-variant.ts';

/** Why a change of the document is refused, and what to do instead. */
export interface IllegalChange {
  /** The invalid field. */
  field: string;
  reason: string;
}

/** Possible next statuses. Staying is always allowed, except in the archive. */
const NEXT: Record<ExperimentStatus, readonly ExperimentStatus[]> = {
  draft: ['draft', 'running', 'ramping', 'archived'],
  running: ['running', 'ramping', 'decided'],
  ramping: ['ramping', 'running', 'decided'],
  decided: ['decided', 'archived'],
  archived: [],
};

const isLive = ({ status }: Experiment): boolean => status === 'running' || status === 'ramping';

/**
 * Whether `after` may follow `before`. While an experiment is live, any change that would move a unit to
 * another variant, or out, or change the meaning of results, needs a new seed, which reassigns units and resets
 * results.
 * @param usedSeeds all earlier seeds of this experiment: reusing one would mix old results with new ones.
 */
export function legalChange(
  before: Experiment,
  after: Experiment,
  usedSeeds: readonly string[] = [],
): Result<void, IllegalChange> {
  const refuse = (field: string, reason: string): Result<void, IllegalChange> => err({ field, reason });
  if (after.name !== before.name)
    return refuse('name', 'an experiment cannot change its name; create another for the other name');
  if (after.version !== before.version + 1)
    return refuse('version', `the next version is ${before.version + 1}; read the experiment again`);
  if (!NEXT[before.status].includes(after.status))
    return refuse('status', `an experiment cannot go from ${before.status} to ${after.status}`);
  const empty = emptyArm(after, before);
  if (empty !== null) return err(empty);
  if (after.seed !== before.seed) {
    if (usedSeeds.includes(after.seed)) return refuse('seed', 'this seed was used before; choose another');
    if (before.status === 'decided') return refuse('seed', 'the experiment is decided; create another');
    return ok(undefined);
  }
  if (before.status === 'draft') return ok(undefined);
  if (before.status === 'decided') return decidedChange(before, after);
  const frozen = FROZEN.find(({ of }) => !sameJson(of(before), of(after)));
  if (frozen !== undefined)
    return refuse(frozen.field, `${frozen.why}; give a new seed, which starts over, or leave it unchanged`);
  if ((before.dropped ?? []).some((key) => after.dropped?.includes(key) !== true))
    return refuse(
      'dropped',
      'units of a removed variant have had the live version since; give a new seed to bring it back, ' +
        'or leave it out',
    );
  if (after.coverage < before.coverage && isLive(after))
    return refuse(
      'coverage',
      'lower coverage would take units out of their variant; set killed, or give a new seed',
    );
  return ok(undefined);
}

/** Fields that cannot change under one seed once units have been assigned. Metrics except the first can. */
const FROZEN: readonly { field: string; of: (experiment: Experiment) => unknown; why: string }[] = [
  { field: 'unit', of: ({ unit }) => unit, why: 'another unit would reassign everybody' },
  {
    field: 'variants',
    of: ({ variants }) => variants.map(({ key, weight }) => [key, weight]),
    why: 'other variants or weights would move units between variants',
  },
  {
    field: 'variants',
    of: ({ variants }) => variants.map(({ adapter }) => adapter),
    why: 'it would mix results of two adapters in one variant',
  },
  {
    field: 'namespace',
    of: ({ namespace }) => namespace,
    why: 'another namespace would move units in and out',
  },
  { field: 'holdout', of: ({ holdout }) => holdout, why: 'another holdout would move units in and out' },
  {
    field: 'targeting',
    of: ({ targeting }) => targeting,
    why: 'other targeting would move units in and out',
  },
  {
    field: 'segment_by',
    of: ({ segment_by: by }) => by,
    why: 'counted units are in no segment of another kind',
  },
  {
    field: 'judge',
    of: ({ judge, shadow }) => judge && [judge.model, judge.url, shadow?.adapter],
    why: 'it would count pairs of two judges, or of two adapters, together',
  },
  {
    field: 'metrics',
    of: ({ metrics }) => metrics[0],
    why: 'the first metric decides, and choosing it after seeing results would invalidate them',
  },
];

/** A decided experiment can only be ended. */
function decidedChange(before: Experiment, after: Experiment): Result<void, IllegalChange> {
  const { version: _v, status: _s, ...was } = before;
  const { version: _w, status: _t, ...is } = after;
  for (const field of new Set([...Object.keys(was), ...Object.keys(is)]))
    if (!sameJson(was[field as keyof typeof was], is[field as keyof typeof is]))
      return err({ field, reason: 'the experiment is decided; create another' });
  return ok(undefined);
}

/** The invalid field, and what to do instead. */
interface EmptyArm {
  field: string;
  reason: string;
}

type Dealt = Pick<Experiment, 'variants' | 'coverage' | 'ramp'>;

/**
 * Finds an arm that would get no unit, at the coverage or at a step of the ramp. It would never have results,
 * and the sample ratio could not distinguish that from lost units. A coverage of 0 is intentional.
 * @param before unchanged parts are not checked.
 */
export function emptyArm(after: Dealt, before: Dealt | null = null): EmptyArm | null {
  const { variants, coverage, ramp } = after;
  if (before !== null && sameJson(dealing(before), dealing(after))) return null;
  const steps = ramp?.steps ?? [];
  /** The smallest: a coverage that suffices for it suffices for all. */
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
      `at a coverage of ${share}, variant '${variant.key}' with weight ${variant.weight} would get ` +
      `none of the ${BUCKETS} buckets; use at least ${least / BUCKETS}, or a larger weight`;
    return { field, reason };
  }
  return null;
}

const dealing = ({ variants, coverage, ramp }: Dealt) => ({
  weights: variants.map(({ weight }) => weight),
  coverage,
  steps: ramp?.steps ?? [],
});
