/**
 * Messages to and from the thread that runs WebAssembly (pointers are byte offsets into its memory); and
 * checked calls of ONNX Runtime in it, which keep a binding's tensors as long as the binding.
 */
import { OrtError, nextTurn } from '../device.ts';
import {
  type ExternalData,
  type WasmFactory,
  WasmGpu,
  type WasmModule,
  type WebgpuFactory,
} from './wasm-module.ts';

export interface WasmStart {
  /** Threads per run, including the module's own. */
  threads: number;
}

/** Kind of memory: WebAssembly's, or a GPU buffer. */
type Place = 'heap' | 'gpu';

export interface BoundTensor {
  name: string;
  /** Offset in WebAssembly's memory, or the start of the GPU buffer. */
  place: Place;
  /** onnx.TensorProto.DataType */
  type: number;
  pointer: number;
  bytes: number;
  dims: readonly number[];
}

interface Bindings {
  session: number;
  inputs: readonly BoundTensor[];
  outputs: readonly BoundTensor[];
}

/** The thread of WebAssembly, seen from the device. */
export interface WasmHost {
  /** Contains all allocations. */
  readonly memory: SharedArrayBuffer;
  nextId(): number;
  /** Requests are handled in order. @throws OrtError */
  ask(question: WasmQuestion): Promise<WasmAnswer>;
  tell(order: WasmOrder): void;
  end(): Promise<void>;
}

/** Requests with a job are answered. The sender chooses numbers of sessions and bindings. */
export type WasmRequest =
  | { kind: 'allocate'; job: number; place: Place; bytes: number }
  | { kind: 'free'; place: Place; pointer: number }
  | { kind: 'open'; job: number; session: number; model: string | Uint8Array; weights: string | null }
  | { kind: 'close'; session: number }
  /**
   * @property bindings at the first run of a binding. @property changed inputs of an earlier one with new
   * content, whose copies on a GPU are outdated.
   */
  | { kind: 'run'; job: number; binding: number; bindings: Bindings | null; changed: readonly BoundTensor[] }
  | { kind: 'unbind'; binding: number };

/** @property job 0 = it has started. @property memory its current state: it may have grown. */
export type WasmReply =
  | { job: number; pointer: number; memory: SharedArrayBuffer }
  | { job: number; error: { call: string; code: number; message: string } };

export type WasmAnswer = Extract<WasmReply, { pointer: number }>;
/** A request with an answer, without its number. */
export type WasmQuestion = WasmRequest extends infer R
  ? R extends { job: number }
    ? Omit<R, 'job'>
    : never
  : never;
export type WasmOrder = Exclude<WasmRequest, { job: number }>;

/** OrtLoggingLevel: 3 = error. */
const LOG_ERRORS = 3;
/** GraphOptimizationLevel: 99 = all. */
const OPTIMIZE_ALL = 99;
/** DataLocation in api.cc of a tensor's data. */
const LOCATIONS: Record<BoundTensor['place'], number> = { heap: 1, gpu: 4 };
/** ORT_FAIL and ORT_INVALID_ARGUMENT of OrtErrorCode. */
const FAIL = 1;
const INVALID_ARGUMENT = 2;

/** ONNX Runtime's name for the provider. */
const PROVIDER = 'WebGPU';

interface Binding {
  session: number;
  pointer: number;
  /** Tensors created so far, by their memory, type and shape. */
  tensors: Map<string, number>;
  outputs: number;
}

export class WasmApi {
  private readonly sessions = new Map<number, number>();
  private readonly bindings = new Map<number, Binding>();
  /**
   * Names of inputs and outputs, kept because a call that waits for the GPU reads them after its stack is
   * gone.
   */
  private readonly names = new Map<string, number>();

  private constructor(
    private readonly module: WasmModule,
    /** null = the processor runs everything. */
    private readonly gpu: WasmGpu | null,
  ) {}

  /** Once per thread: the module belongs to the thread. @throws OrtError */
  static async load(factory: WasmFactory, threads: number): Promise<WasmApi> {
    return new WasmApi(await factory({ numThreads: threads }), null).started(threads);
  }

  /**
   * Loads the module with the WebGPU provider.
   * @throws OrtError
   */
  static async loadWithGpu(factory: WebgpuFactory, threads: number): Promise<WasmApi> {
    const module = await factory({ numThreads: threads });
    return new WasmApi(module, new WasmGpu(module)).started(threads);
  }

  private started(threads: number): this {
    this.check('OrtInit', this.module._OrtInit(threads, LOG_ERRORS));
    return this;
  }

  get memory(): SharedArrayBuffer {
    this.module.getValue(0, 'i8');
    return this.module.HEAPU8.buffer;
  }

  /**
   * @param bytes at least 64 are allocated, so that an empty tensor has an address too.
   * @throws OrtError
   */
  allocate(bytes: number): number {
    const pointer = this.module._malloc(Math.max(64, bytes));
    if (pointer === 0)
      throw new OrtError(
        'malloc',
        FAIL,
        `WebAssembly's 4 GiB have no ${bytes.toLocaleString('en')} bytes left`,
      );
    return pointer;
  }

  free(pointer: number): void {
    this.module._free(pointer);
  }

  /**
   * Requires an open session.
   * @throws OrtError
   */
  allocateOnGpu(bytes: number): Promise<number> {
    return this.ownGpu.allocate(bytes);
  }

  freeOnGpu(pointer: number): void {
    this.ownGpu.free(pointer);
  }

  private get ownGpu(): WasmGpu {
    if (this.gpu === null) throw new Error('this runtime has no WebGPU');
    return this.gpu;
  }

  /** Resolves with the reason if the GPU is lost. */
  get gpuLost(): Promise<string> {
    return this.ownGpu.lost;
  }

  /** Whether the GPU supports float16; requires an open session. */
  get gpuHasFp16(): boolean {
    return this.ownGpu.hasFp16;
  }

  /** @param weights the file that the model refers to. @throws OrtError */
  async open(
    id: number,
    model: Uint8Array,
    weights: { name: string; data: ExternalData } | null,
  ): Promise<void> {
    const { module } = this;
    const options = await this.options();
    const at = this.allocate(model.length);
    try {
      new Uint8Array(this.memory).set(model, at);
      if (weights !== null) module.mountExternalData(weights.name, weights.data);
      const session = await module._OrtCreateSession(at, model.length, options);
      this.gpu?.opened(session);
      if (session === 0) this.check('OrtCreateSession', FAIL);
      this.sessions.set(id, session);
    } finally {
      module.unmountExternalData();
      module._free(at);
      module._OrtReleaseSessionOptions(options);
    }
  }

  private async options(): Promise<number> {
    const { module } = this;
    const options = this.withStack((text) => {
      // No memory pattern: shapes change from step to step, and one would be kept for each.
      const options = module._OrtCreateSessionOptions(
        ...([OPTIMIZE_ALL, true, false, 0, false, 0, text('graft'), LOG_ERRORS, 0, 0] as const),
      );
      if (options === 0) this.check('OrtCreateSessionOptions', FAIL);
      for (const [key, value] of [
        // Between steps, sampling, HTTP and the edge need the core.
        ['session.force_spinning_stop', '1'],
        // The arena allocates powers of two, which wastes too much of 4 GiB for weights.
        ['session.use_device_allocator_for_initializers', '1'],
      ] as const)
        this.check(key, module._OrtAddSessionConfigEntry(options, text(key), text(value)));
      return options;
    });
    if (this.gpu !== null) this.check(PROVIDER, await this.gpu.provide(options, this.name(PROVIDER)));
    return options;
  }

  private name(text: string): number {
    const known = this.names.get(text);
    if (known !== undefined) return known;
    const bytes = this.module.lengthBytesUTF8(text) + 1;
    const pointer = this.allocate(bytes);
    this.module.stringToUTF8(text, pointer, bytes);
    this.names.set(text, pointer);
    return pointer;
  }

  close(id: number): void {
    const session = this.sessions.get(id);
    if (session !== undefined) {
      this.gpu?.closed(session);
      this.module._OrtReleaseSession(session);
    }
    this.sessions.delete(id);
  }

  /** @throws OrtError */
  async bind(id: number, { session, inputs, outputs }: Bindings): Promise<void> {
    const { module } = this;
    const opened = this.sessions.get(session);
    if (opened === undefined) throw new OrtError('bind', INVALID_ARGUMENT, 'the session is closed');
    const pointer = module._OrtCreateBinding(opened);
    if (pointer === 0) this.check('OrtCreateBinding', FAIL);
    const binding: Binding = { session: opened, pointer, tensors: new Map(), outputs: outputs.length };
    this.bindings.set(id, binding);
    try {
      for (const tensor of inputs) await this.bindInput(binding, tensor);
      for (const tensor of outputs) {
        const value = this.tensor(binding, tensor);
        this.check('OrtBindOutput', module._OrtBindOutput(pointer, this.name(tensor.name), value, 0));
      }
    } catch (error) {
      this.unbind(id);
      throw error;
    }
  }

  /**
   * A GPU copies host memory only when it is bound.
   * @throws OrtError
   */
  async bindAgain(id: number, inputs: readonly BoundTensor[]): Promise<void> {
    const binding = this.bindings.get(id);
    if (binding !== undefined) for (const tensor of inputs) await this.bindInput(binding, tensor);
  }

  private async bindInput(binding: Binding, tensor: BoundTensor): Promise<void> {
    const value = this.tensor(binding, tensor);
    const name = this.name(tensor.name);
    this.check('OrtBindInput', await this.module._OrtBindInput(binding.pointer, name, value));
  }

  /** One value for input and output, so that attention detects that it may append in place. */
  private tensor(binding: Binding, { place, type, pointer, bytes, dims }: BoundTensor): number {
    const { module } = this;
    const key = `${place} ${pointer} ${type} ${dims.join()}`;
    const known = binding.tensors.get(key);
    if (known !== undefined) return known;
    return this.withStack(() => {
      const shape = module.stackAlloc(4 * Math.max(1, dims.length));
      dims.forEach((size, index) => module.setValue(shape + 4 * index, size, '*'));
      const tensor = module._OrtCreateTensor(type, pointer, bytes, shape, dims.length, LOCATIONS[place]);
      if (tensor === 0) this.check('OrtCreateTensor', FAIL);
      binding.tensors.set(key, tensor);
      return tensor;
    });
  }

  /** @throws OrtError */
  async run(id: number): Promise<void> {
    const { module } = this;
    const binding = this.bindings.get(id);
    if (binding === undefined) throw new OrtError('run', INVALID_ARGUMENT, 'the binding is closed');
    const { session, pointer, outputs } = binding;
    const values = this.allocate(4 * outputs);
    try {
      const code = await module._OrtRunWithBinding(session, pointer, outputs, values, 0);
      this.check('OrtRunWithBinding', code);
      // Releases the additional references to the bound outputs.
      for (let index = 0; index < outputs; index++)
        module._OrtReleaseTensor(module.getValue(values + 4 * index, '*'));
    } finally {
      module._free(values);
    }
  }

  unbind(id: number): void {
    const binding = this.bindings.get(id);
    if (binding === undefined) return;
    this.bindings.delete(id);
    this.module._OrtReleaseBinding(binding.pointer);
    for (const tensor of binding.tensors.values()) this.module._OrtReleaseTensor(tensor);
  }

  /** @throws OrtError with ONNX Runtime's message of its last failure. */
  private check(call: string, code: number): void {
    if (code === 0) return;
    const { module } = this;
    const said = this.withStack(() => {
      const at = module.stackAlloc(8);
      module._OrtGetLastError(at, at + 4);
      const message = module.getValue(at + 4, '*');
      return { code: module.getValue(at, 'i32'), message: message === 0 ? '' : module.UTF8ToString(message) };
    });
    throw new OrtError(call, said.code, said.message);
  }

  /** @param work its strings are on WebAssembly's stack, and freed when it ends. */
  private withStack<T>(work: (text: (value: string) => number) => T): T {
    const { module } = this;
    const stack = module.stackSave();
    try {
      return work((value) => {
        const bytes = module.lengthBytesUTF8(value) + 1;
        const pointer = module.stackAlloc(bytes);
        module.stringToUTF8(value, pointer, bytes);
        return pointer;
      });
    } finally {
      module.stackRestore(stack);
    }
  }
}

/** Models and weights, by the device's names. */
export interface WasmFiles {
  model(name: string): Uint8Array;
  /** @param open called with the file, which is closed afterwards. */
  weights<T>(name: string, open: (file: { name: string; data: ExternalData }) => Promise<T>): Promise<T>;
}

/**
 * @returns the answer; null for a request without one.
 * @throws errors of a request without an answer.
 */
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
    // Requests without a job should not fail; if one does, the module is unusable.
    if (job === null) throw error;
    return { job, error: said(error) };
  }
}

/** @returns the result of an allocation, otherwise 0. */
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

/** WebAssembly in the calling thread, for a browser's worker; needs no shared memory. */
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
    // A run blocks the thread, so aborts and new requests are handled between two runs.
    if (question.kind === 'run') await nextTurn();
    if (answer !== null && 'error' in answer)
      throw new OrtError(answer.error.call, answer.error.code, answer.error.message);
    return answer!;
  }

  tell(order: WasmOrder): void {
    void this.#do(order);
  }

  /** Its memory is freed with the thread. */
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
