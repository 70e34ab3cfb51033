/**
 * Brings keys and grants in KV up to date with the system of record, and reads them in the same form.
 */
import type { Mended } from '../../protocol/admin-api/upkeep.ts';
import { Digest, sameJson, isHolder } from '../../protocol/identity.ts';
import { REPAIR_PAGE } from '../limits.ts';
import { logLine, reasonOf } from '../log.ts';
import type { Index, Lookup } from '../platform/ports.ts';
import type { Registry, VersionRow } from '../registry/ports.ts';
import { unlessDamaged, type RepairDeps, type RepairStep } from '../registry/repair-names.ts';
import {
  heldGrants,
  type HeldGrants,
  keyIdOf,
  keyRecordOf,
  type KeyRecord,
  type KeyRow,
  type RightsWriter,
} from './ports.ts';
import { STALE_RIGHTS_AT_ONCE, STALE_RIGHTS_PER_RUN } from './limits.ts';
import type { GrantLedger } from './d1-grants.ts';
import type { KeyLedger } from './d1-key-ledger.ts';
import type { StaleRight, StaleRights } from './d1-stale-rights.ts';

const found = <T>(value: T): Lookup<T> => ({ state: 'found', value, stale: false });

/** @param hash sha256 of the key, hex. @throws StoreUnavailable */
export async function recordedKey(ledger: Pick<KeyLedger, 'get'>, hash: string): Promise<Lookup<KeyRecord>> {
  const row = await ledger.get(keyIdOf(hash));
  if (row === null || row.hash !== hash || row.kind !== 'api') return { state: 'absent' };
  return row.revoked_at === null ? found(keyRecordOf(row)) : { state: 'gone' };
}

/** @throws StoreUnavailable */
export async function recordedGrants(
  ledger: Pick<GrantLedger, 'heldBy' | 'refusedBy'>,
  tenant: string,
): Promise<Lookup<HeldGrants>> {
  return found(heldGrants(...(await Promise.all([ledger.heldBy([tenant]), ledger.refusedBy(tenant)]))));
}

/** By `name@version`. Pins are read from the system of record: KV only has rows of live versions. */
export function createVersionIndex(registry: Pick<Registry, 'version'>): Index<VersionRow> {
  return {
    async get(pin) {
      const at = pin.lastIndexOf('@');
      const row = await registry.version(pin.slice(0, at), Number(pin.slice(at + 1)));
      // A version missing from the system of record was removed, so no cached copy may be served.
      return row === null ? { state: 'gone' } : found(row);
    },
  };
}

/**
 * One scheduled run: writes keys and grants whose request ended before it had written them, the oldest first.
 * The writer clears their notes; failures are left for the next run.
 * @throws StoreUnavailable if the system of record does not respond.
 */
export async function syncStaleRights(deps: {
  staleRights: Pick<StaleRights, 'list'>;
  rights: RightsWriter;
}): Promise<void> {
  const stale = await deps.staleRights.list(STALE_RIGHTS_PER_RUN);
  for (let at = 0; at < stale.length; at += STALE_RIGHTS_AT_ONCE) {
    const page = stale.slice(at, at + STALE_RIGHTS_AT_ONCE);
    await Promise.all(page.map((one) => syncStaleRight(deps.rights, one)));
  }
}

async function syncStaleRight(rights: RightsWriter, stale: StaleRight): Promise<void> {
  try {
    await ('key' in stale ? rights.syncKey(stale.key) : rights.syncGrants(stale.grants));
  } catch (error) {
    const record = 'key' in stale ? `key:${stale.key}` : `grants:${stale.grants}`;
    logLine('pointer_not_written', { record, reason: reasonOf(error) });
  }
}

/** Rewrites every inference key of the system of record. */
export const repairKeys: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.keyLedger.page({ cursor, limit: REPAIR_PAGE });
  const keys = page.items.filter(({ kind }) => kind === 'api');
  const mended: Mended[] = [];
  for (const key of keys) {
    const wrong = problemOfKey(key, await deps.keyIndex.get(key.hash));
    if (wrong === null) continue;
    mended.push({ kind: 'key', id: key.id, ...wrong });
    if (!dryRun) await mend(deps, key, wrong.did);
  }
  return { checked: keys.length, mended, cursor: page.cursor };
};

function problemOfKey(key: KeyRow, lookup: Lookup<KeyRecord>): Pick<Mended, 'was' | 'did'> | null {
  if (key.revoked_at !== null) {
    const usable = lookup.state === 'found' || lookup.state === 'trouble';
    return usable ? { was: lookup.state === 'found' ? 'outdated' : 'unreadable', did: 'removed' } : null;
  }
  switch (lookup.state) {
    case 'gone':
      // Only a revocation leaves this mark: the system of record was restored to an earlier state.
      return { was: 'outdated', did: 'revoked' };
    case 'trouble':
      return { was: 'unreadable', did: 'written' };
    case 'absent':
      return { was: 'missing', did: 'written' };
    case 'found':
      return sameJson(lookup.value, keyRecordOf(key)) ? null : { was: 'outdated', did: 'written' };
  }
}

async function mend({ keyLedger, rights, now }: RepairDeps, key: KeyRow, did: Mended['did']): Promise<void> {
  if (did === 'revoked') await keyLedger.revoke({ id: key.id, successors: false, made: false, at: now() });
  else await rights.syncKey(key.hash);
}

/** Removes keys from KV that the system of record does not have: nobody could list or revoke them. */
export const removeUnknownKeys: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'key:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  // Entries that are not the hash of a key are never read.
  for (const hash of page.items.filter((item) => Digest.safeParse(item).success)) {
    const id = keyIdOf(hash);
    const row = await unlessDamaged(deps.keyLedger.get(id));
    if (row === 'damaged' || row?.hash === hash) continue;
    const { state } = await deps.keyIndex.get(hash);
    if (state === 'gone' || state === 'absent') continue;
    mended.push({ kind: 'key', id, was: 'unknown', did: 'removed' });
    if (!dryRun) await deps.rights.syncKey(hash, { mark: true });
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};

/** Rewrites every tenant's grants. A tenant at the border of two pages is checked twice. */
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

/** Checks every tenant in KV, because the system of record may have no grants for it. */
export const removeUnknownGrants: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'grant:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  // Entries that cannot be a tenant's name are never read.
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
  const was = problemOfGrants(recorded, lookup);
  if (was === null) return null;
  if (!dryRun) await deps.rights.syncGrants(tenant);
  return { kind: 'grant', id: tenant, was, did: isEmpty(recorded) ? 'removed' : 'written' };
}

const isEmpty = ({ grants, refused }: HeldGrants): boolean => grants.length + refused.length === 0;

function problemOfGrants(recorded: HeldGrants, lookup: Lookup<HeldGrants>): Mended['was'] | null {
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
