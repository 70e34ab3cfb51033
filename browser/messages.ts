/** What the page and its worker say to each other, and what can go wrong. */
import type { ApiErrorCode } from '../protocol/api-error.ts';
import type { ChatCompletion, ChatCompletionChunk } from '../protocol/completion-answers.ts';

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

export interface Progress {
  /** `base`: its parts come over the network. `check`: those that are stored are compared with their digests. */
  readonly stage: 'check' | 'base' | 'runtime' | 'adapter';
  /** Bytes; of `runtime`, steps. */
  readonly done: number;
  readonly total: number;
}

/** What is to run the base: the GPU by WebGPU, WebAssembly, or the first where there is one and else the other. */
export type WantedDevice = 'auto' | 'webgpu' | 'wasm';

/** What a GPU computes in: float32, or float16 where it has it and answers as in float32. */
export type WantedPrecision = 'f32' | 'f16';

export interface WorkerOptions {
  /** Folder with the base's manifest; ends with a slash. */
  readonly baseUrl: string;
  /** null = there are no adapters. */
  readonly edgeUrl: string | null;
  /** Folder with ONNX Runtime's files; ends with a slash. */
  readonly runtimeUrl: string;
  readonly device: WantedDevice;
  readonly precision: WantedPrecision;
  readonly threads: number;
  readonly rows: number;
  readonly context: number | null;
}

/** What answers: the base, or a name's version as the edge last gave it. */
export interface Serving {
  /** null = the base itself. */
  readonly name: string | null;
  readonly version: number | null;
  /** The edge could not be asked, and what was stored is used. */
  readonly offline: boolean;
}

export interface Opened extends Serving {
  readonly base: string;
  /** For people, such as "ONNX Runtime in WebAssembly, 4 threads". */
  readonly runtime: string;
  readonly device: Exclude<WantedDevice, 'auto'>;
  /** Tokens that a row may have. */
  readonly context: number;
}

interface Named {
  readonly name: string | null;
  /** Short-lived, of the edge; null = none. */
  readonly token: string | null;
}

export type ToWorker =
  | ({ kind: 'open'; job: number; options: WorkerOptions } & Named)
  | ({ kind: 'use'; job: number } & Named)
  /** @property body of a chat completion. */
  | ({ kind: 'ask'; job: number; body: Record<string, unknown> } & Named)
  | { kind: 'abort'; job: number };

export type FromWorker =
  | { kind: 'progress'; job: number; progress: Progress }
  | { kind: 'part'; job: number; part: ChatCompletionChunk }
  | { kind: 'done'; job: number; value: Opened | Serving | ChatCompletion | null }
  | { kind: 'failed'; job: number; problem: Problem };
