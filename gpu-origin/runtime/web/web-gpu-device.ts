/**
 * The runtime's port on a GPU through WebAssembly, in browsers: ONNX Runtime's WebGPU provider. Keys and values lie in
 * buffers of the GPU that are bound as input and output at once; what lies in WebAssembly's memory is copied to the GPU
 * when it is bound, so it is bound again when it has changed.
 */
import { DataType, type Numbers, type Precision, type WeightEntry } from '../../model/graph-form.ts';
import {
  bytesOf,
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
import { buildSumGraph, UploadedMemory } from '../gpu-parts.ts';
import type { WasmHost } from './wasm-messages.ts';
import { openSession, shareArrays, takeMemory, WebTensor, WebWeights } from './web-device.ts';

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
    private readonly halves: () => boolean,
  ) {}

  /**
   * @param halves whether the GPU has float16; asked once it is open.
   * @throws OrtError when there is no GPU that WebGPU can use.
   */
  static async open(host: WasmHost, description: string, halves: () => boolean): Promise<WebGpuDevice> {
    const device = new WebGpuDevice(host, description, halves);
    // Never closed: the GPU's device ends with the last session, and all buffers with it.
    await device.session(buildSumGraph('f32'), null);
    return device;
  }

  async runsHalves(): Promise<boolean> {
    return this.halves();
  }

  async memory(bytes: number): Promise<DeviceMemory> {
    return this.take(bytes, false);
  }

  async host(bytes: number): Promise<HostMemory> {
    return this.take(bytes, true);
  }

  private async take(bytes: number, open: boolean): Promise<UploadedMemory> {
    return new UploadedMemory(await takeMemory(this.host_, bytes), open);
  }

  async share(arrays: readonly Numbers[]): Promise<SharedArrays> {
    const { memories, close } = await shareArrays(this.host_, arrays);
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
    const { pointer } = await this.host_.ask({ kind: 'allocate', place, bytes });
    const bound = { place, type: DataType[type], pointer, bytes, dims } as const;
    return new WebTensor(bound, null, () => this.host_.tell({ kind: 'free', place, pointer }));
  }

  first(tensor: DeviceTensor, rows: number): DeviceTensor {
    const { bound } = own(tensor, WebTensor);
    const [all = rows, ...row] = bound.dims;
    return new WebTensor({ ...bound, dims: [rows, ...row], bytes: (bound.bytes / all) * rows }, null);
  }

  async weights(path: string, _entries: readonly WeightEntry[]): Promise<Weights> {
    return new WebWeights(path);
  }

  session(model: string | Uint8Array, weights: Weights | null): Promise<Session> {
    return openSession(this.host_, model, weights);
  }

  close(): Promise<void> {
    return this.host_.end();
  }
}
