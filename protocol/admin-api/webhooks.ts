/** Webhooks: where alerts of budgets and origins go. Requests and answers of the admin API. */
import { z } from 'zod';
import { Tenant } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** What a webhook can be told. */
export const WEBHOOK_EVENTS = ['budget.nearly_used', 'budget.used', 'origin.away', 'origin.back'] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

/** Those that only the operator is told: tenants share the origins. */
export const isOperatorEvent = (event: WebhookEvent): boolean => event.startsWith('origin.');

/** `POST /admin/webhooks`. */
export const WebhookRequest = z
  .strictObject({
    url: z.string(),
    /** Default: all that its owner can be told. */
    events: z.array(z.enum(WEBHOOK_EVENTS)).min(1).optional(),
    /** Whose it is. Default: the key’s tenant; of the bootstrap key, the operator. */
    tenant: Tenant.optional(),
  })
  .meta({ id: 'WebhookRequest' });
export type WebhookRequest = z.infer<typeof WebhookRequest>;

/** One of `GET /admin/webhooks`. */
export const WebhookView = z
  .object({
    id: z.string(),
    /** Null: the operator’s, which hears of every tenant’s budgets, and of origins. */
    tenant: z.string().nullable(),
    url: z.string(),
    events: z.array(z.enum(WEBHOOK_EVENTS)),
    /** Unix ms. */
    created_at: z.int(),
    /** Id of the key. */
    created_by: z.string(),
    /** Messages that have not been delivered yet. */
    waiting: z.int(),
  })
  .meta({ id: 'WebhookView' });
export type WebhookView = z.infer<typeof WebhookView>;

/** `GET /admin/webhooks?cursor=`, the operator’s first. */
export const WebhookList = z
  .object({ webhooks: z.array(WebhookView), cursor: z.string().nullable() })
  .meta({ id: 'WebhookList' });
export type WebhookList = z.infer<typeof WebhookList>;

/** `GET /admin/webhooks/:id/secret`: `whsec_` and base64, as in Standard Webhooks. */
export const WebhookSecret = z.object({ secret: z.string() }).meta({ id: 'WebhookSecret' });
export type WebhookSecret = z.infer<typeof WebhookSecret>;

/** `POST /admin/webhooks`. */
export const NewWebhook = WebhookView.extend(WebhookSecret.shape).meta({ id: 'NewWebhook' });
export type NewWebhook = z.infer<typeof NewWebhook>;

/** `POST /admin/webhooks/:id/test`. */
export const WebhookTest = z
  .object({
    delivered: z.boolean(),
    /** The receiver’s; null = it did not answer. */
    status: z.int().nullable(),
    /** Why it was not delivered; null = it was. */
    reason: z.string().nullable(),
  })
  .meta({ id: 'WebhookTest' });
export type WebhookTest = z.infer<typeof WebhookTest>;

export const WEBHOOK_OPERATIONS = {
  'GET /admin/webhooks': {
    id: 'listWebhooks',
    tag: 'operation',
    rights: 'admin',
    summary: 'Lists the webhooks that are told of budgets and origins; a tenant sees only its own.',
    query: z.strictObject({ cursor: z.string().max(128).nullable().default(null) }),
    request: null,
    answers: { 200: { description: 'A page of webhooks.', schema: WebhookList } },
  },
  'POST /admin/webhooks': {
    id: 'createWebhook',
    tag: 'operation',
    rights: 'admin',
    summary: 'Creates a webhook, and returns the secret that verifies its messages (Standard Webhooks).',
    query: null,
    request: WebhookRequest,
    answers: { 201: { description: 'The new webhook.', schema: NewWebhook } },
  },
  'DELETE /admin/webhooks/:id': {
    id: 'deleteWebhook',
    tag: 'operation',
    rights: 'admin',
    summary: 'Deletes a webhook, and its messages that have not been delivered.',
    query: null,
    request: null,
    answers: { 204: { description: 'It is deleted.', schema: null } },
  },
  'GET /admin/webhooks/:id/secret': {
    id: 'readWebhookSecret',
    tag: 'operation',
    rights: 'admin',
    summary: 'The secret that verifies the messages of a webhook.',
    query: null,
    request: null,
    answers: { 200: { description: 'The secret.', schema: WebhookSecret } },
  },
  'POST /admin/webhooks/:id/test': {
    id: 'testWebhook',
    tag: 'operation',
    rights: 'admin',
    summary: 'Sends a signed `webhook.test` now, and returns what the receiver answered.',
    query: null,
    request: null,
    answers: { 200: { description: 'Whether it was delivered.', schema: WebhookTest } },
  },
} as const satisfies AdminOperationTable;
