/**
 * The Durable Object that counts an experiment's units and values in its SQLite, and the client that
 * distributes them over shards.
 */
import { z } from 'zod';
import { fnv1a } from '../../protocol/identity.ts';
import { askObject, type DurableNamespace, type ObjectSql, type SqlValue } from '../platform/store-calls.ts';
import {
  joinShards,
  ShardTally,
  COUNTS_SCHEMA,
  countsOf,
  createTallyCounts,
  createTallySegments,
  SEGMENT_SCHEMA,
  createTallySketches,
  SKETCH_SCHEMA,
} from './tally-tables.ts';
import { EXPOSURE_SKEW_MS, TALLY_KEPT_MS, TALLY_BATCH_MEMORY_MS, TALLY_CLEAN_MS } from './limits.ts';
import type { ExperimentTallies, EventMark } from './ports.ts';
import {
  meanOf,
  moveUnit,
  NO_RUNNING_MOMENTS,
  withRequest,
  type RunningMoments,
  type UnitValue,
} from './statistics/moments.ts';

const at = z.number();
const value = z.number();
/** Requests to the Durable Object. */
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

/** Objects that share an experiment's units; each writes about 500 events a second. */
export const TALLY_SHARDS = 8;

/** A unit's shard must never change during its experiment. */
export const tallyShardOf = (unit: string): number => fnv1a(unit) % TALLY_SHARDS;

/**
 * Tallies in Durable Objects (`ExperimentTally`), {@link TALLY_SHARDS} per experiment. A batch goes to the
 * shards of its units under one id: if one of them fails, the whole batch may be sent again.
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

/** Waits for all of them, even if one fails, so that none is left unawaited. */
async function allOf<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(work);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

/** The part of a Durable Object's storage that tallies use. */
export interface TallyStorage {
  readonly sql: ObjectSql;
  transactionSync<T>(work: () => T): T;
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown): Promise<void>;
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
  deleteAll(): Promise<void>;
}

const WRITTEN = 'written';
const ERASED = 'erased';
/** Precision of the last write's time, ms; it is compared with months. */
const WRITTEN_STEP_MS = 3_600_000;

/**
 * Counts the units of one shard of an experiment: a Durable Object runs in one place and one call at a time,
 * and each call is one transaction, so that a batch counts once and a token reports each metric once.
 */
export class ExperimentTally {
  readonly #storage: TallyStorage;
  readonly #now: () => number;
  #rows: TallyRows | null = null;
  #alarmed = false;
  /** null = not looked up yet. */
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
    // Outside of the transaction: tables created in it would be rolled back.
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

  /** Isolates that do not know yet may send for a minute or two: that is discarded. */
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

/** Moments are running sums: a snapshot reads one row per metric and variant, however many units there are. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS spent (
    token TEXT, metric TEXT, until INTEGER NOT NULL, PRIMARY KEY (token, metric)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS units (
    unit TEXT, seed TEXT, variant TEXT NOT NULL, PRIMARY KEY (unit, seed)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS counts (
    seed TEXT, variant TEXT, units INTEGER NOT NULL, PRIMARY KEY (seed, variant)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS unit_values (
    unit TEXT, seed TEXT, metric TEXT, n INTEGER NOT NULL, sum REAL NOT NULL, before REAL,
    PRIMARY KEY (unit, seed, metric)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS moments (
    seed TEXT, variant TEXT, metric TEXT, n INTEGER NOT NULL, sum REAL NOT NULL, sum_squares REAL NOT NULL,
    paired INTEGER NOT NULL, paired_sum REAL NOT NULL, pre_sum REAL NOT NULL, pre_sum_squares REAL NOT NULL,
    products REAL NOT NULL,
    PRIMARY KEY (seed, variant, metric)) WITHOUT ROWID;
`;

/** Placeholder for a variant; no variant's key is empty. */
const SHADOW = '';

const SUMS = `n, sum, sum_squares AS sumSquares, paired, paired_sum AS pairedSum, pre_sum AS preSum,
  pre_sum_squares AS preSumSquares, products`;

/** Where a unit is counted. */
interface Home {
  seed: string;
  variant: string;
  /** null = none: there is no such segment, or its rating arrived before its request. */
  segment: string | null;
}

interface UnitMove {
  was: UnitValue | null;
  is: UnitValue;
  value: number;
}

/** One shard's rows. Everything is synchronous: the object wraps each call into a transaction. */
function createTallyRows(sql: ObjectSql) {
  sql.exec(SCHEMA);
  const unitColumns = sql.exec('PRAGMA table_info(units)').toArray();
  if (!unitColumns.some(({ name }) => name === 'segment'))
    sql.exec('ALTER TABLE units ADD COLUMN segment TEXT');
  sql.exec(COUNTS_SCHEMA + SKETCH_SCHEMA + SEGMENT_SCHEMA);
  const counts = createTallyCounts(sql);
  const sketches = createTallySketches(sql);
  const segments = createTallySegments(sql);
  // The rows are those of this file's own statements.
  const all = <T>(query: string, ...bindings: SqlValue[]): T[] =>
    sql.exec(query, ...bindings).toArray() as T[];
  const first = <T>(query: string, ...bindings: SqlValue[]): T | null =>
    all<T>(query, ...bindings)[0] ?? null;

  /** @returns where it is counted, and whether it is new there. */
  function expose(unit: string, home: Pick<Home, 'seed' | 'variant'>): Home & { isNew: boolean } {
    const known = first<Home>(
      'SELECT seed, variant, segment FROM units WHERE unit = ? AND seed = ?',
      unit,
      home.seed,
    );
    if (known !== null) return { ...known, isNew: false };
    sql.exec('INSERT INTO units (unit, seed, variant) VALUES (?, ?, ?)', unit, home.seed, home.variant);
    sql.exec(
      `INSERT INTO counts (seed, variant, units) VALUES (?, ?, 1)
       ON CONFLICT (seed, variant) DO UPDATE SET units = units + 1`,
      home.seed,
      home.variant,
    );
    return { ...home, segment: null, isNew: true };
  }

  /** Reads and writes each row of moments, and each sketch, once per call. */
  function openMoments() {
    const open = new Map<string, { home: Home; metric: string; sums: RunningMoments }>();
    const sketched = sketches.open();
    const segmented = segments.open();
    return {
      segmented,
      /** Moves a unit from `was` (null = it is new) to `is`, after a new `value`. */
      move(home: Home, metric: string, { was, is, value }: UnitMove): void {
        const key = JSON.stringify([home.seed, home.variant, metric]);
        const sums =
          open.get(key)?.sums ??
          first<RunningMoments>(
            `SELECT ${SUMS} FROM moments WHERE seed = ? AND variant = ? AND metric = ?`,
            home.seed,
            home.variant,
            metric,
          ) ??
          NO_RUNNING_MOMENTS;
        open.set(key, { home, metric, sums: moveUnit(sums, was, is) });
        const from = was === null ? null : meanOf(was);
        sketched.move({ ...home, metric }, sums, { was: from, is: meanOf(is), told: value });
        const { segment } = home;
        if (segment !== null) segmented.move({ ...home, segment, metric }, { was: from, is: meanOf(is) });
      },
      write(): void {
        sketched.write();
        segmented.write();
        for (const { home, metric, sums } of open.values())
          sql.exec(
            `INSERT OR REPLACE INTO moments (seed, variant, metric, n, sum, sum_squares, paired, pre_sum,
             pre_sum_squares, products, paired_sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            home.seed,
            home.variant,
            metric,
            sums.n,
            sums.sum,
            sums.sumSquares,
            sums.paired,
            sums.preSum,
            sums.preSumSquares,
            sums.products,
            sums.pairedSum,
          );
      },
    };
  }
  type Moments = ReturnType<typeof openMoments>;

  /** In the segment of its first request, including ratings that arrived before it. */
  function settle<T extends Home>(moments: Moments, unit: string, home: T, said: string): T {
    if (home.segment !== null) return home;
    const segment = moments.segmented.take(home, said);
    sql.exec('UPDATE units SET segment = ? WHERE unit = ? AND seed = ?', segment, unit, home.seed);
    const told = all<UnitValue & { metric: string }>(
      'SELECT metric, n, sum, before FROM unit_values WHERE unit = ? AND seed = ?',
      ...[unit, home.seed],
    );
    for (const { metric, ...is } of told)
      moments.segmented.move({ ...home, segment, metric }, { was: null, is: meanOf(is) });
    return { ...home, segment };
  }

  function record(
    moments: Moments,
    unit: string,
    home: Home,
    told: { metric: string; value: number; before: number | null },
  ): void {
    const { metric, value, before } = told;
    const was = first<UnitValue>(
      'SELECT n, sum, before FROM unit_values WHERE unit = ? AND seed = ? AND metric = ?',
      unit,
      home.seed,
      metric,
    );
    const is = withRequest(was, value, before);
    sql.exec(
      'INSERT OR REPLACE INTO unit_values (unit, seed, metric, n, sum, before) VALUES (?, ?, ?, ?, ?, ?)',
      unit,
      home.seed,
      metric,
      is.n,
      is.sum,
      is.before,
    );
    moments.move(home, metric, { was, is, value });
  }

  return {
    /** All events, or nothing if the batch was added before. */
    add(batch: {
      id: string;
      at: number;
      events: readonly (Pick<Home, 'seed' | 'variant'> & {
        segment?: string | undefined;
        unit: string;
        values: Record<string, number>;
        shadow: boolean;
        marks: readonly EventMark[];
      })[];
    }): void {
      if (first('SELECT 1 FROM batches WHERE id = ?', batch.id) !== null) return;
      sql.exec('INSERT INTO batches (id, at) VALUES (?, ?)', batch.id, batch.at);
      const moments = openMoments();
      const counted = counts.open(batch.at);
      for (const { seed, variant, unit, values, shadow, marks, segment: said } of batch.events) {
        if (shadow) {
          for (const [metric, value] of Object.entries(values))
            moments.move({ seed, variant: SHADOW, segment: null }, metric, {
              ...{ was: null, is: withRequest(null, value, null), value },
            });
          continue;
        }
        const exposed = expose(unit, { seed, variant });
        const home = said === undefined ? exposed : settle(moments, unit, exposed, said);
        // A unit stays with its first variant, and another adapter's results do not count for it.
        if (home.variant !== variant) continue;
        counted.count(home, countsOf(marks, home.isNew));
        for (const [metric, value] of Object.entries(values))
          record(moments, unit, home, { metric, value, before: null });
      }
      moments.write();
      counted.write();
    },

    /**
     * The token proves the exposure, even if the exposure itself is late or lost. A unit's hash differs by
     * seed, so a known one belongs to the seed of its exposure, whatever the experiment's current one is.
     */
    feedback(
      ask: Pick<Home, 'seed' | 'variant'> & {
        token: string;
        expiresAt: number;
        unit: string;
        metric: string;
        value: number;
        before: number | null;
      },
    ): 'counted' | 'repeated' {
      const { token, metric, unit, variant, seed } = ask;
      if (first('SELECT 1 FROM spent WHERE token = ? AND metric = ?', token, metric) !== null)
        return 'repeated';
      sql.exec('INSERT INTO spent (token, metric, until) VALUES (?, ?, ?)', token, metric, ask.expiresAt);
      const exposedAs = first<Home>(
        'SELECT seed, variant, segment FROM units WHERE unit = ? ORDER BY seed = ? DESC LIMIT 1',
        unit,
        seed,
      );
      const home = exposedAs ?? expose(unit, { seed, variant });
      if (home.variant !== variant) return 'counted';
      const moments = openMoments();
      record(moments, unit, home, ask);
      moments.write();
      return 'counted';
    },

    /** Feedback for a metric that the experiment does not have. */
    refuse: counts.refuse,

    snapshot(seed: string): ShardTally {
      const units = all<{ variant: string; units: number }>(
        'SELECT variant, units FROM counts WHERE seed = ?',
        seed,
      );
      const rows = all<RunningMoments & { variant: string; metric: string }>(
        `SELECT variant, metric, ${SUMS} FROM moments WHERE seed = ?`,
        seed,
      );
      const tally: ShardTally = {
        units: Object.fromEntries(units.map(({ variant, units }) => [variant, units])),
        metrics: {},
        shadow: {},
        ...counts.of(seed),
        sketches: sketches
          .of(seed)
          .map(({ variant, ...of }) => ({ ...of, variant: variant === SHADOW ? null : variant })),
        segments: segments.of(seed),
      };
      for (const { variant, metric, ...sums } of rows)
        if (variant === SHADOW) tally.shadow[metric] = sums;
        else (tally.metrics[metric] ??= {})[variant] = sums;
      return tally;
    },

    /**
     * Deletes records that can no longer be repeated. @param batchesBefore unix ms. @param tokensBefore unix
     * ms.
     */
    forget({ batchesBefore, tokensBefore }: { batchesBefore: number; tokensBefore: number }): void {
      sql.exec('DELETE FROM batches WHERE at < ?', batchesBefore);
      sql.exec('DELETE FROM spent WHERE until < ?', tokensBefore);
    },
  };
}

type TallyRows = ReturnType<typeof createTallyRows>;
