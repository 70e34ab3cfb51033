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
const TO_HUGGING_FACE: ReadonlyMap<string, string> = new Map(KINDS);
const TO_GGUF: ReadonlyMap<string, string> = new Map(KINDS.map(([gguf, name]) => [name, gguf]));
const LAYER = '(0|[1-9][0-9]{0,4})';
const GGUF_LINEAR = new RegExp(`^blk\\.${LAYER}\\.([a-z_]+)\\.weight$`);
const MODULE = new RegExp(`^model\\.layers\\.${LAYER}\\.([a-z_]+\\.[a-z_]+)$`);

/** @param name `blk.0.attn_q.weight`. @returns `model.layers.0.self_attn.q_proj`; null for what is no such layer. */
export function moduleOfGguf(name: string): string | null {
  const match = GGUF_LINEAR.exec(name);
  const kind = TO_HUGGING_FACE.get(match?.[2] ?? '');
  return kind === undefined ? null : `model.layers.${match?.[1]}.${kind}`;
}

/** The inverse of {@link moduleOfGguf}; null for a module that has no name in GGUF. */
export function ggufOfModule(module: string): string | null {
  const match = MODULE.exec(module);
  const kind = TO_GGUF.get(match?.[2] ?? '');
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
]);

/** Heads whose rows are permuted in a Llama's module; null where rows stay as they are. */
export const rotaryHeads = (
  module: string,
  attention: { readonly heads: number; readonly kvHeads: number },
): number | null =>
  module.endsWith('.q_proj') ? attention.heads : module.endsWith('.k_proj') ? attention.kvHeads : null;
