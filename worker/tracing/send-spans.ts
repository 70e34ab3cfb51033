/** Sends the edge's spans after responses, and counts those that no receiver took. Never delays or fails a request. */
import { z } from 'zod';
import {
  EXPORT_END,
  exportHead,
  OtlpAddress,
  OtlpHeaders,
  rejectedSpans,
  RETRYABLE_STATUSES,
  tracesBelow,
  unset,
  writeSpan,
  type Span,
} from '../../protocol/otlp.ts';
import { logLine } from '../log.ts';
import { FLUSH_ENDS_MS } from '../platform/store-calls.ts';
import {
  EXPORT_PAUSE_MS,
  EXPORT_TIMEOUT_MS,
  EXPORT_TRIES,
  LOSS_LOG_MS,
  MAX_EXPORTED_SPANS,
  MAX_RECEIVER_BYTES,
  MAX_WAITING_SPANS,
  SPANS_FLUSH_MS,
} from './limits.ts';

/** Where spans go. */
export interface SpanReceiver {
  url: string;
  /** May be secret. */
  headers: Readonly<Record<string, string>>;
  service: string;
}

/** Variables of the worker, named as OpenTelemetry's specification/protocol/exporter.md does. */
export const RECEIVER_VARIABLES = {
  OTEL_EXPORTER_OTLP_ENDPOINT: OtlpAddress,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: OtlpAddress,
  OTEL_EXPORTER_OTLP_HEADERS: OtlpHeaders,
  OTEL_SERVICE_NAME: z.preprocess(unset, z.string().default('graft-edge')),
};
type ReceiverVariables = z.infer<z.ZodObject<typeof RECEIVER_VARIABLES>>;

/** @returns null without an endpoint. */
export function receiverOf(given: ReceiverVariables): SpanReceiver | null {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: below, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: exact } = given;
  const url = exact ?? (below === undefined ? null : tracesBelow(below));
  if (url === null) return null;
  return { url, headers: given.OTEL_EXPORTER_OTLP_HEADERS, service: given.OTEL_SERVICE_NAME };
}

export interface SpanSink {
  /** @param keepAlive lets the sending continue after the response. */
  record(spans: readonly Span[], keepAlive: (work: Promise<unknown>) => void): void;
}

interface Waiting {
  json: string;
  spans: number;
}

/**
 * Collects the spans of an isolate's requests, and sends them in batches.
 * @param params.onLost called with spans that were dropped, or that the receiver did not take.
 */
export function createSpanSink(params: {
  receiver: SpanReceiver;
  fetch: (url: string, init: RequestInit) => Promise<Response>;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  onLost: (spans: number) => void;
}): SpanSink {
  const { receiver, now, sleep } = params;
  const head = exportHead(
    {
      'service.name': receiver.service,
      'cloud.provider': 'cloudflare',
      'telemetry.sdk.language': 'webjs',
      'telemetry.sdk.name': 'graft',
    },
    { name: 'graft.edge' },
  );
  let waiting: Waiting[] = [];
  let waitingSpans = 0;
  /** Start of the flush that will take what waits, unix ms; -Infinity = none. */
  let flushing = -Infinity;
  /** Batches on their way, with the number of their spans and when they are over, unix ms. */
  const sending = new Map<symbol, { spans: number; until: number }>();
  let unlogged = 0;
  let loggedAt = -Infinity;

  function lose(spans: number, reason: string): void {
    params.onLost(spans);
    unlogged += spans;
    if (now() - loggedAt < LOSS_LOG_MS) return;
    logLine('traces_not_sent', { reason, spans: unlogged }, 'warning');
    loggedAt = now();
    unlogged = 0;
  }

  /** @returns the number of rejected spans, or why the receiver has none of them; `again` = it may take them later. */
  async function send(body: string): Promise<number | { reason: string; again: boolean }> {
    try {
      const response = await params.fetch(receiver.url, {
        method: 'POST',
        headers: { ...receiver.headers, 'content-type': 'application/json' },
        body,
        // A redirect would carry the headers elsewhere; workerd has no `error`.
        redirect: 'manual',
        signal: AbortSignal.timeout(EXPORT_TIMEOUT_MS),
      });
      const { ok, status, headers } = response;
      if (ok && Number(headers.get('content-length') ?? Infinity) <= MAX_RECEIVER_BYTES)
        return rejectedSpans(await response.text().catch(() => ''));
      await response.body?.cancel();
      return ok ? 0 : { reason: `status ${status}`, again: RETRYABLE_STATUSES.has(status) };
    } catch (error) {
      // Not its message, which may contain the address.
      return { reason: error instanceof Error ? error.name : 'unknown', again: true };
    }
  }

  async function sendBatch(batch: readonly Waiting[]): Promise<void> {
    const spans = batch.reduce((sum, one) => sum + one.spans, 0);
    const id = Symbol();
    sending.set(id, { spans, until: now() + FLUSH_ENDS_MS });
    const body = `${head}${batch.map(({ json }) => json).join(',')}${EXPORT_END}`;
    for (let tries = 1; ; tries += 1) {
      const sent = await send(body);
      if (typeof sent === 'number' || !sent.again || tries === EXPORT_TRIES) {
        // Otherwise it was counted as lost before, because it took too long.
        if (!sending.delete(id)) return;
        if (typeof sent !== 'number') lose(spans, sent.reason);
        else if (sent > 0) lose(Math.min(spans, sent), 'the receiver rejected spans');
        return;
      }
      await sleep(EXPORT_PAUSE_MS * tries);
    }
  }

  async function flush(): Promise<void> {
    await sleep(SPANS_FLUSH_MS);
    // Later spans belong to the next flush.
    flushing = -Infinity;
    // What follows a response is cut off after some time, and leaves no trace of that.
    for (const [id, { spans, until }] of sending)
      if (now() >= until && sending.delete(id)) lose(spans, 'cut off');
    const all = waiting;
    waiting = [];
    waitingSpans = 0;
    const batches: Waiting[][] = [];
    let room = 0;
    for (const one of all) {
      if (one.spans > room) {
        batches.push([]);
        room = MAX_EXPORTED_SPANS;
      }
      batches.at(-1)?.push(one);
      room -= one.spans;
    }
    await Promise.all(batches.map(sendBatch));
  }

  return {
    record(spans, keepAlive) {
      if (waitingSpans + spans.length > MAX_WAITING_SPANS) return lose(spans.length, 'too many are waiting');
      waiting.push({ json: spans.map(writeSpan).join(','), spans: spans.length });
      waitingSpans += spans.length;
      // One that has not ended by then was cut off with its request.
      if (now() - flushing < FLUSH_ENDS_MS) return;
      flushing = now();
      keepAlive(flush());
    },
  };
}
