/** How often one of two answers to the same request is preferred, with an interval that holds at every look. */
import type { Interval } from './effect.ts';
import { sequentialMultiplier, sequentialPValue } from './sequential.ts';

export interface WinRate {
  /** Mean of the pairs' scores: 1 a win, 0.5 a tie, 0 a loss. */
  estimate: number;
  interval: Interval;
  pValue: number;
}

/**
 * A pair's score lies between 0 and 1, so that its distance from 0.5 is sub-Gaussian with a variance of 1/4 (Hoeffding),
 * and the normal mixture of 2103.06476 (equation 9) is no approximation: where wins and losses are equally likely, the
 * interval leaves 0.5 out at some look with probability `alpha` at most, from the first pair on. Ties say nothing of who
 * is better and count only as distance: the interval is that of the decided pairs, drawn together by their share.
 * @param tuning N*, decided pairs. @returns null before anybody won.
 */
export function winRate(
  { wins, ties, losses }: { wins: number; ties: number; losses: number },
  alpha: number,
  tuning: number,
): WinRate | null {
  const decided = wins + losses;
  if (decided === 0) return null;
  const share = decided / (decided + ties);
  const standardError = 0.5 / Math.sqrt(decided);
  const distance = wins / decided - 0.5;
  const half = standardError * sequentialMultiplier(decided, alpha, tuning);
  const at = (of: number): number => Math.min(1, Math.max(0, 0.5 + share * of));
  return {
    estimate: at(distance),
    interval: { low: at(distance - half), high: at(distance + half) },
    pValue: sequentialPValue({ estimate: distance, standardError, n: decided }, alpha, tuning),
  };
}
