import { colors, plainTable } from '../output.ts';
import type { Estimate } from './statistics/win-rate.ts';
import type { ComparisonSummary, PairSummary, PositionSummary } from './summarize.ts';

const percent = (share: number): string => (100 * share).toFixed(1);
const percents = ({ low, high }: Estimate): string => `${percent(low)} to ${percent(high)} %`;
/** The typographical minus is as wide as the plus. */
const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;

export function renderComparison({ judge, prompts, names, pairs, position }: ComparisonSummary): string {
  const scored = names.some(({ exact }) => exact !== null);
  const strengths = plainTable(
    ['NAME', 'ANSWERED BY', ...(scored ? ['EXACT'] : []), 'STRENGTH', '95 %'],
    names.map(({ name, adapter, exact, strength }) => [
      name,
      adapter ?? '-',
      ...(scored ? [exact === null ? '-' : `${exact.right} of ${exact.of}`] : []),
      signed(strength.estimate),
      `${signed(strength.low)} to ${signed(strength.high)}`,
    ]),
  );
  const duels = plainTable(
    ['', 'AGAINST', 'WINS', 'TIES', 'LOSSES', 'WIN RATE', '95 %', ''],
    pairs.map((pair) => [
      pair.names[0],
      pair.names[1],
      String(pair.wins),
      String(pair.ties),
      String(pair.losses),
      pair.win_rate === null ? '-' : `${percent(pair.win_rate.estimate)} %`,
      pair.win_rate === null ? '-' : percents(pair.win_rate),
      verdictOf(pair),
    ]),
  );
  const skipped = pairs.reduce((sum, pair) => sum + pair.skipped, 0);
  const notes = [
    `${prompts.rows} prompts, judge: ${judge}${skipped > 0 ? `, ${skipped} skipped` : ''}`,
    ...(position === null ? [] : positionLines(position)),
  ];
  return [duels, '', strengths, '', ...notes.map((line) => colors.dim(line))].join('\n');
}

function verdictOf({ names: [a, b], win_rate: rate }: PairSummary): string {
  if (rate === null) return '';
  if (rate.low > 0.5) return `${a} is better`;
  if (rate.high < 0.5) return `${b} is better`;
  return 'open';
}

function positionLines({
  to_first: first,
  to_second: second,
  neutral,
  rate,
  changed,
  unclear,
}: PositionSummary): string[] {
  const total = first + second + neutral;
  const bias = rate !== null && (rate.low > 0.5 || rate.high < 0.5);
  const line =
    rate === null
      ? []
      : [
          `position: the answer shown first was preferred in ${percent(rate.estimate)} % (${percents(rate)})${bias ? ', which is a bias' : ''}`,
        ];
  const judgedOtherwise =
    changed === null || changed === 0
      ? []
      : [`${changed} of ${total} were judged otherwise in the other order, and are ties`];
  return [
    ...line,
    ...judgedOtherwise,
    ...(unclear > 0 ? [`${unclear} replies were neither A, B nor T`] : []),
  ];
}
