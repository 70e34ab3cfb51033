/** Adapters in memory: entries and leases, loading, composed deltas, and their budget. */
import { actsBeforeParent } from '../../../protocol/activation.ts';
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import { twoClassifiers } from '../../../protocol/classes.ts';
import type { ResidentList } from '../../../protocol/origin-wire.ts';
import type {
  BatchRows,
  ClassifierHead,
  ModelRunner,
  RowDelta,
  EngineObserver,
  ChainMember,
  ResidentAdapter,
  AdapterSource,
} from '../ports.ts';
import { actsTooEarly, chainKey, stagesOf } from './activation.ts';

/** log2(count) + time / half-life: of two unused entries, the heavier stays the heavier forever. */
interface Counted<Name> {
  readonly name: Name;
  weight: number;
  state: 'ahead' | 'free' | 'held' | 'gone';
  /** Index in the heap of free entries, or -1. */
  at: number;
}

/** Uses after which one counts half, per kept entry: ten are enough to tell names apart (TinyLFU, 2017). */
const HALF_LIFE_PER_KEPT = 10;
/** … with a minimum, because with few places, entries near the border differ by little. */
const LEAST_HALF_LIFE = 1_000;
/** Share of entries loaded ahead of their requests that are protected until their first request. */
const AHEAD_SHARE = 1 / 16;
/**
 * Counts of evicted entries are kept for this many times the kept entries, so that a returning one continues
 * from there …
 */
const GONE_PER_KEPT = 4;
/** … and for at least this many, about 200 bytes each. */
const LEAST_GONE = 1_024;

/**
 * Decides which entry to evict: the one with the fewest uses, weighted by their age. That is LRFU's order (Lee
 * et al., IEEE Transactions on Computers 50(12), 2001), between least frequently and least recently used;
 * evicted entries are still counted, as in TinyLFU (Einziger, Friedman and Manes, ACM Transactions on Storage
 * 13(4), 2017), so that a newcomer stays only once it is requested more often than the entry it would displace.
 * Entries loaded ahead of requests, such as replicas, are evicted last for a while. Time is counted in uses: no
 * clock, no randomness. Each operation takes O(log n).
 */
export class EvictionPolicy<Name> {
  /** Uses so far. */
  #time = 0;
  #halfLife = LEAST_HALF_LIFE;
  readonly #kept = new Map<Name, Counted<Name>>();
  /** Oldest evictions first. */
  readonly #gone = new Map<Name, Counted<Name>>();
  /** Kept but never held, oldest first. */
  readonly #ahead = new Set<Counted<Name>>();
  /** A binary heap of the free ones, lightest first. */
  readonly #heap: Counted<Name>[] = [];

  /** Free and held ones. */
  get kept(): number {
    return this.#kept.size;
  }

  /** Evicted entries whose uses are still known. */
  get gone(): number {
    return this.#gone.size;
  }

  isKept(name: Name): boolean {
    return this.#kept.has(name);
  }

  /** One more use, whether it is kept or not. */
  use(name: Name): void {
    this.#time += 1;
    const now = this.#time / this.#halfLife;
    const counted = this.#find(name);
    counted.weight = now + Math.log2(1 + 2 ** (counted.weight - now));
    if (counted.state === 'free') this.#sink(counted);
    else if (counted.state === 'ahead') this.#join(counted);
    else if (counted.state === 'gone') {
      this.#gone.delete(name);
      this.#leave(counted);
    }
  }

  /** It is kept, and may be evicted. */
  free(name: Name): void {
    const counted = this.#keep(name);
    if (counted.state === 'held') this.#join(counted);
    if (counted.state !== 'gone') return;
    counted.state = 'ahead';
    this.#ahead.add(counted);
    const [oldest] = this.#ahead;
    if (oldest !== undefined && this.#ahead.size > Math.max(1, AHEAD_SHARE * this.#kept.size))
      this.#join(oldest);
  }

  /** It is kept, and may not be evicted. */
  hold(name: Name): void {
    const counted = this.#keep(name);
    this.#takeOut(counted);
    counted.state = 'held';
  }

  /** It is no longer kept. */
  drop(name: Name): void {
    const counted = this.#kept.get(name);
    if (counted === undefined) return;
    this.#kept.delete(name);
    this.#takeOut(counted);
    counted.state = 'gone';
    this.#leave(counted);
    this.#fitHalfLife();
  }

  /** The next one to evict; null = all are held. */
  first(): Name | null {
    const [oldest] = this.#ahead;
    return (this.#heap[0] ?? oldest)?.name ?? null;
  }

  #find(name: Name): Counted<Name> {
    const known = this.#kept.get(name) ?? this.#gone.get(name);
    return known ?? { name, weight: -Infinity, state: 'gone', at: -1 };
  }

  #keep(name: Name): Counted<Name> {
    const counted = this.#find(name);
    if (counted.state !== 'gone') return counted;
    this.#gone.delete(name);
    this.#kept.set(name, counted);
    this.#fitHalfLife();
    return counted;
  }

  #leave(counted: Counted<Name>): void {
    this.#gone.set(counted.name, counted);
    const most = Math.max(LEAST_GONE, GONE_PER_KEPT * this.#kept.size);
    for (const name of this.#gone.keys()) {
      if (this.#gone.size <= most) return;
      this.#gone.delete(name);
    }
  }

  /** Changes by powers of two, so that it changes seldom. */
  #fitHalfLife(): void {
    const wanted = Math.max(LEAST_HALF_LIFE, HALF_LIFE_PER_KEPT * this.#kept.size);
    if (wanted <= this.#halfLife && wanted > this.#halfLife / 4) return;
    const halfLife = wanted === LEAST_HALF_LIFE ? wanted : 2 * wanted;
    if (halfLife === this.#halfLife) return;
    // All change by the same amount, so their order stays.
    const by = this.#time / halfLife - this.#time / this.#halfLife;
    this.#halfLife = halfLife;
    for (const all of [this.#kept, this.#gone]) for (const counted of all.values()) counted.weight += by;
  }

  #join(counted: Counted<Name>): void {
    this.#ahead.delete(counted);
    counted.state = 'free';
    counted.at = this.#heap.push(counted) - 1;
    this.#rise(counted);
  }

  #takeOut(counted: Counted<Name>): void {
    this.#ahead.delete(counted);
    const { at } = counted;
    if (at < 0) return;
    const last = this.#heap.pop();
    counted.at = -1;
    if (last === undefined || last === counted) return;
    this.#heap[at] = last;
    last.at = at;
    this.#rise(last);
    this.#sink(last);
  }

  #rise(counted: Counted<Name>): void {
    const heap = this.#heap;
    while (counted.at > 0) {
      const parent = heap[(counted.at - 1) >> 1]!;
      if (parent.weight <= counted.weight) return;
      this.#swap(parent, counted);
    }
  }

  #sink(counted: Counted<Name>): void {
    const heap = this.#heap;
    for (;;) {
      const [left, right] = [heap[2 * counted.at + 1], heap[2 * counted.at + 2]];
      const lighter = right !== undefined && right.weight < left!.weight ? right : left;
      if (lighter === undefined || lighter.weight >= counted.weight) return;
      this.#swap(counted, lighter);
    }
  }

  #swap(one: Counted<Name>, other: Counted<Name>): void {
    [one.at, other.at] = [other.at, one.at];
    this.#heap[one.at] = one;
    this.#heap[other.at] = other;
  }
}

type Status =
  /** Queued or being loaded. */
  | { readonly kind: 'loading' }
  | { readonly kind: 'ready'; readonly adapter: ResidentAdapter }
  | { readonly kind: 'failed'; readonly error: ApiError; readonly at: number };

/** An adapter of the cache. Without an entry it is Missing. */
export interface Entry {
  readonly digest: string;
  status: Status;
  /** Leases that hold it. */
  references: number;
  pinned: boolean;
  /** Called when it is no longer loading. */
  waiters: ((result: Result<void, ApiError>) => void)[];
}

/** A part of a row's prompt, up to the next one; the last goes on in its answer. */
export interface RowStage {
  /** Its first token. */
  readonly from: number;
  /** Equal for equal deltas; '' = the base. */
  readonly key: string;
  /** null = the base. */
  readonly delta: RowDelta | null;
}

export interface AskedChain {
  /** Root first, not empty. */
  readonly chain: readonly ChainEntry[];
  /** Tokens that may activate its adapters. */
  readonly prompt: readonly number[];
}

/** A request's hold on the adapters of its chain. */
export interface AdapterLease {
  /** What acts on the prompt; null while something loads. Changes only in `applyPending`. */
  readonly outcome: Result<readonly RowStage[], ApiError> | null;
  /** Classification head of the chain, once it is loaded; null = it has none. */
  readonly classifier: ClassifierHead | null;
  /** Idempotent. */
  release(): void;
}

export class Lease implements AdapterLease {
  outcome: Result<readonly RowStage[], ApiError> | null = null;
  classifier: ClassifierHead | null = null;
  /** Keys of the deltas that it uses. */
  composed: string[] = [];
  readonly release: () => void;

  constructor(
    readonly asked: AskedChain,
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

const isActivated = ({ status }: Entry): boolean =>
  status.kind === 'ready' && status.adapter.invocation !== null;
/** What acts on answers; nothing where that is the base. */
const lastDelta = (stages: readonly RowStage[]): RowDelta[] => {
  const delta = stages.at(-1)?.delta ?? null;
  return delta === null ? [] : [delta];
};

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

/** When an unavailable adapter may be requested again, ms. */
const ADAPTER_RETRY_MS = 1_000;

/** Ready, loading, or failed too recently for a retry. @param now on the clock of `Status.at`, ms. */
export function isUsable(entry: Entry | undefined, now: number): boolean {
  const status = entry?.status;
  if (status?.kind !== 'failed') return status !== undefined;
  // A missing file may have arrived by now.
  return status.error.code !== 'adapter_missing' && now - status.at < ADAPTER_RETRY_MS;
}

export const missingAdapters = (missing: string[]): ApiError => ({
  code: 'adapter_missing',
  message:
    `This origin is missing ${missing.length === 1 ? 'an adapter' : `${missing.length} adapters`} of the ` +
    'chain.',
  missing,
});

const adapterLoading = (): ApiError => ({
  code: 'adapter_loading',
  message: 'An adapter of the chain is still being uploaded.',
  retryAfterMs: ADAPTER_RETRY_MS,
});

const unavailableAdapter = (digest: string): ApiError => ({
  code: 'adapter_unavailable',
  message: `Adapter ${digest.slice(0, 12)} could not be loaded.`,
  retryAfterMs: ADAPTER_RETRY_MS,
});

/** @returns why the source cannot provide all of these files now; null when it can. */
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
  message:
    `Pinned adapters may use ${Math.floor(limit / 1e6)} MB of this origin's memory in total, and this ` +
    'one would exceed that. Unpin another.',
  retryAfterMs: ADAPTER_RETRY_MS,
});

/**
 * Classifies an error of `ModelRunner.loadAdapter`. AdapterFormatError is recognised by its name: the engine
 * imports no format code.
 * @returns null when it is not about the file.
 */
function formatErrorOf(error: unknown): ApiError | null {
  if (!(error instanceof Error) || error.name !== 'AdapterFormatError') return null;
  const reason = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return { code: 'adapter_invalid', message: error.message, ...(reason === undefined ? {} : { reason }) };
}

const tooEarly = (digest: string): ApiError => ({
  code: 'adapter_invalid',
  message: actsBeforeParent(`Adapter ${digest.slice(0, 12)}`, 'its parent'),
  reason: 'parent_mismatch',
});

const secondClassifier = (digest: string, first: string): ApiError => ({
  code: 'adapter_invalid',
  message: twoClassifiers(`Adapter ${digest.slice(0, 12)}`, `adapter ${first.slice(0, 12)}`),
  reason: 'classifier_unsupported',
});

const rankSumExceeded = (sum: number, limit: number): ApiError => ({
  code: 'adapter_invalid',
  message: `The ranks of the chain add up to ${sum}; this base serves at most ${limit}.`,
  reason: 'rank_sum_exceeded',
});

/** Parallel loads: files in memory along with their transformed form, and cores taken from the steps. */
const MAX_CONCURRENT_LOADS = 2;

/** Source -> runner, a few at a time. A failure affects only the requests that need this adapter. */
export class AdapterLoads {
  readonly #runner: ModelRunner;
  readonly #source: AdapterSource;
  readonly #observer: EngineObserver;
  readonly #onEnd: (entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number) => void;
  readonly #onUnwanted: (entry: Entry) => void;
  readonly #now: () => number;
  readonly #queue: Entry[] = [];
  #underWay = 0;

  constructor(params: {
    runner: ModelRunner;
    source: AdapterSource;
    observer: EngineObserver;
    now: () => number;
    onEnd: (entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number) => void;
    /** Nobody waits for it any more. */
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

  /** Running and queued. */
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

  /** @returns why the source cannot provide all of these files now; null when it can. */
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

/** Unused composed deltas that are kept: recomposing takes milliseconds. */
const MAX_IDLE = 64;

interface Composed {
  readonly delta: RowDelta;
  readonly digests: ReadonlySet<string>;
  references: number;
}

/**
 * Composed deltas by `chainKey`, so that rows with the same chain share one. They reference their members'
 * memory.
 */
export class ChainDeltas {
  readonly #runner: ModelRunner;
  readonly #observer: EngineObserver;
  /** Least recently used first. */
  readonly #composed = new Map<string, Composed>();
  #bytes = 0;
  #heldBytes = 0;

  constructor(runner: ModelRunner, observer: EngineObserver) {
    this.#runner = runner;
    this.#observer = observer;
  }

  /** Beyond the members' own, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** … of those in use or about to be. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  get size(): number {
    return this.#composed.size;
  }

  /** Growth of `heldBytes` by one more use of the chain; null when it is not composed yet. */
  bytesToUse(chain: readonly ChainEntry[]): number | null {
    const entry = this.#composed.get(chainKey(chain));
    if (entry === undefined) return null;
    return entry.references > 0 ? 0 : entry.delta.bytes;
  }

  /**
   * Composes a chain's deltas once all its adapters are ready; `leave` returns them. Call only between steps.
   * @returns null while one loads; an error when one has failed, acts before its parents, or the ranks are too
   * many for the base.
   */
  outcomeOf(lease: Lease): Result<readonly RowStage[], ApiError> | null {
    const adapters = new Map<string, ResidentAdapter>();
    for (const { digest, status } of lease.entries) {
      if (status.kind === 'failed') return err(status.error);
      if (status.kind === 'ready') adapters.set(digest, status.adapter);
    }
    if (adapters.size < lease.entries.length) return null;
    const { chain, prompt } = lease.asked;
    const rankSum = chain.reduce((sum, { digest }) => sum + adapters.get(digest)!.rank, 0);
    const limit = this.#runner.base.max_rank_sum;
    if (rankSum > limit) return err(rankSumExceeded(rankSum, limit));
    const early = actsTooEarly(chain, adapters);
    if (early !== null) return err(tooEarly(early));
    const [head, second] = [...adapters.values()].filter(({ classifier }) => classifier !== null);
    if (second !== undefined) return err(secondClassifier(second.digest, head!.digest));
    lease.classifier = head?.classifier ?? null;
    try {
      return ok(
        stagesOf(chain, adapters, prompt).map(({ from, chain: acting }) => {
          const key = chainKey(acting);
          const members = acting.map(({ digest, scale }) => ({ adapter: adapters.get(digest)!, scale }));
          const delta = members.length === 0 ? null : this.#use(key, members);
          if (delta !== null) lease.composed.push(key);
          return { from, key, delta };
        }),
      );
    } catch (error) {
      this.leave(lease);
      this.#observer.onFault?.({ where: 'compose', error, requestIds: [] });
      return err(unavailableAdapter(chain[0]!.digest));
    }
  }

  #use(key: string, members: readonly ChainMember[]): RowDelta {
    let entry = this.#composed.get(key);
    if (entry === undefined) {
      const delta = this.#runner.compose(members);
      entry = { delta, digests: new Set(members.map((member) => member.adapter.digest)), references: 0 };
      this.#bytes += delta.bytes;
    }
    if (entry.references === 0) this.#heldBytes += entry.delta.bytes;
    entry.references += 1;
    this.#composed.delete(key);
    this.#composed.set(key, entry);
    return entry.delta;
  }

  leave(lease: Lease): void {
    for (const key of lease.composed.splice(0)) {
      const entry = this.#composed.get(key);
      if (entry === undefined || entry.references === 0) throw new Error('the chain is not in use');
      entry.references -= 1;
      if (entry.references === 0) this.#heldBytes -= entry.delta.bytes;
    }
    const idle = [...this.#composed].filter(([, other]) => other.references === 0);
    for (const [key] of idle.slice(0, Math.max(0, idle.length - MAX_IDLE))) this.#drop(key);
  }

  /** Drops the least recently used unused delta. @returns false when there is none. */
  evictOne(): boolean {
    for (const [chainId, entry] of this.#composed) {
      if (entry.references > 0 || entry.delta.bytes === 0) continue;
      this.#drop(chainId);
      return true;
    }
    return false;
  }

  /** Called before the adapter is freed: its deltas must go. */
  forget(digest: string): void {
    for (const [chainId, entry] of this.#composed) {
      if (!entry.digests.has(digest)) continue;
      if (entry.references > 0) throw new Error('a row uses a chain of the adapter');
      this.#drop(chainId);
    }
  }

  #drop(chainId: string): void {
    this.#bytes -= this.#composed.get(chainId)?.delta.bytes ?? 0;
    this.#composed.delete(chainId);
  }
}

/**
 * Buffers of the batch are kept while at least this share of them is needed; otherwise they are freed before
 * any adapter.
 */
const KEEP_BATCH_SHARE = 0.5;

export const NO_ROWS: BatchRows = { rows: 0, deltas: [] };

/** Rows as they affect a batch's memory. */
export function batchOf(rows: readonly { readonly delta: RowDelta | null }[]): BatchRows {
  return { rows: rows.length, deltas: rows.flatMap(({ delta }) => delta ?? []) };
}

/**
 * Accounting of the adapter budget: ready adapters, composed deltas, and the decode batch, whose rows are all
 * padded to the largest rank among them. Part of it is _held_: by requests, pins and rows.
 */
export class AdapterMemory {
  readonly budget: number;
  readonly #runner: ModelRunner;
  readonly #deltas: ChainDeltas;
  #batch = NO_ROWS;
  #readyBytes = 0;
  #heldBytes = 0;
  /** Largest adapter so far: the estimate for adapters that are not loaded yet. */
  #largest = 0;

  constructor(params: { budgetBytes: number; runner: ModelRunner; deltas: ChainDeltas }) {
    this.budget = params.budgetBytes;
    this.#runner = params.runner;
    this.#deltas = params.deltas;
  }

  /** Bytes in use, including what the batch is about to take. */
  get used(): number {
    const batch = Math.max(this.#runner.batchHeldBytes, this.#runner.batchBytes(this.#batch));
    return this.#readyBytes + this.#deltas.bytes + batch;
  }

  /** @param loads in progress. */
  isOver(loads: number): boolean {
    return this.used + loads * this.#largest > this.budget;
  }

  /** @param batch rows with a slot in the batch, including the one in prefill. */
  setBatch(batch: BatchRows): void {
    this.#batch = batch;
  }

  /** An adapter became ready. */
  add(bytes: number): void {
    this.#readyBytes += bytes;
    this.#largest = Math.max(this.#largest, bytes);
  }

  /** It is freed. */
  remove(bytes: number): void {
    this.#readyBytes -= bytes;
  }

  /** Updates the held bytes when an entry's references, pin or status change. */
  changeHold(entry: Entry, change: () => void): void {
    const before = isHeld(entry) ? bytesOf(entry) : 0;
    change();
    this.#heldBytes += (isHeld(entry) ? bytesOf(entry) : 0) - before;
  }

  /** May the batch grow to `then`? It must fit in addition to everything held; one row always may. */
  fits(then: BatchRows, loads: number): boolean {
    if (then.rows <= 1) return true;
    const bytes = this.#runner.batchBytes(then);
    // Rows that do not enlarge it take nothing from others, even if a single admitted chain exceeds the budget.
    if (bytes <= this.#runner.batchBytes(this.#batch)) return true;
    return this.#held(loads) + bytes <= this.budget;
  }

  /**
   * Is there room to hold one more chain, and for all chains with a hold to run in one batch, as far as it has
   * rows? Without the second condition, adapters of waiting requests would leave the batch a row or two.
   * @param params.entries existing adapters of the chain; @param params.absent the number of missing ones.
   * @param params.loads running and queued.
   */
  roomToHold(params: {
    chain: readonly ChainEntry[];
    entries: readonly Entry[];
    absent: number;
    loads: number;
    leases: ReadonlySet<Lease>;
  }): boolean {
    const { chain, entries, absent, loads, leases } = params;
    let delta = absent * this.#largest;
    let more = delta;
    for (const entry of entries) {
      delta += bytesOf(entry);
      if (!isHeld(entry)) more += bytesOf(entry);
    }
    const copied = chain.length > 1 || chain[0]?.scale !== 1;
    more += this.#deltas.bytesToUse(chain) ?? (copied ? delta : 0);
    // Before an activated adapter acts, those without it do.
    if (chain.length > 1) more += delta * entries.filter(isActivated).length;
    const rows = Math.min(this.#runner.slots, Math.max(leases.size, this.#batch.rows) + 1);
    const deltas: RowDelta[] = [];
    for (const { outcome } of leases) if (outcome?.ok === true) deltas.push(...lastDelta(outcome.value));
    const padded = rows > 1 ? Math.max(this.#runner.batchBytes({ rows, deltas }), rows * delta) : 0;
    return this.#held(loads) + more + padded <= this.budget;
  }

  /**
   * Frees batch buffers beyond what its rows need.
   * @param always false: only if most of them are unneeded.
   * @returns false when nothing was freed.
   */
  trimBatch(always: boolean): boolean {
    const held = this.#runner.batchHeldBytes;
    const needed = this.#runner.batchBytes(this.#batch);
    if (needed >= held || (!always && needed >= held * KEEP_BATCH_SHARE)) return false;
    this.#runner.trimBatch(this.#batch);
    return this.#runner.batchHeldBytes < held;
  }

  #held(loads: number): number {
    return this.#heldBytes + this.#deltas.heldBytes + loads * this.#largest;
  }
}
