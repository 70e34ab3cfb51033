import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';
import { number } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** How times, and listed metrics that are no rates, are spread; nothing where it is not known. */
export function Spread({ evaluation: { spread = {} } }: { evaluation: ExperimentEvaluation }) {
  const rows = Object.entries(spread).flatMap(([metric, arms]) =>
    Object.entries(arms).map(([variant, arm]) => ({ metric, variant, arm })),
  );
  if (rows.length === 0) return null;
  return (
    <section aria-label="Spread">
      <h2>Spread</h2>
      <p class="hint">The mean is that of the units; p50 and p95 are those of the single answers, to 2 %.</p>
      <Table
        label="Spread"
        columns={[
          'Metric',
          'Variant',
          { right: 'Values' },
          { right: 'Mean' },
          { right: 'p50' },
          { right: 'p95' },
        ]}
      >
        {rows.map(({ metric, variant, arm }) => (
          <tr key={`${metric} ${variant}`}>
            <th scope="row">{metric}</th>
            <td>{variant}</td>
            {[arm.values, arm.mean, arm.p50, arm.p95].map((value, i) => (
              <td key={i} class="right">
                {number(value)}
              </td>
            ))}
          </tr>
        ))}
      </Table>
    </section>
  );
}
