/** Types of keys, admin keys, grants and callers, and how they are stored in KV. */
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

/** The owner whose adapters each scope covers, in the scopes' order; null = any owner. */
export type ScopeOwners = readonly (string | null)[];

/**
 * An inference key in KV. Never has admin rights, nor those of publishing and training: anybody with write access to KV
 * could create them.
 */
export const KeyRecord = KeyRights.omit({ prompts: true, publish: true, train: true }).extend({
  id: z.string(),
  tenant: z.string().min(1),
  scopes: z.array(z.string()),
  /** {@link ScopeOwners}, if a scope is bound to an owner. */
  scope_owners: z.array(z.string().min(1).nullable()).optional(),
  /** Unix ms; the key is refused from then on. */
  expires_at: z.int().optional(),
  /** Limits of all of the tenant's keys together. Stored here to save the hot path a read. */
  tenant_limits: KeyLimits.optional(),
  /** Key whose quota it shares, if not its own: that of the key it replaced. */
  counter: z.string().optional(),
});

export type KeyRecord = z.infer<typeof KeyRecord>;

/** An authenticated caller. */
export interface Caller extends Omit<KeyRecord, 'id' | 'expires_at' | keyof LimitedCaller>, LimitedCaller {
  /** The registry does not respond, so this is the last known record. */
  stale: boolean;
}

/** Owner of what the bootstrap key publishes without naming a tenant. */
export const BOOTSTRAP_TENANT = 'default';
/** Id of the bootstrap key. */
export const BOOTSTRAP_KEY_ID = 'bootstrap';

/** `root`: the bootstrap key, which may act for every tenant. */
export interface AdminCaller extends KeyRights {
  keyId: string;
  tenant: string;
  scopes: readonly string[];
  scope_owners?: ScopeOwners | undefined;
  /** Given to the tenant and to everybody; the bootstrap key needs none. */
  grants?: readonly Grant[];
  root: boolean;
}

/** Whom the bootstrap key makes of its user. */
export const BOOTSTRAP_CALLER: AdminCaller = {
  keyId: BOOTSTRAP_KEY_ID,
  tenant: BOOTSTRAP_TENANT,
  scopes: ['**'],
  download: true,
  train: true,
  prompts: true,
  root: true,
};

/** A key in the system of record: the view, and what is never shown. */
export interface KeyRow extends KeyView {
  hash: string;
  /** The operator set the limits, so the tenant's admin keys may only lower them. */
  limits_fixed: boolean;
  /** The tenant's current limits; not stored with the key. */
  tenant_limits: KeyLimits | null;
  /** Id of the key whose quota it shares: its own, or that of the first key in a series of rotations. */
  counter: string;
}

/**
 * @param hash sha256 of the key, hex.
 * @returns the key's id.
 */
export const keyIdOf = (hash: string): string => `key_${hash.slice(0, 16)}`;

/** @returns all rights, with defaults for those not given. */
export const allRights = (given: {
  [Field in keyof AllRights]?: AllRights[Field] | undefined;
}): AllRights =>
  Object.fromEntries(
    Object.entries(NO_RIGHTS).map(([field, none]) => [field, given[field as keyof AllRights] ?? none]),
  ) as AllRights;

/** @returns the rights that differ from the defaults. */
export const rightsOf = (row: AllRights): KeyRights =>
  Object.fromEntries(
    Object.entries(NO_RIGHTS).flatMap(([field, none]) => {
      const value = row[field as keyof AllRights];
      return value === none ? [] : [[field, value]];
    }),
  );

/** What KV should contain for a key that is not revoked. */
export function keyRecordOf(row: KeyRow): KeyRecord {
  const { id, tenant, scopes, scope_owners, expires_at, tenant_limits, counter } = row;
  const { prompts: _prompts, publish: _publish, train: _train, ...rights } = rightsOf(row);
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

/** Everything that can be changed about a key: column `rights`. */
export type ChangeableKey = Pick<
  KeyRow,
  'id' | 'label' | 'scopes' | 'scope_owners' | 'limits_fixed' | keyof AllRights
>;

/** The only writer of keys and grants in KV, so that an older state never overwrites a newer one. */
export interface RightsWriter {
  /**
   * Copies the key from the ledger to KV, at most once a second per key; calls in the meantime share the next
   * write. Failed writes are retried in the background.
   * @param options.mark leaves a signed mark if the ledger has no such key; otherwise nothing is written
   * then.
   * @returns once KV has a state that was read after the call.
   * @throws StoreUnavailable
   */
  syncKey(hash: string, options?: { mark?: boolean }): Promise<void>;
  /** Does the same for all grants to a tenant, or to everybody. */
  syncGrants(tenant: string): Promise<void>;
}

/** Tenant of grants to everybody. No tenant can have this name. */
export const PUBLIC = '*';

/** `tenant` holds it: a tenant or {@link PUBLIC}. */
export type GrantRow = Omit<GrantView, 'refused' | 'notice'>;

/** A right given to others: to use what `owner` has published under names that `scope` covers. */
export const Grant = z.strictObject({
  scope: z.string().min(1),
  /** null: any owner; only the bootstrap key can give this. */
  owner: z.string().min(1).nullable(),
});

export type Grant = z.infer<typeof Grant>;

/** A tenant's grants and refusals. */
export interface HeldGrants {
  /** Given to it, without those of givers that the receiver refuses. */
  grants: readonly Grant[];
  /** Tenants whose grants it refuses, including public ones. */
  refused: readonly string[];
}

/** What KV should contain for the grants of a tenant, or of everybody. */
export function heldGrants(
  rows: readonly Grant[],
  refusals: readonly Pick<RefusalRow, 'owner'>[],
): HeldGrants {
  const refused = refusals.map(({ owner }) => owner);
  const grants = rows.map(({ scope, owner }) => ({ scope, owner }));
  return { grants: unrefused(grants, refused), refused };
}

/** @returns the grants without those of refused givers; the operator's grants for any owner stay. */
export function unrefused(grants: readonly Grant[], refused: readonly string[]): readonly Grant[] {
  if (refused.length === 0) return grants;
  const without = new Set(refused);
  return grants.filter(({ owner }) => owner === null || !without.has(owner));
}

/** A tenant refuses another's grants. */
export interface RefusalRow {
  tenant: string;
  /** Grants of this tenant's adapters have no effect. */
  owner: string;
  created_at: number;
  created_by: string;
}

/**
 * Maximum grants: held by one receiver (refused ones don't count), from one giver to it, and of one giver.
 */
export interface GrantCaps {
  holder: number;
  pair: number;
  giver: number;
}
