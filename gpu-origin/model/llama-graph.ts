/**
 * The Llama family as an ONNX graph: token ids, KV cache and low-rank deltas in; logits at chosen positions and, where it is asked for, the last hidden states out.
 * Three graphs share the same weights and differ in the linears that take a delta: none, q and v, or all seven. Each is
 * there whole, and in parts of its layers.
 */
import { type LinearKind, linearShape, type LlamaConfig } from './base-model.ts';
import {
  DataType,
  DELTA_KINDS,
  deltaNames,
  deltaShapeOfA,
  type GraphFlavour,
  type GraphKind,
  type Layers,
  type Precision,
  streamNames,
  type WeightEntry,
} from './graph-form.ts';
import { GraphNorms, GraphTensors, WeightProducts } from './graph-parts.ts';
import { GraphBuilder, MICROSOFT } from './onnx-proto.ts';
import {
  EMBEDDING_SCALES,
  groupName,
  HEAD_PRODUCT,
  type LinearGroup,
  mlpNorm,
  rotaryNames,
  type WeightFormat,
} from './prepare-weights.ts';
import { denseRotation, type Rotation, type RotationSet } from './rotation.ts';

class LlamaGraph {
  private readonly g = new GraphBuilder();
  private readonly tensors: GraphTensors;
  private readonly products: WeightProducts;
  private readonly norms: GraphNorms;
  /** Of activations, keys and values and deltas. */
  private readonly precision: Precision;
  /** Of what layers add to: a few of Gemma's numbers are too large for float16. */
  private readonly streamPrecision: Precision;

  constructor(
    private readonly params: {
      config: LlamaConfig;
      kind: GraphKind;
      /** Of the part; all unless given. */
      layers?: Layers;
      /** Tokens that a row can have: a window of as many is none. */
      context: number;
      format: WeightFormat;
      flavour: GraphFlavour;
      /** Of products in 4 bit: as `Int4Products` says; not unless given. */
      padsLoneRow?: boolean;
      /** float32 unless given. */
      precision?: Precision;
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
    const shapes = group.map((kind) => linearShape(this.params.config, kind));
    const shape = { K: shapes[0]!.in, N: shapes.reduce((sum, { out }) => sum + out, 0) };
    const y = this.products.multiply(x, name, shape, this.precision, `${name}.y`);
    if (!this.tensors.has(`${name}.b`)) return y;
    return this.g.node('Add', [y, this.tensors.numbers(`${name}.b`, this.precision)], `${name}.yb`);
  }

  /** The tokens' rows of the embedding; from int8, its values times the row's scale. */
  private embedded(): string {
    const g = this.g;
    const rows = (table: string, output: string): string =>
      g.node('Gather', [table, 'tokens'], output, { axis: 0 });
    if (!this.tensors.has(EMBEDDING_SCALES))
      return rows(this.tensors.numbers('embed', this.streamPrecision), 'x');
    const bytes = rows(this.tensors.weight('embed'), 'embed.i8');
    const values = g.node('Cast', [bytes], 'embed.values', { to: DataType.f32 });
    const scales = rows(this.tensors.weight(EMBEDDING_SCALES), 'embed.scales');
    return this.tensors.cast(g.node('Mul', [values, scales], 'x'), 'f32', this.streamPrecision);
  }

  private takesDelta(kind: LinearKind): boolean {
    return DELTA_KINDS[this.params.kind].includes(kind);
  }

  /** y + (x A^T) B, where this graph has a delta for the kind. */
  private withDelta(y: string, x: string, layer: number, kind: LinearKind): string {
    if (!this.takesDelta(kind)) return y;
    const g = this.g;
    const name = `l${layer}.${kind}`;
    const shape = linearShape(this.params.config, kind);
    const { a, b } = deltaNames(layer, kind);
    const { flavour } = this.params;
    g.input(a, this.precision, deltaShapeOfA<string | number>(flavour, 'B', `R_${kind}`, shape.in));
    g.input(b, this.precision, ['B', `R_${kind}`, shape.out]);
    if (flavour === 'gpu') g.node('MatMul', [x, a], `${name}.xa`);
    else g.node('FusedMatMul', [x, a], `${name}.xa`, { transB: 1 }, MICROSOFT);
    g.node('MatMul', [`${name}.xa`, b], `${name}.delta`);
    return g.node('Add', [y, `${name}.delta`], `${name}.yd`);
  }

  /** The outputs of a group's linears, one by one, with their deltas. */
  private linears(x: string, layer: number, group: LinearGroup): string[] {
    const y = this.group(x, layer, group);
    const widths = group.map((kind) => linearShape(this.params.config, kind).out);
    const split = this.tensors.sizes('split', widths);
    const names = group.map((kind) => `l${layer}.${kind}.y`);
    this.g.node('Split', [y, split], names, { axis: -1 });
    return group.map((kind, index) => this.withDelta(names[index]!, x, layer, kind));
  }

  private linear(x: string, layer: number, kind: LinearKind): string {
    return this.withDelta(this.group(x, layer, [kind]), x, layer, kind);
  }

  /** x times a block-diagonal rotation. @param name of the result; the blocks' size and the width make the constants'. */
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

  /** What linears read of a normed stream: itself, or rotated here where the stream is not. */
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
  private attention(layer: number, q: string, k: string, v: string): string {
    const g = this.g;
    const { config, context } = this.params;
    const { window, rope } = config.attention[layer]!;
    const cache = ['B', config.kvHeads, 'M', config.headDim] as const;
    const pastK = g.input(`past.${layer}.k`, this.precision, cache);
    const pastV = g.input(`past.${layer}.v`, this.precision, cache);
    g.output(`present.${layer}.k`, this.precision, cache);
    g.output(`present.${layer}.v`, this.precision, cache);
    const tables = rope === null ? null : rotaryNames(rope);
    return g.node(
      'GroupQueryAttention',
      [
        ...[q, k, v, pastK, pastV, 'last_position', 'total_length'],
        ...(tables === null
          ? []
          : [tables.cos, tables.sin].map((table) => this.tensors.numbers(table, this.precision))),
      ],
      [`l${layer}.attention`, `present.${layer}.k`, `present.${layer}.v`],
      {
        num_heads: config.heads,
        kv_num_heads: config.kvHeads,
        do_rotary: tables === null ? 0 : 1,
        ...(config.attentionScale === null ? {} : { scale: { float: config.attentionScale } }),
        ...(window === null || window >= context ? {} : { local_window_size: window }),
      },
      MICROSOFT,
    );
  }

  private layer(layer: number, h: string, x: string): { h: string; x: string } {
    const g = this.g;
    const { config } = this.params;
    const p = `l${layer}`;
    const input = this.input(h);
    const [q, k, v] = (
      this.takesDelta('q') || config.qkNorm
        ? this.linears(input, layer, ['q', 'k', 'v'])
        : [this.group(input, layer, ['q', 'k', 'v']), '', '']
    ) as [string, string, string];
    const attention = config.qkNorm
      ? this.attention(
          layer,
          this.norms.ofHeads(q, layer, 'q', config.heads),
          this.norms.ofHeads(k, layer, 'k', config.kvHeads),
          v,
        )
      : this.attention(layer, q, k, v);
    const o = this.norms.after(this.linear(attention, layer, 'o'), layer, 'post_attention_layernorm');
    const between = { normed: `${p}.h1`, stream: `${p}.x1` };
    const middle = this.norms.add(x, o, between, { layer, path: mlpNorm(config) });
    const [gate, up] = this.linears(this.input(middle.h), layer, ['gate', 'up']) as [string, string];
    g.node('Mul', [this.activation(gate, p), up], `${p}.gated`);
    const gated = this.rotateBlocks(`${p}.gated`, this.params.rotations?.down, config.ffn, `${p}.act`);
    const down = this.norms.after(this.linear(gated, layer, 'down'), layer, 'post_feedforward_layernorm');
    return this.norms.add(middle.x, down, streamNames(layer), { layer: layer + 1, path: 'input_layernorm' });
  }

  /** The stream before the first layer: of the tokens, or of the part before. */
  private begin(layer: number): { h: string; x: string } {
    const g = this.g;
    if (layer === 0) {
      g.input('tokens', 'i64', ['B', 'T']);
      const x = this.embedded();
      return { h: this.norms.first(x, 'h'), x };
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
    g.input('last_position', 'i32', ['B']);
    g.input('total_length', 'i32', [1]);
    let { h, x } = this.begin(from);
    for (let layer = from; layer < to; layer++) ({ h, x } = this.layer(layer, h, x));
    if (to === config.layers) this.end(h);
    else for (const name of [h, x]) g.output(name, this.streamPrecision, ['B', 'T', config.hidden]);
    return g.build(`llama-${kind}-${from}-${to}`);
  }

  /** The head over the positions that are wanted. */
  private end(h: string): void {
    const g = this.g;
    const { config } = this.params;
    g.input('positions', 'i64', ['B', 'P', 1]);
    // Costs nothing where it is not bound. Where the norm's gain is folded into the head, it lacks it.
    const states = this.tensors.cast(h, this.streamPrecision, 'f32');
    g.node('Identity', [states], 'hidden');
    g.output('hidden', 'f32', ['B', 'T', config.hidden]);
    const wanted = g.node('GatherND', [states, 'positions'], 'wanted', { batch_dims: 1 });
    const shape = { K: config.hidden, N: config.vocab };
    this.products.multiply(this.input(wanted, 'f32', 'f32'), HEAD_PRODUCT, shape, 'f32', 'logits');
    g.output('logits', 'f32', ['B', 'P', config.vocab]);
  }
}

/** @returns a serialized ONNX model whose large tensors lie in `weightsFile` beside it. */
export function buildLlamaGraph(params: ConstructorParameters<typeof LlamaGraph>[0]): Uint8Array {
  return new LlamaGraph(params).build();
}
