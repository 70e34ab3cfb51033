import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { ResidentList } from '../../../protocol/origin-wire.ts';
import {
  bytesOf,
  isHeld,
  isUsable,
  Lease,
  pinnedBytes,
  pinnedTooMuch,
  residentOf,
  type AdapterLease,
  type AskedChain,
  type Entry,
  AdapterLoads,
  AdapterMemory,
  ChainDeltas,
  EvictionPolicy,
} from './adapter-memory.ts';
import type {
  EngineObserver,
  AdapterSource,
  BatchRows,
  Clock,
  ModelRunner,
  ResidentAdapter,
} from '../ports.ts';

/** Failures that are remembered: for `residents()`, and so that a bad file is not loaded at each request. */
const MAX_FAILED = 256;
/** Share of the memory for adapters that pinned ones may take. */
// The other half stays for unpinned ones.
const PINNED_SHARE = 0.5;

/**
 * Adapters in memory: Missing -> Loading -> Ready | Failed. Loads overlap with steps; everything else that
 * touches the runner's state (composing, freeing) waits for `applyPending`, which the engine calls between
 * steps.
 */
export class AdapterCache {
  readonly #runner: ModelRunner;
  readonly #loads: AdapterLoads;
  readonly #clock: Clock;
  readonly #observer: EngineObserver;
  readonly #wake: () => void;
  readonly #deltas: ChainDeltas;
  readonly #memory: AdapterMemory;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  /** Eviction order of ready entries. */
  readonly #eviction = new EvictionPolicy<string>();
  readonly #leases = new Set<Lease>();
  /** Of the leases, those without an outcome. */
  readonly #pending = new Set<Lease>();
  /** Entries to remove as soon as nothing holds them. */
  readonly #dropped = new Set<Entry>();
  /** Pins that would have exceeded their share, and their bytes. */
  readonly #refusedPins = new Map<string, number>();

  constructor(params: {
    runner: ModelRunner;
    source: AdapterSource;
    clock: Clock;
    budgetBytes: number;
    observer: EngineObserver;
    /** Called when `applyPending` has something to do. */
    wake: () => void;
  }) {
    const { runner, budgetBytes, clock } = params;
    this.#runner = runner;
    this.#clock = clock;
    this.#observer = params.observer;
    this.#wake = params.wake;
    this.#deltas = new ChainDeltas(runner, params.observer);
    this.#memory = new AdapterMemory({ budgetBytes, runner, deltas: this.#deltas });
    this.#loads = new AdapterLoads({
      ...params,
      now: () => clock.now(),
      onEnd: (entry, loaded, startedAt) => this.#loaded(entry, loaded, startedAt),
      onUnwanted: (entry) => this.#evict(entry),
    });
  }

  /** As `ServingEngine` has it. */
  async check(digests: Iterable<string>, files = false): Promise<ApiError | null> {
    const unknown = [...new Set(digests)].filter((digest) => {
      const entry = this.#entries.get(digest);
      return files || entry === undefined || entry.status.kind === 'failed' || this.#dropped.has(entry);
    });
    const refusal = await this.#loads.check(unknown);
    // A dropped file has been sent again.
    if (refusal === null)
      for (const entry of this.#dropped) if (unknown.includes(entry.digest)) this.#dropped.delete(entry);
    return refusal;
  }

  /** Is the whole chain in memory? */
  holds(chain: readonly ChainEntry[]): boolean {
    return chain.every(({ digest }) => this.#entries.get(digest)?.status.kind === 'ready');
  }

  /**
   * @param batch rows with a slot in the batch; their memory counts. Call before `acquire` and `applyPending`.
   */
  setBatch(batch: BatchRows): void {
    this.#memory.setBatch(batch);
  }

  /** Is there memory for these rows in one batch, in addition to everything held? */
  fits(then: BatchRows): boolean {
    return this.#memory.fits(then, this.#loads.size);
  }

  /**
   * Holds the chain's adapters and starts loading missing ones. The budget is exceeded only if a single chain
   * needs more, and by the error of estimated adapter sizes.
   * @param mayLoad false: only when every adapter is ready.
   * @returns null when other leases leave no room; ask again after one was released.
   */
  acquire({ mayLoad, ...asked }: AskedChain & { mayLoad: boolean }): AdapterLease | null {
    const digests = [...new Set(asked.chain.map((entry) => entry.digest))];
    if (!this.#mayAcquire(asked.chain, mayLoad, digests)) return null;
    const entries = digests.map((digest) => this.#hold(digest));
    const lease = new Lease(asked, entries, (released) => this.#release(released));
    this.#leases.add(lease);
    this.#pending.add(lease);
    this.#loads.start();
    return lease;
  }

  /**
   * Loads without a request. A pinned one stays until `keepPinned`; if it would exceed the pinned share, it is
   * loaded but not pinned, and not loaded for that again: pins are repeated each minute, and would evict others.
   * @returns when it is ready or has failed, or `adapter_unavailable` when it could not be pinned.
   */
  async prefetch(digest: string, pinned: boolean): Promise<Result<void, ApiError>> {
    if (pinned && !this.#usable(digest) && this.#exceedsPins(this.#refusedPins.get(digest) ?? 0))
      return err(pinnedTooMuch(this.#pinLimit));
    const entry = this.#entryOf(digest);
    if (entry.status.kind === 'failed') return err(entry.status.error);
    if (pinned && !entry.pinned) this.#change(entry, () => (entry.pinned = true));
    if (entry.status.kind === 'loading') {
      const loaded = new Promise<Result<void, ApiError>>((resolve) => entry.waiters.push(resolve));
      this.#loads.start();
      const result = await loaded;
      if (!result.ok) return result;
    } else this.#limitPins(entry);
    return pinned && !entry.pinned ? err(pinnedTooMuch(this.#pinLimit)) : ok(undefined);
  }

  /** Unpins all others; they stay until their memory is needed. @returns how many were unpinned. */
  keepPinned(digests: ReadonlySet<string>): number {
    for (const digest of this.#refusedPins.keys()) if (!digests.has(digest)) this.#refusedPins.delete(digest);
    const others = [...this.#entries.values()].filter((entry) => entry.pinned && !digests.has(entry.digest));
    for (const entry of others) this.#change(entry, () => (entry.pinned = false));
    if (others.length > 0) this.#wake();
    return others.length;
  }

  /**
   * Drops them: between steps, or after a running or waiting row that uses one has ended.
   * @returns how many are still held.
   */
  drop(digests: ReadonlySet<string>): number {
    let held = 0;
    for (const digest of digests) {
      const entry = this.#entries.get(digest);
      if (entry === undefined) continue;
      if (entry.pinned) this.#change(entry, () => (entry.pinned = false));
      this.#dropped.add(entry);
      if (isHeld(entry)) held += 1;
    }
    if (this.#dropped.size > 0) this.#wake();
    return held;
  }

  /** Between steps: gives leases their outcome and memory back to the budget. */
  applyPending(): void {
    for (const lease of this.#pending) {
      lease.outcome = this.#deltas.outcomeOf(lease);
      if (lease.outcome !== null) this.#pending.delete(lease);
    }
    for (const entry of this.#dropped)
      if (!isHeld(entry) && entry.status.kind !== 'loading') this.#evict(entry);
    while (this.#memory.isOver(this.#loads.underWay)) {
      if (this.#memory.trimBatch(false) || this.#deltas.evictOne()) continue;
      const first = this.#eviction.first();
      const victim = first === null ? undefined : this.#entries.get(first);
      if (victim !== undefined) this.#evict(victim);
      else if (!this.#memory.trimBatch(true)) break;
    }
  }

  residents(): ResidentList {
    return {
      budget_bytes: this.#memory.budget,
      used_bytes: this.#memory.used,
      adapters: [...this.#entries.values()].map(residentOf),
    };
  }

  #usable(digest: string): boolean {
    return isUsable(this.#entries.get(digest), this.#clock.now());
  }

  #mayAcquire(chain: readonly ChainEntry[], mayLoad: boolean, digests: readonly string[]): boolean {
    const absent = digests.filter((digest) => !this.#usable(digest)).length;
    if (absent > 0 && !mayLoad) return false;
    const loads = this.#loads.size;
    // A single chain may exceed the budget, so that it can run at all.
    if (this.#leases.size === 0 && loads === 0) return true;
    const entries = digests.flatMap((digest) => this.#entries.get(digest) ?? []);
    return this.#memory.roomToHold({ chain, entries, absent, loads, leases: this.#leases });
  }

  /** Touches the digest's entry, and starts loading if needed. */
  #entryOf(digest: string): Entry {
    let entry = this.#entries.get(digest);
    if (entry === undefined || !this.#usable(digest)) {
      entry ??= { digest, status: { kind: 'loading' }, references: 0, pinned: false, waiters: [] };
      entry.status = { kind: 'loading' };
      this.#loads.add(entry);
    }
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    return entry;
  }

  #hold(digest: string): Entry {
    const entry = this.#entryOf(digest);
    // Only requests count as uses: pins are repeated regularly.
    this.#eviction.use(digest);
    this.#change(entry, () => (entry.references += 1));
    return entry;
  }

  /** All changes of ready, held and free go through here. */
  #change(entry: Entry, change: () => void): void {
    this.#memory.changeHold(entry, change);
    if (entry.status.kind !== 'ready') this.#eviction.drop(entry.digest);
    else if (isHeld(entry)) this.#eviction.hold(entry.digest);
    else this.#eviction.free(entry.digest);
  }

  #release(lease: Lease): void {
    this.#leases.delete(lease);
    this.#pending.delete(lease);
    for (const entry of lease.entries) this.#change(entry, () => (entry.references -= 1));
    this.#deltas.leave(lease);
    if (lease.entries.some((entry) => this.#dropped.has(entry))) this.#wake();
  }

  /** Unpins the newest one again if all pins together hold too much. */
  #limitPins(entry: Entry): void {
    if (!entry.pinned) return;
    if (this.#exceedsPins(0)) {
      this.#refusedPins.set(entry.digest, bytesOf(entry));
      this.#change(entry, () => (entry.pinned = false));
    } else this.#refusedPins.delete(entry.digest);
  }

  get #pinLimit(): number {
    return this.#memory.budget * PINNED_SHARE;
  }

  #exceedsPins(more: number): boolean {
    return pinnedBytes(this.#entries.values()) + more > this.#pinLimit;
  }

  #loaded(entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number): void {
    const now = this.#clock.now();
    this.#change(entry, () => {
      entry.status = loaded.ok
        ? { kind: 'ready', adapter: loaded.value }
        : { kind: 'failed', error: loaded.error, at: now };
      // A pin without an entry would never be removed.
      if (!loaded.ok) entry.pinned = false;
    });
    this.#limitPins(entry);
    const bytes = bytesOf(entry);
    this.#memory.add(bytes);
    if (!loaded.ok) this.#forgetFailures();
    const error = loaded.ok ? null : loaded.error;
    this.#observer.onAdapterLoad?.({ digest: entry.digest, ms: now - startedAt, bytes, error });
    for (const resolve of entry.waiters.splice(0)) resolve(error === null ? ok(undefined) : err(error));
    this.#wake();
  }

  #evict(entry: Entry): void {
    this.#entries.delete(entry.digest);
    this.#dropped.delete(entry);
    this.#eviction.drop(entry.digest);
    if (entry.status.kind !== 'ready') return;
    const { adapter } = entry.status;
    this.#deltas.forget(adapter.digest);
    this.#memory.remove(adapter.bytes);
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
