/** An adapter of the cache: what becomes of it, who holds it, how it is loaded, and why it cannot be had. */
import {
  type ApiError,
  type ChainEntry,
  type ResidentList,
  type Result,
  err,
  ok,
} from '../../../protocol/index.ts';
import type { EngineObserver, AdapterSource, ResidentAdapter, RowDelta, ModelRunner } from '../ports.ts';

export type Status =
  /** Queued or being loaded. */
  | { readonly kind: 'loading' }
  | { readonly kind: 'ready'; readonly adapter: ResidentAdapter }
  | { readonly kind: 'failed'; readonly error: ApiError; readonly at: number };

/** An adapter of the cache. One that has no entry is Missing. */
export interface Entry {
  readonly digest: string;
  status: Status;
  /** Leases that hold it. */
  references: number;
  pinned: boolean;
  /** Resolve when it is no longer loading. */
  waiters: ((result: Result<void, ApiError>) => void)[];
}

/** A request's hold on the adapters of its chain. */
export interface AdapterLease {
  /** null while something loads. Changes in `settle` only. */
  readonly outcome: Result<RowDelta, ApiError> | null;
  /** Idempotent. */
  release(): void;
}

export class Lease implements AdapterLease {
  outcome: Result<RowDelta, ApiError> | null = null;
  composed = false;
  readonly release: () => void;

  constructor(
    readonly chainId: string,
    readonly chain: readonly ChainEntry[],
    readonly entries: readonly Entry[],
    onRelease: (lease: Lease) => void,
  ) {
    let released = false;
    this.release = () => {
      if (released) return;
      released = true;
      onRelease(this);
    };
  }
}

/** It cannot be evicted. */
export const isHeld = (entry: Entry): boolean => entry.references > 0 || entry.pinned;
/** Memory that it holds now, bytes. */
export const bytesOf = (entry: Entry): number =>
  entry.status.kind === 'ready' ? entry.status.adapter.bytes : 0;

/** Memory of ready adapters that are pinned, bytes. */
export function pinnedBytes(entries: Iterable<Entry>): number {
  let sum = 0;
  for (const entry of entries) if (entry.pinned) sum += bytesOf(entry);
  return sum;
}

/** As `GET /adapters` shows it. */
export const residentOf = (entry: Entry): ResidentList['adapters'][number] => ({
  digest: entry.digest,
  state: entry.status.kind,
  bytes: bytesOf(entry),
  rank: entry.status.kind === 'ready' ? entry.status.adapter.rank : 0,
  references: entry.references,
  pinned: entry.pinned,
});

/** When an adapter that could not be had may be asked for again, ms. */
const ADAPTER_RETRY_MS = 1_000;

/** Ready, loading, or failed so recently that it is not tried again. @param now on the clock of `Status.at`, ms. */
export function isUsable(entry: Entry | undefined, now: number): boolean {
  const status = entry?.status;
  if (status?.kind !== 'failed') return status !== undefined;
  // A missing file may have been sent by now.
  return status.error.code !== 'adapter_missing' && now - status.at < ADAPTER_RETRY_MS;
}

export const missingAdapters = (missing: string[]): ApiError => ({
  code: 'adapter_missing',
  message: `This origin does not hold ${missing.length === 1 ? 'an adapter' : `${missing.length} adapters`} of the chain.`,
  missing,
});

const adapterLoading = (): ApiError => ({
  code: 'adapter_loading',
  message: 'An adapter of the chain is being received.',
  retryAfterMs: ADAPTER_RETRY_MS,
});

export const unavailableAdapter = (digest: string): ApiError => ({
  code: 'adapter_unavailable',
  message: `Adapter ${digest.slice(0, 12)} could not be loaded.`,
  retryAfterMs: ADAPTER_RETRY_MS,
});

/** @returns why the source cannot give all of these files now; null when it can. */
export async function checkHeld(
  { source, observer }: { source: Pick<AdapterSource, 'status'>; observer: EngineObserver },
  digests: readonly string[],
): Promise<ApiError | null> {
  let states: ('held' | 'receiving' | 'missing')[];
  try {
    states = await Promise.all(digests.map((digest) => source.status(digest)));
  } catch (error) {
    observer.onFault?.({ where: 'adapter status', error, requestIds: [] });
    return unavailableAdapter(digests[0] ?? '');
  }
  const missing = digests.filter((_, index) => states[index] === 'missing');
  if (missing.length > 0) return missingAdapters([...new Set(missing)]);
  return states.includes('receiving') ? adapterLoading() : null;
}

export const pinnedTooMuch = (limit: number): ApiError => ({
  code: 'adapter_unavailable',
  message: `Pinned adapters may take ${Math.floor(limit / 1e6)} MB of this origin's memory together, and this one would pass that; unpin another.`,
  retryAfterMs: ADAPTER_RETRY_MS,
});

/**
 * What `ModelRunner.loadAdapter` threw. AdapterFormatError is known by its name: the engine imports no format code.
 * @returns null when it was not about the file.
 */
export function formatErrorOf(error: unknown): ApiError | null {
  if (!(error instanceof Error) || error.name !== 'AdapterFormatError') return null;
  const reason = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return { code: 'adapter_invalid', message: error.message, ...(reason === undefined ? {} : { reason }) };
}

export const rankSumExceeded = (sum: number, limit: number): ApiError => ({
  code: 'adapter_invalid',
  message: `The ranks of the chain add up to ${sum}; this base serves at most ${limit}.`,
  reason: 'rank_sum_exceeded',
});

/** Files in memory at once beside their transformed form, and cores taken from the steps. */
const MAX_CONCURRENT_LOADS = 2;

/** Source -> runner, a few at a time. What goes wrong fails only the requests that want this adapter. */
export class AdapterLoads {
  readonly #runner: Pick<ModelRunner, 'loadAdapter'>;
  readonly #source: AdapterSource;
  readonly #observer: EngineObserver;
  readonly #onEnd: (entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number) => void;
  readonly #onUnwanted: (entry: Entry) => void;
  readonly #now: () => number;
  readonly #queue: Entry[] = [];
  #underWay = 0;

  constructor(params: {
    runner: Pick<ModelRunner, 'loadAdapter'>;
    source: AdapterSource;
    observer: EngineObserver;
    now: () => number;
    onEnd: (entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number) => void;
    /** Everyone who wanted it had gone when its turn came. */
    onUnwanted: (entry: Entry) => void;
  }) {
    this.#runner = params.runner;
    this.#source = params.source;
    this.#observer = params.observer;
    this.#now = params.now;
    this.#onEnd = params.onEnd;
    this.#onUnwanted = params.onUnwanted;
  }

  get underWay(): number {
    return this.#underWay;
  }

  /** Under way and to come. */
  get size(): number {
    return this.#underWay + this.#queue.length;
  }

  /** `start` begins it. */
  add(entry: Entry): void {
    this.#queue.push(entry);
  }

  start(): void {
    while (this.#underWay < MAX_CONCURRENT_LOADS) {
      const entry = this.#queue.shift();
      if (entry === undefined) return;
      if (entry.references === 0 && !entry.pinned && entry.waiters.length === 0) {
        this.#onUnwanted(entry);
        continue;
      }
      this.#underWay += 1;
      void this.#load(entry);
    }
  }

  /** @returns why the source cannot give all of these files now; null when it can. */
  check(digests: readonly string[]): Promise<ApiError | null> {
    return checkHeld({ source: this.#source, observer: this.#observer }, digests);
  }

  async #load(entry: Entry): Promise<void> {
    const startedAt = this.#now();
    const loaded = await this.#read(entry.digest);
    this.#underWay -= 1;
    this.#onEnd(entry, loaded, startedAt);
    this.start();
  }

  async #read(digest: string): Promise<Result<ResidentAdapter, ApiError>> {
    try {
      const file = await this.#source.read(digest);
      if (file === null) return err(missingAdapters([digest]));
      return ok(await this.#runner.loadAdapter(file, digest));
    } catch (error) {
      const format = formatErrorOf(error);
      if (format === null) this.#observer.onFault?.({ where: 'adapter load', error, requestIds: [] });
      return err(format ?? unavailableAdapter(digest));
    }
  }
}
