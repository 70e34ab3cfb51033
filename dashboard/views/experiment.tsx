import { useState } from 'preact/hooks';
import { metricOf, type Experiment } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation, ExperimentView as View } from '../../protocol/admin-api/experiments.ts';
import type { Client } from '../api/client.ts';
import { hiddenBecause, isJudgedAlone, standing, type Step, stepsOf } from '../model/experiment-words.ts';
import { intervalColumns, scaleFor } from '../model/interval-series.ts';
import type { Problem } from '../model/problem.ts';
import { hashOf } from '../model/view.ts';
import { ago, moment, percent, number } from '../model/words.ts';
import { IntervalChart } from '../parts/interval-chart.tsx';
import { ProblemNote } from '../parts/notes.tsx';
import { useLoad } from '../parts/use-load.ts';
import { Comparisons, Segments, Spread } from './comparisons.tsx';
import { Guardrails, Health, Units } from './health.tsx';
import { Progress } from './outlook.tsx';
import { JudgedPairs, Shadow } from './judged-pairs.tsx';
import { stepQuestion } from './step-question.tsx';
import { useQuestion } from '../parts/confirm.tsx';

/** The edge looks each minute; a person who watches wants to see it soon. */
const REFRESH_MS = 5_000;

const ACTS: Record<Step, string> = {
  start: 'Start',
  ramp: 'More coverage',
  kill: 'Kill switch',
  revive: 'Kill switch off',
  promote: 'Promote a winner',
  stop: 'Stop',
  archive: 'Archive',
};

/** What takes it from its users; they stand apart from the rest. */
const ENDS: readonly Step[] = ['kill', 'stop'];

export function ExperimentView({ client, id }: { client: Client; id: string }) {
  const params = { id };
  const shown = useLoad(id, () => client.call('GET /admin/experiments/:id', { params }), REFRESH_MS);
  const looks = useLoad(
    `looks ${id}`,
    () => client.call('GET /admin/experiments/:id/looks', { params }),
    REFRESH_MS,
  );
  const [ask, dialog] = useQuestion(() => reload());
  const [looking, setLooking] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const reload = () => void Promise.all([shown.reload(), looks.reload()]);
  const lookNow = async () => {
    setLooking(true);
    const answer = await client.call('POST /admin/experiments/:id/evaluate', { params });
    setLooking(false);
    setProblem(answer.ok ? null : answer.error);
    reload();
  };
  const { data } = shown;
  if (data === null)
    return shown.problem === null ? (
      <p class="hint">Loading …</p>
    ) : (
      <ProblemNote problem={shown.problem} onRetry={reload} />
    );
  const { document, evaluation } = data;
  const hidden = hiddenBecause(evaluation);
  const steps = stepsOf(document);
  const button = (step: Step) => (
    <button
      key={step}
      type="button"
      class={step === 'start' ? 'main' : ENDS.includes(step) ? 'danger' : ''}
      onClick={() => ask(stepQuestion({ client, step, view: data }))}
    >
      {ACTS[step]}
    </button>
  );
  const live = document.status === 'running' || document.status === 'ramping';
  return (
    <>
      <p class="back always">
        <a href={hashOf({ at: 'experiments', id: null })}>All experiments</a>
      </p>
      <div class="title">
        <h1 class="name">{document.name}</h1>
        <span class={`state ${document.killed ? 'killed' : document.status}`}>
          {document.killed ? 'killed' : document.status}
        </span>
      </div>
      <ProblemNote problem={problem ?? shown.problem} onRetry={reload} />
      <Facts document={document} startedAt={data.started_at} />
      <div class="actions">
        {steps.filter((step) => !ENDS.includes(step)).map(button)}
        {live && (
          <button type="button" disabled={looking} onClick={() => void lookNow()}>
            {looking ? 'Looking …' : 'Look now'}
          </button>
        )}
        {steps.some((step) => ENDS.includes(step)) && (
          <span class="choices push" role="group" aria-label="End it">
            {steps.filter((step) => ENDS.includes(step)).map(button)}
          </span>
        )}
      </div>
      <Units document={document} evaluation={evaluation} />
      {evaluation === null ? (
        <p class="hint">
          {document.status === 'draft'
            ? 'It has not been started.'
            : 'Nobody has looked yet. The edge does so each minute.'}
        </p>
      ) : (
        <>
          <Decision view={data} evaluation={evaluation} />
          <Health evaluation={evaluation} />
          <Proposal view={data} />
          {live && evaluation.progress !== null && <Progress progress={evaluation.progress} />}
          <JudgedPairs evaluation={evaluation} document={document} />
          {isJudgedAlone(document) ? null : hidden !== null ? (
            <div class="note alarm" role="alert">
              <p>
                <strong>Results are hidden.</strong> {hidden}
              </p>
            </div>
          ) : (
            <Results document={document} evaluation={evaluation} looks={looks.data?.looks ?? []} />
          )}
          <ProblemNote problem={looks.problem} />
          {!isJudgedAlone(document) && <Guardrails evaluation={evaluation} document={document} />}
          <Segments evaluation={evaluation} document={document} />
          <Spread evaluation={evaluation} />
          <Shadow evaluation={evaluation} document={document} />
        </>
      )}
      {dialog}
    </>
  );
}

function Facts({ document, startedAt }: { document: Experiment; startedAt: number | null }) {
  const { coverage, ramp, winner } = document;
  const place = ramp === undefined ? -1 : ramp.steps.findLastIndex((step) => step <= coverage);
  return (
    <p class="facts">
      {isJudgedAlone(document) ? (
        'Nobody is in it: answers are judged beside those that users get'
      ) : (
        <>
          {percent(coverage)} of the {document.unit === 'user' ? 'users' : 'keys'}{' '}
          {startedAt === null ? 'will be' : 'are'} in it
        </>
      )}
      {ramp !== undefined && `, step ${place + 1} of ${ramp.steps.length}`}.{' '}
      {startedAt === null ? (
        'Not started.'
      ) : (
        <>
          Began <span class="nowrap">{moment(startedAt)}</span>.
        </>
      )}
      {winner !== null && ` Winner: ${winner}.`}
    </p>
  );
}

/** It stands, whatever later looks say. */
function Proposal({ view: { proposal, document } }: { view: View }) {
  if (proposal === null || document.status === 'decided' || document.status === 'archived') return null;
  return (
    <p class="facts">
      {proposal.variant} was proposed <span class="nowrap">{moment(proposal.at)}</span>, after{' '}
      {number(proposal.units)} units. It stands whatever later looks say, until a new seed begins.
    </p>
  );
}

function Decision({ view, evaluation }: { view: View; evaluation: ExperimentEvaluation }) {
  const words = standing(view);
  return (
    <div class={`note ${words.tone}`} role="status">
      <p>
        <strong>{words.text}</strong>{' '}
        <span class="hint nowrap">
          Looked {evaluation.last === true ? 'for the last time ' : ''}
          {ago(evaluation.at, Date.now())}.
        </span>
      </p>
    </div>
  );
}

function Results(props: {
  document: Experiment;
  evaluation: ExperimentEvaluation;
  looks: readonly ExperimentEvaluation[];
}) {
  const { document, evaluation, looks } = props;
  const metrics = [
    ...new Set([document.metrics[0]!.key, ...evaluation.comparisons.map(({ metric }) => metric)]),
  ];
  const [wanted, setWanted] = useState(metrics[0]!);
  const metric = metrics.includes(wanted) ? wanted : metrics[0]!;
  const scale = scaleFor(looks, metric);
  const better = metricOf(document, metric)?.better ?? 'up';
  return (
    <section aria-label="Results">
      <div class="title">
        <h2>Intervals over time</h2>
        <label class="inline">
          <span>Metric</span>{' '}
          <select value={metric} onChange={(event) => setWanted(event.currentTarget.value)}>
            {metrics.map((key) => (
              <option key={key} value={key}>
                {key}
              </option>
            ))}
          </select>
        </label>
      </div>
      <p class="hint">
        {scale === 'lift' ? 'Lift over control' : 'Difference from control'};{' '}
        {better === 'up' ? 'above' : 'below'} 0 is better. The intervals hold at every look, so looking often
        is no mistake.
      </p>
      <IntervalChart columns={intervalColumns(looks, metric, scale)} scale={scale} metric={metric} />
      <Comparisons comparisons={evaluation.comparisons} />
    </section>
  );
}
