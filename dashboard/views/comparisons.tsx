import type { ExperimentComparison } from '../../protocol/experiment-answers.ts';
import { OPEN_REASONS, VERDICT_WORDS } from '../../protocol/state-words.ts';
import { barRange } from '../model/interval-series.ts';
import { number, percent, signed } from '../model/words.ts';
import { IntervalBar } from '../parts/interval-bar.tsx';
import { Table } from '../parts/table.tsx';

export function Comparisons({ comparisons }: { comparisons: readonly ExperimentComparison[] }) {
  const notes = [...new Set(comparisons.flatMap(notesOf))];
  const ranges = new Map(
    comparisons.map(({ metric }) => [metric, barRange(comparisons.filter((one) => one.metric === metric))]),
  );
  return (
    <>
      <Table
        label="Metrics"
        columns={[
          'Metric',
          'Variant',
          { right: 'Control' },
          { right: 'Variant’s' },
          { right: 'Lift' },
          'Interval',
          'Verdict',
        ]}
      >
        {comparisons.map((one) => {
          const mean = ({ mean: value, n }: { mean: number; n: number }) => (
            <>
              {n === 0 ? '–' : one.kind === 'proportion' ? percent(value) : number(value)}{' '}
              <span class="hint">n {number(n)}</span>
            </>
          );
          const shown = one.lift ?? one.difference;
          const write = one.lift === null ? number : percent;
          return (
            <tr key={`${one.metric} ${one.variant}`}>
              <th scope="row">{one.metric}</th>
              <td>{one.variant}</td>
              <td class="right">{mean(one.control)}</td>
              <td class="right">{mean(one.treatment)}</td>
              <td class="right">
                {shown === null ? '–' : signed(write(shown.estimate))}
                {one.lift === null && shown !== null && ' (difference)'}
              </td>
              <td class="nowrap">
                {shown === null ? (
                  '–'
                ) : (
                  <>
                    {signed(write(shown.low))} to {signed(write(shown.high))}
                    <IntervalBar {...shown} range={ranges.get(one.metric) ?? [-1, 1]} tone={toneOf(one)} />
                  </>
                )}
              </td>
              <td>
                <span class={`state ${one.verdict}`}>{VERDICT_WORDS[one.verdict]}</span>
                {one.reason !== null && <span class="hint"> {OPEN_REASONS[one.reason]}</span>}
              </td>
            </tr>
          );
        })}
      </Table>
      {notes.map((note) => (
        <p class="hint" key={note}>
          {note}
        </p>
      ))}
    </>
  );
}

const toneOf = ({ verdict }: ExperimentComparison): 'good' | 'bad' | 'open' =>
  verdict === 'worse' ? 'bad' : verdict === 'open' ? 'open' : 'good';

/** How a metric's values were taken otherwise than as they came. */
function notesOf({ metric, variant, cap, adjusted, adjusted_share: share }: ExperimentComparison): string[] {
  const known = share != null && share < 1 ? `, known of ${percent(share)} of units` : '';
  return [
    ...(cap === undefined
      ? []
      : cap === null
        ? [`${metric}: to be capped at control’s p99, which is not known yet.`]
        : [`${metric}: capped at ${number(cap)}, control’s p99.`]),
    ...(adjusted ? [`${metric} of ${variant}: adjusted by values from before${known}.`] : []),
  ];
}
