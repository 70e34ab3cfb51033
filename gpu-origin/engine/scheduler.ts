import {
  FairQueue,
  OUTPUT_TOKEN_WEIGHT,
  PROMPT_TOKEN_WEIGHT,
  goesBefore,
  mayMakeRoom,
  RowShares,
} from './fair-shares.ts';
import type { ChunkParts } from './ports.ts';
import type { Sequence } from './sequence.ts';

/** Feeds prompt tokens `from` … `to`-1 of one sequence, or some parts of it. */
export interface PrefillStep {
  readonly kind: 'prefill';
  readonly sequence: Sequence;
  readonly from: number;
  readonly to: number;
  readonly parts: ChunkParts;
}

/** One token for each row that is not late; the index is the slot. */
export interface DecodeStep {
  readonly kind: 'decode';
  readonly rows: readonly Sequence[];
}

/** What the model runs. */
export type Step = PrefillStep | DecodeStep;

/** A row leaves the batch for another tenant's, or comes back to it: between two steps. */
export interface Swap {
  readonly kind: 'park' | 'resume';
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
  /** Reading behind so many tokens takes twice as long as at the beginning of a prompt. */
  readonly doublingTokens: number;
  /** Decode steps between two turns of reading: more is smoother for who decodes, slower for who begins. */
  readonly decodeStepsPerTurn: number;
  /** Tokens of a prompt that are kept and need not be read; none unless given. */
  readonly cached?: (sequence: Sequence) => number;
}

/**
 * Is there memory for a sequence in the batch? @param without a row that would leave it.
 */
export type Fits = (sequence: Sequence, without?: Sequence) => boolean;

/** What the scheduler sees of the slots. */
export interface SlotView {
  readonly rows: readonly Sequence[];
  readonly prefilling: { readonly row: Sequence } | null;
  readonly full: boolean;
  readonly parkingFull: boolean;
}

/** Bounds of the answer to "when shall I come back?", ms. */
const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** Weight of the newest interval between two ends in their moving average. */
const INTERVAL_WEIGHT = 0.1;
/** Guess before the first two ends, ms. */
const FIRST_INTERVAL_MS = 500;
/** A tenant has at most this share of the queue while others wait or run. */
const QUEUE_SHARE = 1 / 4;

/** A turn goes on with another prompt while so much of it is left. */
const WORTH_A_PROMPT = 1 / 2;

/** Of a part that is left over, what is not worth a turn of its own. */
const NEARLY = 1 / 4;

/** Who finds no memory in the batch is passed by so many others, for each slot; then nobody new is let in before it. */
const PASSES_PER_SLOT = 2;

/** Decides what runs next. Pure: time, the slots' state and what fits come in, nothing goes out. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #queue = new FairQueue<Sequence>();
  /** What a prompt was set aside for: it is next, whatever its share. */
  #chosen: Sequence | null = null;
  #decodesSinceTurn = 0;
  /**
   * What was read in this turn, in tokens at the beginning of a prompt. A turn is as long as one chunk there: rows that
   * decode wait no longer between two steps, however long the prompt is, and two short prompts share it.
   */
  #read = 0;
  #lastEndAt: number | null = null;
  #endIntervalMs = FIRST_INTERVAL_MS;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#decodesSinceTurn = options.decodeStepsPerTurn;
  }

  /** Requests that wait or load; not rows that are set aside. */
  get queued(): number {
    return placesOf(this.#queue.ordered());
  }

  /**
   * Whoever comes first may fill the queue while nobody else is there. From then on a tenant has a quarter of it: who
   * has more gets nothing more in, and who has less gets in although it is full, up to twice its size in all. One
   * request of a tenant without any gets in even if its answers are more than a quarter.
   * @param alone no other tenant waits or runs.
   * @returns null when `tenant` may queue `rows` more sequences, else when to come back, ms; `never` when so many do
   * not fit an empty queue either.
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

  /** A row that was set aside waits for its turn again, before all that its tenant has in the queue. */
  park(sequence: Sequence): void {
    this.#queue.add(sequence, 'front');
  }

  /** Queued sequences, the next one to be served first. */
  queue(): Iterable<Sequence> {
    return this.#queue.ordered();
  }

  /** Takes a sequence out: it ends before its turn, or was set aside and goes on. */
  drop(sequence: Sequence): void {
    this.#queue.remove(sequence);
  }

  /**
   * The next step, or a swap of rows before it; null when there is nothing to run. A sequence that is chosen for its
   * first chunk has left the queue. Chunks begin at multiples of `chunk` whatever the load is: their borders decide a row's bits.
   */
  next(slots: SlotView, fits: Fits): Step | Swap | null {
    const { chunk, decodeStepsPerTurn } = this.#options;
    const goesOn = this.#read > 0 && this.#read <= chunk * (1 - WORTH_A_PROMPT);
    // Up to the last one that has something to do: those behind it cost nothing.
    const rows = slots.rows.slice(0, 1 + slots.rows.findLastIndex((row) => !row.late));
    if (rows.length === 0 || goesOn || this.#decodesSinceTurn >= decodeStepsPerTurn) {
      const admitted =
        slots.prefilling === null ? this.#admit(slots, fits) : this.#goOn(slots.prefilling.row, slots, fits);
      if (admitted !== null && 'kind' in admitted) return admitted;
      if (admitted !== null) return this.#prefill(admitted, rows.length > 0);
    }
    if (rows.length === 0) return null;
    this.#decodesSinceTurn += 1;
    this.#read = 0;
    return { kind: 'decode', rows };
  }

  /** @param beside rows decode, and wait meanwhile. */
  #prefill(sequence: Sequence, beside: boolean): PrefillStep {
    const { chunk, parts, doublingTokens } = this.#options;
    const from = sequence.state === 'ready' ? this.#cached(sequence) : sequence.length;
    const to = Math.min(from + chunk, sequence.prompt.length);
    const begin = sequence.partsRead;
    // As it is read, not when it begins: who asks in between would else count as served more than it was.
    if (begin === 0) this.#queue.charge(sequence.tenant, (to - from) * PROMPT_TOKEN_WEIGHT);
    const ofPart = ((to - from) * (1 + from / doublingTokens)) / parts;
    const left = Math.max(0, chunk - this.#read);
    const count = beside ? Math.max(1, Math.floor(left / ofPart + NEARLY)) : parts;
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

  /** @returns whose prompt is read on; or that it makes room, for a shorter one of somebody who was served less. */
  #goOn(reading: Sequence, slots: SlotView, fits: Fits): Sequence | Swap {
    if (reading.partsRead > 0 || slots.parkingFull || !mayMakeRoom(reading)) return reading;
    const counterOf = (tenant: string) => this.#queue.counterOf(tenant);
    for (const waiting of this.#queue.ordered()) {
      if (!waiting.runnable || !goesBefore(waiting, reading, counterOf)) continue;
      if (!fits(waiting, reading)) continue;
      this.#chosen = waiting;
      return { kind: 'park', sequence: reading };
    }
    return reading;
  }

  /** @returns who begins its prompt; or who comes back to the batch, or leaves it for another. */
  #admit(slots: SlotView, fits: Fits): Sequence | Swap | null {
    let ready = [...this.#queue.ordered()].filter(({ runnable }) => runnable);
    if (ready.length === 0) return null;
    const shares = new RowShares({ slots: this.#options.slots, rows: slots.rows, ready });
    let chosen = this.#chosen?.runnable === true ? this.#chosen : null;
    this.#chosen = null;
    /** The first that finds no memory. */
    let passed: Sequence | null = null;
    for (;;) {
      const sequence: Sequence | null = chosen ?? shares.first(ready);
      if (sequence === null) return null;
      if (!slots.full && fits(sequence)) return this.#letIn(sequence, passed);
      const row = slots.parkingFull
        ? null
        : shares.toSetAside(sequence.tenant, (of) => this.#queue.counterOf(of));
      if (row !== null && fits(sequence, row)) return { kind: 'park', sequence: row };
      // It waits for a row; nobody has a better claim to one.
      if (slots.full && row === null) return null;
      passed ??= sequence;
      const waits = passed.bypassed >= PASSES_PER_SLOT * this.#options.slots;
      // Rows that are set aside come back all the same: what they hold is given back only when they go on.
      ready = ready.filter((other) => (!waits || other.state === 'parked') && mayFit(other, sequence));
      chosen = null;
    }
  }

  #letIn(sequence: Sequence, passed: Sequence | null): Sequence | Swap {
    if (passed !== null) passed.bypassed += 1;
    if (sequence.state === 'parked') return { kind: 'resume', sequence };
    this.#queue.remove(sequence);
    return sequence;
  }
}

/** May `other` find memory in the batch where `sequence` has found none? One that is set aside has its keys' and values'. */
function mayFit(other: Sequence, sequence: Sequence): boolean {
  if (other.delta !== sequence.delta) return true;
  if (sequence.state === 'parked') return false;
  return other.state === 'parked' || other.reckonedTokens < sequence.reckonedTokens;
}

/** Places in the queue: a row that is set aside has one already. */
function placesOf(sequences: Iterable<Sequence>): number {
  let places = 0;
  for (const { state } of sequences) if (state !== 'parked') places += 1;
  return places;
}
