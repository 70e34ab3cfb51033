import {
  err,
  isLive,
  ok,
  type ApiError,
  type Experiment,
  type ExperimentEvaluation,
  type Result,
} from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import { LOOKS_KEPT } from '../limits.ts';
import type { ExperimentNote, ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { commitChange } from './commit-change.ts';
import { evaluationOf } from './evaluation-of.ts';
import type { EvaluateDeps } from './life-deps.ts';
import { ownExperiment } from './own-experiment.ts';
import { covered } from './steps.ts';
import { logLine } from '../../log.ts';

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
  const pairTally =
    document.judge === undefined
      ? null
      : await deps.pairTallies.snapshot(experiment, { seed: document.seed, at });
  const evaluation = evaluationOf({
    experiment: document,
    snapshot,
    pairTally,
    startedAt: row.startedAt ?? at,
    coverageAt: row.coverageAt ?? at,
    now: at,
  });
  const look = { experiment, seed: document.seed, at, evaluation };
  await deps.experimentLedger.look({ row: look, keep: LOOKS_KEPT });
  const seen = { ...row, evaluation };
  const following = stepOf(document, evaluation);
  if (following === null) return ok(seen);
  const { action, why, changes } = following;
  const done = await commitChange(deps, {
    before: seen,
    document: { ...document, ...changes },
    note: { actor, at, action, why },
  });
  if (done.ok) logLine('experiment_carried_out', { experiment, name: document.name, action, why }, 'info');
  return done;
}

/** What an evaluation asks to be done; null = nothing. */
function stepOf(
  document: Experiment,
  { decision, guardrails, units }: ExperimentEvaluation,
): { action: ExperimentNote['action']; why: string; changes: Partial<Experiment> } | null {
  if (decision.action === 'rollback') {
    const { metric, variant } = decision;
    const lost = guardrails.find((one) => one.metric === metric && one.variant === variant);
    return {
      action: 'experiment_rollback',
      why: `guardrail: ${metric} of ${variant} is ${shown(lost?.treatment)}, of control ${shown(lost?.control)}`,
      changes: { status: 'decided', winner: null },
    };
  }
  if (decision.action !== 'advance') return null;
  const all = Object.values(units).reduce((sum, n) => sum + n, 0);
  return {
    action: 'experiment_ramp',
    why: `ramp: from ${document.coverage} to ${decision.coverage}, after ${all} units`,
    changes: covered(document, decision.coverage),
  };
}

const shown = (value: number | undefined): string =>
  value === undefined ? '?' : String(Number(value.toPrecision(3)));
