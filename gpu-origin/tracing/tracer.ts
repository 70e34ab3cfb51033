/** Sends spans. Nothing here delays or fails a request: spans wait in a bounded queue, and go when it is full. */
import {
  EXPORT_END,
  exportHead,
  rejectedSpans,
  RETRYABLE_STATUSES,
  writeSpan,
  type Span,
} from '../../protocol/otlp.ts';
import { newTraceId, type Traceparent } from '../../protocol/trace-context.ts';
import type { Sampler, TracingConfig } from './tracing-config.ts';

/** Attempts for one batch: as the specification wants, with waits that grow, and not for ever. */
const MAX_ATTEMPTS = 5;
const FIRST_WAIT_MS = 1_000;
const MAX_WAIT_MS = 30_000;
/** For what is left at the end. An origin has 60 s from SIGTERM on, and drains for 57. */
export const FLUSH_MS = 2_000;
/** One line in the log for this long, ms. */
const LOG_EVERY_MS = 60_000;
const MAX_ANSWER_BYTES = 65_536;

export interface TracerParams {
  config: TracingConfig;
  /** An outcome, and the number of spans that had it. */
  onSpans: (outcome: 'sent' | 'dropped' | 'failed', spans: number) => void;
  /** Why an export failed: a status or an error's code, never a header; at most once a minute. */
  onTrouble: (reason: string) => void;
  version?: string;
  fetch?: typeof globalThis.fetch;
  /** ms of a monotonic clock. */
  now?: () => number;
  /** From 0 to 1. */
  random?: () => number;
  firstWaitMs?: number;
}

interface Waiting {
  json: string;
  spans: number;
}

export class Tracer {
  readonly #params: TracerParams;
  readonly #head: string;
  #queue: Waiting[] = [];
  #queued = 0;
  #exporting: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #loggedAt = -Infinity;
  readonly #ended = new AbortController();

  constructor(params: TracerParams) {
    this.#params = params;
    this.#head = exportHead(params.config.resource, { name: 'graft.origin', version: params.version });
  }

  get latestNames(): boolean {
    return this.#params.config.latestNames;
  }

  /** @returns the span of a new request, and whether it is recorded. */
  begin(parent: Traceparent | null): Traceparent {
    const traceId = parent?.traceId ?? newTraceId(16);
    const sampled = isSampled(this.#params.config.sampler, traceId, parent);
    const state = parent?.state;
    return { traceId, spanId: newTraceId(8), sampled, ...(state === undefined ? {} : { state }) };
  }

  /** Queues the spans of a request: all of them, or none when they do not fit. */
  record(spans: readonly Span[]): void {
    const { maxQueue, maxBatch, delayMs } = this.#params.config;
    if (this.#ended.signal.aborted || this.#queued + spans.length > maxQueue) {
      this.#params.onSpans('dropped', spans.length);
      return;
    }
    // Written now: a batch at once would hold up the event loop for milliseconds.
    this.#queue.push({ json: spans.map(writeSpan).join(','), spans: spans.length });
    this.#queued += spans.length;
    if (this.#queued >= maxBatch) void this.#export();
    else this.#timer ??= setTimeout(() => void this.#export(), delayMs).unref();
  }

  /** Sends what is queued. @returns when it is sent or given up, at most {@link FLUSH_MS} later. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FLUSH_MS);
    });
    await Promise.race([this.#export(), late]);
    clearTimeout(timer);
    this.#ended.abort();
    this.#params.onSpans('dropped', this.#queued);
    this.#queue = [];
    this.#queued = 0;
  }

  /** Until nothing waits; one batch after the other. */
  #export(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#exporting ??= this.#exportAll().finally(() => (this.#exporting = null));
    return this.#exporting;
  }

  async #exportAll(): Promise<void> {
    while (this.#queue.length > 0 && !this.#ended.signal.aborted) {
      const batch = this.#take();
      const spans = batch.reduce((sum, one) => sum + one.spans, 0);
      const body = `${this.#head}${batch.map(({ json }) => json).join(',')}${EXPORT_END}`;
      const rejected = (await this.#send(body)) ?? spans;
      const failed = Math.min(spans, rejected);
      if (failed > 0) this.#params.onSpans('failed', failed);
      if (failed < spans) this.#params.onSpans('sent', spans - failed);
    }
  }

  #take(): Waiting[] {
    let spans = 0;
    let count = 0;
    for (const one of this.#queue) {
      if (count > 0 && spans + one.spans > this.#params.config.maxBatch) break;
      spans += one.spans;
      count += 1;
    }
    this.#queued -= spans;
    return this.#queue.splice(0, count);
  }

  /** @returns the number of spans that the receiver rejected; null = it has none of them. */
  async #send(body: string): Promise<number | null> {
    const { config, fetch: send = globalThis.fetch, random = Math.random } = this.#params;
    let wait = this.#params.firstWaitMs ?? FIRST_WAIT_MS;
    for (let attempt = 1; ; attempt += 1) {
      let after = 0;
      try {
        const response = await send(config.url, {
          method: 'POST',
          headers: { ...config.headers, 'content-type': 'application/json' },
          body,
          // A redirect would carry the headers elsewhere.
          redirect: 'error',
          signal: AbortSignal.any([this.#ended.signal, AbortSignal.timeout(config.timeoutMs)]),
        });
        if (response.ok) return await this.#rejectedOf(response);
        await response.body?.cancel();
        this.#note(`status ${response.status}`);
        if (!RETRYABLE_STATUSES.has(response.status)) return null;
        after = Number(response.headers.get('retry-after') ?? 0) * 1_000 || 0;
      } catch (error) {
        if (this.#ended.signal.aborted) return null;
        this.#note(codeOf(error));
      }
      if (attempt === MAX_ATTEMPTS) return null;
      await this.#pause(Math.min(MAX_WAIT_MS, Math.max(after, wait * (0.5 + random()))));
      if (this.#ended.signal.aborted) return null;
      wait *= 2;
    }
  }

  async #rejectedOf(response: Response): Promise<number> {
    if (Number(response.headers.get('content-length') ?? Infinity) > MAX_ANSWER_BYTES) {
      await response.body?.cancel();
      return 0;
    }
    const rejected = rejectedSpans(await response.text().catch(() => ''));
    if (rejected > 0) this.#note('the receiver rejected spans');
    return rejected;
  }

  #note(reason: string): void {
    const { now = () => performance.now(), onTrouble } = this.#params;
    if (now() - this.#loggedAt < LOG_EVERY_MS) return;
    this.#loggedAt = now();
    onTrouble(reason);
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#ended;
    return new Promise((resolve) => {
      const over = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', over);
        resolve();
      };
      const timer = setTimeout(over, ms).unref();
      signal.addEventListener('abort', over);
    });
  }
}

function isSampled({ parentBased, share }: Sampler, traceId: string, parent: Traceparent | null): boolean {
  if (parentBased && parent !== null) return parent.sampled;
  // The last 56 bits are random by W3C Trace Context, level 2; so all processes with one share agree.
  return Number.parseInt(traceId.slice(-13), 16) < share * 2 ** 52;
}

/** Of an error of `fetch`: its messages may contain an address or a header. */
function codeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof Error && 'code' in cause && typeof cause.code === 'string') return cause.code;
  return error instanceof Error ? error.name : 'unknown';
}
