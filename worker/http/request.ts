/** Middleware of every request: its trace, work after the response, and its log line and metrics at the end. */
import type { Context, MiddlewareHandler } from 'hono';
import { createMiddleware } from 'hono/factory';
import { errorResponse, type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { isEventStream } from '../../protocol/origin-wire.ts';
import {
  newTraceId,
  type Traceparent,
  parseTraceparent,
  TRACEPARENT_HEADER,
  TRACESTATE_HEADER,
} from '../../protocol/trace-context.ts';
import type { Attributes } from '../../protocol/otlp.ts';
import { isSampled } from '../../protocol/identity.ts';
import { asMessagesError } from '../../protocol/messages.ts';
import { MAX_STAGES } from '../tracing/limits.ts';
import type { EndStage, RuntimeSpan, RuntimeTracing, Stage, StageName, Stages } from '../tracing/ports.ts';
import type { AdminCaller, Caller } from '../access/ports.ts';
import type { Trainer } from '../training/ports.ts';
import type { DownloadGrant } from '../downloads/download-token.ts';
import type { PageCaller } from '../publications/publish-token.ts';
import { MAX_DRAINED_BYTES } from '../limits.ts';
import { loggingFailure, logLine } from '../log.ts';
import { withTimeout } from '../platform/store-calls.ts';
import { MAX_ADMIN_BODY_BYTES } from '../../protocol/admin-api/operation.ts';
import { badShape } from '../../protocol/parse-body.ts';
import type { z } from 'zod';

/** Values that middleware leaves for the routes. */
export interface AppEnv {
  Variables: {
    requestId: string;
    admin: AdminCaller;
    caller: Caller;
    downloads: DownloadGrant;
    publication: PageCaller;
    /** Whom a key with the right to train acts for. */
    trainer: Trainer;
    trace: RequestTrace;
  };
}

export type AppContext = Context<AppEnv>;

export const fail = (error: ApiError): Response => errorResponse(error);

/** Runs background work after the response; failures are logged, with the request's id. */
export function keepAlive(context: AppContext, work: Promise<unknown>): void {
  waitUntil(context, loggingFailure(work, { request_id: context.get('requestId') }));
}

/** Runs work that a disconnecting client does not interrupt. The caller handles its failure. */
export function carryThrough<T>(context: AppContext, work: () => Promise<T>): Promise<T> {
  const running = work();
  waitUntil(
    context,
    running.catch(() => undefined),
  );
  return running;
}

function waitUntil(context: AppContext, settled: Promise<unknown>): void {
  try {
    context.executionCtx.waitUntil(settled);
  } catch {
    // Outside of workerd there is no execution context, and nothing would end the work.
  }
}

/** What work beyond this worker needs of the request. */
export const requestLife = (
  context: AppContext,
): { signal: AbortSignal; keepAlive: (work: Promise<unknown>) => void } => ({
  signal: context.req.raw.signal,
  keepAlive: (work) => keepAlive(context, work),
});

/** Query parameters, each at most once. */
export const query = (context: AppContext, name: string): string | null => context.req.query(name) ?? null;

/** For known paths with an unknown method. */
export const methodNotAllowed = (allow: string) => (): Response =>
  errorResponse({ code: 'method_not_allowed', message: `Method not allowed. Use ${allow}.` }, { allow });

/** Phases of a request: the key's record, the name's manifest, the origin's headers. */
type Phase = 'key' | 'name' | 'origin';

/** Such as `prompt`, `first`. */
export type OriginPhase = readonly [name: string, ms: number];

/** Feedback on an answer. The user appears only as the hash that the tallies have, too. */
export interface Feedback {
  /** The experiment's name. */
  name: string;
  experiment: string;
  /** Version of its document at the time of the answer. */
  version: number;
  variant: string;
  metric: string;
  value: number;
  /** Hash of the unit; differs by seed. */
  unit: string;
}

interface RequestFacts {
  tenant?: string;
  keyId?: string;
  /** As published: the answering version, never the client's text; `base` for the base model. */
  name?: string;
  version?: number;
  chainId?: string;
  degraded?: string;
  origin?: string;
  /** Ids of the origins that failed. */
  tried?: readonly string[];
  stream?: boolean;
  /** The request's experiment and variant. */
  experiment?: string;
  variant?: string;
  /** The requested name, if it does not exist: untrusted. */
  unknownName?: string;
  /** Code of its error. */
  code?: string;
  /** The origin's own times until its answer started, ms. */
  originPhases?: readonly OriginPhase[];
  /** Feedback on an earlier answer, if it was counted. */
  feedback?: Feedback;
}

/** How a completion ended; {@link UsageEvent} explains its statuses. */
interface Ending {
  status: number;
  promptTokens: number;
  completionTokens: number;
}

export interface RequestTrace extends Stages {
  /** The edge's own id, unlike the request's, which a client may choose; the same otherwise. */
  readonly ownId: string;
  /** Unix ms. */
  readonly startedAt: number;
  /** What the client says of its trace; null without a valid `traceparent`. */
  readonly client: Traceparent | null;
  /** The edge's own span. It is the edge that decides whether the trace is recorded. */
  readonly span: Traceparent;
  readonly facts: Readonly<RequestFacts>;
  /** As they began. */
  readonly stages: readonly Readonly<Stage>[];
  readonly ending: Ending | null;
  note(facts: RequestFacts): void;
  /** The key says that its client's decision counts, and that its `tracestate` goes on. Before anything is sent. */
  trustClient(): void;
  /** Measures the duration of work; repeated phases add up. The key's and the name's are stages, too. */
  time<T>(phase: Phase, work: Promise<T>): Promise<T>;
  /** @param ms of each phase so far. */
  phases(): ReadonlyMap<Phase, number>;
  /** A completion has ended; called once. */
  finish(ending: Ending): void;
  /** Called with the ending, at once if it is known already. */
  onFinish(listener: (ending: Ending) => void): void;
  /** The request is over: ends the stages that have not ended. */
  close(): void;
}

/** A UUID without its hyphens: 32 hex digits, the last 56 bits random as W3C's level 2 wants. */
const traceIdOf = (ownId: string): string => {
  const id = ownId.replaceAll('-', '');
  return /^(?!0{32})[0-9a-f]{32}$/.test(id) ? id : newTraceId(16);
};

/**
 * @param params.now unix ms; in production it stands still between I/O, which the phases wait for.
 * @param params.share of the traces that are recorded, 0 to 1. Decided by the edge's own id: clients choose their
 * trace's, and could choose to be recorded.
 * @param params.runtime gets the stages as spans; null = nothing does before the end.
 */
export function createRequestTrace({
  now,
  client = null,
  ownId = crypto.randomUUID(),
  share = 0,
  runtime = null,
}: {
  now: () => number;
  client?: Traceparent | null;
  ownId?: string;
  share?: number;
  runtime?: RuntimeTracing | null;
}): RequestTrace {
  const startedAt = now();
  let span: Traceparent = {
    traceId: client?.traceId ?? traceIdOf(ownId),
    spanId: newTraceId(8),
    sampled: isSampled(ownId, share),
  };
  const facts: RequestFacts = {};
  const phases = new Map<Phase, number>();
  const stages: Stage[] = [];
  /** Of stages that have not ended, at the runtime. */
  const open = new Set<() => void>();
  let ending: Ending | null = null;
  let listener: ((ending: Ending) => void) | null = null;
  function begin(name: StageName, spanId: string | null = null): EndStage {
    if (stages.length === MAX_STAGES) return () => undefined;
    const stage: Stage = { name, spanId, from: now(), to: null, attributes: {}, failed: false };
    stages.push(stage);
    const endSpan = runtime === null ? null : beginRuntimeSpan(runtime, name);
    const close = (): void => endSpan?.(stage.attributes);
    open.add(close);
    return ({ attributes = {}, failed = false } = {}) => {
      if (stage.to !== null || !open.delete(close)) return;
      Object.assign(stage, { to: now(), attributes, failed });
      close();
    };
  }

  return {
    ...{ ownId, startedAt, client, facts, stages, begin },
    get span() {
      return span;
    },
    get ending() {
      return ending;
    },
    note: (more) => void Object.assign(facts, more),
    trustClient() {
      if (client !== null) span = { ...client, spanId: span.spanId };
    },
    async time(phase, work) {
      const began = now();
      const end = phase === 'origin' ? null : begin(phase === 'key' ? 'auth' : 'resolve');
      try {
        return await work;
      } finally {
        end?.();
        phases.set(phase, (phases.get(phase) ?? 0) + now() - began);
      }
    },
    phases: () => phases,
    finish(how) {
      if (ending !== null) return;
      ending = how;
      listener?.(how);
    },
    onFinish(heard) {
      if (ending === null) listener = heard;
      else heard(ending);
    },
    close() {
      for (const close of open) close();
      open.clear();
    },
  };
}

/**
 * Begins a span of Workers' own tracing, which ends spans when what their callback returns settles.
 * @returns a function that ends it. Never throws: that tracing is in beta.
 */
function beginRuntimeSpan(
  runtime: RuntimeTracing,
  name: StageName,
): ((attributes: Attributes) => void) | null {
  try {
    let end: (attributes: Attributes) => void = () => undefined;
    const over = (span: RuntimeSpan) =>
      new Promise<void>((resolve) => {
        end = (attributes) => {
          for (const [key, value] of Object.entries(attributes))
            if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
              span.setAttribute(key, value);
          resolve();
        };
      });
    runtime.enterSpan(name, over).catch(() => undefined);
    return (attributes) => end(attributes);
  } catch {
    return null;
  }
}

/** A request that was answered to its last byte, or whose client has disconnected. */
export interface EndedRequest {
  trace: RequestTrace;
  requestId: string;
  method: string;
  /** The pattern, never the path: names and ids must not be in every log. */
  route: string;
  /** Of the answer's headers. */
  status: number;
  /** Unix ms. */
  at: number;
  /** Lets work continue after the response. */
  keepAlive: (work: Promise<unknown>) => void;
}

export type Observer = (ended: EndedRequest) => void;

/** The admin API's answers are never cached: they include keys that are shown once. */
export const noStore = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  context.header('cache-control', 'no-store');
});

/**
 * Reads and drops a small body that a refusal left unread: otherwise the connection is closed after the answer,
 * and a client that reuses it sees a reset.
 */
export const drainBody: MiddlewareHandler<AppEnv> = async (context, next) => {
  await next();
  const { body, bodyUsed, headers } = context.req.raw;
  if (body === null || bodyUsed) return;
  if (Number(headers.get('content-length') ?? Infinity) > MAX_DRAINED_BYTES) return;
  try {
    await body.pipeTo(new WritableStream());
  } catch {
    // The client has disconnected, or the body is being read after all.
  }
};

/**
 * Gives each request a trace and its id in the answer, and reports it at its end: for a stream at its last
 * byte.
 */
export const observeRequest = (params: {
  observer: Observer;
  now: () => number;
  traceShare: number;
  runtimeTracing: () => RuntimeTracing | null;
}) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const requestId = context.get('requestId');
    const isChosen = context.req.header('x-request-id') === requestId;
    const trace = createRequestTrace({
      now: params.now,
      client: parseTraceparent(context.req.header(TRACEPARENT_HEADER), context.req.header(TRACESTATE_HEADER)),
      ownId: isChosen ? crypto.randomUUID() : requestId,
      share: params.traceShare,
      runtime: params.runtimeTracing(),
    });
    context.set('trace', trace);
    await next();
    context.header('x-request-id', requestId);
    const { method, routePath } = context.req;
    const route = routePath.startsWith('/') ? routePath : 'other';
    const { status } = context.res;
    const report = (): void => {
      const at = params.now();
      trace.close();
      params.observer({
        ...{ trace, requestId, method, route, status, at },
        keepAlive: (work) => keepAlive(context, work),
      });
    };
    if (isEventStream(context.res.headers)) trace.onFinish(report);
    else report();
  });

/** Refusals here use Anthropic's format for its clients. */
export const anthropicErrors = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  const { res } = context;
  if (res.ok) return;
  // Otherwise the headers of both are merged.
  context.res = undefined;
  context.res = await asMessagesError(res);
});

/** Headers that a page in a browser may read. */
export const EXPOSED_HEADERS = [
  'retry-after',
  'retry-after-ms',
  'server-timing',
  'x-graft-adapter',
  'x-graft-alias',
  'x-graft-base',
  'x-graft-chain',
  'x-graft-composed',
  'x-graft-degraded',
  'x-graft-experiment',
  'x-graft-ignored',
  'x-graft-inherited',
  'x-graft-limited-by',
  'x-graft-origin',
  'x-graft-variant',
  'x-ratelimit-limit-requests',
  'x-ratelimit-limit-tokens',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-requests',
  'x-ratelimit-reset-tokens',
  'x-request-id',
  'x-should-retry',
];

/** Answers from this status on are logged regardless of the sample. */
const FAILED = 500;

/**
 * Writes one log line per request, and one data point per completion and per counted feedback.
 * @param params.logSample share of the requests that are logged, 0 to 1; failures always are.
 * @param params.pointSample the same for points; each says how many it stands for. Decided by the edge's own id:
 * clients choose the other one, and could choose what the sums say.
 */
export function createObserver(params: {
  points: Pick<DataPoints, 'completion' | 'feedback'>;
  logSample: number;
  pointSample: number;
  /** Gets requests whose trace is recorded. */
  onTraced?: (ended: EndedRequest) => void;
}): Observer {
  const { points, pointSample, onTraced } = params;
  return (ended) => {
    const { trace, requestId, method, route, status: answered, at } = ended;
    const { facts, ending } = trace;
    // Requests that are no client's work have no stages.
    if (trace.span.sampled && trace.stages.length > 0) onTraced?.(ended);
    const status = ending?.status ?? answered;
    const ms = at - trace.startedAt;
    const phase = trace.phases();
    if (status >= FAILED || isSampled(requestId, params.logSample))
      logLine(
        'request',
        {
          request_id: requestId,
          trace_id: trace.client !== null || trace.span.sampled ? trace.span.traceId : undefined,
          method,
          route,
          status,
          ms,
          tenant: facts.tenant,
          key_id: facts.keyId,
          name: facts.name,
          version: facts.version,
          chain: facts.chainId,
          origin: facts.origin,
          tried: facts.tried === undefined || facts.tried.length === 0 ? undefined : facts.tried.join(','),
          degraded: facts.degraded,
          experiment: facts.experiment,
          variant: facts.variant,
          stream: facts.stream,
          prompt_tokens: ending?.promptTokens,
          completion_tokens: ending?.completionTokens,
          key_ms: phase.get('key'),
          name_ms: phase.get('name'),
          origin_ms: phase.get('origin'),
        },
        status >= FAILED ? 'error' : 'info',
      );
    if (status < FAILED && !isSampled(trace.ownId, pointSample)) return;
    const asked = {
      ...{ tenant: facts.tenant ?? '', keyId: facts.keyId ?? '', route, requestId },
      weight: status < FAILED ? 1 / pointSample : 1,
    };
    if (facts.feedback !== undefined) points.feedback({ ...asked, ...facts.feedback });
    if (ending === null || facts.name === undefined) return;
    points.completion({
      ...asked,
      name: facts.name,
      version: facts.version ?? 0,
      origin: facts.origin ?? '',
      degraded: facts.degraded ?? '',
      experiment: facts.experiment ?? '',
      variant: facts.variant ?? '',
      stream: facts.stream ?? false,
      status,
      promptTokens: ending.promptTokens,
      completionTokens: ending.completionTokens,
      ms,
      originMs: phase.get('origin') ?? 0,
      failovers: facts.tried?.length ?? 0,
    });
  };
}

/** A data point of the edge's metrics: one per completion … */
export interface CompletionPoint {
  tenant: string;
  keyId: string;
  name: string;
  version: number;
  origin: string;
  route: string;
  requestId: string;
  degraded: string;
  /** Id, and the variant's key; empty without one. */
  experiment: string;
  variant: string;
  stream: boolean;
  /** HTTP status; 499 when the client disconnected, 502 when the stream was cut off. */
  status: number;
  promptTokens: number;
  completionTokens: number;
  /** To the last byte, ms. */
  ms: number;
  /** To the origin's headers, ms. */
  originMs: number;
  /** Origins that failed. */
  failovers: number;
  /** Completions that it stands for. */
  weight: number;
}

/** … and one per counted feedback. */
export interface FeedbackPoint extends Feedback {
  tenant: string;
  /** Of the reporting key, and of the report. */
  keyId: string;
  route: string;
  requestId: string;
  /** Reports that it stands for. */
  weight: number;
}

/** Port of the edge's metrics. Never throws and never waits. One contract suite (test/contracts/data-points.ts). */
export interface DataPoints {
  completion(point: CompletionPoint): void;
  feedback(point: FeedbackPoint): void;
  /** Spans that no receiver has. */
  lostSpans(spans: number): void;
}

/** Without a dataset. */
export const noPoints: DataPoints = {
  completion: () => undefined,
  feedback: () => undefined,
  lostSpans: () => undefined,
};

/** A Workers Analytics Engine dataset (binding `ANALYTICS`). */
export interface AnalyticsDataset {
  writeDataPoint(point: Columns): void;
}

interface Columns {
  indexes: string[];
  blobs: string[];
  doubles: number[];
}

/** An index has at most 96 bytes. */
const MAX_INDEX_CHARACTERS = 96;
/** All blobs together have at most 16 KB. */
const MAX_BLOB_CHARACTERS = 256;

/** @returns at most this many characters; tenants, ids and names are ASCII. */
const cut = (text: string, length: number): string => text.slice(0, length);

/**
 * The tenant is the index, by which Analytics Engine samples: a busy tenant does not hide the others.
 * docs/run/alerts.md lists the columns; they are only ever added to. The two kinds share those that mean the same.
 */
const columns = (tenant: string, blobs: readonly string[], doubles: number[]): Columns => ({
  indexes: [cut(tenant, MAX_INDEX_CHARACTERS)],
  blobs: blobs.map((text) => cut(text, MAX_BLOB_CHARACTERS)),
  doubles,
});

const completionColumns = (point: CompletionPoint): Columns =>
  columns(
    point.tenant,
    [
      point.keyId,
      point.name,
      point.origin,
      point.route,
      point.stream ? 'stream' : 'whole',
      point.degraded,
      point.requestId,
      point.experiment,
      point.variant,
      'completion',
    ],
    [
      point.promptTokens,
      point.completionTokens,
      point.ms,
      point.originMs,
      point.status,
      point.version,
      point.failovers,
      0,
      0,
      point.weight,
    ],
  );

const feedbackColumns = (point: FeedbackPoint): Columns =>
  columns(
    point.tenant,
    [
      ...[point.keyId, point.name, '', point.route, '', '', point.requestId],
      ...[point.experiment, point.variant, 'feedback', point.metric, point.unit],
    ],
    [0, 0, 0, 0, 0, 0, 0, point.value, point.version, point.weight],
  );

const lostSpansColumns = (spans: number): Columns =>
  columns('', ['', '', '', '', '', '', '', '', '', 'lost-spans'], [0, 0, 0, 0, 0, 0, 0, spans, 0, 1]);

/** Writes points as rows of the dataset. */
export function createAnalyticsPoints(dataset: AnalyticsDataset): DataPoints {
  const write = (row: Columns): void => {
    try {
      dataset.writeDataPoint(row);
    } catch (error) {
      logLine('analytics_refused', { reason: error instanceof Error ? error.message : 'unknown error' });
    }
  };
  return {
    completion: (point) => write(completionColumns(point)),
    feedback: (point) => write(feedbackColumns(point)),
    lostSpans: (spans) => write(lostSpansColumns(spans)),
  };
}

const tooLarge = (limit: number): Result<never, ApiError> =>
  err({ code: 'request_too_large', message: `The body is larger than ${limit} bytes.` });

/**
 * Bodies up to this many times too large are read and dropped: many clients see an answer only after they have
 * sent everything.
 */
const DRAIN_FACTOR = 4;

/** @returns the announced length of the body, bytes; null without one. */
export function announcedLength(request: Request): number | null {
  const announced = request.headers.get('content-length');
  return announced !== null && /^\d{1,15}$/.test(announced) ? Number(announced) : null;
}

/** Limits on how a large body may arrive. */
interface BodyPace {
  /** Longest silence, and longest total time, ms. */
  stallMs: number;
  deadlineMs: number;
  now: () => number;
  /** Called for every chunk. */
  onChunk: () => void;
}

/** A check for bodies that turn out to be large. */
interface LargeBody {
  /** Bytes. */
  from: number;
  /**
   * @returns a function called with the byte count when the body is complete; a refusal is the answer, and the
   * rest is dropped.
   */
  enter: () => Promise<Result<(bytes: number) => void, ApiError>>;
}

/**
 * Reads a body of at most `limit` bytes, whether or not its length was announced. Holds at most the body, or
 * `limit` if its length is unknown.
 * @param how.pace absent: unlimited.
 */
export async function readBody(
  request: Request,
  limit: number,
  { pace, large }: { pace?: BodyPace; large?: LargeBody } = {},
): Promise<Result<Uint8Array<ArrayBuffer>, ApiError>> {
  const announced = announcedLength(request);
  if ((announced ?? 0) > limit * DRAIN_FACTOR) return tooLarge(limit);
  if (request.body === null) return ok(new Uint8Array(0));
  let body = new Uint8Array(Math.min(announced ?? (pace === undefined ? FIRST_BYTES : limit), limit));
  let size = 0;
  const until = pace === undefined ? Infinity : pace.now() + pace.deadlineMs;
  let entered: Result<(bytes: number) => void, ApiError> | undefined;
  const reader = readerOf(request.body as ReadableStream<Uint8Array<ArrayBuffer>>, pace !== undefined);
  try {
    for (let ended = false; !ended;) {
      const read =
        pace === undefined
          ? await reader.read()
          : await withTimeout(reader.read(), pace.stallMs, () => 'late' as const);
      if (read === 'late' || (pace !== undefined && pace.now() > until)) {
        void reader.cancel().catch(() => undefined);
        return err({ code: 'deadline_exceeded', message: 'The body arrived too slowly.' });
      }
      ended = read.done;
      // The last bytes may come with the end.
      if (read.value === undefined) break;
      pace?.onChunk();
      const start = size;
      size += read.value.length;
      if (size > limit * DRAIN_FACTOR) break;
      if (large !== undefined && size > large.from) entered ??= await large.enter();
      // Bodies that are too large or refused are read on, and dropped.
      if (size > limit || entered?.ok === false) continue;
      if (size > body.length) body = grown(body, start, Math.min(limit, Math.max(size, 2 * body.length)));
      body.set(read.value, start);
    }
  } catch {
    // The client disconnected, or sent invalid chunks: not a bug here, and usually nobody reads this.
    return err({ code: 'invalid_request', message: 'The body was cut off.', param: null });
  } finally {
    if (entered?.ok === true) entered.value(size);
  }
  if (entered?.ok === false) return entered;
  if (size <= limit) return ok(body.subarray(0, size));
  if (size > limit * DRAIN_FACTOR) void reader.cancel().catch(() => undefined);
  return tooLarge(limit);
}

/**
 * Bytes that one read of a large body waits for. workerd returns 4 KiB at a time unless told otherwise, which
 * takes 5 ms of its only thread per MiB instead of one.
 */
const READ_BYTES = 64 * 1024;

interface BodyReader {
  read(): Promise<{ done: boolean; value?: Uint8Array<ArrayBuffer> | undefined }>;
  cancel(): Promise<void>;
}

/** @param inLargePieces in workerd: other platforms' streams have no `readAtLeast`. */
function readerOf(body: ReadableStream<Uint8Array<ArrayBuffer>>, inLargePieces: boolean): BodyReader {
  const bytes = inLargePieces ? byteReaderOf(body) : null;
  if (bytes === null) return body.getReader();
  let room = new Uint8Array(READ_BYTES);
  return {
    async read() {
      const { done, value } = await bytes.readAtLeast(READ_BYTES, room);
      // The read returns its memory.
      if (value !== undefined) room = new Uint8Array(value.buffer);
      return { done, value: value?.length === 0 ? undefined : value };
    },
    cancel: () => bytes.cancel(),
  };
}

/** Workers' own: reads until `minBytes` have arrived, or the body ends. */
interface ByteReader {
  readAtLeast(
    minBytes: number,
    room: Uint8Array<ArrayBuffer>,
  ): Promise<{ done: boolean; value?: Uint8Array<ArrayBuffer> | undefined }>;
  cancel(): Promise<void>;
}

function byteReaderOf(body: ReadableStream): ByteReader | null {
  if (!('readAtLeast' in ReadableStreamBYOBReader.prototype)) return null;
  return body.getReader({ mode: 'byob' }) as unknown as ByteReader;
}

/** Initial buffer for a body of unknown length. */
const FIRST_BYTES = 16 * 1024;

function grown(body: Uint8Array<ArrayBuffer>, filled: number, length: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(length);
  larger.set(body.subarray(0, filled));
  return larger;
}

/** @param how.whenEmpty replacement for a missing body, if it may be omitted. */
export async function readJson(
  request: Request,
  limit: number,
  { whenEmpty, large }: { whenEmpty?: object; large?: LargeBody } = {},
): Promise<Result<unknown, ApiError>> {
  const body = await readBody(request, limit, large === undefined ? {} : { large });
  if (!body.ok) return body;
  if (body.value.length === 0 && whenEmpty !== undefined) return ok(whenEmpty);
  const message = badShape(body.value);
  if (message !== null) return err({ code: 'invalid_request', message, param: null });
  try {
    return ok(
      JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(body.value)) as unknown,
    );
  } catch {
    return err({ code: 'invalid_request', message: 'The body is not valid JSON in UTF-8.', param: null });
  }
}

export function parseInput<T>(schema: z.ZodType<T>, value: unknown): Result<T, ApiError> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = [...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])].map(String).join('.');
  return err({
    code: 'invalid_request',
    message:
      param === '' ? `Invalid input: ${issue?.message}.` : `Invalid value for '${param}': ${issue?.message}.`,
    param: param === '' ? null : param,
  });
}

/** JSON body of a request. @param how.mayBeEmpty a missing body stands for an empty object. */
export async function readInput<T>(
  request: Request,
  schema: z.ZodType<T>,
  { maxBytes = MAX_ADMIN_BODY_BYTES, mayBeEmpty = false }: { maxBytes?: number; mayBeEmpty?: boolean } = {},
): Promise<Result<T, ApiError>> {
  const json = await readJson(request, maxBytes, mayBeEmpty ? { whenEmpty: {} } : {});
  return json.ok ? parseInput(schema, json.value) : json;
}
