import type { Experiment, ExperimentPairs } from '../../../protocol/index.ts';
import { winRate } from '../statistics/win-rate.ts';
import { PAIR_TUNING } from './limits.ts';
import type { PairTally } from './ports.ts';

/** Pairs are called better or worse where there is no difference with at most this probability. */
const ALPHA = 0.05;

/** What the pairs of one look come to; null without a judge. Pure. */
export function pairsAtLook(
  { judge, shadow, variants }: Experiment,
  tally: PairTally | null,
): ExperimentPairs | null {
  const variant = variants.find(({ adapter }) => adapter === shadow?.adapter);
  if (judge === undefined || variant === undefined || tally === null) return null;
  const { wins, ties, losses, same, choices, first, asked, agreed, failures, tokensToday } = tally;
  const rate = winRate(tally, ALPHA, PAIR_TUNING);
  return {
    ...{ variant: variant.key, wins, ties, losses, same, failures },
    win_rate: rate && { estimate: rate.estimate, ...rate.interval },
    p_value: rate?.pValue ?? 1,
    verdict: rate === null ? 'open' : verdictOf(rate.interval),
    first_chosen: choices === 0 ? null : first / choices,
    agreement: asked === 0 ? null : agreed / asked,
    tokens_today: tokensToday,
  };
}

function verdictOf({ low, high }: { low: number; high: number }): ExperimentPairs['verdict'] {
  if (low > 0.5) return 'better';
  return high < 0.5 ? 'worse' : 'open';
}
