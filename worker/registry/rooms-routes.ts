import { Hono } from 'hono';
import type { ReservedRoom, RoomList, RoomView } from '../../protocol/index.ts';
import { releaseRoom, reserveRoom } from './reserve-room.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import type { Registry } from './ports.ts';
import type { RoomRow } from './ports-rooms.ts';

const roomJson = ({ name, tenant, createdAt, createdBy }: RoomRow): RoomView => ({
  name,
  tenant,
  created_at: createdAt,
  created_by: createdBy,
});

/** Rooms: those of the tenant, or all of them for the bootstrap key, which alone changes them. */
export function adminRoomRoutes(deps: { registry: Registry; now: () => number }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'GET /admin/rooms', async ({ context, caller, query }) => {
    const { root, tenant } = caller;
    const page = await deps.registry.rooms({
      ...query,
      tenant: root ? null : tenant,
      limit: ADMIN_PAGE,
    });
    return context.json({ rooms: page.items.map(roomJson), cursor: page.cursor } satisfies RoomList);
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
