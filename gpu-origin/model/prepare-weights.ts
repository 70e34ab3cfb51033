/**
 * Base tensors -> the tensors the graphs use: norm gains folded into the linears behind them, rotated, quantized.
 * Row vectors: x' = x R. With n() the RMS norm without gain and W `[out, in]`:
 *   y = W (g * n(x)) = (W diag(g) R) n(x')          q, k, v, gate, up, head
 *   x' += R^T-rotated rows of W                      o, down write to the residual stream
 *   v heads are rotated by R_v, undone by o's columns; down's input is rotated by R_down while running.
 * Where a norm stands behind o and down (Gemma, OLMo, GLM-4), x stays as it is, and what linears read is rotated by blocks
 * while running.
 */
import {
  type BaseModel,
  convolvedChannels,
  type DeltaNet,
  isDeltaNet,
  keysOf,
  type LinearKind,
  linearShape,
  type LlamaConfig,
  type Experts,
  type MlpKind,
  moduleName,
  ofLayer,
  type Rope,
  type GraphFlavour,
  type WeightEntry,
} from './base-model.ts';
import { expertModule, expertProduct, routerName, routerTensor } from './experts.ts';
import {
  rotateColumns,
  rotateRows,
  type Rotation,
  type RotationSet,
  rotationsOf,
  undoRotation,
} from './rotation.ts';

/** Formats that a base can be served in; `weights` of `/base`. */
export const WEIGHT_FORMATS = ['int8', 'int4', 'f32'] as const;
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

/** The graph's name of the product before the logits. */
export const HEAD_PRODUCT = 'head';

const EMBEDDING = 'embed';
/** The graph's name of the scales of an embedding in int8, `[vocab, 1]`. */
export const EMBEDDING_SCALES = `${EMBEDDING}.s`;

/** Format of a product's weights: with 4 bit the head stays in int8, because it affects the logits most. */
export const formatOf = (product: string, format: WeightFormat): WeightFormat =>
  format === 'int4' && product === HEAD_PRODUCT ? 'int8' : format;

interface PreparedTensor {
  name: string;
  type: WeightEntry['type'];
  dims: number[];
  data: ArrayBufferView<ArrayBuffer>;
}

/** The rotations of a linear's columns (its input) and rows (its output). */
export const ROTATED: Record<
  LinearKind,
  {
    columns: Exclude<keyof RotationSet, 'stream' | 'value' | 'layers'> | null;
    rows: 'stream' | 'value' | null;
  }
> = {
  q: { columns: 'input', rows: null },
  outputGate: { columns: 'input', rows: null },
  k: { columns: 'input', rows: null },
  v: { columns: 'input', rows: 'value' },
  o: { columns: 'head', rows: 'stream' },
  gate: { columns: 'input', rows: null },
  up: { columns: 'input', rows: null },
  down: { columns: 'down', rows: 'stream' },
  layerGate: { columns: 'input', rows: null },
  layerOut: { columns: null, rows: 'stream' },
  deltaQkv: { columns: 'input', rows: null },
  deltaGate: { columns: 'input', rows: null },
  deltaBeta: { columns: 'input', rows: null },
  deltaDecay: { columns: 'input', rows: null },
  deltaOut: { columns: 'head', rows: 'stream' },
};

export type LinearGroup = readonly [LinearKind, ...LinearKind[]];

/**
 * Linears that read the same input are one product: 4 products a layer instead of 7 cost a decode step of 16 rows
 * about a tenth less, and scales are per output row, so that no value changes.
 */
export const ATTENTION: LinearGroup = ['q', 'k', 'v'];
export const GATED_ATTENTION: LinearGroup = ['q', 'outputGate', 'k', 'v'];
const LAYER_EMBEDDING_GROUPS: readonly LinearGroup[] = [['layerGate'], ['layerOut']];
const MLP_GROUPS = [['gate', 'up'], ['down']] as const satisfies readonly LinearGroup[];
const QUERIES: LinearGroup = ['q'];
export const DELTA_NET: LinearGroup = ['deltaQkv', 'deltaGate', 'deltaBeta', 'deltaDecay'];

/** What a layer's attention, or what it has instead, computes of the stream. */
export function streamGroup(config: LlamaConfig, layer: number): LinearGroup {
  if (isDeltaNet(config, layer)) return DELTA_NET;
  if (keysOf(config, layer) !== layer) return QUERIES;
  return config.outputGate ? GATED_ATTENTION : ATTENTION;
}

function groupsOf(config: LlamaConfig, layer: number): LinearGroup[] {
  const back: LinearGroup = isDeltaNet(config, layer) ? ['deltaOut'] : ['o'];
  return [
    ...[streamGroup(config, layer), back],
    ...(config.experts === null ? MLP_GROUPS : []),
    ...(config.layerEmbedding === null ? [] : LAYER_EMBEDDING_GROUPS),
  ];
}

export const groupName = (layer: number, group: LinearGroup): string => `l${layer}.${group.join('-')}`;

/** Hugging Face's name of the norm before the MLP. With norms behind it, `post_attention_layernorm` is another one. */
const mlpNorm = (config: Pick<LlamaConfig, 'postNorms'>): string =>
  config.postNorms ? 'pre_feedforward_layernorm' : 'post_attention_layernorm';

/** Hugging Face's names of the norms before a layer's attention and MLP; null if there are none. */
export const normsBefore = (
  config: Pick<LlamaConfig, 'preNorms' | 'postNorms'>,
): { attention: string; mlp: string } | null =>
  config.preNorms ? { attention: 'input_layernorm', mlp: mlpNorm(config) } : null;

/**
 * Whether gains of norms are folded into the following linears. Not where the stream is not rotated: a few numbers of
 * Gemma's are hundreds of times larger than the others and have small gains; without them one scale for each row would
 * lose the rest.
 */
export const foldsGains = (config: Pick<LlamaConfig, 'postNorms'>): boolean => !config.postNorms;

/** Hugging Face's name of the norm of what a Gated DeltaNet's heads give. Its gain is stored as it is. */
export const DELTA_NORM = 'linear_attn.norm';

/** Norms of a layer whose gains are not folded into a linear. */
export function keptGains(config: LlamaConfig, layer: number): [path: string, size: number][] {
  const { hidden, postNorms, qkNorm, deltaNet } = config;
  const kept: [path: string, size: number][] = [];
  if (deltaNet !== null && isDeltaNet(config, layer)) kept.push([DELTA_NORM, deltaNet.valueDim]);
  else if (qkNorm !== null)
    for (const kind of keysOf(config, layer) === layer ? (['q', 'k'] as const) : (['q'] as const))
      kept.push([`self_attn.${kind}_norm`, qkNormSize(ofLayer(config, layer), kind)]);
  if (!postNorms) return kept;
  const before = normsBefore(config);
  if (before !== null) kept.push([before.attention, hidden]);
  kept.push(['post_attention_layernorm', hidden]);
  if (before !== null) kept.push([before.mlp, hidden]);
  kept.push(['post_feedforward_layernorm', hidden]);
  if (config.layerEmbedding !== null) kept.push([LAYER_EMBEDDING_NORM, hidden]);
  return kept;
}

/** Numbers of q or k that are normalized together. @param config of the layer, see `ofLayer`. */
export const qkNormSize = (config: LlamaConfig, kind: 'q' | 'k'): number =>
  config.qkNorm === 'width' ? linearShape(config, kind).out : config.headDim;

/** The graph's name of such a gain. */
export const gainName = (layer: number, path: string): string => `l${layer}.${path}.gain`;

function normBefore(config: LlamaConfig, kind: LinearKind): string | null {
  const before = normsBefore(config);
  const read: readonly LinearKind[] = ['o', 'deltaOut', 'down', 'layerGate', 'layerOut'];
  if (before === null || read.includes(kind)) return null;
  return kind === 'gate' || kind === 'up' ? before.mlp : before.attention;
}

/** The gain of the norm before the head. */
export const FINAL_NORM = 'model.norm.weight';

/** W <- W diag(gain), in place. @param weight `[rows, gain.length]` */
export function foldGain(weight: Float32Array | Float64Array, gain: Float32Array): void {
  const columns = gain.length;
  for (let at = 0; at < weight.length; at += columns)
    for (let i = 0; i < columns; i++) weight[at + i] = weight[at + i]! * gain[i]!;
}

/** The gain of the RMS norm that is folded into the following linear; null if there is none. */
export function gainBefore(base: BaseModel, layer: number, kind: LinearKind): Float32Array | null {
  const norm = foldsGains(base.config) ? normBefore(base.config, kind) : null;
  return norm === null ? null : base.tensor(`model.layers.${layer}.${norm}.weight`, [base.config.hidden]);
}

/** How a linear's weight was transformed, which its deltas must follow. */
export interface LinearTransform {
  kind: LinearKind;
  /** Gain of the norm before it, folded in; null if there is none. */
  gain: Float32Array | null;
  /** null = not rotated. */
  rotations: RotationSet | null;
  /** Order of its rows; null = as stored. */
  pairs: RotaryPairs | null;
}

/** A head's size, and how many of its first numbers rotary positions turn, in pairs of neighbours where they are stored. */
export interface RotaryPairs {
  readonly headDim: number;
  readonly dim: number;
}

/** The graph's name of a layer's number, `[1]`, and Hugging Face's. */
export const scalarNames = (layer: number): { graph: string; stored: string } => ({
  graph: `l${layer}.scalar`,
  stored: `model.layers.${layer}.layer_scalar`,
});

/** @returns null where rows are served in the order in which they are stored. */
export const pairsOf = (config: LlamaConfig, kind: LinearKind): RotaryPairs | null =>
  config.interleavedRope && (kind === 'q' || kind === 'k')
    ? { headDim: config.headDim, dim: config.rope.dim }
    : null;

/**
 * Moves rows of q or k, in place, from where pairs are neighbours to where they are half of what is turned apart.
 * @param rows `[heads * headDim, columns]`. @param back the other way round.
 */
export function orderRows(rows: Float32Array, columns: number, pairs: RotaryPairs, back = false): void {
  const { headDim, dim } = pairs;
  const size = headDim * columns;
  for (let head = 0; head < rows.length; head += size) {
    const stored = rows.slice(head, head + dim * columns);
    for (let at = 0; at < dim; at++) {
      const served = (at >> 1) + (at & 1) * (dim / 2);
      const [from, to] = back ? [served, at] : [at, served];
      rows.set(stored.subarray(from * columns, (from + 1) * columns), head + to * columns);
    }
  }
}

/** The rotation of a delta's side: of A's columns, or of B's rows. */
function rotationOf(side: 'A' | 'B', { kind, rotations }: LinearTransform): Rotation | null {
  const { columns, rows } = ROTATED[kind];
  const which = side === 'A' ? columns : rows;
  return rotations === null || which === null ? null : rotations[which];
}

/**
 * A delta onto transformed weights, in place: A' = A diag(gain) R, and (R^T B)^T = B^T R, whose rows are contiguous.
 * @param values A `[rank, in]`, or B transposed, `[rank, out]` with `width` numbers a row.
 */
export function transformDelta(
  values: Float32Array,
  width: number,
  side: 'A' | 'B',
  transform: LinearTransform,
): void {
  if (side === 'A' && transform.gain !== null) foldGain(values, transform.gain);
  if (side === 'B' && transform.pairs !== null) orderRows(values, 1, transform.pairs);
  const rotation = rotationOf(side, transform);
  if (rotation !== null) rotateColumns(values, width, rotation);
}

/** The gradient of what {@link transformDelta} was given from that of what it made, in place. */
export function transformGradient(gradient: Float32Array, side: 'A' | 'B', transform: LinearTransform): void {
  const rotation = rotationOf(side, transform);
  if (rotation !== null) undoRotation(gradient, rotation);
  if (side === 'B' && transform.pairs !== null) orderRows(gradient, 1, transform.pairs, true);
  if (side === 'A' && transform.gain !== null) foldGain(gradient, transform.gain);
}

/** What products are made for. */
interface Served {
  format: WeightFormat;
  flavour: GraphFlavour;
  limitsPairs: boolean;
}

function* linear(
  name: string,
  weight: Float32Array,
  rows: number,
  columns: number,
  { format, flavour, limitsPairs }: Served,
): Generator<PreparedTensor> {
  const own = formatOf(name, format);
  if (own === 'f32') {
    yield { name: `${name}.w`, type: 'f32', dims: [columns, rows], data: transpose(weight, rows, columns) };
    return;
  }
  if (own === 'int4') {
    const { values, scales, zeros } = quantizeBlocks(weight, rows, columns);
    const blocks = Math.ceil(columns / BLOCK);
    yield { name: `${name}.w`, type: 'u8', dims: [rows, blocks, BLOCK / 2], data: values };
    yield { name: `${name}.s`, type: 'f32', dims: [rows * blocks], data: scales };
    yield { name: `${name}.z`, type: 'u8', dims: [zeros.length], data: zeros };
    return;
  }
  if (flavour === 'gpu') {
    const { values, scales } = quantizeByteBlocks(weight, rows, columns);
    yield { name: `${name}.w`, type: 'u8', dims: [rows, Math.ceil(columns / BLOCK), BLOCK], data: values };
    yield { name: `${name}.s`, type: 'f32', dims: [scales.length], data: scales };
    return;
  }
  const { values, scales } = quantizeLinear(weight, rows, columns, limitsPairs);
  yield { name: `${name}.w`, type: 'i8', dims: [columns, rows], data: values };
  yield { name: `${name}.s`, type: 'f32', dims: [rows], data: scales };
}

/**
 * One linear's weight `[out, in]` and bias, with the gain before it folded in, rotated.
 * @param module one of several of its kind in the layer, an expert's.
 */
function transformed(
  base: BaseModel,
  layer: number,
  kind: LinearKind,
  rotationSet: RotationSet | null,
  module?: string,
): { weight: Float32Array<ArrayBuffer>; bias: Float32Array<ArrayBuffer> | null } {
  const { in: columns, out: rows } = linearShape(ofLayer(base.config, layer), kind);
  const rotations = rotationsOf(rotationSet, layer);
  const isKey = kind === 'v' && base.config.layerSizes?.[layer]?.keysAreValues === true;
  const weight = base.tensor(`${module ?? moduleName(layer, isKey ? 'k' : kind)}.weight`, [rows, columns]);
  const gain = gainBefore(base, layer, kind);
  if (gain !== null) foldGain(weight, gain);
  const hasBias = base.config.qkvBias && 'qkv'.includes(kind);
  const bias = hasBias ? base.tensor(`${moduleName(layer, kind)}.bias`, [rows]) : null;
  const pairs = pairsOf(base.config, kind);
  if (pairs !== null) orderRows(weight, columns, pairs);
  if (pairs !== null && bias !== null) orderRows(bias, 1, pairs);
  if (rotations !== null) {
    const rotated = ROTATED[kind];
    if (rotated.columns !== null) rotateColumns(weight, columns, rotations[rotated.columns]);
    const rotation = rotated.rows === null ? null : rotations[rotated.rows];
    if (rotation !== null) {
      rotateRows(weight, columns, rotation);
      if (bias !== null) rotateRows(bias, 1, rotation);
    }
  }
  return { weight, bias };
}

function concatenated(parts: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A layer's router, in float32: which experts are chosen affects a token more than what they compute. */
function router(
  base: BaseModel,
  layer: number,
  { count }: Experts,
  rotations: RotationSet | null,
): PreparedTensor {
  const { hidden } = base.config;
  const weight = base.tensor(routerTensor(layer), [count, hidden]);
  const gain = gainBefore(base, layer, 'gate');
  if (gain !== null) foldGain(weight, gain);
  if (rotations !== null) rotateColumns(weight, hidden, rotations.input);
  const data = transpose(weight, count, hidden);
  return { name: `${routerName(layer)}.w`, type: 'f32', dims: [hidden, count], data };
}

function* expertTensors(
  base: BaseModel,
  layer: number,
  experts: Experts,
  served: Served,
  rotations: RotationSet | null,
): Generator<PreparedTensor> {
  yield router(base, layer, experts, rotations);
  for (const group of MLP_GROUPS)
    for (let expert = 0; expert < experts.count; expert++) {
      const stored = (kind: MlpKind): string => expertModule(layer, expert, kind);
      const parts = group.map((kind) => transformed(base, layer, kind, rotations, stored(kind)).weight);
      const weight = concatenated(parts);
      const columns = linearShape(base.config, group[0]).in;
      const name = expertProduct(groupName(layer, group), expert);
      yield* linear(name, weight, weight.length / columns, columns, served);
    }
}

/** Hugging Face's names of what embeddings of each layer are made of, and of the norm behind what a layer makes of its own. */
export const LAYER_EMBEDDING = {
  table: 'model.embed_tokens_per_layer.weight',
  projection: 'model.per_layer_model_projection.weight',
  norm: 'model.per_layer_projection_norm.weight',
} as const;
export const LAYER_EMBEDDING_NORM = 'post_per_layer_input_norm';

/** The graph's name of what projects the token's usual embedding, in each layer. */
export const LAYER_PROJECTION = 'layerProjection';
/** The graph's. `table` has rows as the embedding has; `projection` is a product. */
export const layerEmbeddingNames = (layer: number): { table: string; projection: string } => ({
  table: `l${layer}.layerEmbedding`,
  projection: `l${layer}.${LAYER_PROJECTION}`,
});
export const LAYER_PROJECTION_NORM = 'layerProjection.norm';

/**
 * Each layer's own embedding of every token, and what projects the token's usual one to the same width. transformers adds
 * both, the latter normed, and multiplies by 2 ** -0.5, which is in the tables and in the norm's gain here.
 */
function* layerEmbeddingTensors(
  base: BaseModel,
  width: number,
  served: Served,
  rotations: RotationSet | null,
): Generator<PreparedTensor> {
  const { vocab, hidden, layers } = base.config;
  const gain = base.tensor(LAYER_EMBEDDING.norm, [width]).map((one) => one * Math.SQRT1_2);
  yield { name: LAYER_PROJECTION_NORM, type: 'f32', dims: [width], data: gain };
  const projection = base.tensor(LAYER_EMBEDDING.projection, [layers * width, hidden]);
  for (let i = 0; i < projection.length; i++) projection[i]! *= hidden ** -0.5;
  if (rotations !== null) rotateColumns(projection, hidden, rotations.input);
  const scale = Math.sqrt(width / 2);
  for (let layer = 0; layer < layers; layer++) {
    const names = layerEmbeddingNames(layer);
    const columns = { from: layer * width, count: width };
    const table = base.tensor(LAYER_EMBEDDING.table, [vocab, layers * width], columns);
    for (let i = 0; i < table.length; i++) table[i]! *= scale;
    yield* lookedUp(names.table, table, vocab, width, served.format === 'f32' ? 'f32' : 'int8');
    const own = projection.subarray(layer * width * hidden, (layer + 1) * width * hidden);
    yield* linear(names.projection, own, width, hidden, served);
  }
}

function* layerTensors(
  base: BaseModel,
  layer: number,
  served: Served,
  rotations: RotationSet | null,
): Generator<PreparedTensor> {
  const config = ofLayer(base.config, layer);
  for (const group of groupsOf(config, layer)) {
    const parts = group.map((kind) => transformed(base, layer, kind, rotations));
    const weight = concatenated(parts.map((part) => part.weight));
    const columns = linearShape(config, group[0]).in;
    const rows = weight.length / columns;
    const name = groupName(layer, group);
    yield* linear(name, weight, rows, columns, served);
    const biases = parts.map((part) => part.bias).filter((bias) => bias !== null);
    if (biases.length > 0) yield { name: `${name}.b`, type: 'f32', dims: [rows], data: concatenated(biases) };
  }
  if (config.experts !== null) yield* expertTensors(base, layer, config.experts, served, rotations);
  for (const [path, size] of keptGains(config, layer)) {
    const data = base.tensor(`model.layers.${layer}.${path}.weight`, [size]);
    yield { name: gainName(layer, path), type: 'f32', dims: [size], data };
  }
  if (config.layerScalars) {
    const { graph, stored } = scalarNames(layer);
    yield { name: graph, type: 'f32', dims: [1], data: base.tensor(stored, [1]) };
  }
  if (base.config.deltaNet !== null && isDeltaNet(base.config, layer))
    yield* deltaNetTensors(base, layer, base.config.deltaNet);
}

/** The graph's names of a Gated DeltaNet's other tensors: kernels `[channels, 1, kernel]`, by head the factor and the bias of its decay. */
export const deltaNetNames = (layer: number): { kernel: string; decay: string; bias: string } => ({
  kernel: `l${layer}.delta.kernel`,
  decay: `l${layer}.delta.decay`,
  bias: `l${layer}.delta.bias`,
});

/** Hugging Face's names of them. */
export const storedDeltaNet = (layer: number): { kernel: string; decay: string; bias: string } => ({
  kernel: `model.layers.${layer}.linear_attn.conv1d.weight`,
  decay: `model.layers.${layer}.linear_attn.A_log`,
  bias: `model.layers.${layer}.linear_attn.dt_bias`,
});

function* deltaNetTensors(base: BaseModel, layer: number, net: DeltaNet): Generator<PreparedTensor> {
  const names = deltaNetNames(layer);
  const stored = storedDeltaNet(layer);
  const kernel = [convolvedChannels(net), 1, net.kernel];
  yield { name: names.kernel, type: 'f32', dims: kernel, data: base.tensor(stored.kernel, kernel) };
  const heads = [net.valueHeads];
  const decay = base.tensor(stored.decay, heads).map((value) => -Math.exp(value));
  yield { name: names.decay, type: 'f32', dims: heads, data: decay };
  yield { name: names.bias, type: 'f32', dims: heads, data: base.tensor(stored.bias, heads) };
}

/** The graph's names of the tables of a layer's rotary positions. */
export const rotaryNames = (which: 'rope' | 'localRope'): { cos: string; sin: string } =>
  which === 'rope' ? { cos: 'cos', sin: 'sin' } : { cos: 'cos.local', sin: 'sin.local' };

/** Rotary tables `[context, dim/2]`, angles in float64. */
function* rotaryTables(
  { theta, dim, divisors, scale }: Rope,
  context: number,
  names: { cos: string; sin: string },
): Generator<PreparedTensor> {
  const half = dim / 2;
  const cos = new Float32Array(context * half);
  const sin = new Float32Array(context * half);
  for (let i = 0; i < half; i++) {
    const frequency = theta ** ((-2 * i) / dim) / (divisors?.[i] ?? 1);
    for (let position = 0; position < context; position++) {
      cos[position * half + i] = scale * Math.cos(position * frequency);
      sin[position * half + i] = scale * Math.sin(position * frequency);
    }
  }
  yield { name: names.cos, type: 'f32', dims: [context, half], data: cos };
  yield { name: names.sin, type: 'f32', dims: [context, half], data: sin };
}

/** A table whose rows are looked up; in int8 with a scale for each, `<name>.s`. @param table `[rows, columns]` */
function* lookedUp(
  name: string,
  table: Float32Array<ArrayBuffer>,
  rows: number,
  columns: number,
  format: 'f32' | 'int8',
): Generator<PreparedTensor> {
  const dims = [rows, columns];
  if (format === 'f32') return yield { name, type: 'f32', dims, data: table };
  const { values, scales } = quantizeRows(table, rows, columns);
  yield { name, type: 'i8', dims, data: values };
  yield { name: `${name}.s`, type: 'f32', dims: [rows, 1], data: scales };
}

/**
 * All tensors of the graphs, one after the other, so that the whole model is never in memory twice.
 * @param rotations null leaves the weights unrotated (float32 as the reference).
 * @param onLayer called with the finished layers and their count.
 */
export function* prepareWeights(params: {
  base: BaseModel;
  format: WeightFormat;
  /** `cpu` by default. */
  flavour?: GraphFlavour;
  /** Of products in int8 on a processor, see `quantizeLinear`; default: no. */
  limitsPairs?: boolean;
  context: number;
  rotations: RotationSet | null;
  embedding?: 'int8';
  onLayer: (done: number, total: number) => void;
}): Generator<PreparedTensor> {
  const { base, format, flavour = 'cpu', limitsPairs = false, rotations, onLayer } = params;
  const served = { format, flavour, limitsPairs };
  const { hidden, layers, vocab, tiedHead, embeddingScale, logitScale, rope, localRope, layerEmbedding } =
    base.config;
  const embedding = base.tensor('model.embed_tokens.weight', [vocab, hidden]);
  const head = tiedHead ? embedding.slice() : base.tensor('lm_head.weight', [vocab, hidden]);
  const finalGain: Float32Array<ArrayBuffer> = base.tensor(FINAL_NORM, [hidden]);
  if (foldsGains(base.config)) foldGain(head, finalGain);
  else yield { name: FINAL_NORM, type: 'f32', dims: [hidden], data: finalGain };
  if (logitScale !== 1) for (let i = 0; i < head.length; i++) head[i]! *= logitScale;
  if (embeddingScale !== 1) for (let i = 0; i < embedding.length; i++) embedding[i]! *= embeddingScale;
  if (rotations !== null) {
    if (rotations.stream !== null) rotateColumns(embedding, hidden, rotations.stream);
    rotateColumns(head, hidden, rotations.input);
  }
  yield* lookedUp(EMBEDDING, embedding, vocab, hidden, params.embedding ?? 'f32');
  yield* linear(HEAD_PRODUCT, head, vocab, hidden, served);
  yield* rotaryTables(rope, params.context, rotaryNames('rope'));
  if (localRope !== null) yield* rotaryTables(localRope, params.context, rotaryNames('localRope'));
  if (layerEmbedding !== null) yield* layerEmbeddingTensors(base, layerEmbedding, served, rotations);
  for (let layer = 0; layer < layers; layer++) {
    yield* layerTensors(base, layer, served, rotations);
    onLayer(layer + 1, layers);
  }
}

/**
 * Row-wise symmetric int8 of a linear's weight, transposed for the matrix product.
 * @param weight `[out, in]` float
 * @param limitsPairs the two values that columns 2i and 2i + 1 of a row have add up to at most 128 where their signs are
 * the same. Times 255, the largest activation, that is less than 2 ** 15: a kernel that adds two products in 16 bits is
 * exact. Scales become larger, by a third on average for SmolLM2-135M.
 * @returns `values` int8 `[in, out]` and `scales` float32 `[out]` with weight[o][i] ~ values[i][o] * scales[o]
 */
export function quantizeLinear(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
  limitsPairs = false,
): { values: Int8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  const scaleOf = limitsPairs ? pairScale : rowScale;
  for (let row = 0; row < rows; row++) {
    const at = row * columns;
    const scale = scaleOf(weight.subarray(at, at + columns));
    scales[row] = scale;
    if (scale === 0) continue;
    for (let i = 0; i < columns; i++) values[i * rows + row] = Math.round(weight[at + i]! / scale);
  }
  return { values, scales };
}

/**
 * The same scales, with the values in place: for rows that are looked up.
 * @param weight `[rows, columns]` @returns `values` int8 `[rows, columns]`, `scales` float32 `[rows]`
 */
function quantizeRows(
  weight: Float32Array,
  rows: number,
  columns: number,
): { values: Int8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const part = weight.subarray(row * columns, (row + 1) * columns);
    const scale = rowScale(part);
    scales[row] = scale;
    if (scale !== 0) part.forEach((value, i) => (values[row * columns + i] = Math.round(value / scale)));
  }
  return { values, scales };
}

/** The largest magnitude is 127 times it. */
function rowScale(row: Float32Array | Float64Array): number {
  let max = 0;
  for (let i = 0; i < row.length; i++) max = Math.max(max, Math.abs(row[i]!));
  return Math.fround(max / 127);
}

/** The largest sum of a pair, of those of the same sign, is 127 times it: rounding makes that 128 at most. */
function pairScale(row: Float32Array | Float64Array): number {
  let max = 0;
  for (let i = 0; i < row.length; i += 2) {
    const [a, b] = [row[i]!, row[i + 1] ?? 0];
    max = Math.max(max, Math.abs(a), Math.abs(b), a * b > 0 ? Math.abs(a + b) : 0);
  }
  return Math.fround(max / 127);
}

/** @param weight `[rows, columns]` @returns float32 `[columns, rows]` */
export function transpose(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
  out = new Float32Array(rows * columns),
): Float32Array<ArrayBuffer> {
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      out[column * rows + row] = weight[row * columns + column]!;
  return out;
}

/** Weights of a row that share a scale, and in 4 bit a zero point: `MatMulNBits`' block_size. */
export const BLOCK = 32;

/**
 * Blocks of 32 weights of a row in 4 bit, as com.microsoft's `MatMulNBits` reads them (ContribOperators.md of ONNX
 * Runtime): each block's range, zero within it, in 15 steps. A last block that is shorter ends in zeros.
 * @param weight `[out, in]` float
 * @returns `values` two a byte, the lower half first, `[out, blocks, 16]`; `scales` float32 `[out, blocks]`; `zeros` two
 * a byte, `[out, ceil(blocks / 2)]`; weight ~ (value - zero) * scale
 */
export function quantizeBlocks(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
): Record<'values' | 'zeros', Uint8Array<ArrayBuffer>> & { scales: Float32Array<ArrayBuffer> } {
  const blocks = Math.ceil(columns / BLOCK);
  const zeroBytes = Math.ceil(blocks / 2);
  const values = new Uint8Array((rows * blocks * BLOCK) / 2);
  const scales = new Float32Array(rows * blocks);
  const zeros = new Uint8Array(rows * zeroBytes);
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * BLOCK;
      const count = Math.min(BLOCK, columns - block * BLOCK);
      let [min, max] = [0, 0];
      for (let i = 0; i < count; i++) {
        min = Math.min(min, weight[from + i]!);
        max = Math.max(max, weight[from + i]!);
      }
      const scale = Math.fround((max - min) / 15);
      const zero = scale === 0 ? 0 : Math.round(-min / scale);
      const index = row * blocks + block;
      scales[index] = scale;
      zeros[row * zeroBytes + (block >> 1)]! |= zero << (4 * (block & 1));
      for (let i = 0; i < BLOCK; i++) {
        const steps = scale === 0 || i >= count ? 0 : Math.round(weight[from + i]! / scale);
        const value = Math.min(15, Math.max(0, steps + zero));
        values[(index * BLOCK + i) >> 1]! |= value << (4 * (i & 1));
      }
    }
  return { values, scales, zeros };
}

/**
 * Blocks of 32 weights of a row in 8 bit, as `MatMulNBits` reads them: symmetric about 128, its zero point by default.
 * @param weight `[out, in]` float
 * @returns `values` `[out, blocks, 32]`; `scales` float32 `[out, blocks]`; weight ~ (value - 128) * scale
 */
export function quantizeByteBlocks(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
): { values: Uint8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const blocks = Math.ceil(columns / BLOCK);
  const values = new Uint8Array(rows * blocks * BLOCK).fill(128);
  const scales = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * BLOCK;
      const count = Math.min(BLOCK, columns - block * BLOCK);
      let max = 0;
      for (let i = 0; i < count; i++) max = Math.max(max, Math.abs(weight[from + i]!));
      const index = row * blocks + block;
      const scale = Math.fround(max / 127);
      scales[index] = scale;
      if (scale === 0) continue;
      for (let i = 0; i < count; i++) values[index * BLOCK + i] = 128 + Math.round(weight[from + i]! / scale);
    }
  return { values, scales };
}
