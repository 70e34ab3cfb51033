/** Keys as the admin API shows them. */
import { z } from 'zod';

export const KeyLimits = z.object({
  requests_per_minute: z.int().optional(),
  tokens_per_minute: z.int().optional(),
  concurrent: z.int().optional(),
  tokens_per_day: z.int().optional(),
  tokens_per_month: z.int().optional(),
  on_outage: z.enum(['allow', 'refuse']).optional(),
});
export type KeyLimits = z.infer<typeof KeyLimits>;

export const KeyAnswer = z.object({
  id: z.string(),
  kind: z.enum(['api', 'admin']),
  tenant: z.string(),
  scopes: z.array(z.string()),
  label: z.string(),
  /** Unix ms, as the others. */
  created_at: z.number(),
  revoked_at: z.number().nullable(),
  expires_at: z.number().nullable(),
  limits: KeyLimits.nullable(),
  strict: z.boolean(),
  degrade: z.string().nullable(),
  replaced_by: z.string().nullable(),
});
export type KeyAnswer = z.infer<typeof KeyAnswer>;

export const KeyList = z.object({ keys: z.array(KeyAnswer) });

/** With the key itself, which is shown this once. */
export const NewKey = KeyAnswer.extend({ key: z.string() });
export type NewKey = z.infer<typeof NewKey>;

export const RotatedKey = NewKey.extend({ replaces: z.string(), old_expires_at: z.number() });
