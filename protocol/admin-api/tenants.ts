/** Tenants' limits and usage, and the usage report as CSV: requests and answers of the admin API. */
import { z } from 'zod';
import { Tenant } from '../identity.ts';
import { KeyLimitsView, LimitsChange } from './keys.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/tenants/limits`: omitted fields stay; null removes a limit, or all of them. */
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
    /** Shared by all keys of the tenant, in addition to each key's own; null = none. */
    limits: KeyLimitsView.nullable(),
    /** Unix ms. */
    changed_at: z.int(),
    /** Id of the key that changed them. */
    changed_by: z.string(),
    /** Some keys do not know the last change yet; the schedule continues. */
    pending: z.boolean(),
  })
  .meta({ id: 'TenantLimitsView' });
export type TenantLimitsView = z.infer<typeof TenantLimitsView>;

/** `GET /admin/tenants/limits`, by tenant; a tenant's admin key sees its own. */
export const TenantLimitsList = z
  .object({
    tenants: z.array(TenantLimitsView),
    /** Cursor of the next page; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'TenantLimitsList' });
export type TenantLimitsList = z.infer<typeof TenantLimitsList>;

/** `POST /admin/limits/reset`: whose counter is reset; one of the two. */
export const ResetLimitsAnswer = z
  .object({ tenant: z.string().nullable(), key: z.string().nullable() })
  .meta({ id: 'ResetLimitsAnswer' });
export type ResetLimitsAnswer = z.infer<typeof ResetLimitsAnswer>;

export const TENANT_OPERATIONS = {
  'GET /admin/tenants/limits': {
    id: 'listTenantLimits',
    tag: 'keys',
    rights: 'admin',
    summary: 'Lists the limits that all keys of a tenant share; a tenant sees only its own.',
    query: z.strictObject({ cursor: z.string().max(64).nullable().default(null) }),
    request: null,
    answers: { 200: { description: 'A page of tenants with limits.', schema: TenantLimitsList } },
  },
  'POST /admin/tenants/limits': {
    id: 'changeTenantLimits',
    tag: 'keys',
    rights: 'operator',
    summary: 'Changes the limits that all keys of a tenant share; omitted fields stay as they are.',
    query: null,
    request: TenantLimitsRequest,
    answers: { 200: { description: 'The limits after the change.', schema: TenantLimitsView } },
  },
  'POST /admin/limits/reset': {
    id: 'resetLimits',
    tag: 'keys',
    rights: 'operator',
    summary: 'Resets what a tenant or a key has used of its limits.',
    query: null,
    request: ResetLimitsRequest,
    answers: { 200: { description: 'Whose counter was reset.', schema: ResetLimitsAnswer } },
  },
} as const satisfies AdminOperationTable;

export const USAGE_GROUPS = ['key', 'tenant', 'name', 'version', 'day', 'hour'] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];

export const USAGE_COUNTS = [
  'requests',
  'errors',
  'prompt_tokens',
  'completion_tokens',
  'total_tokens',
] as const;

const count = z.int().min(0);

/** `GET /admin/usage?by=&from=&to=&tenant=&cursor=`: a page, whose rows are to be added to those of the other pages. */
export const UsageReport = z
  .object({
    by: z.enum(USAGE_GROUPS),
    /** Whole hours, UTC; `to` is the first that no longer counts. */
    from: z.iso.datetime(),
    to: z.iso.datetime(),
    /** ISO 4217; only if the edge has a price list. */
    currency: z.string().optional(),
    /** Sorted by tokens, most first; days and hours in order. A group may be in other pages too. */
    rows: z.array(
      z.object({
        /** Key id, tenant, name, `name@version`, `2026-01-31` or `2026-01-31T07`. */
        group: z.string(),
        /** In `currency`; only if the edge has a price list. */
        cost: z.number().optional(),
        requests: count,
        /** Requests that were refused or failed. */
        errors: count,
        prompt_tokens: count,
        completion_tokens: count,
        total_tokens: count,
        /** Start of the last hour with usage. */
        last_hour: z.iso.datetime().optional(),
      }),
    ),
    cursor: z.string().nullable(),
  })
  .meta({ id: 'UsageReport' });
export type UsageReport = z.infer<typeof UsageReport>;
type UsageReportRow = UsageReport['rows'][number];

/** @returns one row for each group, most tokens first; days and hours in order. */
export function sumUsage(by: UsageGroup, rows: readonly UsageReportRow[]): UsageReportRow[] {
  const sums = new Map<string, UsageReportRow>();
  for (const row of rows) {
    const sum = sums.get(row.group);
    if (sum === undefined) {
      sums.set(row.group, { ...row });
      continue;
    }
    for (const name of USAGE_COUNTS) sum[name] += row[name];
    if (row.cost !== undefined) sum.cost = (sum.cost ?? 0) + row.cost;
    // Both are in UTC, with the same number of digits.
    if (row.last_hour !== undefined && row.last_hour > (sum.last_hour ?? '')) sum.last_hour = row.last_hour;
  }
  const byGroup = (a: UsageReportRow, b: UsageReportRow): number => (a.group < b.group ? -1 : 1);
  const byTokens = (a: UsageReportRow, b: UsageReportRow): number =>
    b.total_tokens - a.total_tokens || b.requests - a.requests || byGroup(a, b);
  return [...sums.values()].sort(by === 'day' || by === 'hour' ? byGroup : byTokens);
}

/** @param pages of one report, in their order, at least one. @returns the report; its cursor is the last page's. */
export function joinUsage(pages: readonly UsageReport[]): UsageReport {
  const first = pages[0]!;
  const rows = sumUsage(
    first.by,
    pages.flatMap((page) => page.rows),
  );
  return { ...first, rows, cursor: pages.at(-1)!.cursor };
}

/** A day, which starts at midnight UTC, or a moment in ISO 8601 with its zone; parsed to unix ms. */
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
    summary: 'Requests and tokens by key, tenant, name, version, day or hour; in whole hours.',
    query: z.strictObject({
      by: z.enum(USAGE_GROUPS).default('key'),
      from: moment.optional(),
      to: moment.optional(),
      tenant: z.string().max(64).optional(),
      cursor: z.string().max(2_048).nullable().default(null),
    }),
    request: null,
    answers: {
      200: {
        description: 'A row for each group. Pass `cursor` to get the next page, and add its rows to these.',
        schema: UsageReport,
      },
    },
  },
} as const satisfies AdminOperationTable;

/** What spreadsheets read as the start of a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** Text from others must stay text: a label such as `=HYPERLINK(…)` would run where the file is opened. */
const inert = (text: string): string => (FORMULA.test(text) ? `'${text}` : text);

const quoted = (cell: string): string => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** RFC 4180: CRLF after every line, quotes where needed. Numbers stay numbers, texts cannot be formulas. */
export const csv = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, ...rows]
    .map((row) => row.map((cell) => quoted(typeof cell === 'number' ? String(cell) : inert(cell))).join(','))
    .map((line) => `${line}\r\n`)
    .join('');

/** Used by the CLI and the console. @param labels of keys, by their id. */
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
