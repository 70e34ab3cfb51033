import { Hono } from 'hono';
import type {
  OriginHistory,
  OriginList,
  OriginView,
  PinList,
  PinView,
  WarmAnswer,
} from '../../protocol/admin-api/origins.ts';
import type { EvaluateFileRequest } from '../../protocol/admin-api/versions.ts';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import { MAX_PINNED_NAMES } from '../../protocol/limits.ts';
import type { EvaluateAnswer } from '../../protocol/origin-wire.ts';
import { adminRoute } from '../http/admin-route.ts';
import { type AppEnv, fail, requestLife, type AppContext } from '../http/request.ts';
import type { OriginClient, OriginReport } from './client.ts';
import { MAX_RESIDENT_NAMES } from './limits.ts';
import type { FileNames, OriginHistoryLedger, PinLedger, PinReport, PinSync } from './ports.ts';
import { modelNotFound, conflict, originUnavailable } from '../errors.ts';
import type { Registry, IntakeDeps, RequestLife } from '../registry/ports.ts';
import { ownVersion } from '../registry/own-name.ts';
import type { AdminCaller } from '../access/ports.ts';
import { assembleChain, type MayUseChain } from '../registry/assemble-chain.ts';
import { mayUseChain } from '../access/authenticate.ts';

const DAY_S = 86_400;
const operatorOnly = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key may see how busy origins were.',
} as const;

/**
 * The origins' state; null if one does not respond. Only the bootstrap key gets `residents` and `figures`;
 * they are null for others.
 */
export function adminOriginRoutes(deps: {
  origins: OriginClient;
  originHistory: OriginHistoryLedger;
  fileNames: FileNames;
  now: () => number;
}): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(
    routes,
    'GET /admin/origins/history',
    async ({ context, query }) => {
      const step = Number(query.step);
      const to = Math.ceil((deps.now() + 1) / 1000 / step) * step;
      const of = { origin: query.origin, from: to - DAY_S, to, step };
      const minutes = await deps.originHistory.read(of);
      return context.json({
        origin: of.origin,
        from: new Date(1000 * of.from).toISOString(),
        to: new Date(1000 * to).toISOString(),
        step,
        points: minutes.map((minute) => ({
          at: 1000 * minute.at,
          rows_running: minute.rowsRunning,
          requests_waiting: minute.requestsWaiting,
          slots: minute.slots,
          adapters_resident: minute.adaptersResident,
          adapter_bytes: minute.adapterBytes,
          memory_bytes: minute.memoryBytes,
        })),
      } satisfies OriginHistory);
    },
    { operatorOnly },
  );
  adminRoute(routes, 'GET /admin/origins', async ({ context, caller, query }) => {
    const measured = query.figures === 'true';
    // Only for the operator: residents reveal who uses what, and figures how much.
    const { root } = caller;
    const reports = await deps.origins.report(measured && root);
    const shown = ({ id, configuredBase, base, reason, residents, figures }: OriginReport): OriginView => ({
      id,
      ...(configuredBase === null ? {} : { configured_base: configuredBase }),
      base,
      ...(root && base === null && reason !== null ? { reason } : {}),
      residents: root ? residents : null,
      ...(measured ? { figures: root ? figures : null } : {}),
    });
    const digests = reports.flatMap(({ residents }) => residents?.adapters.map(({ digest }) => digest) ?? []);
    const names =
      root && query.names === 'true'
        ? await deps.fileNames.of([...new Set(digests)], MAX_RESIDENT_NAMES)
        : null;
    return context.json({
      origins: reports.map(shown),
      ...(names === null ? {} : { names }),
    } satisfies OriginList);
  });
  return routes;
}

const pinJson = ({ name, at, actor, live, origins }: PinReport): PinView => ({
  name,
  pinned_at: at,
  pinned_by: actor,
  live: live === null ? null : `${live.name}@${live.version}`,
  origins,
});

const NOT_YOURS: ApiError = {
  code: 'insufficient_scope',
  message: "Only the bootstrap key may pin: all tenants share the origins' memory.",
};

/**
 * Pinned names. Each response lists all of them, after asking the origins. 404 for a name that does not exist
 * or is not pinned, 409 if there are too many.
 */
export function adminPinRoutes(deps: {
  pins: PinLedger;
  pinSync: PinSync;
  registry: Pick<Registry, 'name'>;
  now: () => number;
}): Hono<AppEnv> {
  const { pins, pinSync, registry, now } = deps;
  const routes = new Hono<AppEnv>();
  const pinList = async (context: AppContext): Promise<PinList> => ({
    pins: (await pinSync.sync(requestLife(context))).map(pinJson),
  });
  routes.use('/admin/pins', (context, next) =>
    context.get('admin').root ? next() : Promise.resolve(fail(NOT_YOURS)),
  );

  adminRoute(routes, 'GET /admin/pins', async ({ context }) => context.json(await pinList(context)));

  adminRoute(routes, 'POST /admin/pins', async ({ context, caller, request }) => {
    const { name } = request;
    const row = await registry.name(name);
    if (row === null || row.removedAt !== null) return fail(modelNotFound(name, []));
    const added = await pins.add({ name, at: now(), actor: caller.keyId }, MAX_PINNED_NAMES);
    if (!added)
      return fail(conflict(`${MAX_PINNED_NAMES} names are pinned, the most allowed. Unpin one first.`));
    return context.json(await pinList(context));
  });

  adminRoute(routes, 'DELETE /admin/pins', async ({ context, query }) => {
    if (!(await pins.remove(query.name)))
      return fail({ code: 'not_found', message: `'${query.name}' is not pinned.` });
    return context.json(await pinList(context));
  });
  return routes;
}

/**
 * Loads a version where it would be served. 404 if the caller does not own it, 409 if it is no longer served,
 * 503 if there is no origin to ask.
 */
export function adminWarmRoutes(deps: Pick<IntakeDeps, 'registry' | 'warmth'>): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/warm', async ({ context, caller, request }) => {
    const found = await ownVersion(deps.registry, { request, caller });
    if (!found.ok) return fail(found.error);
    const { name, version, base, chain, retiredAt, withdrawnAt } = found.value;
    if (retiredAt !== null || withdrawnAt !== null)
      return fail(
        conflict(
          `'${name}@${version}' is retired or depends on an adapter that is, and is no longer served.`,
        ),
      );
    const origins = await deps.warmth.warm({
      ...requestLife(context),
      name,
      base: base.id,
      chain: chain.map(({ digest, scale }) => ({ digest, scale })),
    });
    return origins.length === 0
      ? fail(originUnavailable())
      : context.json({ name, version, origins } satisfies WarmAnswer);
  });
  return routes;
}

/** Scores an uploaded file, published or not, on top of its parent. */
async function evaluateFile(
  deps: IntakeDeps & { mayUseChain: MayUseChain },
  params: { request: EvaluateFileRequest; caller: AdminCaller; life: RequestLife },
): Promise<Result<EvaluateAnswer, ApiError>> {
  const { request, caller, life } = params;
  const { digest, rows } = request;
  const assembled = await assembleChain(deps, {
    digest,
    parent: request.parent ?? null,
    caller,
    owner: caller.tenant,
  });
  if (!assembled.ok) return assembled;
  const { parent, base } = assembled.value;
  const chain = [
    ...(parent?.chain ?? []).map((member) => ({ digest: member.digest, scale: member.scale })),
    { digest, scale: 1 },
  ];
  return deps.trials.evaluate(
    { ...life, name: request.parent ?? digest, base: base.id, tenant: caller.tenant, chain },
    rows,
  );
}

/** Scores a file on rows with known answers. */
export function adminEvaluateRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/evaluate', async ({ context, caller, request }) => {
    const scored = await evaluateFile(
      { ...deps, mayUseChain },
      { request, caller, life: requestLife(context) },
    );
    return scored.ok ? context.json(scored.value satisfies EvaluateAnswer) : fail(scored.error);
  });
  return routes;
}
