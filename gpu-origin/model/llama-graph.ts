/**
 * The Llama family as an ONNX graph: token ids, KV cache and low-rank deltas in; logits at chosen positions and, where it is asked for, the last hidden states out.
 * Three graphs share the same weights and differ in the linears that take a delta: none, q and v, or all seven. Each is
 * there whole, in parts of its layers, and mixed: one row's chunk, and behind it in the same stream one token each of
 * rows that decode.
 */
import {
  ADVANCES,
  attentionLayers,
  keysOf,
  convolved,
  type DeltaNet,
  isDeltaNet,
  type LinearKind,
  headsOf,
  linearShape,
  type LlamaConfig,
  ofLayer,
  DataType,
  DECODING_INPUTS,
  DELTA_KINDS,
  deltaNames,
  type Experts,
  deltaShapeOfA,
  EMBEDDING_DELTA,
  type GraphFlavour,
  type GraphKind,
  type Layers,
  type Precision,
  STATES,
  stateShapes,
  streamNames,
  type WeightEntry,
  inPrecision,
} from './base-model.ts';
import { expertLayer, expertProduct, routerName } from './experts.ts';
import { GraphBuilder, MICROSOFT } from './onnx-proto.ts';
import {
  DELTA_NORM,
  deltaNetNames,
  groupName,
  LAYER_EMBEDDING_NORM,
  LAYER_PROJECTION_NORM,
  layerEmbeddingNames,
  HEAD_PRODUCT,
  type LinearGroup,
  rotaryNames,
  type WeightFormat,
  FINAL_NORM,
  foldsGains,
  formatOf,
  gainName,
  normsBefore,
  qkNormSize,
  scalarNames,
  streamGroup,
  BLOCK,
} from './prepare-weights.ts';
import { denseRotation, type Rotation, type RotationSet, rotationsOf } from './rotation.ts';

/**
 * What one step of an int8 key or value stands for, `[kvHeads * headDim]` of the layer each, by layer with attention. Keys are stored after rotary
 * positions; both channels of a pair that they turn have one scale.
 */
export type KvScales = readonly { k: Float32Array<ArrayBuffer>; v: Float32Array<ArrayBuffer> }[];

/** Attributes of `GroupQueryAttention`; the scales are inputs 12 and 13. */
export const INT8_ATTENTION = {
  ...{ k_quant_type: 'PER_CHANNEL', v_quant_type: 'PER_CHANNEL' },
  kv_cache_bit_width: 8,
} as const;

/**
 * Which rows a node belongs to, where a mixed graph tells them apart: prefix of its graph's inputs and outputs, and
 * suffix of its name.
 */
interface Rows {
  readonly inputs: '' | typeof DECODING_INPUTS;
  readonly suffix: '' | '.d';
}
/** All rows of the graph; in a mixed one, the row whose chunk is read. */
const FIRST_ROWS: Rows = { inputs: '', suffix: '' };
/** The rows of a mixed graph that decode. */
const DECODING_ROWS: Rows = { inputs: DECODING_INPUTS, suffix: '.d' };

class LlamaGraph {
  private readonly g = new GraphBuilder();
  /** Inputs for keys and values of layers before the part. */
  private readonly borrowed = new Set<string>();
  /** By layer, what its attention appends, normed. */
  private readonly appended = new Map<number, { k: string; v: string }>();
  private embedding: string | null = null;
  private embeddedInput: string | null = null;
  private readonly split = new Map<string, { chunk: string; rows: string }>();
  private readonly tensors: GraphTensors;
  private readonly products: WeightProducts;
  private readonly norms: GraphNorms;
  /** Of activations, keys and values and deltas. */
  private readonly precision: Precision;
  /** Precision of the residual stream: a few of Gemma's numbers are too large for float16. */
  private readonly streamPrecision: Precision;

  constructor(
    private readonly params: {
      config: LlamaConfig;
      kind: GraphKind;
      /** Layers of the part; default: all. */
      layers?: Layers;
      /** A chunk `[1, T]` and the tokens of decoding rows behind it, in one stream `[1, T + rows]`; default: no. */
      mixed?: boolean;
      /** Rows may adapt the embedding, see {@link EMBEDDING_DELTA}; default: they may not. */
      adaptsEmbedding?: boolean;
      /** Tokens that a row can have: a window of as many is none. */
      context: number;
      format: WeightFormat;
      flavour: GraphFlavour;
      /** For 4-bit products, see `Int4Products`; default: no. */
      padsLoneRow?: boolean;
      /** Default: float32. */
      precision?: Precision;
      /** Keys and values in int8, in a mixed graph those of the rows that decode; default: in the precision. */
      kvScales?: KvScales | null;
      rotations: RotationSet | null;
      weights: readonly WeightEntry[];
      weightsFile: string;
    },
  ) {
    this.precision = params.precision ?? 'f32';
    this.streamPrecision = params.config.postNorms ? 'f32' : this.precision;
    const { g, precision, streamPrecision } = this;
    const { config, format, flavour, padsLoneRow = false } = params;
    this.tensors = new GraphTensors(g, params.weights, params.weightsFile);
    const { tensors } = this;
    this.products = new WeightProducts({ g, format, flavour, tensors, padsLoneRow });
    this.norms = new GraphNorms({ g, config, tensors, precision, streamPrecision });
  }

  /** The linears of a group as one product. */
  private group(x: string, layer: number, group: LinearGroup): string {
    const name = groupName(layer, group);
    const shapes = group.map((kind) => this.shape(layer, kind));
    const shape = { K: shapes[0]!.in, N: shapes.reduce((sum, { out }) => sum + out, 0) };
    const y = this.products.multiply(x, name, shape, this.precision, `${name}.y`);
    if (!this.tensors.has(`${name}.b`)) return y;
    return this.g.node('Add', [y, this.tensors.numbers(`${name}.b`, this.precision)], `${name}.yb`);
  }

  /** The tokens' rows of the embedding; from int8, its values times the row's scale. */
  private embedded(table = 'embed', output = 'x'): string {
    const g = this.g;
    const rows = (of: string, name: string): string => g.node('Gather', [of, 'tokens'], name, { axis: 0 });
    if (!this.tensors.has(`${table}.s`))
      return rows(this.tensors.numbers(table, this.streamPrecision), output);
    const bytes = rows(this.tensors.weight(table), `${table}.i8`);
    const values = g.node('Cast', [bytes], `${table}.values`, { to: DataType.f32 });
    const scales = rows(this.tensors.weight(`${table}.s`), `${table}.scales`);
    return this.tensors.cast(g.node('Mul', [values, scales], output), 'f32', this.streamPrecision);
  }

  /** `Sum` and not `Add`, which ONNX Runtime may fuse with the norm behind it: that stays the other graphs' kernel. */
  private adaptedEmbedding(x: string): string {
    if (this.params.adaptsEmbedding !== true) return x;
    const delta = this.g.input(EMBEDDING_DELTA, 'f32', ['B', 'T', this.params.config.hidden]);
    return this.g.node('Sum', [x, this.tensors.cast(delta, 'f32', this.streamPrecision)], 'x.adapted');
  }

  private shape(layer: number, kind: LinearKind): { in: number; out: number } {
    return linearShape(ofLayer(this.params.config, layer), kind);
  }

  private takesDelta(kind: LinearKind): boolean {
    return DELTA_KINDS[this.params.kind].includes(kind);
  }

  /** (x A^T) B of some rows. */
  private delta(x: string, layer: number, kind: LinearKind, { inputs, suffix }: Rows): string {
    const g = this.g;
    const name = `l${layer}.${kind}`;
    const shape = this.shape(layer, kind);
    const names = deltaNames(layer, kind);
    const [a, b] = [`${inputs}${names.a}`, `${inputs}${names.b}`];
    const [rows, rank] = [`${inputs}B`, `${inputs}R_${kind}`];
    const { flavour } = this.params;
    g.input(a, this.precision, deltaShapeOfA<string | number>(flavour, rows, rank, shape.in));
    g.input(b, this.precision, [rows, rank, shape.out]);
    const xa = `${name}.xa${suffix}`;
    if (flavour === 'gpu') g.node('MatMul', [x, a], xa);
    else g.node('FusedMatMul', [x, a], xa, { transB: 1 }, MICROSOFT);
    return g.node('MatMul', [xa, b], `${name}.delta${suffix}`);
  }

  /** y + (x A^T) B, if this graph has a delta for the kind. */
  private withDelta(y: string, x: string, layer: number, kind: LinearKind, rows = FIRST_ROWS): string {
    if (!this.takesDelta(kind)) return y;
    return this.g.node('Add', [y, this.delta(x, layer, kind, rows)], `l${layer}.${kind}.yd${rows.suffix}`);
  }

  /** The same over the whole stream, in which a mixed graph has two kinds of rows. */
  private withDeltas(y: string, x: string, layer: number, kind: LinearKind): string {
    if (this.params.mixed !== true || !this.takesDelta(kind)) return this.withDelta(y, x, layer, kind);
    const { in: from, out: to } = this.shape(layer, kind);
    const { chunk, rows } = this.apart(x, from);
    const name = `l${layer}.${kind}`;
    const delta = this.joined(
      this.delta(chunk, layer, kind, FIRST_ROWS),
      this.delta(rows, layer, kind, DECODING_ROWS),
      to,
      `${name}.deltas`,
    );
    return this.g.node('Add', [y, delta], `${name}.yd`);
  }

  /** A mixed graph's stream `[1, T + rows, width]` as `[1, T, width]` and `[rows, 1, width]`. Repeating x is free. */
  private apart(x: string, width: number): { chunk: string; rows: string } {
    const g = this.g;
    const known = this.split.get(x);
    if (known !== undefined) return known;
    g.node('Split', [x, 'stream_parts'], [`${x}.first`, `${x}.behind`], { axis: 1 });
    // ONNX Runtime infers no shape behind a split whose sizes are an input, and attention needs the width.
    const shaped = (part: string, sizes: number[], name: string): string =>
      g.node('Reshape', [part, this.tensors.sizes('shape', sizes)], name);
    const apart = {
      chunk: shaped(`${x}.first`, [1, -1, width], `${x}.chunk`),
      rows: shaped(`${x}.behind`, [-1, 1, width], `${x}.d`),
    };
    this.split.set(x, apart);
    return apart;
  }

  /** … and back. */
  private joined(chunk: string, rows: string, width: number, name: string): string {
    const shape = this.tensors.sizes('shape', [1, -1, width]);
    const behind = this.g.node('Reshape', [rows, shape], `${name}.joined`);
    return this.g.node('Concat', [chunk, behind], name, { axis: 1 });
  }

  /** A group's product `[…, N]` linear by linear. @param delta adds one's own. */
  private separate(
    y: string,
    layer: number,
    group: LinearGroup,
    delta: (y: string, kind: LinearKind) => string,
    suffix = '',
  ): string[] {
    if (group.length === 1) return [delta(y, group[0])];
    const widths = group.map((kind) => this.shape(layer, kind).out);
    const split = this.tensors.sizes('split', widths);
    const names = group.map((kind) => `l${layer}.${kind}.y${suffix}`);
    this.g.node('Split', [y, split], names, { axis: -1 });
    return group.map((kind, index) => delta(names[index]!, kind));
  }

  private linear(x: string, layer: number, kind: LinearKind): string {
    return this.withDeltas(this.group(x, layer, [kind]), x, layer, kind);
  }

  /**
   * x times a block-diagonal rotation. @param name of the result; the constants are named by block size and
   * width.
   */
  private rotateBlocks(
    x: string,
    rotation: Rotation | undefined,
    width: number,
    name: string,
    precision = this.precision,
  ): string {
    const block = rotation?.size ?? 1;
    if (rotation === undefined || block === 1) return x;
    const g = this.g;
    const matrix = this.tensors.constant(
      `rotation.${block}`,
      precision,
      [block, block],
      denseRotation(rotation),
    );
    const shape = (sizes: number[]): string => this.tensors.sizes('shape', sizes);
    g.node('Reshape', [x, shape([0, 0, width / block, block])], `${name}.blocks`);
    g.node('MatMul', [`${name}.blocks`, matrix], `${name}.rotated`);
    return g.node('Reshape', [`${name}.rotated`, shape([0, 0, width])], name);
  }

  /** The linears' view of a normed stream: itself, or rotated here if the stream is not. */
  private input(h: string, from = this.streamPrecision, to = this.precision): string {
    const { config, rotations } = this.params;
    const x = this.tensors.cast(h, from, to);
    if (rotations === null || rotations.stream !== null) return x;
    return this.rotateBlocks(x, rotations.input, config.hidden, `${h}.r`, to);
  }

  private activation(gate: string, p: string): string {
    if (this.params.config.activation === 'gelu_tanh')
      return this.g.node('FastGelu', [gate], `${p}.gelu`, {}, MICROSOFT);
    this.g.node('Sigmoid', [gate], `${p}.sigmoid`);
    return this.g.node('Mul', [gate, `${p}.sigmoid`], `${p}.silu`);
  }

  /** q, k and v to the heads' values side by side. Without deltas and norms, q is the one product and k and v are ''. */
  private attention(layer: number, q: string, k: string, v: string, rows: Rows): string {
    const g = this.g;
    const { inputs, suffix } = rows;
    const { config, context } = this.params;
    const { window, rope } = config.attention[layer]!;
    const { kvHeads, headDim } = headsOf(config, layer);
    const cache = [`${inputs}B`, kvHeads, 'M', headDim] as const;
    const scales = this.scalesOf(layer, rows);
    const type = scales === undefined ? this.precision : 'i8';
    const past = (part: 'k' | 'v'): string => g.input(`${inputs}past.${layer}.${part}`, type, cache);
    const present = (part: 'k' | 'v'): string => {
      const name = `${inputs}present.${layer}.${part}`;
      g.output(name, type, cache);
      return name;
    };
    const source = keysOf(config, layer);
    const read = (part: 'k' | 'v'): string => this.keysRead(source, part, type, cache, rows);
    const from = source === layer ? past : read;
    const [pastK, pastV] = [from('k'), from('v')];
    const presents = [present('k'), present('v')];
    const tables = rope === null ? null : rotaryNames(rope);
    const int8 = this.int8Attention(layer, scales);
    return g.node(
      'GroupQueryAttention',
      [
        ...[q, k, v, pastK, pastV, `${inputs}last_position`, `${inputs}total_length`],
        ...(tables === null
          ? int8.inputs.slice(0, 2).map(() => '')
          : [tables.cos, tables.sin].map((table) => this.tensors.numbers(table, this.precision))),
        ...int8.inputs,
      ],
      [`l${layer}.attention${suffix}`, ...presents],
      {
        num_heads: config.heads,
        kv_num_heads: kvHeads,
        do_rotary: tables === null ? 0 : 1,
        ...(config.attentionScale === null ? {} : { scale: { float: config.attentionScale } }),
        ...(config.attentionCap === null ? {} : { softcap: { float: config.attentionCap } }),
        ...(window === null || window >= context ? {} : { local_window_size: window }),
        ...int8.attributes,
      },
      MICROSOFT,
    );
  }

  /** Keys or values of an earlier layer, this step's included, as they are behind it or as a part of the graph gets them. */
  private keysRead(
    source: number,
    part: 'k' | 'v',
    type: DataType,
    shape: readonly (string | number)[],
    { inputs }: Rows,
  ): string {
    if (source >= (this.params.layers?.from ?? 0)) return `${inputs}present.${source}.${part}`;
    const name = `${inputs}past.${source}.${part}`;
    if (!this.borrowed.has(name)) this.g.input(name, type, shape);
    this.borrowed.add(name);
    return name;
  }

  /** Of int8 keys and values; undefined if the rows' are in the precision, as those of a chunk in a mixed graph. */
  private scalesOf(layer: number, rows: Rows): KvScales[number] | undefined {
    const { config, mixed, kvScales } = this.params;
    return mixed === true && rows === FIRST_ROWS
      ? undefined
      : kvScales?.[attentionLayers(config).indexOf(keysOf(config, layer))];
  }

  /** What attention takes besides, behind the rotary tables. */
  private int8Attention(
    layer: number,
    scales: KvScales[number] | undefined,
  ): { inputs: string[]; attributes: Record<string, string | number> } {
    if (scales === undefined) return { inputs: [], attributes: {} };
    const { kvHeads, headDim } = headsOf(this.params.config, layer);
    const scale = (kind: 'k' | 'v'): string =>
      this.tensors.constant(
        `l${keysOf(this.params.config, layer)}.${kind}.step`,
        'f32',
        [kvHeads, 1, headDim],
        scales[kind],
      );
    return {
      // Positions, a bias and sinks are left out.
      inputs: ['', '', '', scale('k'), scale('v')],
      attributes: INT8_ATTENTION,
    };
  }

  /**
   * What a layer appends that reads an earlier one's keys and values: of no tokens `[B, 0, keys]`, with which
   * GroupQueryAttention appends none (since ONNX Runtime 1.26). Its WebGPU kernel then ignores local_window_size, as of
   * 1.30, so that a GPU appends the earlier layer's once more: the same numbers in the same place.
   * @param q `[B, T, queries]`
   */
  private keysAgain(q: string, layer: number, source: number, suffix: string): { k: string; v: string } {
    if (this.params.flavour === 'gpu') return this.appended.get(source)!;
    const { kvHeads, headDim } = headsOf(this.params.config, layer);
    const { tensors } = this;
    const ranges = [
      [0, 0],
      [0, kvHeads * headDim],
      [1, 2],
    ].map((values) => tensors.sizes('shape', values));
    const none = this.g.node('Slice', [q, ...ranges], `l${layer}.none${suffix}`);
    return { k: none, v: none };
  }

  /** The heads' values of all rows. @param y the product of q, k and v with x. */
  private attended(x: string, y: string, layer: number): string {
    const { config, mixed } = this.params;
    if (mixed !== true) return this.attendedBy(x, y, layer, FIRST_ROWS);
    const group = streamGroup(config, layer);
    const widths = group.map((kind) => this.shape(layer, kind).out);
    const ys = this.apart(
      y,
      widths.reduce((sum, width) => sum + width, 0),
    );
    const takesDelta = group.some((kind) => this.takesDelta(kind));
    const xs = takesDelta ? this.apart(x, config.hidden) : { chunk: '', rows: '' };
    return this.joined(
      this.attendedBy(xs.chunk, ys.chunk, layer, FIRST_ROWS),
      this.attendedBy(xs.rows, ys.rows, layer, DECODING_ROWS),
      this.shape(layer, isDeltaNet(config, layer) ? 'deltaOut' : 'o').in,
      `l${layer}.attention.all`,
    );
  }

  private attendedBy(x: string, y: string, layer: number, rows: Rows): string {
    const { config } = this.params;
    if (config.deltaNet !== null && isDeltaNet(config, layer))
      return this.deltaNet(x, y, layer, config.deltaNet, rows);
    if (!this.takesDelta('q') && config.qkNorm === null) return this.attention(layer, y, '', '', rows);
    const add = (of: string, kind: LinearKind): string => this.withDelta(of, x, layer, kind, rows);
    const group = streamGroup(config, layer);
    const apart = this.separate(y, layer, group, add, rows.suffix);
    const part = (kind: LinearKind): string => apart[group.indexOf(kind)]!;
    const { suffix } = rows;
    const source = keysOf(config, layer);
    const normed = (kind: 'q' | 'k'): string =>
      config.qkNorm === null ? part(kind) : this.norms.ofQk(part(kind), layer, kind, suffix);
    const q = normed('q');
    if (source !== layer) {
      const { k, v } = this.keysAgain(q, layer, source, suffix);
      return this.attention(layer, q, k, v, rows);
    }
    const k = normed('k');
    const v = config.valueNorm ? this.norms.ofValues(part('v'), layer, suffix) : part('v');
    this.appended.set(layer, { k, v });
    const attended = this.attention(layer, q, k, v, rows);
    if (!config.outputGate) return attended;
    const g = this.g;
    g.node('Sigmoid', [part('outputGate')], `l${layer}.opened${suffix}`);
    return g.node('Mul', [attended, `l${layer}.opened${suffix}`], `l${layer}.attention.gated${suffix}`);
  }

  /**
   * Gated DeltaNet: what its heads give of some rows, normed and gated, as transformers' `Qwen3_5GatedDeltaNet` has it.
   * @param y the product of its linears with x.
   */
  private deltaNet(x: string, y: string, layer: number, net: DeltaNet, rows: Rows): string {
    const { g, tensors } = this;
    const { config } = this.params;
    const { inputs, suffix } = rows;
    const name = (part: string): string => `l${layer}.delta.${part}${suffix}`;
    const add = (of: string, kind: LinearKind): string => this.withDelta(of, x, layer, kind, rows);
    const group = streamGroup(config, layer);
    // States sum over all tokens of a row: in float32, whatever the precision.
    const [qkv, gate, beta, decay] = this.separate(y, layer, group, add, suffix).map((of) =>
      tensors.cast(of, this.precision, 'f32'),
    ) as [string, string, string, string];
    const shapes = stateShapes(net);
    const past = (part: string): string => `${inputs}past.${layer}.${part}`;
    const present = (part: string): string => `${inputs}present.${layer}.${part}`;
    for (const part of STATES) {
      g.input(past(part), 'f32', [`${inputs}B`, ...shapes[part]]);
      g.output(present(part), 'f32', [`${inputs}B`, ...shapes[part]]);
    }
    const own = deltaNetNames(layer);
    g.node(
      'CausalConvWithState',
      [qkv, tensors.weight(own.kernel), '', past('convolution')],
      [name('convolved'), name('seen')],
      { activation: 'silu', channels_last: 1 },
      MICROSOFT,
    );
    const advances = `${inputs}${ADVANCES}`;
    const seen = [`${advances}.yes`, name('seen'), past('convolution')];
    if (this.params.flavour === 'cpu') g.node('Where', seen, present('convolution'));
    else {
      // Both are one buffer, which no program of a GPU may read and write: WebGPU refuses it, and so do browsers. A
      // Reshape copies it. LinearAttention knows that its two states are one.
      const kept = g.node('Where', seen, name('kept'));
      g.node('Reshape', [kept, tensors.sizes('shape', [-1, ...shapes.convolution])], present('convolution'));
    }
    const [q, k, v] = ['q', 'k', 'v'].map(name) as [string, string, string];
    g.node('Split', [name('convolved'), tensors.sizes('split', convolved(net))], [q, k, v], { axis: -1 });
    g.node(
      'LinearAttentionGate',
      [decay, tensors.weight(own.bias), tensors.weight(own.decay), beta],
      [name('decays'), name('betas')],
      {},
      MICROSOFT,
    );
    // A row that sits the step out neither decays nor corrects its states.
    const held = (of: string): string => g.node('Mul', [of, advances], `${of}.held`);
    g.node(
      'LinearAttention',
      [
        ...[this.unit(q, net), this.unit(k, net), v, past('state')],
        ...[held(name('decays')), held(name('betas'))],
      ],
      [name('read'), present('state')],
      {
        ...{ q_num_heads: net.keyHeads, kv_num_heads: net.valueHeads, update_rule: 'gated_delta' },
        scale: { float: net.keyDim ** -0.5 },
      },
      MICROSOFT,
    );
    const gain = tensors.weight(gainName(layer, DELTA_NORM));
    const epsilon = { epsilon: { float: config.rmsEpsilon } };
    g.node('GatedRMSNorm', [name('read'), gain, gate], name('normed'), epsilon, MICROSOFT);
    return tensors.cast(name('normed'), 'f32', this.precision);
  }

  /** Each head of q or k divided by its length: x / sqrt(sum(x^2) + 1e-6), transformers' `l2norm`. */
  private unit(x: string, { keyHeads, keyDim }: DeltaNet): string {
    const { g, tensors } = this;
    const shape = (sizes: number[]): string => tensors.sizes('shape', sizes);
    g.node('Reshape', [x, shape([0, 0, keyHeads, keyDim])], `${x}.heads`);
    const gain = new Float32Array(keyDim).fill(keyDim ** -0.5);
    const gains = g.constant(`delta.unit.${keyDim}`, 'f32', [keyDim], gain);
    const attributes = { axis: -1, epsilon: { float: 1e-6 / keyDim }, stash_type: 1 };
    g.node('SimplifiedLayerNormalization', [`${x}.heads`, gains], `${x}.heads.n`, attributes);
    return g.node('Reshape', [`${x}.heads.n`, shape([0, 0, keyHeads * keyDim])], `${x}.unit`);
  }

  /** The MLP of every token. */
  private dense(read: string, layer: number): string {
    const [gate, up] = this.separate(
      this.group(read, layer, ['gate', 'up']),
      layer,
      ['gate', 'up'],
      (y, kind) => this.withDeltas(y, read, layer, kind),
    ) as [string, string];
    return this.linear(this.gated(gate, up, layer), layer, 'down');
  }

  /** What down reads. */
  private gated(gate: string, up: string, layer: number): string {
    const p = `l${layer}`;
    this.g.node('Mul', [this.activation(gate, p), up], `${p}.gated`);
    const rotation = rotationsOf(this.params.rotations, layer)?.down;
    return this.rotateBlocks(`${p}.gated`, rotation, this.shape(layer, 'down').in, `${p}.act`);
  }

  /** The MLP of each token's experts. */
  private sparse(read: string, layer: number, experts: Experts): string {
    const { config, padsLoneRow = false } = this.params;
    const { hidden, ffn } = config;
    const shapes = { 'gate-up': { K: hidden, N: 2 * ffn }, down: { K: ffn, N: hidden } };
    return expertLayer(read, layer, {
      g: this.g,
      config: { ...config, experts },
      sizes: (what, sizes) => this.tensors.sizes(what, sizes),
      router: (x, of, output) =>
        this.g.node('MatMul', [x, this.tensors.weight(`${routerName(of)}.w`)], output),
      products: (x, counts, of, group, output) => {
        const name = groupName(of, group === 'down' ? ['down'] : ['gate', 'up']);
        const names = Array.from({ length: experts.count }, (_, expert) => expertProduct(name, expert));
        return this.products.multiplyParts({ x, counts, names }, shapes[group], output);
      },
      activated: (gate, up, of) => this.gated(gate, up, of),
      doubles: padsLoneRow,
    });
  }

  /**
   * The stream, and what is added to it last: the layer's own embedding of each token, as far as a gate over the stream
   * lets it pass, or `y` itself where there is none.
   */
  private withLayerEmbedding(x: string, y: string, layer: number): { x: string; y: string } {
    const { config } = this.params;
    const { layerEmbedding } = config;
    if (layerEmbedding === null) return { x, y };
    const g = this.g;
    const p = `l${layer}.own`;
    const stream = g.node('Add', [x, y], `${p}.stream`);
    const gate = this.activation(this.linear(this.input(stream), layer, 'layerGate'), p);
    const own = this.tensors.cast(
      this.layerEmbedding(layer, layerEmbedding),
      this.streamPrecision,
      this.precision,
    );
    const gated = g.node('Mul', [gate, own], `${p}.gated`);
    const added = this.norms.after(this.linear(gated, layer, 'layerOut'), layer, LAYER_EMBEDDING_NORM);
    return { x: stream, y: added };
  }

  /** The embedding of each token for the layer, and a projection of its usual one, normed. */
  private layerEmbedding(layer: number, width: number): string {
    const names = layerEmbeddingNames(layer);
    const shape = { K: this.params.config.hidden, N: width };
    this.embeddedInput ??= this.input(this.embedding!);
    const y = this.products.multiply(
      this.embeddedInput,
      names.projection,
      shape,
      this.precision,
      `${names.projection}.y`,
    );
    const stream = this.tensors.cast(y, this.precision, this.streamPrecision);
    const normed = this.norms.first(stream, LAYER_PROJECTION_NORM, `${names.projection}.n`);
    return this.g.node('Add', [normed, this.embedded(names.table, `${names.table}.x`)], `l${layer}.own.x`);
  }

  private layer(layer: number, h: string, x: string): { h: string; x: string } {
    const { config } = this.params;
    const p = `l${layer}`;
    const input = this.input(h);
    const attended = this.attended(input, this.group(input, layer, streamGroup(config, layer)), layer);
    const back = isDeltaNet(config, layer) ? 'deltaOut' : 'o';
    // With v's heads rotated, it is already.
    const rotation = config.outputGate ? this.params.rotations?.head : undefined;
    const width = this.shape(layer, back).in;
    const attention = this.rotateBlocks(attended, rotation, width, `${attended}.r`);
    const o = this.norms.after(this.linear(attention, layer, back), layer, 'post_attention_layernorm');
    const between = { normed: `${p}.h1`, stream: `${p}.x1` };
    const before = normsBefore(config);
    const middle = this.norms.add(x, o, between, before === null ? null : gainName(layer, before.mlp));
    const read = this.input(middle.h);
    const mlp = config.experts === null ? this.dense(read, layer) : this.sparse(read, layer, config.experts);
    const ofMlp = this.norms.after(mlp, layer, 'post_feedforward_layernorm');
    const { x: stream, y: down } = this.withLayerEmbedding(middle.x, ofMlp, layer);
    const next =
      layer + 1 === config.layers
        ? FINAL_NORM
        : before === null
          ? null
          : gainName(layer + 1, before.attention);
    if (!config.layerScalars || next === null) return this.norms.add(stream, down, streamNames(layer), next);
    return this.norms.addScaled(stream, down, layer, next);
  }

  /** The stream before the first layer: from the tokens, or from the previous part. */
  private begin(layer: number): { h: string; x: string } {
    const g = this.g;
    if (layer === 0) {
      g.input('tokens', 'i64', ['B', 'T']);
      const x = this.adaptedEmbedding(this.embedded());
      this.embedding = x;
      const before = normsBefore(this.params.config);
      return { h: before === null ? x : this.norms.first(x, gainName(0, before.attention), 'h'), x };
    }
    if (this.params.config.layerEmbedding !== null) {
      g.input('tokens', 'i64', ['B', 'T']);
      this.embedding = this.embedded();
    }
    const shape = ['B', 'T', this.params.config.hidden];
    const { normed, stream } = streamNames(layer - 1);
    return {
      h: g.input(normed, this.streamPrecision, shape),
      x: g.input(stream, this.streamPrecision, shape),
    };
  }

  build(): Uint8Array {
    const g = this.g;
    const { config, kind } = this.params;
    const { from, to } = this.params.layers ?? { from: 0, to: config.layers };
    // GroupQueryAttention's seqlens_k: total length of the row minus one.
    for (const { inputs } of this.params.mixed === true ? [FIRST_ROWS, DECODING_ROWS] : [FIRST_ROWS]) {
      g.input(`${inputs}last_position`, 'i32', [`${inputs}B`]);
      g.input(`${inputs}total_length`, 'i32', [1]);
      if (config.deltaNet === null) continue;
      const advances = g.input(`${inputs}${ADVANCES}`, 'f32', [`${inputs}B`, 1, 1]);
      g.node('Cast', [advances], `${advances}.yes`, { to: DataType.bool });
    }
    // Tokens of the chunk, and decoding rows.
    if (this.params.mixed === true) g.input('stream_parts', 'i64', [2]);
    let { h, x } = this.begin(from);
    for (let layer = from; layer < to; layer++) ({ h, x } = this.layer(layer, h, x));
    if (to === config.layers) this.end(h);
    else {
      // Without norms before linears, both are the stream.
      if (h === x) h = g.node('Identity', [x], streamNames(to - 1).normed);
      for (const name of [h, x]) g.output(name, this.streamPrecision, ['B', 'T', config.hidden]);
    }
    return g.build(`llama-${kind}-${from}-${to}`);
  }

  /** The head over the requested positions. */
  private end(h: string): void {
    const g = this.g;
    const { config } = this.params;
    g.input('positions', 'i64', ['B', 'P', 1]);
    // Free unless it is bound. If the norm's gain is folded into the head, it lacks it.
    const states = this.tensors.cast(h, this.streamPrecision, 'f32');
    g.node('Identity', [states], 'hidden');
    g.output('hidden', 'f32', ['B', 'T', config.hidden]);
    const wanted = g.node('GatherND', [states, 'positions'], 'wanted', { batch_dims: 1 });
    const shape = { K: config.hidden, N: config.vocab };
    const logits = config.logitCap === null ? 'logits' : 'logits.raw';
    this.products.multiply(this.input(wanted, 'f32', 'f32'), HEAD_PRODUCT, shape, 'f32', logits);
    if (config.logitCap !== null) this.cap(logits, config.logitCap);
    g.output('logits', 'f32', ['B', 'P', config.vocab]);
  }

  /** cap * tanh(x / cap) as the logits. */
  private cap(x: string, limit: number): void {
    const g = this.g;
    const by = g.constant('logits.cap', 'f32', [], new Float32Array([limit]));
    g.node('Div', [x, by], 'logits.unit');
    g.node('Tanh', ['logits.unit'], 'logits.tanh');
    g.node('Mul', ['logits.tanh', by], 'logits');
  }
}

/** @returns a serialized ONNX model whose large tensors lie in `weightsFile` beside it. */
export function buildLlamaGraph(params: ConstructorParameters<typeof LlamaGraph>[0]): Uint8Array {
  return new LlamaGraph(params).build();
}

/**
 * Tensors that a graph defines itself: its weights in the external file, small constants, and both in a
 * precision.
 */
class GraphTensors {
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

  /** A prepared weight. */
  weight(name: string): string {
    const entry = this.weights.get(name);
    if (entry === undefined) throw new Error(`weight ${name} was not prepared`);
    return this.g.external({ ...entry, file: this.file });
  }

  /** A weight of float32 in a precision: ONNX Runtime casts it once, as it opens the session. */
  numbers(name: string, precision: Precision): string {
    return this.cast(this.weight(name), 'f32', precision);
  }

  /** Any tensor with that name; casting it twice is free. */
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

/** The norms of a layer, with the gains that are not folded into the following linears. */
class GraphNorms {
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

  /** The gain of a norm before linears: ones if it is folded into them. */
  private gain(name: string): string {
    const { config, tensors, streamPrecision } = this.params;
    const { hidden } = config;
    if (foldsGains(config))
      return tensors.constant(`ones.${hidden}`, streamPrecision, [hidden], new Float32Array(hidden).fill(1));
    return tensors.numbers(name, streamPrecision);
  }

  private norm(x: string, gain: string, output: string): string {
    const { g, config } = this.params;
    const attributes = { axis: -1, epsilon: { float: config.rmsEpsilon }, stash_type: 1 };
    return g.node('SimplifiedLayerNormalization', [x, gain], output, attributes);
  }

  /** The embedding, normalized before the first layer. */
  first(x: string, gain: string, output: string): string {
    return this.norm(x, this.gain(gain), output);
  }

  /** q or k: each head normalized by itself, or all of them as one. */
  ofQk(x: string, layer: number, kind: 'q' | 'k', suffix: string): string {
    const { g, config, tensors, precision } = this.params;
    const own = ofLayer(config, layer);
    const size = qkNormSize(own, kind);
    const width = linearShape(own, kind).out;
    const gain = (): string => tensors.numbers(gainName(layer, `self_attn.${kind}_norm`), precision);
    const normed = `l${layer}.${kind}.normed${suffix}`;
    if (config.qkNorm === 'width') return this.norm(x, gain(), normed);
    const name = `l${layer}.${kind}.heads${suffix}`;
    g.node('Reshape', [x, tensors.sizes('shape', [0, 0, width / size, size])], name);
    this.norm(name, gain(), `${name}.n`);
    return g.node('Reshape', [`${name}.n`, tensors.sizes('shape', [0, 0, width])], normed);
  }

  /** Each head of v normalized, without a gain. */
  ofValues(x: string, layer: number, suffix: string): string {
    const { g, config, tensors, precision } = this.params;
    const { kvHeads, headDim } = headsOf(config, layer);
    const ones = new Float32Array(headDim).fill(1);
    const name = `l${layer}.v.heads${suffix}`;
    g.node('Reshape', [x, tensors.sizes('shape', [0, 0, kvHeads, headDim])], name);
    this.norm(name, tensors.constant(`ones.${headDim}`, precision, [headDim], ones), `${name}.n`);
    const whole = tensors.sizes('shape', [0, 0, kvHeads * headDim]);
    return g.node('Reshape', [`${name}.n`, whole], `l${layer}.v.normed${suffix}`);
  }

  /** The output of attention or the MLP, normalized before it is added if the family does so. */
  after(y: string, layer: number, path: string): string {
    const { config, tensors, precision, streamPrecision } = this.params;
    const x = tensors.cast(y, precision, streamPrecision);
    if (!config.postNorms) return x;
    return this.norm(x, tensors.numbers(gainName(layer, path), streamPrecision), `l${layer}.${path}`);
  }

  /** The stream and what is added to it; normed for what reads it next. @param gain of that norm; null = none. */
  add(
    x: string,
    y: string,
    names: { normed: string; stream: string },
    gain: string | null,
  ): { h: string; x: string } {
    const { g, config } = this.params;
    const { normed, stream } = names;
    if (gain === null) {
      g.node('Add', [x, y], stream);
      return { h: stream, x: stream };
    }
    const epsilon = { epsilon: { float: config.rmsEpsilon } };
    const inputs = [x, y, this.gain(gain)];
    g.node('SkipSimplifiedLayerNormalization', inputs, [normed, '', '', stream], epsilon, MICROSOFT);
    return { h: normed, x: stream };
  }

  /** The stream behind a layer, times the layer's number. @param gain of the norm that reads it. */
  addScaled(x: string, y: string, layer: number, gain: string): { h: string; x: string } {
    const { g, tensors, streamPrecision } = this.params;
    const { normed, stream } = streamNames(layer);
    g.node('Add', [x, y], `${stream}.sum`);
    const scalar = tensors.numbers(scalarNames(layer).graph, streamPrecision);
    g.node('Mul', [`${stream}.sum`, scalar], stream);
    return { h: this.norm(stream, this.gain(gain), normed), x: stream };
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

/**
 * Rows that a 4-bit kernel processes at once: one more leaves a single row (StrideM in onnxruntime's
 * qnbitgemm.cpp).
 */
const ROWS_AT_ONCE = 128;

/** Products of a graph with 4-bit weights from `quantizeBlocks`. */
export class Int4Products {
  private readonly padding = new Map<number, string>();

  /**
   * @param padsLoneRow adds a row of zeros to a single row. x86 with AVX2 and without AVX-512 has a kernel for
   * single rows that adds in another order than the one for several.
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
    // Not `Slice`, after which ONNX Runtime no longer infers N, which attention needs.
    return g.node('Split', [y, 'padding.parts'], [output, `${output}.padding`], { axis: 0 });
  }

  /** @returns zeros `[1, T, K]` if x has a single row, otherwise `[0, T, K]`. */
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

/** A stream times a weight of the base, in its served format. */
class WeightProducts {
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
    if (format === 'int4')
      return this.int4.multiply([x, ...this.int4Weights(name, precision)], shape, output);
    if (this.params.flavour === 'gpu') {
      const inputs = [tensors.weight(`${name}.w`), tensors.numbers(`${name}.s`, precision)];
      return blockProduct(g, [x, ...inputs], { ...shape, bits: 8 }, output);
    }
    const { values, max } = this.quantizeRows(x);
    return g.node('Mul', [this.int8Product(values, name, `${name}.unit`), max], output);
  }

  /**
   * Rows of x `[1, M, K]`, in parts one behind the other, each part times a weight of its own. A lone row of a part is not
   * padded. On a processor in float32 only.
   * @param parts.counts rows of each part. @param parts.names of the weights.
   */
  multiplyParts(
    { x, counts, names }: { x: string; counts: string; names: readonly string[] },
    shape: ProductShape,
    output: string,
  ): string {
    const { g, format } = this.params;
    const rows = format === 'int8' ? this.quantizeRows(x) : { values: x, max: null };
    const parts = names.map((_, index) => `${output}.in.${index}`);
    g.node('Split', [rows.values, counts], parts, { axis: 1 });
    const products = names.map((name, index) =>
      this.part(parts[index]!, name, shape, `${output}.out.${index}`),
    );
    if (rows.max === null) return g.node('Concat', products, output, { axis: 1 });
    const unit = g.node('Concat', products, `${output}.unit`, { axis: 1 });
    return g.node('Mul', [unit, rows.max], output);
  }

  private part(x: string, name: string, shape: ProductShape, output: string): string {
    const { g, format, tensors } = this.params;
    if (format === 'f32') return g.node('MatMul', [x, tensors.weight(`${name}.w`)], output);
    if (format === 'int4')
      return blockProduct(g, [x, ...this.int4Weights(name, 'f32')], { ...shape, bits: 4 }, output);
    return this.int8Product(x, name, output);
  }

  private int4Weights(name: string, precision: Precision): string[] {
    const { tensors } = this.params;
    return [
      tensors.weight(`${name}.w`),
      tensors.numbers(`${name}.s`, precision),
      tensors.weight(`${name}.z`),
    ];
  }

  /** Of rows as {@link quantizeRows} makes them, less their maximum. */
  private int8Product(values: string, name: string, output: string): string {
    const { g, tensors } = this.params;
    const inputs = [values, tensors.weight(`${name}.w`), 'q.scale', tensors.weight(`${name}.s`), 'q.zero'];
    return g.node('MatMulIntegerToFloat', inputs, output, {}, MICROSOFT);
  }
}
