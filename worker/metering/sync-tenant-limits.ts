/** Brings the limits of tenants to the records of their keys, from which the hot path reads them. */
import { REPAIR_PAGE } from '../limits.ts';
import { TENANT_LIMIT_PAGES } from './limits.ts';
import type { TenantLimits, TenantLimitsRow } from './ports.ts';
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
