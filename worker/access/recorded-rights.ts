/** Keys, grants and versions as the system of record has them, in the form in which the hot path reads indexes. */
import { heldGrants, type GrantLedger, type HeldGrants } from './ports-grants.ts';
import { keyIdOf, keyRecordOf, type KeyLedger, type KeyRecord } from './ports.ts';
import type { Index, Lookup } from '../platform/ports.ts';
import type { Registry, VersionRow } from '../registry/ports.ts';

const found = <T>(value: T): Lookup<T> => ({ state: 'found', value, stale: false });

/** @param hash sha256 of the key, hex. @throws StoreUnavailable */
export async function recordedKey(ledger: Pick<KeyLedger, 'get'>, hash: string): Promise<Lookup<KeyRecord>> {
  const row = await ledger.get(keyIdOf(hash));
  if (row === null || row.hash !== hash || row.kind !== 'api') return { state: 'absent' };
  return row.revokedAt === null ? found(keyRecordOf(row)) : { state: 'gone' };
}

/** @throws StoreUnavailable */
export async function recordedGrants(
  ledger: Pick<GrantLedger, 'heldBy' | 'refusedBy'>,
  tenant: string,
): Promise<Lookup<HeldGrants>> {
  return found(heldGrants(...(await Promise.all([ledger.heldBy([tenant]), ledger.refusedBy(tenant)]))));
}

/** By `name@version`. Pins are read from the system of record: a version's row is not in KV unless it is live. */
export function createVersionIndex(registry: Pick<Registry, 'version'>): Index<VersionRow> {
  return {
    async get(pin) {
      const at = pin.lastIndexOf('@');
      const row = await registry.version(pin.slice(0, at), Number(pin.slice(at + 1)));
      // This is the system of record: what it does not have was removed, and no memory of it is to be served.
      return row === null ? { state: 'gone' } : found(row);
    },
  };
}
