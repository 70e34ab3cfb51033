import { isHolder, sameJson } from '../../protocol/index.ts';
import { REPAIR_PAGE } from '../limits.ts';
import { heldGrants, type HeldGrants } from './ports-grants.ts';
import type { Lookup } from '../platform/ports.ts';
import type { Mended, RepairDeps, RepairStep } from '../registry/repair-deps.ts';

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
  // What nobody can be called is read by nobody.
  for (const tenant of page.items.filter(isHolder)) {
    if ((await deps.grantLedger.heldBy([tenant])).length > 0) continue;
    const found = await mendTenant(deps, tenant, dryRun);
    if (found !== null) mended.push(found);
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};

async function mendTenant(deps: RepairDeps, tenant: string, dryRun: boolean): Promise<Mended | null> {
  const [rows, refusals, lookup] = await Promise.all([
    deps.grantLedger.heldBy([tenant]),
    deps.grantLedger.refusedBy(tenant),
    deps.grantIndex.get(tenant),
  ]);
  const recorded = heldGrants(rows, refusals);
  const was = problemOf(recorded, lookup);
  if (was === null) return null;
  if (!dryRun) await deps.rights.syncGrants(tenant);
  return { kind: 'grant', id: tenant, was, did: isEmpty(recorded) ? 'removed' : 'written' };
}

const isEmpty = ({ grants, refused }: HeldGrants): boolean => grants.length + refused.length === 0;

function problemOf(recorded: HeldGrants, lookup: Lookup<HeldGrants>): Mended['was'] | null {
  switch (lookup.state) {
    case 'trouble':
      return 'unreadable';
    case 'absent':
    case 'gone':
      return isEmpty(recorded) ? null : 'missing';
    case 'found':
      if (sameJson(lookup.value, recorded)) return null;
      return isEmpty(recorded) ? 'unknown' : 'outdated';
  }
}
