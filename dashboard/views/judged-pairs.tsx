import type { Experiment } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';
import { judgeWords, pairNotes } from '../model/pair-words.ts';
import { number, percent } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

/** Which of two answers to the same prompt a judge finds better; no user sees the other one. */
export function JudgedPairs(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { judge, variants } = props.document;
  const { pairs } = props.evaluation;
  if (judge === undefined) return null;
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
      {pairs !== undefined && <p class="hint">{pairNotes(pairs, judge).join(' ')}</p>}
    </section>
  );
}
