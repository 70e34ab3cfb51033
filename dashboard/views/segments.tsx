import type { Experiment } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';
import { segmentWords } from '../../protocol/experiment-breakdown.ts';
import { number, percent, signed } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** The metric that decides, by the declared dimension; nothing without one. */
export function Segments(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { segments } = props.evaluation;
  const [control, ...treatments] = props.document.variants.map(({ key }) => key);
  const metric = props.document.metrics[0];
  if (segments === undefined || segments.rows.length === 0 || metric === undefined) return null;
  const write = metric.kind === 'proportion' ? percent : number;
  return (
    <section aria-label="Segments">
      <h2>
        {metric.key} by {segments.by}
      </h2>
      <p class="hint">It decides nothing. Where many are looked at, one differs by chance.</p>
      <Table
        label="Segments"
        columns={[
          'Segment',
          'Variant',
          { right: 'Units' },
          { right: 'Control' },
          { right: 'Variant’s' },
          { right: 'Lift' },
          'Interval',
        ]}
      >
        {segments.rows.flatMap((row) =>
          treatments.map((variant) => {
            const mean = (key: string | undefined) => {
              const arm = row.means[metric.key]?.[key ?? ''];
              return arm === undefined || arm.n === 0 ? '–' : write(arm.mean);
            };
            const lift = row.lifts[variant] ?? null;
            const name = segmentWords(segments.by, row);
            return (
              <tr key={`${String(row.other)} ${String(row.segment)} ${variant}`}>
                <th scope="row">{name}</th>
                <td>{variant}</td>
                <td class="right">
                  {number(row.units[variant] ?? 0)}{' '}
                  <span class="hint">
                    of {number((row.units[variant] ?? 0) + (row.units[control ?? ''] ?? 0))}
                  </span>
                </td>
                <td class="right">{mean(control)}</td>
                <td class="right">{mean(variant)}</td>
                <td class="right">{lift === null ? '–' : signed(percent(lift.estimate))}</td>
                <td class="nowrap">
                  {lift === null ? '–' : `${signed(percent(lift.low))} to ${signed(percent(lift.high))}`}
                </td>
              </tr>
            );
          }),
        )}
      </Table>
    </section>
  );
}
