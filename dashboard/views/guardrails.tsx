import { metricOf, type Experiment } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation } from '../../protocol/experiment-api.ts';
import { GUARDRAIL_STATES } from '../../protocol/state-words.ts';
import { number, percent } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

export function Guardrails(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { guardrails } = props.evaluation;
  if (guardrails.length === 0) return null;
  return (
    <section aria-label="Guardrails">
      <h2>Guardrails</h2>
      <Table
        label="Guardrails"
        columns={['Metric', 'Variant', { right: 'Control' }, { right: 'Variant’s' }, 'When lost', 'State']}
      >
        {guardrails.map((rail) => {
          const write = metricOf(props.document, rail.metric)?.kind === 'proportion' ? percent : number;
          return (
            <tr key={`${rail.metric} ${rail.variant}`}>
              <th scope="row">{rail.metric}</th>
              <td>{rail.variant}</td>
              <td class="right">{write(rail.control)}</td>
              <td class="right">{write(rail.treatment)}</td>
              <td>{rail.action === 'rollback' ? 'roll back' : 'hold'}</td>
              <td>
                <span class={`state ${rail.state}`}>{GUARDRAIL_STATES[rail.state]}</span>
                {rail.lost !== null && (
                  <span class="hint">
                    {' '}
                    more than{' '}
                    {rail.lost.limit === 'relative'
                      ? percent(rail.lost.allowed)
                      : write(rail.lost.allowed)}{' '}
                    above control
                  </span>
                )}
              </td>
            </tr>
          );
        })}
      </Table>
    </section>
  );
}
