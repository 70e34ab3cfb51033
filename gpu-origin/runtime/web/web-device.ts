/** The runtime's port over ONNX Runtime in WebAssembly, on the processor or, in browsers, on a GPU. */
import { DataType, type Precision, type WeightEntry } from '../../model/base-model.ts';
import {
  type Binding,
  bytesOf,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type Elements,
  type HostMemory,
  own,
  type OwnMemory,
  type Session,
  type SharedArrays,
  tensorBytes,
  type Weights,
} from '../device.ts';
import { buildSumGraph, UploadedMemory, Uploads } from '../gpu-parts.ts';
import type { BoundTensor, WasmHost } from './wasm-api.ts';

/** Limit of 32-bit WebAssembly; onnxruntime-web may grow to it. */
const ADDRESSABLE = 4 * 1024 ** 3;
/** Alignment of parts of one allocation, bytes. */
const ALIGNMENT = 64;

/** `bytes` from `offset` in the module's memory. */
class WebMemory implements HostMemory {
  private readonly view: Uint8Array<SharedArrayBuffer>;
  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly offset: number,
    readonly bytes: number,
    private readonly free: () => void,
  ) {
    this.view = new Uint8Array(buffer, offset, bytes);
  }
  write(at: number, values: Elements): void {
    this.view.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
  }
  clear(at: number, bytes: number): void {
    this.view.fill(0, at, at + bytes);
  }
  copy(from: number, to: number, bytes: number): void {
    this.view.copyWithin(to, from, from + bytes);
  }
  close(): void {
    this.free();
  }
}

/** Describes a tensor: the thread creates it for each binding. */
class WebTensor implements DeviceTensor {
  constructor(
    readonly bound: Omit<BoundTensor, 'name'>,
    /** Memory that is copied to a GPU; null = it is read in place. */
    readonly uploaded: UploadedMemory | null = null,
    /** Frees its own memory. */
    private readonly free: () => void = () => {},
  ) {}
  close(): void {
    this.free();
  }
}

class WebBinding implements Binding {
  private readonly id: number;
  private readonly inputs: BoundTensor[] = [];
  private readonly outputs: BoundTensor[] = [];
  private readonly uploads = new Uploads<BoundTensor>();
  private sent = false;
  constructor(
    private readonly thread: WasmHost,
    private readonly session: number,
  ) {
    this.id = thread.nextId();
  }
  input(name: string, tensor: DeviceTensor): void {
    const { bound, uploaded } = own(tensor, WebTensor);
    const input = { name, ...bound };
    this.inputs.push(input);
    if (uploaded !== null) this.uploads.add(input, uploaded);
  }
  output(name: string, tensor: DeviceTensor): void {
    this.outputs.push({ name, ...own(tensor, WebTensor).bound });
  }
  async run(): Promise<void> {
    const { session, inputs, outputs } = this;
    const changed = this.uploads.takeChanged();
    const bindings = this.sent ? null : { session, inputs, outputs };
    this.sent = true;
    try {
      await this.thread.ask({ kind: 'run', binding: this.id, bindings, changed });
    } catch (error) {
      // Some of it may not be bound: the next run starts with another binding.
      this.uploads.forget();
      this.close();
      throw error;
    }
  }
  close(): void {
    if (this.sent) this.thread.tell({ kind: 'unbind', binding: this.id });
    this.sent = false;
  }
}

class WebSession implements Session {
  constructor(
    private readonly thread: WasmHost,
    private readonly id: number,
  ) {}
  bind(): Binding {
    return new WebBinding(this.thread, this.id);
  }
  close(): void {
    this.thread.tell({ kind: 'close', session: this.id });
  }
}

/**
 * Allocates WebAssembly's memory.
 * @throws OrtError if there is not enough.
 */
async function takeMemory(host: WasmHost, bytes: number): Promise<WebMemory> {
  const place = 'heap';
  const { pointer, memory } = await host.ask({ kind: 'allocate', place, bytes });
  return new WebMemory(memory, pointer, bytes, () => host.tell({ kind: 'free', place, pointer }));
}

/** Copies of the arrays, side by side in one allocation. */
async function shareArrays(
  host: WasmHost,
  arrays: readonly Elements[],
): Promise<{ memories: readonly WebMemory[]; close(): void }> {
  const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
  const whole = await takeMemory(
    host,
    arrays.reduce((sum, { byteLength }) => sum + aligned(byteLength), 0),
  );
  let at = whole.offset;
  const memories = arrays.map((array) => {
    const memory = new WebMemory(host.memory, at, array.byteLength, () => {});
    memory.write(0, array);
    at += aligned(array.byteLength);
    return memory;
  });
  return { memories, close: () => whole.close() };
}

class WebWeights implements Weights {
  constructor(readonly path: string) {}
  close(): void {
    // Each session has its own.
  }
}

/** Shared by both devices: each session reads the weights' file beside its graph by itself. */
abstract class WasmDevice {
  constructor(protected readonly wasm: WasmHost) {}

  async weights(path: string, _entries: readonly WeightEntry[]): Promise<Weights> {
    return new WebWeights(path);
  }

  /** @throws OrtError */
  async session(model: string | Uint8Array, weights: Weights | null): Promise<Session> {
    const session = this.wasm.nextId();
    const path = weights === null ? null : own(weights, WebWeights).path;
    await this.wasm.ask({ kind: 'open', session, model, weights: path });
    return new WebSession(this.wasm, session);
  }

  close(): Promise<void> {
    return this.wasm.end();
  }
}

/** On the processor: in a separate thread, whose memory it shares, or in the same one. */
export class WebDevice extends WasmDevice implements Device {
  readonly provider = 'web';
  readonly flavour = 'cpu';
  readonly own = null;
  readonly sharesWeights = false;
  readonly addressableBytes = ADDRESSABLE;
  /** WebAssembly has one int8 kernel, and sums in 32 bits. */
  preciseInt8 = false;

  constructor(
    wasm: WasmHost,
    readonly description: string,
  ) {
    super(wasm);
  }

  memory(bytes: number): Promise<DeviceMemory> {
    return this.host(bytes);
  }

  host(bytes: number): Promise<HostMemory> {
    return takeMemory(this.wasm, bytes);
  }

  share(arrays: readonly Elements[]): Promise<SharedArrays> {
    return shareArrays(this.wasm, arrays);
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const pointer = own(memory, WebMemory).offset + at;
    return new WebTensor({ place: 'heap', type: DataType[type], pointer, bytes, dims });
  }
}

/**
 * The runtime's port on a GPU through WebAssembly, in browsers: ONNX Runtime's WebGPU provider. Keys and
 * values are in GPU buffers that are bound both as input and as output. WebAssembly's memory is copied to the
 * GPU when it is bound, so it is bound again after each change.
 */
export class WebGpuDevice extends WasmDevice implements Device, OwnMemory {
  readonly provider = 'webgpu';
  readonly flavour = 'gpu';
  readonly own = this;
  readonly sharesWeights = false;
  readonly addressableBytes = null;
  /** For the processor's kernels, which are not used. */
  preciseInt8 = false;

  private constructor(
    wasm: WasmHost,
    readonly description: string,
    private readonly fp16: () => boolean,
  ) {
    super(wasm);
  }

  /**
   * @param fp16 whether the GPU supports float16; called once it is open.
   * @throws OrtError if WebGPU finds no usable GPU.
   */
  static async open(host: WasmHost, description: string, fp16: () => boolean): Promise<WebGpuDevice> {
    const device = new WebGpuDevice(host, description, fp16);
    // Never closed: the GPU's device, and all its buffers, end with the last session.
    await device.session(buildSumGraph('f32'), null);
    return device;
  }

  async hasFp16(): Promise<boolean> {
    return this.fp16();
  }

  async memory(bytes: number): Promise<DeviceMemory> {
    return this.take(bytes, false);
  }

  async host(bytes: number): Promise<HostMemory> {
    return this.take(bytes, true);
  }

  private async take(bytes: number, open: boolean): Promise<UploadedMemory> {
    return new UploadedMemory(await takeMemory(this.wasm, bytes), open);
  }

  async share(arrays: readonly Elements[]): Promise<SharedArrays> {
    const { memories, close } = await shareArrays(this.wasm, arrays);
    return { memories: memories.map((memory) => new UploadedMemory(memory, false)), close };
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const uploaded = own(memory, UploadedMemory);
    const pointer = uploaded.offset + at;
    return new WebTensor({ place: 'heap', type: DataType[type], pointer, bytes, dims }, uploaded);
  }

  async allocate(type: Precision, dims: readonly number[]): Promise<DeviceTensor> {
    const place = 'gpu';
    const bytes = bytesOf(type, dims);
    const { pointer } = await this.wasm.ask({ kind: 'allocate', place, bytes });
    const bound = { place, type: DataType[type], pointer, bytes, dims } as const;
    return new WebTensor(bound, null, () => this.wasm.tell({ kind: 'free', place, pointer }));
  }

  first(tensor: DeviceTensor, rows: number): DeviceTensor {
    const { bound } = own(tensor, WebTensor);
    const [all = rows, ...row] = bound.dims;
    return new WebTensor({ ...bound, dims: [rows, ...row], bytes: (bound.bytes / all) * rows }, null);
  }
}
