/** Ports of keys, admin keys and grants, and the callers made from them. */
import { z } from 'zod';
import type { GrantView } from '../../protocol/admin-api/grants.ts';
import {
  KeyLimits,
  KeyRights,
  NO_RIGHTS,
  type AllRights,
  type KeyView,
} from '../../protocol/admin-api/keys.ts';
import type { LimitedCaller } from '../metering/ports.ts';

/** Whose adapters each scope of a key opens, in the scopes' order; null = whoever owns them. */
export type ScopeOwners = readonly (string | null)[];

/** What KV holds of an inference key. Admin rights are never among it: whoever can write KV would mint admins. */
export const KeyRecord = KeyRights.omit({ prompts: true }).extend({
  id: z.string(),
  tenant: z.string().min(1),
  scopes: z.array(z.string()),
  /** {@link ScopeOwners}, where a scope has one. */
  scope_owners: z.array(z.string().min(1).nullable()).optional(),
  /** Unix ms; from then on it is refused. */
  expires_at: z.int().optional(),
  /** Of all keys of its tenant together: here, so that the hot path reads nothing more. */
  tenant_limits: KeyLimits.optional(),
  /** Whose quota it counts against, when not its own: that of the key it replaced. */
  counter: z.string().optional(),
});

export type KeyRecord = z.infer<typeof KeyRecord>;

/** Who asks. */
export interface Caller extends Omit<KeyRecord, 'id' | 'expires_at' | keyof LimitedCaller>, LimitedCaller {
  /** The caller's record is the last known one, because the registry does not answer. */
  stale: boolean;
}

/** Owner of what the bootstrap key publishes without saying for whom. */
export const BOOTSTRAP_TENANT = 'default';
/** As the bootstrap key is called where a key's id stands. */
export const BOOTSTRAP_KEY_ID = 'bootstrap';

/** `root` is the bootstrap key: it may act for every tenant. */
export interface AdminCaller extends KeyRights {
  keyId: string;
  tenant: string;
  scopes: readonly string[];
  scope_owners?: ScopeOwners | undefined;
  /** What was given to the tenant and to everybody; the bootstrap key needs none. */
  grants?: readonly Grant[];
  root: boolean;
}

/** A key as the system of record has it: the view, and what nobody is shown. */
export interface KeyRow extends KeyView {
  hash: string;
  /** The bootstrap key set the limits: an admin key of the tenant may only lower them. */
  limits_fixed: boolean;
  /** Of its tenant, as they are now; they are not written with the key. */
  tenant_limits: KeyLimits | null;
  /** Id of the key whose quota it counts against; its own, or that of the first of a row of rotations. */
  counter: string;
}

/** @param hash sha256 of the key, hex. @returns the id under which the key is known. */
export const keyIdOf = (hash: string): string => `key_${hash.slice(0, 16)}`;

/** @returns the others, too: what a key has unless said. */
export const allRights = (given: {
  [Field in keyof AllRights]?: AllRights[Field] | undefined;
}): AllRights =>
  Object.fromEntries(
    Object.entries(NO_RIGHTS).map(([field, none]) => [field, given[field as keyof AllRights] ?? none]),
  ) as AllRights;

/** @returns what differs from a key without rights. */
export const rightsOf = (row: AllRights): KeyRights =>
  Object.fromEntries(
    Object.entries(NO_RIGHTS).flatMap(([field, none]) => {
      const value = row[field as keyof AllRights];
      return value === none ? [] : [[field, value]];
    }),
  );

/** What KV has to hold of a key that is not revoked. */
export function keyRecordOf(row: KeyRow): KeyRecord {
  const { id, tenant, scopes, scope_owners, expires_at, tenant_limits, counter } = row;
  const { prompts: _, ...rights } = rightsOf(row);
  return {
    id,
    tenant,
    scopes,
    ...(scope_owners.some((owner) => owner !== null) ? { scope_owners } : {}),
    ...rights,
    ...(expires_at === null ? {} : { expires_at }),
    ...(tenant_limits === null ? {} : { tenant_limits }),
    ...(counter === id ? {} : { counter }),
  };
}

/** What can be changed of a key: column `rights`. */
export type ChangeableKey = Pick<
  KeyRow,
  'id' | 'label' | 'scopes' | 'scope_owners' | 'limits_fixed' | keyof AllRights
>;

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

/** Tenant of grants that everybody has. No tenant can be called so. */
export const PUBLIC = '*';

/** `tenant` has it, or {@link PUBLIC}. */
export type GrantRow = Omit<GrantView, 'refused' | 'notice'>;

/** A right that was given away: to use what `owner` has published under names that `scope` covers. */
export const Grant = z.strictObject({
  scope: z.string().min(1),
  /** null: whoever owns them; only the bootstrap key gives so much. */
  owner: z.string().min(1).nullable(),
});

export type Grant = z.infer<typeof Grant>;

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
  created_at: number;
  created_by: string;
}

/** Most grants that are kept: of one receiver, of those that are not refused; from one giver to it; of one giver. */
export interface GrantCaps {
  holder: number;
  pair: number;
  giver: number;
}
