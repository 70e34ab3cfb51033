/** Rooms that the operator reserved: what the admin API takes and answers. */
import { z } from 'zod';
import { AdapterName, Tenant } from '../identity.ts';
import { Why } from './names.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/rooms`. */
export const ReserveRequest = z
  .strictObject({
    name: AdapterName,
    /** Who may take what does not exist yet, at or below the name. */
    tenant: Tenant,
    /** For the history. */
    why: Why.nullish(),
    /** Everything is checked, and nothing changed. */
    dry_run: z.boolean().nullish(),
  })
  .meta({ id: 'ReserveRequest' });
export type ReserveRequest = z.infer<typeof ReserveRequest>;

/** One of `GET /admin/rooms`: what does not exist yet at or below `name` is the tenant's to take. */
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

/** `GET /admin/rooms?cursor=`: a page, in the names' order. */
export const RoomList = z
  .object({ rooms: z.array(RoomView), cursor: z.string().nullable() })
  .meta({ id: 'RoomList' });
export type RoomList = z.infer<typeof RoomList>;

/** `POST /admin/rooms`. */
export const ReservedRoom = z
  .object({
    name: z.string(),
    tenant: z.string(),
    /** Whose it was before; null = nobody's. */
    from: z.string().nullable(),
    /** What lies there and stays another tenant's. */
    notice: z.string().optional(),
  })
  .meta({ id: 'ReservedRoom' });
export type ReservedRoom = z.infer<typeof ReservedRoom>;

export const ROOM_OPERATIONS = {
  'GET /admin/rooms': {
    id: 'listRooms',
    tag: 'rooms',
    rights: 'admin',
    summary: 'Rooms that were reserved for the tenant; the bootstrap key sees all.',
    query: z.strictObject({ cursor: z.string().max(256).nullable().default(null) }),
    request: null,
    answers: { 200: { description: "A page of them, in the names' order.", schema: RoomList } },
  },
  'POST /admin/rooms': {
    id: 'reserveRoom',
    tag: 'rooms',
    rights: 'operator',
    summary: 'Reserves a name and all below it that does not exist yet for a tenant. Bootstrap key only.',
    query: null,
    request: ReserveRequest,
    answers: {
      200: { description: 'The room, which was reserved so already, or as a dry run.', schema: ReservedRoom },
      201: { description: 'The room, and whose it was.', schema: ReservedRoom },
    },
  },
  'DELETE /admin/rooms': {
    id: 'releaseRoom',
    tag: 'rooms',
    rights: 'operator',
    summary: 'Ends a reservation; names that exist stay their owners’. Bootstrap key only.',
    query: z.strictObject({ name: AdapterName }),
    request: null,
    answers: { 204: { description: 'It is gone.', schema: null } },
  },
} as const satisfies AdminOperationTable;
