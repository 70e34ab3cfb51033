/** A base model as the graph builder sees it, whatever file it came from. Names are Hugging Face's. */
export interface LlamaConfig {
  family: 'llama' | 'qwen2';
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
  ropeTheta: number;
  /** Llama 3's stretched rotary frequencies (`rope_type: llama3`), as divisors per frequency; null = plain. */
  ropeDivisors: Float32Array | null;
  /** The head is the embedding. */
  tiedHead: boolean;
  /** q, k and v have biases (Qwen2). */
  qkvBias: boolean;
}

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

export interface BaseModel {
  /** Short lower-case id, served as `model`. */
  id: string;
  /** sha256 of the base's file; of the sorted lines `<file name> <sha256>` for a folder. */
  digest: string;
  config: LlamaConfig;
  /**
   * float32 values of a Hugging Face tensor, `[out, in]` for linears, in Hugging Face's row order.
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
  if (config.headDim % 2 !== 0)
    throw new BaseModelError(`a head size of ${config.headDim} is odd; rotary positions need pairs`);
  return config;
}
