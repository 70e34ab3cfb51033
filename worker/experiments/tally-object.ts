import { EXPOSURE_SKEW_MS, TALLY_KEPT_MS, TALLY_BATCH_MEMORY_MS, TALLY_CLEAN_MS } from './limits.ts';

import { TallyCall } from './do-tallies.ts';
import { createTallyRows, type TallyRows } from './tally-rows.ts';
import type { TallySql } from './tally-counts.ts';

/** The part of a Durable Object's storage that tallies use. */
export interface TallyStorage {
  readonly sql: TallySql;
  transactionSync<T>(work: () => T): T;
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown): Promise<void>;
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
  deleteAll(): Promise<void>;
}

const WRITTEN = 'written';
const ERASED = 'erased';
/** How exactly the last write's time is kept, ms; it is compared with months. */
const WRITTEN_STEP_MS = 3_600_000;

/**
 * Counts the units of one shard of an experiment: a Durable Object runs in one place and one call at a time, and each
 * call is one transaction, so that a batch counts once and a token gives each metric once.
 */
export class ExperimentTally {
  readonly #storage: TallyStorage;
  readonly #now: () => number;
  #rows: TallyRows | null = null;
  #alarmed = false;
  /** null = not looked for yet. */
  #erased: boolean | null = null;
  #written = -Infinity;

  /** @param parts given by tests. */
  constructor(context: { storage: TallyStorage }, _env?: unknown, parts?: { now: () => number }) {
    this.#storage = context.storage;
    this.#now = parts?.now ?? Date.now;
  }

  async fetch(request: Request): Promise<Response> {
    const call = TallyCall.parse(await request.json());
    if (call.call === 'erase') {
      await this.#erase();
      return Response.json(null);
    }
    if (call.call !== 'snapshot' && (await this.#isErased()))
      return Response.json(call.call === 'feedback' ? 'counted' : null);
    // Outside of the transaction: tables that it made would be undone with it.
    const rows = this.#open();
    if (call.call === 'snapshot') return Response.json(rows.snapshot(call.seed));
    const answer = this.#storage.transactionSync(() => {
      if (call.call === 'feedback') return rows.feedback(call);
      if (call.call === 'refused') rows.refuse(call);
      else rows.add(call);
      return null;
    });
    await this.#noteWrite();
    return Response.json(answer);
  }

  async alarm(): Promise<void> {
    const now = this.#now();
    const written = Number((await this.#storage.get(WRITTEN)) ?? 0);
    if (now - written > TALLY_KEPT_MS || (await this.#isErased())) {
      await this.#storage.deleteAll();
      this.#rows = null;
      this.#alarmed = false;
      this.#erased = false;
      this.#written = -Infinity;
      return;
    }
    this.#open().forget({
      batchesBefore: now - TALLY_BATCH_MEMORY_MS,
      tokensBefore: now - EXPOSURE_SKEW_MS,
    });
    await this.#storage.setAlarm(now + TALLY_CLEAN_MS);
  }

  /** Isolates that have not heard of it yet may go on sending for a minute or two: that is thrown away. */
  async #erase(): Promise<void> {
    await this.#storage.deleteAll();
    this.#rows = null;
    await this.#storage.put(ERASED, true);
    this.#erased = true;
    this.#alarmed = true;
    await this.#storage.setAlarm(this.#now() + TALLY_CLEAN_MS);
  }

  async #isErased(): Promise<boolean> {
    return (this.#erased ??= (await this.#storage.get(ERASED)) === true);
  }

  #open(): TallyRows {
    return (this.#rows ??= createTallyRows(this.#storage.sql));
  }

  async #noteWrite(): Promise<void> {
    const now = this.#now();
    if (now - this.#written >= WRITTEN_STEP_MS) {
      this.#written = now;
      await this.#storage.put(WRITTEN, now);
    }
    if (this.#alarmed) return;
    this.#alarmed = true;
    if ((await this.#storage.getAlarm()) === null) await this.#storage.setAlarm(now + TALLY_CLEAN_MS);
  }
}
