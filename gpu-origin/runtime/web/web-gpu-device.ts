/**
 * The runtime's port on a GPU through WebAssembly, in browsers: ONNX Runtime's WebGPU provider. Keys and values lie in
 * buffers of the GPU that are bound as input and output at once; what lies in WebAssembly's memory is copied to the GPU
 * when it is bound, so it is bound again when it has changed.
 */
import { DataType, type WeightEntry } from '../../model/graph-names.ts';
import {
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
import { buildSumGraph, floatBytes, UploadedMemory } from '../gpu-parts.ts';
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
  ) {}

  /** @throws OrtError when there is no GPU that WebGPU can use. */
  static async open(host: WasmHost, description: string): Promise<WebGpuDevice> {
    const device = new WebGpuDevice(host, description);
    // Never closed: the GPU's device ends with the last session, and all buffers with it.
    await device.session(buildSumGraph(), null);
    return device;
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

  async share(arrays: readonly Float32Array<ArrayBuffer>[]): Promise<SharedArrays> {
    const { memories, close } = await shareArrays(this.host_, arrays);
    return { memories: memories.map((memory) => new UploadedMemory(memory, false)), close };
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const uploaded = own(memory, UploadedMemory);
    const pointer = uploaded.offset + at;
    return new WebTensor({ place: 'heap', type: DataType[type], pointer, bytes, dims }, uploaded);
  }

  async allocate(dims: readonly number[]): Promise<DeviceTensor> {
    const place = 'gpu';
    const bytes = floatBytes(dims);
    const { pointer } = await this.host_.ask({ kind: 'allocate', place, bytes });
    const bound = { place, type: DataType.f32, pointer, bytes, dims } as const;
    return new WebTensor(bound, null, () => this.host_.tell({ kind: 'free', place, pointer }));
  }

  first(tensor: DeviceTensor, rows: number): DeviceTensor {
    const { bound } = own(tensor, WebTensor);
    const dims = [rows, ...bound.dims.slice(1)];
    return new WebTensor({ ...bound, dims, bytes: floatBytes(dims) }, null);
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
