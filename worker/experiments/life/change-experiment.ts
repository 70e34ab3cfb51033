import type { z } from 'zod';
import {
  err,
  isLive,
  ok,
  type ApiError,
  type Experiment,
  type Result,
  adaptersOf,
  contradictedGuardrail,
  sameJson,
  type ChangeExperiment,
} from '../../../protocol/index.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { conflict } from '../../errors.ts';
import { writePointer } from '../../registry/write-pointer.ts';
import { legalChange } from '../legal-change.ts';
import type { ExperimentNote, ExperimentRow, Flip } from '../ports.ts';
import { checkJudge, checkAdapters } from './check-adapters.ts';
import {
  type LifeDeps,
  changedMeanwhile,
  overlaps,
  ownExperiment,
  guardrailRefused,
  webhookRefused,
} from './life-deps.ts';

type Deps = Pick<LifeDeps, 'experimentLedger' | 'pointers'>;

export interface Change {
  /** As it was read. */
  before: ExperimentRow;
  /** As it is to be. The version grows by itself. */
  document: Omit<Experiment, 'version'>;
  note: ExperimentNote;
  flip?: Flip;
}

/** @returns the row after the change, when the change is legal. A new seed, or going live, begins at `note.at`. */
export function changedRow({ before, document: wanted, note }: Change): Result<ExperimentRow, ApiError> {
  const was = before.document;
  const anew = wanted.seed !== was.seed;
  const { dropped, ...kept } = wanted;
  const document: Experiment = {
    ...kept,
    // A new seed deals everybody anew, and nobody has lost under it.
    ...(dropped === undefined || anew ? {} : { dropped }),
    version: was.version + 1,
  };
  const legal = legalChange(was, document, before.seeds);
  if (!legal.ok) return err(conflict(`${legal.error.field}: ${legal.error.reason}.`, legal.error.field));
  const wasLive = before.startedAt !== null;
  const begins = isLive(document) && (anew || !wasLive);
  const steps = begins || (wasLive && document.coverage !== was.coverage);
  // A seed that nobody was dealt by is forgotten.
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

/** By the latest look, which is at most some minutes old. */
const unitsSeen = ({ evaluation }: ExperimentRow): number =>
  Object.values(evaluation?.units ?? {}).reduce((sum, units) => sum + units, 0);

/**
 * Writes a change down, and tells KV.
 * Errors: `version_conflict`; `registry_unavailable` when the change is recorded, but KV was not told yet: the schedule
 * makes up for that.
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

/** Also for a step that was taken before: an earlier attempt may have ended before its pointer. */
export async function tellKv(
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

/** Why the ledger took a legal change for a conflict: something has changed since it was checked. */
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
        `An adapter that experiment '${row.id}' names has been retired, or another version of its name went live. Read it and try again.`,
      );
}

/**
 * Puts another document in the place of the present one. What may change when is `legalChange`'s; from one status to
 * another lead the steps, but for the ramp, which may be taken up and left off.
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
        `status: from ${was.status} leads a step (start, stop, promote, archive), not a change of the document.`,
        'status',
      ),
    );
  // One that was stored before this was asked may stay as it is.
  const contradicted = sameJson(document.guardrails, was.guardrails)
    ? null
    : contradictedGuardrail(request.document);
  if (contradicted !== null) return err(guardrailRefused(contradicted, 'document.'));
  const refused =
    document.webhook === was.webhook
      ? null
      : webhookRefused(document.webhook, deps.loopbackCallbacks, 'document.');
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
export async function checkNamespace(
  { experimentLedger }: Pick<LifeDeps, 'experimentLedger'>,
  { id, owner, document: { namespace } }: ExperimentRow,
): Promise<Result<null, ApiError>> {
  if (namespace === undefined) return ok(null);
  const others = await experimentLedger.overlapping({ except: id, owner, namespace });
  return others.length > 0 ? err(overlaps(others)) : ok(null);
}
