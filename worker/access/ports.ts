/** Ports of keys, admin keys and grants, and the callers made from them. */
import { z } from 'zod';
import {
  KeyLimits,
  KeyRights,
  NO_RIGHTS,
  type AllRights,
  type KeyView,
} from '../../protocol/admin-api/keys.ts';
import type { LimitedCaller } from '../metering/ports.ts';
import type { Page, Index } from '../platform/ports.ts';

/** Whose adapters each scope of a key opens, in the scopes' order; null = whoever owns them. */
export type ScopeOwners = readonly (string | null)[];

/** What KV holds of an inference key. Admin rights are never among it: whoever can write KV would mint admins. */
export const KeyRecord = KeyRights.extend({
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

/** By sha256 of the key. */
export interface KeyIndex extends Index<KeyRecord> {
  put(hash: string, record: KeyRecord): Promise<void>;
  /** Leaves a signed mark, so that a missing value can never stand for a revocation. */
  revoke(hash: string): Promise<void>;
}

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
  return {
    id,
    tenant,
    scopes,
    ...(scope_owners.some((owner) => owner !== null) ? { scope_owners } : {}),
    ...rightsOf(row),
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

/** System of record of keys. Throws StoreUnavailable. */
export interface KeyLedger extends KeyLineage<KeyRow> {
  /** @returns false when the key that makes it was revoked meanwhile, or the key is there already. */
  add(row: KeyRow): Promise<boolean>;
  /** Newest first. @param tenant null = all. */
  list(tenant: string | null): Promise<KeyRow[]>;
  /** @param reading.toRevoke a damaged row is read as a key that may nothing, which can be revoked. */
  get(id: string, reading?: { toRevoke?: boolean }): Promise<KeyRow | null>;
  /** An admin key that is not revoked; whether it has expired is the asker's to see. */
  admin(hash: string): Promise<KeyRow | null>;
  /**
   * Adds `row` in the place of the key that it replaces, which ends at `expiresAt` unless it ends earlier: both or
   * nothing. @returns false when that one, or the key that makes it, was revoked meanwhile, or when what can be changed
   * of that one is not what `row` has of it: a right that was taken from it does not live on in its successor.
   */
  rotate(params: { row: KeyRow & { replaces: string }; expiresAt: number }): Promise<boolean>;
  /**
   * Changes what can be changed of a key. @param was as it was read. @returns false when it is not so any more, or
   * revoked, and nothing was written: whoever takes a right away is not overwritten by one who read before.
   */
  change(row: ChangeableKey, was: ChangeableKey): Promise<boolean>;
  /** All keys, in the order of their ids. */
  page(params: { cursor: string | null; limit: number }): Promise<Page<KeyRow>>;
  /** The API keys of a tenant that are not revoked, in the order of their ids. */
  ofTenant(params: { tenant: string; cursor: string | null; limit: number }): Promise<Page<KeyRow>>;
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

/** Tenant of grants that everybody has. No tenant can be called so. */
export const PUBLIC = '*';

/** What was granted to each tenant, and to {@link PUBLIC}. */
export interface GrantIndex extends Index<HeldGrants> {
  /** All of the tenant's grants; an empty list when the last one is taken away. @throws StoreUnavailable */
  put(tenant: string, held: HeldGrants): Promise<void>;
}

export interface GrantRow extends Grant {
  /** Who has it, or {@link PUBLIC}. */
  tenant: string;
  createdAt: number;
  createdBy: string;
}

/** System of record of grants. Throws StoreUnavailable. */
export interface GrantLedger {
  /** Which of the caps would be passed is decided in the statement that adds it. */
  add(row: GrantRow, caps: GrantCaps): Promise<'added' | 'known' | 'full'>;
  get(grant: Pick<GrantRow, 'tenant' | 'scope' | 'owner'>): Promise<GrantRow | null>;
  /** What counts against {@link GrantCaps}. */
  counts(params: Pick<GrantRow, 'tenant' | 'owner'>): Promise<GrantCaps>;
  /** @returns how many there were. @param params.owner only this owner's; undefined = everyone's. */
  remove(params: { scope: string; tenant: string; owner?: string }): Promise<number>;
  /** Given to the tenants, refused or not, by tenant and scope. */
  heldBy(tenants: readonly string[]): Promise<GrantRow[]>;
  /** What opens something for the tenant: given to it or to {@link PUBLIC}, and not refused by it. */
  usableBy(tenant: string): Promise<GrantRow[]>;
  /** A page in the order of tenant, scope and owner. @param params.owner null = everyone's. */
  list(params: { owner: string | null; cursor: string | null; limit: number }): Promise<Page<GrantRow>>;
  /** @returns `full` when the tenant refuses `max` others. */
  refuse(row: RefusalRow, max: number): Promise<'added' | 'known' | 'full'>;
  /** @returns false when it was not refused. */
  accept(refusal: Pick<RefusalRow, 'tenant' | 'owner'>): Promise<boolean>;
  /** By owner. */
  refusedBy(tenant: string): Promise<RefusalRow[]>;
}

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
  createdAt: number;
  createdBy: string;
}

/** Most grants that are kept: of one receiver, of those that are not refused; from one giver to it; of one giver. */
export interface GrantCaps {
  holder: number;
  pair: number;
  giver: number;
}
