/** Usage, as the admin API answers. */
import { z } from 'zod';

export const USAGE_GROUPS = ['key', 'tenant', 'name', 'version', 'day', 'hour'] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];

const count = z.int().min(0);

/** `GET /admin/usage?by=&from=&to=&tenant=`. */
export const UsageReport = z.object({
  by: z.enum(USAGE_GROUPS),
  /** Whole hours, UTC; `to` is the first that does not count any more. */
  from: z.iso.datetime(),
  to: z.iso.datetime(),
  /** By tokens, most first; days and hours in their order. */
  rows: z.array(
    z.object({
      /** Key id, tenant, name, `name@version`, `2026-01-31` or `2026-01-31T07`. */
      group: z.string(),
      requests: count,
      /** Requests that were refused or broke off. */
      errors: count,
      prompt_tokens: count,
      completion_tokens: count,
      total_tokens: count,
    }),
  ),
  /** There are more. */
  truncated: z.boolean(),
});
export type UsageReport = z.infer<typeof UsageReport>;
