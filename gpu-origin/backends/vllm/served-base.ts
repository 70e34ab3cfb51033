/** The base that vLLM serves, from its folder: what adapters must fit, and which file it is. */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { parseSafetensorsHeader, readHeaderLength } from '../../../adapters/index.ts';
import { baseIdOf, type BaseInfo } from '../../../protocol/index.ts';
import { BaseModelError } from '../../model/base-model.ts';
import { fileDigest, readFully } from '../../model/read-file.ts';

const HubConfig = z.object({
  _name_or_path: z.string().optional(),
  model_type: z.string(),
  num_attention_heads: z.int().positive(),
  num_key_value_heads: z.int().positive().optional(),
  max_position_embeddings: z.int().positive(),
  vocab_size: z.int().positive(),
  torch_dtype: z.string().optional(),
  dtype: z.string().optional(),
  quantization_config: z.object({ quant_method: z.string() }).nullish(),
});

/** `model.layers.3.self_attn.q_proj.weight`: the linears of a layer, which adapters change. */
const LINEAR = /^(.*\blayers\.\d+\..+_proj)\.weight$/;
/** Of the header's length, which comes first, bytes. */
const HEADER_LENGTH = 8;

export interface ServedBase {
  info: BaseInfo;
  vocabSize: number;
}

/**
 * @param params.context as vLLM serves it. @param params.maxRank largest sum of a chain's ranks. @param params.cacheDir
 * where digests are kept: files of 16 GB are hashed once.
 * @throws BaseModelError
 */
export async function readServedBase(params: {
  folder: string;
  id: string | undefined;
  context: number | null;
  maxRank: number;
  cacheDir: string;
  onProgress: (stage: string, done: number, total: number) => void;
}): Promise<ServedBase> {
  const { folder, context, maxRank } = params;
  const configPath = path.join(folder, 'config.json');
  if (!existsSync(configPath))
    throw new BaseModelError(
      `${folder} has no config.json: --base is the folder of the model that vLLM serves`,
    );
  const parsed = HubConfig.safeParse(JSON.parse(readFileSync(configPath, 'utf8')));
  if (!parsed.success) throw new BaseModelError(`config.json: ${z.prettifyError(parsed.error)}`);
  const config = parsed.data;
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .sort();
  if (files.length === 0) throw new BaseModelError(`${folder} has no .safetensors file`);
  const heads = config.num_attention_heads;
  return {
    vocabSize: config.vocab_size,
    info: {
      id: params.id ?? baseIdOf(config._name_or_path || path.basename(folder)),
      digest: await digestOf(params, ['config.json', ...files]),
      weights: config.quantization_config?.quant_method ?? config.dtype ?? config.torch_dtype ?? 'unknown',
      context: Math.min(context ?? Infinity, config.max_position_embeddings),
      max_rank_sum: maxRank,
      architecture: config.model_type,
      attention: { heads, kv_heads: config.num_key_value_heads ?? heads },
      modules: files.flatMap((file) => modulesOf(path.join(folder, file))).sort(byLayer),
    },
  };
}

/** Quantized linears have other tensors: adapters of such a base are not checked against their shapes, so they are refused. */
function modulesOf(file: string): BaseInfo['modules'] {
  const fd = openSync(file, 'r');
  try {
    const length = new Uint8Array(HEADER_LENGTH);
    const bytes = statSync(file).size;
    if (!readFully(fd, length, 0)) throw new BaseModelError(`${file} is no safetensors file`);
    const header = new Uint8Array(readHeaderLength(length, file));
    if (!readFully(fd, header, HEADER_LENGTH)) throw new BaseModelError(`${file} is truncated`);
    const dataBytes = bytes - HEADER_LENGTH - header.length;
    const { tensors } = parseSafetensorsHeader({ header, dataBytes, path: file });
    return [...tensors].flatMap(([tensor, { shape }]) => {
      const name = LINEAR.exec(tensor)?.[1];
      const [out, into] = shape;
      return name === undefined || shape.length !== 2 ? [] : [{ name, in: into!, out: out! }];
    });
  } finally {
    closeSync(fd);
  }
}

const layerOf = (name: string): number => Number(/layers\.(\d+)\./.exec(name)?.[1] ?? 0);
const byLayer = (a: { name: string }, b: { name: string }): number =>
  layerOf(a.name) - layerOf(b.name) || (a.name < b.name ? -1 : 1);

const Remembered = z.record(
  z.string(),
  z.object({ bytes: z.int(), modified: z.number(), sha256: z.string() }),
);

/** sha256 over the lines `<file> <bytes> <sha256>`, by file. Digests are remembered by path, size and time of change. */
async function digestOf(
  { folder, cacheDir, onProgress }: Parameters<typeof readServedBase>[0],
  files: readonly string[],
): Promise<string> {
  const memory = path.join(cacheDir, 'base-digests.json');
  const parsed = existsSync(memory) ? Remembered.safeParse(JSON.parse(readFileSync(memory, 'utf8'))) : null;
  const known = parsed?.success === true ? parsed.data : {};
  const lines: string[] = [];
  for (const [at, file] of files.entries()) {
    const where = path.resolve(folder, file);
    const { size: bytes, mtimeMs: modified } = statSync(where);
    const before = known[where];
    if (before?.bytes !== bytes || before.modified !== modified) {
      onProgress('Hashing the base', at, files.length);
      known[where] = { bytes, modified, sha256: await fileDigest(where) };
    }
    lines.push(`${file} ${bytes} ${known[where]!.sha256}\n`);
  }
  mkdirSync(cacheDir, { recursive: true });
  writeFileSync(memory, JSON.stringify(known));
  return createHash('sha256').update(lines.join('')).digest('hex');
}
