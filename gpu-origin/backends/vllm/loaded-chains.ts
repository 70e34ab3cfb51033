/** Chains loaded in vLLM by name: loaded on demand, proved, and evicted by least use. */
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { ResidentList } from '../../../protocol/origin-wire.ts';
import { EvictionPolicy, missingAdapters } from '../../engine/adapters/adapter-memory.ts';
import type { EngineObserver } from '../../engine/engine.ts';
import type { Clock, AdapterSource } from '../../engine/ports.ts';
import type { ChainProofs } from './prove-vllm.ts';
import { failureText, type VllmFailure, type VllmClient } from './vllm-client.ts';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  AdapterFormatError,
  parseCanonical,
  sumAdapters,
  writePeftAdapter,
} from '../../../adapters/index.ts';

/** When a chain that vLLM refused may be tried again, ms. */
const RETRY_MS = 1_000;

interface Loaded {
  readonly chainId: string;
  readonly chain: readonly ChainEntry[];
  readonly ready: Promise<Result<LoraFolder, ApiError>>;
  state: 'loading' | 'ready' | 'failed';
  folder: LoraFolder | null;
  /** Unloaded after its last user. */
  dropped: boolean;
}

/** For a run, while it is at vLLM. */
interface ChainHold {
  /** Call once. */
  release(): void;
}

interface Params {
  client: VllmClient;
  folders: Awaited<ReturnType<typeof openLoraFolders>>;
  proofs: ChainProofs;
  clock: Pick<Clock, 'now'>;
  observer: EngineObserver;
  /** Chains that vLLM keeps, in its slots and outside (`--max-cpu-loras`). */
  most: number;
}

export class LoadedChains {
  readonly #params: Params;
  /** Least recently used first. */
  readonly #chains = new Map<string, Loaded>();
  /** Chains that vLLM refused or may have forgotten, and whose folders still exist: oldest first. */
  readonly #left = new Map<string, Loaded>();
  /** Runs of each chain. Runs from before contact with vLLM was lost may still run there, and count as long. */
  readonly #users = new Map<string, number>();
  /** Eviction order of ready chains. */
  readonly #eviction = new EvictionPolicy<string>();
  /** One load at a time: vLLM loads alongside its requests. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(params: Params) {
    this.#params = params;
  }

  /** Chains that are being loaded. */
  get loading(): number {
    return [...this.#chains.values()].filter(({ state }) => state === 'loading').length;
  }

  /** Whether vLLM has it. */
  isReady(chainId: string): boolean {
    return this.#chains.get(chainId)?.state === 'ready';
  }

  /** Adapters of the chains, each with the size and rank of a chain's folder. */
  residents(): ResidentList {
    const adapters = new Map<string, ResidentList['adapters'][number]>();
    let used = 0;
    for (const { chainId, chain, state, folder } of this.#chains.values()) {
      used += folder?.bytes ?? 0;
      for (const { digest } of chain) {
        const known = adapters.get(digest);
        adapters.set(digest, {
          digest,
          state: known?.state === 'ready' ? 'ready' : state,
          bytes: folder?.bytes ?? 0,
          rank: folder?.rank ?? 0,
          references: (known?.references ?? 0) + this.#usersOf(chainId),
          pinned: false,
        });
      }
    }
    return { budget_bytes: used, used_bytes: used, adapters: [...adapters.values()] };
  }

  /** Holds the chain until it is released; its name in vLLM is its id. */
  async hold(chainId: string, chain: readonly ChainEntry[]): Promise<Result<ChainHold, ApiError>> {
    const known = this.#chains.get(chainId) ?? this.#begin(chainId, chain);
    this.#chains.delete(chainId);
    this.#chains.set(chainId, known);
    this.#users.set(chainId, this.#usersOf(chainId) + 1);
    this.#eviction.use(chainId);
    this.#rank(known);
    const ready = await known.ready;
    if (ready.ok) return ok({ release: () => this.#release(chainId) });
    this.#release(chainId);
    return ready;
  }

  #release(chainId: string): void {
    const users = this.#usersOf(chainId) - 1;
    if (users > 0) this.#users.set(chainId, users);
    else this.#users.delete(chainId);
    const known = this.#chains.get(chainId);
    if (known !== undefined) this.#rank(known);
    const last = known ?? this.#left.get(chainId);
    if (last?.dropped === true && users === 0) this.#unload(last).catch(this.#broken);
  }

  #usersOf(chainId: string): number {
    return this.#users.get(chainId) ?? 0;
  }

  #isUsed({ chainId }: Loaded): boolean {
    return this.#usersOf(chainId) > 0;
  }

  /**
   * Drops the chains with one of these adapters, in vLLM and on disk; chains with requests when those have
   * ended. @returns the number of their adapters.
   */
  async drop(digests: ReadonlySet<string>): Promise<number> {
    const chains = [...this.#chains.values(), ...this.#left.values()].filter(({ chain }) =>
      chain.some(({ digest }) => digests.has(digest)),
    );
    for (const one of chains) one.dropped = true;
    await Promise.all(chains.filter((one) => !this.#isUsed(one)).map((one) => this.#unload(one)));
    const held = chains.filter((one) => this.#isUsed(one)).flatMap(({ chain }) => chain);
    return new Set(held.map(({ digest }) => digest).filter((digest) => digests.has(digest))).size;
  }

  /** vLLM was restarted: its state is unknown. */
  forget(): void {
    for (const [chainId, entry] of this.#chains) {
      this.#eviction.drop(chainId);
      this.#left.delete(chainId);
      this.#left.set(chainId, entry);
    }
    this.#chains.clear();
    this.#params.proofs.forget();
  }

  #begin(chainId: string, chain: readonly ChainEntry[]): Loaded {
    const ready = this.#last.then(() => this.#load(chainId, chain)).catch(this.#broken);
    this.#last = ready;
    const entry: Loaded = { chainId, chain, ready, state: 'loading', folder: null, dropped: false };
    this.#left.delete(chainId);
    void ready.then((loaded) => {
      entry.state = loaded.ok ? 'ready' : 'failed';
      entry.folder = loaded.ok ? loaded.value : null;
      if (this.#chains.get(chainId) !== entry) return;
      if (!loaded.ok) {
        this.#chains.delete(chainId);
        if (this.#params.folders.has(chainId)) this.#left.set(chainId, entry);
      }
      this.#rank(entry);
    });
    return entry;
  }

  /** For example a full disk: it ends the runs of this chain, and no others. */
  readonly #broken = (error: unknown): Result<never, ApiError> => {
    this.#params.observer.onFault?.({ where: 'vllm adapter', error, requestIds: [] });
    const { code = 'failed' } = error as NodeJS.ErrnoException;
    return err(unavailable(`The origin could not write the chain's folder for vLLM (${code}).`));
  };

  async #load(chainId: string, chain: readonly ChainEntry[]): Promise<Result<LoraFolder, ApiError>> {
    const { client, folders, proofs, clock, observer } = this.#params;
    const startedAt = clock.now();
    const told = (loaded: Result<LoraFolder, ApiError>): Result<LoraFolder, ApiError> => {
      const ms = clock.now() - startedAt;
      const [error, bytes] = loaded.ok ? [null, loaded.value.bytes] : [loaded.error, 0];
      for (const { digest } of chain) observer.onAdapterLoad?.({ digest, ms, bytes, error });
      return loaded;
    };
    const folder = await folders.write(chainId, chain);
    if (!folder.ok) return told(folder);
    await this.#makeRoom();
    const loaded = await client.loadAdapter(chainId, folder.value.path);
    // vLLM may have kept it since before this origin's start: nothing else was ever loaded under this name.
    if (!loaded.ok && !isLoadedAlready(loaded.error))
      return told(err(notTaken(loaded.error, folder.value.path)));
    const proved = await proofs.prove(chainId);
    if (!proved.ok) {
      await client.unloadAdapter(chainId);
      observer.onFault?.({
        where: 'vllm adapter',
        error: new Error(proved.error),
        requestIds: [],
      });
      return told(err(unavailable(proved.error)));
    }
    return told(folder);
  }

  /** Unloading makes vLLM forget the name; the weights leave its memory by least use. */
  async #makeRoom(): Promise<void> {
    const { most } = this.#params;
    for (const entry of [...this.#left.values()])
      if (!this.#isUsed(entry) && this.#left.size + this.#chains.size > most) await this.#unload(entry);
    while (this.#chains.size > most) {
      const chainId = this.#eviction.first();
      const first = chainId === null ? undefined : this.#chains.get(chainId);
      if (first === undefined) return;
      await this.#unload(first);
    }
  }

  async #unload(entry: Loaded): Promise<void> {
    const { client, folders, observer } = this.#params;
    const { chainId } = entry;
    if (this.#left.get(chainId) === entry) this.#left.delete(chainId);
    else if (this.#chains.get(chainId) === entry) {
      this.#chains.delete(chainId);
      this.#eviction.drop(chainId);
    } else return;
    // A load in progress would put it back.
    if (entry.state === 'loading') await entry.ready;
    await client.unloadAdapter(chainId);
    // It may have been requested again in the meantime.
    if (!this.#chains.has(chainId)) await folders.remove(chainId);
    for (const { digest } of entry.chain)
      observer.onAdapterEvict?.({ digest, bytes: entry.folder?.bytes ?? 0 });
  }

  #rank({ chainId, state }: Loaded): void {
    if (state !== 'ready') this.#eviction.drop(chainId);
    else if (this.#usersOf(chainId) > 0) this.#eviction.hold(chainId);
    else this.#eviction.free(chainId);
  }
}

const isLoadedAlready = (failure: VllmFailure): boolean =>
  failure.kind === 'refused' && /already (been )?loaded/i.test(failure.message);

const unavailable = (why: string): ApiError => ({
  code: 'adapter_unavailable',
  message: why,
  retryAfterMs: RETRY_MS,
});

/** An invalid adapter is 422; a failing vLLM is 503. Paths of this machine must not be revealed. */
function notTaken(failure: VllmFailure, folder: string): ApiError {
  const message = failureText(failure).replaceAll(folder, 'the chain');
  if (failure.kind !== 'refused') return { code: 'origin_unavailable', message, retryAfterMs: RETRY_MS };
  if (failure.status === 400) return { code: 'adapter_invalid', message, reason: 'engine_refused' };
  return unavailable(message);
}

interface LoraFolder {
  path: string;
  /** Of every module. */
  rank: number;
  bytes: number;
}

/**
 * Chains as PEFT folders for vLLM: one per chain, named by its id, never with other content.
 * @param params.folder exclusive; leftovers of an earlier run are removed.
 * @param params.maxRank vLLM's `--max-lora-rank`.
 */
export async function openLoraFolders(params: {
  folder: string;
  baseModel: string;
  maxRank: number;
  source: Pick<AdapterSource, 'read'>;
}) {
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
      const { config, modules, classifier } = parseCanonical(bytes);
      if (config.invocation !== undefined) return err(activated(digest));
      if (classifier !== undefined) return err(classifies(digest));
      members.push({ modules, scale });
    }
    return ok(sumAdapters(members));
  }

  return {
    /**
     * The chain's folder, written unless it exists: ranks concatenated, scales folded into B, every module
     * padded to the largest rank. Errors: `adapter_missing`; `adapter_invalid` for an invalid file or a rank
     * that is too large.
     */
    async write(chainId: string, chain: readonly ChainEntry[]): Promise<Result<LoraFolder, ApiError>> {
      const known = written.get(chainId);
      if (known !== undefined) return ok(known);
      const [place, making] = [path.join(folder, chainId), path.join(folder, `${chainId}.tmp`)];
      try {
        const modules = await modulesOf(chain);
        if (!modules.ok) return modules;
        const rank = Math.max(...modules.value.map((module) => module.rank));
        if (rank > maxRank) return err(rankTooLarge(rank, maxRank));
        const { configJson, safetensors } = writePeftAdapter({ modules: modules.value, baseModel });
        // A partly written folder never has the chain's name.
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
    has: (chainId: string): boolean => written.has(chainId),
    /** vLLM reads it no longer. */
    async remove(chainId: string): Promise<void> {
      written.delete(chainId);
      await rm(path.join(folder, chainId), { recursive: true, force: true });
    },
  };
}

/** `PEFTHelper` refuses adapters with `modules_to_save` (vllm `lora/peft_helper.py`). */
const classifies = (digest: string): ApiError => ({
  code: 'adapter_invalid',
  message:
    `Adapter ${digest.slice(0, 12)} has a classification head, which vLLM does not load. Serve it on an origin ` +
    'that runs the model itself.',
  reason: 'classifier_unsupported',
});

/** vllm-project/vllm#19710 was closed unmerged. */
const activated = (digest: string): ApiError => ({
  code: 'adapter_invalid',
  message:
    `Adapter ${digest.slice(0, 12)} is activated (alora_invocation_tokens), and vLLM has no activated LoRA: it ` +
    "would act on every token. Serve it on an origin with graft's own engine, or train it without.",
  reason: 'alora',
});

const rankTooLarge = (rank: number, most: number): ApiError => ({
  code: 'adapter_invalid',
  message:
    `The chain has rank ${rank}, but vLLM was started with --max-lora-rank ${most}. Restart vLLM with ` +
    `a higher limit, or reduce the chain to one adapter with graft compose --rank ${most}.`,
  reason: 'rank_too_large',
});
