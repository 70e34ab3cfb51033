/** Chains as PEFT folders that vLLM reads: one a chain, named by its id, and never another's files under that name. */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  AdapterFormatError,
  parseCanonical,
  sumAdapters,
  writePeftAdapter,
} from '../../../adapters/index.ts';
import { err, ok, type ApiError, type ChainEntry, type Result } from '../../../protocol/index.ts';
import { missingAdapters } from '../../engine/adapters/adapter-entry.ts';
import type { AdapterSource } from '../../engine/ports.ts';

export interface LoraFolders {
  /**
   * The chain's folder, written unless it is there: ranks beside each other, scales folded into B, every module padded
   * to the largest rank. Errors: `adapter_missing`; `adapter_invalid` where a file is none or the rank is too large.
   */
  write(chainId: string, chain: readonly ChainEntry[]): Promise<Result<LoraFolder, ApiError>>;
  has(chainId: string): boolean;
  /** vLLM reads it no longer. */
  remove(chainId: string): Promise<void>;
}

export interface LoraFolder {
  path: string;
  /** Of every module. */
  rank: number;
  bytes: number;
}

/** @param params.folder of its own; what is in it from an earlier run is removed. @param params.maxRank vLLM's `--max-lora-rank`. */
export async function openLoraFolders(params: {
  folder: string;
  baseModel: string;
  maxRank: number;
  source: Pick<AdapterSource, 'read'>;
}): Promise<LoraFolders> {
  const { folder, baseModel, maxRank, source } = params;
  await mkdir(folder, { recursive: true });
  for (const name of await readdir(folder))
    await rm(path.join(folder, name), { recursive: true, force: true });
  const written = new Map<string, LoraFolder>();

  async function modulesOf(chain: readonly ChainEntry[]) {
    const members = [];
    for (const { digest, scale } of chain) {
      const bytes = await source.read(digest);
      if (bytes === null) return err(missingAdapters([digest]));
      members.push({ modules: parseCanonical(bytes).modules, scale });
    }
    return ok(sumAdapters(members));
  }

  return {
    async write(chainId, chain) {
      const known = written.get(chainId);
      if (known !== undefined) return ok(known);
      const [place, making] = [path.join(folder, chainId), path.join(folder, `${chainId}.tmp`)];
      try {
        const modules = await modulesOf(chain);
        if (!modules.ok) return modules;
        const rank = Math.max(...modules.value.map((module) => module.rank));
        if (rank > maxRank) return err(rankTooLarge(rank, maxRank));
        const { configJson, safetensors } = writePeftAdapter({ modules: modules.value, baseModel });
        // A folder that is half written is never seen under the chain's name.
        await rm(making, { recursive: true, force: true });
        await mkdir(making);
        await writeFile(path.join(making, 'adapter_config.json'), configJson);
        await writeFile(path.join(making, 'adapter_model.safetensors'), safetensors);
        await rename(making, place);
        const made = { path: place, rank, bytes: safetensors.length };
        written.set(chainId, made);
        return ok(made);
      } catch (error) {
        await rm(making, { recursive: true, force: true }).catch(() => undefined);
        if (!(error instanceof AdapterFormatError)) throw error;
        return err({ code: 'adapter_invalid', message: error.message, reason: error.code });
      }
    },
    has: (chainId) => written.has(chainId),
    async remove(chainId) {
      written.delete(chainId);
      await rm(path.join(folder, chainId), { recursive: true, force: true });
    },
  };
}

const rankTooLarge = (rank: number, most: number): ApiError => ({
  code: 'adapter_invalid',
  message:
    `The chain has rank ${rank}, and vLLM was started with --max-lora-rank ${most}: start it with more, or make one ` +
    `adapter of the chain with graft compose --rank ${most}.`,
  reason: 'rank_too_large',
});
