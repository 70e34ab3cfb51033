import { Digest, sameJson } from '../../protocol/index.ts';
import { REPAIR_PAGE } from '../limits.ts';
import { keyIdOf, keyRecordOf, type KeyRecord, type KeyRow } from './ports.ts';
import type { Lookup } from '../platform/ports.ts';
import { unlessDamaged, type Mended, type RepairDeps, type RepairStep } from '../registry/repair-deps.ts';

/** Every inference key that the system of record has. */
export const repairKeys: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.keyLedger.page({ cursor, limit: REPAIR_PAGE });
  const keys = page.items.filter(({ kind }) => kind === 'api');
  const mended: Mended[] = [];
  for (const key of keys) {
    const wrong = problemOf(key, await deps.keyIndex.get(key.hash));
    if (wrong === null) continue;
    mended.push({ kind: 'key', id: key.id, ...wrong });
    if (!dryRun) await mend(deps, key, wrong.did);
  }
  return { checked: keys.length, mended, cursor: page.cursor };
};

function problemOf(key: KeyRow, lookup: Lookup<KeyRecord>): Pick<Mended, 'was' | 'did'> | null {
  if (key.revokedAt !== null) {
    const usable = lookup.state === 'found' || lookup.state === 'trouble';
    return usable ? { was: lookup.state === 'found' ? 'outdated' : 'unreadable', did: 'removed' } : null;
  }
  switch (lookup.state) {
    case 'gone':
      // Only a revocation leaves that mark: the system of record was put back to before it.
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

/** Every key in KV that the system of record does not have: nobody could list or revoke it. */
export const removeUnknownKeys: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'key:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  // What is not the hash of a key is read by nobody.
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
