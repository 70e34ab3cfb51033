import type { ExperimentEvaluation } from '../../protocol/admin-api/experiments.ts';
import type { Experiment } from '../../protocol/experiment.ts';
import { judgedByPlace, judgeWords, pairNotes, shadowFigures } from '../model/experiment-words.ts';
import { number, percent } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** Which of two answers to the same prompt a judge finds better; no user sees the other one. */
export function JudgedPairs(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { judge, variants } = props.document;
  const { pairs } = props.evaluation;
  if (judge === undefined) return null;
  const warning = pairs === undefined ? null : judgedByPlace(pairs);
  return (
    <section aria-label="Judged pairs">
      <h2>Judged pairs</h2>
      <p class="hint">
        Judged by {judgeWords(judge)}. A tie is half a win; the interval holds at every look.
      </p>
      {pairs === undefined || pairs.wins + pairs.ties + pairs.losses === 0 ? (
        <p class="hint">
          No pairs yet. They are made of answers of {variants[0]?.adapter} to keys of the tenant that owns the
          name.
        </p>
      ) : (
        <Table
          label="Judged pairs"
          columns={[
            'Variant',
            { right: 'Wins' },
            { right: 'Ties' },
            { right: 'Losses' },
            { right: 'Win rate' },
            'Interval',
            'Verdict',
          ]}
        >
          <tr>
            <th scope="row">{pairs.variant}</th>
            <td class="right">{number(pairs.wins)}</td>
            <td class="right">{number(pairs.ties)}</td>
            <td class="right">{number(pairs.losses)}</td>
            <td class="right">{pairs.win_rate === null ? '–' : percent(pairs.win_rate.estimate)}</td>
            <td class="nowrap">
              {pairs.win_rate === null
                ? '–'
                : `${percent(pairs.win_rate.low)} to ${percent(pairs.win_rate.high)}`}
            </td>
            <td>
              <span class={`state ${pairs.verdict}`}>{pairs.verdict}</span>
            </td>
          </tr>
        </Table>
      )}
      {warning !== null && (
        <div class="note warm">
          <p>
            <strong>Do not trust this judge.</strong> {warning}
          </p>
        </div>
      )}
      {pairs !== undefined && <p class="hint">{pairNotes(pairs, judge).join(' ')}</p>}
    </section>
  );
}

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
