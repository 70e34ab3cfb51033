/**
 * Checks of vLLM: at the start, which base it serves, and that adapters loaded at its address are available to
 * every request; for each chain, that answers under its name are not the base's.
 */
import { randomBytes, createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  isVision,
  writePeftAdapter,
  parseSafetensorsHeader,
  readHeaderLength,
} from '../../../adapters/index.ts';
import { err, ok, type Result } from '../../../protocol/api-error.ts';
import { baseIdOf } from '../../../protocol/identity.ts';
import type { BaseInfo } from '../../../protocol/origin-wire.ts';
import type { TokenScore } from '../../engine/engine.ts';
import { GREEDY } from '../../generation/sampler.ts';
import { completionBody, MAX_LOGPROBS, tokensOf } from './completion-body.ts';
import { failureText, type VllmClient } from './vllm-client.ts';
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
import { z } from 'zod';
import { BaseModelError } from '../../model/base-model.ts';
import { textFields } from '../../model/hub-config.ts';
import { fileDigest, readFully } from '../../model/read-file.ts';

/**
 * Connections on which the adapter is looked up. With two servers chosen at random, one in 2^12 such starts
 * would only reach the one that has it.
 */
const ASKS = 12;

/**
 * Loads an adapter without effect, looks it up on fresh connections, and unloads it.
 * @param params.folder empty, and readable by vLLM under the same path. @param params.maxRank
 * `--max-lora-rank`: the adapter has this rank, so that a wrong value is found now.
 * @returns the problem and its remedy, in one line; null = none.
 */
export async function checkLoading(params: {
  client: VllmClient;
  folder: string;
  base: BaseInfo;
  maxRank: number;
}): Promise<string | null> {
  const { client, folder, base, maxRank } = params;
  const module = base.modules.find(({ name }) => name.endsWith('.q_proj')) ?? base.modules[0];
  // The shapes of a quantized base are unknown, so it gets no adapters.
  if (module === undefined) return null;
  const place = path.join(folder, 'probe');
  await writeProbe(place, module, maxRank);
  // A new name at each start: an aborted start may have left an earlier one.
  const name = `graft-probe-${randomBytes(8).toString('hex')}`;
  try {
    const loaded = await client.loadAdapter(name, place);
    if (!loaded.ok)
      return (
        `vLLM does not load an adapter of --base with rank ${maxRank} from ${place} ` +
        `(${failureText(loaded.error)}). Set --base to the folder that vLLM serves, --max-lora-rank to ` +
        "vLLM's own value, and --cache to a folder that vLLM reads under the same path"
      );
    for (let i = 0; i < ASKS; i++) {
      const listed = await client.models({ fresh: true });
      if (!listed.ok) return failureText(listed.error);
      if (!listed.value.some(({ id }) => id === name))
        return (
          'several vLLM API servers answer at this address, and each knows only the adapters it loaded ' +
          'itself. Start vLLM with --api-server-count 1, and give the address of one server'
        );
    }
    return null;
  } finally {
    await forget(client, name);
    await rm(place, { recursive: true, force: true });
  }
}

/** With several servers, only one of them has it. */
async function forget(client: VllmClient, name: string): Promise<void> {
  for (let i = 0; i < ASKS; i++) if ((await client.unloadAdapter(name, { fresh: true })).ok) return;
}

async function writeProbe(place: string, module: BaseInfo['modules'][number], rank: number): Promise<void> {
  const zeros = (rows: number, columns: number) => ({
    dtype: 'F32' as const,
    shape: [rows, columns],
    data: new Uint8Array(4 * rows * columns),
  });
  const { configJson, safetensors } = writePeftAdapter({
    modules: [
      {
        ...{ name: module.name, rank, alpha: rank, scale: 1 },
        ...{ a: zeros(rank, module.in), b: zeros(module.out, rank) },
      },
    ],
    baseModel: null,
  });
  await mkdir(place, { recursive: true });
  await writeFile(path.join(place, 'adapter_config.json'), configJson);
  await writeFile(path.join(place, 'adapter_model.safetensors'), safetensors);
}

/** How many times larger than the engine's own noise a chain's difference must be. */
const NOISE_FACTOR = 4;
/** Float32 rounds log-probabilities of a sum over the vocabulary by about this much, nats. */
const LEAST = 1e-5;
/** As in a proof at publication: a reloaded chain gives the same answer as before, nats a token. */
const MAX_CHANGE = 0.05;

export interface ChainProofs {
  /** @param name of the chain in vLLM. @returns why it is not proved, in a sentence. */
  prove(name: string): Promise<Result<void, string>>;
  /** vLLM was restarted: the base's numbers and their noise may have changed. */
  forget(): void;
}

/**
 * @param params.probe token ids of a prompt, always the same. @param params.remembered how many chains' first
 * scores are kept.
 */
export function createChainProofs(params: {
  client: Pick<VllmClient, 'stream'>;
  baseName: string;
  probe: readonly number[];
  remembered?: number;
}): ChainProofs {
  const { client, baseName, probe, remembered = 1_024 } = params;
  const first = new Map<string, readonly TokenScore[]>();
  let base: Promise<{ scores: readonly TokenScore[]; noise: number } | string> | null = null;

  /** The likeliest tokens after the probe. */
  const scoresOf = async (model: string): Promise<readonly TokenScore[] | string> => {
    const sampling = { ...GREEDY, maxTokens: 1, ignoreEos: true, logprobs: MAX_LOGPROBS };
    const body = completionBody({
      ...{ model, seed: null, generated: [], most: 1, salt: 'graft-proof' },
      request: {
        id: 'proof',
        tenant: '',
        prompt: probe,
        chain: [],
        sampling,
        promptLogprobs: null,
        budgetMs: null,
      },
    });
    for await (const event of client.stream(body, new AbortController().signal)) {
      if (!event.ok) return failureText(event.error);
      const tokens = tokensOf(event.value, MAX_LOGPROBS);
      if (!tokens.ok) return tokens.error;
      const [first] = tokens.value;
      if (first !== undefined) return first.top;
    }
    return 'vLLM returned no token';
  };

  /** Twice, so that differences show the engine's noise. */
  const askBase = async () => {
    const [one, two] = [await scoresOf(baseName), await scoresOf(baseName)];
    if (typeof one === 'string') return one;
    if (typeof two === 'string') return two;
    return { scores: one, noise: distance(one, two) };
  };

  return {
    forget() {
      base = null;
    },
    async prove(name) {
      base ??= askBase();
      const known = await base;
      if (typeof known === 'string') {
        base = null;
        return err(known);
      }
      const scores = await scoresOf(name);
      if (typeof scores === 'string') return err(scores);
      const far = distance(known.scores, scores);
      if (far <= Math.max(LEAST, NOISE_FACTOR * known.noise))
        return err(
          `vLLM answers as the base under the chain's name: at most ${far.toExponential(1)} nats apart.`,
        );
      const before = first.get(name);
      if (before !== undefined && distance(before, scores) > Math.max(MAX_CHANGE, NOISE_FACTOR * known.noise))
        return err("vLLM's answer differs from its answer when the chain was first loaded.");
      first.delete(name);
      first.set(name, scores);
      const [oldest] = first.keys();
      if (first.size > remembered && oldest !== undefined) first.delete(oldest);
      return ok(undefined);
    },
  };
}

/**
 * The largest difference of a log-probability, nats; a token reported by only one side counts as the other
 * side's last, which is at least as likely there.
 */
function distance(one: readonly TokenScore[], other: readonly TokenScore[]): number {
  const far = (from: readonly TokenScore[], to: readonly TokenScore[]): number => {
    const known = new Map(to.map(({ id, logprob }) => [id, logprob]));
    const least = to.at(-1)?.logprob ?? -Infinity;
    return Math.max(
      0,
      ...from.map(({ id, logprob }) => {
        const theirs = known.get(id);
        return theirs === undefined ? Math.max(0, logprob - least) : Math.abs(logprob - theirs);
      }),
    );
  };
  return Math.max(far(one, other), far(other, one));
}

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

interface ServedBase {
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
      `${folder} has no config.json. Set --base to the folder of the model that vLLM serves`,
    );
  const parsed = HubConfig.safeParse(textFields(JSON.parse(readFileSync(configPath, 'utf8'))));
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

/** Quantized linears have other tensors: adapters cannot be checked against their shapes, so they are refused. */
function modulesOf(file: string): BaseInfo['modules'] {
  const fd = openSync(file, 'r');
  try {
    const length = new Uint8Array(HEADER_LENGTH);
    const bytes = statSync(file).size;
    if (!readFully(fd, length, 0)) throw new BaseModelError(`${file} is not a safetensors file`);
    const header = new Uint8Array(readHeaderLength(length, file));
    if (!readFully(fd, header, HEADER_LENGTH)) throw new BaseModelError(`${file} is truncated`);
    const dataBytes = bytes - HEADER_LENGTH - header.length;
    const { tensors } = parseSafetensorsHeader({ header, dataBytes, path: file });
    return [...tensors].flatMap(([tensor, { shape }]) => {
      const name = LINEAR.exec(tensor)?.[1];
      const [out, into] = shape;
      return name === undefined || isVision(name) || shape.length !== 2
        ? []
        : [{ name, in: into!, out: out! }];
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

/**
 * sha256 over the lines `<file> <bytes> <sha256>`, sorted by file. Digests are cached by path, size and
 * modification time.
 */
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
