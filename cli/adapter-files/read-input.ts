/** Finds and reads the adapter that the user names on the command line: a folder or a file. */
import { readFileSync, type Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { type AdapterFiles, AdapterFormatError, partRefusal } from '../../adapters/index.ts';
import { MAX_PART_BYTES, MAX_PARTS } from '../../protocol/limits.ts';
import { CliError, EXIT } from '../cli-error.ts';

export interface AdapterInput {
  /** `weightsPath` and `configPath` are paths that the user can open. */
  readonly files: AdapterFiles;
  /** The folder or file that was read, for messages. */
  readonly where: string;
  /** The adapter's folder; null when one file was given. */
  readonly folder: string | null;
  /** Size of the weights file. */
  readonly bytes: number;
  /** Decisions made for the user, each a sentence. */
  readonly notes: readonly string[];
}

/** The size limit of publishing; a larger file would be read in vain. */
export const MAX_WEIGHTS_BYTES = MAX_PARTS * MAX_PART_BYTES;
/** A rank and an alpha for each module of a large model stay well below it. */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
export const NOT_A_MODEL =
  "Give the adapter, not a whole model. PEFT leaves the base's embeddings out with save_embedding_layers=False.";
/** File names that a message lists. */
const MAX_LISTED = 10;

export const CONFIG = 'adapter_config.json';
/** transformers', which has the labels of a classification head. */
const MODEL_CONFIG = 'config.json';
/** File names of weights in PEFT and mlx-lm. */
export const WEIGHTS = ['adapter_model.safetensors', 'adapters.safetensors'] as const;
/** Older PEFT and mlx-lm: a pickle, and numpy's archive. */
const REFUSED = ['adapter_model.bin', 'adapters.npz'] as const;

const EXPECTED =
  'Give a folder that PEFT or mlx-lm wrote, or one file: .safetensors, .gguf or what `graft pack` wrote.';

const unusable = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.usage, code: 'input_invalid' });
const refused = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.refused, code: 'adapter_invalid' });

/**
 * @param given a PEFT or MLX folder, a folder with exactly one such folder in it, or a weights file. Symbolic links
 * are followed.
 * @throws CliError `input_invalid` (usage) when there is no adapter, more than one, or a file cannot be read;
 * `adapter_invalid` (refused) for pickles and for files that are too large.
 */
export async function readInput(given: string): Promise<AdapterInput> {
  const entry = await statOf(given);
  if (entry.isDirectory()) return readFolder(given);
  if (path.basename(given) === CONFIG) return readFolder(path.dirname(given));
  return readWeights(given, null, []);
}

async function readFolder(given: string): Promise<AdapterInput> {
  const { folder, notes } = await adapterFolder(given);
  const names = await namesIn(folder);
  const found = WEIGHTS.filter((name) => names.includes(name));
  if (found.length > 1)
    throw unusable(`${folder} contains both ${found.join(' and ')}. Give the file you mean.`);
  const [weights] = found;
  if (weights === undefined) throw oldFormat(folder, names);
  return readWeights(path.join(folder, weights), folder, notes);
}

/**
 * @returns the folder itself, or the only subfolder with an adapter: PEFT saves adapters that are not named
 * "default" that way.
 */
async function adapterFolder(given: string): Promise<{ folder: string; notes: string[] }> {
  const names = await namesIn(given);
  if (holdsAdapter(names)) return { folder: given, notes: [] };
  const inside: string[] = [];
  for (const name of names) {
    const folder = path.join(given, name);
    const isFolder = await stat(folder).then(
      (entry) => entry.isDirectory(),
      () => false,
    );
    if (isFolder && holdsAdapter(await readdir(folder).catch(() => []))) inside.push(folder);
  }
  const [only] = inside;
  if (only === undefined) throw nothingIn(given, names);
  if (inside.length > 1)
    throw unusable(`${given} contains ${inside.length} adapters. Give one of ${listed(inside)}.`);
  return { folder: only, notes: [`${given} contains one adapter, in ${only}; using that.`] };
}

const holdsAdapter = (names: readonly string[]): boolean =>
  [...WEIGHTS, ...REFUSED].some((name) => names.includes(name));

function nothingIn(folder: string, names: readonly string[]): unknown {
  const files = names.filter((name) => /\.(?:safetensors|gguf)$/i.test(name));
  if (files.length === 0) return unusable(`${folder} contains no adapter. ${EXPECTED}`);
  const paths = files.map((name) => path.join(folder, name));
  if (names.includes('config.json'))
    return unusable(
      `${folder} looks like a whole model (config.json, ${listed(files)}), not an adapter. Give the folder that ` +
        'save_pretrained wrote before merge_and_unload(), or serve the model as a base with --base.',
    );
  const [part] = paths.flatMap((file) => partRefusal(file) ?? []);
  if (part !== undefined) return asRefusal(part, folder);
  return unusable(
    `${folder} contains neither ${WEIGHTS.join(' nor ')}. If one of its files is the adapter, give ` +
      `that file: ${listed(paths)}.`,
  );
}

function oldFormat(folder: string, names: readonly string[]): CliError {
  const name = REFUSED.find((old) => names.includes(old));
  const where = path.join(folder, name ?? '');
  if (name === 'adapters.npz')
    return refused(
      `${where}: this is an npz archive, which mlx-lm wrote until April 2024. Convert it with MLX: ` +
        'mx.save_safetensors("adapters.safetensors", mx.load("adapters.npz")). (format_unknown)',
    );
  return refused(
    `${where}: this is a pickle, which can run code when it is read. Convert it where it was trained: ` +
      'save_pretrained(…, safe_serialization=True). (pickle_refused)',
  );
}

async function readWeights(file: string, folder: string | null, notes: string[]): Promise<AdapterInput> {
  const weights = await readCapped(file, MAX_WEIGHTS_BYTES);
  const configPath = path.join(path.dirname(file), CONFIG);
  const hasConfig = await stat(configPath).then(
    (entry) => entry.isFile(),
    () => false,
  );
  const config = hasConfig ? await readCapped(configPath, MAX_CONFIG_BYTES) : null;
  const modelConfigPath = path.join(path.dirname(file), MODEL_CONFIG);
  // Beside any other file, it belongs to something else.
  const hasModelConfig =
    hasConfig &&
    (await stat(modelConfigPath).then(
      (entry) => entry.isFile(),
      () => false,
    ));
  const modelConfig = hasModelConfig ? await readCapped(modelConfigPath, MAX_CONFIG_BYTES) : null;
  return {
    files: {
      weights,
      configJson: config === null ? null : new TextDecoder().decode(config),
      modelConfigJson: modelConfig === null ? null : new TextDecoder().decode(modelConfig),
      weightsPath: file,
      configPath,
    },
    where: folder ?? file,
    folder,
    bytes: weights.length,
    notes,
  };
}

/** Only regular files: reading a pipe or a device may never end. */
async function readCapped(file: string, limit: number): Promise<Uint8Array> {
  const entry = await statOf(file);
  if (!entry.isFile()) throw unusable(`${file} is not a file. ${EXPECTED}`);
  if (entry.size > limit)
    throw refused(`${file} has ${entry.size} bytes; at most ${limit} are read. ${NOT_A_MODEL}`);
  try {
    // In one piece of known size: the asynchronous `readFile` joins chunks, which takes twice the memory.
    return readFileSync(file);
  } catch (error) {
    throw unreadable(file, error);
  }
}

async function statOf(file: string): Promise<Stats> {
  try {
    return await stat(file);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw unusable(`${file}: no such file or folder. ${EXPECTED}`);
    throw unreadable(file, error);
  }
}

const namesIn = (folder: string): Promise<string[]> =>
  readdir(folder).then(
    (names) => names.sort(),
    (error: unknown) => {
      throw unreadable(folder, error);
    },
  );

const systemCode = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);
const unreadable = (file: string, error: unknown): CliError =>
  unusable(`${file} cannot be read (${systemCode(error)}).`);

const listed = (names: readonly string[]): string =>
  names.slice(0, MAX_LISTED).join(', ') +
  (names.length > MAX_LISTED ? ` and ${names.length - MAX_LISTED} more` : '');

/**
 * Wraps a refusal of the adapter toolkit: file, reason and code.
 * @param where the file, unless the error names one.
 * @returns a CliError: `adapter_invalid` (refused), or `base_needed` (usage), which is not the adapter's fault.
 * Anything else is returned unchanged.
 */
export function asRefusal(error: unknown, where: string): unknown {
  if (!(error instanceof AdapterFormatError)) return error;
  const message = `${error.path ?? where}: ${error.message} (${error.code})`;
  return error.code === 'base_needed'
    ? new CliError({ message, exitCode: EXIT.usage, code: 'base_needed' })
    : new CliError({ message, exitCode: EXIT.refused, code: 'adapter_invalid', reason: error.code });
}
