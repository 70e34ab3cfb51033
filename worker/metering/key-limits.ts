/** Limits of keys: between the admin API's words and ours, and how a tenant's are brought to the records of its keys. */
import { KeyLimitsView, type LimitsChange } from '../../protocol/admin-api/keys.ts';
import { REPAIR_PAGE } from '../limits.ts';
import { TENANT_LIMIT_PAGES } from './limits.ts';
import type { KeyLimits, TenantLimits, TenantLimitsRow } from './ports.ts';
import type { KeyLedger, RightsWriter } from '../access/ports.ts';

export interface TenantLimitsDeps {
  tenantLimits: TenantLimits;
  keyLedger: Pick<KeyLedger, 'ofTenant'>;
  rights: Pick<RightsWriter, 'syncKey'>;
}

/** Writes the next page of a tenant's keys. @returns the row as it is then. @throws StoreUnavailable */
export async function syncTenantLimits(
  deps: TenantLimitsDeps,
  row: TenantLimitsRow,
): Promise<TenantLimitsRow> {
  const { tenant, writtenTo } = row;
  if (writtenTo === null) return row;
  const page = await deps.keyLedger.ofTenant({ tenant, cursor: writtenTo, limit: REPAIR_PAGE });
  for (const { hash } of page.items) await deps.rights.syncKey(hash);
  const after = { ...row, writtenTo: page.cursor };
  await deps.tenantLimits.wrote(after);
  return after;
}

/** What one run of the schedule does of those that a request left unfinished. @throws StoreUnavailable */
export async function syncUnwrittenLimits(deps: TenantLimitsDeps): Promise<void> {
  let pages = TENANT_LIMIT_PAGES;
  for (const unwritten of await deps.tenantLimits.unwritten(TENANT_LIMIT_PAGES))
    for (let row = unwritten; row.writtenTo !== null && pages > 0; pages -= 1)
      row = await syncTenantLimits(deps, row);
}

const Limits = KeyLimitsView.strict();

/** @param change null takes all of them away. */
export function changedLimits(
  old: KeyLimits | null,
  change: LimitsChange | null | undefined,
): KeyLimits | null {
  if (change === null) return null;
  const merged = { ...(old === null ? {} : limitsJson(old)), ...change };
  const given = Object.entries(merged).filter(([, value]) => value != null);
  return limitsOf(Limits.parse(Object.fromEntries(given)));
}

export function limitsOf(input: KeyLimitsView | undefined): KeyLimits | null {
  if (input === undefined) return null;
  const entries: [keyof KeyLimits, unknown][] = [
    ['requestsPerMinute', input.requests_per_minute],
    ['tokensPerMinute', input.tokens_per_minute],
    ['concurrent', input.concurrent],
    ['tokensPerDay', input.tokens_per_day],
    ['tokensPerMonth', input.tokens_per_month],
    ['onOutage', input.on_outage],
  ];
  const given = entries.filter(([, value]) => value !== undefined);
  // What happens when limits cannot be checked is no limit.
  if (given.every(([field]) => field === 'onOutage')) return null;
  return Object.fromEntries(given) as KeyLimits;
}

export const limitsJson = (limits: KeyLimits): KeyLimitsView => ({
  ...(limits.requestsPerMinute === undefined ? {} : { requests_per_minute: limits.requestsPerMinute }),
  ...(limits.tokensPerMinute === undefined ? {} : { tokens_per_minute: limits.tokensPerMinute }),
  ...(limits.concurrent === undefined ? {} : { concurrent: limits.concurrent }),
  ...(limits.tokensPerDay === undefined ? {} : { tokens_per_day: limits.tokensPerDay }),
  ...(limits.tokensPerMonth === undefined ? {} : { tokens_per_month: limits.tokensPerMonth }),
  ...(limits.onOutage === undefined ? {} : { on_outage: limits.onOutage }),
});

const COUNTS = [
  'requestsPerMinute',
  'tokensPerMinute',
  'concurrent',
  'tokensPerDay',
  'tokensPerMonth',
] as const satisfies readonly (keyof KeyLimits)[];

/** @returns a limit of `before` that `after` raises or lifts; null when each is at most as wide as it was. */
export function relaxedLimit(before: KeyLimits | null, after: KeyLimits | null): keyof KeyLimits | null {
  for (const field of COUNTS) {
    const was = before?.[field];
    if (was !== undefined && (after?.[field] ?? Infinity) > was) return field;
  }
  return before?.onOutage === 'refuse' && after?.onOutage !== 'refuse' ? 'onOutage' : null;
}
