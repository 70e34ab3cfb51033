import { Hono } from 'hono';
import {
  type EraseAnswer,
  ERASE_SETTLE_MS,
  eraseScope,
  type EraseRequest,
} from '../../protocol/admin-api/erasures.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import { countUsage } from '../training/count-usage.ts';
import { type EraseDeps, NOTHING, sumCounts, usageOf, workOff, type Worked } from './erase-steps.ts';
import type { AdminCaller } from '../access/ports.ts';
import { conflict, DELETION_MS, registryUnavailable } from '../errors.ts';
import { MAX_IN_THE_WAY } from './limits.ts';
import type { Erasure, ErasurePlan, ErasureTarget } from './ports.ts';

/** Erasure of names and everything below one by their owner; of tenants by the bootstrap key. */
export function adminEraseRoutes(deps: EraseDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/erase', async ({ context, caller, request }) => {
    const erased = await erase(deps, { request, caller });
    return erased.ok ? context.json(erased.value satisfies EraseAnswer) : fail(erased.error);
  });
  return routes;
}

const NO_ANSWER: EraseAnswer = {
  ...{ owner: null, plan: null, kept: { files: 0, bytes: 0 }, stops: { versions: 0, experiments: 0 } },
  ...{ erased: NOTHING, unreached: [], step: null, cursor: null, settles_at: null },
};

/**
 * One page of the erasure of a name, of everything below one, or of a tenant; the first takes everything out of
 * service.
 */
async function erase(
  deps: EraseDeps,
  params: { request: EraseRequest; caller: AdminCaller },
): Promise<Result<EraseAnswer, ApiError>> {
  const { request, caller } = params;
  if (!caller.root && request.tenant != null) return err(operatorOnly('may erase a tenant'));
  // Bills are based on it.
  if (!caller.root && request.usage === true) return err(operatorOnly('may erase usage records'));
  const begun = request.cursor == null ? null : await begunBy(deps, request, caller);
  if (begun !== null) return answerOf(await workOff(deps, begun));
  const target = await targetOf(deps, request, caller);
  if (!target.ok) return target;
  if (target.value === null) return ok({ ...NO_ANSWER, plan: NOTHING });
  if (request.cursor != null) {
    // Another request may have taken it over, or the schedule has ended it.
    const other = await deps.erasures.begunOf(target.value);
    return other === null
      ? ok({ ...NO_ANSWER, owner: target.value.owner })
      : answerOf(await workOff(deps, other));
  }
  return begin(deps, target.value, request, caller);
}

/** The erasure to continue, whoever may have taken the name since. */
async function begunBy(
  { erasures }: EraseDeps,
  { tenant, name, cursor }: EraseRequest,
  caller: AdminCaller,
): Promise<Erasure | null> {
  const erasure = await erasures.get(Number(cursor));
  const wanted = tenant == null ? eraseScope(name ?? '') : { kind: 'tenant', name: tenant };
  const same = erasure?.kind === wanted.kind && erasure.target === wanted.name;
  return same && (caller.root || erasure.owner === caller.tenant) ? erasure : null;
}

const operatorOnly = (what: string): ApiError => ({
  code: 'insufficient_scope',
  message: `Only the bootstrap key ${what}.`,
});

/** @returns null when nobody has such a name. */
async function targetOf(
  { erasures }: EraseDeps,
  { tenant, name }: EraseRequest,
  caller: AdminCaller,
): Promise<Result<ErasureTarget | null, ApiError>> {
  if (tenant != null) return ok({ kind: 'tenant', target: tenant, owner: tenant });
  const { kind, name: target } = eraseScope(name ?? '');
  if (!caller.root) return ok({ kind, target, owner: caller.tenant });
  const owners = await erasures.owners(kind, target);
  if (owners.length > 1)
    return err(
      conflict(
        `'${name}' covers names of several tenants (${owners.join(', ')}). Erase them one by one, or ` +
          'with an admin key of the tenant.',
        'name',
      ),
    );
  const owner = owners[0] ?? (await erasures.ownerOfBegun(kind, target));
  return ok(owner === null ? null : { kind, target, owner });
}

async function begin(
  deps: EraseDeps,
  target: ErasureTarget,
  request: EraseRequest,
  caller: AdminCaller,
): Promise<Result<EraseAnswer, ApiError>> {
  const { erasures, gatherers, now } = deps;
  // What a tenant has used alone would else be nothing to erase.
  if (target.kind === 'tenant') {
    await gatherers.writeOut();
    await countUsage(deps, target.owner);
  }
  const { cascade, usage } = { cascade: request.cascade === true, usage: request.usage === true };
  const plan = await erasures.plan({ ...target, cascade, usage, at: now() });
  const { id, kept, stops } = plan;
  const counts = { ...plan.counts, usage: usage ? await usageOf(deps, { ...target, id }) : 0 };
  const planned: EraseAnswer = { ...NO_ANSWER, owner: target.owner, plan: counts, kept, stops };
  const refusal = refusalOf(request, plan, cascade);
  const nothing = Object.values(counts).every((count) => count === 0) && kept.files === 0;
  if (refusal !== null || request.dry_run === true || (nothing && !plan.begun)) {
    await erasures.discard(id);
    return refusal === null ? ok(planned) : err(refusal);
  }
  const note = { actor: caller.keyId, at: now(), why: request.why ?? null };
  if (!(await erasures.begin({ id, cascade, record: !nothing, ...note }))) {
    await erasures.discard(id);
    return err(conflict('The names to erase were just changed. Retry in a few seconds.'));
  }
  const begun = await erasures.get(id);
  if (begun === null) return err(conflict('Another request has just erased this.'));
  const worked = await workOff(deps, begun);
  // They were erased with the beginning.
  worked.erased = sumCounts(worked.erased, { pins: counts.pins });
  const answer = answerOf(worked);
  return answer.ok ? ok({ ...answer.value, plan: counts, kept, stops }) : answer;
}

/** Why a request that continues has to be repeated. */
const othersDelete = (): ApiError =>
  registryUnavailable(DELETION_MS, 'Files are being deleted by another request. Retry in a few seconds.');

function answerOf({ erasure, erased, kept, unreached, waits }: Worked): Result<EraseAnswer, ApiError> {
  if (waits) return err(othersDelete());
  const settling = erasure.step === 'settling';
  return ok({
    ...NO_ANSWER,
    ...{ owner: erasure.owner, erased, kept, unreached },
    step: settling ? null : erasure.step,
    cursor: settling ? null : String(erasure.id),
    settles_at: settling ? erasure.touchedAt + ERASE_SETTLE_MS : null,
  });
}

/** @returns null when nothing blocks it. */
function refusalOf(
  { tenant, name }: EraseRequest,
  { inTheWay, stops }: ErasurePlan,
  cascade: boolean,
): ApiError | null {
  if (cascade) return null;
  const listed = (ids: readonly string[]): string =>
    ids.slice(0, MAX_IN_THE_WAY).join(', ') + (ids.length > MAX_IN_THE_WAY ? ' and others' : '');
  const counted = (count: number, what: string): string =>
    `${count} ${what}${count === 1 ? '' : 's'} of other tenants`;
  const said = [
    ...(inTheWay.versions.length === 0 ? [] : [`Built on it: ${listed(inTheWay.versions)}`]),
    ...(stops.versions === 0 ? [] : [`Built on it: ${counted(stops.versions, 'version')}`]),
    ...(inTheWay.experiments.length === 0 ? [] : [`Tested by ${listed(inTheWay.experiments)}`]),
    ...(stops.experiments === 0 ? [] : [`Tested by ${counted(stops.experiments, 'experiment')}`]),
  ];
  if (said.length === 0) return null;
  return conflict(
    `'${tenant ?? name}' is in use and was not erased. ${said.join('. ')}. Use \`--cascade\` ` +
      '(`"cascade": true`) to erase what the same owner built on it as well; other tenants\' adapters ' +
      'that depend on it are then no longer served.',
  );
}
