import {
  adaptersOf,
  contradictedGuardrail,
  err,
  isLive,
  ok,
  sameJson,
  type ApiError,
  type ChangeExperiment,
  type Result,
} from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import type { z } from 'zod';
import type { ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { checkJudge, checkAdapters } from './check-adapters.ts';
import { changedRow, commitChange, tellKv } from './commit-change.ts';
import {
  type LifeDeps,
  ownExperiment,
  changedMeanwhile,
  guardrailRefused,
  overlaps,
  webhookRefused,
} from './life-deps.ts';

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
