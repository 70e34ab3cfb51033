/**
 * A base model as the graph builder sees it, whatever file it came from (names are Hugging Face's), and what those who
 * run its graphs know of them: kinds, inputs, types, flavours, precisions. Without the builder, which no browser needs.
 */
import { toHalves } from '../../adapters/index.ts';

/** llama.cpp's names of the architectures; Mistral's is `llama`, and `mistral3` where it is part of a model that sees. */
export const FAMILIES = [
  'llama',
  'mistral3',
  'granite',
  'qwen2',
  'qwen2vl',
  'qwen3',
  'qwen3vl',
  'qwen3moe',
  'qwen35',
  'gemma2',
  'gemma3',
  'gemma4',
  'olmo2',
  'glm4',
  'chatglm',
  'smollm3',
  'phi3',
] as const;
export type Family = (typeof FAMILIES)[number];

export const isGemma = (family: Family): family is 'gemma2' | 'gemma3' | 'gemma4' =>
  family === 'gemma2' || family === 'gemma3' || family === 'gemma4';
/** Norms' gains are stored minus one, but those of {@link DeltaNet}'s outputs. */
export const storesGainsMinusOne = (family: Family): boolean =>
  family === 'gemma2' || family === 'gemma3' || family === 'qwen35';
export const isGlm = (family: Family): boolean => family === 'glm4' || family === 'chatglm';
/**
 * Every n-th layer attends to all tokens, the others within a window, or by a state (Qwen3.5); `olmo2` is also OLMo 3,
 * which has windows.
 */
export const ATTENTION_PATTERN: Partial<Record<Family, number>> = {
  qwen35: 4,
  gemma2: 2,
  gemma3: 6,
  gemma4: 6,
  olmo2: 4,
};
/** Of Gemma 3's and 4's layers with a window. */
export const GEMMA_LOCAL_THETA = 10_000;
/** Soft caps that a family may have, by their fields; in other families' files they are refused. */
export const SOFT_CAPS: Partial<Record<Family, readonly string[]>> = {
  gemma2: ['attn_logit_softcapping', 'final_logit_softcapping'],
  gemma4: ['final_logit_softcapping'],
};
/** Of a Gemma 2 whose files do not say it: window in tokens, soft caps. */
export const GEMMA_2 = { window: 4_096, attentionCap: 50, logitCap: 30 } as const;

/** Rotary positions: pair i of a head turns by position * theta^(-2i/dim) / divisors[i]. */
export interface Rope {
  theta: number;
  /** Numbers of a head that are rotated, the first ones; the rest stay as they are (`partial_rotary_factor`). */
  dim: number;
  /** Of stretched frequencies, `[dim / 2]`; null = plain. */
  divisors: Float32Array | null;
  /** Factor of cosine and sine: 1, except for LongRoPE. */
  scale: number;
}

/** How a layer's attention sees positions. */
export interface LayerAttention {
  /** Tokens that it looks back, including the token itself; null = all. */
  window: number | null;
  /** Its rotary positions: the base's, those of layers with a window (Gemma 3, OLMo 3), or none (NoPE, SmolLM3). */
  rope: 'rope' | 'localRope' | null;
}

/** How a base's files store its experts. */
export const EXPERT_STORAGES = ['each', 'fused', 'stacked'] as const;
export type ExpertStorage = (typeof EXPERT_STORAGES)[number];

export interface Experts {
  count: number;
  /** Experts of each token. */
  chosen: number;
  /** Weights of the chosen experts add up to 1 (`norm_topk_prob`). */
  normalized: boolean;
  /**
   * `each`: a linear of its own (the hub's files). `fused`: all experts' gate and up as one tensor, and all experts' down
   * (transformers 5 in memory). `stacked`: three tensors (GGUF).
   */
  storage: ExpertStorage;
}

/** What is a layer's own where layers differ. */
export interface LayerSizes {
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  /** The layer has no `v_proj`: its values are what `k_proj` gives, before the norm of keys. */
  readonly keysAreValues: boolean;
  /** The layer has neither `k_proj` nor `v_proj`, and reads the keys and values of this one before it; null = its own. */
  readonly keysOf: number | null;
}

/**
 * Layers without attention (Gated DeltaNet, arXiv:2412.06464): each head has a state `[keyDim, valueDim]` instead of keys
 * and values, which every token decays and corrects. q, k and v go through a convolution over the last tokens first.
 */
export interface DeltaNet {
  keyHeads: number;
  valueHeads: number;
  /** Numbers of a head's q and k. */
  keyDim: number;
  /** Numbers of a head's v. */
  valueDim: number;
  /** Tokens that the convolution sees, including the token itself. */
  kernel: number;
  /** `[layers]`: whether a layer is one; the others have attention. */
  layers: readonly boolean[];
}

export interface LlamaConfig {
  family: Family;
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  /** `[layers]`, in place of the three above (Gemma 4); null = all layers are alike. */
  layerSizes: readonly LayerSizes[] | null;
  vocab: number;
  /** Context length the base was trained for, tokens. */
  context: number;
  rmsEpsilon: number;
  rope: Rope;
  /** Layers with a window have their own in Gemma 3 and OLMo 3. */
  localRope: Rope | null;
  /** `[layers]` */
  attention: readonly LayerAttention[];
  /** Factor of products of q and k; null = headDim^-0.5. */
  attentionScale: number | null;
  /** What heads give is multiplied by the sigmoid of a gate, which q's linear computes too (Qwen3.5). */
  outputGate: boolean;
  /** null = all layers have attention (all but Qwen3.5). */
  deltaNet: DeltaNet | null;
  /** Soft cap of these products: cap * tanh(product / cap); null = none (all but Gemma 2). */
  attentionCap: number | null;
  /** Soft cap of logits, in the same way. */
  logitCap: number | null;
  /** The head is the embedding. */
  tiedHead: boolean;
  /** q, k and v have biases (Qwen2, Qwen2.5-VL, GLM). */
  qkvBias: boolean;
  /** What is normalized of q and k before rotation: each head (Qwen3, Qwen3-VL, Gemma 3), or all heads as one (OLMo). */
  qkNorm: 'head' | 'width' | null;
  /** Each head of v is normalized, without a gain (Gemma 4). */
  valueNorm: boolean;
  /** The stream behind a layer is multiplied by a number of the layer (`layer_scalar`, Gemma 4). */
  layerScalars: boolean;
  /** Inputs of attention and MLP are normalized (all but OLMo, whose linears read the residual stream). */
  preNorms: boolean;
  /** Outputs of attention and MLP are normalized before they are added to the residual stream (Gemma, OLMo, GLM-4). */
  postNorms: boolean;
  /** Of the gate: SiLU, or GELU by its tanh approximation. */
  activation: 'silu' | 'gelu_tanh';
  /** Factor of embeddings (Gemma: the root of hidden; Granite). */
  embeddingScale: number;
  /** Factor of logits (Granite). */
  logitScale: number;
  /** q, k and v are stored as one linear `qkv_proj` (Phi-3). */
  fusedQkv: boolean;
  /** Gate and up are stored as one linear `gate_up_proj` (Phi-3, GLM). */
  fusedGateUp: boolean;
  /**
   * Rotary positions turn neighbours of a head, 2i and 2i + 1, in files and adapters (GLM). What is served has the rows of
   * q and k in another order, so that they are as far apart as elsewhere, i and i + dim / 2.
   */
  interleavedRope: boolean;
  /**
   * Numbers of a token's own embedding for each layer, which a gate lets into the stream behind the MLP (Gemma 4 E2B and
   * E4B); null = none.
   */
  layerEmbedding: number | null;
  /** In place of each layer's MLP, which `ffn` is then the width of; null = none (all but Qwen3-MoE). */
  experts: Experts | null;
}

/** Values of most families. */
export const PLAIN_FAMILY = {
  layerSizes: null,
  localRope: null,
  attentionScale: null,
  outputGate: false,
  deltaNet: null,
  attentionCap: null,
  logitCap: null,
  qkvBias: false,
  qkNorm: null,
  valueNorm: false,
  layerScalars: false,
  preNorms: true,
  postNorms: false,
  activation: 'silu',
  embeddingScale: 1,
  logitScale: 1,
  fusedQkv: false,
  fusedGateUp: false,
  interleavedRope: false,
  experts: null,
  layerEmbedding: null,
} as const satisfies Partial<LlamaConfig>;

function qkNormOf(family: Family): LlamaConfig['qkNorm'] {
  if (family === 'olmo2') return 'width';
  const byHead: readonly Family[] = ['qwen3', 'qwen3vl', 'qwen3moe', 'qwen35', 'gemma3', 'gemma4'];
  return byHead.includes(family) ? 'head' : null;
}

/** What a family's layers have, whatever file the base comes in. */
export const traitsOf = (family: Family) =>
  ({
    qkNorm: qkNormOf(family),
    preNorms: family !== 'olmo2',
    valueNorm: family === 'gemma4',
    postNorms: isGemma(family) || family === 'olmo2' || family === 'glm4',
    activation: isGemma(family) ? 'gelu_tanh' : 'silu',
    fusedQkv: family === 'phi3',
    fusedGateUp: family === 'phi3' || isGlm(family),
    interleavedRope: isGlm(family),
    outputGate: family === 'qwen35',
  }) as const satisfies Partial<LlamaConfig>;

/**
 * Granite's constants. What its layers add to the stream, it multiplies by `residual`. The norms that read the stream
 * divide its size out, so the stream is kept divided by `residual` instead: weights and adapters stay as they are.
 */
export const graniteConstants = (given: {
  embedding: number;
  residual: number;
  attention: number;
  logits: number;
  rmsEpsilon: number;
}): Pick<LlamaConfig, 'embeddingScale' | 'attentionScale' | 'logitScale' | 'rmsEpsilon'> => ({
  embeddingScale: given.embedding / given.residual,
  attentionScale: given.attention,
  logitScale: 1 / given.logits,
  rmsEpsilon: given.rmsEpsilon / given.residual ** 2,
});

/** Linears that all layers have, those of layers with attention, of embeddings by layer, and of a {@link DeltaNet}. */
export type LinearKind =
  | ('gate' | 'up' | 'down')
  | ('q' | 'outputGate' | 'k' | 'v' | 'o')
  | ('layerGate' | 'layerOut')
  | ('deltaQkv' | 'deltaGate' | 'deltaBeta' | 'deltaDecay' | 'deltaOut');

/** Linears of an MLP, and of each expert. */
export const MLP_KINDS = ['gate', 'up', 'down'] as const satisfies readonly LinearKind[];
export type MlpKind = (typeof MLP_KINDS)[number];

const isMlpKind = (kind: LinearKind): boolean => (MLP_KINDS as readonly LinearKind[]).includes(kind);

const LAYER_EMBEDDING_KINDS: readonly LinearKind[] = ['layerGate', 'layerOut'];
const DELTA_NET_KINDS: readonly LinearKind[] = [
  'deltaQkv',
  'deltaGate',
  'deltaBeta',
  'deltaDecay',
  'deltaOut',
];

export const LINEAR_KINDS: readonly LinearKind[] = [
  'q',
  'outputGate',
  'k',
  'v',
  'o',
  'gate',
  'up',
  'down',
  ...LAYER_EMBEDDING_KINDS,
  ...DELTA_NET_KINDS,
];

const PATH: Record<LinearKind, string> = {
  q: 'self_attn.q_proj',
  // A part of q_proj, where it is stored.
  outputGate: 'self_attn.output_gate',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
  layerGate: 'per_layer_input_gate',
  layerOut: 'per_layer_projection',
  deltaQkv: 'linear_attn.in_proj_qkv',
  deltaGate: 'linear_attn.in_proj_z',
  deltaBeta: 'linear_attn.in_proj_b',
  deltaDecay: 'linear_attn.in_proj_a',
  deltaOut: 'linear_attn.out_proj',
};

/** `model.layers.3.self_attn.q_proj`: the module path that PEFT and adapters use. */
export const moduleName = (layer: number, kind: LinearKind): string => `model.layers.${layer}.${PATH[kind]}`;

/** Whether the layer has a state instead of attention. */
export const isDeltaNet = ({ deltaNet }: Pick<LlamaConfig, 'deltaNet'>, layer: number): boolean =>
  deltaNet?.layers[layer] === true;

/** The layer whose keys and values a layer with attention reads. */
export const keysOf = ({ layerSizes }: Partial<Pick<LlamaConfig, 'layerSizes'>>, layer: number): number =>
  layerSizes?.[layer]?.keysOf ?? layer;

/**
 * The last of the first `own` layers with a window, or without, as the layer. @throws BaseModelError if there is none.
 */
export function lastOfKind(attention: readonly LayerAttention[], layer: number, own: number): number {
  const hasWindow = ({ window }: LayerAttention): boolean => window !== null;
  const last = attention
    .slice(0, Math.max(0, own))
    .findLastIndex((other) => hasWindow(other) === hasWindow(attention[layer]!));
  if (last < 0) throw new BaseModelError(`layer ${layer} shares keys and values of no layer of its kind`);
  return last;
}

/** Whether the layer has such a linear; those of experts are not the layer's. */
export function hasLinear(
  config: Pick<LlamaConfig, 'deltaNet' | 'outputGate' | 'experts' | 'layerSizes' | 'layerEmbedding'>,
  layer: number,
  kind: LinearKind,
): boolean {
  if (isMlpKind(kind)) return config.experts === null;
  if (LAYER_EMBEDDING_KINDS.includes(kind)) return config.layerEmbedding !== null;
  if (isDeltaNet(config, layer)) return DELTA_NET_KINDS.includes(kind);
  if (kind === 'k' || kind === 'v') return keysOf(config, layer) === layer;
  return !DELTA_NET_KINDS.includes(kind) && (kind !== 'outputGate' || config.outputGate);
}

const layersWhere = ({ layers }: Pick<LlamaConfig, 'layers'>, holds: (layer: number) => boolean): number[] =>
  Array.from({ length: layers }, (_, layer) => layer).filter(holds);

/** Layers that have such a linear. */
export const layersWith = (config: LlamaConfig, kind: LinearKind): number[] =>
  layersWhere(config, (layer) => hasLinear(config, layer, kind));

/** Layers that keep something of a row, in order. */
export const cachedLayers = (
  config: Pick<LlamaConfig, 'layers'> & Partial<Pick<LlamaConfig, 'layerSizes'>>,
): number[] => layersWhere(config, (layer) => keysOf(config, layer) === layer);

/** Layers with attention that keep keys and values, in order. */
export const attentionLayers = (
  config: Pick<LlamaConfig, 'layers' | 'deltaNet'> & Partial<Pick<LlamaConfig, 'layerSizes'>>,
): number[] => cachedLayers(config).filter((layer) => !isDeltaNet(config, layer));

/** Channels of a {@link DeltaNet}'s convolution, those of q, k and v side by side. */
export const convolved = ({
  keyHeads,
  keyDim,
  valueHeads,
  valueDim,
}: DeltaNet): [q: number, k: number, v: number] => [
  keyHeads * keyDim,
  keyHeads * keyDim,
  valueHeads * valueDim,
];

/** … and their number. */
export const convolvedChannels = (net: DeltaNet): number =>
  convolved(net).reduce((sum, width) => sum + width, 0);

/** What a row keeps of a layer without attention: each head's state, and what the convolution saw last. */
export const STATES = ['state', 'convolution'] as const;
type StateName = (typeof STATES)[number];

/** Names of the two tensors that a row keeps of a layer. */
export const cacheParts = (
  config: Pick<LlamaConfig, 'deltaNet'>,
  layer: number,
): readonly [string, string] => (isDeltaNet(config, layer) ? STATES : ['k', 'v']);

export function stateShapes(net: DeltaNet): Record<StateName, readonly number[]> {
  const { valueHeads, keyDim, valueDim, kernel } = net;
  return { state: [valueHeads, keyDim, valueDim], convolution: [kernel - 1, convolvedChannels(net)] };
}

/** @returns keys and values of a layer: heads, and a head's size. */
export const headsOf = <T extends Partial<Pick<LlamaConfig, 'kvHeads' | 'headDim' | 'layerSizes'>>>(
  config: T,
  layer: number,
): LayerSizes | T => config.layerSizes?.[layer] ?? config;

/** The configuration with a layer's own sizes. */
export function ofLayer(config: LlamaConfig, layer: number): LlamaConfig {
  const own = config.layerSizes?.[layer];
  if (own === undefined) return config;
  const { kvHeads, headDim, ffn } = own;
  return { ...config, kvHeads, headDim, ffn };
}

/** {@link linearShape} in each layer that has such a linear. */
export const shapesByLayer = (config: LlamaConfig, kind: LinearKind): { in: number; out: number }[] =>
  layersWith(config, kind).map((layer) => linearShape(ofLayer(config, layer), kind));

/** Shapes of all linears of all layers. @param experts all of them, or as many as a token has. */
export function linearShapes(config: LlamaConfig, experts: 'all' | 'chosen'): { in: number; out: number }[] {
  const shapes = LINEAR_KINDS.flatMap((kind) => shapesByLayer(config, kind));
  if (config.experts === null) return shapes;
  const each = config.experts[experts === 'all' ? 'count' : 'chosen'];
  const expert = MLP_KINDS.map((kind) => linearShape(config, kind));
  for (let left = config.layers * each; left > 0; left--) shapes.push(...expert);
  return shapes;
}

/**
 * Columns and rows of a linear's weight `[out, in]`; none of a linear that no layer of the base has.
 * @param config of the layer, see `ofLayer`.
 */
export function linearShape(config: LlamaConfig, kind: LinearKind): { in: number; out: number } {
  const attention = config.heads * config.headDim;
  const keyValue = config.kvHeads * config.headDim;
  const { hidden, ffn, deltaNet, layerEmbedding } = config;
  switch (kind) {
    case 'q':
      return { in: hidden, out: attention };
    case 'outputGate':
      return config.outputGate ? { in: hidden, out: attention } : { in: 0, out: 0 };
    case 'k':
    case 'v':
      return { in: hidden, out: keyValue };
    case 'o':
      return { in: attention, out: hidden };
    case 'gate':
    case 'up':
      return { in: hidden, out: ffn };
    case 'down':
      return { in: ffn, out: hidden };
    case 'layerGate':
      return { in: hidden, out: layerEmbedding ?? 0 };
    case 'layerOut':
      return { in: layerEmbedding ?? 0, out: hidden };
  }
  if (deltaNet === null) return { in: 0, out: 0 };
  const values = deltaNet.valueHeads * deltaNet.valueDim;
  switch (kind) {
    case 'deltaQkv':
      return { in: hidden, out: convolvedChannels(deltaNet) };
    case 'deltaGate':
      return { in: hidden, out: values };
    case 'deltaBeta':
    case 'deltaDecay':
      return { in: hidden, out: deltaNet.valueHeads };
    case 'deltaOut':
      return { in: values, out: hidden };
  }
}

/** A linear as stored and as adapters know it, and the kinds of its rows, in order. */
export interface StoredLinear {
  name: string;
  kinds: readonly LinearKind[];
  /** Each of the kinds has all of its rows: keys that are values too. */
  sameRows?: boolean;
  /** Rows of a kind that lie together, the kinds by turns; absent = all of them. */
  turns?: number;
}

/** @returns the linears of a layer under the names of PEFT and adapters, without those of experts. */
export function storedLinears(
  config: Pick<
    LlamaConfig,
    | ('fusedQkv' | 'fusedGateUp' | 'layerSizes' | 'outputGate' | 'deltaNet' | 'headDim')
    | ('experts' | 'layerEmbedding')
  >,
  layer: number,
): StoredLinear[] {
  const { fusedQkv, fusedGateUp, layerSizes, outputGate, headDim, experts } = config;
  const apart = (...kinds: LinearKind[]): StoredLinear[] =>
    kinds.map((kind) => ({ name: moduleName(layer, kind), kinds: [kind] }));
  const keysAndValues: StoredLinear = { name: moduleName(layer, 'k'), kinds: ['k', 'v'], sameRows: true };
  const fused = (path: string, ...kinds: LinearKind[]): StoredLinear[] => [
    { name: `model.layers.${layer}.${path}`, kinds },
  ];
  const denseMlp = [
    ...(fusedGateUp ? fused('mlp.gate_up_proj', 'gate', 'up') : apart('gate', 'up')),
    ...apart('down'),
  ];
  const mlp = [
    ...(experts === null ? denseMlp : []),
    ...(config.layerEmbedding === null ? [] : apart(...LAYER_EMBEDDING_KINDS)),
  ];
  if (isDeltaNet(config, layer)) return [...apart(...DELTA_NET_KINDS), ...mlp];
  if (outputGate) {
    const q: StoredLinear = { name: moduleName(layer, 'q'), kinds: ['q', 'outputGate'], turns: headDim };
    return [q, ...apart('k', 'v', 'o'), ...mlp];
  }
  if (keysOf(config, layer) !== layer) return [...apart('q', 'o'), ...mlp];
  return [
    ...(layerSizes?.[layer]?.keysAreValues === true
      ? [...apart('q'), keysAndValues]
      : fusedQkv
        ? fused('self_attn.qkv_proj', 'q', 'k', 'v')
        : apart('q', 'k', 'v')),
    ...apart('o'),
    ...mlp,
  ];
}

/**
 * Where a kind's rows lie among those of a stored linear.
 * @param config of the layer, see `ofLayer`.
 */
export function spansOfKind(
  config: LlamaConfig,
  { kinds, sameRows = false, turns }: StoredLinear,
  kind: LinearKind,
): Span[] {
  const { out } = linearShape(config, kind);
  const index = sameRows ? 0 : kinds.indexOf(kind);
  if (turns !== undefined)
    return Array.from({ length: out / turns }, (_, turn) => ({
      from: (turn * kinds.length + index) * turns,
      count: turns,
    }));
  const from = kinds.slice(0, index).reduce((sum, before) => sum + linearShape(config, before).out, 0);
  return [{ from, count: out }];
}

/**
 * The rows of one kind, out of those of a stored linear.
 * @param config of the layer, see `ofLayer`.
 * @param values `[rows, width]` of the stored linear.
 * @returns `[rows of the kind, width]`, shared with `values` where they lie together.
 */
export function rowsOfKind<T extends Float32Array>(
  config: LlamaConfig,
  linear: StoredLinear,
  kind: LinearKind,
  values: T,
  width: number,
): T {
  const spans = spansOfKind(config, linear, kind);
  const parts = spans.map(({ from, count }) => values.subarray(from * width, (from + count) * width));
  if (parts.length === 1) return parts[0] as T;
  const rows = values.slice(0, linearShape(config, kind).out * width) as T;
  let at = 0;
  for (const part of parts) {
    rows.set(part, at);
    at += part.length;
  }
  return rows;
}

/** Columns and rows of a stored linear's weight. @param config of the layer, see `ofLayer`. */
export function storedShape(
  config: LlamaConfig,
  { kinds, sameRows = false }: StoredLinear,
): { in: number; out: number } {
  const shapes = (sameRows ? kinds.slice(0, 1) : kinds).map((kind) => linearShape(config, kind));
  return { in: shapes[0]!.in, out: shapes.reduce((sum, { out }) => sum + out, 0) };
}

/** Rows or columns of a matrix that lie together. */
export interface Span {
  from: number;
  count: number;
}

export interface BaseModel {
  /** Short lower-case id, served as `model`. */
  id: string;
  /** sha256 of the base's file; of the sorted lines `<file name> <sha256>` for a folder. */
  digest: string;
  config: LlamaConfig;
  /**
   * float32 values of a Hugging Face tensor, `[out, in]` for linears, in Hugging Face's row order. Gains of
   * norms are the actual factors, even if a family stores them minus one.
   * @param columns of a table that is too large to be read whole. @throws BaseModelError when it is missing or has another
   * shape.
   */
  tensor(name: string, shape: readonly number[], columns?: Span): Float32Array<ArrayBuffer>;
  close(): void;
}

/** The base cannot be used; the message gives the reason and a remedy. */
export class BaseModelError extends Error {
  override readonly name = 'BaseModelError';
}

function checkExperts({ count, chosen }: Experts): void {
  if (!Number.isInteger(count) || count < 1 || count > 4_096)
    throw new BaseModelError(`the base's number of experts is ${count}`);
  if (!Number.isInteger(chosen) || chosen < 1 || chosen > count)
    throw new BaseModelError(`the base chooses ${chosen} of ${count} experts for each token`);
}

/** @throws BaseModelError when sizes contradict each other. */
export function checkConfig(config: LlamaConfig): LlamaConfig {
  for (const key of ['hidden', 'layers', 'heads', 'kvHeads', 'headDim', 'ffn', 'vocab', 'context'] as const) {
    const value = config[key];
    if (!Number.isInteger(value) || value < 1 || value > 10_000_000)
      throw new BaseModelError(`the base's ${key} is ${value}`);
  }
  for (const key of ['rmsEpsilon', 'embeddingScale', 'logitScale'] as const)
    if (!Number.isFinite(config[key]) || config[key] <= 0)
      throw new BaseModelError(`the base's ${key} is ${config[key]}`);
  for (const key of ['attentionCap', 'logitCap'] as const) {
    const cap = config[key];
    if (cap !== null && !(Number.isFinite(cap) && cap > 0))
      throw new BaseModelError(`the base's ${key} is ${cap}`);
  }
  if (config.experts !== null) checkExperts(config.experts);
  const { layerEmbedding } = config;
  if (
    layerEmbedding !== null &&
    !(Number.isInteger(layerEmbedding) && layerEmbedding >= 1 && layerEmbedding <= 10_000)
  )
    throw new BaseModelError(`the base's embedding of each layer has ${layerEmbedding} numbers`);
  const { deltaNet } = config;
  if (deltaNet !== null) {
    for (const key of ['keyHeads', 'valueHeads', 'keyDim', 'valueDim', 'kernel'] as const) {
      const value = deltaNet[key];
      if (!Number.isInteger(value) || value < 1 || value > 10_000)
        throw new BaseModelError(`the base's linear attention has a ${key} of ${value}`);
    }
    if (deltaNet.valueHeads % deltaNet.keyHeads !== 0)
      throw new BaseModelError(
        `${deltaNet.valueHeads} value heads of linear attention cannot share ${deltaNet.keyHeads} key heads`,
      );
    if (deltaNet.layers.length !== config.layers || deltaNet.layers.every(Boolean))
      throw new BaseModelError('a base needs a layer with attention');
  }
  if (config.layerSizes === null) {
    for (const rope of ['rope', 'localRope'] as const) checkHeads(config, config[rope]);
    return config;
  }
  if (config.layerSizes.length !== config.layers)
    throw new BaseModelError(
      `the base has sizes of ${config.layerSizes.length} of its ${config.layers} layers`,
    );
  config.attention.forEach(({ rope }, layer) => {
    const { kvHeads, headDim, ffn } = ofLayer(config, layer);
    for (const [name, value] of Object.entries({ kvHeads, headDim, ffn }))
      if (!Number.isInteger(value) || value < 1 || value > 10_000_000)
        throw new BaseModelError(`the base's ${name} in layer ${layer} is ${value}`);
    checkHeads({ heads: config.heads, kvHeads, headDim }, rope === null ? null : config[rope]);
    const source = keysOf(config, layer);
    const read = headsOf(config, source);
    const isOwn = Number.isInteger(source) && source >= 0 && keysOf(config, source) === source;
    if (source > layer || !isOwn || read.kvHeads !== kvHeads || read.headDim !== headDim)
      throw new BaseModelError(
        `layer ${layer} of the base cannot read the keys and values of layer ${source}`,
      );
  });
  return config;
}

/** @throws BaseModelError when a layer's heads are not supported. */
function checkHeads(
  { heads, kvHeads, headDim }: Pick<LlamaConfig, 'heads' | 'kvHeads' | 'headDim'>,
  rope: Rope | null,
): void {
  if (heads % kvHeads !== 0)
    throw new BaseModelError(`${heads} attention heads cannot share ${kvHeads} key/value heads`);
  if (headDim % 8 !== 0)
    throw new BaseModelError(`a head size of ${headDim} is not supported; it must be a multiple of 8`);
  // GroupQueryAttention rotates multiples of 16 numbers.
  if (rope !== null && (rope.dim % 16 !== 0 || rope.dim < 16 || rope.dim > headDim))
    throw new BaseModelError(
      `rotary positions over ${rope.dim} of a head's ${headDim} numbers are not supported; it ` +
        'must be a multiple of 16',
    );
}

/** What decides where a base runs. */
type Parts = Pick<LlamaConfig, 'attentionCap' | 'deltaNet' | 'experts'>;

/** Numbers of a head's q and k that ONNX Runtime's LinearAttention takes there: one thread of a group each. */
const MOST_KEY_DIM_ON_GPU = 256;

/** @returns why a base is not served on WebGPU; null if it is. */
export function wrongOnGpu({ attentionCap, deltaNet, experts }: Parts): string | null {
  if (attentionCap !== null)
    return 'cannot run this base, because ONNX Runtime leaves out the soft cap of attention there (attn_logit_softcapping)';
  if (experts !== null)
    return 'does not run this base, because graft runs mixtures of experts on processors only';
  if (deltaNet !== null && deltaNet.keyDim > MOST_KEY_DIM_ON_GPU)
    return `cannot run this base, because ONNX Runtime's linear attention has at most ${MOST_KEY_DIM_ON_GPU} numbers a head there (linear_key_head_dim)`;
  return null;
}

/** onnx.TensorProto.DataType */
export const DataType = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, bool: 9, f16: 10 } as const;
export type DataType = keyof typeof DataType;

export type GraphKind = 'none' | 'qv' | 'all';

export const GRAPH_KINDS: readonly GraphKind[] = ['none', 'qv', 'all'];

export const DELTA_KINDS: Record<GraphKind, readonly LinearKind[]> = {
  none: [],
  qv: ['q', 'v'],
  all: LINEAR_KINDS,
};

/** Tensors of the weights' file begin at multiples of this, as ONNX external data wants (a page). */
export const GRAPH_FILE_ALIGNMENT = 4_096;

/** Layers `from` … `to`-1 of a base. */
export interface Layers {
  readonly from: number;
  readonly to: number;
}

/** Maximum parts of a graph. */
const MOST_PARTS = 6;

/**
 * The parts in which a prompt's chunk is read with decode steps between them, with about equal numbers of
 * layers.
 */
export function graphParts(layers: number): Layers[] {
  const parts = Math.min(MOST_PARTS, layers);
  const cut = (part: number): number => Math.round((part * layers) / parts);
  return Array.from({ length: parts }, (_, part) => ({ from: cut(part), to: cut(part + 1) }));
}

/** The stream after a layer, `[B, T, hidden]` each: normed, and raw. One part passes them to the next. */
export const streamNames = (layer: number): { normed: string; stream: string } => ({
  normed: `l${layer}.h2`,
  stream: `l${layer}.x2`,
});

/** Input `[B, 1, 1]` of bases with a {@link DeltaNet}: 1, or 0 for rows that sit the step out. */
export const ADVANCES = 'advances';

/** Input `[B, T, hidden]` of graphs whose rows may adapt the embedding: what is added to their tokens'. */
export const EMBEDDING_DELTA = 'embedding.delta';

/** Before names of a mixed graph's inputs and outputs that belong to the rows that decode. */
export const DECODING_INPUTS = 'decoding.';

/** Of the tensors in the weights' file. */
export const WEIGHT_TYPES = ['f32', 'i8', 'u8'] as const;

export interface WeightEntry {
  name: string;
  type: (typeof WEIGHT_TYPES)[number];
  dims: number[];
  offset: number;
  bytes: number;
}

/** Names of the inputs that carry a linear's delta: A as `deltaShapeOfA` says, B `[B, R, out]`. */
export const deltaNames = (layer: number, kind: LinearKind): { a: string; b: string } => ({
  a: `l${layer}.${kind}.A`,
  b: `l${layer}.${kind}.B`,
});

/**
 * What graphs are made of. `cpu`: int8 products with a scale for each row, A `[B, R, in]`, R of 0 where there is
 * nothing. `gpu`: operators that ONNX Runtime's WebGPU provider has, natively and in browsers; int8 in blocks, A
 * `[B, in, R]`, R of 1 at least.
 */
export type GraphFlavour = 'cpu' | 'gpu';

/** Minimum R of a flavour: WebGPU binds no empty buffer. */
export const LEAST_RANK: Record<GraphFlavour, number> = { cpu: 0, gpu: 1 };

/** Dimensions of A: each row's own layout, `[R, in]` or turned. */
export const deltaShapeOfA = <T>(flavour: GraphFlavour, rows: T, rank: T, width: T): [T, T, T] =>
  flavour === 'gpu' ? [rows, width, rank] : [rows, rank, width];

/**
 * A row's A in the layout of a flavour's graphs.
 * @param a `[r, width]` of the row. @param rank R of the graph's input, at least r.
 * @returns `[r, width]` unchanged, or `[width, R]` with zeros beyond r.
 */
export function blockOfA(
  flavour: GraphFlavour,
  a: Float32Array<ArrayBuffer>,
  rank: number,
  width: number,
): Float32Array<ArrayBuffer> {
  if (flavour === 'cpu') return a;
  const turned = new Float32Array(width * rank);
  for (let row = 0, at = 0; at < a.length; row++)
    for (let column = 0; column < width; column++, at++) turned[column * rank + row] = a[at]!;
  return turned;
}

/**
 * Precision of activations, keys and values, scales of weights and deltas. `f16` only in the `gpu` flavour; the
 * head and its logits are always float32.
 */
export const PRECISIONS = ['f32', 'f16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Bytes of a number. */
export const NUMBER_BYTES: Record<Precision, number> = { f32: 4, f16: 2 };

/** Numbers in a precision's representation; float16 as bits. */
export type Numbers = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

export const inPrecision = (precision: Precision, values: Float32Array<ArrayBuffer>): Numbers =>
  precision === 'f16' ? toHalves(values) : values;
