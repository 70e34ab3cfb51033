import { Worker } from 'node:worker_threads';
import { OrtError } from '../device.ts';
import { wasmVersion } from './installed-module.ts';
import type {
  WasmAnswer,
  WasmHost,
  WasmOrder,
  WasmQuestion,
  WasmReply,
  WasmRequest,
  WasmStart,
} from './wasm-api.ts';
import { WebDevice } from './web-device.ts';

/** Job number of the thread's start. */
const STARTED = 0;
const GONE = -1;

interface Waiting {
  resolve: (answer: WasmAnswer) => void;
  reject: (error: OrtError) => void;
}

/**
 * WebAssembly in a Node thread.
 * @throws Error if onnxruntime-web is missing.
 * @throws OrtError if it does not start.
 */
export async function openWebDevice(threads: number): Promise<WebDevice> {
  const version = wasmVersion();
  const count = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  return new WebDevice(await startWasmThread(threads), `ONNX Runtime ${version} in WebAssembly, ${count}`);
}

/**
 * @param threads per run.
 * @throws OrtError if it does not start.
 */
export async function startWasmThread(threads: number): Promise<WasmThread> {
  const thread = new WasmThread({ threads });
  await thread.started;
  return thread;
}

/** The thread of WebAssembly. Requests are handled in order. */
export class WasmThread implements WasmHost {
  readonly started: Promise<WasmAnswer>;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #lost: OrtError | null = null;
  #memory: SharedArrayBuffer | null = null;
  #jobs = STARTED;
  #ids = 0;

  constructor(workerData: WasmStart) {
    // The thread must not inherit this process's flags.
    this.#worker = new Worker(new URL('./start-thread.mjs', import.meta.url), { workerData, execArgv: [] });
    this.#worker.on('message', (reply: WasmReply) => this.#settle(reply));
    this.#worker.on('error', (error) => this.#end(error.message));
    this.#worker.on('exit', () => this.#end('its thread has ended'));
    this.started = this.#wait(STARTED);
  }

  /** Contains all allocations. */
  get memory(): SharedArrayBuffer {
    if (this.#memory === null) throw new Error('the thread has not started');
    return this.#memory;
  }

  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  /** @throws OrtError */
  ask(question: WasmQuestion): Promise<WasmAnswer> {
    this.#jobs += 1;
    const job = this.#jobs;
    const answer = this.#wait(job);
    if (this.#lost === null) this.#worker.postMessage({ ...question, job } satisfies WasmRequest);
    return answer;
  }

  tell(order: WasmOrder): void {
    if (this.#lost === null) this.#worker.postMessage(order);
  }

  async end(): Promise<void> {
    this.#lose('it was closed');
    await this.#worker.terminate();
  }

  /**
   * All rows were in it. Like a crash of the native library, this ends the process, and its parent sees why.
   */
  #end(message: string): void {
    if (this.#lost !== null) return;
    const running = this.#memory !== null;
    this.#lose(message);
    const lost = this.#lost;
    if (running)
      setImmediate(() => {
        throw lost;
      });
  }

  #wait(job: number): Promise<WasmAnswer> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    // A pending request keeps the process alive; without one it may exit.
    if (this.#waiting.size === 0) this.#worker.ref();
    return new Promise((resolve, reject) => this.#waiting.set(job, { resolve, reject }));
  }

  #settle(reply: WasmReply): void {
    const waiting = this.#waiting.get(reply.job);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.job);
    if (this.#waiting.size === 0) this.#worker.unref();
    if ('error' in reply) {
      const { call, code, message } = reply.error;
      return waiting.reject(new OrtError(call, code, message));
    }
    this.#memory = reply.memory;
    waiting.resolve(reply);
  }

  #lose(message: string): void {
    this.#lost ??= new OrtError('WebAssembly', GONE, message);
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
  }
}
