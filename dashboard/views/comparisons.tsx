import type { ExperimentComparison } from '../../protocol/experiment-api.ts';
import { number, percent, signed } from '../model/words.ts';

const REASONS = { too_few_values: 'too few values', no_variance: 'all values are the same' } as const;

export function Comparisons({ comparisons }: { comparisons: readonly ExperimentComparison[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Metrics">
      <table>
        <thead>
          <tr>
            <th scope="col">Metric</th>
            <th scope="col">Variant</th>
            <th scope="col" class="right">
              Control
            </th>
            <th scope="col" class="right">
              Variant’s
            </th>
            <th scope="col" class="right">
              Lift
            </th>
            <th scope="col">Interval</th>
            <th scope="col" class="right">
              Chance to win
            </th>
            <th scope="col">Verdict</th>
          </tr>
        </thead>
        <tbody>
          {comparisons.map((one) => {
            const mean = ({ mean: value, n }: { mean: number; n: number }) => (
              <>
                {one.kind === 'proportion' ? percent(value) : number(value)}{' '}
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
                  {shown === null ? '–' : `${signed(write(shown.low))} to ${signed(write(shown.high))}`}
                </td>
                <td class="right">{one.chance_to_win === null ? '–' : percent(one.chance_to_win)}</td>
                <td>
                  <span class={`state ${one.verdict}`}>{one.verdict}</span>
                  {one.reason !== null && <span class="hint"> {REASONS[one.reason]}</span>}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
