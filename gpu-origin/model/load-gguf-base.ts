import { basename } from 'node:path';
import { unpermuteRows } from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/index.ts';
import { type BaseModel, BaseModelError, checkConfig, type LlamaConfig } from './base-model.ts';
import { refuseUnused } from './check-tensors.ts';
import { fileDigest } from './file-digest.ts';
import { type GgufFile, readGguf } from './gguf.ts';

/** llama.cpp's tensor names for Hugging Face's. */
const GGUF_NAMES: [RegExp, string][] = [
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
  [/^lm_head\.weight$/, 'output.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$/, 'blk.$1.attn_$2.$3'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\.(weight|bias)$/, 'blk.$1.attn_output.$2'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.(weight|bias)$/, 'blk.$1.ffn_$2.$3'],
];

const ROPE_FREQUENCIES = 'rope_freqs.weight';

function ggufName(name: string): string {
  for (const [pattern, replacement] of GGUF_NAMES)
    if (pattern.test(name)) return name.replace(pattern, replacement);
  throw new Error(`no GGUF name is known for ${name}`);
}

function readConfig(file: GgufFile): LlamaConfig {
  const architecture = String(file.metadata.get('general.architecture'));
  if (architecture !== 'llama' && architecture !== 'qwen2')
    throw new BaseModelError(`the base's architecture is ${architecture}; llama and qwen2 are supported`);
  const number = (key: string, fallback?: number): number => {
    const value = file.metadata.get(`${architecture}.${key}`) ?? fallback;
    if (typeof value !== 'number')
      throw new BaseModelError(`the base's metadata lacks ${architecture}.${key}`);
    return value;
  };
  const heads = number('attention.head_count');
  const hidden = number('embedding_length');
  const scaling = file.metadata.get(`${architecture}.rope.scaling.type`);
  if (scaling !== undefined && scaling !== 'none')
    throw new BaseModelError(`the base uses rotary scaling "${String(scaling)}", which is not supported`);
  return checkConfig({
    family: architecture,
    hidden,
    layers: number('block_count'),
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    headDim: number('attention.key_length', hidden / heads),
    ffn: number('feed_forward_length'),
    vocab: file.tensors.get('token_embd.weight')?.shape[0] ?? number('vocab_size'),
    context: number('context_length'),
    rmsEpsilon: number('attention.layer_norm_rms_epsilon'),
    ropeTheta: number('rope.freq_base', 10_000),
    ropeDivisors: file.tensors.has(ROPE_FREQUENCIES) ? file.readTensor(ROPE_FREQUENCIES) : null,
    tiedHead: !file.tensors.has('output.weight'),
    qkvBias: file.tensors.has('blk.0.attn_q.bias'),
  });
}

/** `SmolLM2-135M-Instruct.Q4_1.gguf` is served as `smollm2-135m-instruct`: the same base in another quantization has the same id. */
export function idOfGgufFile(path: string): string {
  return baseIdOf(
    basename(path)
      .replace(/\.gguf$/i, '')
      .replace(/[.-](I?Q\d\w*|[BF]16|F?32|BF16)$/i, ''),
  );
}

/** @throws GgufError | BaseModelError */
export async function loadGgufBase(params: {
  path: string;
  id?: string | undefined;
}): Promise<{ base: BaseModel; file: GgufFile }> {
  const file = readGguf(params.path);
  const config = readConfig(file);
  // The stretched frequencies are read into the configuration.
  const weights = [...file.tensors.keys()].filter((name) => name !== ROPE_FREQUENCIES);
  refuseUnused(weights, config, ggufName);
  const permuted = config.family === 'llama';
  const base: BaseModel = {
    id: params.id ?? idOfGgufFile(params.path),
    digest: await fileDigest(params.path),
    config,
    tensor(name, shape) {
      const stored = ggufName(name);
      const tensor = file.tensors.get(stored);
      if (tensor === undefined) throw new BaseModelError(`the base lacks ${stored} (${name})`);
      if (tensor.shape.join() !== shape.join())
        throw new BaseModelError(
          `${stored} has shape [${tensor.shape.join(', ')}], [${shape.join(', ')}] is needed`,
        );
      const values = file.readTensor(stored);
      const attention = /self_attn\.([qk])_proj/.exec(name)?.[1];
      if (!permuted || attention === undefined) return values;
      const heads = attention === 'q' ? config.heads : config.kvHeads;
      const bytes = new Uint8Array(values.buffer);
      return new Float32Array(unpermuteRows(bytes, heads, values.BYTES_PER_ELEMENT * (shape[1] ?? 1)).buffer);
    },
    close: () => file.close(),
  };
  return { base, file };
}
