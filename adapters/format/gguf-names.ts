/** Names of the Llama family's linear layers in GGUF and in Hugging Face's models (gguf-py `tensor_mapping.py`). */

const KINDS: readonly (readonly [gguf: string, huggingFace: string])[] = [
  ['attn_q', 'self_attn.q_proj'],
  ['attn_k', 'self_attn.k_proj'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
];
/** Phi-3 has q, k and v in one linear, gate and up in another, which GGUF calls `ffn_up` alone. */
const FUSED_KINDS: readonly (readonly [gguf: string, huggingFace: string])[] = [
  ['attn_qkv', 'self_attn.qkv_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_up', 'mlp.gate_up_proj'],
  ['ffn_down', 'mlp.down_proj'],
];
const kindsOf = (architecture: string) => (architecture === 'phi3' ? FUSED_KINDS : KINDS);

/** @returns GGUF's names of an architecture's linear layers, without the layer. */
export const ggufKinds = (architecture: string): string[] => kindsOf(architecture).map(([gguf]) => gguf);
const LAYER = '(0|[1-9][0-9]{0,4})';
const GGUF_LINEAR = new RegExp(`^blk\\.${LAYER}\\.([a-z_]+)\\.weight$`);
const MODULE = new RegExp(`^model\\.layers\\.${LAYER}\\.([a-z_]+\\.[a-z_]+)$`);

/**
 * @param name `blk.0.attn_q.weight`. @param architecture one of {@link ROWS_PERMUTED}.
 * @returns `model.layers.0.self_attn.q_proj`; null for what is no such layer.
 */
export function moduleOfGguf(name: string, architecture: string): string | null {
  const match = GGUF_LINEAR.exec(name);
  const kind = kindsOf(architecture).find(([gguf]) => gguf === match?.[2])?.[1];
  return kind === undefined ? null : `model.layers.${match?.[1]}.${kind}`;
}

/** The inverse of {@link moduleOfGguf}; null for a module that has no name in GGUF. */
export function ggufOfModule(module: string, architecture: string): string | null {
  const match = MODULE.exec(module);
  const kind = kindsOf(architecture).find(([, name]) => name === match?.[2])?.[0];
  return kind === undefined ? null : `blk.${match?.[1]}.${kind}.weight`;
}

/**
 * Architectures (`general.architecture`) whose linear layers carry the names above, and whether the rows of q and k are
 * in another order than Hugging Face's (`undo_permute` in llama.cpp's `conversion/`). In others nobody has looked.
 */
export const ROWS_PERMUTED: ReadonlyMap<string, boolean> = new Map([
  ['llama', true],
  ['smollm3', true],
  ['qwen2', false],
  ['qwen3', false],
  ['gemma', false],
  ['gemma2', false],
  ['gemma3', false],
  ['phi3', false],
]);

/** Heads whose rows are permuted in a Llama's module; null where rows stay as they are. */
export const rotaryHeads = (
  module: string,
  attention: { readonly heads: number; readonly kvHeads: number },
): number | null =>
  module.endsWith('.q_proj') ? attention.heads : module.endsWith('.k_proj') ? attention.kvHeads : null;
