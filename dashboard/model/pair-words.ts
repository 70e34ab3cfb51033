/** Judged pairs, as the page writes them. */
import type { Experiment } from '../../protocol/experiment.ts';
import {
  PAIR_FAILURE_WORDS,
  type ExperimentPairs,
  type PairFailure,
} from '../../protocol/experiment-judge.ts';
import { number, percent } from './words.ts';

type Judge = NonNullable<Experiment['judge']>;

export const judgeWords = ({ model, url }: Judge): string =>
  model === undefined
    ? `${url ?? '?'}, which sees the answers in random order`
    : `${model}, asked in both orders; where these disagree it is a tie`;

/** What to believe the judge by, each a sentence. */
export function pairNotes(pairs: ExperimentPairs, { tokens_per_day: budget }: Judge): string[] {
  const { same, first_chosen: first, agreement, failures, tokens_today: tokens } = pairs;
  return [
    ...(same === 0 ? [] : [`${number(same)} of the ties: the same to the letter, so that nobody was asked.`]),
    ...(first === null ? [] : [`The answer shown first was chosen in ${percent(first)}.`]),
    ...(agreement === null ? [] : [`The judge said the same in both orders in ${percent(agreement)}.`]),
    ...Object.entries(failures).map(
      ([reason, count]) => `${number(count)} not judged: ${PAIR_FAILURE_WORDS[reason as PairFailure]}.`,
    ),
    `${number(tokens)} of ${number(budget)} tokens used today.`,
  ];
}

/** Nobody is in it: there are pairs, and no units to compare. */
export const isJudgedAlone = ({ judge, coverage }: Pick<Experiment, 'judge' | 'coverage'>): boolean =>
  judge !== undefined && coverage === 0;
