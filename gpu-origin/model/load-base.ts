import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import {
  isVision,
  parseSafetensorsHeader,
  readHeaderLength,
  type TensorEntry,
  toFloat32,
  GGML_TYPES,
  ROWS_PERMUTED,
  unpermuteRows,
} from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/identity.ts';
import {
  type BaseModel,
  BaseModelError,
  checkConfig,
  type Experts,
  FAMILIES,
  type Family,
  GEMMA_2,
  GEMMA_LOCAL_THETA,
  graniteConstants,
  isDeltaNet,
  isGemma,
  SOFT_CAPS,
  type LayerAttention,
  type LlamaConfig,
  PLAIN_FAMILY,
  traitsOf,
  type Rope,
  ATTENTION_PATTERN,
  type LinearKind,
  moduleName,
  type LayerSizes,
  storedLinears,
  rowsOfKind,
  storedShape,
  type StoredLinear,
  storesGainsMinusOne,
  keysOf,
  lastOfKind,
  type DeltaNet,
} from './base-model.ts';
import { fileDigest, readFully, readStrips } from './read-file.ts';
import {
  linearDivisors,
  longRopeScale,
  readHubConfig,
  refuseOtherModels,
  ROTARY_PART,
  sees,
  yarnDivisors,
  yarnScale,
} from './hub-config.ts';
import type { TokenizerSource } from './load-tokenizer.ts';
import { blockFormat, knownBlockFormats, type GgufFile, readGguf } from './gguf.ts';
import { expertReader, hubStorage, storedExperts } from './experts.ts';
import {
  DELTA_NORM,
  FINAL_NORM,
  keptGains,
  LAYER_EMBEDDING,
  normsBefore,
  scalarNames,
  storedDeltaNet,
} from './prepare-weights.ts';

/** @param path a .gguf file or a Hugging Face folder. @throws BaseModelError | GgufError */
export async function loadBase(
  path: string,
  id: string | undefined,
): Promise<{ base: BaseModel; tokenizerSource: TokenizerSource }> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new BaseModelError(`no such file or folder: ${path}`);
  if (stats.isDirectory())
    return { base: await loadFolderBase({ path, id }), tokenizerSource: { kind: 'folder', path } };
  const { base, file } = await loadGgufBase({ path, id });
  return { base, tokenizerSource: { kind: 'gguf', metadata: file.metadata } };
}

const NORM = /norm\.weight$/;

interface Located {
  fd: number;
  entry: TensorEntry;
  dataStart: number;
}

function readExactly(fd: number, length: number, position: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  return readFully(fd, bytes, position) ? bytes : refuseTruncated();
}

function refuseTruncated(): never {
  throw new BaseModelError('a safetensors file ends before its last tensor: it is truncated');
}

/**
 * Opens every safetensors file of the folder; file names come from the folder itself, never from an index file.
 */
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

/** Of the text in such a model, as transformers 5 and older ones store it. */
const TEXT_PREFIXES: readonly (readonly [stored: string, plain: string])[] = [
  ['model.language_model.', 'model.'],
  ['language_model.model.', 'model.'],
  ['language_model.lm_head.', 'lm_head.'],
];

/** Gemma 4's, beside what {@link isVision} knows. */
const AUDIO = /^model\.(?:audio_tower|embed_audio)\./;

/** @returns the text's tensors under the names that they have in a model of text alone. @throws BaseModelError */
function textTensors(tensors: ReadonlyMap<string, Located>): Map<string, Located> {
  const text = new Map<string, Located>();
  for (const [stored, located] of tensors) {
    // Text is the same without it, and without the layers of Qwen3.5 that guess tokens ahead.
    if (isVision(stored) || AUDIO.test(stored) || stored.startsWith('mtp.')) continue;
    const [prefix, plain] = TEXT_PREFIXES.find(([start]) => stored.startsWith(start)) ?? ['', ''];
    const name = `${plain}${stored.slice(prefix.length)}`;
    if (text.has(name)) throw new BaseModelError(`the base has ${name} twice, once as ${stored}`);
    text.set(name, located);
  }
  return text;
}

/** GLM-4's names of norms, by those that Gemma has for the same places. */
const GLM4_NORMS: readonly (readonly [name: string, glm4: string])[] = [
  ['.post_attention_layernorm.', '.post_self_attn_layernorm.'],
  ['.pre_feedforward_layernorm.', '.post_attention_layernorm.'],
  ['.post_feedforward_layernorm.', '.post_mlp_layernorm.'],
];

/** The name of a tensor in a Hugging Face folder. */
export function hubName(name: string, { family }: LlamaConfig): string {
  const norm = family === 'glm4' ? GLM4_NORMS.find(([own]) => name.includes(own)) : undefined;
  return norm === undefined ? name : name.replace(...norm);
}

const INDEX = 'model.safetensors.index.json';
const ShardIndex = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * The files with the weights: those of the index, otherwise `model.safetensors`, otherwise all; some folders
 * have the same weights in another form as well. File names come from the folder itself, never from the index.
 */
function weightFiles(folder: string): string[] {
  const there = readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .sort();
  if (existsSync(join(folder, INDEX))) {
    const index = ShardIndex.safeParse(JSON.parse(readFileSync(join(folder, INDEX), 'utf8')));
    if (!index.success) throw new BaseModelError(`${INDEX}: ${z.prettifyError(index.error)}`);
    const named = new Set(Object.values(index.data.weight_map));
    const missing = [...named].find((file) => !there.includes(file));
    if (missing !== undefined)
      throw new BaseModelError(
        `${folder} lacks ${missing}, which is listed in ${INDEX}. Download the rest of the base`,
      );
    return there.filter((file) => named.has(file));
  }
  if (there.length === 0) throw new BaseModelError(`${folder} has no .safetensors file`);
  return there.includes('model.safetensors') ? ['model.safetensors'] : there;
}

/** Supported storage types. */
const STORED = new Set(['F32', 'F16', 'BF16']);

function refuseQuantized(tensors: ReadonlyMap<string, Located>): void {
  for (const [name, { entry }] of tensors)
    if (!STORED.has(entry.dtype) && !FREQUENCIES.test(name))
      throw new BaseModelError(
        `${name} is ${entry.dtype}; F32, F16 and BF16 are supported. Give the original checkpoint, or ` +
          'a GGUF file',
      );
}

/** A Hugging Face folder: `config.json` and one or more safetensors files. @throws BaseModelError | AdapterFormatError */
export async function loadFolderBase(params: { path: string; id?: string | undefined }): Promise<BaseModel> {
  const { path: folder } = params;
  if (!existsSync(join(folder, 'config.json'))) throw new BaseModelError(`${folder} has no config.json`);
  // Checked before the weights.
  const json: unknown = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  refuseOtherModels(json);
  const files = weightFiles(folder);
  const fds: number[] = [];
  const close = (): void => fds.forEach((fd) => closeSync(fd));
  try {
    const stored = locateTensors(folder, files, fds);
    const tensors = sees(json) ? textTensors(stored) : stored;
    const { config: read, name: repository } = readHubConfig(json, tensors.has(HEAD));
    const storage = hubStorage((name) => tensors.has(name));
    const config = read.experts === null ? read : { ...read, experts: { ...read.experts, storage } };
    refuseQuantized(tensors);
    const digests = await Promise.all(
      ['config.json', ...files].map(async (file) => `${file} ${await fileDigest(join(folder, file))}\n`),
    );
    // A stored head of a tied embedding is checked below.
    refuseUnused(
      [...tensors.keys()].filter((name) => name !== HEAD || !config.tiedHead),
      config,
      (name) => hubName(name, config),
    );
    const base: BaseModel = {
      id: params.id ?? baseIdOf(repository || basename(folder)),
      digest: createHash('sha256').update(digests.join('')).digest('hex'),
      config,
      tensor(name, shape, columns) {
        const stored = hubName(name, config);
        const located = tensors.get(stored);
        if (located === undefined) throw new BaseModelError(`the base lacks ${stored}`);
        const { dtype, begin, end } = located.entry;
        if (located.entry.shape.join() !== shape.join())
          throw new BaseModelError(
            `${stored} has shape [${located.entry.shape.join(', ')}]; [${shape.join(', ')}] is needed`,
          );
        const at = located.dataStart + begin;
        if (columns !== undefined) {
          const [rows, width] = shape as [number, number];
          const rowBytes = (end - begin) / rows;
          const value = rowBytes / width;
          const strip = { from: columns.from * value, bytes: columns.count * value };
          const data = readStrips(located.fd, { position: at, rows, rowBytes }, strip) ?? refuseTruncated();
          return toFloat32({ dtype, shape: [rows, columns.count], data });
        }
        const data = readExactly(located.fd, end - begin, at);
        const values = toFloat32({ dtype, shape: [...shape], data });
        // As `Gemma2RMSNorm`, `Gemma3RMSNorm` and `Qwen3_5RMSNorm` in transformers: 1 + weight.
        if (storesGainsMinusOne(config.family) && NORM.test(name) && !name.includes(DELTA_NORM))
          for (let i = 0; i < values.length; i++) values[i]! += 1;
        return values;
      },
      close,
    };
    if (config.tiedHead && tensors.has(HEAD)) refuseOtherHead(base);
    return splitFused(withExperts(base));
  } catch (error) {
    close();
    throw error;
  }
}

/** llama.cpp's tensor names for Hugging Face's. */
const GGUF_NAMES: [RegExp, string][] = [
  [/^model\.layers\.(\d+)\.mlp\.gate\.weight$/, 'blk.$1.ffn_gate_inp.weight'],
  [/^model\.layers\.(\d+)\.mlp\.experts\.(gate|up|down)_proj\.weight$/, 'blk.$1.ffn_$2_exps.weight'],
  [/^model\.embed_tokens_per_layer\.weight$/, 'per_layer_token_embd.weight'],
  [/^model\.per_layer_model_projection\.weight$/, 'per_layer_model_proj.weight'],
  [/^model\.per_layer_projection_norm\.weight$/, 'per_layer_proj_norm.weight'],
  [/^model\.layers\.(\d+)\.per_layer_input_gate\.weight$/, 'blk.$1.inp_gate.weight'],
  [/^model\.layers\.(\d+)\.per_layer_projection\.weight$/, 'blk.$1.proj.weight'],
  [/^model\.layers\.(\d+)\.post_per_layer_input_norm\.weight$/, 'blk.$1.post_norm.weight'],
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
  [/^lm_head\.weight$/, 'output.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.layer_scalar$/, 'blk.$1.layer_output_scale.weight'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm\.weight$/, 'blk.$1.attn_$2_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.qkv_proj\.weight$/, 'blk.$1.attn_qkv.weight'],
  [/^model\.layers\.(\d+)\.mlp\.gate_up_proj\.weight$/, 'blk.$1.ffn_up.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$/, 'blk.$1.attn_$2.$3'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\.(weight|bias)$/, 'blk.$1.attn_output.$2'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.(weight|bias)$/, 'blk.$1.ffn_$2.$3'],
];

/** Of Qwen3.5. */
const DELTA_NET_NAMES: [RegExp, string][] = [
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.post_attention_norm.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_qkv\.weight$/, 'blk.$1.attn_qkv.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_z\.weight$/, 'blk.$1.attn_gate.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_b\.weight$/, 'blk.$1.ssm_beta.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_a\.weight$/, 'blk.$1.ssm_alpha.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.out_proj\.weight$/, 'blk.$1.ssm_out.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.conv1d\.weight$/, 'blk.$1.ssm_conv1d.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.norm\.weight$/, 'blk.$1.ssm_norm.weight'],
  [/^model\.layers\.(\d+)\.linear_attn\.A_log$/, 'blk.$1.ssm_a'],
  [/^model\.layers\.(\d+)\.linear_attn\.dt_bias$/, 'blk.$1.ssm_dt.bias'],
];

/** With norms behind attention and MLP: `post_attention_layernorm` follows the attention. */
const POST_NORM_NAMES: [RegExp, string][] = [
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.post_attention_norm.weight'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm\.weight$/, 'blk.$1.post_ffw_norm.weight'],
];

function ggufName(name: string, config: LlamaConfig): string {
  const own = config.deltaNet !== null ? DELTA_NET_NAMES : config.postNorms ? POST_NORM_NAMES : [];
  for (const [pattern, replacement] of [...own, ...GGUF_NAMES])
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

/** @throws BaseModelError that names an unsupported quantization. */
function refuseQuantizations(file: GgufFile): void {
  for (const { name, type } of file.tensors.values())
    if (blockFormat(type) === null)
      throw new BaseModelError(
        `${file.path} uses the quantization ${GGML_TYPES.get(type)?.name ?? `ggml type ${type}`} ` +
          `(tensor ${name}), which is not supported; supported are ${knownBlockFormats().join(', ')}`,
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
    tensor(name, shape, columns) {
      const stored = ggufName(name, config);
      const tensor = file.tensors.get(stored);
      if (tensor === undefined) throw new BaseModelError(`the base lacks ${stored} (${name})`);
      // llama.cpp's kernels of a convolution lack the size of 1.
      if (
        tensor.shape.join() !==
        shape.filter((size) => size !== 1 || tensor.shape.length === shape.length).join()
      )
        throw new BaseModelError(
          `${stored} has shape [${tensor.shape.join(', ')}]; [${shape.join(', ')}] is needed`,
        );
      if (columns !== undefined) return file.readColumns(stored, columns);
      const values = file.readTensor(stored);
      if (config.deltaNet !== null) return fromGgufDeltaNet(name, values, shape, config.deltaNet);
      const attention = /self_attn\.([qk])_proj\./.exec(name)?.[1];
      if (!permuted || attention === undefined) return values;
      const heads = attention === 'q' ? config.heads : config.kvHeads;
      const bytes = new Uint8Array(values.buffer);
      return new Float32Array(unpermuteRows(bytes, heads, values.BYTES_PER_ELEMENT * (shape[1] ?? 1)).buffer);
    },
    close: () => file.close(),
  };
  return splitFused(withExperts(base));
}

/** Tensors that become part of the configuration: stretched frequencies. */
const ROPE_TENSORS = {
  divisors: 'rope_freqs.weight',
  short: 'rope_factors_short.weight',
  long: 'rope_factors_long.weight',
} as const;

/** SmolLM3's layers without rotary positions: every fourth. */
const NO_ROPE_STEP = 4;
/** Layers of those that do not scale by their heads' size: the two of 27B. */
const GEMMA_27B_LAYERS: Partial<Record<Family, number>> = { gemma2: 46, gemma3: 62 };

class Metadata {
  constructor(
    private readonly file: GgufFile,
    readonly family: Family,
  ) {}

  value(key: string): unknown {
    return this.file.metadata.get(`${this.family}.${key}`);
  }

  number(key: string, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value !== 'number')
      throw new BaseModelError(`the base's metadata lacks ${this.family}.${key} as a single number`);
    return value;
  }
}

/** For other families llama.cpp ignores a window, whatever the file says. */
const WINDOWED: ReadonlySet<Family> = new Set<Family>(['gemma2', 'gemma3', 'gemma4', 'olmo2', 'phi3']);

function attentionOf(metadata: Metadata, layers: number): LayerAttention[] {
  const { family } = metadata;
  // 0 means none (Phi-4), as does nothing at all (OLMo 2).
  const usual = family === 'gemma2' ? GEMMA_2.window : 0;
  const window = (WINDOWED.has(family) && metadata.number('attention.sliding_window', usual)) || null;
  const usualPattern = ATTENTION_PATTERN[family];
  const pattern =
    usualPattern === undefined ? null : (metadata.value('attention.sliding_window_pattern') ?? usualPattern);
  const slides = (layer: number): boolean => {
    if (pattern === null) return true;
    // Without a window all layers are global.
    if (window === null) return false;
    return Array.isArray(pattern) ? Boolean(pattern[layer]) : (layer + 1) % Number(pattern) !== 0;
  };
  return Array.from({ length: layers }, (_, layer) => ({
    window: slides(layer) ? window : null,
    rope:
      family === 'smollm3' && (layer + 1) % NO_ROPE_STEP === 0
        ? null
        : (family === 'gemma3' || family === 'gemma4' || family === 'olmo2') && slides(layer)
          ? 'localRope'
          : 'rope',
  }));
}

/**
 * Divisors of every frequency. As in llama.cpp, files that name no kind of scaling are stretched linearly, and
 * `rope.scale_linear` is the older name of the factor.
 * @throws BaseModelError for unsupported kinds.
 */
function stretchOf(metadata: Metadata, longRope: boolean): number {
  const type = metadata.value('rope.scaling.type') ?? 'linear';
  if (type === 'none') return 1;
  if (type !== 'linear' && !(type === 'longrope' && longRope))
    throw new BaseModelError(`the base uses rotary scaling "${String(type)}", which is not supported`);
  // 0 means none.
  return metadata.number('rope.scaling.factor', metadata.number('rope.scale_linear', 0)) || 1;
}

/** As in llama.cpp's `llama-context.cpp`: `yarn_log_multiplier` stands for transformers' `mscale_all_dim`. */
function yarnOf(
  metadata: Metadata,
  { theta, dim, context }: { theta: number; dim: number; context: number },
): { rope: Rope; context: number } {
  const factor = metadata.number('rope.scaling.factor');
  const original = metadata.number('rope.scaling.original_context_length', 0) || context;
  for (const key of ['rope.scaling.yarn_ext_factor', 'rope.scaling.alpha'])
    if (metadata.value(key) !== undefined && metadata.number(key) !== 1)
      throw new BaseModelError(`the base's metadata has ${key}, which is not supported`);
  const all = metadata.number('rope.scaling.yarn_log_multiplier', 0);
  const divisors = yarnDivisors({
    ...{ theta, dim, factor, original },
    betaFast: metadata.number('rope.scaling.yarn_beta_fast', 32),
    betaSlow: metadata.number('rope.scaling.yarn_beta_slow', 1),
  });
  const scale =
    (yarnScale(factor) / (all === 0 ? 1 : yarnScale(factor, all))) *
    metadata.number('rope.scaling.attn_factor', 1);
  // Ministral 3 multiplies q behind the original context, which is not done here.
  const multiplies = metadata.number('attention.temperature_scale', 0) !== 0;
  return {
    rope: { theta, dim, divisors, scale },
    context: multiplies ? Math.min(context, original) : context,
  };
}

/** @returns the rotary positions, and the number of tokens for which they are valid. */
function ropeOf(file: GgufFile, metadata: Metadata, headDim: number): { rope: Rope; context: number } {
  const dim = metadata.number('rope.dimension_count', headDim);
  if (dim !== headDim && ROTARY_PART[metadata.family] === undefined)
    throw new BaseModelError(
      `partial rotary positions (${metadata.family}.rope.dimension_count is ${dim}, a head has ` +
        `${headDim} numbers) are not supported`,
    );
  const theta = metadata.number('rope.freq_base', metadata.family === 'gemma3' ? 1_000_000 : 10_000);
  const context = metadata.number('context_length');
  if (metadata.value('rope.scaling.type') === 'yarn') return yarnOf(metadata, { theta, dim, context });
  const longRope = file.tensors.has(ROPE_TENSORS.short);
  const tensor = longRope ? ROPE_TENSORS.short : ROPE_TENSORS.divisors;
  const stretch = stretchOf(metadata, longRope);
  const stored = file.tensors.has(tensor) ? file.readTensor(tensor) : null;
  const original = longRope ? metadata.number('rope.scaling.original_context_length', context) : context;
  return {
    rope: {
      theta,
      dim,
      divisors:
        stretch === 1 ? stored : (stored?.map((one) => one * stretch) ?? linearDivisors(stretch, dim)),
      scale: metadata.number(
        'rope.scaling.attn_factor',
        longRope ? longRopeScale(context / original, original) : 1,
      ),
    },
    context: Math.min(context, original),
  };
}

/** Of those that say 0, llama.cpp takes none. */
function graniteOf(metadata: Metadata, headDim: number): ReturnType<typeof graniteConstants> {
  if (metadata.value('rope.scaling.finetuned') === false)
    throw new BaseModelError('granite without rotary positions (rope.scaling.finetuned) is not supported');
  return graniteConstants({
    embedding: metadata.number('embedding_scale', 0) || 1,
    residual: metadata.number('residual_scale', 0) || 1,
    attention: metadata.number('attention.scale', 0) || headDim ** -0.5,
    logits: metadata.number('logit_scale'),
    rmsEpsilon: metadata.number('attention.layer_norm_rms_epsilon'),
  });
}

/** llama.cpp takes weights of the chosen experts that add up to 1, whatever the file says. */
const expertsOf = (metadata: Metadata): Experts => ({
  count: metadata.number('expert_count'),
  chosen: metadata.number('expert_used_count'),
  normalized: true,
  storage: 'stacked',
});

/** Defaults and names of llama.cpp's `qwen35.cpp`. */
function deltaNetOf(metadata: Metadata, layers: number): DeltaNet {
  const valueHeads = metadata.number('ssm.time_step_rank');
  const given = metadata.value('attention.recurrent_layers');
  const interval = metadata.number('full_attention_interval', 4);
  return {
    keyHeads: metadata.number('ssm.group_count'),
    valueHeads,
    keyDim: metadata.number('ssm.state_size'),
    valueDim: metadata.number('ssm.inner_size') / valueHeads,
    kernel: metadata.number('ssm.conv_kernel'),
    layers: Array.from({ length: layers }, (_, layer) =>
      Array.isArray(given) ? given[layer] === true : (layer + 1) % interval !== 0,
    ),
  };
}

/**
 * What a GGUF stores of Gated DeltaNet, as Hugging Face has it. llama.cpp has value heads in turns, the first of each key
 * head, then the second of each; transformers has those of a key head together. Decays are stored as -exp(A_log).
 */
function fromGgufDeltaNet(
  name: string,
  values: Float32Array<ArrayBuffer>,
  shape: readonly number[],
  { keyHeads, keyDim, valueHeads, valueDim }: DeltaNet,
): Float32Array<ArrayBuffer> {
  const part = /linear_attn\.(in_proj_[qkvzab]+|out_proj|conv1d|A_log|dt_bias)/.exec(name)?.[1];
  if (part === undefined) return values;
  const each = valueHeads / keyHeads;
  const moved = values.slice();
  // Numbers of a head that lie together, of the rows' `lines`, from `begin` on.
  const untie = (size: number, begin = 0, lines = 1): void => {
    const line = (values.length - begin) / lines;
    for (let at = begin; at < values.length; at += line)
      for (let head = 0; head < valueHeads; head++) {
        const from = at + ((head % each) * keyHeads + Math.floor(head / each)) * size;
        moved.set(values.subarray(from, from + size), at + head * size);
      }
  };
  const width = values.length / shape[0]!;
  if (part === 'out_proj') untie(valueDim, 0, shape[0]);
  else if (part === 'in_proj_qkv' || part === 'conv1d')
    untie(valueDim * width, 2 * keyHeads * keyDim * width);
  else if (part === 'in_proj_z') untie(valueDim * width);
  else untie(width);
  return part === 'A_log' ? moved.map((value) => Math.log(-value)) : moved;
}

/** Sizes of Gemma 4's layers: each number is one for all layers, or a list. @throws BaseModelError */
function gemma4Sizes(
  { tensors }: GgufFile,
  metadata: Metadata,
  attention: readonly LayerAttention[],
): LayerSizes[] {
  const of = (key: string, layer: number): number => {
    const value = metadata.value(key);
    const own: unknown = Array.isArray(value) ? value[layer] : value;
    if (typeof own !== 'number') throw new BaseModelError(`the base's metadata lacks gemma4.${key}`);
    return own;
  };
  const own = attention.length - metadata.number('attention.shared_kv_layers', 0);
  return attention.map(({ window }, layer) => ({
    kvHeads: of('attention.head_count_kv', layer),
    headDim: of(window === null ? 'attention.key_length' : 'attention.key_length_swa', layer),
    ffn: of('feed_forward_length', layer),
    keysAreValues: layer < own && !tensors.has(`blk.${layer}.attn_v.weight`),
    keysOf: layer < own ? null : lastOfKind(attention, layer, own),
  }));
}

/**
 * A GGUF's metadata as the graph builder's configuration; defaults and patterns as in llama.cpp's `llama-model.cpp`.
 * @throws BaseModelError
 */
function readGgufConfig(file: GgufFile): LlamaConfig {
  const architecture = String(file.metadata.get('general.architecture'));
  const family = FAMILIES.find((name) => name === architecture);
  if (family === undefined)
    throw new BaseModelError(
      `the base's architecture ${architecture} is not supported; supported are ${FAMILIES.join(', ')}`,
    );
  const metadata = new Metadata(file, family);
  for (const cap of ['attn_logit_softcapping', 'final_logit_softcapping'])
    if (metadata.value(cap) !== undefined && SOFT_CAPS[family]?.includes(cap) !== true)
      throw new BaseModelError(`logit soft caps (${cap}) are not supported for ${family}`);
  if (family === 'glm4')
    for (const key of ['rope.dimension_sections', 'nextn_predict_layers'])
      if (metadata.value(key) !== undefined)
        throw new BaseModelError(`the base's metadata has glm4.${key}, which is not supported`);
  if (family === 'gemma4')
    if (metadata.number('expert_count', 0) !== 0)
      throw new BaseModelError("the base's metadata has gemma4.expert_count, which is not supported");
  const heads = metadata.number('attention.head_count');
  const hidden = metadata.number('embedding_length');
  // Layers of Qwen3.5 that predict further tokens come last, and are not served.
  const layers =
    metadata.number('block_count') - (family === 'qwen35' ? metadata.number('nextn_predict_layers', 0) : 0);
  const gemma = isGemma(family);
  const headDim = metadata.number('attention.key_length', hidden / heads);
  const { rope, context } = ropeOf(file, metadata, headDim);
  const deltaNet = family === 'qwen35' ? deltaNetOf(metadata, layers) : null;
  const attention = attentionOf(metadata, layers).map((of, layer) =>
    deltaNet?.layers[layer] === true ? { window: null, rope: null } : of,
  );
  const layerSizes = family === 'gemma4' ? gemma4Sizes(file, metadata, attention) : null;
  const ofWindows = attention.findIndex(({ window }) => window !== null);
  return checkConfig({
    ...PLAIN_FAMILY,
    family,
    hidden,
    layers,
    heads,
    kvHeads: layerSizes === null ? metadata.number('attention.head_count_kv', heads) : layerSizes[0]!.kvHeads,
    headDim: layerSizes === null ? headDim : metadata.number('attention.key_length_swa', headDim),
    layerSizes,
    ffn:
      layerSizes === null
        ? metadata.number(family === 'qwen3moe' ? 'expert_feed_forward_length' : 'feed_forward_length')
        : layerSizes[0]!.ffn,
    experts: family === 'qwen3moe' ? expertsOf(metadata) : null,
    deltaNet,
    vocab: file.tensors.get('token_embd.weight')?.shape[0] ?? metadata.number('vocab_size'),
    context,
    rmsEpsilon: metadata.number('attention.layer_norm_rms_epsilon'),
    rope,
    localRope:
      attention.some(({ rope: which }) => which === 'localRope') || family === 'gemma3' || family === 'gemma4'
        ? {
            // Older files of OLMo 3 have one theta for all layers.
            theta: metadata.number('rope.freq_base_swa', gemma ? GEMMA_LOCAL_THETA : rope.theta),
            dim: layerSizes?.[ofWindows]?.headDim ?? headDim,
            divisors: null,
            scale: 1,
          }
        : null,
    attention,
    attentionScale:
      family === 'gemma4'
        ? 1
        : gemma
          ? (layers === GEMMA_27B_LAYERS[family] ? hidden / heads : headDim) ** -0.5
          : null,
    ...(family === 'gemma2'
      ? {
          attentionCap: metadata.number('attn_logit_softcapping', GEMMA_2.attentionCap),
          logitCap: metadata.number('final_logit_softcapping', GEMMA_2.logitCap),
        }
      : {}),
    ...(family === 'gemma4'
      ? {
          logitCap: metadata.number('final_logit_softcapping', 0) || null,
          layerScalars: file.tensors.has('blk.0.layer_output_scale.weight'),
          layerEmbedding: metadata.number('embedding_length_per_layer_input', 0) || null,
        }
      : {}),
    tiedHead: !file.tensors.has('output.weight'),
    qkvBias: file.tensors.has('blk.0.attn_q.bias'),
    ...traitsOf(family),
    embeddingScale: gemma ? Math.fround(Math.sqrt(hidden)) : 1,
    ...(family === 'granite' ? graniteOf(metadata, headDim) : {}),
  });
}

/** Rotary frequencies, which follow from the configuration; older Hugging Face checkpoints carry them. */
const FREQUENCIES = /(?:^|\.)rotary_emb\.(?:inv_freq|cos_cached|sin_cached)$/;

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

/** @returns Hugging Face names of everything that `prepareWeights` reads, as stored. */
export function neededTensors(config: LlamaConfig): Set<string> {
  const names = new Set([EMBEDDING, FINAL_NORM]);
  if (config.layerEmbedding !== null) for (const name of Object.values(LAYER_EMBEDDING)) names.add(name);
  if (!config.tiedHead) names.add(HEAD);
  for (let layer = 0; layer < config.layers; layer++) {
    if (config.layerScalars) names.add(scalarNames(layer).stored);
    const norms = [
      ...Object.values(normsBefore(config) ?? {}),
      ...keptGains(config, layer).map(([path]) => path),
    ];
    for (const path of norms) names.add(`model.layers.${layer}.${path}.weight`);
    if (isDeltaNet(config, layer)) for (const name of Object.values(storedDeltaNet(layer))) names.add(name);
    for (const { name, kinds } of storedLinears(config, layer)) {
      names.add(`${name}.weight`);
      if (config.qkvBias && 'qkv'.includes(kinds[0]!)) names.add(`${name}.bias`);
    }
    if (config.experts !== null) for (const name of storedExperts(config.experts, layer)) names.add(name);
  }
  return names;
}

/**
 * Gemma 4's files have k and v of layers that read those of another one; transformers ignores them, too. GGUF files of
 * Qwen3.5 have layers that predict further tokens behind all others.
 */
function isIgnored(name: string, config: LlamaConfig): boolean {
  if (config.deltaNet !== null && Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? 0) >= config.layers) return true;
  const layer =
    /(?:layers|blk)\.(\d+)\.(?:self_attn\.(?:k_proj|v_proj|k_norm)|attn_(?:k|v|k_norm))\.weight$/.exec(
      name,
    )?.[1];
  return layer !== undefined && keysOf(config, Number(layer)) !== Number(layer);
}

/**
 * Compares a base's stored tensors with those that its graphs use: an ignored one would silently make answers
 * wrong.
 * @param stored names in the file.
 * @param storedName the file's name of a Hugging Face tensor.
 * @throws BaseModelError that names an unused tensor.
 */
function refuseUnused(
  stored: Iterable<string>,
  config: LlamaConfig,
  storedName: (name: string) => string = (name) => name,
): void {
  const needed = new Set([...neededTensors(config)].map(storedName));
  const unused = [...stored].filter(
    (name) => !needed.has(name) && !FREQUENCIES.test(name) && !isIgnored(name, config),
  );
  const [first] = unused;
  if (first === undefined) return;
  const more = unused.length === 1 ? '' : ` and ${unused.length - 1} more`;
  throw new BaseModelError(
    `the base has tensors that a plain ${config.family} model does not use (${first}${more}). Without ` +
      'them its answers would be wrong, so it is not served',
  );
}

/**
 * `tie_word_embeddings` says that the head is the embedding; a head that was trained separately and saved with
 * that setting (`modules_to_save: ["lm_head"]`, merged) is not.
 * @throws BaseModelError when the file's head differs from its embedding.
 */
function refuseOtherHead(base: Pick<BaseModel, 'config' | 'tensor'>): void {
  const shape = [base.config.vocab, base.config.hidden];
  const bytesOf = (name: string): Buffer => Buffer.from(base.tensor(name, shape).buffer);
  if (!bytesOf(HEAD).equals(bytesOf(EMBEDDING)))
    throw new BaseModelError(
      `config.json ties the head to the embedding (tie_word_embeddings), but ${HEAD} differs from ` +
        `${EMBEDDING}. If the head was trained separately, set tie_word_embeddings to false`,
    );
}

/** The base with each expert under a name of its own. */
function withExperts(base: BaseModel): BaseModel {
  if (base.config.experts === null) return base;
  return { ...base, tensor: expertReader(base.config, (name, shape) => base.tensor(name, shape)) };
}

/**
 * The base with its fused linears (Phi-3, GLM, Qwen3.5) under the names of their parts: rows of q, k and v, of gate and up,
 * of q and the gate of its heads' outputs.
 */
function splitFused(base: BaseModel): BaseModel {
  const { config } = base;
  if (!config.fusedQkv && !config.fusedGateUp && !config.outputGate) return base;
  const parts = new Map<string, { linear: StoredLinear; kind: LinearKind }>();
  for (let layer = 0; layer < config.layers; layer++)
    for (const linear of storedLinears(config, layer)) {
      if (linear.kinds.length === 1) continue;
      for (const kind of linear.kinds) parts.set(`${moduleName(layer, kind)}.weight`, { linear, kind });
    }
  return {
    ...base,
    tensor(name, shape, some) {
      const part = parts.get(name);
      if (part === undefined) return base.tensor(name, shape, some);
      const { linear, kind } = part;
      const { in: columns, out: rows } = storedShape(config, linear);
      const whole = base.tensor(`${linear.name}.weight`, [rows, columns]);
      return rowsOfKind(config, linear, kind, whole, columns).slice();
    },
  };
}
