import { sameJson } from '../../../protocol/index.ts';
import { REPAIR_PAGE } from '../../limits.ts';
import type { Grant, GrantRow, Lookup } from '../../stores/types.ts';
import { syncGrants } from '../sync-grants.ts';
import type { Mended, RepairDeps, RepairStep } from './repair-deps.ts';

/** What every tenant was granted. A tenant at the border of two pages is looked at twice. */
export const repairGrants: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.grantLedger.list({ owner: null, cursor, limit: REPAIR_PAGE });
  const tenants = [...new Set(page.items.map(({ tenant }) => tenant))];
  const mended: Mended[] = [];
  for (const tenant of tenants) {
    const found = await mendTenant(deps, tenant, dryRun);
    if (found !== null) mended.push(found);
  }
  return { checked: tenants.length, mended, cursor: page.cursor };
};

/** Every tenant in KV, of whom the system of record may know of no grant. */
export const removeUnknownGrants: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'grant:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const tenant of page.items) {
    if ((await deps.grantLedger.heldBy([tenant])).length > 0) continue;
    const found = await mendTenant(deps, tenant, dryRun);
    if (found !== null) mended.push(found);
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};

async function mendTenant(deps: RepairDeps, tenant: string, dryRun: boolean): Promise<Mended | null> {
  const [rows, lookup] = await Promise.all([deps.grantLedger.heldBy([tenant]), deps.grantIndex.get(tenant)]);
  const was = problemOf(rows, lookup);
  if (was === null) return null;
  if (!dryRun) await syncGrants(deps, tenant);
  return { kind: 'grant', id: tenant, was, did: rows.length > 0 ? 'written' : 'removed' };
}

function problemOf(rows: readonly GrantRow[], lookup: Lookup<Grant[]>): Mended['was'] | null {
  switch (lookup.state) {
    case 'trouble':
      return 'unreadable';
    case 'absent':
    case 'gone':
      return rows.length > 0 ? 'missing' : null;
    case 'found': {
      const grants = rows.map(({ scope, owner }) => ({ scope, owner }));
      if (sameJson(lookup.value, grants)) return null;
      return rows.length > 0 ? 'outdated' : 'unknown';
    }
  }
}
