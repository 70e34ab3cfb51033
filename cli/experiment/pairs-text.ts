import {
  type Experiment,
  type ExperimentEvaluation,
  type ExperimentPairs,
  type KeptPair,
  PAIR_FAILURE_WORDS,
} from '../../protocol/index.ts';
import { harmless } from '../harmless-text.ts';
import { when } from '../keys/key-table.ts';
import { colors, plainTable } from '../output.ts';
import { shareText } from './experiment-numbers.ts';

const VERDICTS = { better: colors.green, worse: colors.red, open: colors.dim };

const rate = (share: number): string => `${(100 * share).toFixed(1)} %`;

export const judgeText = ({
  model,
  url,
}: {
  model?: string | undefined;
  url?: string | undefined;
}): string =>
  model === undefined ? `${url ?? '?'} (signed calls, in random order)` : `${model}, in both orders`;

/** What the judged pairs came to; nothing without a judge. */
export function pairsText(
  { judge, variants }: Pick<Experiment, 'judge' | 'variants'>,
  look: ExperimentEvaluation | null,
): string[] {
  if (judge === undefined) return [];
  const pairs = look?.pairs;
  const by = `judged by ${judgeText(judge)}`;
  if (pairs === undefined || pairs.wins + pairs.ties + pairs.losses + failed(pairs) === 0)
    return [
      `${by}\nno pairs yet: they are made of answers of ${variants[0]?.adapter ?? 'control'} to keys of the tenant that owns the name`,
    ];
  const { variant, wins, ties, losses, win_rate: won, verdict } = pairs;
  const table = plainTable(
    ['JUDGED', 'WINS', 'TIES', 'LOSSES', 'WIN RATE', '95 % INTERVAL', 'VERDICT'],
    [
      [
        variant,
        ...[wins, ties, losses].map(String),
        won === null ? '-' : rate(won.estimate),
        won === null ? '-' : `${rate(won.low)} to ${rate(won.high)}`,
        VERDICTS[verdict](verdict),
      ],
    ],
  );
  return [[table, `${by}; a tie is half a win`, ...notes(pairs, judge.tokens_per_day)].join('\n')];
}

const failed = ({ failures }: ExperimentPairs): number =>
  Object.values(failures).reduce((sum: number, count) => sum + (count ?? 0), 0);

function notes(pairs: ExperimentPairs, budget: number): string[] {
  const { same, first_chosen: first, agreement, failures, tokens_today: tokens } = pairs;
  return [
    ...(same === 0 ? [] : [`${same} of the ties: the same to the letter, nobody was asked`]),
    ...(first === null ? [] : [`the answer shown first was chosen in ${rate(first)}`]),
    ...(agreement === null ? [] : [`the judge said the same in both orders in ${rate(agreement)}`]),
    ...Object.entries(failures).map(
      ([reason, count]) => `${count} not judged: ${PAIR_FAILURE_WORDS[reason as keyof typeof failures]}`,
    ),
    `${tokens} of ${budget} tokens used today (${shareText(Math.min(1, Number((tokens / budget).toFixed(3))))})`,
  ];
}

const RESULTS = { win: 'the treatment won', tie: 'a tie', loss: 'control won' };

/** Pairs with their texts, the newest first. */
export function keptPairsText(pairs: readonly KeptPair[]): string {
  if (pairs.length === 0)
    return 'No pairs are kept; --keep-pairs of `graft experiment create` asks for that.';
  return pairs
    .map(({ at, prompt, control, treatment, result, cut }) =>
      [
        colors.bold(`${when(at)}  ${RESULTS[result]}${cut ? ' (texts are cut)' : ''}`),
        ...prompt.map(({ role, content }) => `${colors.dim(`${harmless(role)}:`)} ${harmless(content)}`),
        `${colors.dim('control:')} ${harmless(control)}`,
        `${colors.dim('treatment:')} ${harmless(treatment)}`,
      ].join('\n'),
    )
    .join('\n\n');
}
