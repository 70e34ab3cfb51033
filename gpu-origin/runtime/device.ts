/**
 * What the runner needs of a runtime: memory, tensors over it, sessions, bindings. `native/` is the library inside
 * onnxruntime-node, on the processor or on a GPU by WebGPU; `web/` is onnxruntime-web's WebAssembly in a thread. Neither
 * the runner nor the engine knows which one it has.
 */
import type { Clock } from '../engine/ports.ts';
import type { DataType, GraphFlavour, Numbers, Precision, WeightEntry } from '../model/base-model.ts';

/** `cpu`: the native library. `webgpu`: the same on a GPU. `web`: WebAssembly. */
export const PROVIDERS = ['cpu', 'webgpu', 'web'] as const;
export type Provider = (typeof PROVIDERS)[number];

/** Memory that runs read and write; its content is undefined at first. Nothing touches it while a run does. */
export interface DeviceMemory {
  readonly bytes: number;
  /** Copies values to byte `at`. */
  write(at: number, values: Numbers): void;
  /** Zeros `bytes` from byte `at` on. */
  clear(at: number, bytes: number): void;
  /** Copies within it, bytes. */
  copy(from: number, to: number, bytes: number): void;
  /**
   * Nobody needs what lies in `bytes` from byte `at` on: its whole pages go back to the system, and are undefined until
   * they are written again. Absent where they cannot.
   */
  giveBack?(at: number, bytes: number): void;
  /** No run uses it from now on. */
  close(): void;
}

/** Memory that lies in a buffer of JavaScript's too, from byte `offset` on; a multiple of 8. */
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
  /** After the bindings that it is bound in. */
  close(): void;
}

/** A set of bound inputs and outputs, reusable as long as their tensors live. A tensor may be both. */
export interface Binding {
  input(name: string, tensor: DeviceTensor): void;
  output(name: string, tensor: DeviceTensor): void;
  /** Runs off the event loop; one run at a time. @throws OrtError */
  run(): Promise<void>;
  close(): void;
}

export interface Session {
  bind(): Binding;
  /** After its bindings. */
  close(): void;
}

/** What a session's runs take: all cores each, or one, so that several of them run side by side. */
export type SessionCores = 'all' | 'one';

/** The file that a base's graphs have their weights in. */
export interface Weights {
  /** After the sessions that use it. */
  close(): void;
}

/**
 * Memory that is not the machine's. No tensor begins inside an allocation, and only runs copy from one to another.
 */
export interface OwnMemory {
  /** In memory of its own; undefined at first. @throws OrtError when there is not as much. */
  allocate(type: Precision, dims: readonly number[]): Promise<DeviceTensor>;
  /** The first `rows` along the first dimension of such a tensor, where they lie; closed before it. */
  first(tensor: DeviceTensor, rows: number): DeviceTensor;
  /** Whether it runs graphs in float16; asked of the GPU at the first call. */
  hasFp16(): Promise<boolean>;
}

export interface Device {
  readonly provider: Provider;
  /** Of the graphs that it runs. */
  readonly flavour: GraphFlavour;
  /** null = runs read and write the machine's memory, or what `memory` gives. */
  readonly own: OwnMemory | null;
  /** For the operator, such as "ONNX Runtime 1.30.0, native". */
  readonly description: string;
  /** Runs that go on side by side, each of a session that takes one core; one at a time unless given. */
  readonly lanes?: number;
  /** Sessions hold the weights once between them; else each holds its own, and is opened when it is needed. */
  readonly sharesWeights: boolean;
  /** Most that it can address, sessions and memory together, bytes; null = as much as the process. */
  readonly addressableBytes: number | null;
  /**
   * Sessions opened from now on take the slower int8 kernel, where there are two: one of them may not be exact on this
   * processor.
   */
  preciseInt8: boolean;
  /**
   * @param sparse it is written here and there, and becomes resident only there, where the device can have it so.
   * @throws OrtError when there is not as much.
   */
  memory(bytes: number, sparse?: boolean): Promise<DeviceMemory>;
  /** @throws OrtError when there is not as much. */
  host(bytes: number): Promise<HostMemory>;
  /** @param arrays as they are now; they do not change. Read where they are if that can be, else copied. */
  share(arrays: readonly Numbers[]): Promise<SharedArrays>;
  /** A view of the memory from byte `at` on. */
  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor;
  weights(path: string, entries: readonly WeightEntry[]): Promise<Weights>;
  /**
   * @param model path of an .onnx file, or its bytes.
   * @param weights what it refers to; null = all is inside it.
   * @param cores `one` only where there are lanes; `all` unless given.
   * @throws OrtError
   */
  session(model: string | Uint8Array, weights: Weights | null, cores?: SessionCores): Promise<Session>;
  /** After everything else. */
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

const ELEMENT_BYTES: Record<DataType, number> = { f32: 4, u8: 1, i8: 1, i32: 4, i64: 8, f16: 2 };

/** Of so many elements. */
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
      `a tensor of [${dims.join(', ')}] needs ${bytes} bytes, got ${Math.max(0, memory.bytes - at)}`,
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
