import type { Experiment } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';
import { number, percent } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** Who got which variant, how many of them rated it, and how many answers waited for its adapter. */
export function Units(props: { document: Experiment; evaluation: ExperimentEvaluation | null }) {
  const { document, evaluation } = props;
  const { dropped = [] } = document;
  const isRated = document.variants.some(({ key }) => evaluation?.arms[key]?.rated != null);
  const hasCold = document.variants.some(({ key }) => (evaluation?.arms[key]?.cold_starts ?? 0) > 0);
  return (
    <Table
      label="Variants"
      columns={[
        'Variant',
        'Adapter',
        { right: 'Weight' },
        { right: 'Units' },
        ...(isRated ? [{ right: 'Rated' }] : []),
        ...(hasCold ? [{ right: 'Cold starts' }] : []),
      ]}
    >
      {document.variants.map(({ key, adapter, weight }) => {
        const units = evaluation?.units[key] ?? 0;
        const rated = evaluation?.arms[key]?.rated ?? 0;
        return (
          <tr key={key}>
            <th scope="row">{key}</th>
            <td class="chain">{adapter}</td>
            <td class="right">
              {dropped.includes(key) ? <span class="state lost">dropped</span> : percent(weight)}
            </td>
            <td class="right">{evaluation === null ? '–' : number(units)}</td>
            {isRated && (
              <td class="right">
                {number(rated)}
                {units > 0 && ` (${percent(rated / units)})`}
              </td>
            )}
            {hasCold && <td class="right">{number(evaluation?.arms[key]?.cold_starts ?? 0)}</td>}
          </tr>
        );
      })}
    </Table>
  );
}
