import {
  err,
  ok,
  type ApiError,
  type ChainEntry,
  type ResidentList,
  type Result,
} from '../../protocol/index.ts';
import {
  bytesOf,
  isHeld,
  Lease,
  pinnedBytes,
  residentOf,
  type AdapterLease,
  type Entry,
} from './adapter-entry.ts';
import { ADAPTER_RETRY_MS, pinnedTooMuch, rankSumExceeded, unavailableAdapter } from './adapter-errors.ts';
import { ChainDeltas } from './chain-deltas.ts';
import { checkSource } from './check-source.ts';
import type { EngineObserver } from './engine-types.ts';
import { loadAdapterFile } from './load-adapter-file.ts';
import type { AdapterSource, Clock, ModelRunner, ResidentAdapter, RowDelta } from './ports.ts';

/** Files in memory at once beside their transformed form, and cores taken from the steps. */
const MAX_CONCURRENT_LOADS = 2;
/** Failures that are remembered: for `residents()` and for not loading a bad file at each request. */
const MAX_FAILED = 256;
/** Of the budget: pinned adapters leave the other half to those that nobody pinned. */
const PINNED_SHARE = 0.5;

/**
 * Adapters in memory: Missing -> Loading -> Ready | Failed. Loads overlap with steps; what touches the runner's state
 * otherwise (composing, freeing) waits for `settle`, which the engine calls between steps.
 */
export class AdapterCache {
  readonly #runner: ModelRunner;
  readonly #source: AdapterSource;
  readonly #loadFile: (digest: string) => Promise<Result<ResidentAdapter, ApiError>>;
  readonly #clock: Pick<Clock, 'now'>;
  readonly #budget: number;
  readonly #observer: EngineObserver;
  readonly #wake: () => void;
  readonly #deltas: ChainDeltas;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #pending = new Set<Lease>();
  readonly #toLoad: Entry[] = [];
  #loads = 0;
  /** Bytes of ready adapters; of those, the ones that cannot be evicted. */
  #readyBytes = 0;
  #heldBytes = 0;
  /** Largest adapter so far: what one that is not loaded yet is taken to need. */
  #largest = 0;

  constructor(params: {
    runner: ModelRunner;
    source: AdapterSource;
    clock: Pick<Clock, 'now'>;
    budgetBytes: number;
    observer: EngineObserver;
    /** Called when `settle` has something to do. */
    wake: () => void;
  }) {
    this.#runner = params.runner;
    this.#source = params.source;
    this.#loadFile = (digest) => loadAdapterFile(params, digest);
    this.#clock = params.clock;
    this.#budget = params.budgetBytes;
    this.#observer = params.observer;
    this.#wake = params.wake;
    this.#deltas = new ChainDeltas(params.runner);
  }

  /** @returns `adapter_missing`, `adapter_loading` or `adapter_unavailable` when one of them cannot be had; else null. */
  check(digests: Iterable<string>): Promise<ApiError | null> {
    const unknown = [...new Set(digests)].filter((digest) => {
      const kind = this.#entries.get(digest)?.status.kind;
      return kind !== 'ready' && kind !== 'loading';
    });
    return checkSource(unknown, this.#source, this.#observer);
  }

  /**
   * Holds the chain's adapters and begins to load what is not there. The budget is exceeded only by what one chain
   * needs alone, and by the error of the guess how large an adapter is.
   * @param mayLoad false: only when every adapter is ready.
   * @returns null when there is no room beside what other leases hold; ask again after one was released.
   */
  acquire(params: { chainId: string; chain: readonly ChainEntry[]; mayLoad: boolean }): AdapterLease | null {
    const digests = [...new Set(params.chain.map((entry) => entry.digest))];
    const absent = digests.filter((digest) => !this.#usable(digest));
    if (absent.length > 0 && !(params.mayLoad && this.#hasRoom(digests, absent.length))) return null;
    const entries = digests.map((digest) => this.#hold(digest));
    const lease = new Lease(params.chainId, params.chain, entries, (released) => this.#release(released));
    this.#pending.add(lease);
    this.#startLoads();
    return lease;
  }

  /**
   * Loads without a request. A pinned one stays until `keepPinned` or `unload`; one that would take more than pinned
   * ones may have together is loaded all the same, and not pinned.
   * @returns when it is ready or has failed, or `adapter_unavailable` when it could not be pinned.
   */
  async prefetch(digest: string, pinned: boolean): Promise<Result<void, ApiError>> {
    const entry = this.#entryOf(digest);
    if (entry.status.kind === 'failed') return err(entry.status.error);
    if (pinned && !entry.pinned) this.#changeHold(entry, () => (entry.pinned = true));
    if (entry.status.kind === 'loading') {
      const loaded = new Promise<Result<void, ApiError>>((resolve) => entry.waiters.push(resolve));
      this.#startLoads();
      const result = await loaded;
      if (!result.ok) return result;
    } else this.#limitPins(entry);
    return pinned && !entry.pinned ? err(pinnedTooMuch(this.#budget * PINNED_SHARE)) : ok(undefined);
  }

  /** Takes the pin off all others; they stay until their room is needed. @returns how many lost it. */
  keepPinned(digests: ReadonlySet<string>): number {
    const others = [...this.#entries.values()].filter((entry) => entry.pinned && !digests.has(entry.digest));
    for (const entry of others) this.#changeHold(entry, () => (entry.pinned = false));
    if (others.length > 0) this.#wake();
    return others.length;
  }

  /** @returns false when requests hold it: it is then freed when the last of them ends. */
  unload(digest: string): boolean {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return true;
    this.#changeHold(entry, () => (entry.pinned = false));
    entry.unwanted = true;
    this.#wake();
    return entry.references === 0;
  }

  /** Between steps: gives leases their outcome and memory back to the budget. */
  settle(): void {
    for (const lease of this.#pending) {
      lease.outcome = this.#outcomeOf(lease);
      if (lease.outcome !== null) this.#pending.delete(lease);
    }
    for (const entry of this.#entries.values())
      if (entry.unwanted && entry.references === 0 && entry.status.kind !== 'loading') this.#evict(entry);
    const expected = this.#loads * this.#largest;
    while (this.#usedBytes + expected > this.#budget) {
      if (this.#deltas.evictOne()) continue;
      const victim = [...this.#entries.values()].find(
        (entry) => entry.status.kind === 'ready' && !isHeld(entry),
      );
      if (victim === undefined) break;
      this.#evict(victim);
    }
  }

  residents(): ResidentList {
    return {
      budget_bytes: this.#budget,
      used_bytes: this.#usedBytes,
      adapters: [...this.#entries.values()].map(residentOf),
    };
  }

  get #usedBytes(): number {
    return this.#readyBytes + this.#deltas.bytes;
  }

  /** Ready, loading, or failed so recently that it is not tried again. */
  #usable(digest: string): boolean {
    const status = this.#entries.get(digest)?.status;
    if (status?.kind !== 'failed') return status !== undefined;
    // A missing file may have been sent by now.
    return status.error.code !== 'adapter_missing' && this.#clock.now() - status.at < ADAPTER_RETRY_MS;
  }

  #hasRoom(digests: readonly string[], absent: number): boolean {
    if (this.#heldBytes === 0 && this.#loads + this.#toLoad.length === 0) return true;
    let needed = (absent + this.#loads + this.#toLoad.length) * this.#largest;
    for (const digest of digests) {
      const entry = this.#entries.get(digest);
      if (entry !== undefined && !isHeld(entry)) needed += bytesOf(entry);
    }
    return this.#heldBytes + this.#deltas.bytes + needed <= this.#budget;
  }

  /** The digest's entry as the most recently used one; begins to load where that is due. */
  #entryOf(digest: string): Entry {
    let entry = this.#entries.get(digest);
    if (entry === undefined || !this.#usable(digest)) {
      entry ??= {
        digest,
        status: { kind: 'loading' },
        references: 0,
        pinned: false,
        unwanted: false,
        waiters: [],
      };
      entry.status = { kind: 'loading' };
      this.#toLoad.push(entry);
    }
    entry.unwanted = false;
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    return entry;
  }

  #hold(digest: string): Entry {
    const entry = this.#entryOf(digest);
    this.#changeHold(entry, () => (entry.references += 1));
    return entry;
  }

  #release(lease: Lease): void {
    this.#pending.delete(lease);
    for (const entry of lease.entries) this.#changeHold(entry, () => (entry.references -= 1));
    if (lease.composed) this.#deltas.leave(lease.chainId);
  }

  /** Keeps `#heldBytes` right while references or the pin change. */
  #changeHold(entry: Entry, change: () => void): void {
    const before = isHeld(entry) ? bytesOf(entry) : 0;
    change();
    this.#heldBytes += (isHeld(entry) ? bytesOf(entry) : 0) - before;
  }

  /** Takes the newest pin off again when all of them hold too much. */
  #limitPins(entry: Entry): void {
    if (entry.pinned && pinnedBytes(this.#entries.values()) > this.#budget * PINNED_SHARE)
      this.#changeHold(entry, () => (entry.pinned = false));
  }

  #outcomeOf(lease: Lease): Result<RowDelta, ApiError> | null {
    const adapters = new Map<string, ResidentAdapter>();
    for (const { digest, status } of lease.entries) {
      if (status.kind === 'failed') return err(status.error);
      if (status.kind === 'ready') adapters.set(digest, status.adapter);
    }
    if (adapters.size < lease.entries.length) return null;
    const members = lease.chain.map(({ digest, scale }) => ({ adapter: adapters.get(digest)!, scale }));
    const rankSum = members.reduce((sum, member) => sum + member.adapter.rank, 0);
    const limit = this.#runner.base.max_rank_sum;
    if (rankSum > limit) return err(rankSumExceeded(rankSum, limit));
    try {
      const delta = this.#deltas.use(lease.chainId, members);
      lease.composed = true;
      return ok(delta);
    } catch (error) {
      this.#observer.onFault?.({ where: 'compose', error, requestIds: [] });
      return err(unavailableAdapter(members[0]!.adapter.digest));
    }
  }

  #startLoads(): void {
    while (this.#loads < MAX_CONCURRENT_LOADS) {
      const entry = this.#toLoad.shift();
      if (entry === undefined) return;
      if (entry.references === 0 && !entry.pinned && entry.waiters.length === 0) {
        // Everyone who wanted it has gone.
        this.#entries.delete(entry.digest);
        continue;
      }
      this.#loads += 1;
      void this.#load(entry);
    }
  }

  async #load(entry: Entry): Promise<void> {
    const startedAt = this.#clock.now();
    const loaded = await this.#loadFile(entry.digest);
    this.#loads -= 1;
    const now = this.#clock.now();
    this.#changeHold(entry, () => {
      entry.status = loaded.ok
        ? { kind: 'ready', adapter: loaded.value }
        : { kind: 'failed', error: loaded.error, at: now };
      // A pin on nothing would never be taken off.
      if (!loaded.ok) entry.pinned = false;
    });
    this.#limitPins(entry);
    const bytes = bytesOf(entry);
    this.#readyBytes += bytes;
    this.#largest = Math.max(this.#largest, bytes);
    if (!loaded.ok) this.#forgetFailures();
    const error = loaded.ok ? null : loaded.error;
    this.#observer.onAdapterLoad?.({ digest: entry.digest, ms: now - startedAt, bytes, error });
    for (const resolve of entry.waiters.splice(0)) resolve(error === null ? ok(undefined) : err(error));
    this.#startLoads();
    this.#wake();
  }

  #evict(entry: Entry): void {
    this.#entries.delete(entry.digest);
    if (entry.status.kind !== 'ready') return;
    const { adapter } = entry.status;
    this.#deltas.forget(adapter.digest);
    this.#readyBytes -= adapter.bytes;
    try {
      this.#runner.unloadAdapter(adapter);
    } catch (error) {
      this.#observer.onFault?.({ where: 'adapter unload', error, requestIds: [] });
    }
    this.#observer.onAdapterEvict?.({ digest: adapter.digest, bytes: adapter.bytes });
  }

  #forgetFailures(): void {
    const failed = [...this.#entries.values()].filter(
      (entry) => entry.status.kind === 'failed' && entry.references === 0,
    );
    for (const entry of failed.slice(0, Math.max(0, failed.length - MAX_FAILED)))
      this.#entries.delete(entry.digest);
  }
}
