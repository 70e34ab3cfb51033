/**
 * The Llama family as an ONNX graph: token ids, KV cache and low-rank deltas in; logits at chosen positions and, where it is asked for, the last hidden states out.
 * Three graphs share the same weights and differ in the linears that take a delta: none, q and v, or all seven.
 */
import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from './base-model.ts';
import { GraphBuilder, MICROSOFT } from './onnx-proto.ts';
import { groupName, type WeightFormat } from './prepare-weights.ts';
import { denseRotation, type RotationSet } from './rotation.ts';

export type GraphKind = 'none' | 'qv' | 'all';

export const GRAPH_KINDS: readonly GraphKind[] = ['none', 'qv', 'all'];

export const DELTA_KINDS: Record<GraphKind, readonly LinearKind[]> = {
  none: [],
  qv: ['q', 'v'],
  all: LINEAR_KINDS,
};

export interface WeightEntry {
  name: string;
  type: 'f32' | 'i8';
  dims: number[];
  offset: number;
  bytes: number;
}

/** Names of the inputs that carry a linear's delta: A `[B, R, in]`, B `[B, R, out]`. */
export const deltaNames = (layer: number, kind: LinearKind): { a: string; b: string } => ({
  a: `l${layer}.${kind}.A`,
  b: `l${layer}.${kind}.B`,
});

/** Smallest row maximum that is divided by; a row of zeros stays zeros. */
const ROW_EPSILON = 1e-8;

class LlamaGraph {
  private readonly g = new GraphBuilder();
  private readonly quantized = new Map<string, { values: string; max: string }>();
  private readonly weights: Map<string, WeightEntry>;

  constructor(
    private readonly params: {
      config: LlamaConfig;
      kind: GraphKind;
      format: WeightFormat;
      rotations: RotationSet | null;
      weights: readonly WeightEntry[];
      weightsFile: string;
    },
  ) {
    this.weights = new Map(params.weights.map((entry) => [entry.name, entry]));
  }

  private weight(name: string): string {
    const entry = this.weights.get(name);
    if (entry === undefined) throw new Error(`weight ${name} was not prepared`);
    return this.g.external({ ...entry, file: this.params.weightsFile });
  }

  private ones(size: number): string {
    return this.g.constant(`ones.${size}`, 'f32', [size], new Float32Array(size).fill(1));
  }

  /** x -> u8 with one scale per row: round(x / max|row| * 127) + 128. Linears that share x share this. */
  private quantizeRows(x: string): { values: string; max: string } {
    const known = this.quantized.get(x);
    if (known !== undefined) return known;
    const g = this.g;
    const scale = g.constant('q.scale', 'f32', [], new Float32Array([1 / 127]));
    const zero = g.constant('q.zero', 'u8', [], new Uint8Array([128]));
    const epsilon = g.constant('q.epsilon', 'f32', [], new Float32Array([ROW_EPSILON]));
    g.node('Abs', [x], `${x}.abs`);
    g.node('ReduceMax', [`${x}.abs`], `${x}.absmax`, { axes: [-1], keepdims: 1 });
    const max = g.node('Max', [`${x}.absmax`, epsilon], `${x}.max`);
    g.node('Div', [x, max], `${x}.unit`);
    const values = g.node('QuantizeLinear', [`${x}.unit`, scale, zero], `${x}.u8`);
    const result = { values, max };
    this.quantized.set(x, result);
    return result;
  }

  private matmul(x: string, name: string, output: string): string {
    const g = this.g;
    if (this.params.format === 'f32') return g.node('MatMul', [x, this.weight(`${name}.w`)], output);
    const { values, max } = this.quantizeRows(x);
    const inputs = [values, this.weight(`${name}.w`), 'q.scale', this.weight(`${name}.s`), 'q.zero'];
    const unit = g.node('MatMulIntegerToFloat', inputs, `${name}.unit`, {}, MICROSOFT);
    return g.node('Mul', [unit, max], output);
  }

  /** The linears of a group as one product. */
  private group(x: string, layer: number, group: readonly LinearKind[]): string {
    const name = groupName(layer, group);
    const y = this.matmul(x, name, `${name}.y`);
    if (!this.weights.has(`${name}.b`)) return y;
    return this.g.node('Add', [y, this.weight(`${name}.b`)], `${name}.yb`);
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
    g.input(a, 'f32', ['B', `R_${kind}`, shape.in]);
    g.input(b, 'f32', ['B', `R_${kind}`, shape.out]);
    g.node('FusedMatMul', [x, a], `${name}.xa`, { transB: 1 }, MICROSOFT);
    g.node('MatMul', [`${name}.xa`, b], `${name}.delta`);
    return g.node('Add', [y, `${name}.delta`], `${name}.yd`);
  }

  /** The outputs of a group's linears, one by one, with their deltas. */
  private linears(x: string, layer: number, group: readonly LinearKind[]): string[] {
    const y = this.group(x, layer, group);
    const widths = group.map((kind) => linearShape(this.params.config, kind).out);
    const split = this.g.constant(
      `split.${widths.join('-')}`,
      'i64',
      [widths.length],
      BigInt64Array.from(widths, BigInt),
    );
    const names = group.map((kind) => `l${layer}.${kind}.y`);
    this.g.node('Split', [y, split], names, { axis: -1 });
    return group.map((kind, index) => this.withDelta(names[index]!, x, layer, kind));
  }

  private linear(x: string, layer: number, kind: LinearKind): string {
    return this.withDelta(this.group(x, layer, [kind]), x, layer, kind);
  }

  /** down_proj's input times the block-diagonal Hadamard. */
  private rotateDown(x: string, layer: number): string {
    const block = this.params.rotations?.down.size ?? 1;
    if (this.params.rotations === null || block === 1) return x;
    const g = this.g;
    const ffn = this.params.config.ffn;
    const matrix = g.constant(
      'down.rotation',
      'f32',
      [block, block],
      denseRotation(this.params.rotations.down),
    );
    const split = g.constant(
      'down.split',
      'i64',
      [4],
      BigInt64Array.from([0n, 0n, BigInt(ffn / block), BigInt(block)]),
    );
    const join = g.constant('down.join', 'i64', [3], BigInt64Array.from([0n, 0n, BigInt(ffn)]));
    g.node('Reshape', [x, split], `l${layer}.blocks`);
    g.node('MatMul', [`l${layer}.blocks`, matrix], `l${layer}.rotated`);
    return g.node('Reshape', [`l${layer}.rotated`, join], `l${layer}.act`);
  }

  private layer(layer: number, h: string, x: string): { h: string; x: string } {
    const g = this.g;
    const { config } = this.params;
    const p = `l${layer}`;
    const epsilon = { epsilon: { float: config.rmsEpsilon } };
    const cache = ['B', config.kvHeads, 'M', config.headDim] as const;
    // Without deltas attention reads q, k and v from the one product: key and value inputs stay empty.
    const [q, k, v] = this.takesDelta('q')
      ? this.linears(h, layer, ['q', 'k', 'v'])
      : [this.group(h, layer, ['q', 'k', 'v']), '', ''];
    const pastK = g.input(`past.${layer}.k`, 'f32', cache);
    const pastV = g.input(`past.${layer}.v`, 'f32', cache);
    g.output(`present.${layer}.k`, 'f32', cache);
    g.output(`present.${layer}.v`, 'f32', cache);
    const attention = g.node(
      'GroupQueryAttention',
      [q!, k!, v!, pastK, pastV, 'last_position', 'total_length', this.weight('cos'), this.weight('sin')],
      [`${p}.attention`, `present.${layer}.k`, `present.${layer}.v`],
      { num_heads: config.heads, kv_num_heads: config.kvHeads, do_rotary: 1 },
      MICROSOFT,
    );
    const o = this.linear(attention, layer, 'o');
    const skip = (a: string, b: string, n: number): { h: string; x: string } => {
      g.node(
        'SkipSimplifiedLayerNormalization',
        [a, b, this.ones(config.hidden)],
        [`${p}.h${n}`, '', '', `${p}.x${n}`],
        epsilon,
        MICROSOFT,
      );
      return { h: `${p}.h${n}`, x: `${p}.x${n}` };
    };
    const middle = skip(x, o, 1);
    const [gate, up] = this.linears(middle.h, layer, ['gate', 'up']) as [string, string];
    g.node('Sigmoid', [gate], `${p}.sigmoid`);
    g.node('Mul', [gate, `${p}.sigmoid`], `${p}.silu`);
    g.node('Mul', [`${p}.silu`, up], `${p}.gated`);
    const down = this.linear(this.rotateDown(`${p}.gated`, layer), layer, 'down');
    return skip(middle.x, down, 2);
  }

  build(): Uint8Array {
    const g = this.g;
    const { config } = this.params;
    g.input('tokens', 'i64', ['B', 'T']);
    // GroupQueryAttention's seqlens_k: total length of the row minus one.
    g.input('last_position', 'i32', ['B']);
    g.input('total_length', 'i32', [1]);
    g.input('positions', 'i64', ['B', 'P', 1]);
    let x = g.node('Gather', [this.weight('embed'), 'tokens'], 'x', { axis: 0 });
    let h = g.node('SimplifiedLayerNormalization', [x, this.ones(config.hidden)], 'h', {
      axis: -1,
      epsilon: { float: config.rmsEpsilon },
      stash_type: 1,
    });
    for (let layer = 0; layer < config.layers; layer++) ({ h, x } = this.layer(layer, h, x));
    // Costs nothing where it is not bound. The norm's gain is folded into the head.
    g.node('Identity', [h], 'hidden');
    g.output('hidden', 'f32', ['B', 'T', config.hidden]);
    const wanted = g.node('GatherND', [h, 'positions'], 'wanted', { batch_dims: 1 });
    this.matmul(wanted, 'head', 'logits');
    g.output('logits', 'f32', ['B', 'P', config.vocab]);
    return g.build(`llama-${this.params.kind}`);
  }
}

/** @returns a serialized ONNX model whose large tensors lie in `weightsFile` beside it. */
export function buildLlamaGraph(params: ConstructorParameters<typeof LlamaGraph>[0]): Uint8Array {
  return new LlamaGraph(params).build();
}
