/** The Durable Object that keeps what isolates have counted, and gives D1 the sums; and its client. */
import { z } from 'zod';
import { MAX_KEPT_REQUESTS, RequestView } from '../../protocol/admin-api/traffic.ts';
import { fnv1aMixed } from '../../protocol/identity.ts';
import { logLine, reasonOf } from '../log.ts';
import { createD1KeptPrompts } from '../prompts/d1-kept-prompts.ts';
import type { KeptPrompts, PromptRow } from '../prompts/ports.ts';
import { createD1Usage } from '../metering/d1-usage.ts';
import { USAGE_BATCH_MEMORY_MS } from '../metering/limits.ts';
import { type UsageLedger, UsageRow } from '../metering/ports.ts';
import { guardDatabase, type SqlDatabase } from '../platform/d1-database.ts';
import {
  askObject,
  flushMs,
  type DurableNamespace,
  type ObjectSql,
  type SqlValue,
} from '../platform/store-calls.ts';
import { createD1Traffic } from '../traffic/d1-traffic.ts';
import {
  GATHERED_S,
  KEPT_S,
  MAX_BATCH_REQUESTS,
  MAX_NAMED_ROWS,
  MAX_NAMED_SERIES,
  REQUESTS_KEPT_MS,
  ROLL_UP_AFTER_S,
  TRAFFIC_GROUPS,
} from '../traffic/limits.ts';
import { packRequests, packRow, type PackedRow, unpackRequests, unpackRow } from '../traffic/pack-traffic.ts';
import type {
  RequestChunk,
  TrafficLedger,
  TrafficPoint,
  TrafficQuery,
  TrafficRow,
} from '../traffic/ports.ts';
import {
  addRequests,
  addTraffic,
  BUCKETS,
  boundNames,
  type TrafficRows,
  UNNAMED,
} from '../traffic/sum-traffic.ts';
import {
  FULL_WRITE_ROWS,
  GATHERED_ROW_BYTES,
  GATHERER_COMMIT_MS,
  GATHERER_QUIET_MS,
  GATHERER_RETRY_MS,
  GATHERER_SHARDS,
  GATHERER_SHOW_MS,
  GATHERER_SPREAD_MS,
  GATHERER_WRITE_MS,
  LARGE_TENANT_MINUTE_ROWS,
  LOOKED_ROWS,
  PROMPT_WRITE_MS,
  SENDER_KEPT_MS,
  SENDER_LISTS,
  SENDERS_IN_ROW,
  SUMMED_BYTES,
  WRITTEN_BYTES,
  WRITTEN_ROWS,
} from './limits.ts';
import { shardOf } from './parts.ts';
import type { ForgottenTraces, Gatherers } from './ports.ts';
import { addUsage, packUsage, sumUsage, unpackUsage } from './sum-usage.ts';

const count = z.int().min(0);
const Prompt: z.ZodType<PromptRow> = z.object({
  tenant: z.string(),
  at: count,
  id: z.string(),
  keyId: z.string(),
  name: z.string(),
  sealed: z.string(),
  user: z.string(),
});
const sparse = z.array(count).max(2 * BUCKETS);
const Packed: z.ZodType<PackedRow> = z.tuple([
  ...([count, z.string(), z.string(), z.string(), z.int(), z.string()] as const),
  ...([count, count, count, sparse, sparse] as const),
]);
const Chunk: z.ZodType<RequestChunk> = z.object({
  ...{ tenant: z.string(), requests: z.array(RequestView), leftOut: count },
});
const Chunks = z.array(Chunk);
const histogram = z.array(count).length(BUCKETS);
const Points: z.ZodType<TrafficPoint[]> = z.array(
  z.object({
    ...{ at: count, status: z.int(), code: z.string(), requests: count },
    ...{ promptTokens: count, completionTokens: count, ttft: histogram, duration: histogram },
  }),
);
const LargeTenants = z.array(z.string());
const Forgotten = z.object({ traffic: count, requests: count });
const nothing = (): void => undefined;

const GathererCall = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('add'),
    sender: z.string(),
    number: z.int().min(1),
    usage: z.array(UsageRow),
    traffic: z.array(Packed),
    requests: Chunks,
  }),
  z.strictObject({ call: z.literal('write') }),
  z.strictObject({ call: z.literal('show'), tenant: z.string().nullable() }),
  z.strictObject({ call: z.literal('keep'), prompts: z.array(Prompt) }),
  z.strictObject({ call: z.literal('show-prompts') }),
  z.strictObject({
    ...{ call: z.literal('traffic'), tenant: z.string().nullable(), name: z.string().nullable() },
    ...{ keyId: z.string().nullable(), from: z.number(), to: z.number(), step: z.int().min(60) },
  }),
  z.strictObject({ call: z.literal('requests'), tenant: z.string().nullable(), limit: count }),
  z.strictObject({
    ...{ call: z.literal('forget'), tenant: z.string().nullable(), names: z.array(z.string()), until: count },
  }),
]);
type GathererCall = z.infer<typeof GathererCall>;

/** Gatherers in Durable Objects (`Gatherer`). */
export function createDoGatherers(params: {
  namespace: DurableNamespace;
  timeoutMs: number;
  writeTimeoutMs: number;
}): Gatherers {
  const { namespace, timeoutMs, writeTimeoutMs } = params;
  const ask = <T>(shard: number, call: GathererCall, ms: number, parse: (answer: unknown) => T): Promise<T> =>
    askObject({
      ...{ namespace, name: `shard-${shard}`, what: 'gatherer', call, timeoutMs: ms, parse },
    });
  const askAll = <T>(
    call: GathererCall,
    parse: (answer: unknown) => T,
    ms: number = writeTimeoutMs,
  ): Promise<T[]> =>
    Promise.all(Array.from({ length: GATHERER_SHARDS }, (_, shard) => ask(shard, call, ms, parse)));
  return {
    add: (shard, { traffic, ...batch }) =>
      ask(shard, { call: 'add', ...batch, traffic: traffic.map(packRow) }, timeoutMs, (answer) =>
        LargeTenants.parse(answer),
      ),
    async writeOut() {
      await askAll({ call: 'write' }, nothing);
    },
    async showUsage(tenant) {
      await askAll({ call: 'show', tenant }, nothing, timeoutMs);
    },
    async keepPrompts(rows) {
      const shards = new Map<number, PromptRow[]>();
      for (const row of rows) {
        const shard = shardOf(row.tenant);
        shards.set(shard, [...(shards.get(shard) ?? []), row]);
      }
      await Promise.all(
        [...shards].map(([shard, prompts]) => ask(shard, { call: 'keep', prompts }, timeoutMs, nothing)),
      );
    },
    async showPrompts(tenant) {
      await ask(shardOf(tenant), { call: 'show-prompts' }, timeoutMs, nothing);
    },
    // A large tenant may be in any of them.
    traffic: async (query) =>
      (await askAll({ call: 'traffic', ...query }, (answer) => Points.parse(answer))).flat(),
    requests: async (of) =>
      (await askAll({ call: 'requests', ...of }, (answer) => Chunks.parse(answer))).flat(),
    async forget({ tenant, names, until }) {
      const call = { call: 'forget' as const, tenant, names: [...names], until };
      const went = await askAll(call, (answer) => Forgotten.parse(answer));
      return {
        traffic: went.reduce((sum, { traffic }) => sum + traffic, 0),
        requests: went.reduce((sum, { requests }) => sum + requests, 0),
      };
    },
  };
}

/** The part of a Durable Object's storage that it uses. */
export interface GathererStorage {
  readonly sql: ObjectSql;
  transactionSync<T>(work: () => T): T;
  /** Resolves once everything written before is on disk. */
  sync(): Promise<void>;
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
}

/**
 * - `batches`: a row for each commit.
 * - `senders`: the last batch of each isolate that has none left in `batches`.
 * - `sums`: usage that D1 gets later, by hour and group of tenants.
 * - `prompts`: prompts that D1 gets within seconds.
 * - `writing`: what is on its way to D1: batches up to a place, and sums between two places, of one tenant or of all.
 * - `minutes`: a row for each minute and group of tenants (-1: the sums of all).
 * - `hours`: the hours that D1 has not yet.
 * - `requests`: up to 100 of a tenant in a row. A tenant's rows begin at a place of its own and follow each other.
 */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS batches (
    place INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, senders TEXT NOT NULL, usage TEXT NOT NULL, traffic TEXT NOT NULL,
    requests TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS senders (place INTEGER PRIMARY KEY, list TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS sums (place INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, usage TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS prompts (place INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, prompts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS writing (
    id TEXT PRIMARY KEY, until INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, tenant TEXT
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pause (
    one INTEGER PRIMARY KEY, until INTEGER NOT NULL, written INTEGER NOT NULL, usage INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS writer (id INTEGER PRIMARY KEY);
  CREATE TABLE IF NOT EXISTS minutes (
    place INTEGER PRIMARY KEY, at INTEGER NOT NULL, tenants INTEGER NOT NULL, traffic TEXT NOT NULL);
  CREATE UNIQUE INDEX IF NOT EXISTS minutes_by_time ON minutes (at, tenants);
  CREATE TABLE IF NOT EXISTS hours (at INTEGER PRIMARY KEY);
  CREATE TABLE IF NOT EXISTS requests (
    place INTEGER PRIMARY KEY, tenant TEXT NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL,
    left_out INTEGER NOT NULL, requests TEXT NOT NULL);
`;

/** Of all tenants. */
const ALL = -1;
/** Divided by what chooses the gatherer: else all tenants of one were in one group. */
const groupOf = (tenant: string): number => Math.floor(fnv1aMixed(tenant) / GATHERER_SHARDS) % TRAFFIC_GROUPS;
/** Of usage in `sums`. */
const placeOf = (hour: number, tenant: string): number => hour * TRAFFIC_GROUPS + groupOf(tenant);
const hourOf = (place: number): number => Math.floor(place / TRAFFIC_GROUPS);
/** Places of a tenant's requests, from the first on; two tenants may have the same. A whole number has 53 bits. */
const PLACES = 2 ** 20;
const firstPlaceOf = (tenant: string): number => fnv1aMixed(tenant) * PLACES;

const HOUR_S = 3_600;
const MINUTE_S = 60;

type Sent = [sender: string, number: number];
/** … and when, unix ms. */
type Known = [...sent: Sent, at: number];

/** What is taken out of `batches` and `sums` at once; as in `writing`. */
interface Part {
  /** That D1 knows it by; null = it stays here, in `sums`. */
  id: string | null;
  /** 0 = no batches. */
  until: number;
  first: number;
  last: number;
  /** Of sums; null = all. */
  tenant: string | null;
}

/** Of some batches. */
interface Batched {
  places: readonly number[];
  senders: ReadonlyMap<string, number>;
}

interface Pause {
  /** Until batches are looked at again, unix ms. */
  until: number;
  /** When D1 got all usage that was here. */
  written: number;
  /** When it gets that of the hour that has not ended. */
  usage: number;
}

/** @returns the first rows: up to the one that reaches `most` bytes, so at least one if there are any. */
function within<T extends { bytes: number }>(rows: readonly T[], most: number): T[] {
  let bytes = 0;
  return rows.filter((row) => (bytes += row.bytes) - row.bytes < most);
}

const answerOf = (written: boolean): Response =>
  written ? Response.json(null) : new Response(null, { status: 503 });

/** @param tenant null = any. */
const isOf =
  (tenant: string | null) =>
  (row: UsageRow): boolean =>
    tenant === null || row.tenant === tenant;

interface Waiting {
  batch: GathererCall & { call: 'add' };
  /** As JSON. */
  bytes: number;
  done: Promise<void>;
  settle: (error?: unknown) => void;
}

const waitingFor = (batch: Waiting['batch'], bytes: number): Waiting => {
  let settle: Waiting['settle'] = () => undefined;
  const done = new Promise<void>((resolve, reject) => {
    settle = (error) => (error === undefined ? resolve() : reject(error));
  });
  return { batch, bytes, done, settle };
};

/** Tenants of which a gatherer gets many rows. A restart forgets them. @param most rows in a minute. */
function largeTenants(most: number) {
  /** Of the minute, and of the one before. */
  let [rows, large, before] = [new Map<string, number>(), new Set<string>(), new Set<string>()];
  let minute = 0;
  const turnTo = (now: number): void => {
    const passed = Math.floor(now / (1_000 * MINUTE_S)) - minute;
    if (passed === 0) return;
    minute += passed;
    [rows, large, before] = [new Map(), new Set(), passed === 1 ? large : new Set()];
  };
  return {
    count({ usage, traffic }: Waiting['batch'], now: number): void {
      turnTo(now);
      for (const tenant of [...usage.map((row) => row.tenant), ...traffic.map((row) => row[1])]) {
        const count = (rows.get(tenant) ?? 0) + 1;
        rows.set(tenant, count);
        if (count >= most) large.add(tenant);
      }
    },
    names(now: number): string[] {
      turnTo(now);
      return [...new Set([...before, ...large])];
    },
  };
}

/**
 * Keeps what isolates have counted of some tenants. A batch is acknowledged once it is on disk. About once a minute batches
 * are summed up: their traffic into minutes, their requests into lists, in the transaction that deletes them. Usage goes to
 * D1, under an id by which D1 takes it once, also if the write was cut off and is repeated: at once while it has few rows;
 * if they are many, each less often, from `sums`, at the latest when the hour has ended, or somebody asks for it. D1 then
 * also gets the hour's traffic, in the place of what it may have of it. Prompts wait some seconds for others, and D1 knows
 * them by their tenant, time and id. So a restart forgets only what was not acknowledged, which isolates send again.
 */
export class Gatherer {
  readonly #storage: GathererStorage;
  readonly #usage: Pick<UsageLedger, 'add'>;
  readonly #traffic: Pick<TrafficLedger, 'writeHour'>;
  readonly #prompts: Pick<KeptPrompts, 'add'>;
  readonly #now: () => number;
  readonly #sleep: (ms: number) => Promise<void>;
  readonly #random: () => number;
  readonly #ms: (usual: number) => number;
  /** The last batch of each isolate that is on disk; null = not read yet. */
  #known: Map<string, number> | null = null;
  /** Not on disk yet. */
  readonly #waiting = new Map<string, Waiting>();
  #committing = false;
  readonly #large: ReturnType<typeof largeTenants>;
  /** When it rings, unix ms; null = not at all, undefined = not known. */
  #alarmAt: number | null | undefined;
  #writing: Promise<unknown> = Promise.resolve();

  /** @param parts replaced by tests. */
  constructor(
    context: { storage: GathererStorage },
    env: { DB: SqlDatabase; DB_USAGE?: SqlDatabase; FLUSH_MS?: string },
    parts?: {
      now: () => number;
      sleep: (ms: number) => Promise<void>;
      random?: () => number;
      usage: Pick<UsageLedger, 'add'>;
      traffic: Pick<TrafficLedger, 'writeHour'>;
      keptPrompts: Pick<KeptPrompts, 'add'>;
      largeTenantRows?: number | undefined;
    },
  ) {
    this.#storage = context.storage;
    const usageDb = guardDatabase(env.DB_USAGE ?? env.DB);
    this.#usage = parts?.usage ?? createD1Usage(usageDb, USAGE_BATCH_MEMORY_MS);
    this.#traffic = parts?.traffic ?? createD1Traffic(usageDb);
    this.#prompts = parts?.keptPrompts ?? createD1KeptPrompts(guardDatabase(env.DB));
    this.#now = parts?.now ?? Date.now;
    this.#sleep = parts?.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    this.#random = parts?.random ?? (() => Math.random());
    this.#ms = (usual) => flushMs(env, usual);
    this.#large = largeTenants(parts?.largeTenantRows ?? LARGE_TENANT_MINUTE_ROWS);
  }

  async fetch(request: Request): Promise<Response> {
    const text = await request.text();
    const call = GathererCall.parse(JSON.parse(text));
    this.#open();
    switch (call.call) {
      case 'add':
        await this.#take(call, text.length);
        await this.#wake();
        return Response.json(this.#large.names(this.#now()));
      case 'keep':
        this.#keepPrompts(call.prompts);
        await this.#wake(this.#ms(PROMPT_WRITE_MS));
        return Response.json(null);
      case 'write': {
        const written = await this.#tried('prompts_not_written', () => this.#writePrompts());
        return answerOf((await this.#tried('usage_not_written', () => this.#writeOut(true))) && written);
      }
      case 'show':
        return answerOf(await this.#tried('usage_not_written', () => this.#show(call.tenant)));
      case 'show-prompts':
        return answerOf(await this.#tried('prompts_not_written', () => this.#writePrompts()));
      case 'traffic':
        return Response.json(this.#pointsOf(call));
      case 'requests':
        return Response.json(this.#requestsOf(call));
      case 'forget':
        return Response.json(this.#storage.transactionSync(() => this.#forget(call)));
    }
  }

  async alarm(): Promise<void> {
    this.#alarmAt = null;
    this.#open();
    const early =
      this.#first('SELECT place FROM prompts LIMIT 1') !== null && this.#now() < this.#pause().until;
    const written = await this.#tried('prompts_not_written', () => this.#writePrompts());
    if (!(early || (await this.#tried('usage_not_written', () => this.#writeOut(false)))) || !written)
      return this.#wake(this.#ms(GATHERER_RETRY_MS));
    if (this.#first('SELECT place FROM batches LIMIT 1') !== null) return this.#wake();
    const hour = this.#first<{ at: number }>('SELECT at FROM hours ORDER BY at LIMIT 1');
    const sum = this.#first<{ place: number }>('SELECT place FROM sums ORDER BY place LIMIT 1');
    const due = Math.min(
      hour === null ? Infinity : this.#dueOf(hour.at),
      sum === null ? Infinity : Math.min(this.#dueOf(HOUR_S * hourOf(sum.place)), this.#pause().usage),
    );
    if (due < Infinity) await this.#wake(Math.max(this.#ms(GATHERER_RETRY_MS), due - this.#now()));
  }

  /** Resolves once it is on disk. */
  async #take(batch: Waiting['batch'], bytes: number): Promise<void> {
    const { sender, number } = batch;
    // Its answer was lost.
    if (number <= (this.#open().get(sender) ?? 0)) return;
    const id = `${sender} ${number}`;
    const waiting = this.#waiting.get(id) ?? waitingFor(batch, bytes);
    this.#waiting.set(id, waiting);
    void this.#commitAll();
    await waiting.done;
  }

  async #commitAll(): Promise<void> {
    if (this.#committing) return;
    this.#committing = true;
    while (this.#waiting.size > 0) {
      await this.#sleep(this.#ms(GATHERER_COMMIT_MS));
      const all = [...this.#waiting.values()];
      this.#waiting.clear();
      try {
        this.#commit(all);
        for (const { settle } of all) settle();
      } catch (error) {
        for (const { settle } of all) settle(error);
      }
    }
    this.#committing = false;
  }

  /** Without a pause. The runtime keeps answers back until what was written before them is on disk. */
  #commit(all: readonly Waiting[]): void {
    const known = this.#open();
    const rows: { batches: Waiting['batch'][]; bytes: number }[] = [];
    for (const { batch, bytes } of all) {
      let row = rows.at(-1);
      if (row === undefined || row.bytes + bytes > GATHERED_ROW_BYTES)
        rows.push((row = { batches: [], bytes: 0 }));
      row.batches.push(batch);
      row.bytes += bytes;
    }
    this.#storage.transactionSync(() => {
      for (const { batches } of rows) {
        const traffic: TrafficRows = new Map();
        const requests = new Map<string, RequestChunk>();
        for (const batch of batches) {
          for (const row of batch.traffic) addTraffic(traffic, unpackRow(row));
          for (const chunk of batch.requests) addRequests(requests, chunk, MAX_BATCH_REQUESTS);
        }
        const usage = JSON.stringify(sumUsage(batches.flatMap((batch) => batch.usage)));
        const packed = JSON.stringify([...traffic.values()].map(packRow));
        this.#run(
          'INSERT INTO batches (bytes, senders, usage, traffic, requests) VALUES (?, ?, ?, ?, ?)',
          usage.length + packed.length,
          JSON.stringify(batches.map(({ sender, number }): Sent => [sender, number])),
          usage,
          packed,
          JSON.stringify([...requests.values()]),
        );
      }
    });
    for (const { batch } of all) {
      known.set(batch.sender, batch.number);
      this.#large.count(batch, this.#now());
    }
  }

  /** @returns whether D1 has taken it. @param line else it is in the log. */
  async #tried(
    line: 'usage_not_written' | 'prompts_not_written',
    write: () => Promise<void>,
  ): Promise<boolean> {
    try {
      await write();
      return true;
    } catch (error) {
      logLine(line, { reason: reasonOf(error) });
      return false;
    }
  }

  /** Without a pause, as {@link #commit}. */
  #keepPrompts(prompts: readonly PromptRow[]): void {
    const sized = prompts.map((prompt) => ({ prompt, bytes: JSON.stringify(prompt).length }));
    this.#storage.transactionSync(() => {
      for (let left = sized; left.length > 0;) {
        const some = within(left, GATHERED_ROW_BYTES);
        left = left.slice(some.length);
        const text = JSON.stringify(some.map(({ prompt }) => prompt));
        this.#run('INSERT INTO prompts (bytes, prompts) VALUES (?, ?)', text.length, text);
      }
    });
  }

  /** All that are on disk. */
  #writePrompts(): Promise<void> {
    return this.#afterwards(async () => {
      for (;;) {
        const last = within(
          this.#all<{ place: number; bytes: number }>(
            'SELECT place, bytes FROM prompts ORDER BY place LIMIT ?',
            WRITTEN_ROWS,
          ),
          WRITTEN_BYTES,
        ).at(-1);
        if (last === undefined) return;
        const rows = this.#all<{ prompts: string }>(
          'SELECT prompts FROM prompts WHERE place <= ? ORDER BY place',
          last.place,
        );
        await this.#prompts.add(rows.flatMap(({ prompts }) => JSON.parse(prompts) as PromptRow[]));
        this.#run('DELETE FROM prompts WHERE place <= ?', last.place);
      }
    });
  }

  /** After what is being written already. */
  #afterwards(work: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(work);
    this.#writing = done.catch(() => undefined);
    return done;
  }

  /** What is due of what is on disk. @param all everything, also hours that have not ended. */
  #writeOut(all: boolean): Promise<void> {
    return this.#afterwards(async () => {
      await this.#writeAll(all || this.#now() >= this.#pause().usage);
      await this.#writeHours(all);
    });
  }

  /** Writes usage that somebody asks for, and that is younger than a minute only if there is little. */
  #show(tenant: string | null): Promise<void> {
    return this.#afterwards(async () => {
      if (this.#first('SELECT place FROM sums LIMIT 1') === null) return;
      if (tenant === null) {
        if (this.#now() >= this.#pause().written + this.#ms(GATHERER_SHOW_MS)) await this.#writeAll(true);
        return;
      }
      for (let part = this.#begun() ?? this.#partOf(tenant); part !== null; part = this.#partOf(tenant))
        await this.#write(part, null);
    });
  }

  /** @param due usage of the hour that has not ended is. */
  async #writeAll(due: boolean): Promise<void> {
    let [isDue, rows] = [due, 0];
    for (let part = this.#nextPart(isDue); part !== null; part = this.#nextPart(isDue))
      if (part.id !== null) rows = await this.#write(part, isDue ? rows : null);
      else if (!this.#sumUp(part)) isDue = true;
  }

  /** @param before rows that were written just before; null = it is not all that is due. @returns with its own. */
  async #write(part: Part, before: number | null): Promise<number> {
    // D1 must not have what this object does not know to be on its way.
    await this.#storage.sync();
    const { sums, ...batched } = this.#contentOf(part);
    const rows = sumUsage([
      ...batched.usage.values(),
      ...sums.flatMap((sum) => sum.rows.filter(isOf(part.tenant))),
    ]);
    if (rows.length > 0) await this.#usage.add({ id: part.id ?? '', at: this.#now(), rows });
    const count = (before ?? 0) + rows.length;
    const full = this.#ms(GATHERER_WRITE_MS) * (count / FULL_WRITE_ROWS);
    const now = this.#now();
    const spread = now + this.#spread();
    this.#storage.transactionSync(() => {
      this.#keep(part, batched);
      for (const { place, rows: all } of sums) {
        const left = part.tenant === null ? [] : all.filter((row) => !isOf(part.tenant)(row));
        if (left.length === 0) this.#run('DELETE FROM sums WHERE place = ?', place);
        else this.#putSum(place, packUsage(left));
      }
      this.#run('DELETE FROM writing');
      if (before !== null)
        this.#setPause({
          until: Math.round(spread + Math.min(full, this.#ms(GATHERER_WRITE_MS))),
          written: now,
          // Few rows are written by each alarm, which waits long enough.
          usage: count > FULL_WRITE_ROWS ? Math.round(spread + full) : now,
        });
    });
    return count;
  }

  /** @returns false if a row would be too long: D1 has to have it first. */
  #sumUp(part: Part): boolean {
    const batched = this.#contentOf(part);
    const byPlace = new Map<number, UsageRow[]>();
    for (const row of batched.usage.values()) {
      const place = placeOf(row.hour, row.tenant);
      const rows = byPlace.get(place);
      if (rows === undefined) byPlace.set(place, [row]);
      else rows.push(row);
    }
    const texts = new Map<number, string>();
    for (const [place, rows] of byPlace) {
      const before = this.#first<{ usage: string }>('SELECT usage FROM sums WHERE place = ?', place);
      const text = packUsage(sumUsage([...unpackUsage(before?.usage ?? '[]'), ...rows]));
      if (text.length > GATHERED_ROW_BYTES) return false;
      texts.set(place, text);
    }
    const until = this.#now() + this.#ms(GATHERER_WRITE_MS) + this.#spread();
    this.#storage.transactionSync(() => {
      this.#keep(part, batched);
      for (const [place, text] of texts) this.#putSum(place, text);
      this.#setPause({ ...this.#pause(), until });
    });
    return true;
  }

  #putSum(place: number, text: string): void {
    this.#run('INSERT OR REPLACE INTO sums (place, bytes, usage) VALUES (?, ?, ?)', place, text.length, text);
  }

  #contentOf({ until, first, last, tenant }: Part) {
    const places = this.#all<{ place: number }>(
      'SELECT place FROM batches WHERE place <= ? ORDER BY place',
      until,
    ).map(({ place }) => place);
    const senders = new Map<string, number>();
    const usage = new Map<string, UsageRow>();
    for (const text of this.#columnOf(places, 'senders'))
      for (const [sender, number] of JSON.parse(text) as Sent[]) senders.set(sender, number);
    for (const text of this.#columnOf(places, 'usage'))
      for (const row of JSON.parse(text) as UsageRow[]) addUsage(usage, row);
    const sums = this.#all<{ place: number; usage: string }>(
      `SELECT place, usage FROM sums WHERE place BETWEEN ?1 AND ?2 AND COALESCE(?3, place % ?4) = place % ?4
       ORDER BY place`,
      ...[first, last, tenant === null ? null : groupOf(tenant), TRAFFIC_GROUPS],
    );
    return {
      ...{ places, senders, usage },
      sums: sums.map(({ place, usage }) => ({ place, rows: unpackUsage(usage) })),
    };
  }

  /** One row after the other: a minute's are 28 MB at 700 requests a second. */
  *#columnOf(
    places: readonly number[],
    column: 'senders' | 'usage' | 'traffic' | 'requests',
  ): Generator<string> {
    for (const place of places) {
      const row = this.#first<{ text: string }>(
        `SELECT ${column} AS text FROM batches WHERE place = ?`,
        place,
      );
      yield row?.text ?? '[]';
    }
  }

  #listed(places: readonly number[]): Map<string, RequestChunk> {
    const chunks = new Map<string, RequestChunk>();
    for (const text of this.#columnOf(places, 'requests'))
      for (const chunk of JSON.parse(text) as RequestChunk[]) addRequests(chunks, chunk, MAX_BATCH_REQUESTS);
    return chunks;
  }

  #begun(): Part | null {
    return this.#first<Part & { id: string }>('SELECT id, until, first, last, tenant FROM writing');
  }

  #begin(part: Omit<Part, 'id'>): Part {
    const id = crypto.randomUUID();
    const { until, first, last, tenant } = part;
    this.#run(
      'INSERT INTO writing (id, until, first, last, tenant) VALUES (?, ?, ?, ?, ?)',
      ...[id, until, first, last, tenant],
    );
    return { ...part, id };
  }

  /** @returns what is being written, or is written next, under an id that stays; null = nothing is left. */
  #nextPart(due: boolean): Part | null {
    const begun = this.#begun();
    if (begun !== null) return begun;
    const batches = this.#all<{ place: number; bytes: number }>(
      'SELECT place, bytes FROM batches ORDER BY place LIMIT ?',
      WRITTEN_ROWS,
    );
    const until = within(batches, due ? WRITTEN_BYTES : SUMMED_BYTES).at(-1)?.place ?? 0;
    if (until > 0 && !due) return { id: null, until, first: 0, last: -1, tenant: null };
    const sums = this.#all<{ place: number; bytes: number }>('SELECT place, bytes FROM sums ORDER BY place');
    const some = within(
      sums.filter(({ place }) => due || this.#now() >= this.#dueOf(HOUR_S * hourOf(place))),
      GATHERED_ROW_BYTES,
    );
    if (until === 0 && some.length === 0) return null;
    return this.#begin({ until, first: some[0]?.place ?? 0, last: some.at(-1)?.place ?? -1, tenant: null });
  }

  /** @returns the sums of one tenant; null = there are none. */
  #partOf(tenant: string): Part | null {
    const { sums } = this.#contentOf({ id: null, until: 0, first: 0, last: Number.MAX_SAFE_INTEGER, tenant });
    const own = sums.filter(({ rows }) => rows.some(isOf(tenant))).map(({ place }) => place);
    const [first] = own;
    return first === undefined ? null : this.#begin({ until: 0, first, last: own.at(-1) ?? first, tenant });
  }

  /** Adds traffic to minutes, and requests to lists, and deletes the batches that they are of. */
  #keep({ until }: Part, { places, senders }: Batched): void {
    if (until === 0) return;
    const now = this.#now();
    this.#keepTraffic(places);
    for (const chunk of this.#listed(places).values()) this.#keepRequests(chunk);
    this.#keepSenders([...senders].map(([id, number]): Known => [id, number, now]));
    this.#run('DELETE FROM batches WHERE place <= ?', until);
  }

  #pause(): Pause {
    const pause = this.#first<Pause>('SELECT until, written, usage FROM pause');
    return pause ?? { until: 0, written: 0, usage: 0 };
  }

  #setPause({ until, written, usage }: Pause): void {
    this.#run(
      'INSERT OR REPLACE INTO pause (one, until, written, usage) VALUES (1, ?, ?, ?)',
      ...[until, written, usage],
    );
  }

  #keepSenders(sent: readonly Known[]): void {
    const now = this.#now();
    const lists = this.#all<{ list: string }>('SELECT list FROM senders ORDER BY place');
    if (lists.length < SENDER_LISTS) {
      this.#run('INSERT INTO senders (list) VALUES (?)', JSON.stringify(sent));
      return;
    }
    const last = new Map<string, Known>();
    for (const one of [...lists.flatMap(({ list }) => JSON.parse(list) as Known[]), ...sent])
      if (one[2] >= now - SENDER_KEPT_MS) last.set(one[0], one);
      else if (this.#open().get(one[0]) === one[1]) this.#open().delete(one[0]);
    const all = [...last.values()];
    this.#run('DELETE FROM senders');
    for (let i = 0; i < all.length; i += SENDERS_IN_ROW)
      this.#run('INSERT INTO senders (list) VALUES (?)', JSON.stringify(all.slice(i, i + SENDERS_IN_ROW)));
  }

  #keepTraffic(places: readonly number[]): void {
    const oldest = MINUTE_S * Math.floor((this.#now() / 1_000 - GATHERED_S) / MINUTE_S);
    const minutes = new Map<string, { at: number; group: number; rows: TrafficRows }>();
    const add = (group: number, row: TrafficRow): void => {
      const key = `${row.at} ${group}`;
      const minute = minutes.get(key) ?? { at: row.at, group, rows: new Map() };
      minutes.set(key, minute);
      addTraffic(minute.rows, row);
    };
    for (const text of this.#columnOf(places, 'traffic'))
      for (const row of (JSON.parse(text) as PackedRow[]).map(unpackRow)) {
        // The hour before may have lost minutes already, and is not written again.
        const counted = { ...row, at: Math.max(row.at, oldest) };
        add(groupOf(row.tenant), counted);
        add(ALL, { ...counted, tenant: '', name: '', keyId: '' });
      }
    for (const { at, group, rows } of minutes.values()) {
      const before = this.#first<{ place: number; traffic: string }>(
        'SELECT place, traffic FROM minutes WHERE at = ? AND tenants = ?',
        ...[at, group],
      );
      for (const row of before === null ? [] : (JSON.parse(before.traffic) as PackedRow[]))
        addTraffic(rows, unpackRow(row));
      const text = JSON.stringify(boundNames(rows.values(), MAX_NAMED_ROWS).map(packRow));
      if (before === null)
        this.#run('INSERT INTO minutes (at, tenants, traffic) VALUES (?, ?, ?)', at, group, text);
      else this.#run('UPDATE minutes SET traffic = ? WHERE place = ?', text, before.place);
      this.#run('INSERT OR IGNORE INTO hours (at) VALUES (?)', HOUR_S * Math.floor(at / HOUR_S));
    }
  }

  /** Into the tenant's newest row while there is room in it; of its oldest those go that are too many. */
  #keepRequests({ tenant, requests, leftOut }: RequestChunk): void {
    const first = firstPlaceOf(tenant);
    const found = this.#all<{ place: number; tenant: string; count: number; left_out: number }>(
      'SELECT place, tenant, count, left_out FROM requests WHERE place >= ? AND place < ? ORDER BY place DESC',
      ...[first, first + PLACES],
    );
    const own = found.filter((row) => row.tenant === tenant);
    const [last] = own;
    if (last !== undefined && last.count + requests.length <= MAX_BATCH_REQUESTS) {
      const all = [...requests, ...this.#requestsAt(last.place, tenant)].sort((a, b) => b.at - a.at);
      this.#run(
        'UPDATE requests SET at = ?, count = ?, left_out = ?, requests = ? WHERE place = ?',
        ...[all[0]?.at ?? this.#now(), all.length, last.left_out + leftOut, packRequests(all), last.place],
      );
      last.count = all.length;
    } else {
      const place = (found[0]?.place ?? first - 1) + 1;
      this.#run(
        'INSERT INTO requests (place, tenant, at, count, left_out, requests) VALUES (?, ?, ?, ?, ?, ?)',
        ...[place, tenant, requests[0]?.at ?? this.#now(), requests.length, leftOut, packRequests(requests)],
      );
      own.unshift({ place, tenant, count: requests.length, left_out: leftOut });
    }
    let newer = 0;
    for (const { place, count } of own) {
      if (newer >= MAX_KEPT_REQUESTS) this.#run('DELETE FROM requests WHERE place = ?', place);
      newer += count;
    }
  }

  #requestsAt(place: number, tenant: string): RequestView[] {
    const row = this.#first<{ requests: string }>('SELECT requests FROM requests WHERE place = ?', place);
    return row === null ? [] : unpackRequests(row.requests, tenant);
  }

  #dueOf(hour: number): number {
    return 1_000 * (hour + HOUR_S + ROLL_UP_AFTER_S + (this.#writer() % ROLL_UP_AFTER_S));
  }

  /** Of what D1 knows this gatherer by. */
  #writer(): number {
    const known = this.#first<{ id: number }>('SELECT id FROM writer');
    if (known !== null) return known.id;
    // 0 is nobody's.
    const id = 1 + (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
    this.#run('INSERT INTO writer (id) VALUES (?)', id);
    return id;
  }

  async #writeHours(all: boolean): Promise<void> {
    const now = this.#now();
    const due = this.#all<{ at: number }>('SELECT at FROM hours ORDER BY at').filter(
      ({ at }) => all || now >= this.#dueOf(at),
    );
    for (const { at } of due) {
      const rows = this.#rowsOfHour(at);
      const writer = this.#writer();
      // Of another id after a restart D1 would have the hour twice.
      await this.#storage.sync();
      await this.#traffic.writeHour({ at, writer, rows });
      this.#run('DELETE FROM hours WHERE at = ?', at);
    }
    if (due.length === 0) return;
    this.#run('DELETE FROM minutes WHERE at < ?', now / 1_000 - KEPT_S[60]);
    this.#run('DELETE FROM requests WHERE at < ?', now - REQUESTS_KEPT_MS);
  }

  /** Names and keys, the busiest of them; with each tenant's total, and that of all. */
  #rowsOfHour(hour: number): TrafficRow[] {
    const named: TrafficRows = new Map();
    const totals: TrafficRows = new Map();
    for (let minute = hour; minute < hour + HOUR_S; minute += MINUTE_S)
      for (const { row, group } of this.#minutes(minute, minute + MINUTE_S, null)) {
        const counted = { ...row, at: hour };
        addTraffic(totals, { ...counted, name: '', keyId: '' });
        if (group !== ALL) addTraffic(named, counted);
      }
    // What has no name and no key would be a tenant's total once more.
    const apart = [...named.values()].filter(({ name, keyId }) => name !== '' || keyId !== '');
    return [...totals.values(), ...boundNames(apart, MAX_NAMED_SERIES)];
  }

  /** @param group null = each. */
  *#minutes(from: number, to: number, group: number | null): Generator<{ row: TrafficRow; group: number }> {
    for (let [at, after] = [from, -2]; ;) {
      const page = this.#all<{ at: number; tenants: number; traffic: string }>(
        `SELECT at, tenants, traffic FROM minutes WHERE (at, tenants) > (?1, ?2) AND at < ?3
           AND COALESCE(?4, tenants) = tenants ORDER BY at, tenants LIMIT ?5`,
        ...[at, after, to, group, LOOKED_ROWS],
      );
      for (const { tenants, traffic } of page)
        for (const packed of JSON.parse(traffic) as PackedRow[])
          yield { row: unpackRow(packed), group: tenants };
      const last = page.at(-1);
      if (last === undefined || page.length < LOOKED_ROWS) return;
      [at, after] = [last.at, last.tenants];
    }
  }

  #pointsOf({ tenant, name, keyId, from, to, step }: TrafficQuery): TrafficPoint[] {
    const points: TrafficRows = new Map();
    const isAll = tenant === null && name === null && keyId === null;
    const group = isAll ? ALL : tenant === null ? null : groupOf(tenant);
    for (const { row, group: of } of this.#minutes(from, to, group))
      if (
        (of === ALL) === isAll &&
        row.tenant === (tenant ?? row.tenant) &&
        row.name === (name ?? row.name) &&
        row.keyId === (keyId ?? row.keyId)
      )
        addTraffic(points, { ...row, at: step * Math.floor(row.at / step), tenant: '', name: '', keyId: '' });
    return [...points.values()].map(
      ({ tenant: _, name: _name, keyId: _keyId, ...point }): TrafficPoint => point,
    );
  }

  #requestsOf({ tenant, limit }: { tenant: string | null; limit: number }): RequestChunk[] {
    interface Row {
      place: number;
      tenant: string;
      count: number;
      left_out: number;
    }
    const first = tenant === null ? 0 : firstPlaceOf(tenant);
    const rows = this.#all<Row>(
      `SELECT place, tenant, count, left_out FROM requests WHERE place >= ?1 AND place < ?2
         AND COALESCE(?3, tenant) = tenant ORDER BY at DESC, place DESC`,
      ...[first, tenant === null ? Number.MAX_SAFE_INTEGER : first + PLACES, tenant],
    );
    let newer = 0;
    return rows
      .filter(({ count }) => (newer += count) - count < limit)
      .map((row) => ({
        tenant: row.tenant,
        requests: this.#requestsAt(row.place, row.tenant),
        leftOut: row.left_out,
      }));
  }

  /** Sums of all tenants stay: they name nobody. What is in batches still is forgotten after {@link #writeOut}. */
  #forget({ tenant, names, until }: ForgottenTraces): { traffic: number; requests: number } {
    const gone = new Set(names);
    const went = { traffic: 0, requests: 0 };
    const walk = <T extends { place: number }>(
      table: string,
      columns: string,
      look: (row: T) => void,
    ): void => {
      for (let after = -1; ;) {
        const page = this.#all<T>(
          `SELECT place, ${columns} FROM ${table} WHERE place > ? ORDER BY place LIMIT ?`,
          ...[after, LOOKED_ROWS],
        );
        for (const row of page) look(row);
        after = page.at(-1)?.place ?? after;
        if (page.length < LOOKED_ROWS) return;
      }
    };
    walk<{ place: number; at: number; tenants: number; traffic: string }>(
      'minutes',
      'at, tenants, traffic',
      (row) => {
        if (row.tenants === ALL || row.at * 1_000 >= until) return;
        const all = JSON.parse(row.traffic) as PackedRow[];
        const left: TrafficRows = new Map();
        let touched = 0;
        for (const one of all.map(unpackRow)) {
          // Others' totals stay as they are.
          const named = gone.has(one.name) ? { ...one, name: UNNAMED, keyId: '' } : one;
          if (one.tenant !== tenant) addTraffic(left, named);
          if (one.tenant === tenant || named !== one) touched += 1;
        }
        went.traffic += touched;
        if (left.size === 0) this.#run('DELETE FROM minutes WHERE place = ?', row.place);
        else if (touched > 0)
          this.#run(
            'UPDATE minutes SET traffic = ? WHERE place = ?',
            ...[JSON.stringify([...left.values()].map(packRow)), row.place],
          );
      },
    );
    walk<{ place: number; tenant: string; left_out: number; requests: string }>(
      'requests',
      'tenant, left_out, requests',
      (row) => {
        const all = unpackRequests(row.requests, row.tenant);
        const left = all.filter(({ at, name }) => at > until || (row.tenant !== tenant && !gone.has(name)));
        went.requests += all.length - left.length;
        if (left.length === 0 && (row.left_out === 0 || row.tenant === tenant))
          this.#run('DELETE FROM requests WHERE place = ?', row.place);
        else if (left.length < all.length)
          this.#run(
            'UPDATE requests SET count = ?, requests = ? WHERE place = ?',
            ...[left.length, packRequests(left), row.place],
          );
      },
    );
    return went;
  }

  /** @param pause ms; without one, until the next write is due. */
  async #wake(pause?: number): Promise<void> {
    const now = this.#now();
    const due = this.#pause().until;
    const quiet = this.#ms(GATHERER_QUIET_MS) + this.#spread();
    const at = pause === undefined ? Math.max(now + quiet, due) : now + pause;
    this.#alarmAt ??= await this.#storage.getAlarm();
    if (this.#alarmAt !== null && this.#alarmAt <= at + this.#ms(GATHERER_SPREAD_MS)) return;
    await this.#storage.setAlarm(at);
    this.#alarmAt = at;
  }

  #spread(): number {
    return Math.floor(this.#random() * this.#ms(GATHERER_SPREAD_MS));
  }

  #open(): Map<string, number> {
    if (this.#known !== null) return this.#known;
    this.#storage.sql.exec(SCHEMA);
    const lists = this.#all<{ list: string }>('SELECT list FROM senders ORDER BY place');
    const kept = this.#all<{ senders: string }>('SELECT senders FROM batches ORDER BY place');
    this.#known = new Map([
      ...lists.flatMap(({ list }) => (JSON.parse(list) as Known[]).map(([id, number]): Sent => [id, number])),
      ...kept.flatMap(({ senders }) => JSON.parse(senders) as Sent[]),
    ]);
    return this.#known;
  }

  // The rows are those of this file's own statements.
  #all<T>(query: string, ...bindings: SqlValue[]): T[] {
    return this.#storage.sql.exec(query, ...bindings).toArray() as T[];
  }

  #first<T>(query: string, ...bindings: SqlValue[]): T | null {
    return this.#all<T>(query, ...bindings)[0] ?? null;
  }

  #run(query: string, ...bindings: SqlValue[]): void {
    this.#storage.sql.exec(query, ...bindings);
  }
}
