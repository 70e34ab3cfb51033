/** Tensors that a graph has of itself: its weights in the file beside it, small constants, and both in a precision. */
import { inPrecision, type Precision } from './precision.ts';
import type { WeightEntry } from './graph-names.ts';
import { DataType, type GraphBuilder } from './onnx-proto.ts';

export class GraphTensors {
  private readonly weights: ReadonlyMap<string, WeightEntry>;
  private readonly casts = new Set<string>();

  /** @param file that the weights lie in. */
  constructor(
    private readonly g: GraphBuilder,
    weights: readonly WeightEntry[],
    private readonly file: string,
  ) {
    this.weights = new Map(weights.map((entry) => [entry.name, entry]));
  }

  has(name: string): boolean {
    return this.weights.has(name);
  }

  /** A weight as it was prepared. */
  weight(name: string): string {
    const entry = this.weights.get(name);
    if (entry === undefined) throw new Error(`weight ${name} was not prepared`);
    return this.g.external({ ...entry, file: this.file });
  }

  /** A weight of float32 in a precision: ONNX Runtime casts it once, as it opens the session. */
  numbers(name: string, precision: Precision): string {
    return this.cast(this.weight(name), 'f32', precision);
  }

  /** Whatever has that name; casting it twice is free. */
  cast(x: string, from: Precision, to: Precision): string {
    if (from === to) return x;
    const name = `${x}.${to}`;
    if (!this.casts.has(name)) this.g.node('Cast', [x], name, { to: DataType[to] });
    this.casts.add(name);
    return name;
  }

  constant(
    name: string,
    precision: Precision,
    dims: readonly number[],
    values: Float32Array<ArrayBuffer>,
  ): string {
    const own = precision === 'f32' ? name : `${name}.${precision}`;
    return this.g.constant(own, precision, dims, inPrecision(precision, values));
  }

  /** @param what the sizes are: `shape` or `split`. */
  sizes(what: string, sizes: readonly number[]): string {
    const values = BigInt64Array.from(sizes, BigInt);
    return this.g.constant(`${what}.${sizes.join('-')}`, 'i64', [sizes.length], values);
  }
}
