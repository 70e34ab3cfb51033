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
  /** Of what the caller's tenant was given: it refuses its giver, so that it opens nothing. */
  refused: z.boolean().optional(),
});
export type GrantView = z.infer<typeof GrantView>;

/** `GET /admin/grants?held=&cursor=`. */
export const GrantList = z.object({ grants: z.array(GrantView), cursor: z.string().nullable() });
export type GrantList = z.infer<typeof GrantList>;

/** `POST /admin/grants/refuse`, and one of `GET /admin/grants/refuse`. */
export const RefusalView = z.object({
  /** Tenant whose grants open nothing for the caller's, those to everybody neither. */
  from: z.string(),
  /** Unix ms. */
  created_at: z.int(),
  /** Id of the key. */
  created_by: z.string(),
});
export type RefusalView = z.infer<typeof RefusalView>;

/** `GET /admin/grants/refuse`: by tenant. */
export const RefusalList = z.object({ refusals: z.array(RefusalView) });
export type RefusalList = z.infer<typeof RefusalList>;
