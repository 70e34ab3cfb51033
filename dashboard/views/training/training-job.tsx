import { FlaskConical, MessagesSquare, Pause, Play, Square } from 'lucide';
import type { ComponentChildren } from 'preact';
import { useMemo, useRef, useState } from 'preact/hooks';
import { VersionList } from '../../../protocol/admin-api/versions.ts';
import type { JobEventView, JobView } from '../../../protocol/fine-tuning.ts';
import type { Client } from '../../api/client.ts';
import { listCheckpoints, readStory, stepJob } from '../../api/training.ts';
import type { Problem } from '../../model/problem.ts';
import {
  failureAdvice,
  hasEnded,
  messagesOf,
  progressOf,
  settingsOf,
  storyColumns,
  timeLeft,
  trainsOn,
} from '../../model/training-jobs.ts';
import { hashOf } from '../../model/view.ts';
import { duration, moment, whole } from '../../model/words.ts';
import { LossChart } from '../../parts/charts.tsx';
import { useQuestion, type Question } from '../../parts/dialog.tsx';
import { useLoad } from '../../parts/hooks.ts';
import { Icon } from '../../parts/icon.tsx';
import { Answered, ProblemNote, Skeleton } from '../../parts/notes.tsx';
import { Table } from '../../parts/table.tsx';
import { flipQuestion } from '../adapter/name-questions.tsx';
import { Status, TrainingProblem } from './trainings.tsx';
import { TryClassifier } from '../../parts/try-classifier.tsx';

/** The edge asks the origin about a job once in five seconds. */
const EVERY_MS = 3_000;

/** One job: how far it is, its losses, what can be done with it, and how it ended. */
export function TrainingJobView({ client, id }: { client: Client; id: string }) {
  const known = useRef<readonly JobEventView[]>([]);
  const [isOver, setOver] = useState(false);
  const story = useLoad(
    `training ${id}`,
    async () => {
      const read = await readStory(client, id, known.current);
      if (read.ok) {
        known.current = read.value.events;
        setOver(hasEnded(read.value.job));
      }
      return read;
    },
    isOver ? undefined : EVERY_MS,
  );
  const { data } = story;
  const curve = useMemo(
    () => storyColumns(data?.events ?? []),
    [data?.events.length, data?.events.at(-1)?.id],
  );
  return (
    <>
      <p class="back always">
        <a href={hashOf({ at: 'training' })}>All trainings</a>
      </p>
      {data === null ? (
        <>
          <h1>Training</h1>
          <TrainingProblem problem={story.problem} onRetry={() => void story.reload()} />
          {story.problem === null && <Skeleton label="the training" />}
        </>
      ) : (
        <Answered of={[story]}>
          <div class="title">
            <h1 class="name">{data.job.graft.name}</h1>
            <Status job={data.job} />
          </div>
          <p class="facts">
            {hasEnded(data.job) ? 'Trained on' : 'Trains on'} {trainsOn(data.job)}, created{' '}
            {moment(1_000 * data.job.created_at)}.
          </p>
          {!hasEnded(data.job) && <Running client={client} {...data} onChanged={() => void story.reload()} />}
          <Ended client={client} job={data.job} />
          {hasEnded(data.job) && <Checkpoints client={client} job={data.job} />}
          <LossChart columns={curve} />
          <Settings job={data.job} />
          <Story events={data.events} />
        </Answered>
      )}
    </>
  );
}

function Running(props: {
  client: Client;
  job: JobView;
  events: readonly JobEventView[];
  onChanged: () => void;
}) {
  const { client, job, events, onChanged } = props;
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [ask, dialog] = useQuestion(onChanged);
  const progress = progressOf(events);
  const left = timeLeft(job, Date.now());
  const step = async (what: 'pause' | 'resume') => {
    setBusy(true);
    const done = await stepJob(client, job.id, what);
    setBusy(false);
    setProblem(done.ok ? null : done.error);
    onChanged();
  };
  return (
    <>
      {progress !== null && (
        <p class="progress-line">
          <progress aria-label="Steps" max={progress.steps} value={progress.step} />
          <span>
            Step {whole(progress.step)} of {whole(progress.steps)}
            {left !== null && `, ${left}`}
          </span>
        </p>
      )}
      {progress === null && <p class="hint">{WAITING[job.status]}</p>}
      <div class="actions">
        {job.status === 'paused' ? (
          <button type="button" disabled={busy} onClick={() => void step('resume')}>
            <Icon of={Play} />
            Resume
          </button>
        ) : (
          <button type="button" disabled={busy} onClick={() => void step('pause')}>
            <Icon of={Pause} />
            Pause
          </button>
        )}
        <button type="button" class="danger" onClick={() => ask(cancelQuestion(client, job))}>
          <Icon of={Square} />
          Cancel it
        </button>
      </div>
      <ProblemNote problem={problem} />
      {dialog}
    </>
  );
}

/** Before the first step. */
const WAITING: Readonly<Partial<Record<JobView['status'], ComponentChildren>>> = {
  queued: (
    <>
      It waits for a free origin that was started with <code class="nowrap">--train</code> (
      <code class="nowrap">graft dev --train</code>). Tenants take turns; the edge looks once a minute.
    </>
  ),
  running: 'The origin prepares it.',
  paused: 'It is paused. Nothing is trained yet.',
};

const cancelQuestion = (client: Client, { id, graft }: JobView): Question => ({
  title: `End the training of ${graft.name}?`,
  text: 'It is cancelled without a result, and what is trained so far is deleted.',
  act: 'End the training',
  danger: true,
  noReason: true,
  done: 'The training is cancelled.',
  run: async () => {
    const answer = await stepJob(client, id, 'cancel');
    return answer.ok ? null : answer.error;
  },
});

/** How it ended, and what to do now. */
function Ended({ client, job }: { client: Client; job: JobView }) {
  if (job.status === 'succeeded') return <Succeeded client={client} job={job} />;
  if (job.status === 'cancelled')
    return (
      <div class="note" role="status">
        <p>
          <strong>It was cancelled.</strong> There is no result.
        </p>
        <TrainAgain job={job} />
      </div>
    );
  if (job.status !== 'failed') return null;
  return (
    <div class="note alarm" role="alert">
      <p>
        <strong>The training failed.</strong> {sentence(job.error?.message ?? '')} {failureAdvice(job)}
      </p>
      <TrainAgain job={job} />
    </div>
  );
}

/** The program that trains writes its reasons without a capital and a full stop. */
const sentence = (text: string): string =>
  text === '' ? '' : `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

function TrainAgain({ job }: { job: JobView }) {
  const query = new URLSearchParams(settingsOf(job));
  return (
    <a class="button" href={hashOf({ at: 'new-training', query })}>
      Train again
    </a>
  );
}

function Succeeded({ client, job }: { client: Client; job: JobView }) {
  const { name, parent, base } = job.graft;
  const versions = useLoad(`versions ${name}`, () =>
    client.call('GET /admin/versions', { query: { name }, as: VersionList }),
  );
  const [ask, dialog] = useQuestion(() => void versions.reload());
  const made = job.fine_tuned_model ?? name;
  const version = versions.data?.versions.find((one) => `${one.name}@${one.version}` === made);
  const live = versions.data?.version ?? null;
  const isLive = version?.live === true;
  const isBeside = live !== null && !isLive;
  const classes = version?.chain.at(-1)?.classes;
  const query = new URLSearchParams({ left: isBeside ? name : (parent ?? base), right: made });
  return (
    <>
      <div class="note good" role="status">
        <p>
          <strong>
            {made} is {isLive ? 'live' : 'staged'}.
          </strong>{' '}
          {isLive
            ? `Requests for ${name} get it.`
            : `Only requests for ${made} get it so far. Try it, then let an experiment decide, or promote it.`}
        </p>
      </div>
      <div class="actions">
        {classes === undefined && (
          <a class={isLive ? 'button' : 'button main'} href={hashOf({ at: 'playground', query })}>
            <Icon of={MessagesSquare} />
            {isBeside ? 'Try it beside the live version' : `Try it beside ${parent ?? 'the base'}`}
          </a>
        )}
        {isBeside && version !== undefined && (
          <a
            class="button"
            href={hashOf({
              at: 'new-experiment',
              name,
              query: new URLSearchParams({ treatment: String(version.version) }),
            })}
          >
            <Icon of={FlaskConical} />
            Start an experiment
          </a>
        )}
        {!isLive && version !== undefined && (
          <button type="button" onClick={() => ask(flipQuestion(client, version, live))}>
            Promote
          </button>
        )}
        <a href={hashOf({ at: 'adapters', name })}>See {name}</a>
      </div>
      {classes !== undefined && <TryClassifier model={made} classes={classes} />}
      <ProblemNote problem={versions.problem} onRetry={() => void versions.reload()} />
      {dialog}
    </>
  );
}

/** Versions of earlier steps beside the result, where there are any. */
function Checkpoints({ client, job }: { client: Client; job: JobView }) {
  const found = useLoad(`checkpoints ${job.id}`, () => listCheckpoints(client, job.id));
  const { parent, base } = job.graft;
  const all = found.data?.data ?? [];
  const isOnlyResult = all.every(({ fine_tuned_model_checkpoint: made }) => made === job.fine_tuned_model);
  if (isOnlyResult) return <ProblemNote problem={found.problem} onRetry={() => void found.reload()} />;
  return (
    <section aria-label="Checkpoints">
      <h3>Checkpoints</h3>
      <Table
        label="Checkpoints"
        columns={[
          'Version',
          { right: 'Step' },
          { right: 'Training loss' },
          { right: 'Held-out loss' },
          'Try it',
        ]}
      >
        {all.map(({ id, fine_tuned_model_checkpoint: made, step_number: step, metrics }) => {
          const isResult = made === job.fine_tuned_model;
          const left = (isResult ? null : job.fine_tuned_model) ?? parent ?? base;
          const query = new URLSearchParams({ left, right: made });
          return (
            <tr key={id}>
              <th scope="row">{made}</th>
              <td class="right">{whole(step)}</td>
              <td class="right">{lossWords(metrics.train_loss)}</td>
              <td class="right">{lossWords(metrics.full_valid_loss)}</td>
              <td>
                <a href={hashOf({ at: 'playground', query })}>
                  Beside {isResult ? (parent ?? 'the base') : 'the result'}
                </a>
              </td>
            </tr>
          );
        })}
      </Table>
    </section>
  );
}

const lossWords = (loss: number | undefined): string => (loss === undefined ? '–' : loss.toPrecision(3));

function Settings({ job }: { job: JobView }) {
  const { graft, method, hyperparameters, seed, trained_tokens: tokens, started_at: started } = job;
  const ended = job.finished_at;
  const { n_epochs: epochs, batch_size: batch, learning_rate_multiplier: factor } = hyperparameters;
  const facts: [name: string, value: string][] = [
    ['Method', method.type === 'dpo' ? 'Preferences (DPO)' : 'Answers (SFT)'],
    ['Epochs', String(epochs)],
    ['Rank', String(graft.rank)],
    ['Rows a step', String(batch)],
    ['Learning rate factor', factor === 'auto' ? '1' : String(factor)],
    ['Seed', String(seed)],
    ...(tokens === null ? [] : [['Trained tokens', whole(tokens)] satisfies [string, string]]),
    ...(started === null || ended === null
      ? []
      : [['Took', duration(1_000 * Math.max(1, ended - started))] satisfies [string, string]]),
  ];
  return (
    <section aria-label="Settings" class="training">
      <h3>Settings</h3>
      <dl class="figures">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

const SHOWN = 10;

function Story({ events }: { events: readonly JobEventView[] }) {
  const [all, setAll] = useState(false);
  const messages = messagesOf(events);
  return (
    <section aria-label="What happened">
      <h3>What happened</h3>
      <ol class="history">
        {(all ? messages : messages.slice(0, SHOWN)).map(({ id, created_at: at, message, level }) => (
          <li key={id}>
            <time dateTime={new Date(1_000 * at).toISOString()}>{moment(1_000 * at)}</time>
            <span class={level === 'error' ? 'wrong' : undefined}>{sentence(message)}</span>
          </li>
        ))}
      </ol>
      {!all && messages.length > SHOWN && (
        <button type="button" class="small" onClick={() => setAll(true)}>
          Show {messages.length - SHOWN} older ones
        </button>
      )}
    </section>
  );
}
