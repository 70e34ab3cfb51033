/** Changes of an experiment: its document, and the steps of its life from start to archive. */
import type { z } from 'zod';
import type {
  ChangeExperiment,
  ArchiveExperiment,
  KillExperiment,
  PromoteExperiment,
  RampExperiment,
  StartExperiment,
  StopExperiment,
  ExperimentStepRequest,
} from '../../../protocol/admin-api/experiments.ts';
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import {
  isLive,
  type Experiment,
  adaptersOf,
  contradictedGuardrail,
  type ExperimentVariant,
} from '../../../protocol/experiment.ts';
import { sameJson, pinOf } from '../../../protocol/identity.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { conflict } from '../../errors.ts';
import { writePointer } from '../../registry/write-pointer.ts';
import { legalChange } from '../legal-change.ts';
import type { ExperimentNote, ExperimentRow, Flip } from '../ports.ts';
import {
  checkJudge,
  checkAdapters,
  type LifeDeps,
  changedMeanwhile,
  overlaps,
  ownExperiment,
  guardrailRefused,
  checkControlAnswers,
  checkScores,
} from './life-deps.ts';
import { webhookRefused } from '../../webhooks/send-webhooks.ts';

type Deps = Pick<LifeDeps, 'experimentLedger' | 'pointers'>;

interface Change {
  /** As it was read. */
  before: ExperimentRow;
  /** As it should be. The version increases by itself. */
  document: Omit<Experiment, 'version'>;
  note: ExperimentNote;
  flip?: Flip;
}

/** @returns the row after the change, if the change is legal. A new seed, or going live, starts at `note.at`. */
export function changedRow({ before, document: wanted, note }: Change): Result<ExperimentRow, ApiError> {
  const was = before.document;
  const anew = wanted.seed !== was.seed;
  const { dropped, ...kept } = wanted;
  const document: Experiment = {
    ...kept,
    // A new seed reassigns everybody, and nobody has lost under it.
    ...(dropped === undefined || anew ? {} : { dropped }),
    version: was.version + 1,
  };
  const legal = legalChange(was, document, before.seeds);
  if (!legal.ok) return err(conflict(`${legal.error.field}: ${legal.error.reason}.`, legal.error.field));
  const wasLive = before.startedAt !== null;
  const begins = isLive(document) && (anew || !wasLive);
  const steps = begins || (wasLive && document.coverage !== was.coverage);
  // A seed without assignments is forgotten.
  const seeds = wasLive ? before.seeds : before.seeds.slice(0, -1);
  const gone = before.proposal !== null && dropped?.includes(before.proposal.variant) === true;
  return ok({
    ...before,
    document,
    seeds: anew ? [...seeds, document.seed] : before.seeds,
    startedAt: begins ? note.at : before.startedAt,
    coverageAt: steps ? note.at : before.coverageAt,
    stepUnits: begins || anew ? 0 : steps ? unitsSeen(before) : before.stepUnits,
    endedAt: document.status === 'decided' && was.status !== 'decided' ? note.at : before.endedAt,
    proposal: anew || gone ? null : before.proposal,
    evaluation: anew ? null : before.evaluation,
  });
}

/** According to the latest look, which is at most some minutes old. */
const unitsSeen = ({ evaluation }: ExperimentRow): number =>
  Object.values(evaluation?.units ?? {}).reduce((sum, units) => sum + units, 0);

/**
 * Records a change, and updates KV. Errors: `version_conflict`; `registry_unavailable` when the change is
 * recorded, but KV is not updated yet: the schedule does that later.
 */
export async function commitChange(deps: Deps, change: Change): Promise<Result<ExperimentRow, ApiError>> {
  const row = changedRow(change);
  if (!row.ok) return row;
  const { note, flip } = change;
  const saved = await deps.experimentLedger.save({
    row: row.value,
    note,
    ...(flip === undefined ? {} : { flip }),
  });
  if (saved.ok) return tellKv(deps, row.value, note.action.replace('experiment_', ''));
  return err(await whyNot(deps, row.value));
}

/** Also for a step that was taken before: an earlier attempt may have failed before its pointer. */
async function tellKv(
  deps: Deps,
  row: ExperimentRow,
  what: string,
): Promise<Result<ExperimentRow, ApiError>> {
  if (row.startedAt === null) return ok(row);
  const { name, version } = row.document;
  const written = await writePointer(deps, { name, what });
  if (!written.ok) return written;
  await deps.experimentLedger.written({ id: row.id, version });
  return ok(row);
}

/** Why the ledger reported a conflict for a legal change: something has changed since the check. */
async function whyNot({ experimentLedger }: Deps, row: ExperimentRow): Promise<ApiError> {
  const now = await experimentLedger.get(row.id);
  if (now !== null && now.document.version !== row.document.version - 1) return changedMeanwhile(now);
  const { namespace } = row.document;
  const others =
    namespace === undefined
      ? []
      : await experimentLedger.overlapping({ except: row.id, owner: row.owner, namespace });
  return others.length > 0
    ? overlaps(others)
    : conflict(
        `An adapter of experiment '${row.id}' was retired, or another version of its name went live. ` +
          'Read the experiment and try again.',
      );
}

/**
 * Replaces the document. `legalChange` decides what may change; the status changes only by steps, except that a
 * ramp may be added or removed.
 */
export async function changeExperiment(
  deps: LifeDeps,
  params: { id: string; request: z.output<typeof ChangeExperiment>; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const { request, caller } = params;
  const own = await ownExperiment(deps, params);
  if (!own.ok) return own;
  const before = own.value;
  const was = before.document;
  const { version, ...document } = request.document;
  if (version === was.version && sameJson(request.document, was))
    return request.dry_run === true ? ok(before) : tellKv(deps, before, 'change');
  if (version !== was.version + 1) return err(changedMeanwhile(before));
  if (document.status !== was.status && !(isLive(was) && isLive(request.document)))
    return err(
      conflict(
        `status: use an action (start, stop, promote, archive) to leave ${was.status}; a document ` +
          'cannot change it.',
        'status',
      ),
    );
  // An older document may stay as it is.
  const contradicted = sameJson(document.guardrails, was.guardrails)
    ? null
    : contradictedGuardrail(request.document);
  if (contradicted !== null) return err(guardrailRefused(contradicted, 'document.'));
  const refused =
    document.webhook === was.webhook
      ? null
      : webhookRefused(document.webhook, deps.loopbackCallbacks, 'document.webhook');
  if (refused !== null) return err(refused);
  if (document.winner !== was.winner)
    return err(conflict('winner: promote a variant to make it the winner.', 'winner'));
  const note = {
    actor: caller.keyId,
    at: deps.now(),
    action: 'experiment_change',
    why: request.why ?? null,
  } as const;
  const change = { before, document, note };
  const after = changedRow(change);
  if (!after.ok) return after;
  const checked = await checkNew(deps, { before, after: after.value, caller });
  if (!checked.ok) return checked;
  return request.dry_run === true ? after : commitChange(deps, change);
}

async function checkNew(
  deps: LifeDeps,
  { before, after, caller }: { before: ExperimentRow; after: ExperimentRow; caller: AdminCaller },
): Promise<Result<null, ApiError>> {
  const { document } = after;
  const callable = checkJudge(document, deps.loopbackCallbacks);
  if (!callable.ok) return callable;
  const known = new Set(adaptersOf(before.document));
  if (adaptersOf(document).some((adapter) => !known.has(adapter))) {
    const checked = await checkAdapters(deps, { document, caller, owner: before.owner });
    if (!checked.ok) return checked;
  }
  return isLive(document) ? checkNamespace(deps, after) : ok(null);
}

/** No other live experiment has a part of its range of the namespace. */
async function checkNamespace(
  { experimentLedger }: Pick<LifeDeps, 'experimentLedger'>,
  { id, owner, document: { namespace } }: ExperimentRow,
): Promise<Result<null, ApiError>> {
  if (namespace === undefined) return ok(null);
  const others = await experimentLedger.overlapping({ except: id, owner, namespace });
  return others.length > 0 ? err(overlaps(others)) : ok(null);
}

export interface StepParams<R extends z.output<typeof ExperimentStepRequest>> {
  id: string;
  request: R;
  caller: AdminCaller;
}

/** Result of a step: `taken` = it was taken before. */
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
  // A client that repeats a step knows the version before it.
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
    `Experiment '${id}' is ${status}, so it has no participants. ` +
      (status === 'draft' ? 'Start it first.' : 'Create another.'),
    'status',
  );

/** Starts a draft: at the first step of its ramp, if it has one. */
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
          conflict(
            `'${document.name}' has no live version, which requests outside the experiment would get.`,
            'name',
          ),
        );
      const checked = await checkAdapters(deps, { document, caller: params.caller, owner });
      if (!checked.ok) return checked;
      const callable = checkJudge(document, deps.loopbackCallbacks);
      if (!callable.ok) return callable;
      const answers = await checkControlAnswers(deps.registry, document);
      if (!answers.ok) return answers;
      const free = await checkNamespace(deps, row);
      if (!free.ok) return free;
      const scored = params.request.require_scores === true ? await checkScores(deps, document) : ok(null);
      if (!scored.ok) return scored;
      return becomes({ document: firstStep(document) });
    },
  });

function firstStep({ ramp, coverage }: Experiment): Pick<Experiment, 'status' | 'coverage'> {
  const [first] = ramp?.steps ?? [];
  if (ramp === undefined || first === undefined) return { status: 'running', coverage };
  return { status: ramp.steps.length > 1 ? 'ramping' : 'running', coverage: first };
}

/** Raises the coverage now. */
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
            `Experiment '${row.id}' has no further step: its coverage is ${document.coverage}. Give ` +
              'the coverage.',
            'coverage',
          ),
        );
      return coverage === document.coverage ? taken : becomes({ document: covered(document, coverage) });
    },
  });

/** The ramp continues after this coverage, and has ended if it has no further step. */
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
    `Experiment '${id}' is ${status}${winner === null ? '' : ` and '${winner}' won`}, so there is ` +
      'nothing to decide. ' +
      (status === 'draft' ? 'Archive it if you do not need it.' : 'Create another.'),
    'status',
  );

/** The kill switch: everybody, including testers, gets the name's live version until it is turned off. */
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
            `No winner of experiment '${row.id}' is proposed. Give the variant to promote.`,
            'variant',
          ),
        );
      const variant = document.variants.find((one) => one.key === key);
      if (variant === undefined)
        return err({
          code: 'invalid_request',
          message: `Invalid value for 'variant': no such variant '${key}'.`,
          param: 'variant',
        });
      const pin = pinOf(variant.adapter);
      if (pin.name !== document.name)
        return err(
          conflict(
            `'${variant.adapter}' is not a version of '${document.name}'. Publish its file there, or ` +
              'stop the experiment.',
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
 * The name's live version, if the promotion may replace it. If it is neither control nor the variant, it was
 * published in the meantime and never compared: the caller must name it.
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
        ? `'${name}@${live}' is live, which is neither control nor '${variant.key}', so they were never ` +
            `compared. To replace it anyway, set over: ${live}.`
        : `'${name}@${live}' is live, not version ${over}.`,
      'over',
    ),
  );
}

/** Archives a draft or a decided experiment; its name is free for another. */
export const archiveExperiment = (
  deps: LifeDeps,
  params: StepParams<z.output<typeof ArchiveExperiment>>,
): Stepped => archived(deps, params).then((done) => forgetPairs(deps, done));

/** Also for an archived one: an earlier attempt may have failed before this. */
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
        return err(conflict(`Experiment '${row.id}' is live. Stop it or promote a variant first.`, 'status'));
      return becomes({ document: { status: 'archived' } });
    },
  });
