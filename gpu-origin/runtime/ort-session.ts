/** Environment, tensors, sessions and bindings over the C API, each with a `close` that releases it. */
import { DataType } from '../model/onnx-proto.ts';
import type { OrtLibrary, Pointer } from './ort-library.ts';

/** OrtLoggingLevel: 3 = error. */
const LOG_ERRORS = 3;
/** GraphOptimizationLevel: 99 = all. */
const OPTIMIZE_ALL = 99;

/**
 * Memory for tensors, outside V8's heap: small typed arrays live inside it and may move.
 * @param bytes at least 64 are taken, so that an empty tensor has an address as well.
 */
export function allocate(bytes: number): ArrayBuffer {
  return new ArrayBuffer(Math.max(64, bytes));
}

export class OrtTensor {
  readonly value: Pointer;
  constructor(
    private readonly ort: OrtLibrary,
    memory: Pointer,
    type: DataType,
    /** Must not be moved or freed while the tensor lives; the tensor keeps it reachable. */
    readonly data: ArrayBufferView,
    readonly dims: readonly number[],
  ) {
    const shape = BigInt64Array.from(dims, BigInt);
    const elements = dims.reduce((product, size) => product * size, 1);
    const bytes = elements * { f32: 4, u8: 1, i8: 1, i32: 4, i64: 8 }[type];
    if (bytes > data.byteLength)
      throw new Error(`a tensor of [${dims.join(', ')}] needs ${bytes} bytes, got ${data.byteLength}`);
    this.value = ort.create(
      'value',
      'CreateTensorWithDataAsOrtValue',
      memory,
      data,
      bytes,
      shape,
      dims.length,
      DataType[type],
    );
  }
  close(): void {
    this.ort.release('value', 'ReleaseValue', this.value);
  }
}

/** One set of bound inputs and outputs, reusable as long as its tensors live. */
export class OrtBinding {
  private readonly pointer: Pointer;
  /** Keeps the tensors' memory reachable for as long as the library may use it. */
  private readonly bound: OrtTensor[] = [];
  constructor(
    private readonly ort: OrtLibrary,
    private readonly session: Pointer,
  ) {
    this.pointer = ort.create('binding', 'CreateIoBinding', session);
  }
  input(name: string, tensor: OrtTensor): void {
    this.bound.push(tensor);
    this.ort.call('BindInput', this.pointer, name, tensor.value);
  }
  output(name: string, tensor: OrtTensor): void {
    this.bound.push(tensor);
    this.ort.call('BindOutput', this.pointer, name, tensor.value);
  }
  run(): Promise<void> {
    return this.ort.run(this.session, this.pointer);
  }
  close(): void {
    this.ort.release('binding', 'ReleaseIoBinding', this.pointer);
  }
}

export class OrtSession {
  constructor(
    private readonly ort: OrtLibrary,
    private readonly pointer: Pointer,
  ) {}
  bind(): OrtBinding {
    return new OrtBinding(this.ort, this.pointer);
  }
  close(): void {
    this.ort.release('session', 'ReleaseSession', this.pointer);
  }
}

/** Threads, memory and the container of prepacked weights that all sessions of one model share. */
export class OrtEnvironment {
  private readonly env: Pointer;
  private readonly memory: Pointer;
  private readonly prepacked: Pointer;
  /**
   * Sets `session.x64quantprecision` for sessions opened from now on: without it the u8 x s8 kernel saturates in 16 bits
   * on x86 without VNNI, and the model is silently wrong. With it, processors with AMX lose their fast kernel
   * (u8 x u8 in 16-bit lanes instead: 350 against 1,900 GFLOP/s), so it is set only where the self-test asks for it.
   */
  preciseInt8 = true;

  /** @param threads intra-op threads, the calling one included. */
  constructor(
    readonly ort: OrtLibrary,
    threads: number,
  ) {
    const options = ort.create('threading', 'CreateThreadingOptions');
    ort.call('SetGlobalIntraOpNumThreads', options, threads);
    ort.call('SetGlobalInterOpNumThreads', options, 1);
    this.env = ort.create('env', 'CreateEnvWithGlobalThreadPools', LOG_ERRORS, 'graft', options);
    ort.release('threading', 'ReleaseThreadingOptions', options);
    // OrtArenaAllocator = 1, OrtMemTypeDefault = 0: only describes where our own buffers lie.
    this.memory = ort.create('memory', 'CreateCpuMemoryInfo', 1, 0);
    this.prepacked = ort.create('prepacked', 'CreatePrepackedWeightsContainer');
  }

  tensor(type: DataType, data: ArrayBufferView, dims: readonly number[]): OrtTensor {
    return new OrtTensor(this.ort, this.memory, type, data, dims);
  }

  /**
   * @param model path of an .onnx file, or its bytes.
   * @param weights initializers by name, shared between sessions and outliving them.
   * @throws OrtError
   */
  session(model: string | Uint8Array, weights: ReadonlyMap<string, OrtTensor>): OrtSession {
    const { ort } = this;
    const options = ort.create('options', 'CreateSessionOptions');
    try {
      ort.call('DisablePerSessionThreads', options);
      // Between steps the core belongs to sampling, HTTP and the edge; spinning inside a step is worth 30 %.
      ort.call('AddSessionConfigEntry', options, 'session.force_spinning_stop', '1');
      ort.call('SetSessionGraphOptimizationLevel', options, OPTIMIZE_ALL);
      // Shapes change from step to step; planned memory patterns would be kept for each of them.
      ort.call('DisableMemPattern', options);
      if (this.preciseInt8) ort.call('AddSessionConfigEntry', options, 'session.x64quantprecision', '1');
      for (const [name, tensor] of weights) ort.call('AddInitializer', options, name, tensor.value);
      const pointer =
        typeof model === 'string'
          ? ort.create(
              'session',
              'CreateSessionWithPrepackedWeightsContainer',
              this.env,
              model,
              options,
              this.prepacked,
            )
          : ort.create(
              'session',
              'CreateSessionFromArrayWithPrepackedWeightsContainer',
              this.env,
              model,
              model.length,
              options,
              this.prepacked,
            );
      return new OrtSession(ort, pointer);
    } finally {
      ort.release('options', 'ReleaseSessionOptions', options);
    }
  }

  /** After all sessions. */
  close(): void {
    this.ort.release('prepacked', 'ReleasePrepackedWeightsContainer', this.prepacked);
    this.ort.release('memory', 'ReleaseMemoryInfo', this.memory);
    this.ort.release('env', 'ReleaseEnv', this.env);
  }
}
