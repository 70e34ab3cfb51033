/**
 * How the sums of all units move when one unit's value does, so that a snapshot reads sums and no units. A unit's value
 * is the mean over its requests; what it was before the experiment (`before`) is the first that was told of it.
 */
import { addValue, NO_MOMENTS, replaceValue, type GappedMoments } from './statistics/moments.ts';

/** One unit's requests on one metric. */
export interface UnitValue {
  n: number;
  sum: number;
  /** From before the experiment; null while nobody has told it. */
  before: number | null;
}

export type RunningMoments = GappedMoments;

export const NO_RUNNING_MOMENTS: RunningMoments = {
  ...NO_MOMENTS,
  paired: 0,
  pairedSum: 0,
  preSum: 0,
  preSumSquares: 0,
  products: 0,
};

/** @param was null = this is the unit's first request. */
export function withRequest(was: UnitValue | null, value: number, before: number | null): UnitValue {
  return {
    n: (was?.n ?? 0) + 1,
    sum: (was?.sum ?? 0) + value,
    before: was?.before ?? before,
  };
}

export const meanOf = ({ n, sum }: UnitValue): number => sum / n;

/** The sums once a unit that `was` so `is` so. */
export function moveUnit(moments: RunningMoments, was: UnitValue | null, is: UnitValue): RunningMoments {
  const after = meanOf(is);
  const values = was === null ? addValue(moments, after) : replaceValue(moments, meanOf(was), after);
  const { before } = is;
  if (before === null) return { ...moments, ...values };
  const isNew = was === null || was.before === null;
  const pre = isNew ? before : 0;
  const moved = isNew ? after : after - meanOf(was);
  return {
    ...values,
    paired: moments.paired + (isNew ? 1 : 0),
    pairedSum: moments.pairedSum + moved,
    preSum: moments.preSum + pre,
    preSumSquares: moments.preSumSquares + pre * pre,
    products: moments.products + before * moved,
  };
}
