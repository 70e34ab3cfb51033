/** What tenants may use and have used: limits of a whole tenant, usage and its report as a file for spreadsheets; what the admin API takes and answers. */
import { z } from 'zod';
import { Tenant } from '../identity.ts';
import { KeyLimitsView, LimitsChange } from './keys.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/tenants/limits`: what is not given stays; null takes a limit, or all of them, away. */
export const TenantLimitsRequest = z
  .strictObject({ tenant: Tenant, limits: LimitsChange.nullable() })
  .meta({ id: 'TenantLimitsRequest' });
export type TenantLimitsRequest = z.infer<typeof TenantLimitsRequest>;

/** `POST /admin/limits/reset`. */
export const ResetLimitsRequest = z
  .strictObject({ tenant: Tenant.optional(), key: z.string().max(64).optional() })
  .refine(({ tenant, key }) => (tenant === undefined) !== (key === undefined), 'give a tenant or a key')
  .meta({ id: 'ResetLimitsRequest' });
export type ResetLimitsRequest = z.infer<typeof ResetLimitsRequest>;

/** `POST /admin/tenants/limits`, and one of `GET /admin/tenants/limits`. */
export const TenantLimitsView = z
  .object({
    tenant: z.string(),
    /** For all keys of the tenant together, beside those of each key; null = none. */
    limits: KeyLimitsView.nullable(),
    /** Unix ms. */
    changed_at: z.int(),
    /** Id of the key that changed them. */
    changed_by: z.string(),
    /** Some keys do not know of the last change yet; the schedule goes on with them. */
    pending: z.boolean(),
  })
  .meta({ id: 'TenantLimitsView' });
export type TenantLimitsView = z.infer<typeof TenantLimitsView>;

/** `GET /admin/tenants/limits`, by tenant; a tenant's admin key sees its own. */
export const TenantLimitsList = z
  .object({
    tenants: z.array(TenantLimitsView),
    /** Goes on from here; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'TenantLimitsList' });
export type TenantLimitsList = z.infer<typeof TenantLimitsList>;

/** `POST /admin/limits/reset`: whose counter begins anew, one of both. */
export const ResetLimitsAnswer = z
  .object({ tenant: z.string().nullable(), key: z.string().nullable() })
  .meta({ id: 'ResetLimitsAnswer' });
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

export const USAGE_GROUPS = ['key', 'tenant', 'name', 'version', 'day', 'hour'] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];

const count = z.int().min(0);

/** `GET /admin/usage?by=&from=&to=&tenant=`. */
export const UsageReport = z
  .object({
    by: z.enum(USAGE_GROUPS),
    /** Whole hours, UTC; `to` is the first that does not count any more. */
    from: z.iso.datetime(),
    to: z.iso.datetime(),
    /** ISO 4217; only where the edge has a price list. */
    currency: z.string().optional(),
    /** By tokens, most first; days and hours in their order. */
    rows: z.array(
      z.object({
        /** Key id, tenant, name, `name@version`, `2026-01-31` or `2026-01-31T07`. */
        group: z.string(),
        /** In `currency`; only where the edge has a price list. */
        cost: z.number().optional(),
        requests: count,
        /** Requests that were refused or broke off. */
        errors: count,
        prompt_tokens: count,
        completion_tokens: count,
        total_tokens: count,
        /** The last hour that counts anything, its beginning. */
        last_hour: z.iso.datetime().optional(),
      }),
    ),
    /** There are more. */
    truncated: z.boolean(),
  })
  .meta({ id: 'UsageReport' });
export type UsageReport = z.infer<typeof UsageReport>;

/** A day, which begins at midnight UTC, or a moment of ISO 8601 with its zone; becomes unix ms. */
export const moment = z
  .union(
    [z.iso.date(), z.iso.datetime({ offset: true })],
    'must be a date, 2026-01-31, or a time, 2026-01-31T07:00:00Z',
  )
  .transform((text) => Date.parse(text));

export const USAGE_OPERATIONS = {
  'GET /admin/usage': {
    id: 'readUsage',
    tag: 'operation',
    rights: 'admin',
    summary: 'Requests and tokens by key, tenant, name, version, day or hour; whole hours.',
    query: z.strictObject({
      by: z.enum(USAGE_GROUPS).default('key'),
      from: moment.optional(),
      to: moment.optional(),
      tenant: z.string().max(64).optional(),
    }),
    request: null,
    answers: {
      200: { description: 'A row for each group; `truncated` when there are more.', schema: UsageReport },
    },
  },
} as const satisfies AdminOperationTable;

/** What spreadsheets take for the beginning of a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** Text of others must stay text: a label `=HYPERLINK(…)` would run where the file is opened. */
const inert = (text: string): string => (FORMULA.test(text) ? `'${text}` : text);

const quoted = (cell: string): string => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** RFC 4180: CRLF after every line, quotes where they are needed. Numbers stay numbers, texts cannot be formulas. */
export const csv = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, ...rows]
    .map((row) => row.map((cell) => quoted(typeof cell === 'number' ? String(cell) : inert(cell))).join(','))
    .map((line) => `${line}\r\n`)
    .join('');

export const USAGE_COUNTS = [
  'requests',
  'errors',
  'prompt_tokens',
  'completion_tokens',
  'total_tokens',
] as const;

/** The same for a terminal and the dashboard. @param labels of keys, by their id. */
export function usageCsv({ by, rows, currency }: UsageReport, labels: ReadonlyMap<string, string>): string {
  const withLabel = by === 'key';
  return csv(
    [
      by,
      ...(withLabel ? ['label'] : []),
      ...USAGE_COUNTS,
      ...(currency === undefined ? [] : ['cost', 'currency']),
    ],
    rows.map((row) => [
      row.group,
      ...(withLabel ? [labels.get(row.group) ?? ''] : []),
      ...USAGE_COUNTS.map((count) => row[count]),
      ...(currency === undefined ? [] : [row.cost ?? 0, currency]),
    ]),
  );
}
