import type { ChainEntry } from '../../../protocol/index.ts';
import { bytesOf, isHeld, type Entry, type Lease } from './adapter-entry.ts';
import type { ChainDeltas } from './chain-deltas.ts';
import type { BatchRows, ModelRunner, RowDelta } from '../ports.ts';

/** Buffers of the batch are kept while at least this share of them is needed; below it they go before any adapter. */
const KEEP_BATCH_SHARE = 0.5;

export const NO_ROWS: BatchRows = { rows: 0, deltas: [] };

/** What these rows are to a batch's memory. */
export function batchOf(rows: readonly { readonly delta: RowDelta | null }[]): BatchRows {
  return { rows: rows.length, deltas: rows.flatMap(({ delta }) => delta ?? []) };
}

/**
 * What counts in the budget for adapters: ready adapters, deltas that were composed of them, and the decode batch, whose
 * rows are all padded to the largest rank among them. A part of it is _held_: by requests, by pins and by the rows.
 */
export class AdapterMemory {
  readonly budget: number;
  readonly #runner: ModelRunner;
  readonly #deltas: ChainDeltas;
  #batch = NO_ROWS;
  #readyBytes = 0;
  #heldBytes = 0;
  /** Largest adapter so far: what one that is not loaded yet is taken to need. */
  #largest = 0;

  constructor(params: { budgetBytes: number; runner: ModelRunner; deltas: ChainDeltas }) {
    this.budget = params.budgetBytes;
    this.#runner = params.runner;
    this.#deltas = params.deltas;
  }

  /** Bytes in use, those that the batch is about to take included. */
  get used(): number {
    const batch = Math.max(this.#runner.batchHeldBytes, this.#runner.batchBytes(this.#batch));
    return this.#readyBytes + this.#deltas.bytes + batch;
  }

  /** @param loads that are under way. */
  isOver(loads: number): boolean {
    return this.used + loads * this.#largest > this.budget;
  }

  /** @param batch the rows that have a slot of the batch now, the one in prefill included. */
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

  /** Keeps the held bytes right while an entry's references, pin or status change. */
  changeHold(entry: Entry, change: () => void): void {
    const before = isHeld(entry) ? bytesOf(entry) : 0;
    change();
    this.#heldBytes += (isHeld(entry) ? bytesOf(entry) : 0) - before;
  }

  /** May the batch grow to `then`? What it needs must fit beside all that is held; one row always may. */
  fits(then: BatchRows, loads: number): boolean {
    if (then.rows <= 1) return true;
    const bytes = this.#runner.batchBytes(then);
    // Who makes it no larger takes nothing from anybody, even where a chain that was let in alone exceeds the budget.
    if (bytes <= this.#runner.batchBytes(this.#batch)) return true;
    return this.#held(loads) + bytes <= this.budget;
  }

  /**
   * Is there room to hold one more chain, and for all that hold theirs to run in one batch, as far as it has rows?
   * Without the second, adapters of requests that only wait would leave the batch a row or two.
   * @param params.entries of the chain's adapters that are there; @param params.absent how many are not.
   * @param params.loads under way and to come.
   */
  roomToHold(params: {
    chainId: string;
    chain: readonly ChainEntry[];
    entries: readonly Entry[];
    absent: number;
    loads: number;
    leases: ReadonlySet<Lease>;
  }): boolean {
    const { chainId, chain, entries, absent, loads, leases } = params;
    let delta = absent * this.#largest;
    let more = delta;
    for (const entry of entries) {
      delta += bytesOf(entry);
      if (!isHeld(entry)) more += bytesOf(entry);
    }
    const copied = chain.length > 1 || chain[0]?.scale !== 1;
    more += this.#deltas.bytesToUse(chainId) ?? (copied ? delta : 0);
    const rows = Math.min(this.#runner.slots, Math.max(leases.size, this.#batch.rows) + 1);
    const deltas: RowDelta[] = [];
    for (const { outcome } of leases) if (outcome?.ok === true) deltas.push(outcome.value);
    const padded = rows > 1 ? Math.max(this.#runner.batchBytes({ rows, deltas }), rows * delta) : 0;
    return this.#held(loads) + more + padded <= this.budget;
  }

  /**
   * Gives back what the batch's buffers hold beyond what its rows need.
   * @param always false: only where most of it is not needed.
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
