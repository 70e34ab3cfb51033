/** Ports of who may use what, beside the ledgers and indexes of keys and grants; part of types.ts. */
import { z } from 'zod';

/** A right that was given away: to use what `owner` has published under names that `scope` covers. */
export const Grant = z.strictObject({
  scope: z.string().min(1),
  /** null: whoever owns them; only the bootstrap key gives so much. */
  owner: z.string().min(1).nullable(),
});
export type Grant = z.infer<typeof Grant>;

/** Can a grant be for it: a tenant, or everybody? */
export const isHolder = (text: string): boolean => /^([a-z0-9._-]{1,64}|\*)$/.test(text);

/** What opens something for a tenant. */
export interface HeldGrants {
  /** Given to it, without what givers gave whom it refuses. */
  grants: readonly Grant[];
  /** Tenants whose grants open nothing for it, those to everybody neither. */
  refused: readonly string[];
}

/** What KV has to hold of the grants of a tenant, or of everybody. */
export function heldGrants(
  rows: readonly Grant[],
  refusals: readonly Pick<RefusalRow, 'owner'>[],
): HeldGrants {
  const refused = refusals.map(({ owner }) => owner);
  const grants = rows.map(({ scope, owner }) => ({ scope, owner }));
  return { grants: unrefused(grants, refused), refused };
}

/** @returns the grants less those of refused givers; what the bootstrap key gave of everybody's stays. */
export function unrefused(grants: readonly Grant[], refused: readonly string[]): readonly Grant[] {
  if (refused.length === 0) return grants;
  const without = new Set(refused);
  return grants.filter(({ owner }) => owner === null || !without.has(owner));
}

/** That a tenant wants no grants of another. */
export interface RefusalRow {
  tenant: string;
  /** Whose adapters are not opened by grants. */
  owner: string;
  createdAt: number;
  createdBy: string;
}

/** Most grants that are kept: of one receiver, of those that are not refused; from one giver to it; of one giver. */
export interface GrantCaps {
  holder: number;
  pair: number;
  giver: number;
}

/** Which keys end with one of them. */
export interface RevokedLine {
  id: string;
  /** Those that it was rotated into, and theirs. */
  successors: boolean;
  /** Those that it, or one of these, has made. */
  made: boolean;
}

/** Keys that were made of others; part of `KeyLedger`. */
export interface KeyLineage<Row> {
  /** Ends all of the line at once, and from then on none of them can be rotated or make a key. */
  revoke(line: RevokedLine & { at: number }): Promise<void>;
  /** Which those are, the first included, in the order of their ids. @param params.after the last id of the page before. */
  line(params: RevokedLine & { after: string | null; limit: number }): Promise<Row[]>;
  /** Keys made by the key or its successors, which are none themselves, and neither revoked nor expired at `at`. */
  madeBy(params: { id: string; at: number; limit: number }): Promise<Row[]>;
}

/** The one writer of keys and grants in KV: a change that was made later can never be overwritten by an earlier one. */
export interface RightsWriter {
  /**
   * Copies what the ledger says of the key to KV, at most one write a second a key; calls that come meanwhile share the
   * next write. What fails is tried again later by itself.
   * @param options.mark where the ledger has no such key, leaves a signed mark; otherwise nothing is written then.
   * @returns once a state is in KV that was read after the call. @throws StoreUnavailable
   */
  syncKey(hash: string, options?: { mark?: boolean }): Promise<void>;
  /** The same for all that a tenant, or everybody, was given. */
  syncGrants(tenant: string): Promise<void>;
}
