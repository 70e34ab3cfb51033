import { heldGrants, type GrantIndex, type GrantLedger } from './ports-grants.ts';
import { keyIdOf, keyRecordOf, type KeyIndex, type KeyLedger, type RightsWriter } from './ports.ts';
import { createWriteLanes } from '../registry/write-lanes.ts';

/**
 * Writes keys and grants in the order of their changes ({@link createWriteLanes}): what was revoked cannot come back by
 * a write that began before. All calls for a key, or for a tenant's grants, must come to the same instance.
 */
export function createRightsSync(
  params: {
    keyLedger: Pick<KeyLedger, 'get'>;
    keys: Pick<KeyIndex, 'put' | 'revoke'>;
    grantLedger: Pick<GrantLedger, 'heldBy' | 'refusedBy'>;
    grants: Pick<GrantIndex, 'put'>;
  } & Omit<Parameters<typeof createWriteLanes>[0], 'write'>,
): RightsWriter {
  const { keyLedger, keys, grantLedger, grants } = params;
  /** Hashes of which the next write leaves a mark when there is no such key. */
  const marks = new Set<string>();

  async function writeKey(hash: string): Promise<boolean> {
    const row = await keyLedger.get(keyIdOf(hash));
    const known = row !== null && row.hash === hash;
    if (!known && !marks.has(hash)) return false;
    // Admin keys are never in KV.
    if (known && row.kind !== 'api') return false;
    marks.delete(hash);
    if (known && row.revokedAt === null) await keys.put(hash, keyRecordOf(row));
    else await keys.revoke(hash);
    return true;
  }

  async function writeGrants(tenant: string): Promise<boolean> {
    const [rows, refusals] = await Promise.all([grantLedger.heldBy([tenant]), grantLedger.refusedBy(tenant)]);
    await grants.put(tenant, heldGrants(rows, refusals));
    return true;
  }

  const syncKey = createWriteLanes({ ...params, write: writeKey });
  const syncGrants = createWriteLanes({ ...params, write: writeGrants });
  return {
    syncKey(hash, options = {}) {
      if (options.mark === true) marks.add(hash);
      return syncKey(hash);
    },
    syncGrants,
  };
}
