/** Keys, as the admin API answers: never the hash, and the key itself once. */
import { z } from 'zod';

const limit = z.int().positive();

/** What one key may use; what is not there is not limited. */
export const KeyLimitsView = z.object({
  /** In any minute. */
  requests_per_minute: limit.optional(),
  /** Prompt and completion, in any minute. */
  tokens_per_minute: limit.optional(),
  /** Requests under way at the same time. */
  concurrent: limit.optional(),
  /** Budgets, by the calendar in UTC. */
  tokens_per_day: limit.optional(),
  tokens_per_month: limit.optional(),
  /** When the counter does not answer. */
  on_outage: z.enum(['allow', 'refuse']).optional(),
});
export type KeyLimitsView = z.infer<typeof KeyLimitsView>;

/**
 * What may stand in for an adapter that cannot be had (KV does not answer, or no origin can load it): the version last
 * known, its nearest ancestor, the base model, or nothing.
 */
export const DegradePolicy = z.enum(['stale', 'ancestor', 'base', 'refuse']);
export type DegradePolicy = z.infer<typeof DegradePolicy>;

/** `POST /admin/keys/change`, and one of `GET /admin/keys`. */
export const KeyView = z.object({
  id: z.string(),
  kind: z.enum(['api', 'admin']),
  tenant: z.string(),
  /** Names of others that it may use. */
  scopes: z.array(z.string()),
  /**
   * Whose adapters each scope opens, in their order; null = whoever owns them: `**`, and scopes of keys from before
   * they were bound. Edges from before do not say.
   */
  scope_owners: z.array(z.string().nullable()).default([]),
  label: z.string(),
  /** Unix ms, as the others. */
  created_at: z.int(),
  /** Id of the key that made it. */
  created_by: z.string(),
  revoked_at: z.int().nullable(),
  /** null = never. */
  expires_at: z.int().nullable(),
  limits: KeyLimitsView.nullable(),
  /** Names are never resolved to an ancestor. */
  strict: z.boolean(),
  degrade: DegradePolicy.nullable(),
  /** Id of the key that took its place, the last one where several did. */
  replaced_by: z.string().nullable(),
  /** Id of the key whose place it took. Edges from before do not say. */
  replaces: z.string().nullable().default(null),
});
export type KeyView = z.infer<typeof KeyView>;

/** `GET /admin/keys`: newest first. */
export const KeyList = z.object({ keys: z.array(KeyView) });
export type KeyList = z.infer<typeof KeyList>;

/** `POST /admin/keys`: with the key itself, which is shown this once, unless the caller brought a hash. */
export const NewKey = KeyView.extend({ key: z.string().optional() });
export type NewKey = z.infer<typeof NewKey>;

/** `POST /admin/keys/rotate`: the new key, and when the one ends whose place it takes. */
export const RotatedKey = KeyView.extend({ key: z.string(), replaces: z.string(), old_expires_at: z.int() });
export type RotatedKey = z.infer<typeof RotatedKey>;

/** `DELETE /admin/keys/<id>?report=true`: what ended, in the order of their ids, a page at a time. */
export const RevocationView = z.object({
  /** The key that was asked for. */
  id: z.string(),
  /** It and those that it was rotated into; with `made=true` also those that these made. */
  revoked: z.array(KeyView),
  /** Keys that these have made and that are still good; at most 100. */
  made: z.array(KeyView),
  /** There are more of those. */
  more_made: z.boolean(),
  /** Pass it back to go on; null at the end. */
  cursor: z.string().nullable(),
});
export type RevocationView = z.infer<typeof RevocationView>;
