import type { Experiment } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';
import { shadowFigures } from '../model/shadow-figures.ts';
import { percent } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** What the adapter that runs beside was like. Of no variant, so that it is shown also while results are hidden. */
export function Shadow(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { shadow } = props.document;
  const figures = shadowFigures(props.evaluation);
  if (shadow === undefined || figures.length === 0) return null;
  return (
    <section aria-label="Shadow">
      <h2>Shadow</h2>
      <p class="hint">
        {shadow.adapter} also runs for {percent(shadow.sample)} of the requests; nobody gets its answers.
      </p>
      <Table
        label="Shadow"
        columns={['Metric', { right: 'Requests' }, { right: 'Mean' }, { right: 'p50' }, { right: 'p95' }]}
      >
        {figures.map(({ metric, requests, mean, p50, p95 }) => (
          <tr key={metric}>
            <th scope="row">{metric}</th>
            <td class="right">{requests}</td>
            <td class="right">{mean}</td>
            <td class="right">{p50}</td>
            <td class="right">{p95}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}
