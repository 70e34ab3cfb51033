import { Hono } from 'hono';
import { MAX_PINNED_NAMES, type ApiError, type PinList, type PinView } from '../../protocol/index.ts';
import { modelNotFound, conflict } from '../errors.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppContext, type AppEnv } from '../http/request-scope.ts';
import type { PinLedger, PinReport, PinSync } from './ports.ts';
import type { Registry } from '../registry/ports.ts';

const pinJson = ({ name, at, actor, live, origins }: PinReport): PinView => ({
  name,
  pinned_at: at,
  pinned_by: actor,
  live: live === null ? null : `${live.name}@${live.version}`,
  origins,
});

const NOT_YOURS: ApiError = {
  code: 'insufficient_scope',
  message: 'Memory of the origins is shared by all tenants: only the bootstrap key pins.',
};

/**
 * Pinned names: each answer has every one, after the origins were asked. 404 for a name that does not exist or is not
 * pinned, 409 when there are too many.
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
      return fail(conflict(`${MAX_PINNED_NAMES} names are pinned, which is the most; unpin one first.`));
    return context.json(await pinList(context));
  });

  adminRoute(routes, 'DELETE /admin/pins', async ({ context, query }) => {
    if (!(await pins.remove(query.name)))
      return fail({ code: 'not_found', message: `'${query.name}' is not pinned.` });
    return context.json(await pinList(context));
  });
  return routes;
}
