/** The runtime's port over ONNX Runtime's C API; everything made here has a `close` that releases it. */
import { closeSync, openSync } from 'node:fs';
import { DataType, type Numbers, type WeightEntry } from '../../model/graph-form.ts';
import { readFully } from '../../model/read-file.ts';
import {
  type Binding,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type HostMemory,
  OrtError,
  own,
  type Session,
  type SessionCores,
  type SharedArrays,
  tensorBytes,
  type Weights,
} from '../device.ts';
import { type OrtLibrary, type Pointer, setForLibrary } from './ort-library.ts';
import { pages } from './pages.ts';

/** OrtLoggingLevel: 3 = error. */
export const LOG_ERRORS = 3;
/** GraphOptimizationLevel: 99 = all. */
export const OPTIMIZE_ALL = 99;

/**
 * Runs wait in libuv's pool, which has four threads by default. With more cores than these there are no lanes: nobody
 * has measured yet how many rows a core should have there.
 */
const MAX_LANES = 4;

/**
 * Sums attention over whole rows. ONNX Runtime's other way, in blocks, meets its threads once for each row of a batch whose
 * rows differ in length, and cuts a row that is alone among more threads than heads: it then has other bits than in a
 * batch. Read when a session is opened.
 */
const WHOLE_ROWS = ['ORT_GQA_DISABLE_FLASH_ATTENTION', '1'] as const;

/** A part of an ArrayBuffer, which the garbage collector frees: tensors keep it reachable. */
export class NativeMemory implements HostMemory {
  readonly bytes: number;
  constructor(private readonly view: Uint8Array<ArrayBuffer>) {
    this.bytes = view.byteLength;
  }
  /**
   * Memory outside V8's heap: small typed arrays live inside it and may move.
   * @param bytes at least 64 are taken, so that an empty tensor has an address as well.
   * @throws OrtError when there are none, or more than Node has in one array.
   */
  static allocate(bytes: number, sparse = false): NativeMemory {
    let view: Uint8Array<ArrayBuffer>;
    try {
      view = new Uint8Array(new ArrayBuffer(Math.max(64, Math.ceil(bytes / 8) * 8)));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const size = `${(bytes / 1e9).toFixed(1)} GB`;
      throw new OrtError(
        'memory',
        6,
        `${size} cannot be had at once; fewer --slots or a shorter --context need less`,
      );
    }
    if (sparse) {
      pages()?.keepSmall(view);
      // glibc takes it from its heap where others left enough in one piece, and has written its zeros there.
      pages()?.giveBack(view, 0, view.byteLength);
    }
    return new NativeMemory(view);
  }
  get buffer(): ArrayBuffer {
    return this.view.buffer;
  }
  get offset(): number {
    return this.view.byteOffset;
  }
  write(at: number, values: Numbers): void {
    this.view.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
  }
  clear(at: number, bytes: number): void {
    this.view.fill(0, at, at + bytes);
  }
  copy(from: number, to: number, bytes: number): void {
    this.view.copyWithin(to, from, from + bytes);
  }
  giveBack(at: number, bytes: number): void {
    pages()?.giveBack(this.view, at, bytes);
  }
  from(at: number): Uint8Array<ArrayBuffer> {
    return this.view.subarray(at);
  }
  close(): void {
    // The garbage collector's, once no tensor refers to it.
  }
}

export class NativeTensor implements DeviceTensor {
  readonly value: Pointer;
  constructor(
    private readonly ort: OrtLibrary,
    memory: Pointer,
    type: DataType,
    /** Must not be moved or freed while the tensor lives; the tensor keeps it reachable. */
    readonly data: Uint8Array<ArrayBuffer>,
    bytes: number,
    dims: readonly number[],
  ) {
    this.value = ort.create(
      'value',
      'CreateTensorWithDataAsOrtValue',
      memory,
      data,
      bytes,
      BigInt64Array.from(dims, BigInt),
      dims.length,
      DataType[type],
    );
  }
  close(): void {
    this.ort.release('value', 'ReleaseValue', this.value);
  }
}

class NativeBinding implements Binding {
  private readonly pointer: Pointer;
  /** Keeps the tensors' memory reachable for as long as the library may use it. */
  private readonly bound: NativeTensor[] = [];
  constructor(
    private readonly ort: OrtLibrary,
    private readonly session: Pointer,
  ) {
    this.pointer = ort.create('binding', 'CreateIoBinding', session);
  }
  input(name: string, tensor: DeviceTensor): void {
    this.bind('BindInput', name, tensor);
  }
  output(name: string, tensor: DeviceTensor): void {
    this.bind('BindOutput', name, tensor);
  }
  private bind(call: 'BindInput' | 'BindOutput', name: string, tensor: DeviceTensor): void {
    const mine = own(tensor, NativeTensor);
    this.bound.push(mine);
    this.ort.call(call, this.pointer, name, mine.value);
  }
  run(): Promise<void> {
    return this.ort.run(this.session, this.pointer);
  }
  close(): void {
    this.ort.release('binding', 'ReleaseIoBinding', this.pointer);
  }
}

class NativeSession implements Session {
  constructor(
    private readonly ort: OrtLibrary,
    private readonly pointer: Pointer,
  ) {}
  bind(): Binding {
    return new NativeBinding(this.ort, this.pointer);
  }
  close(): void {
    this.ort.release('session', 'ReleaseSession', this.pointer);
  }
}

/** Initializers by name, in memory once for all sessions. */
class NativeWeights implements Weights {
  constructor(readonly tensors: ReadonlyMap<string, NativeTensor>) {}
  close(): void {
    for (const tensor of this.tensors.values()) tensor.close();
  }
}

/** @param threads intra-op threads of every session, the calling one included. */
export function createEnv(ort: OrtLibrary, threads: number): Pointer {
  const options = ort.create('threading', 'CreateThreadingOptions');
  ort.call('SetGlobalIntraOpNumThreads', options, threads);
  ort.call('SetGlobalInterOpNumThreads', options, 1);
  const env = ort.create('env', 'CreateEnvWithGlobalThreadPools', LOG_ERRORS, 'graft', options);
  ort.release('threading', 'ReleaseThreadingOptions', options);
  return env;
}

/** Threads, memory and the container of prepacked weights that all sessions of one model share. */
export class NativeDevice implements Device {
  readonly provider = 'cpu';
  readonly flavour = 'cpu';
  readonly own = null;
  readonly sharesWeights = true;
  readonly addressableBytes = null;
  readonly lanes: number;
  private readonly env: Pointer;
  private readonly memoryInfo: Pointer;
  private readonly prepacked: Pointer;
  /**
   * Sets `session.x64quantprecision`: without it the u8 x s8 kernel saturates in 16 bits on x86 without VNNI, and the
   * model is silently wrong. With it, processors with AMX lose their fast kernel (u8 x u8 in 16-bit lanes instead: 350
   * against 1,900 GFLOP/s), so it is set only where the self-test asks for it.
   */
  preciseInt8 = true;

  /** @param threads intra-op threads, the calling one included. */
  constructor(
    private readonly ort: OrtLibrary,
    threads: number,
  ) {
    this.lanes = threads <= MAX_LANES ? threads : 1;
    setForLibrary(...WHOLE_ROWS);
    this.env = createEnv(ort, threads);
    // OrtArenaAllocator = 1, OrtMemTypeDefault = 0: only describes where our own buffers lie.
    this.memoryInfo = ort.create('memory', 'CreateCpuMemoryInfo', 1, 0);
    // One arena for what runs of all sessions need meanwhile: each would keep its own, of the longest prompt it read.
    ort.call('CreateAndRegisterAllocator', this.env, this.memoryInfo, null);
    this.prepacked = ort.create('prepacked', 'CreatePrepackedWeightsContainer');
  }

  get description(): string {
    return `ONNX Runtime ${this.ort.version}, its native library`;
  }

  async memory(bytes: number, sparse = false): Promise<DeviceMemory> {
    return NativeMemory.allocate(bytes, sparse);
  }

  async host(bytes: number): Promise<HostMemory> {
    return NativeMemory.allocate(bytes);
  }

  async share(arrays: readonly Numbers[]): Promise<SharedArrays> {
    const bytesOf = (array: Numbers): Uint8Array<ArrayBuffer> =>
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    return { memories: arrays.map((array) => new NativeMemory(bytesOf(array))), close: () => {} };
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const data = own(memory, NativeMemory).from(at);
    return new NativeTensor(this.ort, this.memoryInfo, type, data, bytes, dims);
  }

  async weights(path: string, entries: readonly WeightEntry[]): Promise<Weights> {
    const fd = openSync(path, 'r');
    try {
      const tensors = entries.map(({ name, type, dims, offset, bytes }) => {
        const data = NativeMemory.allocate(bytes).from(0);
        if (!readFully(fd, data.subarray(0, bytes), offset))
          throw new Error(`${path} ends before its tensors do`);
        return [name, new NativeTensor(this.ort, this.memoryInfo, type, data, bytes, dims)] as const;
      });
      return new NativeWeights(new Map(tensors));
    } finally {
      closeSync(fd);
    }
  }

  async session(
    model: string | Uint8Array,
    weights: Weights | null,
    cores: SessionCores = 'all',
  ): Promise<Session> {
    const { ort } = this;
    const options = ort.create('options', 'CreateSessionOptions');
    try {
      if (cores === 'all') ort.call('DisablePerSessionThreads', options);
      // A pool of one thread is none: the run stays on the thread that calls it.
      else ort.call('SetIntraOpNumThreads', options, 1);
      ort.call('AddSessionConfigEntry', options, 'session.use_env_allocators', '1');
      // Between steps the core belongs to sampling, HTTP and the edge; spinning inside a step is worth 30 %.
      ort.call('AddSessionConfigEntry', options, 'session.force_spinning_stop', '1');
      ort.call('SetSessionGraphOptimizationLevel', options, OPTIMIZE_ALL);
      // Shapes change from step to step; planned memory patterns would be kept for each of them.
      ort.call('DisableMemPattern', options);
      if (this.preciseInt8) ort.call('AddSessionConfigEntry', options, 'session.x64quantprecision', '1');
      if (weights !== null)
        for (const [name, tensor] of own(weights, NativeWeights).tensors)
          ort.call('AddInitializer', options, name, tensor.value);
      return new NativeSession(ort, ort.createSession(this.env, model, options, this.prepacked));
    } finally {
      ort.release('options', 'ReleaseSessionOptions', options);
    }
  }

  async close(): Promise<void> {
    this.ort.release('prepacked', 'ReleasePrepackedWeightsContainer', this.prepacked);
    this.ort.release('memory', 'ReleaseMemoryInfo', this.memoryInfo);
    this.ort.release('env', 'ReleaseEnv', this.env);
  }
}
