import {
  err,
  isLive,
  ok,
  type ApiError,
  type Experiment,
  type ExperimentEvaluation,
  type ExperimentProposal,
  type Result,
} from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import {
  LOOKS_KEPT,
  EXPERIMENTS_PER_RUN,
  EXPOSURE_LIFE_MS,
  LAST_LOOKS_PER_RUN,
  UNTOLD_EXPERIMENTS_PER_RUN,
} from '../limits.ts';
import type { ExperimentNote, ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { commitChange } from './change-experiment.ts';
import { evaluationOf } from './evaluation-of.ts';
import { type EvaluateDeps, ownExperiment } from './life-deps.ts';
import { covered } from './steps.ts';
import { logLine, reasonOf } from '../../log.ts';
import { messageOf } from '../webhooks.ts';
import { writePointer } from '../../registry/write-pointer.ts';

/** Evaluates it now, for whoever may see it, and carries out what follows. */
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
        `Experiment '${id}' is ${document.status}: only a live one is evaluated. Its looks stay to be read.`,
        'status',
      ),
    );
  return evaluate(deps, { row: own.value, actor: params.caller.keyId });
}

/**
 * Looks at a live experiment, writes the look down, and does what follows by itself: rolls back, or takes the ramp's
 * next step. A winner is only proposed. Repeating it is harmless; when somebody changed the experiment meanwhile, it is
 * left as it is.
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
  // Before what follows is done: an edge that dies in between does both at its next look.
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

/** Somebody changed the experiment meanwhile, and what was to be told did not happen. */
async function retractUnlessDone(
  { outbox, experimentLedger }: EvaluateDeps,
  { message, experiment, changes }: { message: string; experiment: string; changes: Partial<Experiment> },
): Promise<void> {
  const row = await experimentLedger.get(experiment);
  // It is recorded, and only KV was not told yet.
  if (row !== null && isDone(row.document, changes)) return;
  await outbox.retract(message);
}

/** A variant is out, or the experiment is over without a winner: what is told of an evaluation's step. */
const isDone = (document: Experiment, { dropped }: Partial<Experiment>): boolean =>
  dropped === undefined
    ? !isLive(document) && document.winner === null
    : dropped.every((variant) => document.dropped?.includes(variant) === true);

/**
 * Looks for the last time at one that has ended, when no feedback comes any more: what users said after its end counts,
 * and what its last look decided stays decided.
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

/** What it proposes; it stands from now on. */
const proposalOf = ({ decision, at, units }: ExperimentEvaluation): ExperimentProposal | null =>
  decision.action === 'propose_winner' ? { variant: decision.variant, at, units: sumOf(units) } : null;

const sumOf = (units: ExperimentEvaluation['units']): number =>
  Object.values(units).reduce((sum, n) => sum + n, 0);

/** What an evaluation asks to be done; null = nothing. */
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

/** Why a treatment is taken out, for the history. */
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

/** Who is in the history when nobody asked. */
const SCHEDULE = 'schedule';

/**
 * One round of the schedule: tells KV of changes that were cut off, then looks at the live experiments whose turn it is,
 * and for the last time at those that ended a week ago.
 * One that fails keeps none of the others from its turn.
 * @throws the first failure, when all had their turn.
 */
export async function evaluateAll(deps: EvaluateDeps): Promise<void> {
  const failures: Error[] = [];
  const attempt = async (row: ExperimentRow, work: () => Promise<{ ok: boolean }>): Promise<void> => {
    try {
      // A change that somebody else made meanwhile is no failure: the next round sees it.
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
