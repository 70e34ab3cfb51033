/** What the layers of a graph are made of: tensors of its own, norms, products. */
import type { LlamaConfig } from './base-model.ts';
import { DataType, type GraphFlavour, inPrecision, type Precision, type WeightEntry } from './graph-form.ts';
import { type GraphBuilder, MICROSOFT } from './onnx-proto.ts';
import { FINAL_NORM, foldsGains, formatOf, gainName, type WeightFormat } from './prepare-weights.ts';
import { BLOCK } from './quantize.ts';

/** Tensors that a graph has of itself: its weights in the file beside it, small constants, and both in a precision. */
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

/** The norms of a layer, with the gains that do not lie in the linears behind them. */
export class GraphNorms {
  constructor(
    private readonly params: {
      g: GraphBuilder;
      config: LlamaConfig;
      tensors: GraphTensors;
      /** Of what linears give. */
      precision: Precision;
      /** Of what layers add to. */
      streamPrecision: Precision;
    },
  ) {}

  /** The gain of the norm before a layer's attention or MLP, or of the last one: ones where it lies in the linears. */
  private gain(layer: number, path: string): string {
    const { config, tensors, streamPrecision } = this.params;
    const { hidden } = config;
    if (foldsGains(config))
      return tensors.constant(`ones.${hidden}`, streamPrecision, [hidden], new Float32Array(hidden).fill(1));
    return tensors.numbers(layer === config.layers ? FINAL_NORM : gainName(layer, path), streamPrecision);
  }

  private norm(x: string, gain: string, output: string): string {
    const { g, config } = this.params;
    const attributes = { axis: -1, epsilon: { float: config.rmsEpsilon }, stash_type: 1 };
    return g.node('SimplifiedLayerNormalization', [x, gain], output, attributes);
  }

  /** The embedding, normalized before the first layer. */
  first(x: string, output: string): string {
    return this.norm(x, this.gain(0, 'input_layernorm'), output);
  }

  /** Each head of q or k, normalized by itself. */
  ofHeads(x: string, layer: number, kind: 'q' | 'k', heads: number): string {
    const { g, config, tensors, precision } = this.params;
    const { headDim } = config;
    const name = `l${layer}.${kind}.heads`;
    g.node('Reshape', [x, tensors.sizes('shape', [0, 0, heads, headDim])], name);
    this.norm(name, tensors.numbers(gainName(layer, `self_attn.${kind}_norm`), precision), `${name}.n`);
    const whole = tensors.sizes('shape', [0, 0, heads * headDim]);
    return g.node('Reshape', [`${name}.n`, whole], `l${layer}.${kind}.normed`);
  }

  /** What attention or the MLP gives, as the stream takes it: normalized where the family does so before it is added. */
  after(y: string, layer: number, path: string): string {
    const { config, tensors, precision, streamPrecision } = this.params;
    const x = tensors.cast(y, precision, streamPrecision);
    if (!config.postNorms) return x;
    return this.norm(x, tensors.numbers(gainName(layer, path), streamPrecision), `l${layer}.${path}`);
  }

  /** The stream and what is added to it; normed for the layer's part of that norm. @param layer all of them: the last norm. */
  add(
    x: string,
    y: string,
    names: { normed: string; stream: string },
    { layer, path }: { layer: number; path: string },
  ): { h: string; x: string } {
    const { g, config } = this.params;
    const { normed, stream } = names;
    const epsilon = { epsilon: { float: config.rmsEpsilon } };
    const inputs = [x, y, this.gain(layer, path)];
    g.node('SkipSimplifiedLayerNormalization', inputs, [normed, '', '', stream], epsilon, MICROSOFT);
    return { h: normed, x: stream };
  }
}

/** Columns and rows of a weight `[N, K]`. */
interface ProductShape {
  K: number;
  N: number;
}

/**
 * `MatMulNBits`' accuracy_level: x in int8 with a scale for each block of a row. With 1, float32, a row of a batch is
 * multiplied in another order than a row alone, and has other bits; the KL is the same.
 */
const INT8_ROWS = 4;

const blockProduct = (
  g: GraphBuilder,
  inputs: readonly string[],
  shape: ProductShape & { bits: 4 | 8 },
  output: string,
): string => {
  const attributes = { ...shape, block_size: BLOCK, accuracy_level: INT8_ROWS };
  return g.node('MatMulNBits', inputs, output, attributes, MICROSOFT);
};

/** Rows that a 4 bit kernel takes at once: the last of one more is alone again (StrideM in onnxruntime's qnbitgemm.cpp). */
const ROWS_AT_ONCE = 128;

/** Products of a graph with 4 bit weights, as `quantizeBlocks` gives them. */
export class Int4Products {
  private readonly padding = new Map<number, string>();

  /**
   * @param padsLoneRow multiplies a row that is alone beside a row of zeros. x86 with AVX2 and without AVX-512 has a kernel
   * for single rows that adds in another order than the one for several.
   */
  constructor(
    private readonly g: GraphBuilder,
    private readonly padsLoneRow: boolean,
  ) {}

  /** @param inputs x `[B, T, K]`, values, scales, zeros. All x of a graph have the same B and T. @param output `[B, T, N]` */
  multiply(
    [x, ...weight]: readonly [x: string, ...weight: string[]],
    shape: ProductShape,
    output: string,
  ): string {
    const { g } = this;
    if (!this.padsLoneRow) return blockProduct(g, [x, ...weight], { ...shape, bits: 4 }, output);
    const padding = this.paddingLike(x, shape.K);
    const padded = g.node('Concat', [x, padding], `${output}.padded`, { axis: 0 });
    const y = blockProduct(g, [padded, ...weight], { ...shape, bits: 4 }, `${output}.beside`);
    // Not `Slice`, behind which ONNX Runtime loses sight of N, which attention needs.
    return g.node('Split', [y, 'padding.parts'], [output, `${output}.padding`], { axis: 0 });
  }

  /** @returns zeros `[1, T, K]` where a row of x would be alone, else `[0, T, K]`. */
  private paddingLike(x: string, K: number): string {
    const known = this.padding.get(K);
    if (known !== undefined) return known;
    const { g } = this;
    const number = (value: number): string =>
      g.constant(`padding.${value}`, 'i64', [1], BigInt64Array.of(BigInt(value)));
    if (this.padding.size === 0) {
      g.node('Shape', [x], 'padding.B', { start: 0, end: 1 });
      g.node('Shape', [x], 'padding.T', { start: 1, end: 2 });
      g.node('Mul', ['padding.B', 'padding.T'], 'padding.M');
      g.node('Mod', ['padding.M', number(ROWS_AT_ONCE)], 'padding.M.last');
      g.node('Equal', ['padding.M.last', number(1)], 'padding.alone');
      g.node('Cast', ['padding.alone'], 'padding.rows', { to: DataType.i64 });
      g.node('Concat', ['padding.B', 'padding.rows'], 'padding.parts', { axis: 0 });
    }
    const zero = g.constant('padding.zero', 'f32', [], new Float32Array(1));
    g.node('Concat', ['padding.rows', 'padding.T', number(K)], `padding.${K}.shape`, { axis: 0 });
    const padding = g.node('Expand', [zero, `padding.${K}.shape`], `padding.of.${K}`);
    this.padding.set(K, padding);
    return padding;
  }
}

/** A stream times a weight of the base, in the format that it is served in. */
export class WeightProducts {
  private readonly quantized = new Map<string, { values: string; max: string }>();
  private readonly int4: Int4Products;

  constructor(
    private readonly params: {
      g: GraphBuilder;
      format: WeightFormat;
      flavour: GraphFlavour;
      tensors: GraphTensors;
      padsLoneRow: boolean;
    },
  ) {
    this.int4 = new Int4Products(params.g, params.padsLoneRow);
  }

  /**
   * x -> u8 with one scale per row: round(x / max|row| * 127) + 128. Linears that share x share this. A row of zeros
   * becomes any numbers, and zeros again with its maximum.
   */
  private quantizeRows(x: string): { values: string; max: string } {
    const known = this.quantized.get(x);
    if (known !== undefined) return known;
    const { g } = this.params;
    const scale = g.constant('q.scale', 'f32', [], new Float32Array([1 / 127]));
    const zero = g.constant('q.zero', 'u8', [], new Uint8Array([128]));
    g.node('Abs', [x], `${x}.abs`);
    const max = g.node('ReduceMax', [`${x}.abs`], `${x}.max`, { axes: [-1], keepdims: 1 });
    g.node('Div', [x, max], `${x}.unit`);
    const values = g.node('QuantizeLinear', [`${x}.unit`, scale, zero], `${x}.u8`);
    const result = { values, max };
    this.quantized.set(x, result);
    return result;
  }

  /** x `[…, K]`, in a precision, times the weight of that name. */
  multiply(x: string, name: string, shape: ProductShape, precision: Precision, output: string): string {
    const { g, tensors } = this.params;
    const format = formatOf(name, this.params.format);
    if (format === 'f32') return g.node('MatMul', [x, tensors.numbers(`${name}.w`, precision)], output);
    if (format === 'int4') {
      const inputs = [
        tensors.weight(`${name}.w`),
        tensors.numbers(`${name}.s`, precision),
        tensors.weight(`${name}.z`),
      ];
      return this.int4.multiply([x, ...inputs], shape, output);
    }
    if (this.params.flavour === 'gpu') {
      const inputs = [tensors.weight(`${name}.w`), tensors.numbers(`${name}.s`, precision)];
      return blockProduct(g, [x, ...inputs], { ...shape, bits: 8 }, output);
    }
    const { values, max } = this.quantizeRows(x);
    const inputs = [values, tensors.weight(`${name}.w`), 'q.scale', tensors.weight(`${name}.s`), 'q.zero'];
    const unit = g.node('MatMulIntegerToFloat', inputs, `${name}.unit`, {}, MICROSOFT);
    return g.node('Mul', [unit, max], output);
  }
}
