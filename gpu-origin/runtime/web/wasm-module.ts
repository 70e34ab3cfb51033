/**
 * onnxruntime-web's raw WebAssembly module: the only file that knows its exports. They are ONNX Runtime's,
 * but undocumented (js/web/lib/wasm/wasm-types.ts and onnxruntime/wasm/api.cc of the same release), so
 * package.json pins the exact version. The JavaScript API on top has no I/O binding and copies keys and
 * values at every step.
 */
import { OrtError } from '../device.ts';

/** The part of WebGPU that we use; TypeScript's own types need the DOM library. */
export interface GpuBuffer {
  destroy(): void;
}
export interface GpuDevice {
  createBuffer(descriptor: { size: number; usage: number }): GpuBuffer;
  pushErrorScope(filter: 'out-of-memory'): void;
  readonly features: { has(feature: string): boolean };
  popErrorScope(): Promise<{ message: string } | null>;
  readonly lost: Promise<{ reason: string; message: string }>;
}

/** Source of external data; the part of Uint8Array that is used. */
export interface ExternalData {
  readonly byteLength: number;
  subarray(begin: number, end: number): Uint8Array;
}

export interface WasmModule {
  /** All memory as of its last growth in this thread; `getValue` refreshes it. */
  readonly HEAPU8: Uint8Array<SharedArrayBuffer>;
  getValue(pointer: number, type: 'i8' | 'i32' | '*'): number;
  setValue(pointer: number, value: number, type: 'i32' | '*'): void;
  lengthBytesUTF8(text: string): number;
  stringToUTF8(text: string, pointer: number, bytes: number): void;
  UTF8ToString(pointer: number): string;
  stackSave(): number;
  stackRestore(stack: number): void;
  stackAlloc(bytes: number): number;
  /** @returns 0 if there is no memory left. */
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  mountExternalData(path: string, data: ExternalData): void;
  unmountExternalData(): void;
  _OrtInit(threads: number, logLevel: number): number;
  _OrtGetLastError(code: number, message: number): number;
  _OrtCreateSessionOptions(
    optimization: number,
    memoryArena: boolean,
    memoryPattern: boolean,
    executionMode: number,
    profiling: boolean,
    profilePrefix: number,
    logId: number,
    logLevel: number,
    logVerbosity: number,
    optimizedModelPath: number,
  ): number;
  _OrtAddSessionConfigEntry(options: number, key: number, value: number): number;
  /** @param keys pointers to names of options. */
  _OrtAppendExecutionProvider(
    options: number,
    name: number,
    keys: number,
    values: number,
    count: number,
  ): number | Promise<number>;
  _OrtReleaseSessionOptions(options: number): number;
  _OrtCreateSession(model: number, bytes: number, options: number): number | Promise<number>;
  _OrtReleaseSession(session: number): number;
  _OrtCreateTensor(
    type: number,
    data: number,
    bytes: number,
    dims: number,
    rank: number,
    location: number,
  ): number;
  _OrtReleaseTensor(tensor: number): number;
  _OrtCreateBinding(session: number): number;
  _OrtBindInput(binding: number, name: number, tensor: number): number | Promise<number>;
  _OrtBindOutput(binding: number, name: number, tensor: number, location: number): number;
  _OrtReleaseBinding(binding: number): void;
  _OrtRunWithBinding(
    session: number,
    binding: number,
    outputCount: number,
    outputs: number,
    runOptions: number,
  ): number | Promise<number>;
}

/** Additional exports of a module with the WebGPU provider. */
export interface WebgpuModule extends WasmModule {
  /** Call first: from then on, calls that wait for the GPU return promises. */
  asyncInit?(): void;
  /** @param onDevice called with the device that the first session opened. */
  webgpuInit(onDevice: (device: GpuDevice) => void): void;
  /** Call before creating the options of each session. */
  webgpuRegisterDevice(): unknown;
  /** Call after opening each session; 0 if that failed. */
  webgpuOnCreateSession(session: number): void;
  webgpuOnReleaseSession(session: number): void;
  /** @returns the tensor's data pointer. */
  webgpuRegisterBuffer(buffer: GpuBuffer, session: number): number;
  webgpuUnregisterBuffer(buffer: GpuBuffer): void;
}

/**
 * The module's export.
 * @param module.numThreads it starts workers of its own for all but one.
 */
export type WasmFactory = (module: { numThreads: number }) => Promise<WasmModule>;
export type WebgpuFactory = (module: { numThreads: number }) => Promise<WebgpuModule>;

/** GPUBufferUsage: STORAGE, COPY_SRC and COPY_DST, like ONNX Runtime's own buffers. */
const USAGE = 0x80 | 0x04 | 0x08;
/** Sizes are multiples of this, bytes: the unit of ONNX Runtime's copies. */
const ALIGNMENT = 16;
/** ORT_FAIL of OrtErrorCode. */
const FAIL = 1;

/** The GPU of a module with the WebGPU provider: its device, and buffers for tensors. */
export class WasmGpu {
  /** null = no session has opened one yet. */
  private device: GpuDevice | null = null;
  /** Open sessions. Buffers are registered through any of them; all share the device. */
  private readonly sessions = new Set<number>();
  private readonly buffers = new Map<number, GpuBuffer>();
  /** Resolves with the reason if the device is lost; calls that wait for it may then never return. */
  readonly lost: Promise<string>;

  constructor(private readonly module: WebgpuModule) {
    module.asyncInit?.();
    this.lost = new Promise((resolve) =>
      module.webgpuInit((device) => {
        // Each session reports the same one.
        if (device === this.device) return;
        this.device = device;
        void device.lost.then(({ reason, message }) => resolve(message || reason));
      }),
    );
  }

  /** Requires an open session. */
  get hasFp16(): boolean {
    return this.device?.features.has('shader-f16') ?? false;
  }

  /**
   * Adds the provider to a session's options.
   * @returns ONNX Runtime's code.
   */
  provide(options: number, name: number): number | Promise<number> {
    this.module.webgpuRegisterDevice();
    return this.module._OrtAppendExecutionProvider(options, name, 0, 0, 0);
  }

  /** @param session 0 = it failed. */
  opened(session: number): void {
    this.module.webgpuOnCreateSession(session);
    if (session !== 0) this.sessions.add(session);
  }

  closed(session: number): void {
    this.module.webgpuOnReleaseSession(session);
    this.sessions.delete(session);
  }

  /**
   * @returns the data pointer of a tensor over the whole buffer.
   * @throws OrtError
   */
  async allocate(bytes: number): Promise<number> {
    const [session] = this.sessions;
    if (this.device === null || session === undefined) throw new Error('no session is open');
    this.device.pushErrorScope('out-of-memory');
    const size = Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
    const buffer = this.device.createBuffer({ size, usage: USAGE });
    const error = await this.device.popErrorScope();
    if (error !== null)
      throw new OrtError('createBuffer', FAIL, `the GPU has no ${bytes.toLocaleString('en')} bytes left`);
    const pointer = this.module.webgpuRegisterBuffer(buffer, session);
    this.buffers.set(pointer, buffer);
    return pointer;
  }

  free(pointer: number): void {
    const buffer = this.buffers.get(pointer);
    if (buffer === undefined) return;
    this.buffers.delete(pointer);
    this.module.webgpuUnregisterBuffer(buffer);
    buffer.destroy();
  }
}
