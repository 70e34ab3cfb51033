/**
 * Inference in the user's own browser: the base is stored once in the page's private file system, adapters are
 * downloaded by name from the edge, and the origins' engine answers in a worker: on the GPU with WebGPU if
 * there is one, otherwise in WebAssembly.
 */
import { Jobs, Model, noToken, withToken, type FindToken } from './model.ts';
import {
  GraftError,
  type Opened,
  type Progress,
  type WantedDevice,
  type WantedPrecision,
} from './messages.ts';

export {
  GraftError,
  type BrowserErrorCode,
  type Progress,
  type Published,
  type Serving,
} from './messages.ts';
export type { WantedDevice, WantedPrecision } from './messages.ts';
export type { PublishProgress, Target, TrainingProgress } from './messages.ts';
export type {
  AskOptions,
  Message,
  Model,
  PublishOptions,
  TrainedAdapter,
  TrainingRows,
  TrainOptions,
} from './model.ts';

/** Default number of rows that run at once. */
const ROWS = 4;
/** More threads do not speed up a step of a small base: each product ends before they synchronize. */
const MOST_THREADS = 4;

export interface OpenOptions {
  /** The edge: source of adapters, and of the base unless `base` is given. */
  url?: string | URL;
  /** Folder written by `graft base export --web`; default: `base/` of the edge. */
  base?: string | URL;
  /** Initial adapter; default: the base itself. */
  name?: string;
  /** A download token of the edge, or a function that gets a fresh one from the application's own server. */
  token?: string | (() => string | Promise<string>);
  onProgress?: (progress: Progress) => void;
  /** Aborts opening; whatever has arrived stays stored. */
  signal?: AbortSignal;
  /**
   * `auto` (default): a GPU with WebGPU if the browser has one, otherwise WebAssembly. `webgpu` also accepts a
   * software GPU, and throws without any.
   */
  device?: WantedDevice;
  /**
   * Precision on a GPU; default `f32`. With `f16` keys and values take half the memory; if the GPU lacks
   * float16 or its answers differ, float32 is used, and the model's `runtime` says why.
   */
  precision?: WantedPrecision;
  /**
   * Threads per step, at most 4 by default; more than one needs a cross-origin isolated page. For WebAssembly.
   */
  threads?: number;
  /** Answers generated at once; default 4. */
  rows?: number;
  /** Tokens of a conversation; default 2,048, and never more than the base was trained for. */
  context?: number;
  /** Folder of ONNX Runtime's files, on the page's own origin; default: `ort/` beside this module. */
  runtime?: string | URL;
  /** For bundlers that move this module: starts `graft-lora/browser/worker`. */
  worker?: () => Worker;
}

/**
 * Downloads what is not stored yet and starts the engine in a worker.
 * @throws GraftError, or the signal's reason.
 */
export async function open(options: OpenOptions): Promise<Model> {
  const { url, name, token, onProgress, signal } = options;
  const edge = url === undefined ? null : new URL(url, location.href);
  const base = options.base ?? (edge === null ? null : new URL('/base/', edge));
  if (base === null)
    throw new GraftError({
      code: 'invalid_request',
      message: "Give 'url' or 'base' to say where the base is.",
      param: 'url',
    });
  const findToken: FindToken = async () => (typeof token === 'function' ? token() : (token ?? null));
  const jobs = new Jobs(options.worker?.() ?? startWorker());
  try {
    const opened = await withToken(name === undefined ? noToken : findToken, (token) =>
      jobs.run<Opened>(
        {
          ...{ kind: 'open', name: name ?? null, token },
          options: {
            baseUrl: folder(base),
            edgeUrl: edge?.href ?? null,
            runtimeUrl: folder(options.runtime ?? new URL('./ort/', import.meta.url)),
            device: options.device ?? 'auto',
            precision: options.precision ?? 'f32',
            threads: threadsFor(options.threads),
            rows: options.rows ?? ROWS,
            context: options.context ?? null,
          },
        },
        { onProgress, signal },
      ),
    );
    return new Model(jobs, opened, findToken);
  } catch (error) {
    jobs.end(new GraftError({ code: 'closed', message: 'The model was not opened.' }));
    throw error;
  }
}

const startWorker = (): Worker =>
  new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'graft' });

/** With the trailing slash that relative addresses need. */
function folder(url: string | URL): string {
  const { href } = new URL(url, location.href);
  return href.endsWith('/') ? href : `${href}/`;
}

/** Threads share memory, which only isolated pages may. */
function threadsFor(wanted: number | undefined): number {
  if (!crossOriginIsolated) return 1;
  return wanted ?? Math.min(MOST_THREADS, Math.max(1, navigator.hardwareConcurrency));
}

/**
 * Parent of everything that `open` and `use` store in the page's private file system, for all models of this
 * page's origin.
 */
const FOLDER = 'graft';
/** Lock during downloads of bases and adapters, against removal in between. */
const LOCKS = ['graft-base', 'graft-adapters'];

/** Bytes of bases and adapters; 0 if nothing is stored, or storage is unavailable. */
export async function storedBytes(): Promise<number> {
  try {
    const root = await navigator.storage.getDirectory();
    return await bytesIn(await root.getDirectoryHandle(FOLDER));
  } catch {
    return 0;
  }
}

async function bytesIn(folder: FileSystemDirectoryHandle): Promise<number> {
  let bytes = 0;
  for await (const entry of folder.values())
    bytes += entry.kind === 'directory' ? await bytesIn(entry) : (await entry.getFile()).size;
  return bytes;
}

/**
 * Removes everything; the next opening downloads the base again. Close models first: they read the stored
 * files.
 */
export async function removeStored(): Promise<void> {
  const remove = async (): Promise<void> => {
    const root = await navigator.storage.getDirectory();
    await root.removeEntry(FOLDER, { recursive: true }).catch((error: unknown) => {
      if (!(error instanceof DOMException) || error.name !== 'NotFoundError') throw error;
    });
  };
  await LOCKS.reduce<() => Promise<void>>(
    (inner, lock) => async () => void (await navigator.locks.request(lock, inner)),
    remove,
  )();
}
