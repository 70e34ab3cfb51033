import type { Client } from '../api/client.ts';
import { coverageWords, hiddenBecause, isJudgedAlone, standing } from '../model/experiment-words.ts';
import { hashOf } from '../model/view.ts';
import { number } from '../model/words.ts';
import { ProblemNote } from '../parts/notes.tsx';
import { Table } from '../parts/table.tsx';
import { useLoad } from '../parts/use-load.ts';

export function ExperimentsView({ client }: { client: Client }) {
  const list = useLoad('experiments', () => client.call('GET /admin/experiments', {}), 10_000);
  const { data } = list;
  return (
    <>
      <div class="title">
        <h1>Experiments</h1>
        <a class="button main" href={hashOf({ at: 'new-experiment', name: '' })}>
          New experiment
        </a>
      </div>
      <ProblemNote problem={list.problem} onRetry={() => void list.reload()} />
      {data === null && list.problem === null && <p class="hint">Loading …</p>}
      {data !== null && data.experiments.length === 0 && (
        <p class="empty">
          There is none yet. An experiment gives some users of a name one version, others another one, and
          says which is better.
        </p>
      )}
      {data !== null && data.experiments.length > 0 && (
        <Table
          label="Experiments"
          columns={['Name', 'Status', { right: 'Coverage' }, { right: 'Units' }, 'How it stands']}
        >
          {data.experiments.map((view) => {
            const { id, document, evaluation } = view;
            const live = document.status === 'running' || document.status === 'ramping';
            const units = Object.values(evaluation?.units ?? {}).reduce((sum, one) => sum + one, 0);
            const words = standing(view);
            const isAlarm = words.tone === 'alarm' || (live && hiddenBecause(evaluation) !== null);
            return (
              <tr key={id}>
                <th scope="row">
                  <a href={hashOf({ at: 'experiments', id })}>{document.name}</a>
                </th>
                <td>
                  <span class={`state ${document.killed ? 'killed' : document.status}`}>
                    {document.killed ? 'killed' : document.status}
                  </span>
                </td>
                <td class="right">{coverageWords(document)}</td>
                <td class="right">{isJudgedAlone(document) ? '–' : number(units)}</td>
                <td class={`words ${isAlarm ? 'alarm' : ''}`}>{words.text}</td>
              </tr>
            );
          })}
        </Table>
      )}
      {data?.cursor != null && (
        <p class="hint">
          Older ones are in <code>graft experiment list</code>.
        </p>
      )}
    </>
  );
}
