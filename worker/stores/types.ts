/** Ports of the edge's stores. One backend a file; one contract suite a port (test/contracts). */
import { z } from 'zod';
import type {
  AdapterManifest,
  AdapterProof,
  BlobRecord,
  ManifestChainEntry,
  Result,
  StoredEvaluation,
} from '../../protocol/index.ts';

/** A store does not answer, or refuses for good; the request may be repeated. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable';

  constructor(store: 'KV' | 'D1', cause: unknown) {
    super(`${store}: ${cause instanceof Error ? cause.message : 'unknown error'}`, { cause });
  }
}

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

/** Live version of each name, as the hot path reads it. */
export interface NameIndex extends Index<AdapterManifest> {
  /** @throws StoreUnavailable */
  put(manifest: AdapterManifest): Promise<void>;
}

/** What KV holds of an inference key. Admin rights are never among it: whoever can write KV would mint admins. */
export const KeyRecord = z.strictObject({
  id: z.string(),
  tenant: z.string().min(1),
  scopes: z.array(z.string()),
});
export type KeyRecord = z.infer<typeof KeyRecord>;

/** By sha256 of the key. */
export interface KeyIndex extends Index<KeyRecord> {
  put(hash: string, record: KeyRecord): Promise<void>;
  /** Leaves a signed mark, so that a missing value can never stand for a revocation. */
  revoke(hash: string): Promise<void>;
}

/** Parts of canonical files. A part is only read after its record was seen. */
export interface BlobStore {
  putPart(digest: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  putRecord(digest: string, record: BlobRecord): Promise<void>;
  /** @returns null when there is none. @throws StoreUnavailable */
  getRecord(digest: string): Promise<BlobRecord | null>;
  /** @returns null when the part cannot be had (yet). */
  getPart(digest: string, index: number): Promise<ReadableStream<Uint8Array> | null>;
}

/** Who asks. */
export interface Caller {
  keyId: string;
  tenant: string;
  scopes: readonly string[];
  /** The caller's record is the last known one, because the registry does not answer. */
  stale: boolean;
}

/** `root` is the bootstrap key: it may act for every tenant. */
export interface AdminCaller {
  keyId: string;
  tenant: string;
  scopes: readonly string[];
  root: boolean;
}

/** One version of a name; immutable. */
export interface VersionRow {
  name: string;
  version: number;
  digest: string;
  owner: string;
  chain: ManifestChainEntry[];
  chainId: string;
  /** `name@version` of the parent, or null. */
  parent: string | null;
  base: { id: string; digest: string };
  bytes: number;
  rank: number;
  /** Ranks of the whole chain, summed. */
  rankSum: number;
  /** Unix ms. */
  createdAt: number;
  createdBy: string;
  /** What an origin saw when it was admitted; null for versions from before there were proofs. */
  proof: AdapterProof | null;
  /** What its publisher says it scored. */
  evaluation: StoredEvaluation | null;
}

export interface NameRow {
  name: string;
  owner: string;
  /** Live version; null when all are staged. */
  version: number | null;
  /** Highest version. */
  latest: number;
  /** Counts the changes of this name; guards against two at once. */
  sequence: number;
}

export interface Page<T> {
  items: T[];
  /** Pass it back to go on; null at the end. */
  cursor: string | null;
}

export interface Conflict {
  kind: 'conflict';
  name: NameRow | null;
}

/** System of record of names and versions. Every method throws StoreUnavailable. */
export interface Registry {
  name(name: string): Promise<NameRow | null>;
  version(name: string, version: number): Promise<VersionRow | null>;
  /** The live version's row. */
  live(name: string): Promise<VersionRow | null>;
  /** In the names' order. @param owner only names of this owner. */
  names(params: {
    prefix: string;
    cursor: string | null;
    limit: number;
    owner: string | null;
  }): Promise<Page<NameRow>>;
  /** Live versions after `after` whose own name the tenant owns or a scope covers; the chain is the caller's to check. */
  usable(params: {
    tenant: string;
    scopes: readonly string[];
    prefix: string;
    after: string;
    limit: number;
  }): Promise<VersionRow[]>;
  /** Newest first. */
  versions(name: string): Promise<VersionRow[]>;
  /** Versions whose own file this is, in the names' order, a name's newest first. */
  versionsOf(params: { digest: string; limit: number }): Promise<VersionRow[]>;
  /**
   * Adds a version, makes it live unless `stage`, and writes history: all of it or nothing.
   * @param before the name as it was read; another change since then is a conflict.
   */
  publish(params: {
    row: VersionRow;
    stage: boolean;
    before: NameRow | null;
  }): Promise<Result<NameRow, Conflict>>;
  /** Makes `to`, which must exist, the live version. */
  flip(params: {
    before: NameRow;
    to: number;
    actor: string;
    at: number;
  }): Promise<Result<NameRow, Conflict>>;
}

export interface PartRow {
  index: number;
  bytes: number;
  sha256: string;
}

/** Who sent which bytes. A digest is no capability: having sent them is. Throws StoreUnavailable. */
export interface BlobLedger {
  addPart(params: { digest: string; tenant: string; part: PartRow; at: number }): Promise<void>;
  /** Parts that this tenant sent, by index. */
  parts(digest: string, tenant: string): Promise<PartRow[]>;
  /** Marks the tenant as holder of the whole file. */
  complete(params: { digest: string; tenant: string; record: BlobRecord; at: number }): Promise<void>;
  /** The finished file's record, whoever sent it. */
  record(digest: string): Promise<BlobRecord | null>;
  holds(digest: string, tenant: string): Promise<boolean>;
}

export interface KeyRow {
  id: string;
  hash: string;
  kind: 'api' | 'admin';
  tenant: string;
  scopes: string[];
  label: string;
  createdAt: number;
  createdBy: string;
  revokedAt: number | null;
}

/** System of record of keys. Throws StoreUnavailable. */
export interface KeyLedger {
  add(row: KeyRow): Promise<void>;
  /** Newest first. @param tenant null = all. */
  list(tenant: string | null): Promise<KeyRow[]>;
  get(id: string): Promise<KeyRow | null>;
  /** An admin key that is not revoked. */
  admin(hash: string): Promise<KeyRow | null>;
  revoke(id: string, at: number): Promise<void>;
}
