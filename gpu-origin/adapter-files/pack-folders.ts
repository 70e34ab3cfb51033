import { AdapterFormatError, packAdapter, type AttentionShape } from '../../adapters/index.ts';
import { chainId, type ChainEntry } from '../../protocol/index.ts';
import type { AdapterStore } from './adapter-store.ts';
import { AdapterFilesError, readAdapterFiles } from './read-adapter-files.ts';

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
 * @param params.folders parents are among them, without cycles.
 * @param params.attention the base's heads, which GGUF files need; absent = not known.
 * @returns each name's chain, root first.
 * @throws FolderError naming the adapter.
 */
export async function packFolders(params: {
  folders: readonly FolderToPack[];
  baseId: string;
  attention?: AttentionShape | null;
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
  return chains;
}

async function pack(
  { name, folder }: FolderToPack,
  params: {
    baseId: string;
    attention?: AttentionShape | null;
    store: AdapterStore;
    onWarning: (message: string) => void;
  },
  parents: readonly ChainEntry[],
): Promise<string> {
  const fail = (reason: string): FolderError => new FolderError(`adapter ${name} (${folder}): ${reason}`);
  try {
    const packed = await packAdapter({
      files: await readAdapterFiles(folder),
      attention: params.attention ?? null,
      baseId: params.baseId,
      parentChainId: parents.length === 0 ? null : await chainId(parents),
    });
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
