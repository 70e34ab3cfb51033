/**
 * The runtime's port on a GPU: the WebGPU provider in the same native library. Tensors in GPU memory have no
 * offsets. Host memory is copied to the GPU when it is bound, so it is bound again after each change.
 */
import { DataType, type Precision } from '../../model/base-model.ts';
import {
  type Binding,
  bytesOf,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type Elements,
  type HostMemory,
  OrtError,
  own,
  type OwnMemory,
  type Session,
  type SharedArrays,
  tensorBytes,
  type Weights,
} from '../device.ts';
import { buildSumGraph, UploadedMemory, Uploads } from '../gpu-parts.ts';
import {
  createEnv,
  LOG_ERRORS,
  NativeMemory,
  NativeTensor,
  OPTIMIZE_ALL,
  type OrtLibrary,
  type Pointer,
} from './native-device.ts';

/** ONNX Runtime's name for the provider and its memory. */
const PROVIDER = 'WebGPU';
const MEMORY = 'WebGPU_Buf';
/** OrtHardwareDeviceType of a GPU, and ONNX Runtime's name for the provider. */
const GPU = 1;
const WEBGPU = 'WebGpuExecutionProvider';
/** OrtLoggingLevel: 4 = fatal. */
const LOG_NOTHING = 4;

class UploadedTensor implements DeviceTensor {
  constructor(
    readonly memory: UploadedMemory,
    readonly tensor: NativeTensor,
  ) {}
  get value(): Pointer {
    return this.tensor.value;
  }
  close(): void {
    this.tensor.close();
  }
}

/** In the GPU's memory. */
class GpuTensor implements DeviceTensor {
  constructor(
    private readonly ort: OrtLibrary,
    readonly value: Pointer,
    readonly type: Precision,
    readonly dims: readonly number[],
  ) {}
  close(): void {
    this.ort.release('value', 'ReleaseValue', this.value);
  }
}

class GpuBinding implements Binding {
  private readonly pointer: Pointer;
  private readonly uploads = new Uploads<{ name: string; value: Pointer }>();
  /** Keeps memory reachable for as long as the library may write to it. */
  private readonly outputs: DeviceTensor[] = [];
  constructor(
    private readonly ort: OrtLibrary,
    private readonly session: Pointer,
  ) {
    this.pointer = ort.create('binding', 'CreateIoBinding', session);
  }
  input(name: string, tensor: DeviceTensor): void {
    if (tensor instanceof UploadedTensor) this.uploads.add({ name, value: tensor.value }, tensor.memory);
    else this.ort.call('BindInput', this.pointer, name, own(tensor, GpuTensor).value);
  }
  output(name: string, tensor: DeviceTensor): void {
    this.outputs.push(tensor);
    const { value } = tensor instanceof UploadedTensor ? tensor : own(tensor, GpuTensor);
    this.ort.call('BindOutput', this.pointer, name, value);
  }
  async run(): Promise<void> {
    try {
      for (const { name, value } of this.uploads.takeChanged())
        this.ort.call('BindInput', this.pointer, name, value);
    } catch (error) {
      this.uploads.forget();
      throw error;
    }
    await this.ort.run(this.session, this.pointer);
  }
  close(): void {
    this.ort.release('binding', 'ReleaseIoBinding', this.pointer);
  }
}

class GpuSession implements Session {
  constructor(
    private readonly ort: OrtLibrary,
    readonly pointer: Pointer,
  ) {}
  bind(): Binding {
    return new GpuBinding(this.ort, this.pointer);
  }
  close(): void {
    this.ort.release('session', 'ReleaseSession', this.pointer);
  }
}

/** Each session reads the weights' file beside its graph by itself. */
const WEIGHTS: Weights = { close: () => {} };

export class WebgpuDevice implements Device, OwnMemory {
  readonly provider = 'webgpu';
  readonly flavour = 'gpu';
  readonly own = this;
  readonly sharesWeights = false;
  readonly addressableBytes = null;
  /** For the processor's kernels, which are not used. */
  preciseInt8 = false;
  /** Allocates GPU memory; an allocator belongs to a session. */
  private gpu: { session: GpuSession; memory: Pointer; allocator: Pointer } | null = null;
  private readonly env: Pointer;
  private readonly host_: Pointer;

  private constructor(
    private readonly ort: OrtLibrary,
    threads: number,
  ) {
    this.env = createEnv(ort, threads);
    this.host_ = ort.create('memory', 'CreateCpuMemoryInfo', 1, 0);
  }

  /**
   * @param threads for the parts that run on the processor.
   * @throws OrtError if WebGPU finds no usable GPU, or it adds incorrectly.
   */
  static async open(ort: OrtLibrary, threads: number): Promise<WebgpuDevice> {
    const device = new WebgpuDevice(ort, threads);
    try {
      await device.start();
      return device;
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  get description(): string {
    return `ONNX Runtime ${this.ort.version}, its native library on a GPU by WebGPU`;
  }

  private async start(): Promise<void> {
    const { ort } = this;
    const session = await this.session(buildSumGraph('f32'));
    const memory = ort.create('memory', 'CreateMemoryInfo', MEMORY, 0, 0, 0);
    const allocator = ort.create('allocator', 'CreateAllocator', session.pointer, memory);
    this.gpu = { session, memory, allocator };
    await this.add(session);
  }

  async hasFp16(): Promise<boolean> {
    // On a GPU without float16 the run fails, and ONNX Runtime would log that as an error.
    const session = this.open(buildSumGraph('f16'), LOG_NOTHING);
    try {
      await this.add(session);
      return true;
    } catch (error) {
      if (error instanceof OrtError) return false;
      throw error;
    } finally {
      session.close();
    }
  }

  /**
   * Computes two sums on the GPU.
   * @throws OrtError if they are wrong.
   */
  private async add(session: GpuSession): Promise<void> {
    const values = await this.host(16);
    const x = this.tensor('f32', values, 0, [2]);
    const y = this.tensor('f32', values, 8, [2]);
    const floats = new Float32Array(values.buffer, values.offset, 4);
    floats.set([1.5, -2]);
    const binding = session.bind();
    binding.input('x', x);
    binding.output('y', y);
    try {
      await binding.run();
    } finally {
      binding.close();
      for (const tensor of [x, y]) tensor.close();
    }
    if (floats[2] !== 3 || floats[3] !== -4)
      throw new OrtError('self-test', -1, `1.5 + 1.5 and -2 - 2 are ${floats[2]} and ${floats[3]} there`);
  }

  async memory(bytes: number): Promise<DeviceMemory> {
    return new UploadedMemory(NativeMemory.allocate(bytes), false);
  }

  async host(bytes: number): Promise<HostMemory> {
    return new UploadedMemory(NativeMemory.allocate(bytes), true);
  }

  async share(arrays: readonly Elements[]): Promise<SharedArrays> {
    const memories = arrays.map(
      ({ buffer, byteOffset, byteLength }) =>
        new UploadedMemory(new NativeMemory(new Uint8Array(buffer, byteOffset, byteLength)), false),
    );
    return { memories, close: () => {} };
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const uploaded = own(memory, UploadedMemory);
    const data = own(uploaded.inner, NativeMemory).from(at);
    return new UploadedTensor(uploaded, new NativeTensor(this.ort, this.host_, type, data, bytes, dims));
  }

  async allocate(type: Precision, dims: readonly number[]): Promise<DeviceTensor> {
    if (this.gpu === null) throw new Error('the device is not open');
    const { ort } = this;
    const shape = BigInt64Array.from(dims, BigInt);
    const { allocator } = this.gpu;
    return new GpuTensor(
      ort,
      ort.create('value', 'CreateTensorAsOrtValue', allocator, shape, dims.length, DataType[type]),
      type,
      dims,
    );
  }

  first(tensor: DeviceTensor, rows: number): DeviceTensor {
    if (this.gpu === null) throw new Error('the device is not open');
    const { ort } = this;
    const whole = own(tensor, GpuTensor);
    const dims = [rows, ...whole.dims.slice(1)];
    const value = ort.create(
      ...([
        'value',
        'CreateTensorWithDataAsOrtValue',
        this.gpu.memory,
        ort.data(whole.value),
        bytesOf(whole.type, dims),
      ] as const),
      ...([BigInt64Array.from(dims, BigInt), dims.length, DataType[whole.type]] as const),
    );
    return new GpuTensor(ort, value, whole.type, dims);
  }

  async weights(): Promise<Weights> {
    return WEIGHTS;
  }

  async session(model: string | Uint8Array): Promise<GpuSession> {
    return this.open(model, LOG_ERRORS);
  }

  private open(model: string | Uint8Array, logs: number): GpuSession {
    const { ort } = this;
    const options = ort.create('options', 'CreateSessionOptions');
    try {
      ort.call('DisablePerSessionThreads', options);
      ort.call('SetSessionLogSeverityLevel', options, logs);
      ort.call('SetSessionGraphOptimizationLevel', options, OPTIMIZE_ALL);
      ort.call('SessionOptionsAppendExecutionProvider', options, PROVIDER, null, null, 0);
      const pointer = ort.createSession(this.env, model, options, null);
      return new GpuSession(ort, pointer);
    } finally {
      ort.release('options', 'ReleaseSessionOptions', options);
    }
  }

  async close(): Promise<void> {
    if (this.gpu !== null) {
      this.ort.release('allocator', 'ReleaseAllocator', this.gpu.allocator);
      this.ort.release('memory', 'ReleaseMemoryInfo', this.gpu.memory);
      this.gpu.session.close();
    }
    this.ort.release('memory', 'ReleaseMemoryInfo', this.host_);
    this.ort.release('env', 'ReleaseEnv', this.env);
  }
}

/**
 * Finds a GPU that ONNX Runtime's WebGPU provider can use; Vulkan's software devices don't count.
 * @returns its vendor, such as "NVIDIA"; null = none.
 */
export function findGpu(ort: OrtLibrary): string | null {
  const env = createEnv(ort, 1);
  try {
    const gpu = ort.devices(env).find(({ type, provider }) => type === GPU && provider === WEBGPU);
    return gpu === undefined ? null : gpu.vendor || 'unknown';
  } finally {
    ort.release('env', 'ReleaseEnv', env);
  }
}
