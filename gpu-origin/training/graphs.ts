/**
 * Graphs to train low-rank deltas over a served base: forward and backward of one layer, with weights as inputs, so that
 * one pair of models serves all layers that are alike; and the head with its loss. T = sequences of the batch times
 * `length` tokens, padded on the right; S sequences; N = S * kvHeads groups of heads, or S * valueHeads of a DeltaNet.
 *
 * Weights are those that the origin has on disk (`prepareWeights`): q, k and v side by side, gains folded, rotated, int8
 * or float32. Gate and up lie apart: two products cost less than splitting one output and joining its gradients. A delta
 * on them is A' = A diag(gain) R and B' = B R, both `[rank, width]`.
 */
import {
  convolvedChannels,
  DataType,
  type DeltaNet,
  type Experts,
  type LinearKind,
  linearShape,
  type LlamaConfig,
  type Rope,
} from '../model/base-model.ts';
import {
  ATTENTION,
  DELTA_NET,
  DELTA_NORM,
  FINAL_NORM,
  foldsGains,
  GATED_ATTENTION,
  HEAD_PRODUCT,
  LAYER_EMBEDDING_NORM,
  LAYER_PROJECTION,
  LAYER_PROJECTION_NORM,
  type LinearGroup,
  normsBefore,
  qkNormSize,
} from '../model/prepare-weights.ts';
import { denseRotation, type Rotation, type RotationSet } from '../model/rotation.ts';
import { DeltaNetTape } from './delta-net.ts';
import { ExpertTape } from './experts.ts';
import { type Dims, type FrozenMatrix, type Model, type Output, Tape } from './tape.ts';

/**
 * How frozen weights lie in memory. `int8`: values and a scale for each output, cast to float32 while their layer runs.
 * `scaled`: the same in float16 or float32, which hold int8 exactly, for GPUs: WebGPU has no int8 inputs that stay in
 * its memory.
 */
export type FrozenForm = 'f32' | 'int8' | 'scaled-f32' | 'scaled-f16';

export interface GraphParams {
  /** Of the layer, see `ofLayer`; without a `deltaNet` if it has attention. */
  config: LlamaConfig;
  rotations: RotationSet | null;
  form: FrozenForm;
  /** Linears with a trained delta, and its factor. */
  trained: readonly LinearKind[];
  scale: number;
  /** Whether the trained delta acts on some tokens only. */
  activated: boolean;
  /** The deltas of the chain below, their scales in their B. */
  frozen: readonly FrozenDelta[];
  /** The backward model computes the layer again from its input. */
  recompute: boolean;
  /** Default: its keys and values are its own alone. */
  sharing?: Sharing | null;
}

/** Whether later layers read the layer's keys and values, or it reads those of an earlier one. */
export type Sharing = 'lends' | 'borrows';

/** Members of the frozen chain that act on the same tokens. */
export interface FrozenDelta {
  /** Linears that it has a part of. */
  readonly kinds: readonly LinearKind[];
  /** Whether it acts on some tokens only. */
  readonly activated: boolean;
}

export interface LayerGraphs {
  forward: Model;
  backward: Model;
  /** What forward hands to backward. */
  kept: ReadonlyMap<string, Output>;
}

/** The number that a layer's output is multiplied by, `[1]`. */
const SCALAR = 'scalar';

/** Shared keys and values `[N, length, headDim]`: outputs of a layer that lends them, inputs of one that borrows them. */
export const SHARED = ['keys', 'values'] as const;
/** Inputs of both layers' backward models: what the gradients of shared keys and values get of later layers. */
export const gradientOfLater = (shared: (typeof SHARED)[number]): string => `later.${shared}`;

/** Inputs of layers that have embeddings of their own, see `layerEmbedding`: the usual one, and the layer's. */
export const EMBEDDED = 'embedded';
export const LAYER_EMBEDDED = 'layerEmbedded';

/** The trained delta, or the place of one in the frozen chain. */
type Delta = 'trained' | number;

/** Names of inputs of a layer's graphs. */
export const deltaInput = (kind: LinearKind, side: 'A' | 'B', which: Delta): string =>
  `${kind}.${side}${which === 'trained' ? '' : `.frozen.${which}`}`;
/** `[T, 1]`: 1 where an activated delta acts, 0 elsewhere. */
export const actsInput = (which: Delta): string => `acts.${which}`;

/** Symbolic ranks of a kind's trained and frozen deltas. */
const trainedRank = 'R';
const frozenRank = (kind: LinearKind, which: number): string => `F${which}_${kind}`;

const FROZEN_TYPE: Readonly<Record<FrozenForm, DataType>> = {
  f32: 'f32',
  int8: 'i8',
  'scaled-f32': 'f32',
  'scaled-f16': 'f16',
};

/** Frozen weights of the base on a tape. */
class FrozenWeights {
  constructor(
    private readonly t: Tape,
    private readonly form: FrozenForm,
  ) {}

  /**
   * A weight `[in, out]`. Scales stay apart, for activations: DequantizeLinear with a scale for each column takes sixteen
   * times as long as a cast on processors.
   */
  weight(name: string, dims: readonly [number, number]): FrozenMatrix {
    const { t, form } = this;
    const type = FROZEN_TYPE[form];
    const w = t.input(`${name}.w`, type, dims);
    return {
      values: type === 'f32' ? w : t.emit('Cast', [w], { to: DataType.f32 })[0]!,
      scales: form === 'f32' ? null : t.input(`${name}.s`, 'f32', [dims[1]]),
    };
  }
}

/** x times a block-diagonal rotation. */
function rotateBlocks(t: Tape, x: string, rotation: Rotation | undefined, width: number): string {
  if (rotation === undefined || rotation.size === 1) return x;
  const { size } = rotation;
  const matrix = t.floats(`rotation.${size}`, [size, size], denseRotation(rotation));
  return t.reshape(t.gemm(t.reshape(x, [-1, size], [-1, width]), matrix), [-1, width], [-1, size]);
}

/** The linears' view of a normed stream: itself, or rotated here if the stream is not. */
function linearInput(t: Tape, h: string, { config, rotations }: GraphParams): string {
  if (rotations === null || rotations.stream !== null) return h;
  return rotateBlocks(t, h, rotations.input, config.hidden);
}

class LayerTape {
  readonly t = new Tape();
  private readonly weights: FrozenWeights;
  /** Inputs whose gradients are wanted. */
  private readonly wanted = new Map<string, Dims>();
  /** What attention reads, by {@link SHARED}. */
  private readonly shared = new Map<string, string>();

  constructor(
    private readonly params: GraphParams,
    private readonly length: number,
    private readonly rope: Rope | null,
  ) {
    this.weights = new FrozenWeights(this.t, params.form);
  }

  /** A group's outputs, one by one, with their deltas. */
  private linears(x: string, group: LinearGroup, kept: boolean): string[] {
    const { t } = this;
    const { config, trained, frozen, scale, activated } = this.params;
    const name = group.join('-');
    const shapes = group.map((kind) => linearShape(config, kind));
    const [inputs, outputs] = [shapes[0]!.in, shapes.reduce((sum, { out }) => sum + out, 0)];
    const { values, scales } = this.weights.weight(name, [inputs, outputs]);
    let y = t.columns(t.gemm(x, values), scales);
    if (config.qkvBias && group[0] === 'q') y = t.add(y, t.input(`${name}.b`, 'f32', [outputs]));
    const widths = shapes.map(({ out }) => out);
    return t.split(y, widths).map((part, index) => {
      const kind = group[index]!;
      let all = part;
      for (const which of [...frozen.keys(), 'trained' as const]) {
        const delta = which === 'trained' ? { kinds: trained, activated } : frozen[which]!;
        if (!delta.kinds.includes(kind)) continue;
        const rank = which === 'trained' ? trainedRank : frozenRank(kind, which);
        const take = (side: 'A' | 'B', width: number): string => {
          const input = deltaInput(kind, side, which);
          return which === 'trained'
            ? this.variable(input, [rank, width])
            : t.input(input, 'f32', [rank, width]);
        };
        const product = t.gemm(x, take('A', inputs), { transB: true });
        const low = delta.activated
          ? t.columns(product, t.input(actsInput(which), 'f32', ['T', 1]))
          : product;
        if (which === 'trained') t.keep(low, ['T', rank]);
        const b = take('B', widths[index]!);
        all = t.gemm(low, b, { alpha: which === 'trained' ? scale : 1, c: all });
      }
      return kept ? t.keep(all, ['T', widths[index]!]) : all;
    });
  }

  private variable(name: string, dims: Dims): string {
    this.wanted.set(name, dims);
    return this.t.variable(name, dims);
  }

  private gain(path: string, size: number): string {
    return this.t.input(`${path}.gain`, 'f32', [size]);
  }

  /** What linears read of the stream. */
  private read(x: string, which: 'attention' | 'mlp'): string {
    const { config } = this.params;
    const before = normsBefore(config);
    if (before === null) return linearInput(this.t, x, this.params);
    const gain = foldsGains(config) ? null : this.gain(before[which], config.hidden);
    return linearInput(this.t, this.t.rmsNorm(x, gain, config.rmsEpsilon, ['T']), this.params);
  }

  /** Behind attention or the MLP, where the family has a norm there. */
  private after(y: string, path: string): string {
    const { config } = this.params;
    if (!config.postNorms) return y;
    return this.t.rmsNorm(
      this.t.keep(y, ['T', config.hidden]),
      this.gain(path, config.hidden),
      config.rmsEpsilon,
      ['T'],
    );
  }

  /** q or k with what the family normalizes together as the last axis of `rows` and it. */
  private normed(x: string, kind: 'q' | 'k', rows: Dims): string {
    const { config } = this.params;
    const size = qkNormSize(config, kind);
    const gain = this.gain(`self_attn.${kind}_norm`, size);
    return this.t.rmsNorm(this.t.keep(x, [...rows, size]), gain, config.rmsEpsilon, rows);
  }

  /** `[T, n headDim]` to `[N, n / kvHeads * length, headDim]`: normed, rotated. */
  private heads(y: string, kind: 'q' | 'k' | 'v', n: number): string {
    const { t, length, params } = this;
    const { rope } = this;
    const { kvHeads, headDim, qkNorm, valueNorm, attentionScale, rmsEpsilon } = params.config;
    const whole = kind !== 'v' && qkNorm === 'width' ? this.normed(y, kind, ['T']) : y;
    let x = t.reshape(whole, [-1, length, n, headDim], [-1, n * headDim]);
    if (kind !== 'v' && qkNorm === 'head') x = this.normed(x, kind, ['S', length, n]);
    if (kind === 'v' && valueNorm) {
      const rows: Dims = ['S', length, n];
      x = t.rmsNorm(t.keep(x, [...rows, headDim]), null, rmsEpsilon, rows);
    }
    x = t.transpose(x, [0, 2, 1, 3]);
    if (kind !== 'v' && rope !== null) {
      const half = rope.dim / 2;
      const table = (name: string): string => t.input(name, 'f32', [length, half]);
      x = t.rope(x, table('cos'), table('sin'), { half, rest: headDim - rope.dim });
    }
    if (kind === 'q') x = t.scale(x, attentionScale ?? headDim ** -0.5);
    const grouped = [(n / kvHeads) * length, headDim];
    return t.keep(t.reshape(x, [-1, ...grouped], [-1, n, length, headDim]), ['N', ...grouped]);
  }

  /** Queries, keys and values of all groups of heads, and the gate of what these give. */
  private attended(x: string): { queries: string; keys: string; values: string; gate: string | null } {
    const { heads, kvHeads, outputGate } = this.params.config;
    if (this.params.sharing === 'borrows') {
      const queries = this.heads(this.linears(x, ['q'], false)[0]!, 'q', heads);
      const [keys, values] = SHARED.map((name) => this.variable(name, this.sharedDims)) as [string, string];
      return { queries, keys, values, gate: null };
    }
    const group = outputGate ? GATED_ATTENTION : ATTENTION;
    const parts = this.linears(x, group, false);
    const part = (kind: LinearKind): string => parts[group.indexOf(kind)]!;
    return {
      queries: this.heads(part('q'), 'q', heads),
      keys: this.heads(part('k'), 'k', kvHeads),
      values: this.heads(part('v'), 'v', kvHeads),
      gate: outputGate ? part('outputGate') : null,
    };
  }

  private get sharedDims(): Dims {
    return ['N', this.length, this.params.config.headDim];
  }

  private attention(x: string): string {
    const { t, length, params } = this;
    const { heads, kvHeads, headDim, attentionCap } = params.config;
    const rows = (heads / kvHeads) * length;
    const { queries, keys, values, gate } = this.attended(x);
    this.shared.set('keys', keys).set('values', values);
    const products = t.matmul(queries, keys, true);
    const capped = attentionCap === null ? products : t.cap(products, attentionCap);
    const scores = t.add(capped, t.input('mask', 'f32', [rows, length]));
    const mixed = t.matmul(t.softmax(scores), values);
    const apart = t.reshape(mixed, [-1, heads, length, headDim], [-1, rows, headDim]);
    const width = heads * headDim;
    const together = t.reshape(t.transpose(apart, [0, 2, 1, 3]), [-1, width], [-1, length, heads, headDim]);
    t.keep(together, ['T', width]);
    if (gate === null) return this.linears(together, ['o'], false)[0]!;
    const opened = t.mul(together, t.sigmoid(t.keep(gate, ['T', width])));
    return this.linears(rotateBlocks(t, opened, params.rotations?.head, width), ['o'], false)[0]!;
  }

  /** Of a layer with a state. */
  private deltaNet(x: string, net: DeltaNet): string {
    const { t, length, params } = this;
    const { valueHeads, valueDim } = net;
    const [qkv, gate, beta, decay] = this.linears(x, DELTA_NET, true) as [string, string, string, string];
    const read = new DeltaNetTape(t, net, length).build(
      { qkv, beta, decay },
      {
        kernel: t.input('delta.kernel', 'f32', [convolvedChannels(net), 1, net.kernel]),
        factor: t.input('delta.decay', 'f32', [valueHeads]),
        bias: t.input('delta.bias', 'f32', [valueHeads]),
      },
    );
    t.keep(read, ['T', valueHeads, valueDim]);
    const gain = this.gain(DELTA_NORM, valueDim);
    const normed = t.rmsNorm(read, gain, params.config.rmsEpsilon, ['T', valueHeads]);
    const width = valueHeads * valueDim;
    const gated = t.mul(t.reshape(normed, [-1, width], [-1, valueHeads, valueDim]), t.silu(gate));
    return this.linears(rotateBlocks(t, gated, params.rotations?.head, width), ['deltaOut'], false)[0]!;
  }

  private mlp(x: string): string {
    const { t, params } = this;
    const { config, rotations } = params;
    const { experts } = config;
    if (experts !== null) return this.sparse(x, { ...config, experts });
    const [gate, up] = [this.linears(x, ['gate'], true)[0]!, this.linears(x, ['up'], true)[0]!];
    const inner = rotateBlocks(t, t.mul(this.active(gate), up), rotations?.down, config.ffn);
    return this.linears(inner, ['down'], false)[0]!;
  }

  /** The MLP of each token's experts. */
  private sparse(x: string, config: LlamaConfig & { experts: Experts }): string {
    const { t, weights, params } = this;
    return new ExpertTape(t, {
      config,
      weight: (name, dims) => weights.weight(name, dims),
      gated: (gate, up) => t.mul(this.active(gate), up),
      turned: (inner) => rotateBlocks(t, inner, params.rotations?.down, config.ffn),
    }).build(x);
  }

  private active(gate: string): string {
    return this.params.config.activation === 'silu' ? this.t.silu(gate) : this.t.gelu(gate);
  }

  /** The stream with the layer's own embedding of each token, as far as a gate over the stream lets it pass. */
  private withLayerEmbedding(x: string): string {
    const { t, params } = this;
    const { layerEmbedding, hidden } = params.config;
    if (layerEmbedding === null) return x;
    const stream = t.keep(x, ['T', hidden]);
    const gate = this.linears(linearInput(t, stream, params), ['layerGate'], true)[0]!;
    const gated = t.mul(this.active(gate), this.layerEmbedding(layerEmbedding));
    return t.add(stream, this.after(this.linears(gated, ['layerOut'], false)[0]!, LAYER_EMBEDDING_NORM));
  }

  /** The layer's own embedding, and a projection of the usual one, normed. No gradient: both are frozen. */
  private layerEmbedding(width: number): string {
    const { t, params } = this;
    const { hidden, rmsEpsilon } = params.config;
    const usual = linearInput(t, t.input(EMBEDDED, 'f32', ['T', hidden]), params);
    const { values, scales } = this.weights.weight(LAYER_PROJECTION, [hidden, width]);
    const projected = t.columns(t.gemm(usual, values), scales);
    const gain = t.input(LAYER_PROJECTION_NORM, 'f32', [width]);
    const normed = t.rmsNorm(projected, gain, rmsEpsilon, ['T']);
    return t.keep(t.add(normed, t.input(LAYER_EMBEDDED, 'f32', ['T', width])), ['T', width]);
  }

  build(): LayerGraphs {
    const { t, params } = this;
    const { config, recompute, sharing } = params;
    const stream: Dims = ['T', config.hidden];
    const x = this.variable('x', stream);
    const read = this.read(x, 'attention');
    const mixed = config.deltaNet === null ? this.attention(read) : this.deltaNet(read, config.deltaNet);
    const middle = t.keep(t.add(x, this.after(mixed, 'post_attention_layernorm')), stream);
    const sum = t.add(middle, this.after(this.mlp(this.read(middle, 'mlp')), 'post_feedforward_layernorm'));
    const whole = this.withLayerEmbedding(sum);
    const y = t.columns(whole, config.layerScalars ? t.input(SCALAR, 'f32', [1]) : null);
    const outputs = new Map<string, Output>([['y', { value: y, type: 'f32', dims: stream }]]);
    const later = new Map<string, string>();
    for (const name of sharing == null ? [] : SHARED) {
      const [value, dims] = [this.shared.get(name)!, this.sharedDims];
      later.set(value, t.input(gradientOfLater(name), 'f32', dims));
      if (sharing === 'lends') outputs.set(name, { value, type: 'f32', dims });
    }
    const found = t.gradients(y, t.input('dy', 'f32', stream), [...this.wanted.keys()], later);
    const gradients = [...this.wanted].map(([name, dims], index): [string, Output] => [
      gradientOf(name),
      { value: found[index]!, type: 'f32', dims },
    ]);
    return t.cut({
      outputs,
      gradients: new Map(gradients),
      recompute,
    });
  }
}

/** The backward model's output for an input of the forward one. */
export const gradientOf = (input: string): string => `d.${input}`;

/** @param rope of the layers; null = none. Windows and tables are inputs. */
export const buildLayerGraphs = (params: GraphParams, length: number, rope: Rope | null): LayerGraphs =>
  new LayerTape(params, length, rope).build();

/**
 * The head over some rows of the stream, chosen by `rows` `[N]`, with their `target` and `weight`.
 * @returns `score`: `gap` and `sure` of each (`crossEntropy`); `loss`: these, and `d` `[N, hidden]`, the gradient of the rows.
 */
export function buildHeadGraphs(params: GraphParams): { loss: Model; score: Model } {
  const { config, form } = params;
  const { hidden, vocab, rmsEpsilon, logitCap } = config;
  const t = new Tape();
  const x = t.input('x', 'f32', ['T', hidden]);
  const rows = t.leaf(t.emit('Gather', [x, t.input('rows', 'i32', ['N'])], { axis: 0 })[0]!);
  const gain = foldsGains(config) ? null : t.input(FINAL_NORM, 'f32', [hidden]);
  const h = linearInput(t, t.rmsNorm(rows, gain, rmsEpsilon, ['N']), params);
  const w = new FrozenWeights(t, form).weight(HEAD_PRODUCT, [hidden, vocab]);
  const target = t.input('target', 'i32', ['N']);
  const { gap, sure, loss } = t.crossEntropy(h, w, target, t.input('weight', 'f32', ['N', 1]), logitCap);
  const d = t.gradients(loss, loss, [rows])[0]!;
  const each = (value: string): Output => ({ value, type: 'f32', dims: ['N', 1] });
  const scores: [string, Output][] = [
    ['gap', each(gap)],
    ['sure', each(sure)],
  ];
  return {
    score: t.model(new Map(scores)),
    loss: t.model(new Map([...scores, ['d', { value: d, type: 'f32', dims: ['N', hidden] }]])),
  };
}
