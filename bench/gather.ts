/**
 * What isolates count, and the list of requests: `npm run bench -- gather`. The product's own recorders and gatherers in
 * virtual time, over SQLite in the place of a Durable Object's, and sums in the place of D1.
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createDoGatherers, Gatherer } from '../worker/gathering/gatherer-object.ts';
import { COUNT_FLUSH_MS, COUNT_TRIES, GATHERER_SHARDS, MAX_BATCH_ROWS } from '../worker/gathering/limits.ts';
import { createCountRecorder, shardOf } from '../worker/gathering/parts.ts';
import type { UsageRow } from '../worker/metering/ports.ts';
import { createPromptKeeper } from '../worker/prompts/keep-prompts.ts';
import { createRandom } from '../test/security/random.ts';
import { countingDisk, type GathererDisk } from '../test/fakes/gatherers-in-process.ts';
import type { PromptRow } from '../worker/prompts/ports.ts';
import type { EndedCompletion, TrafficRow } from '../worker/traffic/ports.ts';
import { describeMachine } from './machine.ts';

export interface GatherLoad {
  isolates: number;
  /** Requests a second of all together. */
  rate: number;
  tenants: number;
  /** Of each tenant; each has one key. */
  names: number;
  /** From the beginning of an hour on, or before it, if negative, s. */
  start?: number;
  seconds: number;
  /** Of them, those before rows, calls and transactions are counted. */
  warmUp: number;
  /** Only requests of tenants of this gatherer; those of the others are drawn, and go nowhere. */
  only?: number;
  /** The first tenant has half of all requests, by this many keys; 0 = its part of the Zipf distribution. */
  giant: number;
  /** LARGE_TENANT_MINUTE_ROWS. */
  largeTenantRows?: number | undefined;
  /** Part of all requests whose prompts are kept. */
  kept?: number;
  /** Each gatherer ends without a word so often, ms; Infinity = never. */
  restartMs: number;
  /** D1 takes nothing between these, ms. */
  away?: readonly [from: number, until: number];
  /** D1 gets everything then, as by a backup, s. */
  writtenOut?: number;
}

/** Beginning of an hour. */
const HOUR_AT = Date.UTC(2026, 4, 1, 12);
/** Everything happens in steps of this length, ms. */
const STEP_MS = 50;

const PHASES = ['key', 'name', 'origin', 'origin-prompt', 'origin-first', 'origin-queue'];
const PROMPT = { messages: [{ role: 'user', content: 'a word '.repeat(300) }] };
/** As random as a UUID. */
const idOf = (number: number): string =>
  createHash('sha256').update(String(number)).digest('hex').slice(0, 36);

/** @returns an index below `count`, the first most often: Zipf's law with exponent 1. */
function zipf(count: number, random: () => number): () => number {
  const sums: number[] = [];
  for (let i = 0; i < count; i += 1) sums.push((sums[i - 1] ?? 0) + 1 / (i + 1));
  const all = sums.at(-1) ?? 1;
  return () => {
    const wanted = random() * all;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

export async function gatherCounts(load: GatherLoad) {
  const random = createRandom(1);
  const START = HOUR_AT + 1_000 * (load.start ?? 0);
  let now = START;
  const sleeping = new Map<number, (() => void)[]>();
  const sleep = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const at = STEP_MS * Math.ceil((now + Math.max(1, ms)) / STEP_MS);
      sleeping.set(at, [...(sleeping.get(at) ?? []), resolve]);
    });

  const billed = new Map<string, number>();
  /** By gatherer and hour, which a later write replaces. */
  const hours = new Map<string, Map<string, number>>();
  const ids = new Set<string>();
  const written = { transactions: 0, rows: 0, objectRows: 0, promptTransactions: 0, promptRows: 0 };
  const bySecond = new Map<number, number>();
  const reach = (): void => {
    const [from, until] = load.away ?? [Infinity, Infinity];
    if (now - START >= from && now - START < until) throw new Error('D1 is away');
  };
  const usage = {
    async add({ id, rows }: { id: string; rows: readonly UsageRow[] }) {
      reach();
      if (ids.has(id)) return;
      ids.add(id);
      written.transactions += 1;
      const second = Math.floor(now / 1_000);
      bySecond.set(second, (bySecond.get(second) ?? 0) + 1);
      for (const row of rows) {
        billed.set(row.tenant, (billed.get(row.tenant) ?? 0) + row.requests);
      }
      // The batch's id and its index, now and when they are deleted; a row for each tenant's day.
      const tenants = new Set(rows.map(({ tenant }) => tenant));
      written.rows += 4 + rows.length + tenants.size;
    },
  };

  const traffic = {
    async writeHour({ at, writer, rows }: { at: number; writer: number; rows: readonly TrafficRow[] }) {
      written.transactions += 1;
      // And as many when they are deleted.
      written.rows += 2 * rows.length;
      const totals = new Map<string, number>();
      hours.set(`${writer} ${at}`, totals);
      for (const { tenant, name, keyId, requests } of rows)
        if (name === '' && keyId === '') totals.set(tenant, (totals.get(tenant) ?? 0) + requests);
    },
  };
  const prompts = new Map<string, number>();
  const keptPrompts = {
    async add(rows: readonly PromptRow[]) {
      reach();
      written.promptTransactions += 1;
      // With four indexes, and as many when they are deleted.
      for (const { tenant, at, id } of rows) {
        const key = `${tenant} ${at} ${id}`;
        if (!prompts.has(key)) written.promptRows += 10;
        prompts.set(key, (prompts.get(key) ?? 0) + 1);
      }
    },
  };
  /** Of objects. */
  const byTable = new Map<string, number>();
  const newDisk = (): GathererDisk =>
    countingDisk((rows, table) => {
      written.objectRows += rows;
      byTable.set(table, (byTable.get(table) ?? 0) + rows);
    });

  interface Place {
    disk: GathererDisk;
    object: Gatherer;
    dead: { dead: boolean };
    restartAt: number;
  }
  const live = (disk: GathererDisk, restartAt: number): Place => {
    const dead = { dead: false };
    const storage = {
      ...disk,
      transactionSync: <T>(work: () => T): T => {
        if (dead.dead) throw new Error('this object has ended');
        return disk.transactionSync(work);
      },
    };
    const object = new Gatherer(
      { storage },
      { DB: null as never },
      { now: () => now, sleep, usage, traffic, keptPrompts, largeTenantRows: load.largeTenantRows },
    );
    return { disk, object, dead, restartAt };
  };
  const places = new Map<string, Place>();
  let calls = 0;
  const bytesTo = new Map<string, number>();
  const gatherers = createDoGatherers({
    namespace: {
      idFromName: (name) => name,
      get: (id) => ({
        async fetch(url, init) {
          calls += 1;
          const name = id as string;
          bytesTo.set(name, (bytesTo.get(name) ?? 0) + String(init?.body).length);
          const place = places.get(name) ?? live(newDisk(), now + random.below(load.restartMs));
          places.set(name, place);
          const response = await place.object.fetch(new Request(url, init));
          if (place.dead.dead) throw new Error('Network connection lost.');
          return response;
        },
      }),
    },
    // Of this machine's time.
    timeoutMs: 2 ** 30,
    writeTimeoutMs: 2 ** 30,
  });

  const recorders = Array.from({ length: load.isolates }, (_, isolate) =>
    createCountRecorder({
      ...{ gatherers, shardOf, now: () => now, sleep, sender: `isolate-${isolate}` },
      ...{ flushMs: COUNT_FLUSH_MS, maxRows: MAX_BATCH_ROWS, tries: COUNT_TRIES },
    }),
  );
  const keepers = recorders.map(() =>
    createPromptKeeper({
      ...{ keep: (rows) => gatherers.keepPrompts(rows), now: () => now, sleep },
      sealer: { seal: async (_, text) => text, open: async () => null },
    }),
  );
  let kept = 0;
  const tenantOf = zipf(load.tenants, () => random.next());
  const shards = Array.from({ length: load.tenants }, (_, tenant) => shardOf(`t${tenant}`));
  const counted = new Map<string, number>();
  let sent = 0;
  const request = () => {
    const isGiant = load.giant > 0 && random.next() < 0.5;
    const tenant = isGiant ? 0 : tenantOf();
    if (load.only !== undefined && shards[tenant] !== load.only) return;
    const key = isGiant ? random.below(load.giant) : 0;
    const name = random.below(load.names * (isGiant ? load.giant : 1));
    counted.set(`t${tenant}`, (counted.get(`t${tenant}`) ?? 0) + 1);
    const of = { tenant: `t${tenant}`, name: `t${tenant}/n${name}`, version: 1, status: 200, at: now };
    const ended: EndedCompletion = {
      ...{ ...of, id: idOf(sent), key_id: `key_${tenant}_${key}`, route: '/v1/chat/completions', code: '' },
      ...{ stream: true, experiment: '', variant: '', origin: 'o1', degraded: '', cold: false },
      ...{
        prompt_tokens: 100,
        completion_tokens: 50,
        duration_ms: 900 + (sent % 97),
        ttft_ms: 90 + (sent % 7),
      },
      phases: PHASES.map((phase, i) => ({ name: phase, ms: (i * 31 + sent) % 100 })),
    };
    sent += 1;
    const isolate = random.below(load.isolates);
    if (load.kept !== undefined && random.next() < load.kept) {
      kept += 1;
      keepers[isolate]
        ?.open(
          PROMPT,
          async () => 'user',
          () => undefined,
        )
        .end(ended);
    }
    const recorder = recorders[isolate];
    recorder?.recordUsage(
      {
        ...of,
        base: 'tiny',
        keyId: ended.key_id,
        promptTokens: 100,
        completionTokens: 50,
        requestId: ended.id,
      },
      () => undefined,
    );
    recorder?.record(ended, () => undefined);
  };

  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 4; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  const step = async (): Promise<void> => {
    now += STEP_MS;
    const due = sleeping.get(now) ?? [];
    sleeping.delete(now);
    for (const resolve of due) resolve();
    for (const [name, place] of places) {
      if (now >= place.restartAt) {
        place.dead.dead = true;
        places.set(name, live(place.disk, now + load.restartMs));
      }
      const { disk, object } = places.get(name) ?? place;
      if (disk.alarm === null || disk.alarm > now) continue;
      disk.alarm = null;
      void object.alarm().catch(() => undefined);
    }
    await settle();
  };

  const sizes = () => {
    const sum = { minutes: 0, lists: 0, requests: 0, bytes: 0 };
    for (const { disk } of places.values()) {
      const count = (query: string): number => Number(disk.sql.exec(query).toArray()[0]?.['n'] ?? 0);
      sum.minutes += count('SELECT COUNT(*) AS n FROM minutes');
      sum.lists += count('SELECT COUNT(*) AS n FROM requests');
      sum.requests += count('SELECT SUM(count) AS n FROM requests');
      sum.bytes += count('SELECT SUM(length(requests)) AS n FROM requests');
    }
    return sum;
  };

  let cpu = process.cpuUsage();
  let owed = 0;
  let before = { minutes: 0, lists: 0, requests: 0 };
  const warmUntil = START + 1_000 * load.warmUp;
  while (now < START + 1_000 * load.seconds) {
    if (now === warmUntil) {
      for (const of of ['transactions', 'rows', 'objectRows', 'promptTransactions', 'promptRows'] as const)
        written[of] = 0;
      bySecond.clear();
      byTable.clear();
      bytesTo.clear();
      calls = 0;
      before = load.warmUp === 0 ? before : { ...sizes(), requests: sent };
      cpu = process.cpuUsage();
    }
    if (load.writtenOut !== undefined && now === START + 1_000 * load.writtenOut) void gatherers.writeOut();
    for (owed += (load.rate * STEP_MS) / 1_000; owed >= 1; owed -= 1) request();
    await step();
  }
  const { user, system } = process.cpuUsage(cpu);
  const of = { ...written };
  const tables = [...byTable];
  const bytes = [...bytesTo.values()];
  const [mostBytes, allBytes] = [Math.max(...bytes), bytes.reduce((sum, some) => sum + some, 0)];
  const most = Math.max(0, ...bySecond.values());
  const [measured, callsMeasured, left] = [sent - before.requests, calls, sizes()];
  // What is still on its way.
  while (now < START + 1_000 * load.seconds + 120_000) await step();
  for (const { object } of places.values())
    await object.fetch(new Request('https://object.invalid/', { method: 'POST', body: '{"call":"write"}' }));
  const differenceOf = (sums: readonly ReadonlyMap<string, number>[]): number =>
    [...counted].reduce(
      (sum, [tenant, many]) => sum + Math.abs(sums.reduce((n, one) => n - (one.get(tenant) ?? 0), many)),
      0,
    );
  const seconds = load.seconds - load.warmUp;
  // Minutes are deleted after a day, of their index too; lists sooner or later.
  const deletedLater = 2 * (left.minutes - before.minutes) + left.lists - before.lists;
  const gatherersAsked = load.only === undefined ? GATHERER_SHARDS : 1;
  return {
    requests: sent,
    lost: differenceOf([billed]) + differenceOf([...hours.values()]),
    callsPerSecond: callsMeasured / seconds,
    transactionsPerSecond: of.transactions / seconds,
    mostTransactionsInASecond: most,
    rowsPerRequest: { d1: of.rows / measured, objects: (of.objectRows + deletedLater) / measured },
    objectRowsPerRequest: Object.fromEntries(tables.map(([table, rows]) => [table, rows / measured])),
    bytesPerListedRequest: left.bytes / left.requests,
    prompts: {
      ...{ kept, lost: kept - prompts.size },
      transactionsPerSecond: of.promptTransactions / seconds,
      rowsEach: of.promptRows / kept,
    },
    /** Of what all gatherers get, in bytes: most of their time goes with these. */
    busiestPart: mostBytes / allBytes,
    /** Of one gatherer's time, as if all of this process's CPU was the gatherers'. */
    busyAtMost: (user + system) / 1e6 / seconds / gatherersAsked,
  };
}

/** A million names. */
const LOAD = {
  ...{ isolates: 1_000, rate: 10_000, tenants: 10_000, names: 100, giant: 0 },
  ...{ seconds: 600, warmUp: 0, restartMs: Infinity },
};
/**
 * From a quarter past an hour to a quarter past the next. What the gatherer holds before the first of them is written then: a
 * write of many rows, after which none comes for hours but at the end of each. A tenth of the isolates: a gatherer stores
 * what comes in a second as one row.
 */
const HOUR = { ...LOAD, isolates: 100, start: -600, writtenOut: 540, warmUp: 1_500, seconds: 5_100 };

export async function benchGather(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { seconds: { type: 'string' }, load: { type: 'string' } } });
  const seconds = Number(values.seconds ?? LOAD.seconds);
  const loads: Record<string, GatherLoad> = {
    'Zipf 1.0': { ...LOAD, seconds },
    'a tenant has half': { ...LOAD, seconds, giant: 20 },
    'restarts each 10 min': { ...LOAD, seconds, restartMs: 600_000 },
    'restarts each 30 s': { ...LOAD, seconds, restartMs: 30_000 },
    // 15, 6.3 and 3.4 % of all requests.
    'hour of the busiest': { ...HOUR, only: shardOf('t0') },
    'hour of the average': { ...HOUR, only: 0 },
    'hour of the idlest': { ...HOUR, only: 8 },
    'one prompt of 100 is kept': { ...LOAD, seconds, kept: 0.01 },
    'half, of its gatherer': { ...LOAD, seconds, giant: 20, only: shardOf('t0') },
  };
  const table = new Table({
    head: ['load', 'requests', 'lost', 'calls/s', 'D1 tx/s', 'most', 'rows: D1', 'objects', 'bytes', 'busy'],
  });
  const results: Record<string, Awaited<ReturnType<typeof gatherCounts>>> = {};
  for (const [name, one] of Object.entries(loads)) {
    if (values.load !== undefined && values.load !== name) continue;
    const result = (results[name] = await gatherCounts(one));
    const { d1, objects } = result.rowsPerRequest;
    table.push([
      ...[name, result.requests, result.lost, Math.round(result.callsPerSecond)],
      ...[result.transactionsPerSecond.toFixed(2), result.mostTransactionsInASecond],
      ...[d1.toFixed(4), objects.toFixed(4), Math.round(result.bytesPerListedRequest)],
      `${Math.round(100 * result.busyAtMost)} %`,
    ]);
  }
  const machine = await describeMachine();
  console.log(table.toString());
  console.log(JSON.stringify({ date: new Date().toISOString(), machine, load: LOAD, results }));
}
