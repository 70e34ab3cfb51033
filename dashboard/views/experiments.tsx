import { useState } from 'preact/hooks';
import { SelectField } from '../parts/fields.tsx';
import { metricOf, type Experiment } from '../../protocol/experiment.ts';
import type { VariantScore } from '../../protocol/evaluation-scores.ts';
import type { ExperimentEvaluation, ExperimentView as View } from '../../protocol/admin-api/experiments.ts';
import type { Client } from '../api/client.ts';
import {
  hiddenBecause,
  isJudgedAlone,
  standing,
  type Step,
  stepsOf,
  coverageWords,
  nextCoverage,
  openProposal,
  proposalSentence,
} from '../model/experiment-words.ts';
import { intervalColumns, scaleFor } from '../model/interval-series.ts';
import type { Problem } from '../model/problem.ts';
import { countProposals } from '../proposals.ts';
import { hashOf } from '../model/view.ts';
import { ago, moment, percent, number } from '../model/words.ts';
import { IntervalChart } from '../parts/charts.tsx';
import { ProblemNote } from '../parts/notes.tsx';
import { useLoad } from '../parts/hooks.ts';
import {
  Comparisons,
  Segments,
  Spread,
  JudgedPairs,
  Shadow,
  Guardrails,
  Health,
  Units,
  Progress,
} from './experiment-results.tsx';
import { ScoresNote, ScoreVariants } from './experiment-start.tsx';
import { useQuestion, type Question } from '../parts/dialog.tsx';
import { Table } from '../parts/table.tsx';
import type { RequestOf } from '../../protocol/admin-api/operations.ts';
import { VersionList } from '../../protocol/admin-api/versions.ts';

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
          There is none yet. An experiment gives some users of a name one version and others another, and
          shows which is better.
        </p>
      )}
      {data !== null && data.experiments.length > 0 && (
        <Table
          label="Experiments"
          asCards
          columns={['Name', 'Status', { right: 'Coverage' }, { right: 'Units' }, 'State']}
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
                <td class={`words whole ${isAlarm ? 'alarm' : ''}`}>{words.text}</td>
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

/** The edge evaluates each minute; a person who watches should see it soon. */
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

/** Actions that take it from its users, shown apart from the rest. */
const ENDS: readonly Step[] = ['kill', 'stop'];

export function ExperimentView({ client, id }: { client: Client; id: string }) {
  const params = { id };
  const shown = useLoad(id, () => client.call('GET /admin/experiments/:id', { params }), REFRESH_MS);
  const looks = useLoad(
    `looks ${id}`,
    () => client.call('GET /admin/experiments/:id/looks', { params }),
    REFRESH_MS,
  );
  const [ask, dialog] = useQuestion((done) => {
    reload();
    if (done) void countProposals(client);
  });
  const [looking, setLooking] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  // Its variants are being scored.
  const [starting, setStarting] = useState<View | null>(null);
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
  const proposal = openProposal(data);
  // With a proposal, its note has the only button.
  const steps = stepsOf(document).filter((step) => step !== 'promote' || proposal === null);
  const button = (step: Step) => (
    <button
      key={step}
      type="button"
      class={step === 'start' ? 'main' : ENDS.includes(step) ? 'danger' : ''}
      disabled={step === 'start' && starting !== null}
      onClick={() => (step === 'start' ? setStarting(data) : ask(stepQuestion({ client, step, view: data })))}
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
            {looking ? 'Looking …' : 'Evaluate now'}
          </button>
        )}
        {steps.some((step) => ENDS.includes(step)) && (
          <span class="choices push" role="group" aria-label="End it">
            {steps.filter((step) => ENDS.includes(step)).map(button)}
          </span>
        )}
      </div>
      {starting !== null && (
        <ScoreVariants
          client={client}
          document={starting.document}
          onReady={(scores) => {
            setStarting(null);
            // Of the document whose variants were scored: a changed one is a conflict.
            ask(stepQuestion({ client, step: 'start', view: starting, scores }));
          }}
          onLeave={() => setStarting(null)}
        />
      )}
      {proposal !== null && (
        <div class="note good proposal" role="status">
          <p>
            <strong>{proposalSentence(data)}</strong>{' '}
            <span class="hint">
              Since {moment(proposal.at)}. Later looks do not change this, until a new seed starts.
            </span>
          </p>
          <button
            type="button"
            class="main"
            onClick={() => ask(stepQuestion({ client, step: 'promote', view: data }))}
          >
            Promote {proposal.variant}
          </button>
        </div>
      )}
      <Units document={document} evaluation={evaluation} />
      {evaluation === null ? (
        <p class="hint">
          {document.status === 'draft'
            ? 'It has not been started.'
            : 'Not evaluated yet. The edge evaluates it each minute.'}
        </p>
      ) : (
        <>
          <Decision view={data} evaluation={evaluation} />
          <Health evaluation={evaluation} />
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
        'Nobody is in it: answers are judged in parallel to those that users get'
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
          Started <span class="nowrap">{moment(startedAt)}</span>.
        </>
      )}
      {winner !== null && ` Winner: ${winner}.`}
    </p>
  );
}

function Decision({ view, evaluation }: { view: View; evaluation: ExperimentEvaluation }) {
  // The note of the proposal says it already.
  if (evaluation.decision.action === 'propose_winner' && openProposal(view) !== null)
    return <p class="hint">Evaluated {ago(evaluation.at, Date.now())}.</p>;
  const words = standing(view);
  return (
    <div class={`note ${words.tone}`} role="status">
      <p>
        <strong>{words.text}</strong>{' '}
        <span class="hint nowrap">
          Evaluated {evaluation.last === true ? 'for the last time ' : ''}
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
        {better === 'up' ? 'above' : 'below'} 0 is better. The intervals are valid at every look, so you may
        look as often as you like.
      </p>
      <IntervalChart columns={intervalColumns(looks, metric, scale)} scale={scale} metric={metric} />
      <Comparisons comparisons={evaluation.comparisons} />
    </section>
  );
}

interface StepParams {
  client: Client;
  step: Step;
  view: View;
  /** Of the variants, before a start. */
  scores?: readonly VariantScore[];
}

type StepRoute = `POST /admin/experiments/:id/${Exclude<Step, 'revive'>}`;

/** Additional inputs of some actions. */
interface More {
  coverage?: number;
  killed?: boolean;
  variant?: string;
  over?: number;
}

/** The confirmation dialog of an action, and its request. */
function stepQuestion({ client, step, view, scores = [] }: StepParams): Question {
  const { id, document, proposal } = view;
  const { name } = document;
  const send = async (taken: Exclude<Step, 'revive'>, why: string | undefined, more: More = {}) => {
    const body: RequestOf<StepRoute> = { expect: document.version, why, ...more };
    const route: StepRoute = `POST /admin/experiments/:id/${taken}`;
    const answer = await client.call(route, { params: { id }, body });
    return answer.ok ? null : answer.error;
  };
  switch (step) {
    case 'start':
      return {
        title: `Start the experiment on ${name}?`,
        text: isJudgedAlone(document)
          ? `From now on a share of the requests to ${name} is answered twice, and a judge compares both answers. Users get the live version.`
          : `From now on users of ${name} get one of its variants, and what happens to them is counted.`,
        act: scores.some(({ worse }) => worse) ? 'Start anyway' : 'Start',
        more: <ScoresNote scores={scores} />,
        run: (why) => send('start', why),
      };
    case 'ramp': {
      const next = nextCoverage(document);
      // The dialog holds it while it is open.
      const chosen = { percent: String(100 * (next ?? 1)) };
      return {
        title: 'Raise the coverage?',
        text: `${percent(document.coverage)} of the units are in it now. More are added; nobody changes variant.`,
        act: 'Change coverage',
        more: <CoverageField begin={chosen.percent} onChange={(text) => (chosen.percent = text)} />,
        run: (why) => send('ramp', why, { coverage: Number(chosen.percent) / 100 }),
      };
    }
    case 'kill':
      return {
        title: 'Turn the kill switch on?',
        text:
          `Everybody who calls ${name} gets its live version within about a minute. You can turn it off ` +
          'again.',
        act: 'Kill switch on',
        danger: true,
        run: (why) => send('kill', why, { killed: true }),
      };
    case 'revive':
      return {
        title: 'Turn the kill switch off?',
        text: 'The same users get the same variants again.',
        act: 'Kill switch off',
        run: (why) => send('kill', why, { killed: false }),
      };
    case 'stop':
      return {
        title: `Stop the experiment on ${name}?`,
        text:
          'There is no winner, and everybody gets the live version. A stopped experiment cannot be ' +
          'restarted, but you can create a new one.',
        act: 'Stop it',
        danger: true,
        run: (why) => send('stop', why),
      };
    case 'promote': {
      const proposed = proposal?.variant ?? null;
      const keys = document.variants.map(({ key }) => key);
      const chosen: { variant: string; over?: number } = { variant: proposed ?? keys[1] ?? keys[0]! };
      return {
        title: `Promote a variant of ${name}?`,
        text:
          `Its version becomes the live version of ${name} for everybody, and the experiment ends. ` +
          (proposed === null ? 'No winner is proposed: the choice is yours.' : `${proposed} is proposed.`),
        act: 'Promote',
        more: (
          <SelectField
            label="Variant"
            of={keys.map((key) => [key, key] as const)}
            begin={chosen.variant}
            onChange={(key) => (chosen.variant = key)}
          />
        ),
        async run(why) {
          const problem = await send('promote', why, { ...chosen });
          if (problem?.param !== 'over') return problem;
          const versions = await client.call('GET /admin/versions', { query: { name }, as: VersionList });
          if (!versions.ok || versions.value.version === null) return problem;
          chosen.over = versions.value.version;
          return {
            ...problem,
            message:
              `Version ${chosen.over} of ${name} is live, which is neither control nor ` +
              `${chosen.variant}, so they were never compared.`,
            advice: 'Press Promote again to replace it anyway.',
          };
        },
      };
    }
    case 'archive':
      return {
        title: 'Archive this experiment?',
        text: `${name} is free for another one. The results are kept.`,
        act: 'Archive',
        run: (why) => send('archive', why),
      };
  }
}

function CoverageField({ begin, onChange }: { begin: string; onChange: (text: string) => void }) {
  const [text, setText] = useState(begin);
  return (
    <label class="field">
      <span>Coverage, percent of the units</span>
      <input
        type="number"
        min="0.01"
        max="100"
        step="any"
        required
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          onChange(event.currentTarget.value);
        }}
      />
    </label>
  );
}
