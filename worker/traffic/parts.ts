/** What counts completions by time. */
import { MAX_TRAFFIC_ROWS, MAX_UNSENT_TRAFFIC, TRAFFIC_FLUSH_MS, TRAFFIC_TRIES } from './limits.ts';
import type { TrafficCollector, TrafficSink, TrafficBatch } from './ports.ts';
import { logLine } from '../log.ts';
import { createBatchedWrites } from '../platform/store-calls.ts';
import { gather, rowsOf } from './sum-traffic.ts';

export const createTraffic = (params: {
  collector: TrafficCollector;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): TrafficSink =>
  createTrafficRecorder({
    ...params,
    newId: () => crypto.randomUUID(),
    flushMs: TRAFFIC_FLUSH_MS,
    maxSize: MAX_TRAFFIC_ROWS,
    maxUnsent: MAX_UNSENT_TRAFFIC,
    tries: TRAFFIC_TRIES,
  });

/** Sums up what this isolate serves and sends it in batches; see {@link createBatchedWrites}. */
function createTrafficRecorder(params: {
  collector: TrafficCollector;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  flushMs: number;
  /** Of one batch, in rows and requests. */
  maxSize: number;
  /** Waiting for the collector. */
  maxUnsent: number;
  tries: number;
}): TrafficSink {
  const { collector, now, newId, maxSize } = params;
  const open = gather();
  const sizeOf = ({ rows, chunks }: TrafficBatch): number =>
    rows.length + chunks.reduce((sum, { requests }) => sum + requests.length, 0);
  const writes = createBatchedWrites<TrafficBatch>({
    ...params,
    close,
    write: (batch) => collector.add(batch),
    lane: () => 'the collector',
    size: sizeOf,
    onRefused: (batch, reason) => logLine('traffic_not_written', { reason, rows: sizeOf(batch) }),
    onLost: (batch) => logLine('traffic_lost', { rows: sizeOf(batch) }),
  });

  function close(): void {
    if (open.size > 0) writes.add({ id: newId(), at: now(), ...open.take() });
  }

  return {
    record(ended, keepAlive) {
      if (open.size >= maxSize) close();
      open.add(rowsOf(ended), [{ tenant: ended.tenant, requests: [ended], leftOut: 0 }]);
      writes.flushSoon(keepAlive);
    },
  };
}
