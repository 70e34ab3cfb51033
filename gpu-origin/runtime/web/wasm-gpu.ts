/** The GPU of a module with the WebGPU provider: its device, and buffers that tensors lie in. */
import { OrtError } from '../device.ts';
import type { GpuBuffer, GpuDevice, WebgpuModule } from './wasm-module.ts';

/** GPUBufferUsage: STORAGE, COPY_SRC and COPY_DST, as ONNX Runtime's own. */
const USAGE = 0x80 | 0x04 | 0x08;
/** Sizes are multiples of this, bytes: ONNX Runtime copies so many at once. */
const ALIGNMENT = 16;
/** ORT_FAIL of OrtErrorCode. */
const FAIL = 1;

export class WasmGpu {
  /** null = no session has opened one yet. */
  private device: GpuDevice | null = null;
  /** Any open session: buffers are made known through one, and all of them share the device. */
  private readonly sessions = new Set<number>();
  private readonly buffers = new Map<number, GpuBuffer>();
  /** Why the device is gone, once it is: calls that wait for it may then wait for ever. */
  readonly lost: Promise<string>;

  constructor(private readonly module: WebgpuModule) {
    module.asyncInit?.();
    this.lost = new Promise((resolve) =>
      module.webgpuInit((device) => {
        // Each session tells of the same one.
        if (device === this.device) return;
        this.device = device;
        void device.lost.then(({ reason, message }) => resolve(message || reason));
      }),
    );
  }

  /** Once a session is open. */
  get runsHalves(): boolean {
    return this.device?.features.has('shader-f16') ?? false;
  }

  /** Names the provider in a session's options. @returns ONNX Runtime's code. */
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

  /** @returns what a tensor over all of it has as its data. @throws OrtError */
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
