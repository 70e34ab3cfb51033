/**
 * Inference in the user's own browser: the base is stored once in the page's private file system, adapters come by name
 * from the edge, and answers are made by the engine that origins run, in a worker: on the
 * GPU by WebGPU where there is one, else in WebAssembly.
 */
import { Jobs, Model, noToken, withToken, type FindToken } from './model.ts';
import {
  GraftError,
  type Opened,
  type Progress,
  type WantedDevice,
  type WantedPrecision,
} from './messages.ts';

export { GraftError, type BrowserErrorCode, type Progress, type Serving } from './messages.ts';
export type { WantedDevice, WantedPrecision } from './messages.ts';
export type { AskOptions, Message, Model } from './model.ts';

/** Rows that run at once unless the page says otherwise. */
const ROWS = 4;
/** More threads than this make a step of a small base no faster: each product is over in less than they take to meet. */
const MOST_THREADS = 4;

export interface OpenOptions {
  /** The edge: adapters come from it, and the base unless `base` says otherwise. */
  url?: string | URL;
  /** Folder that `graft base export --web` has written; `base/` of the edge unless given. */
  base?: string | URL;
  /** What answers at first; the base itself unless given. */
  name?: string;
  /** A download token of the edge, or what gets a fresh one from the application's own server. */
  token?: string | (() => string | Promise<string>);
  onProgress?: (progress: Progress) => void;
  /** Ends the opening; what has arrived stays stored. */
  signal?: AbortSignal;
  /**
   * `auto` unless given: a GPU by WebGPU where the browser has one, else WebAssembly. `webgpu` takes one too that the
   * processor draws, and throws where there is none.
   */
  device?: WantedDevice;
  /**
   * What a GPU computes in; `f32` unless given. With `f16` keys and values take half the memory; it is float32 after all
   * where the GPU has no float16 or answers otherwise in it, and `runtime` of the model then says why.
   */
  precision?: WantedPrecision;
  /** That a step uses, at most 4 by default; more than one needs a page that is cross-origin isolated. Of WebAssembly. */
  threads?: number;
  /** Answers that are made at once; 4 unless given. */
  rows?: number;
  /** Tokens of a conversation; 2,048 unless given, and never more than the base was trained for. */
  context?: number;
  /** Folder of ONNX Runtime's files, on the page's own origin; `ort/` beside this module unless given. */
  runtime?: string | URL;
  /** For bundlers that move this module: starts `graft-lora/browser/worker`. */
  worker?: () => Worker;
}

/**
 * Fetches what is not stored yet and starts the engine in a worker.
 * @throws GraftError, or the signal's reason.
 */
export async function open(options: OpenOptions): Promise<Model> {
  const { url, name, token, onProgress, signal } = options;
  const edge = url === undefined ? null : new URL(url, location.href);
  const base = options.base ?? (edge === null ? null : new URL('/base/', edge));
  if (base === null)
    throw new GraftError({
      code: 'invalid_request',
      message: "Say where the base is: 'url' or 'base'.",
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

/** With the slash at its end that relative addresses need. */
function folder(url: string | URL): string {
  const { href } = new URL(url, location.href);
  return href.endsWith('/') ? href : `${href}/`;
}

/** Threads share memory, which only isolated pages may. */
function threadsFor(wanted: number | undefined): number {
  if (!crossOriginIsolated) return 1;
  return wanted ?? Math.min(MOST_THREADS, Math.max(1, navigator.hardwareConcurrency));
}

/** What `open` and `use` store in the page's private file system lies below it, by every model of this page's origin. */
const FOLDER = 'graft';
/** Under which bases and adapters are fetched: nobody removes them in the middle. */
const LOCKS = ['graft-base', 'graft-adapters'];

/** Bytes of bases and adapters; 0 where nothing is stored, or nothing can be. */
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

/** Removes all of it; the next opening fetches the base again. Close models first: they read what they stand on. */
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
