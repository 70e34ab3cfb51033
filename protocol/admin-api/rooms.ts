/** Rooms that the operator reserved, as the admin API answers. */
import { z } from 'zod';

/** One of `GET /admin/rooms`: what does not exist yet at or below `name` is the tenant's to take. */
export const RoomView = z.object({
  name: z.string(),
  tenant: z.string(),
  /** Unix ms. */
  created_at: z.int(),
  /** Id of the key. */
  created_by: z.string(),
});
export type RoomView = z.infer<typeof RoomView>;

/** `GET /admin/rooms?cursor=`: a page, in the names' order. */
export const RoomList = z.object({ rooms: z.array(RoomView), cursor: z.string().nullable() });
export type RoomList = z.infer<typeof RoomList>;

/** `POST /admin/rooms`. */
export const ReservedRoom = z.object({
  name: z.string(),
  tenant: z.string(),
  /** Whose it was before; null = nobody's. */
  from: z.string().nullable(),
  /** What lies there and stays another tenant's. */
  notice: z.string().optional(),
});
export type ReservedRoom = z.infer<typeof ReservedRoom>;
