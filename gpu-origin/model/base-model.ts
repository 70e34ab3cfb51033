/**
 * A base model as the graph builder sees it, whatever file it came from (names are Hugging Face's), and what those who
 * run its graphs know of them: kinds, inputs, types, flavours, precisions. Without the builder, which no browser needs.
 */
import { toHalves } from '../../adapters/index.ts';

/** llama.cpp's names of the architectures; Mistral's is `llama`. */
export type Family = 'llama' | 'qwen2' | 'qwen3' | 'gemma3' | 'smollm3' | 'phi3';

/** Rotary positions: pair i of a head turns by position * theta^(-2i/dim) / divisors[i]. */
export interface Rope {
  theta: number;
  /** Numbers of a head that are turned, the first ones; the rest stay as they are (`partial_rotary_factor`). */
  dim: number;
  /** Of stretched frequencies, `[dim / 2]`; null = plain. */
  divisors: Float32Array | null;
  /** What cosine and sine are multiplied by: 1, but for LongRoPE. */
  scale: number;
}

/** How a layer's attention sees positions. */
export interface LayerAttention {
  /** Tokens that it looks back, the token itself included; null = all. */
  window: number | null;
  /** Which rotary positions: the base's, those of Gemma's local layers, or none (NoPE, SmolLM3). */
  rope: 'rope' | 'localRope' | null;
}

export interface LlamaConfig {
  family: Family;
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  vocab: number;
  /** Context length the base was trained for, tokens. */
  context: number;
  rmsEpsilon: number;
  rope: Rope;
  /** Gemma's layers with a window have their own. */
  localRope: Rope | null;
  /** `[layers]` */
  attention: readonly LayerAttention[];
  /** What products of q and k are multiplied by; null = headDim^-0.5. */
  attentionScale: number | null;
  /** The head is the embedding. */
  tiedHead: boolean;
  /** q, k and v have biases (Qwen2). */
  qkvBias: boolean;
  /** Each head of q and k is normalized before it is turned (Qwen3, Gemma 3). */
  qkNorm: boolean;
  /** What attention and MLP give is normalized before it is added to the residual stream (Gemma). */
  postNorms: boolean;
  /** Of the gate: SiLU, or GELU by its tanh approximation. */
  activation: 'silu' | 'gelu_tanh';
  /** Embeddings are multiplied by it (Gemma: the root of hidden). */
  embeddingScale: number;
  /** q, k and v are stored as one linear `qkv_proj`, gate and up as `gate_up_proj` (Phi-3). */
  fused: boolean;
}

/** What most families have. */
export const PLAIN_FAMILY = {
  localRope: null,
  attentionScale: null,
  qkvBias: false,
  qkNorm: false,
  postNorms: false,
  activation: 'silu',
  embeddingScale: 1,
  fused: false,
} as const satisfies Partial<LlamaConfig>;

export type LinearKind = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down';

export const LINEAR_KINDS: readonly LinearKind[] = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'];

const PATH: Record<LinearKind, string> = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
};

/** `model.layers.3.self_attn.q_proj`: the module path that PEFT and adapters use. */
export const moduleName = (layer: number, kind: LinearKind): string => `model.layers.${layer}.${PATH[kind]}`;

/** Columns and rows of a linear's weight `[out, in]`. */
export function linearShape(config: LlamaConfig, kind: LinearKind): { in: number; out: number } {
  const attention = config.heads * config.headDim;
  const keyValue = config.kvHeads * config.headDim;
  switch (kind) {
    case 'q':
      return { in: config.hidden, out: attention };
    case 'k':
    case 'v':
      return { in: config.hidden, out: keyValue };
    case 'o':
      return { in: attention, out: config.hidden };
    case 'gate':
    case 'up':
      return { in: config.hidden, out: config.ffn };
    case 'down':
      return { in: config.ffn, out: config.hidden };
  }
}

/** A linear as the base stores it and as adapters know it, and the kinds that its rows are, in order. */
export interface StoredLinear {
  name: string;
  kinds: readonly LinearKind[];
}

const FUSED: readonly [string, readonly LinearKind[]][] = [
  ['self_attn.qkv_proj', ['q', 'k', 'v']],
  ['self_attn.o_proj', ['o']],
  ['mlp.gate_up_proj', ['gate', 'up']],
  ['mlp.down_proj', ['down']],
];

/** @returns the linears of a layer under the names of PEFT and adapters. */
export function storedLinears(config: Pick<LlamaConfig, 'fused'>, layer: number): StoredLinear[] {
  if (config.fused) return FUSED.map(([path, kinds]) => ({ name: `model.layers.${layer}.${path}`, kinds }));
  return LINEAR_KINDS.map((kind) => ({ name: moduleName(layer, kind), kinds: [kind] }));
}

/** Columns and rows of a stored linear's weight. */
export function storedShape(config: LlamaConfig, { kinds }: StoredLinear): { in: number; out: number } {
  const shapes = kinds.map((kind) => linearShape(config, kind));
  return { in: shapes[0]!.in, out: shapes.reduce((sum, { out }) => sum + out, 0) };
}

export interface BaseModel {
  /** Short lower-case id, served as `model`. */
  id: string;
  /** sha256 of the base's file; of the sorted lines `<file name> <sha256>` for a folder. */
  digest: string;
  config: LlamaConfig;
  /**
   * float32 values of a Hugging Face tensor, `[out, in]` for linears, in Hugging Face's row order. Gains of norms are
   * what is multiplied by, also where a family stores them less one.
   * @throws BaseModelError when it is missing or has another shape.
   */
  tensor(name: string, shape: readonly number[]): Float32Array<ArrayBuffer>;
  close(): void;
}

/** The base cannot be used; the message says why and what would help. */
export class BaseModelError extends Error {
  override readonly name = 'BaseModelError';
}

/** @throws BaseModelError when sizes contradict each other. */
export function checkConfig(config: LlamaConfig): LlamaConfig {
  for (const key of ['hidden', 'layers', 'heads', 'kvHeads', 'headDim', 'ffn', 'vocab', 'context'] as const) {
    const value = config[key];
    if (!Number.isInteger(value) || value < 1 || value > 10_000_000)
      throw new BaseModelError(`the base's ${key} is ${value}`);
  }
  if (config.heads % config.kvHeads !== 0)
    throw new BaseModelError(
      `${config.heads} attention heads cannot share ${config.kvHeads} key/value heads`,
    );
  if (config.headDim % 8 !== 0)
    throw new BaseModelError(`a head size of ${config.headDim} is not supported; multiples of 8 are`);
  for (const rope of [config.rope, config.localRope])
    // GroupQueryAttention turns multiples of 16 numbers.
    if (rope !== null && (rope.dim % 16 !== 0 || rope.dim < 16 || rope.dim > config.headDim))
      throw new BaseModelError(
        `rotary positions of ${rope.dim} of a head's ${config.headDim} numbers are not supported; multiples of 16 are`,
      );
  return config;
}

/** onnx.TensorProto.DataType */
export const DataType = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, f16: 10 } as const;
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

/** Most parts that a graph is cut into. */
const MOST_PARTS = 6;

/** The parts that a prompt's chunk is read in where decode steps run between them, about as many layers each. */
export function graphParts(layers: number): Layers[] {
  const parts = Math.min(MOST_PARTS, layers);
  const cut = (part: number): number => Math.round((part * layers) / parts);
  return Array.from({ length: parts }, (_, part) => ({ from: cut(part), to: cut(part + 1) }));
}

/** The stream behind a layer, `[B, T, hidden]` each: normed, and as it is. One part gives them to the next. */
export const streamNames = (layer: number): { normed: string; stream: string } => ({
  normed: `l${layer}.h2`,
  stream: `l${layer}.x2`,
});

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

/** Least R of a flavour: WebGPU binds no empty buffer. */
export const LEAST_RANK: Record<GraphFlavour, number> = { cpu: 0, gpu: 1 };

/** Dimensions of A: each row's own layout, `[R, in]` or turned. */
export const deltaShapeOfA = <T>(flavour: GraphFlavour, rows: T, rank: T, width: T): [T, T, T] =>
  flavour === 'gpu' ? [rows, width, rank] : [rows, rank, width];

/**
 * A row's A as the graphs of a flavour take it.
 * @param a `[r, width]` of the row. @param rank R of the graph's input, at least r.
 * @returns `[r, width]` as it is, or `[width, R]` with zeros beyond r.
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
 * What flows through a graph: activations, keys and values, scales of weights and deltas. `f16` of the `gpu` flavour
 * alone; the head and its logits are float32 either way.
 */
export const PRECISIONS = ['f32', 'f16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Bytes of a number. */
export const NUMBER_BYTES: Record<Precision, number> = { f32: 4, f16: 2 };

/** Numbers as tensors of a precision have them; float16 by its bits. */
export type Numbers = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

export const inPrecision = (precision: Precision, values: Float32Array<ArrayBuffer>): Numbers =>
  precision === 'f16' ? toHalves(values) : values;
