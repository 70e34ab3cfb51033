/** Canonical adapter files on the origin's disk, as the HTTP room and the engine see them. */
import type { ApiError, BlobRecord, Result } from '../../protocol/index.ts';

export interface UploadState {
  digest: string;
  /** The whole file is here. */
  held: boolean;
  /** Indexes of the parts that are still to be sent. */
  missingParts: number[];
}

/** What an operator asks of the disk under the adapters' files. */
export interface DiskState {
  /** Of whole files, bytes. */
  readonly usedBytes: number;
  readonly budgetBytes: number;
  /** The last file could not be written, and none has been since. */
  readonly refusing: boolean;
  /** Writes that the disk refused since the start. */
  readonly refusals: number;
}

/** Digests are checked by the caller. */
export interface AdapterFileStore {
  /** Whether a file is held whole, is being received now, or neither. Cheap: asked for every request's chain. */
  status(digest: string): Promise<'held' | 'receiving' | 'missing'>;
  /** @returns the whole file, or null when it is not held. */
  read(digest: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /** @returns these bytes of a whole file, fewer where it ends before; null when it is not held. Not compared with its hash. */
  slice(digest: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer> | null>;
  /**
   * Says which parts will come. The same record again is fine and tells how far the upload is; another record for
   * the same digest starts it anew.
   * Errors: `request_too_large` when the file exceeds the disk budget.
   */
  declare(digest: string, record: BlobRecord): Promise<Result<UploadState, ApiError>>;
  /** @returns size and sha256 of a declared part, or null. */
  part(digest: string, index: number): { bytes: number; sha256: string } | null;
  /**
   * Receives a part; the last good one makes the adapter available.
   * `receiving`: another request is sending the same part.
   * Errors: `not_found` (not declared), `adapter_invalid` (size or sha256 of the part or of the whole is wrong),
   * `adapter_unavailable` (the disk is full).
   */
  putPart(
    digest: string,
    index: number,
    body: AsyncIterable<Uint8Array>,
  ): Promise<Result<'stored' | 'held' | 'receiving', ApiError>>;
  /**
   * A request needs them: they are the last that make room for others, and do not until the function that is returned is
   * called. They need not be held yet.
   */
  keep(digests: Iterable<string>): () => void;
  /** Removes the file, and what of it is being received. @returns whether there was any. */
  drop(digest: string): Promise<boolean>;
  disk(): DiskState;
}
