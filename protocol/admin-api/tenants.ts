/** Limits of a whole tenant, as the admin API answers. */
import { z } from 'zod';
import { KeyLimitsView } from './keys.ts';

/** `POST /admin/tenants/limits`, and one of `GET /admin/tenants/limits`. */
export const TenantLimitsView = z.object({
  tenant: z.string(),
  /** For all keys of the tenant together, beside those of each key; null = none. */
  limits: KeyLimitsView.nullable(),
  /** Unix ms. */
  changed_at: z.int(),
  /** Id of the key that changed them. */
  changed_by: z.string(),
  /** Some keys do not know of the last change yet; the schedule goes on with them. */
  pending: z.boolean(),
});
export type TenantLimitsView = z.infer<typeof TenantLimitsView>;

/** `GET /admin/tenants/limits`, by tenant; a tenant's admin key sees its own. */
export const TenantLimitsList = z.object({
  tenants: z.array(TenantLimitsView),
  /** Goes on from here; null at the end. */
  cursor: z.string().nullable(),
});
export type TenantLimitsList = z.infer<typeof TenantLimitsList>;

/** `POST /admin/limits/reset`: whose counter begins anew, one of both. */
export const ResetLimitsAnswer = z.object({ tenant: z.string().nullable(), key: z.string().nullable() });
export type ResetLimitsAnswer = z.infer<typeof ResetLimitsAnswer>;
