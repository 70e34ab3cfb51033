/** What the trainer needs of a runtime, over the device port: models, tensors, and memory that is used again. */
import { DataType, type Precision } from '../model/base-model.ts';
import { GraphBuilder } from '../model/onnx-proto.ts';
import {
  bytesOf,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type Elements,
  type HostMemory,
  type Session,
} from '../runtime/device.ts';
import type { Model } from './tape.ts';

/** Freed memory is given out again for tensors that need at least this share of it. */
const LEAST_USE = 0.5;
/** Sizes are multiples of a page, so that few of them occur, bytes. */
const PAGE = 4_096;

/** A value of a run. */
export class Tensor {
  /** @internal */
  constructor(
    readonly dims: readonly number[],
    /** @internal */
    readonly tensor: DeviceTensor,
    /** @internal null = it is never given out again. */
    readonly block: Block | null,
  ) {}
}

type Block =
  /** Of this machine. */
  | { kind: 'host'; memory: HostMemory; bytes: number }
  /** Of the GPU; with its shape. */
  | { kind: 'gpu'; shape: string; bytes: number };

export interface OpenModel {
  readonly model: Model;
  readonly session: Session;
}

/** Sizes of a model's symbolic dimensions. */
export type Sizes = Readonly<Record<string, number>>;

export class TensorRuntime {
  private readonly sessions: Session[] = [];
  private readonly closing: (() => void)[] = [];
  /** Freed blocks of this machine, smallest first; and the GPU's, by shape. */
  private spareHost: { memory: HostMemory; bytes: number }[] = [];
  private readonly spareGpu = new Map<string, { tensor: DeviceTensor; bytes: number }[]>();
  private readonly copies = new Map<string, OpenModel>();
  /** Bytes of all blocks, spare ones included, and at most so far; without weights. */
  bytes = 0;
  mostBytes = 0;

  /** @param turn does a run when the machine has time for it. */
  constructor(
    readonly device: Device,
    private readonly turn: <T>(run: () => Promise<T>) => Promise<T> = (run) => run(),
  ) {}

  /** @throws OrtError */
  async open(model: Model): Promise<OpenModel> {
    const session = await this.device.session(model.bytes, null);
    this.sessions.push(session);
    return { model, session };
  }

  /**
   * Runs a model. Inputs that it does not have are ignored.
   * @param sizes of its symbolic dimensions. @param host outputs that are read here; the others stay on the device.
   * @throws OrtError
   */
  async run(
    { model, session }: OpenModel,
    inputs: Readonly<Record<string, Tensor>>,
    sizes: Sizes,
    host: (output: string) => boolean,
  ): Promise<Record<string, Tensor>> {
    const binding = session.bind();
    const made: Record<string, Tensor> = {};
    try {
      for (const name of model.inputs) {
        const value = inputs[name];
        if (value === undefined) throw new Error(`input ${name} is missing`);
        binding.input(name, value.tensor);
      }
      for (const [name, { dims }] of model.outputs) {
        const shape = dims.map((size) => {
          const known = typeof size === 'number' ? size : sizes[size];
          if (known === undefined) throw new Error(`the size ${size} of ${name} is unknown`);
          return known;
        });
        const value = await this.allocate(shape, host(name));
        made[name] = value;
        binding.output(name, value.tensor);
      }
      await this.turn(() => binding.run());
      return made;
    } catch (error) {
      for (const value of Object.values(made)) this.free(value);
      throw error;
    } finally {
      binding.close();
    }
  }

  private async allocate(dims: readonly number[], host: boolean): Promise<Tensor> {
    const { own } = this.device;
    if (own === null || host) return this.allocateHost('f32', dims);
    const shape = dims.join();
    const bytes = bytesOf('f32', dims);
    const spare = this.spareGpu.get(shape)?.pop();
    if (spare === undefined) this.grow(bytes);
    return new Tensor(dims, spare?.tensor ?? (await own.allocate('f32', dims)), {
      kind: 'gpu',
      shape,
      bytes,
    });
  }

  private async allocateHost(type: DataType, dims: readonly number[]): Promise<Tensor> {
    const bytes = Math.ceil(Math.max(1, bytesOf(type, dims)) / PAGE) * PAGE;
    const at = this.spareHost.findIndex((one) => one.bytes >= bytes && bytes >= one.bytes * LEAST_USE);
    let block = at === -1 ? undefined : this.spareHost.splice(at, 1)[0];
    if (block === undefined) {
      this.release(bytes);
      block = { memory: await this.device.host(bytes), bytes };
      this.grow(bytes);
    }
    const tensor = this.device.tensor(type, block.memory, 0, dims);
    return new Tensor(dims, tensor, { kind: 'host', ...block });
  }

  /** Closes spare blocks, largest first, until as many bytes are free as will be taken: sizes change with lengths. */
  private release(bytes: number): void {
    for (let freed = 0; freed < bytes;) {
      const block = this.spareHost.pop();
      if (block === undefined) return;
      block.memory.close();
      this.bytes -= block.bytes;
      freed += block.bytes;
    }
  }

  private grow(bytes: number): void {
    this.bytes += bytes;
    this.mostBytes = Math.max(this.mostBytes, this.bytes);
  }

  /** A copy of values, in memory that is given out again when it is freed. */
  async upload(type: DataType, dims: readonly number[], values: Elements): Promise<Tensor> {
    const value = await this.allocateHost(type, dims);
    if (value.block?.kind === 'host') value.block.memory.write(0, values);
    return value;
  }

  /**
   * Values that stay until the end; read in place if the device can. A GPU holds numbers in its own memory, in a
   * precision.
   */
  async place(
    type: DataType,
    dims: readonly number[],
    values: Elements,
    precision: Precision = 'f32',
  ): Promise<Tensor> {
    const { device } = this;
    if (device.own !== null && type === 'f32') return this.placeOnGpu(dims, values, precision);
    const { memories, close } = await device.share([values]);
    const tensor = device.tensor(type, memories[0] as DeviceMemory, 0, dims);
    this.closing.push(() => {
      tensor.close();
      close();
    });
    return new Tensor(dims, tensor, null);
  }

  /** By a run: only runs copy into a GPU's memory. */
  private async placeOnGpu(dims: readonly number[], values: Elements, precision: Precision): Promise<Tensor> {
    const { own } = this.device;
    const key = `${precision}.${dims.length}`;
    const copy = this.copies.get(key) ?? (await this.open(copyModel(precision, dims.length)));
    this.copies.set(key, copy);
    const from = await this.upload('f32', dims, values);
    const to = await own!.allocate(precision, dims);
    const binding = copy.session.bind();
    try {
      binding.input('x', from.tensor);
      binding.output('y', to);
      await binding.run();
    } finally {
      binding.close();
      this.free(from);
    }
    this.closing.push(() => to.close());
    return new Tensor(dims, to, null);
  }

  /** A view of a value that lies in this machine's memory; valid until it is freed. */
  read(value: Tensor): Float32Array {
    if (value.block?.kind !== 'host') throw new Error('the value lies on the GPU');
    const { memory } = value.block;
    return new Float32Array(
      memory.buffer,
      memory.offset,
      value.dims.reduce((a, b) => a * b, 1),
    );
  }

  /** Nobody uses it any more. */
  free(value: Tensor | undefined): void {
    if (value === undefined || value.block === null) return;
    const { block, tensor } = value;
    if (block.kind === 'gpu') {
      const list = this.spareGpu.get(block.shape) ?? [];
      list.push({ tensor, bytes: block.bytes });
      this.spareGpu.set(block.shape, list);
      return;
    }
    tensor.close();
    const { memory, bytes } = block;
    const at = this.spareHost.findIndex((one) => one.bytes >= bytes);
    this.spareHost.splice(at === -1 ? this.spareHost.length : at, 0, { memory, bytes });
  }

  /** Closes all spare memory. */
  private trim(): void {
    for (const { memory, bytes } of this.spareHost.splice(0)) {
      memory.close();
      this.bytes -= bytes;
    }
    for (const list of this.spareGpu.values())
      for (const { tensor, bytes } of list) {
        tensor.close();
        this.bytes -= bytes;
      }
    this.spareGpu.clear();
  }

  /** Everything that was made here, but not the device. */
  close(): void {
    this.trim();
    for (const close of this.closing.splice(0).reverse()) close();
    for (const session of this.sessions.splice(0)) session.close();
  }
}

/** `y` = `x` in a precision. */
function copyModel(precision: Precision, rank: number): Model {
  const g = new GraphBuilder();
  const dims = Array.from({ length: rank }, (_, axis) => `D${axis}`);
  g.input('x', 'f32', dims);
  if (precision === 'f32') g.node('Identity', ['x'], 'y');
  else g.node('Cast', ['x'], 'y', { to: DataType.f16 });
  g.output('y', precision, dims);
  return { bytes: g.build('copy'), inputs: ['x'], outputs: new Map([['y', { type: precision, dims }]]) };
}
