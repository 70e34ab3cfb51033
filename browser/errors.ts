/** What can go wrong, as data between page and worker, and as an error for who called. */
import type { ApiErrorCode } from '../protocol/index.ts';

/** Beside the API's own codes. */
export type BrowserErrorCode =
  /** No file system of the page's own: an old browser, a private window, or no secure context. */
  | 'storage_unavailable'
  /** The base or an adapter does not fit into what the browser lets this page store. */
  | 'storage_full'
  | 'base_missing'
  | 'base_unreachable'
  /** What came is not what the manifest says, several times. */
  | 'base_damaged'
  /** WebAssembly or ONNX Runtime does not start. */
  | 'runtime_unavailable'
  /** The edge cannot be reached, and what is wanted is not stored. */
  | 'edge_unreachable'
  /** What the edge gave is not what its digest says, or does not fit the base. */
  | 'adapter_damaged'
  | 'closed';

export interface Problem {
  readonly code: BrowserErrorCode | ApiErrorCode;
  /** Says what to do. */
  readonly message: string;
  /** The field of the request that is to blame. */
  readonly param?: string | null;
}

/** Thrown by everything here that can fail; `code` tells failures apart. */
export class GraftError extends Error {
  override readonly name = 'GraftError';
  readonly code: Problem['code'];
  readonly param: string | null;
  constructor({ code, message, param }: Problem) {
    super(message);
    this.code = code;
    this.param = param ?? null;
  }
}
