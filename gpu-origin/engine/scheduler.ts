import { FairQueue, OUTPUT_TOKEN_WEIGHT, PROMPT_TOKEN_WEIGHT } from './fair-queue.ts';
import type { Sequence } from './sequence.ts';

/** Feeds prompt tokens `from` … `to`-1 of one sequence. */
export interface PrefillStep {
  readonly kind: 'prefill';
  readonly sequence: Sequence;
  readonly from: number;
  readonly to: number;
}

/** One token for each row; the index is the slot. */
export interface DecodeStep {
  readonly kind: 'decode';
  readonly rows: readonly Sequence[];
}

export type Step = PrefillStep | DecodeStep;

export interface SchedulerOptions {
  readonly slots: number;
  /** Prefill chunk, tokens. */
  readonly chunk: number;
  /** Requests that may wait or load at once. */
  readonly maxQueue: number;
  /** Decode steps between two chunks: more is smoother for who decodes, slower for who begins. */
  readonly decodeStepsPerChunk: number;
}

/** What the scheduler sees of the slots. */
export interface SlotView {
  readonly rows: readonly Sequence[];
  readonly prefilling: { readonly row: Sequence } | null;
  readonly full: boolean;
}

/** Bounds of the answer to "when shall I come back?", ms. */
const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** Weight of the newest interval between two ends in their moving average. */
const INTERVAL_WEIGHT = 0.1;
/** Guess before the first two ends, ms. */
const FIRST_INTERVAL_MS = 500;

/** Decides what runs next. Pure: time and the slots' state come in, nothing goes out. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #queue = new FairQueue<Sequence>();
  #decodesSinceChunk = 0;
  #lastEndAt: number | null = null;
  #endIntervalMs = FIRST_INTERVAL_MS;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#decodesSinceChunk = options.decodeStepsPerChunk;
  }

  /** Requests that wait or load. */
  get queued(): number {
    return this.#queue.size;
  }

  /**
   * A tenant with nothing queued gets in although the queue is full, within a reserve of one request a slot: else
   * whoever fills the queue shuts all others out.
   * @returns null when `tenant` may queue `rows` more sequences, else when to come back, ms; `never` when so many do
   * not fit an empty queue either.
   */
  refuse(tenant: string, rows = 1): number | 'never' | null {
    const { maxQueue, slots } = this.#options;
    if (rows > maxQueue + slots) return 'never';
    const limit = this.#queue.sizeOf(tenant) === 0 ? maxQueue + slots : maxQueue;
    if (this.#queue.size + rows <= limit) return null;
    const wait = this.#endIntervalMs * this.#queue.size;
    return Math.round(Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, wait)));
  }

  add(sequence: Sequence): void {
    this.#queue.add(sequence);
  }

  /** Queued sequences, the next one to be served first. */
  queue(): Iterable<Sequence> {
    return this.#queue.ordered();
  }

  /** Takes a sequence out that ends before it ran. */
  drop(sequence: Sequence): void {
    this.#queue.remove(sequence);
  }

  /**
   * The next step; null when there is nothing to run. A sequence that is chosen for its first chunk has left the queue.
   * Chunks begin at multiples of `chunk` whatever the load is: their borders decide a row's bits.
   */
  next(slots: SlotView): Step | null {
    const { chunk, decodeStepsPerChunk } = this.#options;
    if (slots.rows.length === 0 || this.#decodesSinceChunk >= decodeStepsPerChunk) {
      const sequence = slots.prefilling?.row ?? (slots.full ? null : this.#admit());
      if (sequence !== null) {
        this.#decodesSinceChunk = 0;
        const from = sequence.length;
        return { kind: 'prefill', sequence, from, to: Math.min(from + chunk, sequence.prompt.length) };
      }
    }
    if (slots.rows.length === 0) return null;
    this.#decodesSinceChunk += 1;
    return { kind: 'decode', rows: slots.rows };
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

  #admit(): Sequence | null {
    for (const sequence of this.#queue.ordered()) {
      if (sequence.state !== 'ready') continue;
      this.#queue.remove(sequence);
      this.#queue.charge(sequence.tenant, sequence.prompt.length * PROMPT_TOKEN_WEIGHT);
      return sequence;
    }
    return null;
  }
}
