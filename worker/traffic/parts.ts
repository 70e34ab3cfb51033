/** What counts completions by time. */
import { MAX_TRAFFIC_ROWS, MAX_UNSENT_TRAFFIC, TRAFFIC_FLUSH_MS, TRAFFIC_TRIES } from './limits.ts';
import type { TrafficCollector, TrafficSink } from './ports.ts';
import { createTrafficRecorder } from './traffic-recorder.ts';

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
