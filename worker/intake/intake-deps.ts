import type { ApiError, BaseInfo, Result } from '../../protocol/index.ts';
import type { BlobLedger, BlobStore, NameIndex, Registry } from '../stores/types.ts';

/** What intake needs from the outside. */
export interface IntakeDeps {
  blobs: BlobStore;
  blobLedger: BlobLedger;
  registry: Registry;
  names: NameIndex;
  /** What the origins serve. */
  base: () => Promise<Result<BaseInfo, ApiError>>;
  /** sha256 of the bytes of several streams, one after the other, without keeping them; hex. */
  hashStreams: (streams: AsyncIterable<ReadableStream<Uint8Array>>) => Promise<string>;
  /** Unix ms. */
  now: () => number;
}

export const unavailable = (message: string, retryAfterMs = 2_000): ApiError => ({
  code: 'registry_unavailable',
  message,
  retryAfterMs,
});

export const invalid = (reason: string, message: string, param?: string): ApiError => ({
  code: 'adapter_invalid',
  message,
  reason,
  ...(param === undefined ? {} : { param }),
});
