import type { z } from 'zod';
import {
  err,
  isLive,
  ok,
  pinOf,
  type ApiError,
  type ArchiveExperiment,
  type Experiment,
  type ExperimentVariant,
  type KillExperiment,
  type PromoteExperiment,
  type RampExperiment,
  type Result,
  type StartExperiment,
  type StopExperiment,
  type ExperimentStepRequest,
} from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import type { ExperimentRow, ExperimentNote } from '../ports.ts';
import { checkControlAnswers, checkJudge, checkAdapters } from './check-adapters.ts';
import { checkNamespace, commitChange, tellKv, type Change } from './change-experiment.ts';
import { type LifeDeps, ownExperiment, changedMeanwhile } from './life-deps.ts';
import type { AdminCaller } from '../../access/ports.ts';

export interface StepParams<R extends z.output<typeof ExperimentStepRequest>> {
  id: string;
  request: R;
  caller: AdminCaller;
}

/** What a step comes to: `taken` = it was taken before. */
type Step = 'taken' | ({ document: Partial<Experiment> } & Pick<Change, 'flip'>);

/** Takes one step of an experiment's life. Repeating it is harmless. */
async function takeStep<R extends z.output<typeof ExperimentStepRequest>>(
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

const taken = ok<Step>('taken');
const becomes = (change: Exclude<Step, 'taken'>): Result<Step, ApiError> => ok(change);

type Stepped = Promise<Result<ExperimentRow, ApiError>>;

const notLive = ({ id, document: { status } }: ExperimentRow): ApiError =>
  conflict(
    `Experiment '${id}' is ${status}, so that nobody takes part in it. ` +
      (status === 'draft' ? 'Start it first.' : 'Make another one.'),
    'status',
  );

/** A draft goes live: at the first step of its ramp, if it has one. */
export const startExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof StartExperiment>>,
): Stepped =>
  takeStep(deps, {
    ...params,
    action: 'experiment_start',
    async step(row) {
      const { document, owner } = row;
      if (isLive(document)) return taken;
      if (document.status !== 'draft') return err(notLive(row));
      const name = await deps.registry.name(document.name);
      if (name?.version == null)
        return err(
          conflict(`'${document.name}' has no live version, which is what those outside get.`, 'name'),
        );
      const checked = await checkAdapters(deps, { document, caller: params.caller, owner });
      if (!checked.ok) return checked;
      const callable = checkJudge(document, deps.loopbackCallbacks);
      if (!callable.ok) return callable;
      const answers = await checkControlAnswers(deps.registry, document);
      if (!answers.ok) return answers;
      const free = await checkNamespace(deps, row);
      if (!free.ok) return free;
      return becomes({ document: firstStep(document) });
    },
  });

function firstStep({ ramp, coverage }: Experiment): Pick<Experiment, 'status' | 'coverage'> {
  const [first] = ramp?.steps ?? [];
  if (ramp === undefined || first === undefined) return { status: 'running', coverage };
  return { status: ramp.steps.length > 1 ? 'ramping' : 'running', coverage: first };
}

/** More coverage, now. */
export const rampExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof RampExperiment>>,
): Stepped =>
  takeStep(deps, {
    ...params,
    action: 'experiment_ramp',
    step(row) {
      const { document } = row;
      if (!isLive(document)) return err(notLive(row));
      const next = document.ramp?.steps.find((step) => step > document.coverage);
      const coverage = params.request.coverage ?? next;
      if (coverage === undefined)
        return err(
          conflict(
            `Experiment '${row.id}' has no further step: its coverage is ${document.coverage}. Name the coverage that it is to have.`,
            'coverage',
          ),
        );
      return coverage === document.coverage ? taken : becomes({ document: covered(document, coverage) });
    },
  });

/** The ramp goes on behind this coverage, and has ended when it has no further step. */
export function covered(document: Experiment, coverage: number): Pick<Experiment, 'status' | 'coverage'> {
  const goesOn = document.status === 'ramping' && document.ramp?.steps.some((step) => step > coverage);
  return { status: goesOn === true ? 'ramping' : 'running', coverage };
}

/** Nobody wins, and everybody gets the name's live version. */
export const stopExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof StopExperiment>>,
): Stepped =>
  takeStep(deps, {
    ...params,
    action: 'experiment_stop',
    step(row) {
      const { status, winner } = row.document;
      if (status === 'decided' && winner === null) return taken;
      if (!isLive(row.document)) return err(cannotEnd(row));
      return becomes({ document: { status: 'decided', winner: null } });
    },
  });

const cannotEnd = ({ id, document: { status, winner } }: ExperimentRow): ApiError =>
  conflict(
    `Experiment '${id}' is ${status}${winner === null ? '' : ` and '${winner}' won`}, so that there is nothing to decide. ` +
      (status === 'draft' ? 'Archive it if it is not wanted.' : 'Make another one.'),
    'status',
  );

/** The kill switch: everybody gets the name's live version, testers too, until it is taken back. */
export const killExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof KillExperiment>>,
): Stepped =>
  takeStep(deps, {
    ...params,
    action: params.request.killed ? 'experiment_kill' : 'experiment_resume',
    step(row) {
      const { killed } = params.request;
      if (row.document.killed === killed) return taken;
      if (!isLive(row.document)) return err(notLive(row));
      return becomes({ document: { killed } });
    },
  });

/** The variant's version becomes the name's live version, and the experiment ends. */
export const promoteExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof PromoteExperiment>>,
): Stepped =>
  takeStep(deps, {
    ...params,
    action: 'experiment_promote',
    async step(row) {
      const { document, proposal } = row;
      const key =
        params.request.variant ?? (isLive(document) ? (proposal?.variant ?? null) : document.winner);
      if (document.status === 'decided' && key !== null && key === document.winner) return taken;
      if (!isLive(document)) return err(cannotEnd(row));
      if (key === null)
        return err(
          conflict(
            `No winner of experiment '${row.id}' is proposed. Name the variant that is to be live.`,
            'variant',
          ),
        );
      const variant = document.variants.find((one) => one.key === key);
      if (variant === undefined)
        return err({
          code: 'invalid_request',
          message: `Invalid value for 'variant': there is no variant '${key}'.`,
          param: 'variant',
        });
      const pin = pinOf(variant.adapter);
      if (pin.name !== document.name)
        return err(
          conflict(
            `'${variant.adapter}' is no version of '${document.name}'. Publish its file there, or stop the experiment.`,
            'variant',
          ),
        );
      const version = await deps.registry.version(pin.name, pin.version);
      if (version === null || version.retiredAt !== null || version.withdrawnAt !== null)
        return err(conflict(`'${variant.adapter}' is retired and cannot be live.`, 'variant'));
      const live = await liveOver(deps, { row, variant, over: params.request.over ?? null });
      if (!live.ok) return live;
      return becomes({
        document: { status: 'decided', winner: key },
        flip: { from: live.value, to: pin.version },
      });
    },
  });

/**
 * The name's live version, if the promotion may replace it. One that is neither control nor the variant was published
 * meanwhile, and the experiment says nothing of it: whoever promotes must name it.
 */
async function liveOver(
  { registry }: Pick<LifeDeps, 'registry'>,
  { row, variant, over }: { row: ExperimentRow; variant: ExperimentVariant; over: number | null },
): Promise<Result<number, ApiError>> {
  const { name, variants } = row.document;
  const live = (await registry.name(name))?.version ?? null;
  if (live === null) return err(conflict(`'${name}' has no live version.`, 'name'));
  const compared = [variants[0], variant].some((one) => one?.adapter === `${name}@${live}`);
  if (over === live || (compared && over === null)) return ok(live);
  return err(
    conflict(
      over === null
        ? `'${name}@${live}' is live, which is neither control nor '${variant.key}': nothing is known of how they compare. To replace it all the same, say over: ${live}.`
        : `'${name}@${live}' is live, not version ${over}.`,
      'over',
    ),
  );
}

/** Puts a draft or a decided experiment away; its name is free for another. */
export const archiveExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof ArchiveExperiment>>,
): Stepped => archived(deps, params).then((done) => forgetPairs(deps, done));

/** Also for one that was archived before: an earlier attempt may have ended before this. */
async function forgetPairs(deps: LifeDeps, done: Awaited<Stepped>): Stepped {
  if (done.ok && done.value.document.judge !== undefined) await deps.pairTallies.forget(done.value.id);
  return done;
}

const archived = (deps: LifeDeps, params: StepParams<z.output<typeof ArchiveExperiment>>): Stepped =>
  takeStep(deps, {
    ...params,
    action: 'experiment_archive',
    step(row): Result<Step, ApiError> {
      if (row.document.status === 'archived') return taken;
      if (isLive(row.document))
        return err(
          conflict(`Experiment '${row.id}' is live. Stop it, or promote a variant, first.`, 'status'),
        );
      return becomes({ document: { status: 'archived' } });
    },
  });
