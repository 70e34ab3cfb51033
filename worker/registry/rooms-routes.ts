import { Hono } from 'hono';
import { z } from 'zod';
import { AdapterName, type ReservedRoom, type RoomList, type RoomView } from '../../protocol/index.ts';
import { releaseRoom, reserveRoom, ReserveRequest } from './reserve-room.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import type { Registry } from './ports.ts';
import type { RoomRow } from './ports-rooms.ts';
import { parseInput, readInput } from '../http/parse-input.ts';

export const RoomQuery = z.strictObject({ cursor: z.string().max(256).nullable().default(null) });
export const ReleaseQuery = z.strictObject({ name: AdapterName });

const roomJson = ({ name, tenant, createdAt, createdBy }: RoomRow): RoomView => ({
  name,
  tenant,
  created_at: createdAt,
  created_by: createdBy,
});

/**
 * `GET /admin/rooms?cursor=` -> {@link RoomList}: the tenant's, all of them for the bootstrap key;
 * `POST /admin/rooms` {@link ReserveRequest} -> 201 {@link ReservedRoom}, 200 when it was so already;
 * `DELETE /admin/rooms?name=` -> 204. Only the bootstrap key changes rooms.
 */
export function adminRoomRoutes(deps: { registry: Registry; now: () => number }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get('/admin/rooms', async (context) => {
    const input = parseInput(RoomQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const { root, tenant } = context.get('admin');
    const page = await deps.registry.rooms({
      ...input.value,
      tenant: root ? null : tenant,
      limit: ADMIN_PAGE,
    });
    return context.json({ rooms: page.items.map(roomJson), cursor: page.cursor } satisfies RoomList);
  });

  routes.post('/admin/rooms', async (context) => {
    const request = await readInput(context.req.raw, ReserveRequest);
    if (!request.ok) return fail(request.error);
    const reserved = await reserveRoom(deps, { request: request.value, caller: context.get('admin') });
    if (!reserved.ok) return fail(reserved.error);
    const { created, ...answer } = reserved.value;
    return context.json(answer satisfies ReservedRoom, created ? 201 : 200);
  });

  routes.delete('/admin/rooms', async (context) => {
    const input = parseInput(ReleaseQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const released = await releaseRoom(deps, { ...input.value, caller: context.get('admin') });
    return released.ok ? context.body(null, 204) : fail(released.error);
  });
  routes.all('/admin/rooms', methodNotAllowed('GET, POST, DELETE'));
  return routes;
}
