import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { GGML_TYPES, ROWS_PERMUTED, unpermuteRows } from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/index.ts';
import { type BaseModel, BaseModelError, type LlamaConfig } from './base-model.ts';
import { refuseUnused } from './check-tensors.ts';
import { blockFormat, knownBlockFormats } from './dequantize.ts';
import { fileDigest } from './file-digest.ts';
import { type GgufFile, readGguf } from './gguf.ts';
import { readGgufConfig, ROPE_TENSORS } from './gguf-config.ts';
import { splitFused } from './split-fused.ts';

/** llama.cpp's tensor names for Hugging Face's. */
const GGUF_NAMES: [RegExp, string][] = [
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
  [/^lm_head\.weight$/, 'output.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm\.weight$/, 'blk.$1.attn_$2_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.qkv_proj\.weight$/, 'blk.$1.attn_qkv.weight'],
  [/^model\.layers\.(\d+)\.mlp\.gate_up_proj\.weight$/, 'blk.$1.ffn_up.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$/, 'blk.$1.attn_$2.$3'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\.(weight|bias)$/, 'blk.$1.attn_output.$2'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.(weight|bias)$/, 'blk.$1.ffn_$2.$3'],
];

/** Gemma's norms: `post_attention_layernorm` stands behind the attention. */
const GEMMA_NAMES: [RegExp, string][] = [
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.post_attention_norm.weight'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm\.weight$/, 'blk.$1.post_ffw_norm.weight'],
];

function ggufName(name: string, config: LlamaConfig): string {
  for (const [pattern, replacement] of [...(config.postNorms ? GEMMA_NAMES : []), ...GGUF_NAMES])
    if (pattern.test(name)) return name.replace(pattern, replacement);
  throw new Error(`no GGUF name is known for ${name}`);
}

/** `SmolLM2-135M-Instruct.Q4_1.gguf` is served as `smollm2-135m-instruct`: the same base in another quantization has the same id. */
export function idOfGgufFile(path: string): string {
  return baseIdOf(
    basename(path)
      .replace(/(-\d{5}-of-\d{5})?\.gguf$/i, '')
      .replace(/[.-](I?Q\d\w*|[BF]16|F?32|BF16)$/i, ''),
  );
}

/** @throws BaseModelError that names a quantization which cannot be read. */
function refuseQuantizations(file: GgufFile): void {
  for (const { name, type } of file.tensors.values())
    if (blockFormat(type) === null)
      throw new BaseModelError(
        `${file.path} is quantized as ${GGML_TYPES.get(type)?.name ?? `ggml type ${type}`} (tensor ${name}), which is not ` +
          `supported; ${knownBlockFormats().join(', ')} are`,
      );
}

/** Of one file its own; of several that of the lines `<sha256>`, in order. */
async function digestOf(file: GgufFile): Promise<string> {
  if (file.parts.length === 1) return fileDigest(file.path);
  const hash = createHash('sha256');
  for (const part of file.parts) hash.update(`${await fileDigest(part)}\n`);
  return hash.digest('hex');
}

/** @throws GgufError | BaseModelError */
export async function loadGgufBase(params: {
  path: string;
  id?: string | undefined;
}): Promise<{ base: BaseModel; file: GgufFile }> {
  const file = readGguf(params.path);
  try {
    return { base: await openBase(file, params.id), file };
  } catch (error) {
    file.close();
    throw error;
  }
}

async function openBase(file: GgufFile, id: string | undefined): Promise<BaseModel> {
  const config = readGgufConfig(file);
  refuseQuantizations(file);
  const read: readonly string[] = Object.values(ROPE_TENSORS);
  const weights = [...file.tensors.keys()].filter((name) => !read.includes(name));
  refuseUnused(weights, config, (name) => ggufName(name, config));
  const permuted = ROWS_PERMUTED.get(config.family) === true;
  const base: BaseModel = {
    id: id ?? idOfGgufFile(file.path),
    digest: await digestOf(file),
    config,
    tensor(name, shape) {
      const stored = ggufName(name, config);
      const tensor = file.tensors.get(stored);
      if (tensor === undefined) throw new BaseModelError(`the base lacks ${stored} (${name})`);
      if (tensor.shape.join() !== shape.join())
        throw new BaseModelError(
          `${stored} has shape [${tensor.shape.join(', ')}], [${shape.join(', ')}] is needed`,
        );
      const values = file.readTensor(stored);
      const attention = /self_attn\.([qk])_proj\./.exec(name)?.[1];
      if (!permuted || attention === undefined) return values;
      const heads = attention === 'q' ? config.heads : config.kvHeads;
      const bytes = new Uint8Array(values.buffer);
      return new Float32Array(unpermuteRows(bytes, heads, values.BYTES_PER_ELEMENT * (shape[1] ?? 1)).buffer);
    },
    close: () => file.close(),
  };
  return splitFused(base);
}
