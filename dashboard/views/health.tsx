import type { ExperimentEvaluation } from '../../protocol/admin-api/experiments.ts';
import { guardrailLimits, type Experiment, metricOf } from '../../protocol/experiment.ts';
import { GUARDRAIL_STATES } from '../../protocol/state-words.ts';
import { isJudgedAlone } from '../model/experiment-words.ts';
import { number, percent } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** What is lacking, each with what to do; no winner is proposed meanwhile. */
export function Health({ evaluation: { health } }: { evaluation: ExperimentEvaluation }) {
  if (health.length === 0) return null;
  return (
    <section class="note alarm" aria-label="Health">
      <p>
        <strong>Something is lacking.</strong> No winner is proposed meanwhile.
      </p>
      <ul>
        {health.map(({ message }) => (
          <li key={message}>{message}</li>
        ))}
      </ul>
    </section>
  );
}

export function Guardrails(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { guardrails, units } = props.evaluation;
  const [control] = props.document.variants;
  if (guardrails.length === 0) return null;
  const allowed = (metric: string): string => {
    const rail = props.document.guardrails.find((one) => one.metric === metric);
    if (rail === undefined) return '–';
    const write = metricOf(props.document, metric)?.kind === 'proportion' ? percent : number;
    return guardrailLimits(rail)
      .map(({ limit, direction, allowed }) => {
        const size = limit === 'relative' ? `${percent(allowed)} of it` : write(allowed);
        return `${direction === 'increase' ? '+' : '−'}${size}`;
      })
      .join(', ');
  };
  return (
    <section aria-label="Guardrails">
      <h2>Guardrails</h2>
      <Table
        label="Guardrails"
        columns={[
          'Metric',
          'Variant',
          { right: 'Control' },
          { right: 'Variant’s' },
          { right: 'At most' },
          'When lost',
          'State',
        ]}
      >
        {guardrails.map((rail) => {
          const write = metricOf(props.document, rail.metric)?.kind === 'proportion' ? percent : number;
          // The mean of nobody is no 0.
          const mean = (variant: string | undefined, value: number): string =>
            variant !== undefined && (units[variant] ?? 0) === 0 ? '–' : write(value);
          return (
            <tr key={`${rail.metric} ${rail.variant}`}>
              <th scope="row">{rail.metric}</th>
              <td>{rail.variant}</td>
              <td class="right">{mean(control?.key, rail.control)}</td>
              <td class="right">{mean(rail.variant, rail.treatment)}</td>
              <td class="right">{allowed(rail.metric)}</td>
              <td>{rail.action === 'rollback' ? 'roll back' : 'hold'}</td>
              <td>
                <span class={`state ${rail.state}`}>{GUARDRAIL_STATES[rail.state]}</span>
                {rail.state === 'kept' && rail.inside && <span class="hint"> for certain</span>}
                {rail.lost !== null && (
                  <span class="hint">
                    {' '}
                    more than{' '}
                    {rail.lost.limit === 'relative'
                      ? percent(rail.lost.allowed)
                      : write(rail.lost.allowed)}{' '}
                    {rail.lost.direction === 'increase' ? 'above' : 'below'} control
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

/** Who got which variant, how many of them rated it, and how many answers waited for its adapter. */
export function Units(props: { document: Experiment; evaluation: ExperimentEvaluation | null }) {
  const { document, evaluation } = props;
  const { dropped = [] } = document;
  // Where nobody is dealt anything there are no units, and no shares of them.
  const isDealt = !isJudgedAlone(document);
  const isRated = isDealt && document.variants.some(({ key }) => evaluation?.arms[key]?.rated != null);
  const hasCold = document.variants.some(({ key }) => (evaluation?.arms[key]?.cold_starts ?? 0) > 0);
  return (
    <Table
      label="Variants"
      columns={[
        'Variant',
        'Adapter',
        ...(isDealt ? [{ right: 'Weight' }, { right: 'Units' }] : []),
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
            {isDealt && (
              <>
                <td class="right">
                  {dropped.includes(key) ? <span class="state lost">dropped</span> : percent(weight)}
                </td>
                <td class="right">{evaluation === null ? '–' : number(units)}</td>
              </>
            )}
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
