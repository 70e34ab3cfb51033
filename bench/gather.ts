/**
 * What isolates count, on its way to D1: `npm run bench -- gather`. The product's own recorders and gatherers in virtual
 * time, over SQLite in the place of a Durable Object's, and sums in the place of D1.
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createDoGatherers, Gatherer } from '../worker/gathering/gatherer-object.ts';
import { COUNT_FLUSH_MS, COUNT_TRIES, GATHERER_SHARDS, MAX_BATCH_ROWS } from '../worker/gathering/limits.ts';
import { createCountRecorder, shardOf } from '../worker/gathering/parts.ts';
import type { UsageRow } from '../worker/metering/ports.ts';
import { createRandom } from '../test/security/random.ts';
import { gathererDisk, type GathererDisk } from '../test/fakes/gatherers-in-process.ts';
import { describeMachine } from './machine.ts';

export interface GatherLoad {
  isolates: number;
  /** Requests a second of all together. */
  rate: number;
  tenants: number;
  /** Of each tenant; each has one key. */
  names: number;
  seconds: number;
  /** The first tenant has half of all requests, by this many keys; 0 = its part of the Zipf distribution. */
  giant: number;
  /** Each gatherer ends without a word so often, ms; Infinity = never. */
  restartMs: number;
  /** D1 takes nothing between these, ms. */
  away?: readonly [from: number, until: number];
}

const START = Date.UTC(2026, 4, 1, 12);
/** Everything happens in steps of this length, ms. */
const STEP_MS = 50;

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

export async function gatherUsage(load: GatherLoad) {
  const random = createRandom(1);
  let now = START;
  const sleeping = new Map<number, (() => void)[]>();
  const sleep = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const at = STEP_MS * Math.ceil((now + Math.max(1, ms)) / STEP_MS);
      sleeping.set(at, [...(sleeping.get(at) ?? []), resolve]);
    });

  const billed = new Map<string, number>();
  const known = new Set<string>();
  const ids = new Set<string>();
  const written = { transactions: 0, rows: 0, most: 0 };
  const bySecond = new Map<number, number>();
  const usage = {
    async add({ id, rows }: { id: string; rows: readonly UsageRow[] }) {
      const [from, until] = load.away ?? [Infinity, Infinity];
      if (now - START >= from && now - START < until) throw new Error('D1 is away');
      if (ids.has(id)) return;
      ids.add(id);
      written.transactions += 1;
      const second = Math.floor(now / 1_000);
      bySecond.set(second, (bySecond.get(second) ?? 0) + 1);
      // The batch's id and its index, now and when they are deleted.
      written.rows += 4;
      for (const row of rows) {
        const key = `${row.tenant} ${row.keyId} ${row.name} ${row.hour}`;
        // A new row is in the index by hour too.
        written.rows += known.has(key) ? 1 : 2;
        known.add(key);
        billed.set(row.tenant, (billed.get(row.tenant) ?? 0) + row.requests);
      }
    },
  };

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
      getAlarm: async () => disk.alarm,
      setAlarm: async (at: number) => void (disk.alarm = at),
    };
    const object = new Gatherer({ storage }, { DB: null as never }, { now: () => now, sleep, usage });
    return { disk, object, dead, restartAt };
  };
  const places = new Map<string, Place>();
  let calls = 0;
  const gatherers = createDoGatherers({
    namespace: {
      idFromName: (name) => name,
      get: (id) => ({
        async fetch(url, init) {
          calls += 1;
          const name = id as string;
          const place = places.get(name) ?? live(gathererDisk(), now + random.below(load.restartMs));
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
  const tenantOf = zipf(load.tenants, () => random.next());
  const counted = new Map<string, number>();
  const request = () => {
    const isGiant = load.giant > 0 && random.next() < 0.5;
    const tenant = isGiant ? 0 : tenantOf();
    const key = isGiant ? random.below(load.giant) : 0;
    const name = random.below(load.names * (isGiant ? load.giant : 1));
    counted.set(`t${tenant}`, (counted.get(`t${tenant}`) ?? 0) + 1);
    recorders[random.below(load.isolates)]?.recordUsage(
      {
        ...{ tenant: `t${tenant}`, keyId: `key_${tenant}_${key}`, name: `t${tenant}/n${name}`, version: 1 },
        ...{ promptTokens: 100, completionTokens: 50, status: 200, at: now, requestId: 'r' },
      },
      () => undefined,
    );
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

  const cpu = process.cpuUsage();
  let owed = 0;
  while (now < START + 1_000 * load.seconds) {
    for (owed += (load.rate * STEP_MS) / 1_000; owed >= 1; owed -= 1) request();
    await step();
  }
  const { user, system } = process.cpuUsage(cpu);
  const of = { ...written };
  // What is still on its way.
  while (now < START + 1_000 * load.seconds + 120_000) await step();
  const lost = [...counted].reduce(
    (sum, [tenant, many]) => sum + Math.abs(many - (billed.get(tenant) ?? 0)),
    0,
  );
  const requests = [...counted.values()].reduce((sum, many) => sum + many, 0);
  return {
    requests,
    lost,
    gatherers: places.size,
    callsPerSecond: calls / load.seconds,
    transactionsPerSecond: of.transactions / load.seconds,
    mostTransactionsInASecond: Math.max(0, ...bySecond.values()),
    rowsPerRequest: of.rows / requests,
    /** Of one gatherer's time, as if all of this process's CPU was the gatherers'. */
    busyAtMost: (user + system) / 1e6 / load.seconds / GATHERER_SHARDS,
  };
}

const LOAD = { isolates: 1_000, rate: 10_000, tenants: 10_000, names: 3, seconds: 180, giant: 0 };

export async function benchGather(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { seconds: { type: 'string' } } });
  const load = { ...LOAD, seconds: Number(values.seconds ?? LOAD.seconds), restartMs: Infinity };
  const loads: Record<string, GatherLoad> = {
    'Zipf 1.0': load,
    'a tenant has half': { ...load, giant: 20 },
    'restarts each 30 s': { ...load, restartMs: 30_000 },
  };
  const table = new Table({
    head: ['load', 'requests', 'lost', 'calls/s', 'D1 tx/s', 'most', 'rows a request', 'busy at most'],
  });
  const results: Record<string, Awaited<ReturnType<typeof gatherUsage>>> = {};
  for (const [name, one] of Object.entries(loads)) {
    const result = (results[name] = await gatherUsage(one));
    table.push([
      ...[name, result.requests, result.lost, Math.round(result.callsPerSecond)],
      ...[result.transactionsPerSecond.toFixed(2), result.mostTransactionsInASecond],
      ...[result.rowsPerRequest.toFixed(4), `${Math.round(100 * result.busyAtMost)} %`],
    ]);
  }
  const machine = await describeMachine();
  console.log(table.toString());
  console.log(JSON.stringify({ date: new Date().toISOString(), machine, load, results }));
}
