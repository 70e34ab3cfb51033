/** What is asked of WebAssembly, done where it runs. */
import { OrtError } from '../device.ts';
import { nextTurn } from '../next-turn.ts';
import type { WasmApi } from './wasm-api.ts';
import type {
  WasmAnswer,
  WasmHost,
  WasmOrder,
  WasmQuestion,
  WasmReply,
  WasmRequest,
} from './wasm-messages.ts';
import type { ExternalData } from './wasm-module.ts';

/** Where models and weights come from, by what the device calls them. */
export interface WasmFiles {
  model(name: string): Uint8Array;
  /** @param open is called with the file, and the file is closed when it ends. */
  weights<T>(name: string, open: (file: { name: string; data: ExternalData }) => Promise<T>): Promise<T>;
}

/** @returns the answer; null for what has none. @throws what went wrong with a request that has no answer. */
export async function answerRequest(
  api: WasmApi,
  files: WasmFiles,
  request: WasmRequest,
): Promise<WasmReply | null> {
  const job = 'job' in request ? request.job : null;
  try {
    const pointer = await handle(api, files, request);
    return job === null ? null : { job, pointer, memory: api.memory };
  } catch (error) {
    // What has no job does not fail; if it does, the module is of no use any more.
    if (job === null) throw error;
    return { job, error: said(error) };
  }
}

/** @returns what an allocation gave, else 0. */
async function handle(api: WasmApi, files: WasmFiles, request: WasmRequest): Promise<number> {
  switch (request.kind) {
    case 'allocate':
      return request.place === 'gpu' ? api.allocateOnGpu(request.bytes) : api.allocate(request.bytes);
    case 'free':
      if (request.place === 'gpu') api.freeOnGpu(request.pointer);
      else api.free(request.pointer);
      break;
    case 'open': {
      const { session, weights } = request;
      const model = typeof request.model === 'string' ? files.model(request.model) : request.model;
      if (weights === null) await api.open(session, model, null);
      else await files.weights(weights, (file) => api.open(session, model, file));
      break;
    }
    case 'close':
      api.close(request.session);
      break;
    case 'run':
      if (request.bindings !== null) await api.bind(request.binding, request.bindings);
      else await api.bindAgain(request.binding, request.changed);
      await api.run(request.binding);
      break;
    case 'unbind':
      api.unbind(request.binding);
  }
  return 0;
}

function said(error: unknown): { call: string; code: number; message: string } {
  if (error instanceof OrtError) return { call: error.call, code: error.code, message: error.reason };
  return { call: 'WebAssembly', code: -1, message: error instanceof Error ? error.message : String(error) };
}

/** WebAssembly in the thread that asks, for a browser's worker: it needs no memory that is shared with another one. */
export class SameThread implements WasmHost {
  #turn: Promise<void> = Promise.resolve();
  #ids = 0;
  #jobs = 0;

  constructor(
    private readonly api: WasmApi,
    private readonly files: WasmFiles,
  ) {}

  get memory(): SharedArrayBuffer {
    return this.api.memory;
  }

  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  async ask(question: WasmQuestion): Promise<WasmAnswer> {
    this.#jobs += 1;
    const answer = await this.#do({ ...question, job: this.#jobs } as WasmRequest);
    // A run blocks the thread; between two of them it hears who has gone and who has come.
    if (question.kind === 'run') await nextTurn();
    if (answer !== null && 'error' in answer)
      throw new OrtError(answer.error.call, answer.error.code, answer.error.message);
    return answer!;
  }

  tell(order: WasmOrder): void {
    void this.#do(order);
  }

  /** Its memory goes with the thread. */
  async end(): Promise<void> {
    await this.#turn;
  }

  #do(request: WasmRequest): ReturnType<typeof answerRequest> {
    const done = this.#turn.then(() => answerRequest(this.api, this.files, request));
    this.#turn = done.then(
      () => undefined,
      () => undefined,
    );
    return done;
  }
}
