/** Records traffic: what is noted of each completion, and how it is sent in batches. */
import { keepAlive, type AppContext } from '../http/request.ts';
import { MAX_TRAFFIC_ROWS, MAX_UNSENT_TRAFFIC, TRAFFIC_FLUSH_MS, TRAFFIC_TRIES } from './limits.ts';
import type { EndedCompletion, TrafficCollector, TrafficSink, TrafficBatch } from './ports.ts';
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

/** Sums traffic in this isolate and sends it in batches; see {@link createBatchedWrites}. */
function createTrafficRecorder(params: {
  collector: TrafficCollector;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  flushMs: number;
  /** Rows and requests per batch. */
  maxSize: number;
  /** Rows and requests that may wait for the collector. */
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

/**
 * Records a completion that has ended, in the traffic and in the list of requests; never its text.
 * @param how.kept its prompt and answer are stored.
 * @param how.code the error's, if the trace does not know it.
 * @param how.endedAt unix ms; default: now.
 */
export function recordEnded(
  deps: { trafficSink: TrafficSink; now: () => number },
  context: AppContext,
  how: {
    status: number;
    code?: string;
    promptTokens?: number;
    completionTokens?: number;
    firstAt?: number | null;
    endedAt?: number;
    cold?: boolean;
    kept?: boolean;
  },
): EndedCompletion {
  const trace = context.get('trace');
  const { facts, startedAt } = trace;
  const { endedAt = deps.now(), firstAt = null } = how;
  const since = (at: number): number => Math.max(0, Math.round(at - startedAt));
  const requestId = context.get('requestId');
  const ended: EndedCompletion = {
    id: trace.ownId,
    ...(requestId === trace.ownId ? {} : { request_id: requestId }),
    at: endedAt,
    tenant: facts.tenant ?? '',
    key_id: facts.keyId ?? '',
    name: facts.name ?? '',
    ...(facts.unknownName === undefined ? {} : { unknown_name: facts.unknownName }),
    version: facts.version ?? 0,
    route: context.req.routePath,
    status: how.status,
    code: how.code ?? facts.code ?? '',
    stream: facts.stream ?? false,
    experiment: facts.experiment ?? '',
    variant: facts.variant ?? '',
    origin: facts.origin ?? '',
    degraded: facts.degraded ?? '',
    cold: how.cold ?? false,
    ...(how.kept === true ? { kept: true } : {}),
    prompt_tokens: how.promptTokens ?? 0,
    completion_tokens: how.completionTokens ?? 0,
    duration_ms: since(endedAt),
    ttft_ms: firstAt === null ? null : since(firstAt),
    phases: [
      ...trace.phases(),
      ...(facts.originPhases ?? []).map(([name, ms]) => [`origin-${name}`, ms] as const),
    ].map(([name, ms]) => ({ name, ms })),
  };
  deps.trafficSink.record(ended, (work) => keepAlive(context, work));
  return ended;
}
