import { Hono } from 'hono';
import type { ReservedRoom, RoomList, ReserveRequest } from '../../protocol/admin-api/rooms.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import type { Registry } from './ports.ts';
import type { AdminCaller } from '../access/ports.ts';

/** Reserved rooms: the tenant's, or all of them for the bootstrap key, which alone may change them. */
export function adminRoomRoutes(deps: { registry: Registry; now: () => number }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'GET /admin/rooms', async ({ context, caller, query }) => {
    const { root, tenant } = caller;
    const page = await deps.registry.rooms({
      ...query,
      tenant: root ? null : tenant,
      limit: ADMIN_PAGE,
    });
    return context.json({ rooms: page.items, cursor: page.cursor } satisfies RoomList);
  });

  adminRoute(routes, 'POST /admin/rooms', async ({ context, caller, request }) => {
    const reserved = await reserveRoom(deps, { request, caller });
    if (!reserved.ok) return fail(reserved.error);
    const { created, ...answer } = reserved.value;
    return context.json(answer satisfies ReservedRoom, created ? 201 : 200);
  });

  adminRoute(routes, 'DELETE /admin/rooms', async ({ context, caller, query }) => {
    const released = await releaseRoom(deps, { ...query, caller });
    return released.ok ? context.body(null, 204) : fail(released.error);
  });
  return routes;
}

interface Deps {
  registry: Registry;
  now: () => number;
}

const operatorOnly = (caller: AdminCaller): Result<null, ApiError> =>
  caller.root
    ? ok(null)
    : err({ code: 'insufficient_scope', message: 'Only the bootstrap key may reserve names for tenants.' });

/**
 * Reserves a name and everything below it. Existing names stay with their owners, including what they publish
 * below them: the nearest name or room decides.
 */
async function reserveRoom(
  deps: Deps,
  params: { request: ReserveRequest; caller: AdminCaller },
): Promise<Result<ReservedRoom & { created: boolean }, ApiError>> {
  const { request, caller } = params;
  const allowed = operatorOnly(caller);
  if (!allowed.ok) return allowed;
  const { name, tenant, why = null } = request;
  const { own, above, below } = await deps.registry.around(name);
  const from = above?.by === 'room' && above.path === name ? above.owner : null;
  const others = [...new Set([...(own === null ? [] : [own]), ...below])].filter((owner) => owner !== tenant);
  const notice =
    others.length === 0
      ? {}
      : { notice: `Existing names at or below '${name}' still belong to '${others.join("', '")}'.` };
  const answer: ReservedRoom = { name, tenant, from, ...notice };
  if (request.dry_run === true) return ok({ ...answer, created: false });
  const note = { actor: caller.keyId, at: deps.now(), why };
  return ok({ ...answer, created: await deps.registry.reserve({ name, tenant, ...note }) });
}

/** Ends a reservation. Error: `not_found` if there is none. */
async function releaseRoom(
  deps: Deps,
  params: { name: string; caller: AdminCaller },
): Promise<Result<null, ApiError>> {
  const { name, caller } = params;
  const allowed = operatorOnly(caller);
  if (!allowed.ok) return allowed;
  const released = await deps.registry.release({ name, actor: caller.keyId, at: deps.now() });
  return released ? ok(null) : err({ code: 'not_found', message: `'${name}' is not reserved.` });
}
