/** Shared by both GPU devices: memory that is copied to the GPU, and a graph to test it. */
import { GraphBuilder } from '../model/onnx-proto.ts';
import { DataType, type Precision } from '../model/base-model.ts';
import type { Elements, HostMemory } from './device.ts';

/** Host memory that is copied to the GPU when it is bound; tracks its last write. */
export class UploadedMemory implements HostMemory {
  private writes = 0;
  constructor(
    /** The memory itself. */
    readonly inner: HostMemory,
    /** It is also written through its buffer, where writes are not tracked. */
    private readonly open: boolean,
  ) {}
  /** Changes whenever its content may have changed. */
  get version(): number {
    return this.open ? ++this.writes : this.writes;
  }
  get buffer(): ArrayBufferLike {
    return this.inner.buffer;
  }
  get offset(): number {
    return this.inner.offset;
  }
  get bytes(): number {
    return this.inner.bytes;
  }
  write(at: number, values: Elements): void {
    this.writes++;
    this.inner.write(at, values);
  }
  clear(at: number, bytes: number): void {
    this.writes++;
    this.inner.clear(at, bytes);
  }
  copy(from: number, to: number, bytes: number): void {
    this.writes++;
    this.inner.copy(from, to, bytes);
  }
  close(): void {
    this.inner.close();
  }
}

/** Inputs of a binding in {@link UploadedMemory}. */
export class Uploads<Input> {
  private readonly all: { input: Input; memory: UploadedMemory; version: number }[] = [];

  add(input: Input, memory: UploadedMemory): void {
    this.all.push({ input, memory, version: -1 });
  }

  /** @returns inputs that may have changed since the last call; initially all. */
  takeChanged(): Input[] {
    const changed: Input[] = [];
    for (const one of this.all) {
      const { version } = one.memory;
      if (version !== one.version) changed.push(one.input);
      one.version = version;
    }
    return changed;
  }

  /** The returned inputs may not have been bound, so all count as changed. */
  forget(): void {
    for (const one of this.all) one.version = -1;
  }
}

/** `y` = `x` + `x`, of any length; float32, added in the given precision. */
export function buildSumGraph(precision: Precision): Uint8Array {
  const g = new GraphBuilder();
  g.input('x', 'f32', ['N']);
  if (precision === 'f16') {
    g.node('Cast', ['x'], 'half', { to: DataType.f16 });
    g.node('Add', ['half', 'half'], 'sum');
    g.node('Cast', ['sum'], 'y', { to: DataType.f32 });
  } else g.node('Add', ['x', 'x'], 'y');
  g.output('y', 'f32', ['N']);
  return g.build('sum');
}
