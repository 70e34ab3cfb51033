/**
 * What the runner needs of a runtime: memory, tensors over it, sessions, bindings. `native/` is the library inside
 * onnxruntime-node, on the processor or on a GPU by WebGPU; `web/` is onnxruntime-web's WebAssembly in a thread. Neither
 * the runner nor the engine knows which one it has.
 */
import type { Clock } from '../engine/ports.ts';
import type { DataType, GraphFlavour, Precision, WeightEntry } from '../model/base-model.ts';

/** `cpu`: the native library. `webgpu`: the same on a GPU. `web`: WebAssembly. */
export const PROVIDERS = ['cpu', 'webgpu', 'web'] as const;
export type Provider = (typeof PROVIDERS)[number];

/** Elements of any type. */
export type Elements = ArrayBufferView<ArrayBuffer>;

/** Memory that runs read and write; its content is initially undefined. Nothing else accesses it during a run. */
export interface DeviceMemory {
  readonly bytes: number;
  /** Copies values to byte `at`. */
  write(at: number, values: Elements): void;
  /** Zeros `bytes` from byte `at` on. */
  clear(at: number, bytes: number): void;
  /** Copies within it, bytes. */
  copy(from: number, to: number, bytes: number): void;
  /**
   * Discards `bytes` from byte `at` on: whole pages are returned to the system, and undefined until they are
   * written again. Absent if unsupported.
   */
  giveBack?(at: number, bytes: number): void;
  /** No run uses it from now on. */
  close(): void;
}

/** Memory that is also a JavaScript buffer, from byte `offset` on; a multiple of 8. */
export interface HostMemory extends DeviceMemory {
  readonly buffer: ArrayBufferLike;
  readonly offset: number;
}

/** Arrays as memory that runs read. */
export interface SharedArrays {
  readonly memories: readonly DeviceMemory[];
  close(): void;
}

/** Elements of one type in memory, in row-major order. */
export interface DeviceTensor {
  /** Close it after its bindings. */
  close(): void;
}

/** A set of bound inputs and outputs, reusable while their tensors live. A tensor may be both. */
export interface Binding {
  input(name: string, tensor: DeviceTensor): void;
  output(name: string, tensor: DeviceTensor): void;
  /** Runs off the event loop; one run at a time. @throws OrtError */
  run(): Promise<void>;
  close(): void;
}

export interface Session {
  bind(): Binding;
  /** Close it after its bindings. */
  close(): void;
}

/** Cores of a session's runs: all of them, or one, so that several run in parallel. */
export type SessionCores = 'all' | 'one';

/** The file that a base's graphs have their weights in. */
export interface Weights {
  /** Close it after its sessions. */
  close(): void;
}

/** Device memory. No tensor begins inside an allocation, and only runs copy between allocations. */
export interface OwnMemory {
  /** Separate memory, initially undefined. @throws OrtError when there is not enough. */
  allocate(type: Precision, dims: readonly number[]): Promise<DeviceTensor>;
  /** The first `rows` along the first dimension of such a tensor, in place; closed before it. */
  first(tensor: DeviceTensor, rows: number): DeviceTensor;
  /** Whether it runs graphs in float16; the first call asks the GPU. */
  hasFp16(): Promise<boolean>;
}

export interface Device {
  readonly provider: Provider;
  /** Of the graphs that it runs. */
  readonly flavour: GraphFlavour;
  /** null = runs use the machine's memory, or that of `memory`. */
  readonly own: OwnMemory | null;
  /** For the operator, such as "ONNX Runtime 1.30.0, native". */
  readonly description: string;
  /** Parallel runs, of sessions with one core each; default: one at a time. */
  readonly lanes?: number;
  /** Sessions share the weights; otherwise each has its own, and is opened when needed. */
  readonly sharesWeights: boolean;
  /** Maximum that it can address, sessions and memory together, bytes; null = as much as the process. */
  readonly addressableBytes: number | null;
  /**
   * Sessions opened from now on use the slower int8 kernel, if there are two: one of them may not be exact on
   * this processor.
   */
  preciseInt8: boolean;
  /**
   * @param sparse it is written in places, and becomes resident only there, if the device supports it.
   * @throws OrtError when there is not enough.
   */
  memory(bytes: number, sparse?: boolean): Promise<DeviceMemory>;
  /** @param sparse as for `memory`. @throws OrtError when there is not enough. */
  host(bytes: number, sparse?: boolean): Promise<HostMemory>;
  /** @param arrays constant content. Read in place if possible, otherwise copied. */
  share(arrays: readonly Elements[]): Promise<SharedArrays>;
  /** A view of the memory from byte `at` on. */
  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor;
  weights(path: string, entries: readonly WeightEntry[]): Promise<Weights>;
  /**
   * @param model path of an .onnx file, or its bytes.
   * @param weights its external data; null = everything is inside it.
   * @param cores `one` only with parallel runs; default `all`.
   * @throws OrtError
   */
  session(model: string | Uint8Array, weights: Weights | null, cores?: SessionCores): Promise<Session>;
  /** Close it last. */
  close(): Promise<void>;
}

/** ONNX Runtime refused a call, or has ended; the message is its own. */
export class OrtError extends Error {
  override readonly name = 'OrtError';
  /** OrtErrorCode, e.g. 2 = invalid argument; -1 = the runtime itself is gone. */
  readonly code: number;
  /** The function that was called. */
  readonly call: string;
  readonly reason: string;
  constructor(call: string, code: number, reason: string) {
    super(`${call}: ${reason}`);
    this.call = call;
    this.code = code;
    this.reason = reason;
  }
}

const ELEMENT_BYTES: Record<DataType, number> = { f32: 4, u8: 1, i8: 1, i32: 4, i64: 8, bool: 1, f16: 2 };

/** Of this many elements. */
export const bytesOf = (type: DataType, dims: readonly number[]): number =>
  dims.reduce((product, size) => product * size, ELEMENT_BYTES[type]);

/** @returns bytes of a tensor. @throws Error when the memory behind byte `at` is smaller. */
export function tensorBytes(
  type: DataType,
  memory: DeviceMemory,
  at: number,
  dims: readonly number[],
): number {
  const bytes = bytesOf(type, dims);
  if (at + bytes > memory.bytes)
    throw new Error(
      `a tensor of [${dims.join(', ')}] needs ${bytes} bytes; got ${Math.max(0, memory.bytes - at)}`,
    );
  return bytes;
}

/** @throws Error when it belongs to another implementation. */
export function own<T>(value: unknown, type: abstract new (...args: never[]) => T): T {
  if (value instanceof type) return value;
  throw new Error('it was made by another runtime');
}

/**
 * Resolves after other work of the event loop had its turn. Browsers have no `setImmediate`, and their timers wait for
 * 4 ms once they are nested; a message to oneself does not.
 */
export const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === 'function') return void setImmediate(resolve);
    const { port1, port2 } = new MessageChannel();
    const heard = (): void => {
      port1.close();
      resolve();
    };
    port1.addEventListener('message', heard, { once: true });
    port1.start();
    port2.postMessage(null);
  });

/** The engine's clock, in Node and in browsers. */
export const systemClock: Clock = {
  now: () => performance.now(),
  timer(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  yield: nextTurn,
};
