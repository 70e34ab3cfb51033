/** Limits of a whole tenant: what the admin API takes and answers. */
import { z } from 'zod';
import { Tenant } from '../identity.ts';
import { KeyLimitsView, LimitsChange } from './keys.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/tenants/limits`: what is not given stays; null takes a limit, or all of them, away. */
export const TenantLimitsRequest = z.strictObject({ tenant: Tenant, limits: LimitsChange.nullable() });
export type TenantLimitsRequest = z.infer<typeof TenantLimitsRequest>;

/** `POST /admin/limits/reset`. */
export const ResetLimitsRequest = z
  .strictObject({ tenant: Tenant.optional(), key: z.string().max(64).optional() })
  .refine(({ tenant, key }) => (tenant === undefined) !== (key === undefined), 'give a tenant or a key');
export type ResetLimitsRequest = z.infer<typeof ResetLimitsRequest>;

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

export const TENANT_OPERATIONS = {
  'GET /admin/tenants/limits': {
    id: 'listTenantLimits',
    tag: 'keys',
    rights: 'admin',
    summary: 'What all keys of a tenant may use together; a tenant sees its own.',
    query: z.strictObject({ cursor: z.string().max(64).nullable().default(null) }),
    request: null,
    answers: { 200: { description: 'A page of tenants that have limits.', schema: TenantLimitsList } },
  },
  'POST /admin/tenants/limits': {
    id: 'changeTenantLimits',
    tag: 'keys',
    rights: 'operator',
    summary: 'Limits all keys of a tenant together; what is not given stays.',
    query: null,
    request: TenantLimitsRequest,
    answers: { 200: { description: 'The limits as they are now.', schema: TenantLimitsView } },
  },
  'POST /admin/limits/reset': {
    id: 'resetLimits',
    tag: 'keys',
    rights: 'operator',
    summary: 'Forgets what a tenant, or a key, has used of its limits.',
    query: null,
    request: ResetLimitsRequest,
    answers: { 200: { description: 'Whose counter begins anew.', schema: ResetLimitsAnswer } },
  },
} as const satisfies AdminOperationTable;
