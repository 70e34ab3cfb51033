/** Ports of the edge's stores. One backend a file; one contract suite a port (test/contracts). */
import { z } from 'zod';
import { DegradePolicy, type BlobRecord, type NameEntry } from '../../protocol/index.ts';
import { KeyLimits, type LimitedCaller } from './types-metering.ts';
import type { Page, Pointer } from './types-registry.ts';
import type { Grant, GrantCaps, HeldGrants, KeyLineage, RefusalRow } from './types-rights.ts';

export * from './types-blob-ledger.ts';
export * from './types-registry.ts';
export * from './types-rooms.ts';
export * from './types-unavailable.ts';
export * from './types-rights.ts';
export * from './types-withdrawals.ts';

/** Trouble (an error, a hang, a forged or odd value) is never reported as absence. */
export type Lookup<T> =
  | { state: 'found'; value: T; /** Last known, not confirmed now. */ stale: boolean }
  | { state: 'absent' }
  /** Taken away on purpose, and signed so. */
  | { state: 'gone' }
  | { state: 'trouble'; reason: string; retryAfterMs: number };

export interface Index<T> {
  get(key: string): Promise<Lookup<T>>;
}

/** An index that reads several keys at once, at most {@link MAX_KEYS_AT_ONCE}. */
export interface BulkIndex<T> extends Index<T> {
  /** @returns one look-up a key, in order. */
  getMany(keys: readonly string[]): Promise<Lookup<T>[]>;
}

/** As many as a name can have ancestors; KV takes 100. */
export const MAX_KEYS_AT_ONCE = 8;

/** What each name points at, a live version or another name, as the hot path reads it. */
export interface NameIndex extends BulkIndex<NameEntry> {
  /** A manifest or `{name, alias}`. @throws StoreUnavailable */
  put(entry: NameEntry): Promise<void>;
  /** Leaves a signed mark: the name points at nothing any more. @throws StoreUnavailable */
  remove(name: string): Promise<void>;
}

/** The one writer of names in KV: two changes at once can never leave a pointer in inverted order. */
export interface PointerWriter {
  /**
   * Copies what the registry says of the name now to KV, at most one write a second a name; calls that come meanwhile
   * share the next write. What fails is tried again later by itself.
   * @param options.mark where the registry knows of nothing to point at, leaves a signed mark; otherwise nothing is
   * written then.
   * @returns once a state is in KV that was read after the call. @throws StoreUnavailable
   */
  sync(name: string, options?: { mark?: boolean }): Promise<void>;
}

/** Asks the system of record about names that the index does not have. */
export interface AbsenceCheck {
  /** What a name points at after all; `absent` when it does not exist, or nobody can say. Never throws. */
  confirm(name: string): Promise<Lookup<Pointer>>;
  /**
   * For a name that is there, but not for who asks: asks as much as `confirm` does, about a name that nobody can have.
   * Never throws.
   */
  pretend(name: string): Promise<void>;
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

/**
 * Whose adapters each scope of a key opens, in the scopes' order; null = whoever owns them. Shorter ones, as of keys from
 * before there were any, are filled up with null.
 */
export type ScopeOwners = readonly (string | null)[];

/** What KV holds of an inference key. Admin rights are never among it: whoever can write KV would mint admins. */
export const KeyRecord = z.strictObject({
  id: z.string(),
  tenant: z.string().min(1),
  scopes: z.array(z.string()),
  /** {@link ScopeOwners}, where a scope has one. */
  owners: z.array(z.string().min(1).nullable()).optional(),
  /** Names are never resolved to an ancestor. */
  strict: z.literal(true).optional(),
  degrade: DegradePolicy.optional(),
  /** Unix ms; from then on it is refused. */
  expiresAt: z.int().optional(),
  limits: KeyLimits.optional(),
  /** Of all keys of its tenant together: here, so that the hot path reads nothing more. */
  tenantLimits: KeyLimits.optional(),
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

/** A part of a finished file. */
export interface PartPlace {
  /** Where it lay before parts lay under their hash. */
  index: number;
  sha256: string;
}

/** @param fresh asks past the long caches, where something was found missing or damaged before. */
export interface BlobReading {
  fresh?: boolean;
}

/**
 * Parts of canonical files, each under its own sha256, so that a place never holds other bytes than it did, whoever
 * sends them. A part is only read after its record was seen. What is read is not checked here.
 */
export interface BlobStore {
  /** @param sha256 of the bytes, hex, computed from them; a store that can check it does. */
  putPart(digest: string, sha256: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  putRecord(digest: string, record: BlobRecord): Promise<void>;
  /** @returns null when there is none. @throws StoreUnavailable */
  getRecord(digest: string, reading?: BlobReading): Promise<BlobRecord | null>;
  /** @returns null when the part cannot be had (yet). */
  getPart(digest: string, part: PartPlace, reading?: BlobReading): Promise<ReadableStream<Uint8Array> | null>;
  /** What is not there is no error. @throws StoreUnavailable; the call may be repeated. */
  deleteParts(digest: string, sha256s: readonly string[]): Promise<void>;
  /** Takes away the record, then the parts under the numbers 0 to `parts - 1`, likewise. */
  delete(digest: string, parts: number): Promise<void>;
}

/** What lies in KV, whoever put it there. */
export interface KeyListing {
  /** What follows `prefix` in each key. @throws StoreUnavailable */
  list(params: { prefix: string; cursor: string | null; limit: number }): Promise<Page<string>>;
}

/** Who asks. */
export interface Caller extends LimitedCaller {
  scopes: readonly string[];
  owners?: ScopeOwners | undefined;
  /** The caller's record is the last known one, because the registry does not answer. */
  stale: boolean;
  strict?: boolean | undefined;
  degrade?: DegradePolicy | undefined;
}

/** `root` is the bootstrap key: it may act for every tenant. */
export interface AdminCaller {
  keyId: string;
  tenant: string;
  scopes: readonly string[];
  owners?: ScopeOwners | undefined;
  /** What was given to the tenant and to everybody; the bootstrap key needs none. */
  grants?: readonly Grant[];
  root: boolean;
}

export interface KeyRow {
  id: string;
  hash: string;
  kind: 'api' | 'admin';
  tenant: string;
  scopes: string[];
  owners: ScopeOwners;
  label: string;
  createdAt: number;
  createdBy: string;
  revokedAt: number | null;
  /** Unix ms; null = never. */
  expiresAt: number | null;
  strict: boolean;
  degrade: DegradePolicy | null;
  limits: KeyLimits | null;
  /** The bootstrap key set them: an admin key of the tenant may only lower them. */
  limitsFixed: boolean;
  /** Of its tenant, as they are now; they are not written with the key. */
  tenantLimits: KeyLimits | null;
  /** Id of the key whose quota it counts against; its own, or that of the first of a row of rotations. */
  counter: string;
  /** The key that took its place, the last one where it was rotated several times. */
  replacedBy: string | null;
  /** The key whose place it took. */
  replaces: string | null;
}

/** @param hash sha256 of the key, hex. @returns the id under which the key is known. */
export const keyIdOf = (hash: string): string => `key_${hash.slice(0, 16)}`;

/** What KV has to hold of a key that is not revoked. */
export function keyRecordOf(row: KeyRow): KeyRecord {
  return {
    id: row.id,
    tenant: row.tenant,
    scopes: row.scopes,
    ...(row.owners.some((owner) => owner !== null) ? { owners: [...row.owners] } : {}),
    ...(row.strict ? { strict: true } : {}),
    ...(row.degrade === null ? {} : { degrade: row.degrade }),
    ...(row.expiresAt === null ? {} : { expiresAt: row.expiresAt }),
    ...(row.limits === null ? {} : { limits: row.limits }),
    ...(row.tenantLimits === null ? {} : { tenantLimits: row.tenantLimits }),
    ...(row.counter === row.id ? {} : { counter: row.counter }),
  };
}

type ChangeableOfKey = 'id' | 'scopes' | 'owners' | 'label' | 'limits' | 'limitsFixed' | 'strict' | 'degrade';

/** System of record of keys. Throws StoreUnavailable. */
export interface KeyLedger extends KeyLineage<KeyRow> {
  /** @returns false when the key that makes it was revoked meanwhile. */
  add(row: KeyRow): Promise<boolean>;
  /** Newest first. @param tenant null = all. */
  list(tenant: string | null): Promise<KeyRow[]>;
  /** @param reading.toRevoke a damaged row is read as a key that may nothing, which can be revoked. */
  get(id: string, reading?: { toRevoke?: boolean }): Promise<KeyRow | null>;
  /** An admin key that is not revoked; whether it has expired is the asker's to see. */
  admin(hash: string): Promise<KeyRow | null>;
  /**
   * Adds `row` in the place of the key that it replaces, which ends at `expiresAt` unless it ends earlier: both or
   * nothing. @returns false when that one, or the key that makes it, was revoked meanwhile.
   */
  rotate(params: { row: KeyRow & { replaces: string }; expiresAt: number }): Promise<boolean>;
  /** Changes what can be changed of a key; one that is revoked stays as it is. */
  change(row: Pick<KeyRow, ChangeableOfKey>): Promise<void>;
  /** All keys, in the order of their ids. */
  page(params: { cursor: string | null; limit: number }): Promise<Page<KeyRow>>;
  /** The API keys of a tenant that are not revoked, in the order of their ids. */
  ofTenant(params: { tenant: string; cursor: string | null; limit: number }): Promise<Page<KeyRow>>;
}
