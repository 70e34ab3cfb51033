/** What must be known of an adapter's base: the id that a packed file names, and its attention heads. */
import type { ArgsDef } from 'citty';
import {
  type ReadAdapter,
  AdapterFormatError,
  readGgufAttention,
  type AttentionShape,
  type GgufBaseShape,
} from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/identity.ts';
import { lookUpBases } from '../admin/admin-client.ts';
import { createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { readConnection } from '../connection.ts';
import { usageError } from '../flags.ts';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { cacheFolder } from '../local/find-base.ts';
import { PINNED_BASE } from '../local/download-package.ts';

export const baseIdFlag = {
  'base-id': {
    type: 'string',
    description: "Id of the base (default: the adapter's, else the server's)",
    valueHint: 'id',
  },
} as const satisfies ArgsDef;

/** `name` or `owner/name`, as the hub writes ids; anything else is somebody's local path. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*(?:\/[\w.-]+)?$/;

/** @param baseModel as named in an adapter's files. @returns its id, or null when they do not name a model. */
export const adapterBaseId = (baseModel: string | null): string | null =>
  baseModel !== null && HUB_ID.test(baseModel) ? baseIdOf(baseModel) : null;

/** @param text of `--base-id`: an id, or a hub id. @throws CliError (usage) */
export function parseBaseId(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const id = adapterBaseId(text);
  if (id === null) throw usageError(`--base-id ${text} is not a model's id, such as smollm2-135m-instruct.`);
  return id;
}

/**
 * @param flag {@link parseBaseId} of `--base-id`.
 * @returns the flag, otherwise the adapter's base, otherwise the server's.
 * @throws CliError `base_unknown` (usage) if none of them is known.
 */
export async function chooseBaseId(params: {
  flag: string | undefined;
  read: Pick<ReadAdapter, 'baseModel'>;
  where: string;
  env: Record<string, string | undefined>;
  folder: string;
}): Promise<string> {
  const known = params.flag ?? adapterBaseId(params.read.baseModel);
  if (known !== null && known !== undefined) return known;
  const { url, adminKey, base } = await readConnection(params);
  const bases =
    url === undefined || adminKey === undefined
      ? []
      : await lookUpBases(createApiClient({ url, key: adminKey })).catch((error: unknown) => {
          if (base === undefined) throw error;
          return [];
        });
  const [only = base] = bases.map(({ id }) => id);
  if (only !== undefined && bases.length <= 1) return only;
  throw new CliError({
    message:
      `${params.where} does not record its base. Set --base-id, such as --base-id ` +
      `${only ?? 'smollm2-135m-instruct'}.`,
    exitCode: EXIT.usage,
    code: 'base_unknown',
  });
}

/** The heads of a base's attention. Only GGUF adapters need them: for the order of the rows of q and k. */
export interface FoundAttention {
  readonly attention: AttentionShape;
  /** llama.cpp's name of the architecture; null if the server does not report it. */
  readonly architecture: string | null;
  /** Where it was found, for a note. */
  readonly from: string;
}

/** The id under which {@link PINNED_BASE} is served. */
const PINNED_BASE_ID = 'smollm2-135m-instruct';
/** First read of a GGUF file; doubled until the header is whole. SmolLM2's has 1.6 MB. */
const FIRST_BYTES = 2 * 1024 * 1024;
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
/** Transformers' model types with another name in llama.cpp. */
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['mistral', 'llama'],
  ['gemma3_text', 'gemma3'],
  ['gemma4_text', 'gemma4'],
  ['olmo3', 'olmo2'],
  ['glm', 'chatglm'],
  ['qwen2_5_vl', 'qwen2vl'],
  ['qwen3_vl', 'qwen3vl'],
  ['qwen3_moe', 'qwen3moe'],
]);

const Heads = z.object({
  num_attention_heads: z.int().positive().optional(),
  num_key_value_heads: z.int().positive().nullish(),
});
/** Models that also see have the fields of their text apart. */
const HubConfig = Heads.extend({ model_type: z.string(), text_config: Heads.nullish() });
/** Of Gemma 3's and 4's text, whose files lack what is equal to them. */
const GEMMA_HEADS = { num_attention_heads: 8, num_key_value_heads: 4 };

const NO_CONNECTION = { url: undefined, adminKey: undefined };

const unusable = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.usage, code: 'base_invalid' });

/**
 * Tries, in this order: `--base`, the server that commands talk to, the default base in the cache.
 * @param base the value of `--base`. @param baseId the adapter's base, if known: heads of another base are not
 * used then.
 * @returns null when they are unknown.
 * @throws CliError `base_invalid` (usage) when `base` is given and cannot be read.
 */
export async function findAttention(params: {
  base: string | undefined;
  baseId: string | null;
  env: Record<string, string | undefined>;
  folder: string;
}): Promise<FoundAttention | null> {
  const { base, baseId, env, folder } = params;
  if (base !== undefined) return readBase(base);
  return (await askServer(baseId, env, folder)) ?? (await askCache(baseId, env));
}

/** @param base a `.gguf` file, or a folder in Hugging Face's format. @throws CliError `base_invalid` */
export async function readBase(base: string): Promise<FoundAttention> {
  const entry = await stat(base).catch(() => null);
  if (entry === null)
    throw unusable(`--base ${base}: no such file or folder. Give a .gguf file or a folder with config.json.`);
  if (!entry.isDirectory()) return { ...(await readGgufBase(base)), from: base };
  const file = path.join(base, 'config.json');
  try {
    if ((await stat(file)).size > MAX_CONFIG_BYTES) throw new Error('not a configuration');
    const config = HubConfig.parse(JSON.parse(await readFile(file, 'utf8')));
    const type = config.model_type;
    const text = {
      ...(type === 'gemma3' || type === 'gemma4' ? GEMMA_HEADS : {}),
      ...(config.text_config ?? config),
    };
    const heads = z.int().parse(text.num_attention_heads);
    const kvHeads = text.num_key_value_heads ?? heads;
    return { attention: { heads, kvHeads }, architecture: ARCHITECTURES.get(type) ?? type, from: base };
  } catch {
    throw unusable(
      `--base ${base}: ${file} lacks model_type or num_attention_heads. Give the base model's folder.`,
    );
  }
}

/** @throws CliError `base_invalid` */
async function readGgufBase(file: string): Promise<GgufBaseShape> {
  try {
    return await readGgufStart(file);
  } catch (error) {
    const reason =
      error instanceof AdapterFormatError
        ? `${error.message} (${error.code})`
        : ((error as NodeJS.ErrnoException).code ?? String(error));
    throw unusable(`--base ${file}: ${reason}`);
  }
}

/** Of the header only: a base has gigabytes. */
async function readGgufStart(file: string): Promise<GgufBaseShape> {
  const handle = await open(file);
  try {
    const { size: fileBytes } = await handle.stat();
    for (let length = FIRST_BYTES; ; length *= 2) {
      const start = new Uint8Array(Math.min(length, fileBytes));
      const { bytesRead } = await handle.read(start, 0, start.length, 0);
      // A file that is truncated while it is being read ends here, instead of never.
      const size = bytesRead < start.length ? bytesRead : fileBytes;
      const header = start.subarray(0, bytesRead);
      const shape = readGgufAttention({ header, fileBytes: size });
      if (shape !== null) return shape;
    }
  } finally {
    await handle.close();
  }
}

async function askServer(
  baseId: string | null,
  env: Record<string, string | undefined>,
  folder: string,
): Promise<FoundAttention | null> {
  // A server that is down, or unreadable keys, are one source less, not a failure.
  const { url, adminKey } = await readConnection({ env, folder }).catch(() => NO_CONNECTION);
  if (url === undefined || adminKey === undefined) return null;
  const bases = await lookUpBases(createApiClient({ url, key: adminKey })).catch(() => []);
  // Of several bases, none may be assumed.
  const base =
    baseId === null && bases.length > 1 ? undefined : bases.find(({ id }) => id === (baseId ?? id));
  if (base?.attention === undefined) return null;
  const { heads, kv_heads: kvHeads } = base.attention;
  const architecture = base.architecture ?? null;
  return { attention: { heads, kvHeads }, architecture, from: `the server's base, ${base.id}` };
}

async function askCache(
  baseId: string | null,
  env: Record<string, string | undefined>,
): Promise<FoundAttention | null> {
  if (baseId !== PINNED_BASE_ID) return null;
  const file = path.join(cacheFolder(env), 'bases', PINNED_BASE.file);
  const shape = await readGgufStart(file).catch(() => null);
  return shape === null ? null : { ...shape, from: file };
}
