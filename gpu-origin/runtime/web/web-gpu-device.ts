/**
 * The runtime's port on a GPU through WebAssembly, in browsers: ONNX Runtime's WebGPU provider. Keys and values lie in
 * buffers of the GPU that are bound as input and output at once; what lies in WebAssembly's memory is copied to the GPU
 * when it is bound, so it is bound again when it has changed.
 */
import { DataType, type WeightEntry } from '../../model/graph-names.ts';
import { GraphBuilder } from '../../model/onnx-proto.ts';
import {
  type Binding,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type HostMemory,
  own,
  type OwnMemory,
  type Session,
  type SharedArrays,
  tensorBytes,
  type Weights,
} from '../device.ts';
import type { BoundTensor, WasmHost } from './wasm-messages.ts';
import { ALIGNMENT, WebMemory, WebWeights } from './web-device.ts';

/** In WebAssembly's memory; knows when it was written last. */
class UploadedMemory extends WebMemory {
  private writes = 0;
  constructor(
    place: { buffer: SharedArrayBuffer; offset: number; bytes: number },
    free: () => void,
    /** It is written through its buffer too, where nobody counts. */
    private readonly open: boolean,
  ) {
    super(place.buffer, place.offset, place.bytes, free);
  }
  /** Another number whenever its content may be another one. */
  get version(): number {
    return this.open ? ++this.writes : this.writes;
  }
  override write(at: number, values: Float32Array): void {
    this.writes++;
    super.write(at, values);
  }
  override clear(at: number, bytes: number): void {
    this.writes++;
    super.clear(at, bytes);
  }
  override copy(from: number, to: number, bytes: number): void {
    this.writes++;
    super.copy(from, to, bytes);
  }
}

/** @property memory null = the GPU's. */
class GpuTensor implements DeviceTensor {
  constructor(
    readonly bound: Omit<BoundTensor, 'name'>,
    readonly memory: UploadedMemory | null,
    private readonly free: () => void = () => {},
  ) {}
  close(): void {
    this.free();
  }
}

class GpuBinding implements Binding {
  private readonly id: number;
  private readonly inputs: BoundTensor[] = [];
  private readonly outputs: BoundTensor[] = [];
  private readonly uploaded: { tensor: BoundTensor; memory: UploadedMemory; version: number }[] = [];
  private sent = false;
  constructor(
    private readonly host: WasmHost,
    private readonly session: number,
  ) {
    this.id = host.nextId();
  }
  input(name: string, tensor: DeviceTensor): void {
    const { bound, memory } = own(tensor, GpuTensor);
    const input = { name, ...bound };
    this.inputs.push(input);
    if (memory !== null) this.uploaded.push({ tensor: input, memory, version: -1 });
  }
  output(name: string, tensor: DeviceTensor): void {
    this.outputs.push({ name, ...own(tensor, GpuTensor).bound });
  }
  async run(): Promise<void> {
    const { session, inputs, outputs } = this;
    const changed: BoundTensor[] = [];
    for (const one of this.uploaded) {
      const { version } = one.memory;
      if (version !== one.version) changed.push(one.tensor);
      one.version = version;
    }
    const bindings = this.sent ? null : { session, inputs, outputs };
    this.sent = true;
    await this.host.ask({ kind: 'run', binding: this.id, bindings, changed });
  }
  close(): void {
    if (this.sent) this.host.tell({ kind: 'unbind', binding: this.id });
  }
}

class GpuSession implements Session {
  constructor(
    private readonly host: WasmHost,
    private readonly id: number,
  ) {}
  bind(): Binding {
    return new GpuBinding(this.host, this.id);
  }
  close(): void {
    this.host.tell({ kind: 'close', session: this.id });
  }
}

export class WebGpuDevice implements Device, OwnMemory {
  readonly provider = 'webgpu';
  readonly flavour = 'gpu';
  readonly own = this;
  readonly sharesWeights = false;
  readonly addressableBytes = null;
  /** Of the processor's kernels, which are not used. */
  preciseInt8 = false;

  private constructor(
    private readonly host_: WasmHost,
    readonly description: string,
  ) {}

  /** @throws OrtError when there is no GPU that WebGPU can use. */
  static async open(host: WasmHost, description: string): Promise<WebGpuDevice> {
    const device = new WebGpuDevice(host, description);
    // Never closed: the GPU's device ends with the last session, and all buffers with it.
    const g = new GraphBuilder();
    g.input('x', 'f32', ['N']);
    g.node('Add', ['x', 'x'], 'y');
    g.output('y', 'f32', ['N']);
    await device.session(g.build('open'), null);
    return device;
  }

  async memory(bytes: number): Promise<DeviceMemory> {
    return this.take(bytes, false);
  }

  async host(bytes: number): Promise<HostMemory> {
    return this.take(bytes, true);
  }

  private async take(bytes: number, open: boolean): Promise<UploadedMemory> {
    const place = 'heap';
    const { pointer, memory } = await this.host_.ask({ kind: 'allocate', place, bytes });
    const free = (): void => this.host_.tell({ kind: 'free', place, pointer });
    return new UploadedMemory({ buffer: memory, offset: pointer, bytes }, free, open);
  }

  async share(arrays: readonly Float32Array<ArrayBuffer>[]): Promise<SharedArrays> {
    const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    const whole = await this.take(
      arrays.reduce((sum, { byteLength }) => sum + aligned(byteLength), 0),
      false,
    );
    let offset = whole.offset;
    const memories = arrays.map((array) => {
      const { byteLength: bytes } = array;
      const memory = new UploadedMemory({ buffer: this.host_.memory, offset, bytes }, () => {}, false);
      memory.write(0, array);
      offset += aligned(bytes);
      return memory;
    });
    return { memories, close: () => whole.close() };
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const uploaded = own(memory, UploadedMemory);
    const pointer = uploaded.offset + at;
    return new GpuTensor({ place: 'heap', type: DataType[type], pointer, bytes, dims }, uploaded);
  }

  async allocate(dims: readonly number[]): Promise<DeviceTensor> {
    const place = 'gpu';
    const bytes = floatBytes(dims);
    const { pointer } = await this.host_.ask({ kind: 'allocate', place, bytes });
    const bound = { place, type: DataType.f32, pointer, bytes, dims } as const;
    return new GpuTensor(bound, null, () => this.host_.tell({ kind: 'free', place, pointer }));
  }

  first(tensor: DeviceTensor, rows: number): DeviceTensor {
    const { bound } = own(tensor, GpuTensor);
    const dims = [rows, ...bound.dims.slice(1)];
    return new GpuTensor({ ...bound, dims, bytes: floatBytes(dims) }, null);
  }

  async weights(path: string, _entries: readonly WeightEntry[]): Promise<Weights> {
    return new WebWeights(path);
  }

  async session(model: string | Uint8Array, weights: Weights | null): Promise<Session> {
    const session = this.host_.nextId();
    const path = weights === null ? null : own(weights, WebWeights).path;
    await this.host_.ask({ kind: 'open', session, model, weights: path });
    return new GpuSession(this.host_, session);
  }

  close(): Promise<void> {
    return this.host_.end();
  }
}

const floatBytes = (dims: readonly number[]): number =>
  dims.reduce((product, size) => product * size, Float32Array.BYTES_PER_ELEMENT);
