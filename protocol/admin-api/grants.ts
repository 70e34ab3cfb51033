/** Grants: requests and answers of the admin API. */
import { z } from 'zod';
import { isHolder, Scope, Tenant } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** Query of `DELETE /admin/grants`. */
const GrantTarget = z.strictObject({
  scope: Scope,
  tenant: z
    .string()
    .refine(isHolder, 'must be a tenant (1 to 64 of a-z, 0-9, ".", "_", "-"), or "*" for everybody'),
});

/** `POST /admin/grants`. */
export const GrantRequest = GrantTarget.extend({
  /** Confirms that others may use adapters that were made from prompts. */
  made_from_prompts: z.boolean().optional(),
}).meta({ id: 'GrantRequest' });
export type GrantRequest = z.infer<typeof GrantRequest>;

/** `POST /admin/grants`, and one of `GET /admin/grants`. */
export const GrantView = z
  .object({
    scope: z.string(),
    /** Who may use it; `*` = everybody. */
    tenant: z.string(),
    /** Owner of the opened adapters; null = any owner. */
    owner: z.string().nullable(),
    /** Unix ms. */
    created_at: z.int(),
    /** Id of the key. */
    created_by: z.string(),
    /** In the list of held grants: the caller's tenant refuses the giver, so the grant has no effect. */
    refused: z.boolean().optional(),
    /** For the bootstrap key, if the tenant has no API key and cannot use anything yet. */
    notice: z.string().optional(),
  })
  .meta({ id: 'GrantView' });
export type GrantView = z.infer<typeof GrantView>;

/** `GET /admin/grants?held=&cursor=`. */
export const GrantList = z
  .object({ grants: z.array(GrantView), cursor: z.string().nullable() })
  .meta({ id: 'GrantList' });
export type GrantList = z.infer<typeof GrantList>;

/**
 * `POST /admin/grants/refuse`, and the query of `DELETE`: the tenant whose grants are refused, or accepted
 * again.
 */
export const RefusalInput = z
  .strictObject({
    from: Tenant,
  })
  .meta({ id: 'RefusalInput' });
export type RefusalInput = z.infer<typeof RefusalInput>;

/** `POST /admin/grants/refuse`, and one of `GET /admin/grants/refuse`. */
export const RefusalView = z
  .object({
    /** Tenant whose grants have no effect for the caller's, including its grants to everybody. */
    from: z.string(),
    /** Unix ms. */
    created_at: z.int(),
    /** Id of the key. */
    created_by: z.string(),
  })
  .meta({ id: 'RefusalView' });
export type RefusalView = z.infer<typeof RefusalView>;

/** `GET /admin/grants/refuse`: by tenant. */
export const RefusalList = z.object({ refusals: z.array(RefusalView) }).meta({ id: 'RefusalList' });
export type RefusalList = z.infer<typeof RefusalList>;

export const GRANT_OPERATIONS = {
  'GET /admin/grants': {
    id: 'listGrants',
    tag: 'grants',
    rights: 'admin',
    summary: 'Lists the grants that the tenant gave or received.',
    query: z.strictObject({
      /** `true`: what the caller's tenant was granted, instead of what it granted. */
      held: z.enum(['true', 'false']).default('false'),
      cursor: z.string().max(512).nullable().default(null),
    }),
    request: null,
    answers: { 200: { description: 'A page of grants.', schema: GrantList } },
  },
  'POST /admin/grants': {
    id: 'grantAdapters',
    tag: 'grants',
    rights: 'admin',
    summary: 'Lets another tenant, or everybody (`*`), use a name or everything below it.',
    description:
      '409 `version_conflict` with `param` `made_from_prompts` when a version among them was made from prompts, ' +
      'unless that field confirms it.',
    query: null,
    request: GrantRequest,
    answers: {
      200: { description: 'The grant, which existed already.', schema: GrantView },
      201: { description: 'The new grant.', schema: GrantView },
    },
  },
  'DELETE /admin/grants': {
    id: 'revokeGrant',
    tag: 'grants',
    rights: 'admin',
    summary: 'Revokes a grant.',
    query: GrantTarget,
    request: null,
    answers: { 204: { description: 'The grant is revoked.', schema: null } },
  },
  'GET /admin/grants/refuse': {
    id: 'listRefusals',
    tag: 'grants',
    rights: 'admin',
    summary: 'Lists the tenants whose grants this tenant refuses.',
    query: null,
    request: null,
    answers: { 200: { description: 'The refusals, by tenant.', schema: RefusalList } },
  },
  'POST /admin/grants/refuse': {
    id: 'refuseGrants',
    tag: 'grants',
    rights: 'admin',
    summary: "Refuses another tenant's grants, including those to everybody; they no longer have any effect.",
    query: null,
    request: RefusalInput,
    answers: {
      200: { description: 'The refusal, which existed already.', schema: RefusalView },
      201: { description: 'The new refusal.', schema: RefusalView },
    },
  },
  'DELETE /admin/grants/refuse': {
    id: 'acceptGrants',
    tag: 'grants',
    rights: 'admin',
    summary: "Accepts another tenant's grants again.",
    query: RefusalInput,
    request: null,
    answers: { 204: { description: 'The grants are in effect again.', schema: null } },
  },
} as const satisfies AdminOperationTable;
