/** Evaluates an experiment: its tallies, the decision, and the notifications. */
import type {
  ExperimentDecision,
  ExperimentEvaluation,
  ExperimentProposal,
  ExperimentComparison,
} from '../../../protocol/admin-api/experiments.ts';
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import {
  isLive,
  type Experiment,
  type ExperimentPairs,
  metricOf,
  type ExperimentSpread,
} from '../../../protocol/experiment.ts';
import { conflict } from '../../errors.ts';
import {
  LOOKS_KEPT,
  EXPERIMENTS_PER_RUN,
  EXPOSURE_LIFE_MS,
  LAST_LOOKS_PER_RUN,
  UNTOLD_EXPERIMENTS_PER_RUN,
  PAIR_ALPHA,
  PAIR_TUNING,
} from '../limits.ts';
import type { ExperimentNote, ExperimentRow, TallyMoments, TallySnapshot } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { commitChange, covered } from './change-experiment.ts';
import { type EvaluateDeps, ownExperiment } from './life-deps.ts';
import { logLine, reasonOf } from '../../log.ts';
import type { WebhookMessageRow } from '../../webhooks/ports.ts';
import { messageBody } from '../../webhooks/send-webhooks.ts';
import { writePointer } from '../../registry/write-pointer.ts';
import { analyze, type Comparison, cappedMetrics, withCaps, coveragePhases } from '../analyze.ts';
import { decide, type Situation, progressOf } from '../decide.ts';
import type { PairTally } from '../pairs/ports.ts';
import { healthOf, reportedMetrics } from '../health.ts';
import { segmentsAtLook } from '../segments.ts';
import { winRate } from '../statistics/sequential.ts';
import type { Moments } from '../statistics/moments.ts';
import { percentile, toldIn, type Sketch } from '../statistics/sketch.ts';

/** Evaluates it now, for an authorized caller, and acts on the decision. */
export async function evaluateNow(
  deps: EvaluateDeps,
  params: { id: string; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const own = await ownExperiment(deps, params);
  if (!own.ok) return own;
  const { id, document } = own.value;
  if (!isLive(document))
    return err(
      conflict(
        `Experiment '${id}' is ${document.status}: only a live experiment can be evaluated. Its looks ` +
          'can still be read.',
        'status',
      ),
    );
  return evaluate(deps, { row: own.value, actor: params.caller.keyId });
}

/**
 * Evaluates a live experiment, stores the look, and acts on the decision: rolls back, or takes the ramp's next
 * step. A winner is only proposed. Repeating it is harmless; if somebody changed the experiment in the
 * meantime, nothing is done.
 * @throws StoreUnavailable; the call may be repeated.
 */
export async function evaluate(
  deps: EvaluateDeps,
  { row, actor }: { row: ExperimentRow; actor: string },
): Promise<Result<ExperimentRow, ApiError>> {
  const { id: experiment, document } = row;
  const snapshot = await deps.tallies.snapshot(experiment, document.seed);
  const at = deps.now();
  const pairTally = await pairTallyOf(deps, row, at);
  const evaluation = evaluationOf({ ...situationOf(row, at), snapshot, pairTally });
  const look = { experiment, seed: document.seed, at, evaluation };
  const proposal = row.proposal ?? proposalOf(evaluation);
  await deps.experimentLedger.look({
    row: look,
    keep: LOOKS_KEPT,
    ...(proposal === null ? {} : { proposal }),
  });
  const seen = { ...row, evaluation, proposal };
  // Before the action: an edge that dies in between does both at its next look.
  const message = messageOf(experiment, document, evaluation);
  if (message !== null) await deps.outbox.add(message, at);
  const following = stepOf(document, evaluation);
  if (following === null) return ok(seen);
  const { action, why, changes } = following;
  const done = await commitChange(deps, {
    before: seen,
    document: { ...document, ...changes },
    note: { actor, at, action, why },
  });
  if (!done.ok && message !== null)
    await retractUnlessDone(deps, { message: message.id, experiment, changes });
  if (done.ok) logLine('experiment_carried_out', { experiment, name: document.name, action, why }, 'info');
  return done;
}

/** The message of a look, once per seed; null = none. Names and figures only, nothing that users wrote. */
function messageOf(
  id: string,
  { webhook, name, seed }: Pick<Experiment, 'webhook' | 'name' | 'seed'>,
  { decision, at, units }: ExperimentEvaluation,
): Omit<WebhookMessageRow, 'tries'> | null {
  const event = webhook === undefined ? null : eventOf(decision);
  if (webhook === undefined || event === null) return null;
  const { type, ...about } = event;
  const data = { experiment: id, name, seed, ...about, units };
  return {
    // A message is identified by its subject, and by nothing that varies between looks.
    id: ['msg', id, type, ...Object.values(about), seed].join(':'),
    source: id,
    url: webhook,
    body: messageBody(`experiment.${type}`, at, data),
  };
}

function eventOf(decision: ExperimentDecision): ({ type: string } & Record<string, string>) | null {
  switch (decision.action) {
    case 'propose_winner':
      return { type: 'proposed', variant: decision.variant };
    case 'rollback':
      return {
        type: 'rolled_back',
        variant: decision.variant,
        reason: decision.reason,
        metric: decision.metric,
      };
    case 'drop':
      return { type: 'dropped', variant: decision.variant, reason: decision.reason, metric: decision.metric };
    case 'hold': {
      const { reason, variant, metric } = decision;
      return {
        type: 'alarm',
        reason,
        ...(variant === undefined ? {} : { variant }),
        ...(metric === undefined ? {} : { metric }),
      };
    }
    default:
      return null;
  }
}

/** Somebody changed the experiment in the meantime, and the notified action did not happen. */
async function retractUnlessDone(
  { outbox, experimentLedger }: EvaluateDeps,
  { message, experiment, changes }: { message: string; experiment: string; changes: Partial<Experiment> },
): Promise<void> {
  const row = await experimentLedger.get(experiment);
  // It is recorded, and only KV is not updated yet.
  if (row !== null && isDone(row.document, changes)) return;
  await outbox.retract(message);
}

/** A variant is removed, or the experiment ends without a winner: the notification of an evaluation's step. */
const isDone = (document: Experiment, { dropped }: Partial<Experiment>): boolean =>
  dropped === undefined
    ? !isLive(document) && document.winner === null
    : dropped.every((variant) => document.dropped?.includes(variant) === true);

/**
 * Evaluates an ended one for the last time, when feedback has closed: feedback after its end counts, but its
 * decision stays.
 * @throws StoreUnavailable; the call may be repeated.
 */
export async function settle(deps: EvaluateDeps, row: ExperimentRow): Promise<Result<null, ApiError>> {
  const { id: experiment, document } = row;
  const snapshot = await deps.tallies.snapshot(experiment, document.seed);
  const at = deps.now();
  const pairTally = await pairTallyOf(deps, row, at);
  const evaluation = evaluationOf({ ...situationOf(row, at), snapshot, pairTally });
  const decision = row.evaluation?.decision ?? evaluation.decision;
  const look = { experiment, seed: document.seed, at, evaluation: { ...evaluation, decision, last: true } };
  await deps.experimentLedger.look({ row: look, keep: LOOKS_KEPT });
  await deps.experimentLedger.settle(experiment);
  return ok(null);
}

const pairTallyOf = async (deps: EvaluateDeps, { id, document }: ExperimentRow, at: number) =>
  document.judge === undefined ? null : deps.pairTallies.snapshot(id, { seed: document.seed, at });

const situationOf = (row: ExperimentRow, now: number) => ({
  experiment: row.document,
  startedAt: row.startedAt ?? now,
  stepStartedAt: row.coverageAt ?? now,
  stepUnits: row.stepUnits,
  proposal: row.proposal,
  before: row.evaluation,
  now,
});

/** Its proposal, which stands from now on. */
const proposalOf = ({ decision, at, units }: ExperimentEvaluation): ExperimentProposal | null =>
  decision.action === 'propose_winner' ? { variant: decision.variant, at, units: sumOf(units) } : null;

const sumOf = (units: ExperimentEvaluation['units']): number =>
  Object.values(units).reduce((sum, n) => sum + n, 0);

/** The action of an evaluation; null = none. */
function stepOf(
  document: Experiment,
  evaluation: ExperimentEvaluation,
): { action: ExperimentNote['action']; why: string; changes: Partial<Experiment> } | null {
  const { decision } = evaluation;
  switch (decision.action) {
    case 'rollback':
      return {
        action: 'experiment_rollback',
        why: lossOf(decision, evaluation),
        changes: { status: 'decided', winner: null },
      };
    case 'drop':
      return {
        action: 'experiment_drop',
        why: lossOf(decision, evaluation),
        changes: { dropped: [...(document.dropped ?? []), decision.variant] },
      };
    case 'advance':
      return {
        action: 'experiment_ramp',
        why: `ramp: from ${document.coverage} to ${decision.coverage}, after ${sumOf(evaluation.units)} units`,
        changes: covered(document, decision.coverage),
      };
    default:
      return null;
  }
}

/** Why a treatment is removed, for the history. */
function lossOf(
  { reason, metric, variant }: { reason: 'guardrail' | 'worse'; metric: string; variant: string },
  { guardrails, comparisons }: ExperimentEvaluation,
): string {
  const own = (one: { metric: string; variant: string }): boolean =>
    one.metric === metric && one.variant === variant;
  const rail = guardrails.find(own);
  const compared = comparisons.find(own);
  const [control, treatment] =
    reason === 'guardrail'
      ? [rail?.control, rail?.treatment]
      : [compared?.control.mean, compared?.treatment.mean];
  return `${reason}: ${metric} of ${variant} is ${shown(treatment)}, of control ${shown(control)}`;
}

const shown = (value: number | undefined): string =>
  value === undefined ? '?' : String(Number(value.toPrecision(3)));

/** Actor in the history for automatic changes. */
const SCHEDULE = 'schedule';

/**
 * One run of the schedule: updates KV after interrupted changes, then evaluates the live experiments that are
 * due, and for the last time those that ended a week ago. A failing one does not block the others.
 * @throws the first failure, after all.
 */
export async function evaluateAll(deps: EvaluateDeps): Promise<void> {
  const failures: Error[] = [];
  const attempt = async (row: ExperimentRow, work: () => Promise<{ ok: boolean }>): Promise<void> => {
    try {
      // A concurrent change is not a failure: the next run sees it.
      await work();
    } catch (error) {
      const reason = reasonOf(error);
      logLine('experiment_not_evaluated', { experiment: row.id, reason });
      failures.push(error instanceof Error ? error : new Error(reason));
    }
  };
  for (const row of await deps.experimentLedger.behind(UNTOLD_EXPERIMENTS_PER_RUN))
    await attempt(row, async () => {
      const { name, version } = row.document;
      const written = await writePointer(deps, { name, what: 'change' });
      if (written.ok) await deps.experimentLedger.written({ id: row.id, version });
      return written;
    });
  const turn = { at: deps.now(), limit: EXPERIMENTS_PER_RUN };
  for (const row of await deps.experimentLedger.inTurn(turn))
    await attempt(row, () => evaluate(deps, { row, actor: SCHEDULE }));
  const over = { endedBefore: deps.now() - EXPOSURE_LIFE_MS, limit: LAST_LOOKS_PER_RUN };
  for (const row of await deps.experimentLedger.unsettled(over)) await attempt(row, () => settle(deps, row));
  if (failures.length > 0) throw failures[0];
}

/** One look: counts and decision. Pure. @param before the last look of this seed. */
function evaluationOf({
  snapshot,
  before,
  pairTally,
  ...situation
}: Omit<Situation, 'analysis' | 'pairs'> & {
  snapshot: TallySnapshot;
  before: ExperimentEvaluation | null;
  /** null without a judge. */
  pairTally: PairTally | null;
}): ExperimentEvaluation {
  const { experiment, now } = situation;
  const phases = coveragePhases(before, experiment, snapshot.units);
  const capped = cappedMetrics(experiment, snapshot);
  const analysis = analyze(experiment, { ...snapshot, phases, capped });
  const pairs = pairsAtLook(experiment, pairTally);
  const segments = segmentsAtLook(experiment, snapshot);
  const health = healthOf(experiment, snapshot, now);
  const decision = decide({ ...situation, analysis, pairs, health });
  const { sampleRatio, alpha, comparisons, guardrails } = analysis;
  return {
    at: now,
    seed: experiment.seed,
    coverage: experiment.coverage,
    units: Object.fromEntries(experiment.variants.map(({ key }) => [key, snapshot.units[key] ?? 0])),
    sample_ratio: { state: sampleRatio.state, p_value: sampleRatio.pValue, phases },
    ...{ health, arms: armsOf(experiment, snapshot) },
    alpha,
    // Shown results are believed, so an alarm hides them.
    comparisons: sampleRatio.state === 'alarm' ? [] : comparisons.map(comparisonOf),
    guardrails,
    progress:
      isLive(experiment) && sampleRatio.state !== 'alarm'
        ? progressOf({
            ...{ experiment, tallies: withCaps(snapshot, capped) },
            ...{ startedAt: situation.startedAt, now },
          })
        : null,
    ...(sampleRatio.state === 'alarm' ? {} : { spread: spreadOf(experiment, snapshot) }),
    ...(sampleRatio.state === 'alarm' || segments === null ? {} : { segments }),
    shadow: shadowOf(snapshot),
    ...(pairs === null ? {} : { pairs }),
    decision,
  };
}

function armsOf(experiment: Experiment, { counts, metrics }: TallySnapshot): ExperimentEvaluation['arms'] {
  const [reported] = reportedMetrics(experiment);
  return Object.fromEntries(
    experiment.variants.map(({ key }) => [
      key,
      {
        answers: counts[key]?.answers ?? 0,
        cold_starts: counts[key]?.cold ?? 0,
        rated: reported === undefined ? null : (metrics[reported]?.[key]?.n ?? 0),
      },
    ]),
  );
}

function shadowOf({ shadow, shadowSketches }: TallySnapshot): ExperimentEvaluation['shadow'] {
  const entries = Object.entries(shadow).map(([metric, moments]) => {
    const spread = spreadOfArm(moments, shadowSketches[metric]);
    const percentiles = spread === null ? {} : { p50: spread.p50, p95: spread.p95 };
    return [metric, { ...armOf(moments), ...percentiles }] as const;
  });
  return Object.fromEntries(entries);
}

const armOf = ({ n, sum }: TallyMoments): { n: number; mean: number } => ({ n, mean: n === 0 ? 0 : sum / n });

function comparisonOf(comparison: Comparison): ExperimentComparison {
  const { metric, variant, control, treatment, verdict, reason, result } = comparison;
  const estimated = ({ estimate, interval: { low, high } }: { estimate: number; interval: Bounds }) => ({
    estimate,
    low,
    high,
  });
  return {
    ...{ metric: metric.key, kind: metric.kind, better: metric.better },
    ...{ variant, control, treatment, verdict, reason },
    difference: result && estimated(result.difference),
    lift: result?.lift ? estimated(result.lift) : null,
    p_value: result?.pValue ?? null,
    ...(comparison.cap === undefined ? {} : { cap: comparison.cap }),
    adjusted: (result?.adjusted ?? null) !== null,
    adjusted_share: result?.adjusted?.share ?? null,
  };
}
type Bounds = Readonly<{ low: number; high: number }>;

/** The pairs of one look; null without a judge. Pure. */
function pairsAtLook(
  { judge, shadow, variants }: Experiment,
  tally: PairTally | null,
): ExperimentPairs | null {
  const variant = variants.find(({ adapter }) => adapter === shadow?.adapter);
  if (judge === undefined || variant === undefined || tally === null) return null;
  const { wins, ties, losses, same, choices, first, asked, agreed, failures, tokensToday } = tally;
  const rate = winRate(tally, PAIR_ALPHA, PAIR_TUNING);
  return {
    ...{ variant: variant.key, wins, ties, losses, same, failures },
    win_rate: rate && { estimate: rate.estimate, ...rate.interval },
    p_value: rate?.pValue ?? 1,
    verdict: rate === null ? 'open' : verdictOf(rate.interval),
    first_chosen: choices === 0 ? null : first / choices,
    agreement: asked === 0 ? null : agreed / asked,
    tokens_today: tokensToday,
  };
}

function verdictOf({ low, high }: { low: number; high: number }): ExperimentPairs['verdict'] {
  if (low > 0.5) return 'better';
  return high < 0.5 ? 'worse' : 'open';
}

/** Shown for every experiment, listed or not: a mean hides answers with a long wait. */
const TIMES = ['ttft_ms', 'latency_ms'];

/** The spread of times, and of listed metrics that are not rates, if known. */
function spreadOf(
  experiment: Experiment,
  { metrics, sketches }: Pick<TallySnapshot, 'metrics' | 'sketches'>,
): NonNullable<ExperimentEvaluation['spread']> {
  const listed = experiment.metrics.map(({ key }) => key);
  const wanted = [...listed, ...TIMES.filter((key) => !listed.includes(key))].filter(
    (key) => metricOf(experiment, key)?.kind === 'mean',
  );
  const byMetric = wanted.map((metric) => {
    const arms = experiment.variants.flatMap(({ key }) => {
      const spread = spreadOfArm(metrics[metric]?.[key], sketches[metric]?.[key]);
      return spread === null ? [] : [[key, spread] as const];
    });
    return [metric, Object.fromEntries(arms)] as const;
  });
  return Object.fromEntries(byMetric.filter(([, arms]) => Object.keys(arms).length > 0));
}

/** @returns null if unknown, or if half of the values are below 0. */
function spreadOfArm(moments: Moments | undefined, sketch: Sketch | undefined): ExperimentSpread | null {
  if (moments === undefined || moments.n === 0 || sketch === undefined) return null;
  const [p50, p95] = [percentile(sketch, 0.5), percentile(sketch, 0.95)];
  if (p50 === null || p95 === null) return null;
  return { values: toldIn(sketch), mean: moments.sum / moments.n, p50, p95 };
}
