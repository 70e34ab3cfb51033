/** What every kind of engine is loaded with. */
import { join } from 'node:path';
import type { BaseInfo, ChainEntry } from '../protocol/index.ts';
import { openAdapterStore, type AdapterStore } from './adapter-files/adapter-store.ts';
import type { DiskRefusal } from './adapter-files/disk-room.ts';
import { packFolders } from './adapter-files/pack-folders.ts';
import type { Config } from './config.ts';
import type { EngineObserver } from './engine/engine.ts';
import type { Clock } from './engine/ports.ts';
import type { Services } from './http/origin-context.ts';
import type { Tokenizer } from './model/tokenizer.ts';
import { TokenizerError } from './model/tokenizer-definition.ts';

const NOTHING = new Uint8Array(0);

export const systemClock: Clock = {
  now: () => performance.now(),
  timer(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  yield: () => new Promise((resolve) => setImmediate(resolve)),
};

export interface LoadedServices extends Services {
  /** Standalone adapters: each name's chain. */
  chains: ReadonlyMap<string, readonly ChainEntry[]>;
  close(): Promise<void>;
}

export interface LoadParams {
  config: Config;
  observer: EngineObserver;
  onProgress: (stage: string, done: number, total: number) => void;
  onNotice: (message: string) => void;
  /** Hears what runs the base, and why. */
  onProvider?: (message: string) => void;
  onDiskRefusal: (refusal: DiskRefusal) => void;
}

/** The files of adapters, with those of `--adapter` among them. */
export async function openFiles(
  { config, onProgress, onNotice, onDiskRefusal }: LoadParams,
  base: BaseInfo,
  isInUse: (digest: string) => boolean,
): Promise<{ files: AdapterStore; chains: ReadonlyMap<string, readonly ChainEntry[]> }> {
  const { mode } = config;
  const files = await openAdapterStore({
    // Two origins on one machine may share the cache of graphs, but not the files that each of them removes.
    folder: join(config.cacheDir, `adapters-${mode.kind === 'dev' ? 'standalone' : mode.originId}`),
    budgetBytes: config.adapterDiskBytes,
    now: Date.now,
    onDiskRefusal,
    isInUse,
  });
  const chains = await packFolders({
    folders: mode.kind === 'dev' ? mode.adapters : [],
    base,
    store: files,
    onWarning: onNotice,
    onProgress: (done, total) => onProgress('Packing the adapters', done, total),
  });
  return { files, chains };
}

/** Cheap, and it catches a tokenizer that is not this base's. @throws TokenizerError */
export function checkTokenizer(tokenizer: Tokenizer, vocabSize: number): void {
  if (tokenizer.size > vocabSize)
    throw new TokenizerError(`the tokenizer has ${tokenizer.size} tokens, the base only ${vocabSize}`);
  const text = 'Hello, world: 1 234 é你\n';
  const ids = tokenizer.encode(text, { allowSpecial: false });
  const bytes = ids.flatMap((id) => [...(tokenizer.tokenBytes(id) ?? NOTHING)]);
  if (new TextDecoder().decode(Uint8Array.from(bytes)).trim() !== text.trim())
    throw new TokenizerError('the tokenizer does not give back the text that it encoded');
}
