import type { Grant, GrantIndex, GrantLedger } from '../stores/types.ts';

/** Rights that change faster than they can be written are left to the one who changed them last. */
const MAX_TRIES = 3;

/** Copies what was granted to a tenant from the system of record to the index that the hot path reads. */
export async function syncGrants(
  deps: { grantLedger: GrantLedger; grantIndex: GrantIndex },
  tenant: string,
): Promise<void> {
  const read = () => deps.grantLedger.heldBy([tenant]);
  let grants = await read();
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    await deps.grantIndex.put(tenant, grants);
    // Someone may have changed them while we wrote; then ours may have landed on top of theirs.
    const now = await read();
    if (fingerprint(now) === fingerprint(grants)) return;
    grants = now;
  }
}

const fingerprint = (grants: readonly Grant[]): string =>
  JSON.stringify(grants.map(({ scope, owner }) => [scope, owner]));
