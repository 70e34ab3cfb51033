import { GraduationCap } from 'lucide';
import { useState } from 'preact/hooks';
import type { JobView } from '../../../protocol/fine-tuning.ts';
import type { Client } from '../../api/client.ts';
import { listJobs } from '../../api/training.ts';
import type { Problem } from '../../model/problem.ts';
import { inOrder, missingRight, STATUS_WORDS, timeLeft, trainsOn } from '../../model/training-jobs.ts';
import { hashOf } from '../../model/view.ts';
import { ago, moment } from '../../model/words.ts';
import { CopyButton } from '../../parts/copy-button.tsx';
import { useLoad } from '../../parts/hooks.ts';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { Breakable, Table } from '../../parts/table.tsx';

/** The schedule of an edge looks at jobs once a minute, one on your own machine every ten seconds. */
const EVERY_MS = 5_000;

/** All jobs of the tenant, those that have not ended first. */
export function TrainingsView({ client }: { client: Client }) {
  const list = useLoad('trainings', () => listJobs(client), EVERY_MS);
  const [older, setOlder] = useState<{ jobs: readonly JobView[]; more: boolean } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const newest = list.data?.data ?? [];
  const known = new Set(newest.map(({ id }) => id));
  const jobs = inOrder([...newest, ...(older?.jobs ?? []).filter(({ id }) => !known.has(id))]);
  const hasMore = older?.more ?? list.data?.has_more ?? false;
  const readOlder = async () => {
    const last = older?.jobs.at(-1) ?? newest.at(-1);
    const page = await listJobs(client, last?.id ?? null);
    if (page.ok) setOlder({ jobs: [...(older?.jobs ?? []), ...page.value.data], more: page.value.has_more });
    setProblem(page.ok ? null : page.error);
  };
  const mayNot = list.problem !== null && missingRight(list.problem) !== null;
  return (
    <>
      <div class="title">
        <h1>Training</h1>
        {!mayNot && (
          <a class="button main" href={hashOf({ at: 'new-training' })}>
            <Icon of={GraduationCap} />
            Train an adapter
          </a>
        )}
      </div>
      <TrainingProblem problem={list.problem} onRetry={() => void list.reload()} />
      {list.data === null && list.problem === null && <p class="hint">Loading …</p>}
      {list.data !== null && jobs.length === 0 && (
        <p class="empty">
          Nothing has been trained yet. A file of examples makes an adapter; it needs an origin that was
          started with <code class="nowrap">--train</code>, as <code class="nowrap">graft dev --train</code>{' '}
          starts one.
        </p>
      )}
      {jobs.length > 0 && (
        <Table label="Trainings" asCards columns={['Result', 'State', 'Trained on', 'Created', 'End']}>
          {jobs.map((job) => (
            <Row key={job.id} job={job} />
          ))}
        </Table>
      )}
      {hasMore && (
        <button type="button" class="small" onClick={() => void readOlder()}>
          Show older ones
        </button>
      )}
      <ProblemNote problem={problem} />
    </>
  );
}

function Row({ job }: { job: JobView }) {
  const { id, graft, created_at: created, finished_at: finished } = job;
  const at = 1_000 * created;
  return (
    <tr>
      <th scope="row">
        <a href={hashOf({ at: 'training', id })}>
          <Breakable text={job.fine_tuned_model ?? graft.name} />
        </a>
      </th>
      <td>
        <Status job={job} />
      </td>
      <td data-label="Trained on" class="whole">
        <Breakable text={trainsOn(job)} />
      </td>
      <td data-label="Created" class="nowrap">
        <time dateTime={new Date(at).toISOString()} title={moment(at)}>
          {ago(at, Date.now())}
        </time>
      </td>
      <td data-label="End" class="nowrap">
        {finished === null ? (timeLeft(job, Date.now()) ?? '–') : ago(1_000 * finished, Date.now())}
      </td>
    </tr>
  );
}

export function Status({ job: { status } }: { job: JobView }) {
  const [words, state] = STATUS_WORDS[status];
  return <span class={`state ${state}`}>{words}</span>;
}

/** A key without the right is told the command that gives it. */
export function TrainingProblem({ problem, onRetry }: { problem: Problem | null; onRetry: () => void }) {
  const command = problem === null ? null : missingRight(problem);
  if (command === null) return <ProblemNote problem={problem} onRetry={onRetry} />;
  return (
    <div class="note warm" role="alert">
      <p>
        <strong>This key may not train.</strong> With the bootstrap key, <code>{command}</code> gives it that
        right.
      </p>
      <CopyButton text={command} what="the command" />
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

/** A tenant has few trainings that have not ended, and they are seldom old. */
const NEWEST = 20;

/** On the page of a name: its trainings that have not ended. Nothing for a key without the right. */
export function OpenTrainings({ client, name }: { client: Client; name: string }) {
  const { data } = useLoad(`trainings of ${name}`, () => listJobs(client, null, NEWEST), 30_000);
  const open = (data?.data ?? []).filter((job) => job.finished_at === null && job.graft.name === name);
  return (
    <>
      {open.map((job) => (
        <div key={job.id} class="note">
          <p>
            <strong>A new version is being trained.</strong> <Status job={job} />
          </p>
          <a href={hashOf({ at: 'training', id: job.id })}>See it</a>
        </div>
      ))}
    </>
  );
}
