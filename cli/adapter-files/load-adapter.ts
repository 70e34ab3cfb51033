/** From a path on the command line to modules in memory: the first step of all commands on local adapters. */
import type { ArgsDef } from 'citty';
import {
  AdapterFormatError,
  type AttentionShape,
  checkValues,
  packAdapter,
  type PackedAdapter,
  readAdapter,
  type ReadAdapter,
} from '../../adapters/index.ts';
import { readNamed } from '../download/fetch-version.ts';
import type { Output } from '../output.ts';
import { findAttention, type FoundAttention, adapterBaseId, chooseBaseId } from './adapter-base.ts';
import { type AdapterInput, asRefusal, readInput } from './read-input.ts';

export const baseFlag = {
  base: {
    type: 'string',
    description: 'Base of a GGUF adapter: a .gguf file or Hugging Face folder',
    valueHint: 'path',
  },
} as const satisfies ArgsDef;

/** Heads affect only the order of rows. */
export const ANY_HEADS: AttentionShape = { heads: 1, kvHeads: 1 };

export interface LoadedAdapter {
  readonly input: AdapterInput;
  readonly read: ReadAdapter;
  /** The base's heads, if they were needed. */
  readonly attention: AttentionShape | null;
}

export interface BaseSearch {
  /** The value of `--base`. */
  readonly base: string | undefined;
  /** The value of `--base-id`, as an id. */
  readonly baseId?: string | undefined;
  /** Heads to use when the right ones are unknown. */
  readonly orElse?: AttentionShape;
  readonly output: Output;
  /** Arguments that are neither a folder nor a file may be published names. */
  readonly names?: boolean;
}

/** Reads a folder or file. @throws CliError when it cannot be read, or is refused. */
export async function loadAdapter(given: string, search: BaseSearch): Promise<LoadedAdapter> {
  const input = await (search.names === true ? readNamed(given, search.output) : readInput(given));
  for (const note of input.notes) search.output.note(note);
  try {
    return await readWithBase(input, search);
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}

/** @throws AdapterFormatError, `base_needed` when the heads are unknown. */
async function readWithBase(input: AdapterInput, search: BaseSearch): Promise<LoadedAdapter> {
  const load = (attention: AttentionShape | null): LoadedAdapter => ({
    input,
    read: readAdapter(input.files, { attention }),
    attention,
  });
  try {
    return load(null);
  } catch (error) {
    if (!(error instanceof AdapterFormatError) || error.code !== 'base_needed') throw error;
    const baseId = adapterBaseId(load(ANY_HEADS).read.baseModel);
    const attention = (await lookForBase(search, baseId))?.attention ?? search.orElse;
    if (attention === undefined) throw error;
    return load(attention);
  }
}

/**
 * @param baseId the adapter's base, if known; `--base-id` takes precedence. @returns null when its heads are
 * unknown.
 */
export async function lookForBase(search: BaseSearch, baseId: string | null): Promise<FoundAttention | null> {
  const found = await findAttention({
    base: search.base,
    baseId: search.baseId ?? baseId,
    env: process.env,
    folder: process.cwd(),
  });
  if (found !== null && search.base === undefined)
    search.output.note(`attention heads taken from ${found.from}`);
  return found;
}

/** Like {@link loadAdapter}, but prints its warnings and also refuses invalid values. */
export async function loadUsableAdapter(given: string, search: BaseSearch): Promise<LoadedAdapter> {
  const loaded = await loadAdapter(given, search);
  const { input, read } = loaded;
  const [problem] = checkValues(read);
  if (problem !== undefined) throw asRefusal(problem, input.where);
  for (const warning of read.warnings) search.output.note(`warning: ${input.where}: ${warning}`);
  return loaded;
}

/**
 * Builds the canonical file.
 * @param params.baseId of `--base-id`. @param params.parent chain id.
 * @throws CliError when the base is unknown, or the adapter is refused.
 */
export async function packLoaded(params: {
  loaded: LoadedAdapter;
  baseId: string | undefined;
  parent: string | null;
  dtype: 'keep' | 'BF16';
}): Promise<{ packed: PackedAdapter; baseId: string }> {
  const { loaded, parent, dtype } = params;
  const { input, read, attention } = loaded;
  const baseId = await chooseBaseId({
    flag: params.baseId,
    read,
    where: input.where,
    env: process.env,
    folder: process.cwd(),
  });
  try {
    const packed = await packAdapter({ files: input.files, attention, baseId, parentChainId: parent, dtype });
    return { packed, baseId };
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}
