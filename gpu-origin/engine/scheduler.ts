/**
 * What runs next, and how tenants share the machine: the order of the queue, and how many rows of the batch
 * each may have. Pure.
 */
import { chunkEnd } from './kv-cache-manager.ts';
import type { ChunkParts } from './ports.ts';
import type { Sequence } from './sequence.ts';

/** Feeds prompt tokens `from` … `to`-1 of one sequence, or some parts of it. */
export interface PrefillStep {
  readonly kind: 'prefill';
  readonly sequence: Sequence;
  readonly from: number;
  readonly to: number;
  readonly parts: ChunkParts;
  /** Rows that decode in the same run, as in a `DecodeStep`; absent = none. */
  readonly beside?: readonly Sequence[];
}

/** One token for each row that is not late; the index is the slot. */
export interface DecodeStep {
  readonly kind: 'decode';
  readonly rows: readonly Sequence[];
}

/** What the model runs. */
export type Step = PrefillStep | DecodeStep;

/** A row leaves the batch for another tenant's, or returns to it: between two steps. */
export interface Swap {
  readonly kind: 'preempt' | 'resume';
  readonly sequence: Sequence;
}

export interface SchedulerOptions {
  readonly slots: number;
  /** Prefill chunk, tokens. */
  readonly chunk: number;
  /** Requests that may wait or load at once. */
  readonly maxQueue: number;
  /** Parts that a chunk can be read in. */
  readonly parts: number;
  /** Reading after this many tokens takes twice as long as at the beginning of a prompt. */
  readonly doublingTokens: number;
  /** Whether rows can decode in the run that reads a chunk. */
  readonly mixes: boolean;
  /** Decode steps between two turns of reading: more is smoother for decoding rows, slower for new ones. */
  readonly decodeStepsPerTurn: number;
  /** Prompt tokens that are kept and need not be read; absent = none. */
  readonly cached?: (sequence: Sequence) => number;
  /** Whether reading its prompt pushes no kept prompt out; absent = yes. */
  readonly roomToKeep?: (sequence: Sequence) => boolean;
}

/** Is there memory for a sequence in the batch? @param without a row that would leave it. */
export type CanSchedule = (sequence: Sequence, without?: Sequence) => boolean;

/** The scheduler's view of the slots. */
export interface SlotView {
  readonly rows: readonly Sequence[];
  readonly prefilling: { readonly row: Sequence } | null;
  readonly full: boolean;
  readonly swapFull: boolean;
}

/** Bounds of retry times, ms. */
const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** Weight of the newest interval between two ends in their moving average. */
const INTERVAL_WEIGHT = 0.1;
/** Guess before the first two ends, ms. */
const FIRST_INTERVAL_MS = 500;
/** Maximum share of the queue for one tenant while others wait or run. */
const QUEUE_SHARE = 1 / 4;

/** A turn continues with another prompt while this much of it is left. */
const WORTH_A_PROMPT = 1 / 2;

/**
 * Rows decode in the run that reads a chunk, if reading it takes between a half of and twice the time of a chunk at the
 * beginning of a prompt: shorter ones share a turn, and longer ones would hold up these rows, so they are read in parts.
 */
const LEAST_MIXED = 1 / 2;
const MOST_MIXED = 2;

/** A smaller remainder is not worth its own turn. */
const NEARLY = 1 / 4;

/**
 * How often a sequence without memory in the batch may be overtaken, per slot; after that nobody new is
 * admitted before it.
 */
const PASSES_PER_SLOT = 2;

/** Waiting sequences per slot among which one is looked for whose prompt's beginning is kept. */
const LOOK_FOR_KEPT = 2;

/** Decides what runs next. Pure: time, slots and memory are inputs. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #queue = new FairQueue<Sequence>();
  /** A prompt was preempted for it: it is next, whatever its share. */
  #chosen: Sequence | null = null;
  #decodesSinceTurn = 0;
  /**
   * Work of this turn, in tokens at the beginning of a prompt. A turn is as long as one chunk there: decoding
   * rows wait no longer between two steps, however long the prompt is, and two short prompts share it.
   */
  #read = 0;
  #lastEndAt: number | null = null;
  #endIntervalMs = FIRST_INTERVAL_MS;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#decodesSinceTurn = options.decodeStepsPerTurn;
  }

  /** Waiting or loading requests, without preempted rows. */
  get queued(): number {
    return placesOf(this.#queue.ordered());
  }

  /**
   * The first tenant may fill the queue while nobody else is there. From then on each tenant has a quarter of
   * it: a tenant above that gets nothing more in, and one below gets in although the queue is full, up to twice
   * its size in total. A tenant without any gets one request in even if its answers are more than a quarter.
   * @param alone no other tenant waits or runs.
   * @returns null when `tenant` may queue `rows` more sequences, otherwise the retry time, ms; `never` when
   * they do not fit an empty queue either.
   */
  refuse({ tenant, rows, alone }: { tenant: string; rows: number; alone: boolean }): number | 'never' | null {
    const { maxQueue, slots } = this.#options;
    if (rows > maxQueue + slots) return 'never';
    const mine = placesOf(this.#queue.of(tenant));
    const { queued } = this;
    const within = mine === 0 || mine + rows <= Math.ceil(maxQueue * QUEUE_SHARE);
    if (within && queued + rows <= maxQueue + Math.max(maxQueue, slots)) return null;
    if (alone && queued + rows <= maxQueue) return null;
    const wait = this.#endIntervalMs * queued;
    return Math.round(Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, wait)));
  }

  add(sequence: Sequence): void {
    this.#queue.add(sequence);
  }

  /** A preempted row waits for its turn again, before everything that its tenant has in the queue. */
  preempt(sequence: Sequence): void {
    this.#queue.add(sequence, 'front');
  }

  /** Queued sequences, the next one to serve first. */
  queue(): Iterable<Sequence> {
    return this.#queue.ordered();
  }

  /** Removes a sequence: it ends before its turn, or was preempted and continues. */
  drop(sequence: Sequence): void {
    this.#queue.remove(sequence);
  }

  /**
   * The next step, or a swap of rows before it; null when there is nothing to run. A sequence chosen for its
   * first chunk has left the queue. Where chunks end does not depend on the load: their borders
   * decide a row's bits.
   */
  next(slots: SlotView, canSchedule: CanSchedule): Step | Swap | null {
    const { chunk, decodeStepsPerTurn } = this.#options;
    const goesOn = this.#read > 0 && this.#read <= chunk * (1 - WORTH_A_PROMPT);
    // Up to the last active slot: those behind it cost nothing.
    const rows = slots.rows.slice(0, 1 + slots.rows.findLastIndex((row) => !row.late));
    if (rows.length === 0 || goesOn || this.#decodesSinceTurn >= decodeStepsPerTurn) {
      const admitted =
        slots.prefilling === null
          ? this.#admit(slots, canSchedule)
          : this.#goOn(slots.prefilling.row, slots, canSchedule);
      if (admitted !== null && 'kind' in admitted) return admitted;
      if (admitted !== null) return this.#prefill(admitted, rows);
    }
    if (rows.length === 0) return null;
    this.#decodesSinceTurn += 1;
    this.#read = 0;
    return { kind: 'decode', rows };
  }

  /** @param rows that decode, and wait meanwhile unless they do so in the same run. */
  #prefill(sequence: Sequence, rows: readonly Sequence[]): PrefillStep {
    const { chunk, parts, doublingTokens, mixes } = this.#options;
    const from = sequence.state === 'ready' ? this.#cached(sequence) : sequence.length;
    const to = chunkEnd(sequence, from, chunk);
    const begin = sequence.partsRead;
    // Counted as it is read, not when it starts: otherwise the tenant would seem served more than it was.
    if (begin === 0) this.#queue.charge(sequence.tenant, (to - from) * PROMPT_TOKEN_WEIGHT);
    const cost = (to - from) * (1 + from / doublingTokens);
    const worth = cost >= chunk * LEAST_MIXED && cost <= chunk * MOST_MIXED;
    if (mixes && worth && rows.length > 0 && begin === 0 && this.#read === 0 && !sequence.readsStates(to)) {
      // It is a turn of reading and the decode step behind it.
      this.#decodesSinceTurn = 1;
      return { kind: 'prefill', sequence, from, to, parts: { from: 0, to: parts }, beside: rows };
    }
    const ofPart = cost / parts;
    const left = Math.max(0, chunk - this.#read);
    const count = rows.length > 0 ? Math.max(1, Math.floor(left / ofPart + NEARLY)) : parts;
    const end = Math.min(parts, begin + count);
    this.#decodesSinceTurn = 0;
    this.#read += (end - begin) * ofPart;
    return { kind: 'prefill', sequence, from, to, parts: { from: begin, to: end } };
  }

  /** `count` tokens were generated for the tenant. */
  generated(tenant: string, count: number): void {
    this.#queue.charge(tenant, count * OUTPUT_TOKEN_WEIGHT);
  }

  /** A row ended and its slot is free. */
  rowEnded(now: number): void {
    if (this.#lastEndAt !== null)
      this.#endIntervalMs += INTERVAL_WEIGHT * (now - this.#lastEndAt - this.#endIntervalMs);
    this.#lastEndAt = now;
  }

  #cached(sequence: Sequence): number {
    return sequence.mayReuse ? (this.#options.cached?.(sequence) ?? 0) : 0;
  }

  /**
   * @returns whose prompt is read next; or that it is preempted, for a shorter one of a tenant that was served
   * less.
   */
  #goOn(reading: Sequence, slots: SlotView, canSchedule: CanSchedule): Sequence | Swap {
    if (reading.partsRead > 0 || slots.swapFull || !mayMakeRoom(reading)) return reading;
    const counterOf = (tenant: string) => this.#queue.counterOf(tenant);
    for (const waiting of this.#queue.ordered()) {
      if (!waiting.runnable || !outranks(waiting, reading, counterOf)) continue;
      if (!canSchedule(waiting, reading)) continue;
      this.#chosen = waiting;
      return { kind: 'preempt', sequence: reading };
    }
    return reading;
  }

  /** @returns which sequence starts its prompt, returns to the batch, or leaves it for another. */
  #admit(slots: SlotView, canSchedule: CanSchedule): Sequence | Swap | null {
    let ready = [...this.#queue.ordered()].filter(({ runnable }) => runnable);
    if (ready.length === 0) return null;
    const shares = new RowShares({ slots: this.#options.slots, rows: slots.rows, ready });
    let chosen = this.#chosen?.runnable === true ? this.#chosen : null;
    this.#chosen = null;
    /** The first one without memory. */
    let passed: Sequence | null = null;
    for (;;) {
      const first: Sequence | null = chosen ?? shares.first(ready);
      if (first === null) return null;
      const sequence: Sequence = chosen === null && passed === null ? this.#kept(first, ready) : first;
      if (!slots.full && canSchedule(sequence))
        return this.#letIn(sequence, passed ?? (sequence === first ? null : first));
      const row = slots.swapFull
        ? null
        : shares.pickVictim(sequence.tenant, (of) => this.#queue.counterOf(of));
      if (row !== null && canSchedule(sequence, row)) return { kind: 'preempt', sequence: row };
      // It waits for a row; nobody has a better claim to one.
      if (slots.full && row === null) return null;
      passed ??= sequence;
      const waits = passed.bypassed >= PASSES_PER_SLOT * this.#options.slots;
      // Preempted rows return all the same: their memory is freed only when they continue.
      ready = ready.filter((other) => (!waits || other.state === 'preempted') && mayFit(other, sequence));
      chosen = null;
    }
  }

  /**
   * Prompts with one beginning are read one after the other, if reading another one in between would push that
   * beginning out. Each sequence is overtaken at most once per slot, and only by its own tenant's.
   * @returns the tenant's sequence of which most is kept; `first` if the order does not matter.
   */
  #kept(first: Sequence, ready: readonly Sequence[]): Sequence {
    const { slots, roomToKeep } = this.#options;
    if (first.state !== 'ready' || first.bypassed >= slots || roomToKeep?.(first) !== false) return first;
    const others = ready.filter(({ tenant, state }) => tenant === first.tenant && state === 'ready');
    let [best, most] = [first, this.#cached(first)];
    for (const other of others.slice(0, LOOK_FOR_KEPT * slots)) {
      const cached = this.#cached(other);
      if (cached > most) [best, most] = [other, cached];
    }
    return best;
  }

  #letIn(sequence: Sequence, passed: Sequence | null): Sequence | Swap {
    if (passed !== null) passed.bypassed += 1;
    if (sequence.state === 'preempted') return { kind: 'resume', sequence };
    this.#queue.remove(sequence);
    return sequence;
  }
}

/**
 * May `other` find memory in the batch although `sequence` found none? A preempted one already has that of its
 * keys and values.
 */
function mayFit(other: Sequence, sequence: Sequence): boolean {
  if (other.delta !== sequence.delta) return true;
  if (sequence.state === 'preempted') return false;
  return other.state === 'preempted' || other.reckonedTokens < sequence.reckonedTokens;
}

/** Queue positions used: a preempted row has one already. */
function placesOf(sequences: Iterable<Sequence>): number {
  let places = 0;
  for (const { state } of sequences) if (state !== 'preempted') places += 1;
  return places;
}

/** Cost of a served token. */
const PROMPT_TOKEN_WEIGHT = 1;
/** A generated token costs a step of its own; the paper's weights are 1 and 2. */
const OUTPUT_TOKEN_WEIGHT = 2;
/** Counters kept of tenants with nothing queued. */
const MAX_IDLE_TENANTS = 4_096;

/**
 * Who waits, and whose turn it is: the virtual token counter of "Fairness in Serving Large Language Models"
 * (Sheng et al., OSDI 2024, Algorithm 2). Each tenant's counter grows with its served tokens; the tenant with
 * the smallest goes first. A tenant that returns after a pause is raised to the smallest counter in the queue,
 * so that idleness cannot be saved up.
 */
export class FairQueue<Item extends { readonly tenant: string }> {
  readonly #queues = new Map<string, Item[]>();
  readonly #counters = new Map<string, number>();
  /** Counter of the tenant that left the queue last. */
  #lastLeft = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** A tenant's waiting sequences, in order. */
  of(tenant: string): readonly Item[] {
    return this.#queues.get(tenant) ?? [];
  }

  counterOf(tenant: string): number {
    return this.#counters.get(tenant) ?? 0;
  }

  /** @param at `front`: before all others of its tenant. */
  add(item: Item, at: 'front' | 'back' = 'back'): void {
    const queue = this.#queues.get(item.tenant);
    this.#size += 1;
    if (queue !== undefined) {
      if (at === 'front') queue.unshift(item);
      else queue.push(item);
      return;
    }
    const floor =
      this.#queues.size === 0
        ? this.#lastLeft
        : Math.min(...[...this.#queues.keys()].map((tenant) => this.counterOf(tenant)));
    this.#counters.set(item.tenant, Math.max(this.counterOf(item.tenant), floor));
    this.#queues.set(item.tenant, [item]);
    if (this.#counters.size > this.#queues.size + MAX_IDLE_TENANTS) this.#forget();
  }

  remove(item: Item): void {
    const queue = this.#queues.get(item.tenant);
    const at = queue?.indexOf(item) ?? -1;
    if (queue === undefined || at < 0) throw new Error('the item is not in the queue');
    queue.splice(at, 1);
    this.#size -= 1;
    if (queue.length > 0) return;
    this.#queues.delete(item.tenant);
    this.#lastLeft = this.counterOf(item.tenant);
  }

  /** @param cost weighted tokens that the tenant was served. */
  charge(tenant: string, cost: number): void {
    this.#counters.set(tenant, this.counterOf(tenant) + cost);
  }

  /** All waiting sequences: the least served tenant's first, then in order of arrival. */
  *ordered(): Generator<Item> {
    const tenants = [...this.#queues.keys()];
    if (tenants.length > 1) tenants.sort((a, b) => this.counterOf(a) - this.counterOf(b));
    for (const tenant of tenants) yield* [...(this.#queues.get(tenant) ?? [])];
  }

  /** Drops half of the idle tenants, the least served: their counters would be raised anyway. */
  #forget(): void {
    const idle = [...this.#counters].filter(([tenant]) => !this.#queues.has(tenant));
    idle.sort((a, b) => a[1] - b[1]);
    for (const [tenant] of idle.slice(0, MAX_IDLE_TENANTS / 2)) this.#counters.delete(tenant);
  }
}

/** What is known of a row, or of a waiting sequence. */
interface Owned {
  readonly tenant: string;
}

interface RunningRow extends Owned {
  /** Tokens of it in the KV cache. */
  readonly length: number;
  /** … and those added since it joined the batch, or returned to it. */
  readonly ran: number;
  /** It sits out steps: nothing is lost while another row has its slot. */
  readonly late?: boolean;
}

/**
 * A row advances by a sixteenth of its length, or by this many tokens, before it can be preempted: moving it
 * out and back costs 46 kB a token of the default base each way. For a row of 1,000 tokens that is 1 % of the
 * time of its 64 steps, for shorter ones less.
 */
const MAX_MIN_RUN_TOKENS = 64;
const MIN_RUN_SHARE = 1 / 16;
/**
 * A prompt is preempted only for one with at most this share of its remaining tokens: of two long ones the
 * first continues.
 */
const SHORTER_SHARE = 1 / 2;
/**
 * With more tenants than rows, a tenant without a row takes that of the most served tenant after this many
 * tokens: most answers end before.
 */
const TURN_TOKENS = 256;

/** Has it been in the batch long enough to be moved? */
const mayMakeRoom = ({ length, ran, late }: RunningRow): boolean =>
  late === true || ran >= Math.min(MAX_MIN_RUN_TOKENS, Math.ceil(length * MIN_RUN_SHARE));

interface Prompt extends RunningRow {
  readonly prompt: { readonly length: number };
}

const leftOf = ({ prompt, length }: Prompt): number => Math.max(0, prompt.length - length);

/**
 * May a prompt be preempted for waiting ones? Prompts are read one at a time, and a chunk of 128 tokens takes
 * about 100 ms on a processor with two cores: a short request would wait seconds for a prompt of 2,000.
 * @param counterOf weighted tokens served to a tenant.
 */
const outranks = (waiting: Prompt, reading: Prompt, counterOf: (tenant: string) => number): boolean =>
  waiting.tenant !== reading.tenant &&
  leftOf(waiting) <= leftOf(reading) * SHORTER_SHARE &&
  counterOf(waiting.tenant) <= counterOf(reading.tenant);

/**
 * How many rows of the batch each tenant may have while others wait, and whose row is preempted for them: rows
 * by tenant, and the even share among all that have or want rows.
 */
class RowShares<Row extends RunningRow> {
  readonly #rows: readonly Row[];
  readonly #counts = new Map<string, number>();
  /** Rows guaranteed to every tenant that wants them. */
  readonly #sure: number;
  /** Nobody has more while a tenant with fewer waits. */
  readonly #most: number;

  /**
   * @param params.rows of the batch; nobody is admitted while one of them is in prefill.
   * @param params.ready waiting sequences that could run at once.
   */
  constructor(params: { slots: number; rows: readonly Row[]; ready: Iterable<Owned> }) {
    const { slots, rows, ready } = params;
    this.#rows = rows;
    for (const { tenant } of rows) this.#counts.set(tenant, this.#of(tenant) + 1);
    const tenants = new Set(this.#counts.keys());
    for (const { tenant } of ready) tenants.add(tenant);
    this.#sure = Math.floor(slots / Math.max(1, tenants.size));
    this.#most = Math.ceil(slots / Math.max(1, tenants.size));
  }

  /**
   * Who gets the next free row.
   * @param ready in the order of the fair queue.
   * @returns the first whose tenant has fewer than its guaranteed rows; otherwise fewer than an even share
   * rounded up; otherwise the first of all: a free row must not stay idle.
   */
  first<Waiting extends Owned>(ready: Iterable<Waiting>): Waiting | null {
    let best: Waiting | null = null;
    let bestRank = Infinity;
    for (const waiting of ready) {
      const rank = this.#rank(waiting.tenant);
      if (rank < bestRank) [best, bestRank] = [waiting, rank];
      if (rank === 0) break;
    }
    return best;
  }

  /**
   * Which row to preempt so that one of `tenant` can run; null: none, it waits for one that ends. It is a row
   * of the tenant with most rows (among equals, the most served). Taking it brings both tenants nearer to an
   * even share, or gives a tenant without a row its turn, so that no row goes back and forth. Of that tenant's
   * rows it is the newest: older ones continue with their answers, as they would in the queue, and it is the
   * shortest to move.
   * @param served weighted tokens served to a tenant.
   */
  pickVictim(tenant: string, served: (tenant: string) => number): Row | null {
    const mine = this.#of(tenant);
    let chosen: Row | null = null;
    for (const row of this.#rows) {
      if (!this.#makesRoom(row, tenant, mine, served)) continue;
      if (chosen === null || this.#isBefore(row, chosen, served)) chosen = row;
    }
    return chosen;
  }

  #makesRoom(row: Row, tenant: string, mine: number, served: (tenant: string) => number): boolean {
    if (row.tenant === tenant || !mayMakeRoom(row)) return false;
    const theirs = this.#of(row.tenant);
    if (mine < this.#sure && theirs > this.#sure) return true;
    if (mine < this.#most && theirs > this.#most) return true;
    return mine === 0 && row.ran >= TURN_TOKENS && served(row.tenant) > served(tenant);
  }

  #isBefore(row: Row, other: Row, served: (tenant: string) => number): boolean {
    const byRows = this.#of(row.tenant) - this.#of(other.tenant);
    if (byRows !== 0) return byRows > 0;
    const byService = served(row.tenant) - served(other.tenant);
    if (byService !== 0) return byService > 0;
    return row.ran <= other.ran;
  }

  #rank(tenant: string): 0 | 1 | 2 {
    const rows = this.#of(tenant);
    if (rows < this.#sure) return 0;
    return rows < this.#most ? 1 : 2;
  }

  #of(tenant: string): number {
    return this.#counts.get(tenant) ?? 0;
  }
}
