import type { z } from 'zod';
import {
  err,
  ok,
  type ApiError,
  type Experiment,
  type ExperimentStepRequest,
  type Result,
} from '../../../protocol/index.ts';
import type { ExperimentNote, ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { commitChange, tellKv, type Change } from './commit-change.ts';
import type { LifeDeps } from './life-deps.ts';
import { ownExperiment } from './own-experiment.ts';
import { changedMeanwhile } from './refusals.ts';

export interface StepParams<R extends z.output<typeof ExperimentStepRequest>> {
  id: string;
  request: R;
  caller: AdminCaller;
}

/** What a step comes to: `taken` = it was taken before. */
export type Step = 'taken' | ({ document: Partial<Experiment> } & Pick<Change, 'flip'>);

/** Takes one step of an experiment's life. Repeating it is harmless. */
export async function takeStep<R extends z.output<typeof ExperimentStepRequest>>(
  deps: LifeDeps,
  params: StepParams<R> & {
    action: ExperimentNote['action'];
    step: (row: ExperimentRow) => Result<Step, ApiError> | Promise<Result<Step, ApiError>>;
  },
): Promise<Result<ExperimentRow, ApiError>> {
  const { request, caller, action } = params;
  const own = await ownExperiment(deps, params);
  if (!own.ok) return own;
  const before = own.value;
  const { version } = before.document;
  const expect = request.expect ?? version;
  const step = await params.step(before);
  // Whoever repeats a step knows of the version before it.
  const expected = expect === version || (step.ok && step.value === 'taken' && expect === version - 1);
  if (!expected) return err(changedMeanwhile(before));
  if (!step.ok) return step;
  if (step.value === 'taken') return tellKv(deps, before, action.replace('experiment_', ''));
  const note = { actor: caller.keyId, at: deps.now(), action, why: request.why ?? null };
  const document = { ...before.document, ...step.value.document };
  return commitChange(deps, { ...step.value, document, before, note });
}

export const taken = ok<Step>('taken');
export const becomes = (change: Exclude<Step, 'taken'>): Result<Step, ApiError> => ok(change);
