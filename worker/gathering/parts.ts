/** Counts in this isolate, and sends what it has counted to the gatherers. */
import { fnv1aMixed } from '../../protocol/identity.ts';
import { logLine, reasonOf } from '../log.ts';
import type { UsageEvent, UsageRow, UsageSink } from '../metering/ports.ts';
import { FLUSH_ENDS_MS, writeInTries } from '../platform/store-calls.ts';
import { MAX_BATCH_REQUESTS, MAX_UNSENT_REQUESTS } from '../traffic/limits.ts';
import type { RequestChunk, TrafficRow, TrafficSink } from '../traffic/ports.ts';
import { addRequests, addTraffic, rowOf, type TrafficRows } from '../traffic/sum-traffic.ts';
import {
  COUNT_FLUSH_MS,
  COUNT_TRIES,
  GATHERER_SHARDS,
  LARGE_TENANT_MS,
  LARGE_TENANT_ROWS,
  MAX_BATCH_ROWS,
} from './limits.ts';
import type { CountBatch, Gatherers } from './ports.ts';
import { addUsage } from './sum-usage.ts';

export const shardOf = (record: string): number => fnv1aMixed(record) % GATHERER_SHARDS;

export const createGathering = (params: {
  gatherers: Pick<Gatherers, 'add'>;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): UsageSink & TrafficSink =>
  createCountRecorder({
    ...params,
    sender: crypto.randomUUID(),
    shardOf,
    flushMs: COUNT_FLUSH_MS,
    maxRows: MAX_BATCH_ROWS,
    tries: COUNT_TRIES,
  });

/** On the way to one gatherer. */
interface Lane {
  usage: Map<string, UsageRow>;
  traffic: TrafficRows;
  requests: Map<string, RequestChunk>;
  /** Of all tenants. */
  listed: number;
  /** Sent, and not known to be taken: it is repeated as it was, and nothing is sent before it is taken. */
  batch: CountBatch | null;
  /** Of the last batch. */
  number: number;
  /** When the flush that sends on it began, unix ms; -Infinity = none does. */
  since: number;
  /** Another flush wanted to send on it meanwhile. */
  asked: boolean;
}

const newLane = (): Lane => ({
  ...{ usage: new Map(), traffic: new Map(), requests: new Map(), listed: 0 },
  ...{ batch: null, number: 0, since: -Infinity, asked: false },
});

/** @returns the first rows, which are deleted. @param most so many. */
function taken<T>(rows: Map<string, T>, most: number): T[] {
  const some = [...rows].slice(0, most);
  for (const [key] of some) rows.delete(key);
  return some.map(([, row]) => row);
}

const HOUR_MS = 3_600_000;

const usageOf = ({ at, tenant, keyId, name, version, base, ...event }: UsageEvent): UsageRow => ({
  ...{ hour: Math.floor(at / HOUR_MS), tenant, keyId, name, version, base, requests: 1 },
  // 499: the client disconnected, which is not an error.
  errors: event.status >= 400 && event.status !== 499 ? 1 : 0,
  promptTokens: event.promptTokens,
  completionTokens: event.completionTokens,
});

/**
 * Sums up in this isolate, and sends a batch to each gatherer, during and after responses: one flush for everything within
 * `flushMs`. What a gatherer does not take waits, and what is counted meanwhile is added to what waits behind it: no
 * sum is dropped, and memory grows with different rows, not with requests: of those that are listed, the older
 * ones are dropped. What was not taken is lost if the isolate dies.
 */
export function createCountRecorder(params: {
  gatherers: Pick<Gatherers, 'add'>;
  /** Different for each isolate. */
  sender: string;
  shardOf: (record: string) => number;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  flushMs: number;
  /** Per batch. */
  maxRows: number;
  tries: number;
}): UsageSink & TrafficSink {
  const { gatherers, sender, now, sleep, flushMs, maxRows, tries } = params;
  const lanes = new Map<number, Lane>();
  /** Rows that were begun since the last flush, by tenant. */
  const begun = new Map<string, number>();
  /** Until when tenants are spread that gatherers have called large, unix ms. */
  const large = new Map<string, number>();
  /** Start of the waiting flush, unix ms; -Infinity = none. */
  let flushing = -Infinity;

  /** @param add returns whether a row was begun. */
  function note({ tenant, keyId }: Pick<UsageRow, 'tenant' | 'keyId'>, add: (lane: Lane) => boolean): void {
    const rows = begun.get(tenant) ?? 0;
    const isLarge = rows >= LARGE_TENANT_ROWS || now() < (large.get(tenant) ?? -Infinity);
    const shard = params.shardOf(isLarge ? `${tenant} ${keyId}` : tenant);
    let lane = lanes.get(shard);
    if (lane === undefined) lanes.set(shard, (lane = newLane()));
    if (add(lane)) begun.set(tenant, rows + 1);
  }

  function list(lane: Lane, chunk: RequestChunk): void {
    const { requests } = lane;
    // When there are too many, the tenant's own oldest is dropped for it, not another's.
    const own = requests.get(chunk.tenant)?.requests.length ?? 0;
    const most = lane.listed < MAX_UNSENT_REQUESTS ? MAX_BATCH_REQUESTS : own;
    lane.listed += addRequests(requests, chunk, most);
  }

  function close(lane: Lane): CountBatch | null {
    if (lane.usage.size + lane.traffic.size + lane.requests.size === 0) return null;
    lane.number += 1;
    lane.listed = 0;
    return {
      ...{ sender, number: lane.number },
      usage: taken(lane.usage, maxRows),
      traffic: taken<TrafficRow>(lane.traffic, maxRows),
      requests: taken(lane.requests, Infinity),
    };
  }

  function flushSoon(keepAlive: (work: Promise<unknown>) => void): void {
    if (now() - flushing < FLUSH_ENDS_MS) return;
    flushing = now();
    keepAlive(flush());
  }

  async function send(shard: number, batch: CountBatch): Promise<boolean> {
    const add = async (): Promise<void> => {
      for (const tenant of await gatherers.add(shard, batch)) large.set(tenant, now() + LARGE_TENANT_MS);
    };
    const failed = await writeInTries(add, { tries, pauseMs: flushMs, sleep });
    if (failed === null) return true;
    const rows = batch.usage.length + batch.traffic.length;
    logLine('usage_not_written', { reason: reasonOf(failed.error), rows });
    return false;
  }

  async function sendLane(shard: number, lane: Lane): Promise<void> {
    lane.asked = true;
    // One that has not ended by then was cut off with its request.
    if (now() - lane.since < FLUSH_ENDS_MS) return;
    lane.since = now();
    for (let more = true; more;) {
      lane.asked = false;
      const batch = (lane.batch ??= close(lane));
      if (batch === null) break;
      more = lane.usage.size + lane.traffic.size > 0;
      // A batch that another flush is sending is taken once, whoever is second, because of its number.
      if (!(await send(shard, batch))) break;
      if (lane.batch === batch) lane.batch = null;
      more ||= lane.asked;
    }
    lane.since = -Infinity;
  }

  async function flush(): Promise<void> {
    await sleep(flushMs);
    // Later records belong to the next flush.
    flushing = -Infinity;
    begun.clear();
    for (const [tenant, until] of large) if (now() >= until) large.delete(tenant);
    await Promise.all([...lanes].map(([shard, lane]) => sendLane(shard, lane)));
  }

  return {
    recordUsage(event, keepAlive) {
      const row = usageOf(event);
      note(row, ({ usage }) => addUsage(usage, row));
      flushSoon(keepAlive);
    },
    record(ended, keepAlive) {
      const row = rowOf(ended);
      note(row, (lane) => {
        list(lane, { tenant: ended.tenant, requests: [ended], leftOut: 0 });
        return addTraffic(lane.traffic, row);
      });
      flushSoon(keepAlive);
    },
  };
}
