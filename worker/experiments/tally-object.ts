import { z } from 'zod';
import { fnv1a } from '../../protocol/index.ts';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import { joinShards, ShardTally } from './join-shards.ts';
import { EXPOSURE_SKEW_MS, TALLY_KEPT_MS, TALLY_BATCH_MEMORY_MS, TALLY_CLEAN_MS } from './limits.ts';
import type { ExperimentTallies } from './ports.ts';
import type { TallySql } from './tally-counts.ts';
import { createTallyRows, type TallyRows } from './tally-rows.ts';

const at = z.number();
const value = z.number();
/** What the Durable Object is asked. */
const TallyCall = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('add'),
    id: z.string(),
    at,
    events: z.array(
      z.strictObject({
        seed: z.string(),
        variant: z.string(),
        unit: z.string(),
        values: z.record(z.string(), value),
        shadow: z.boolean(),
        marks: z.array(z.enum(['answered', 'nameless', 'cold'])).default([]),
        segment: z.string().optional(),
      }),
    ),
  }),
  z.strictObject({
    call: z.literal('feedback'),
    at,
    token: z.string(),
    expiresAt: at,
    seed: z.string(),
    variant: z.string(),
    unit: z.string(),
    metric: z.string(),
    value,
    before: value.nullable(),
  }),
  z.strictObject({ call: z.literal('refused'), at, seed: z.string(), metric: z.string() }),
  z.strictObject({ call: z.literal('snapshot'), seed: z.string() }),
  z.strictObject({ call: z.literal('erase') }),
]);
type TallyCall = z.infer<typeof TallyCall>;

const Fed = z.enum(['counted', 'repeated']);

/** Objects that share an experiment's units among them; each writes some 500 events a second. */
export const TALLY_SHARDS = 8;

/** A unit's shard must never change while its experiment lasts. */
export const tallyShardOf = (unit: string): number => fnv1a(unit) % TALLY_SHARDS;

/**
 * Tallies in Durable Objects (`ExperimentTally`), {@link TALLY_SHARDS} an experiment. A batch goes to
 * the shards of its units under its one id: when one of them did not take it, the whole may be sent again.
 */
export function createDoTallies(params: {
  namespace: DurableNamespace;
  timeoutMs: number;
}): ExperimentTallies {
  const { namespace, timeoutMs } = params;

  const ask = <T>(experiment: string, shard: number, call: TallyCall, schema: z.ZodType<T>): Promise<T> =>
    askObject({
      ...{ namespace, name: `${experiment}/${shard}`, what: 'tally', call, timeoutMs },
      parse: (answer) => schema.parse(answer),
    });

  return {
    async add(experiment, batch) {
      const shards = new Map<number, Extract<TallyCall, { call: 'add' }>>();
      for (const { seed, variant, unit, values, shadow, marks = [], segment } of batch.events) {
        const shard = tallyShardOf(unit);
        const call = shards.get(shard) ?? { call: 'add', id: batch.id, at: batch.at, events: [] };
        shards.set(shard, call);
        const more = segment === undefined ? {} : { segment };
        call.events.push({ seed, variant, unit, values: { ...values }, shadow, marks: [...marks], ...more });
      }
      await allOf([...shards].map(([shard, call]) => ask(experiment, shard, call, z.null())));
    },
    feedback: (
      experiment,
      { at: asked, token, expiresAt, seed, variant, unit, metric, value: told, before },
    ) =>
      ask(
        experiment,
        tallyShardOf(unit),
        { call: 'feedback', at: asked, token, expiresAt, seed, variant, unit, metric, value: told, before },
        Fed,
      ),
    async refused(experiment, { at: asked, seed, unit, metric }) {
      const call: TallyCall = { call: 'refused', at: asked, seed, metric };
      await ask(experiment, tallyShardOf(unit), call, z.null());
    },
    async erase(experiment) {
      const shards = Array.from({ length: TALLY_SHARDS }, (_, shard) => shard);
      await allOf(shards.map((shard) => ask(experiment, shard, { call: 'erase' }, z.null())));
    },
    async snapshot(experiment, seed) {
      const shards = Array.from({ length: TALLY_SHARDS }, (_, shard) => shard);
      return joinShards(
        await allOf(shards.map((shard) => ask(experiment, shard, { call: 'snapshot', seed }, ShardTally))),
      );
    },
  };
}

/** Waits for all of them, also when one fails: none is left behind that nobody waits for. */
async function allOf<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(work);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

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
