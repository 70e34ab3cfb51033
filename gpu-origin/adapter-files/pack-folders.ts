import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type AdapterFiles,
  AdapterFormatError,
  packAdapter,
  partRefusal,
  validateAdapter,
} from '../../adapters/index.ts';
import { type ChainEntry, chainId } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import type { AdapterStore } from './adapter-store.ts';

export interface FolderToPack {
  name: string;
  /** Folder or file. */
  folder: string;
  parent: string | null;
}

/** A folder cannot be served; the message is for the operator. */
export class FolderError extends Error {
  override readonly name = 'FolderError';
}

/**
 * Packs adapters, of any format that the toolkit reads, into the store.
 * @param params.folders include parents, without cycles.
 * @param params.base that they must fit; GGUF files need its heads.
 * @returns each name's chain, root first.
 * @throws FolderError naming the adapter.
 */
export async function packFolders(params: {
  folders: readonly FolderToPack[];
  base: BaseInfo;
  store: AdapterStore;
  onWarning: (message: string) => void;
  onProgress: (done: number, total: number) => void;
}): Promise<Map<string, readonly ChainEntry[]>> {
  const byName = new Map(params.folders.map((folder) => [folder.name, folder]));
  const chains = new Map<string, readonly ChainEntry[]>();

  const chainOf = async (folder: FolderToPack): Promise<readonly ChainEntry[]> => {
    const known = chains.get(folder.name);
    if (known !== undefined) return known;
    const above = folder.parent === null ? undefined : byName.get(folder.parent);
    const parents = above === undefined ? [] : await chainOf(above);
    const digest = await pack(folder, params, parents);
    const chain = [...parents, { digest, scale: 1 }];
    chains.set(folder.name, chain);
    params.onProgress(chains.size, params.folders.length);
    return chain;
  };
  for (const folder of params.folders) await chainOf(folder);
  for (const [name, chain] of chains)
    for (const { digest } of chain)
      if ((await params.store.status(digest)) !== 'held')
        throw new FolderError(
          `adapter ${name}: the adapters do not all fit on the disk. Raise --adapter-disk-bytes`,
        );
  return chains;
}

async function pack(
  { name, folder }: FolderToPack,
  params: {
    base: BaseInfo;
    store: AdapterStore;
    onWarning: (message: string) => void;
  },
  parents: readonly ChainEntry[],
): Promise<string> {
  const fail = (reason: string): FolderError => new FolderError(`adapter ${name} (${folder}): ${reason}`);
  const { base } = params;
  try {
    const packed = await packAdapter({
      files: await readAdapterFiles(folder),
      attention: base.attention ? { heads: base.attention.heads, kvHeads: base.attention.kv_heads } : null,
      baseId: base.id,
      parentChainId: parents.length === 0 ? null : await chainId(parents),
    });
    // Otherwise each of its requests would be refused by an origin that reports being ready.
    const [problem] = validateAdapter({ adapter: packed, base });
    if (problem !== undefined) throw problem;
    for (const warning of packed.warnings) params.onWarning(`adapter ${name}: ${warning}`);
    const stored = await params.store.put(packed.digest, packed.bytes);
    if (!stored.ok) throw fail(stored.error.message);
    return packed.digest;
  } catch (error) {
    if (error instanceof AdapterFormatError || error instanceof AdapterFilesError) throw fail(error.message);
    const { code, message } = error as NodeJS.ErrnoException;
    throw code === undefined ? error : fail(message);
  }
}

const CONFIG = 'adapter_config.json';
const MODEL_CONFIG = 'config.json';
/** As PEFT and mlx-lm call the weights of a folder with a configuration. */
const WEIGHTS = ['adapter_model.safetensors', 'adapters.safetensors'] as const;

/** A folder contains no adapter, or more than one. */
export class AdapterFilesError extends Error {
  override readonly name = 'AdapterFilesError';
}

/**
 * Reads an adapter's files: those of a PEFT or mlx-lm folder, or a folder's only `.safetensors` or `.gguf` file, or the
 * file itself.
 * @param path folder or file.
 * @throws AdapterFilesError; AdapterFormatError for parts of a file; what node:fs throws.
 */
export async function readAdapterFiles(path: string): Promise<AdapterFiles> {
  const read = async (file: string): Promise<Uint8Array> => new Uint8Array(await readFile(file));
  if (!(await stat(path)).isDirectory())
    return { weights: await read(path), configJson: null, weightsPath: path };
  const names = await readdir(path);
  const known = WEIGHTS.filter((name) => names.includes(name));
  const others = names.filter((name) => /\.(?:safetensors|gguf)$/.test(name));
  const found = known.length > 0 ? known : others;
  const [weights] = found;
  if (weights === undefined)
    throw new AdapterFilesError(
      'the folder contains no adapter. Give one that PEFT or mlx-lm wrote, or a .safetensors or .gguf file',
    );
  const [part] = found.flatMap((file) => partRefusal(join(path, file)) ?? []);
  if (part !== undefined) throw part;
  if (found.length > 1)
    throw new AdapterFilesError(`the folder contains ${found.join(' and ')}. Give the one you mean`);
  const configPath = join(path, CONFIG);
  return {
    weights: await read(join(path, weights)),
    configJson: names.includes(CONFIG) ? await readFile(configPath, 'utf8') : null,
    modelConfigJson:
      names.includes(CONFIG) && names.includes(MODEL_CONFIG)
        ? await readFile(join(path, MODEL_CONFIG), 'utf8')
        : null,
    weightsPath: join(path, weights),
    configPath,
  };
}
