/** How limits of keys change, and how a tenant's limits reach the records of its keys. */
import { KeyLimits, type LimitsChange } from '../../protocol/admin-api/keys.ts';
import { REPAIR_PAGE } from '../limits.ts';
import { TENANT_LIMIT_PAGES } from './limits.ts';
import type { TenantLimits, TenantLimitsRow } from './ports.ts';
import type { RightsWriter } from '../access/ports.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';

export interface TenantLimitsDeps {
  tenantLimits: TenantLimits;
  keyLedger: Pick<KeyLedger, 'ofTenant'>;
  rights: Pick<RightsWriter, 'syncKey'>;
}

/**
 * Writes the next page of a tenant's keys.
 * @returns the row after that.
 * @throws StoreUnavailable
 */
export async function syncTenantLimits(
  deps: TenantLimitsDeps,
  row: TenantLimitsRow,
): Promise<TenantLimitsRow> {
  const { tenant, written_to } = row;
  if (written_to === null) return row;
  const page = await deps.keyLedger.ofTenant({ tenant, cursor: written_to, limit: REPAIR_PAGE });
  for (const { hash } of page.items) await deps.rights.syncKey(hash);
  const after = { ...row, written_to: page.cursor };
  await deps.tenantLimits.wrote(after);
  return after;
}

/**
 * One scheduled run: continues what requests left unfinished.
 * @throws StoreUnavailable
 */
export async function syncUnwrittenLimits(deps: TenantLimitsDeps): Promise<void> {
  let pages = TENANT_LIMIT_PAGES;
  for (const unwritten of await deps.tenantLimits.unwritten(TENANT_LIMIT_PAGES))
    for (let row = unwritten; row.written_to !== null && pages > 0; pages -= 1)
      row = await syncTenantLimits(deps, row);
}

/** @param change null removes all of them. */
export const changedLimits = (
  old: KeyLimits | null,
  change: LimitsChange | null | undefined,
): KeyLimits | null => (change === null ? null : limitsOf({ ...old, ...change }));

/** @returns the limits that are set; null without any. */
export function limitsOf(input: LimitsChange | undefined): KeyLimits | null {
  const given = Object.entries(input ?? {}).filter(([, value]) => value != null);
  // `on_outage` alone limits nothing.
  return given.every(([field]) => field === 'on_outage') ? null : KeyLimits.parse(Object.fromEntries(given));
}

const COUNTS = KeyLimits.omit({ on_outage: true }).keyof().options;

/** @returns whether `after` raises or removes a limit of `before`. */
export function isRelaxed(before: KeyLimits | null, after: KeyLimits | null): boolean {
  const { on_outage: outage, ...counts } = before ?? {};
  if (outage === 'refuse' && after?.on_outage !== 'refuse') return true;
  return COUNTS.some((field) => (after?.[field] ?? Infinity) > (counts[field] ?? Infinity));
}
