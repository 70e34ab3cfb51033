/** Grants, as the admin API answers. */
import { z } from 'zod';

/** `POST /admin/grants`, and one of `GET /admin/grants`. */
export const GrantView = z.object({
  scope: z.string(),
  /** Who may use it; `*` = everybody. */
  tenant: z.string(),
  /** Whose adapters it opens; null = whoever owns them. */
  owner: z.string().nullable(),
  /** Unix ms. */
  created_at: z.int(),
  /** Id of the key. */
  created_by: z.string(),
});
export type GrantView = z.infer<typeof GrantView>;

/** `GET /admin/grants?held=&cursor=`. */
export const GrantList = z.object({ grants: z.array(GrantView), cursor: z.string().nullable() });
export type GrantList = z.infer<typeof GrantList>;
