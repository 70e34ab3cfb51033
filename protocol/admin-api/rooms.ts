/** Reserved prefixes: requests and answers of the admin API. */
import { z } from 'zod';
import { AdapterName, Tenant } from '../identity.ts';
import { Why } from './names.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/rooms`. */
export const ReserveRequest = z
  .strictObject({
    name: AdapterName,
    /** Who may create names at or below the name. */
    tenant: Tenant,
    /** For the history. */
    why: Why.nullish(),
    /** Check everything, but change nothing. */
    dry_run: z.boolean().nullish(),
  })
  .meta({ id: 'ReserveRequest' });
export type ReserveRequest = z.infer<typeof ReserveRequest>;

/** One of `GET /admin/rooms`: only the tenant may create names at or below `name`. */
export const RoomView = z
  .object({
    name: z.string(),
    tenant: z.string(),
    /** Unix ms. */
    created_at: z.int(),
    /** Id of the key. */
    created_by: z.string(),
  })
  .meta({ id: 'RoomView' });
export type RoomView = z.infer<typeof RoomView>;

/** `GET /admin/rooms?cursor=`: a page, in alphabetical order. */
export const RoomList = z
  .object({ rooms: z.array(RoomView), cursor: z.string().nullable() })
  .meta({ id: 'RoomList' });
export type RoomList = z.infer<typeof RoomList>;

/** `POST /admin/rooms`. */
export const ReservedRoom = z
  .object({
    name: z.string(),
    tenant: z.string(),
    /** Previous holder; null = nobody. */
    from: z.string().nullable(),
    /** Existing names there that still belong to other tenants. */
    notice: z.string().optional(),
  })
  .meta({ id: 'ReservedRoom' });
export type ReservedRoom = z.infer<typeof ReservedRoom>;

export const ROOM_OPERATIONS = {
  'GET /admin/rooms': {
    id: 'listRooms',
    tag: 'rooms',
    rights: 'admin',
    summary: 'Lists the prefixes reserved for the tenant; the bootstrap key sees all.',
    query: z.strictObject({ cursor: z.string().max(256).nullable().default(null) }),
    request: null,
    answers: { 200: { description: 'A page of prefixes, in alphabetical order.', schema: RoomList } },
  },
  'POST /admin/rooms': {
    id: 'reserveRoom',
    tag: 'rooms',
    rights: 'operator',
    summary: 'Reserves a name and all new names below it for a tenant. Bootstrap key only.',
    query: null,
    request: ReserveRequest,
    answers: {
      200: {
        description: 'The reservation, which existed already, or that of a dry run.',
        schema: ReservedRoom,
      },
      201: { description: 'The reservation, and who held it before.', schema: ReservedRoom },
    },
  },
  'DELETE /admin/rooms': {
    id: 'releaseRoom',
    tag: 'rooms',
    rights: 'operator',
    summary: 'Ends a reservation; existing names keep their owners. Bootstrap key only.',
    query: z.strictObject({ name: AdapterName }),
    request: null,
    answers: { 204: { description: 'The reservation is removed.', schema: null } },
  },
} as const satisfies AdminOperationTable;
