/** Counts in this isolate, and sends what it has counted to the gatherers. */
import { fnv1aMixed } from '../../protocol/identity.ts';
import { logLine, reasonOf } from '../log.ts';
import type { UsageEvent, UsageRow, UsageSink } from '../metering/ports.ts';
import { FLUSH_ENDS_MS, writeInTries } from '../platform/store-calls.ts';
import { COUNT_FLUSH_MS, COUNT_TRIES, GATHERER_SHARDS, LARGE_TENANT_ROWS, MAX_BATCH_ROWS } from './limits.ts';
import type { CountBatch, Gatherers } from './ports.ts';
import { addUsage } from './sum-usage.ts';

export const shardOf = (record: string): number => fnv1aMixed(record) % GATHERER_SHARDS;

export const createGathering = (params: {
  gatherers: Pick<Gatherers, 'add'>;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): UsageSink =>
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
  open: Map<string, UsageRow>;
  /** Sent, and not known to be taken: it is repeated as it was, and nothing is sent before it is taken. */
  batch: CountBatch | null;
  /** Of the last batch. */
  number: number;
  /** When the flush that sends on it began, unix ms; -Infinity = none does. */
  since: number;
  /** Another flush wanted to send on it meanwhile. */
  asked: boolean;
}

const HOUR_MS = 3_600_000;

const rowOf = ({ at, tenant, keyId, name, version, ...event }: UsageEvent): UsageRow => ({
  ...{ hour: Math.floor(at / HOUR_MS), tenant, keyId, name, version, requests: 1 },
  // 499: the client disconnected, which is not an error.
  errors: event.status >= 400 && event.status !== 499 ? 1 : 0,
  promptTokens: event.promptTokens,
  completionTokens: event.completionTokens,
});

/**
 * Sums up in this isolate, and sends a batch to each gatherer, during and after responses: one flush for everything within
 * `flushMs`. What a gatherer does not take waits, and what is counted meanwhile is added to what waits behind it: nothing
 * is dropped, and memory grows with different rows, not with requests. What was not taken is lost if the isolate dies.
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
}): UsageSink {
  const { gatherers, sender, now, sleep, flushMs, maxRows, tries } = params;
  const lanes = new Map<number, Lane>();
  /** Rows that were begun since the last flush, by tenant. */
  const begun = new Map<string, number>();
  /** Start of the waiting flush, unix ms; -Infinity = none. */
  let flushing = -Infinity;

  function note(row: UsageRow): void {
    const { tenant, keyId } = row;
    const rows = begun.get(tenant) ?? 0;
    const shard = params.shardOf(rows < LARGE_TENANT_ROWS ? tenant : `${tenant} ${keyId}`);
    let lane = lanes.get(shard);
    if (lane === undefined)
      lanes.set(shard, (lane = { open: new Map(), batch: null, number: 0, since: -Infinity, asked: false }));
    if (addUsage(lane.open, row)) begun.set(tenant, rows + 1);
  }

  function close(lane: Lane): CountBatch | null {
    if (lane.open.size === 0) return null;
    const usage: UsageRow[] = [];
    for (const [key, row] of lane.open) {
      if (usage.length === maxRows) break;
      usage.push(row);
      lane.open.delete(key);
    }
    lane.number += 1;
    return { sender, number: lane.number, usage };
  }

  async function send(shard: number, batch: CountBatch): Promise<boolean> {
    const failed = await writeInTries(() => gatherers.add(shard, batch), { tries, pauseMs: flushMs, sleep });
    if (failed === null) return true;
    logLine('usage_not_written', { reason: reasonOf(failed.error), rows: batch.usage.length });
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
      more = lane.open.size > 0;
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
    await Promise.all([...lanes].map(([shard, lane]) => sendLane(shard, lane)));
  }

  return {
    recordUsage(event, keepAlive) {
      note(rowOf(event));
      if (now() - flushing < FLUSH_ENDS_MS) return;
      flushing = now();
      keepAlive(flush());
    },
  };
}
