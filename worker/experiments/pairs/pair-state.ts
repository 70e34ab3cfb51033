/** What is known of an experiment's pairs under one seed, and how one pair changes it. Pure. */
import type { PairOutcome, PairTally } from './ports.ts';

const DAY_MS = 86_400_000;
/** Days of UTC since 1970. */
const dayOf = (at: number): number => Math.floor(at / DAY_MS);

export type PairCounts = Omit<PairTally, 'tokensToday'>;

export const NO_PAIRS: PairCounts = {
  ...{ wins: 0, ties: 0, losses: 0, same: 0, choices: 0, first: 0, asked: 0, agreed: 0 },
  failures: {},
};

export function withPair(counts: PairCounts, outcome: PairOutcome): PairCounts {
  if ('failure' in outcome) {
    const { failure } = outcome;
    const { failures } = counts;
    return { ...counts, failures: { ...failures, [failure]: (failures[failure] ?? 0) + 1 } };
  }
  const { result, same, choices, first, agreed } = outcome;
  return {
    ...counts,
    wins: counts.wins + Number(result === 'win'),
    ties: counts.ties + Number(result === 'tie'),
    losses: counts.losses + Number(result === 'loss'),
    same: counts.same + Number(same),
    choices: counts.choices + choices,
    first: counts.first + first,
    asked: counts.asked + Number(agreed !== null),
    agreed: counts.agreed + Number(agreed === true),
  };
}

/** Tokens of one day, whatever the seed. */
export interface Spent {
  day: number;
  tokens: number;
}

export const spentOn = (spent: Spent | null, at: number): number =>
  spent?.day === dayOf(at) ? spent.tokens : 0;

export const withTokens = (spent: Spent | null, at: number, tokens: number): Spent => ({
  day: dayOf(at),
  tokens: spentOn(spent, at) + tokens,
});
