import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import {
  parseSafetensorsHeader,
  readHeaderLength,
  type TensorEntry,
  toFloat32,
} from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/index.ts';
import { type BaseModel, BaseModelError, checkConfig, type LlamaConfig } from './base-model.ts';
import { HEAD, refuseOtherHead, refuseUnused } from './check-tensors.ts';
import { fileDigest } from './file-digest.ts';
import { readFully } from './read-fully.ts';

/** The fields of a Hugging Face `config.json` that matter here; the rest is ignored, as transformers does. */
const HubConfig = z.object({
  _name_or_path: z.string().optional(),
  model_type: z.string(),
  hidden_size: z.int(),
  num_hidden_layers: z.int(),
  num_attention_heads: z.int(),
  num_key_value_heads: z.int().optional(),
  head_dim: z.int().nullish(),
  intermediate_size: z.int(),
  vocab_size: z.int(),
  max_position_embeddings: z.int(),
  rms_norm_eps: z.number(),
  rope_theta: z.number().optional(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  /** transformers 5 keeps theta here. */
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  tie_word_embeddings: z.boolean().optional(),
  attention_bias: z.boolean().optional(),
  mlp_bias: z.boolean().optional(),
  hidden_act: z.string().optional(),
  sliding_window: z.int().nullish(),
  use_sliding_window: z.boolean().optional(),
  quantization_config: z.record(z.string(), z.unknown()).nullish(),
});
type HubConfig = z.infer<typeof HubConfig>;

const MODEL_TYPES: readonly string[] = ['llama', 'mistral', 'qwen2'];

/**
 * Divisors of Llama 3's stretched frequencies; transformers `modeling_rope_utils.py` `_compute_llama3_parameters`.
 * @returns null for plain rotary positions. @throws BaseModelError for other kinds of scaling.
 */
function ropeDivisors(config: HubConfig, headDim: number, theta: number): Float32Array | null {
  const scaling = config.rope_scaling ?? config.rope_parameters;
  const type = scaling?.['rope_type'] ?? scaling?.['type'] ?? 'default';
  if (type === 'default') return null;
  if (type !== 'llama3')
    throw new BaseModelError(
      `the base uses rotary scaling "${String(type)}"; "default" and "llama3" are supported`,
    );
  const number = (key: string): number => {
    const value = scaling?.[key];
    if (typeof value !== 'number') throw new BaseModelError(`config.json: rope_scaling lacks ${key}`);
    return value;
  };
  const factor = number('factor');
  const low = number('low_freq_factor');
  const high = number('high_freq_factor');
  const original = number('original_max_position_embeddings');
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / headDim);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

function readConfig(folder: string, has: (name: string) => boolean): { config: LlamaConfig; hub: HubConfig } {
  const json: unknown = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  // Other families name their sizes otherwise (GPT-2: n_embd), so what it is comes before what it lacks.
  const type = z.object({ model_type: z.string() }).safeParse(json);
  if (type.success && !MODEL_TYPES.includes(type.data.model_type))
    throw new BaseModelError(
      `model_type ${type.data.model_type} is not supported; ${MODEL_TYPES.join(', ')} are`,
    );
  const parsed = HubConfig.safeParse(json);
  if (!parsed.success) throw new BaseModelError(`config.json: ${z.prettifyError(parsed.error)}`);
  const hub = parsed.data;
  if (hub.quantization_config != null)
    throw new BaseModelError(
      `the base is quantized (quantization_config, ${String(hub.quantization_config['quant_method'] ?? 'unknown method')}), ` +
        'which is not supported in a Hugging Face folder. Give the plain checkpoint that it was made from, or a GGUF file',
    );
  if (hub.mlp_bias === true || (hub.attention_bias === true && hub.model_type !== 'qwen2'))
    throw new BaseModelError('biases on o_proj or the MLP are not supported');
  if (hub.hidden_act !== undefined && hub.hidden_act !== 'silu')
    throw new BaseModelError(`activation ${hub.hidden_act} is not supported; silu is`);
  const sliding =
    hub.model_type === 'qwen2' ? hub.use_sliding_window === true : typeof hub.sliding_window === 'number';
  if (sliding) throw new BaseModelError('sliding-window attention is not supported');
  const headDim = hub.head_dim ?? hub.hidden_size / hub.num_attention_heads;
  const theta = hub.rope_theta ?? Number(hub.rope_parameters?.['rope_theta'] ?? 10_000);
  const config = checkConfig({
    family: hub.model_type === 'qwen2' ? 'qwen2' : 'llama',
    hidden: hub.hidden_size,
    layers: hub.num_hidden_layers,
    heads: hub.num_attention_heads,
    kvHeads: hub.num_key_value_heads ?? hub.num_attention_heads,
    headDim,
    ffn: hub.intermediate_size,
    vocab: hub.vocab_size,
    context: hub.max_position_embeddings,
    rmsEpsilon: hub.rms_norm_eps,
    ropeTheta: theta,
    ropeDivisors: ropeDivisors(hub, headDim, theta),
    tiedHead: hub.tie_word_embeddings ?? !has('lm_head.weight'),
    // Qwen2 has them always; elsewhere `attention_bias` would bring one at o too, which is refused above.
    qkvBias: hub.model_type === 'qwen2',
  });
  return { config, hub };
}

interface Located {
  fd: number;
  entry: TensorEntry;
  dataStart: number;
}

function readExactly(fd: number, length: number, position: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  if (!readFully(fd, bytes, position))
    throw new BaseModelError('a safetensors file ends before its tensors do: it is truncated');
  return bytes;
}

/** Opens every safetensors file of the folder; names of files come from the folder itself, never from an index file. */
function locateTensors(folder: string, files: readonly string[], fds: number[]): Map<string, Located> {
  const tensors = new Map<string, Located>();
  for (const file of files) {
    const path = join(folder, file);
    const fd = openSync(path, 'r');
    fds.push(fd);
    const headerLength = readHeaderLength(readExactly(fd, 8, 0), path);
    const header = parseSafetensorsHeader({
      header: readExactly(fd, headerLength, 8),
      dataBytes: statSync(path).size - 8 - headerLength,
      path,
    });
    for (const [name, entry] of header.tensors) tensors.set(name, { fd, entry, dataStart: 8 + headerLength });
  }
  return tensors;
}

/** A Hugging Face folder: `config.json` and one or more safetensors files. @throws BaseModelError | AdapterFormatError */
export async function loadFolderBase(params: { path: string; id?: string | undefined }): Promise<BaseModel> {
  const { path: folder } = params;
  if (!existsSync(join(folder, 'config.json'))) throw new BaseModelError(`${folder} has no config.json`);
  const files = readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .sort();
  if (files.length === 0) throw new BaseModelError(`${folder} has no .safetensors file`);
  const fds: number[] = [];
  const close = (): void => fds.forEach((fd) => closeSync(fd));
  try {
    const tensors = locateTensors(folder, files, fds);
    const { config, hub } = readConfig(folder, (name) => tensors.has(name));
    const digests = await Promise.all(
      ['config.json', ...files].map(async (file) => `${file} ${await fileDigest(join(folder, file))}\n`),
    );
    // A head that is stored although it is the embedding is looked at below.
    refuseUnused(
      [...tensors.keys()].filter((name) => name !== HEAD || !config.tiedHead),
      config,
    );
    const base: BaseModel = {
      id: params.id ?? baseIdOf(hub._name_or_path || basename(folder)),
      digest: createHash('sha256').update(digests.join('')).digest('hex'),
      config,
      tensor(name, shape) {
        const located = tensors.get(name);
        if (located === undefined) throw new BaseModelError(`the base lacks ${name}`);
        const { dtype, begin, end } = located.entry;
        if (located.entry.shape.join() !== shape.join())
          throw new BaseModelError(
            `${name} has shape [${located.entry.shape.join(', ')}], [${shape.join(', ')}] is needed`,
          );
        const data = readExactly(located.fd, end - begin, located.dataStart + begin);
        return toFloat32({ dtype, shape: [...shape], data });
      },
      close,
    };
    if (config.tiedHead && tensors.has(HEAD)) refuseOtherHead(base);
    return base;
  } catch (error) {
    close();
    throw error;
  }
}
