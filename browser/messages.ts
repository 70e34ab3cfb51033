/** Messages between the page and its worker, and their errors. */
import type { ApiErrorCode } from '../protocol/api-error.ts';
import type { ChatCompletion, ChatCompletionChunk } from '../protocol/completion-answers.ts';
import type { TrainingCard } from '../protocol/training.ts';

/** In addition to the API's own codes. */
export type BrowserErrorCode =
  /** No private file system: an old browser, a private window, or an insecure context. */
  | 'storage_unavailable'
  /** The base or an adapter exceeds the browser's storage for this page. */
  | 'storage_full'
  | 'base_missing'
  | 'base_unreachable'
  /** Downloaded bytes differed from the manifest, several times. */
  | 'base_damaged'
  /** WebAssembly or ONNX Runtime does not start. */
  | 'runtime_unavailable'
  /** The edge cannot be reached, and the needed data is not stored. */
  | 'edge_unreachable'
  /** The edge's data does not match its digest, or does not fit the base. */
  | 'adapter_damaged'
  /** A training row cannot be read. */
  | 'rows_invalid'
  /** No training row is left to learn from. */
  | 'no_rows'
  /** The device has too little memory to train. */
  | 'out_of_memory'
  /** Training diverged. */
  | 'loss_not_finite'
  | 'closed';

export interface Problem {
  readonly code: BrowserErrorCode | ApiErrorCode;
  /** Says what to do. */
  readonly message: string;
  /** The invalid field of the request. */
  readonly param?: string | null;
}

/** Thrown by everything here that can fail; `code` distinguishes failures. */
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
  /** `base`: its parts are downloaded. `check`: stored parts are compared with their digests. */
  readonly stage: 'check' | 'base' | 'runtime' | 'adapter';
  /** Bytes; of `runtime`, steps. */
  readonly done: number;
  readonly total: number;
}

/** An adapter that was trained here is sent. */
export interface PublishProgress {
  readonly stage: 'publish';
  /** Bytes. Once all are sent, an origin tries the adapter. */
  readonly done: number;
  readonly total: number;
}

export interface TrainingProgress {
  readonly stage: 'train';
  /** Finished steps. */
  readonly step: number;
  readonly steps: number;
  /** Of this step's rows, nats a token. */
  readonly loss: number;
  /** Of the rows that are held out; null = not scored after this step. */
  readonly heldOutLoss: number | null;
  readonly tokensPerSecond: number;
  readonly secondsLeft: number;
}

/**
 * Where to run the base: the GPU with WebGPU, WebAssembly, or the first if available and otherwise the second.
 */
export type WantedDevice = 'auto' | 'webgpu' | 'wasm';

/** Precision on a GPU: float32, or float16 if supported and its answers match float32. */
export type WantedPrecision = 'f32' | 'f16';

export interface WorkerOptions {
  /** Folder with the base's manifest; ends with a slash. */
  readonly baseUrl: string;
  /** null = adapters are unavailable. */
  readonly edgeUrl: string | null;
  /** Folder with ONNX Runtime's files; ends with a slash. */
  readonly runtimeUrl: string;
  readonly device: WantedDevice;
  readonly precision: WantedPrecision;
  readonly threads: number;
  readonly rows: number;
  readonly context: number | null;
}

/** What can answer: a name of the edge, an adapter that was trained in this browser, or null for the base itself. */
export type Target = string | null | { readonly trained: string };

/** What answers: the base, the version of a name last returned by the edge, or an adapter trained here. */
export interface Serving {
  /** null = the base itself. */
  readonly name: string | null;
  /** null = of the base, and of an adapter trained here. */
  readonly version: number | null;
  /** Present if the adapter was trained in this browser. */
  readonly trained?: true;
  /** The edge could not be asked, so the stored version is used. */
  readonly offline: boolean;
}

export interface Opened extends Serving {
  readonly base: string;
  /** For people, such as "ONNX Runtime in WebAssembly, 4 threads". */
  readonly runtime: string;
  readonly device: Exclude<WantedDevice, 'auto'>;
  /** Maximum tokens of a row. */
  readonly context: number;
}

/** An adapter that was trained in this browser, as it is kept. */
export interface Kept {
  readonly name: string;
  /** sha256 of its canonical file. */
  readonly digest: string;
  readonly card: TrainingCard;
}

/** The version that a trained adapter became. */
export interface Published {
  readonly name: string;
  readonly version: number;
  /** False: staged; users get it once it is promoted. True: the live version is this very adapter. */
  readonly live: boolean;
}

/** Its canonical file, and the same adapter in PEFT's format. */
export interface TrainedFiles {
  readonly canonical: Uint8Array<ArrayBuffer>;
  readonly configJson: string;
  readonly safetensors: Uint8Array<ArrayBuffer>;
}

/** Training rows as text. */
export interface RowsText {
  /** JSON Lines or CSV. */
  readonly text: string | Blob;
  /** What messages call a line: rows that came as objects have no lines. */
  readonly unit: 'row' | 'line';
}

interface Named {
  readonly name: Target;
  /** Short-lived, from the edge; null = none. */
  readonly token: string | null;
}

export type ToWorker =
  | ({ kind: 'open'; job: number; options: WorkerOptions } & Named)
  | ({ kind: 'use'; job: number } & Named)
  /** @property body of a chat completion. */
  | ({ kind: 'ask'; job: number; body: Record<string, unknown> } & Named)
  /** @property settings fields of a TrainingRequest. @property name of what is trained on. @property keep name of the result. */
  | ({ kind: 'train'; job: number; rows: RowsText; settings: Record<string, unknown>; keep: string } & Named)
  /** @property name must be the token's; null = whatever it is. @property token a publish token. */
  | {
      kind: 'publish';
      job: number;
      digest: string;
      card: TrainingCard;
      name: string | null;
      token: string;
    }
  | { kind: 'trained'; job: number }
  | { kind: 'files' | 'forget'; job: number; keep: string }
  | { kind: 'abort'; job: number };

/** Of a job. */
export type Answered =
  Opened | Serving | ChatCompletion | Kept | readonly Kept[] | TrainedFiles | Published | null;

export type FromWorker =
  | { kind: 'progress'; job: number; progress: Progress | TrainingProgress | PublishProgress }
  | { kind: 'part'; job: number; part: ChatCompletionChunk }
  | { kind: 'done'; job: number; value: Answered }
  | { kind: 'failed'; job: number; problem: Problem };
