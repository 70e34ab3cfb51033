/**
 * What every request passes on its way in and out, its trace, the work that outlives it, and what is logged and
 * measured when it has ended.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { createMiddleware } from 'hono/factory';
import { errorResponse, type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import {
  isEventStream,
  type Traceparent,
  parseTraceparent,
  TRACEPARENT_HEADER,
} from '../../protocol/origin-wire.ts';
import { isSampled } from '../../protocol/identity.ts';
import { asMessagesError } from '../../protocol/messages.ts';
import type { AdminCaller, Caller } from '../access/ports.ts';
import type { DownloadGrant } from '../downloads/download-token.ts';
import { MAX_DRAINED_BYTES } from '../limits.ts';
import { loggingFailure, logLine } from '../log.ts';
import { withTimeout } from '../platform/store-calls.ts';
import { MAX_ADMIN_BODY_BYTES } from '../../protocol/admin-api/operation.ts';
import { badShape } from '../../protocol/parse-body.ts';
import type { z } from 'zod';

/** What middleware leaves for the routes. */
export interface AppEnv {
  Variables: {
    requestId: string;
    admin: AdminCaller;
    caller: Caller;
    downloads: DownloadGrant;
    trace: RequestTrace;
  };
}

export type AppContext = Context<AppEnv>;

export const fail = (error: ApiError): Response => errorResponse(error);

/** Lets work go on after the response that nobody waits for; what fails is in the log, with the request's id. */
export function keepAlive(context: AppContext, work: Promise<unknown>): void {
  waitUntil(context, loggingFailure(work, { request_id: context.get('requestId') }));
}

/** Does work that whoever hangs up does not stop half way. Its failure is for who waits for it to tell. */
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
    // Outside of workerd there is no execution context, and nothing that would end the work.
  }
}

/** What work that reaches beyond this worker needs of the request. */
export const requestLife = (
  context: AppContext,
): { signal: AbortSignal; keepAlive: (work: Promise<unknown>) => void } => ({
  signal: context.req.raw.signal,
  keepAlive: (work) => keepAlive(context, work),
});

/** Query parameters, each at most once. */
export const query = (context: AppContext, name: string): string | null => context.req.query(name) ?? null;

/** For known paths, asked in another way. */
export const methodNotAllowed =
  (allow: string) =>
  (context: AppContext): Response =>
    errorResponse(
      { code: 'method_not_allowed', message: `${context.req.method} is not allowed here; use ${allow}.` },
      { allow },
    );

/** What a request waits for: the key's record, the name's manifest, the origin's headers. */
type Phase = 'key' | 'name' | 'origin';

/** Such as `prompt`, `first`. */
export type OriginPhase = readonly [name: string, ms: number];

/** What an application said of an answer, and of which. Of the user only the hash that the tallies have, too. */
export interface Feedback {
  /** The name that has the experiment. */
  name: string;
  experiment: string;
  /** Version of its document when the answer was given. */
  version: number;
  variant: string;
  metric: string;
  value: number;
  /** Hash of the unit; another one under another seed. */
  unit: string;
}

interface RequestFacts {
  tenant?: string;
  keyId?: string;
  /** As published: of the version that serves, never what the client wrote; `base` for the base model. */
  name?: string;
  version?: number;
  chainId?: string;
  degraded?: string;
  origin?: string;
  /** Ids of the origins that could not serve. */
  tried?: readonly string[];
  stream?: boolean;
  /** Id of the experiment that the request takes part in, and the variant it got. */
  experiment?: string;
  variant?: string;
  /** What the client asked for, where there is no such name: untrusted. */
  unknownName?: string;
  /** Of the error that it was answered with. */
  code?: string;
  /** What the origin says of the time until its answer began, ms. */
  originPhases?: readonly OriginPhase[];
  /** What it said of an earlier answer, if that was counted. */
  feedback?: Feedback;
}

/** How a completion ended; {@link UsageEvent} has the meaning of its statuses. */
interface Ending {
  status: number;
  promptTokens: number;
  completionTokens: number;
}

export interface RequestTrace {
  /** The edge's own, unlike the request's id, which a client may choose; the same where it did not. */
  readonly ownId: string;
  /** Unix ms. */
  readonly startedAt: number;
  /** The trace that the client says it belongs to; null when it says none. */
  readonly parent: Traceparent | null;
  readonly facts: Readonly<RequestFacts>;
  readonly ending: Ending | null;
  note(facts: RequestFacts): void;
  /** Measures how long the work takes; the same phase again adds to it. */
  time<T>(phase: Phase, work: Promise<T>): Promise<T>;
  /** @param ms of each phase so far. */
  phases(): ReadonlyMap<Phase, number>;
  /** A completion has ended; once. */
  finish(ending: Ending): void;
  /** Called with the ending, at once when it is known already. */
  onFinish(listener: (ending: Ending) => void): void;
}

/** @param now unix ms; in production it stands still between I/O, which the phases wait for. */
export function createRequestTrace(
  now: () => number,
  parent: Traceparent | null = null,
  ownId: string = crypto.randomUUID(),
): RequestTrace {
  const startedAt = now();
  const facts: RequestFacts = {};
  const phases = new Map<Phase, number>();
  let ending: Ending | null = null;
  let listener: ((ending: Ending) => void) | null = null;
  return {
    ...{ ownId, startedAt, parent, facts },
    get ending() {
      return ending;
    },
    note: (more) => void Object.assign(facts, more),
    async time(phase, work) {
      const began = now();
      try {
        return await work;
      } finally {
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
  };
}

/** A request that has been answered to its last byte, or whose client has gone. */
export interface EndedRequest {
  trace: RequestTrace;
  requestId: string;
  method: string;
  /** The pattern, never the path: names and ids in it are not for everybody who reads logs. */
  route: string;
  /** Of the answer's headers. */
  status: number;
  /** Unix ms. */
  at: number;
}

export type Observer = (ended: EndedRequest) => void;

/** No cache keeps what the admin API answers: keys that are shown once are among it. */
export const noStore = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  context.header('cache-control', 'no-store');
});

/**
 * Reads and drops a small body that a refusal left unread: otherwise the connection is closed behind the answer, and a
 * client that sends its next request on it sees a reset.
 */
export const drainBody: MiddlewareHandler<AppEnv> = async (context, next) => {
  await next();
  const { body, bodyUsed, headers } = context.req.raw;
  if (body === null || bodyUsed) return;
  if (Number(headers.get('content-length') ?? Infinity) > MAX_DRAINED_BYTES) return;
  try {
    await body.pipeTo(new WritableStream());
  } catch {
    // The client has gone, or somebody reads it after all.
  }
};

/** Gives each request a trace and its id in the answer, and reports it when it has ended: a stream at its last byte. */
export const observeRequest = (params: { observer: Observer; now: () => number }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const requestId = context.get('requestId');
    const isChosen = context.req.header('x-request-id') === requestId;
    const trace = createRequestTrace(
      params.now,
      parseTraceparent(context.req.header(TRACEPARENT_HEADER)),
      isChosen ? crypto.randomUUID() : requestId,
    );
    context.set('trace', trace);
    await next();
    context.header('x-request-id', requestId);
    const { method, routePath } = context.req;
    const route = routePath.startsWith('/') ? routePath : 'other';
    const { status } = context.res;
    const report = () => params.observer({ trace, requestId, method, route, status, at: params.now() });
    if (isEventStream(context.res.headers)) trace.onFinish(report);
    else report();
  });

/** What is refused here is told in the words that Anthropic's clients know. */
export const anthropicErrors = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  const { res } = context;
  if (res.ok) return;
  // Else the headers of both are merged.
  context.res = undefined;
  context.res = await asMessagesError(res);
});

/** What a page in a browser may read of an answer. */
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

/** Answers from here on are logged whatever the sample. */
const FAILED = 500;

/**
 * Writes one log line a request, and one data point a completion and a counted feedback.
 * @param logSample share of the requests that are logged, 0 to 1; failures always are.
 */
export function createObserver(params: {
  dataset: AnalyticsDataset | undefined;
  logSample: number;
}): Observer {
  const points = params.dataset === undefined ? noPoints : createAnalyticsPoints(params.dataset);
  return ({ trace, requestId, method, route, status: answered, at }) => {
    const { facts, ending } = trace;
    const status = ending?.status ?? answered;
    const ms = at - trace.startedAt;
    const phase = trace.phases();
    if (status >= FAILED || isSampled(requestId, params.logSample))
      logLine(
        'request',
        {
          request_id: requestId,
          trace_id: trace.parent?.traceId,
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
    const asked = { tenant: facts.tenant ?? '', keyId: facts.keyId ?? '', route, requestId };
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

/** A data point of the edge's metrics: one a completion … */
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
  /** HTTP status; 499 when the client left, 502 when the stream broke off. */
  status: number;
  promptTokens: number;
  completionTokens: number;
  /** To the last byte, ms. */
  ms: number;
  /** To the origin's headers, ms. */
  originMs: number;
  /** Origins that could not serve. */
  failovers: number;
}

/** … and one a feedback that was counted. */
export interface FeedbackPoint extends Feedback {
  tenant: string;
  /** Of the key that reported it, and of the report. */
  keyId: string;
  route: string;
  requestId: string;
}

/** Port of the edge's metrics. Never throws and never waits. One contract suite (test/contracts/data-points.ts). */
export interface DataPoints {
  completion(point: CompletionPoint): void;
  feedback(point: FeedbackPoint): void;
}

/** Without a place to put them. */
export const noPoints: DataPoints = { completion: () => undefined, feedback: () => undefined };

/** A Workers Analytics Engine dataset (binding `ANALYTICS`). */
export interface AnalyticsDataset {
  writeDataPoint(point: Columns): void;
}

interface Columns {
  indexes: string[];
  blobs: string[];
  doubles: number[];
}

/** An index ends at 96 bytes. */
const MAX_INDEX_CHARACTERS = 96;
/** All blobs together end at 16 KB. */
const MAX_BLOB_CHARACTERS = 256;

/** @returns at most so many characters; tenants, ids and names are ASCII. */
const cut = (text: string, length: number): string => text.slice(0, length);

/**
 * The tenant is the index, by which Analytics Engine samples: a busy tenant does not hide the others.
 * docs/operations.md lists the columns; they are only ever added to. The two kinds share those that mean the same.
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
    ],
  );

const feedbackColumns = (point: FeedbackPoint): Columns =>
  columns(
    point.tenant,
    [
      ...[point.keyId, point.name, '', point.route, '', '', point.requestId],
      ...[point.experiment, point.variant, 'feedback', point.metric, point.unit],
    ],
    [0, 0, 0, 0, 0, 0, 0, point.value, point.version],
  );

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
  };
}

const tooLarge = (limit: number): Result<never, ApiError> =>
  err({ code: 'request_too_large', message: `The body is larger than ${limit} bytes.` });

/** A body up to this many times too large is read and dropped: many clients see an answer only after they have sent. */
const DRAIN_FACTOR = 4;

/** @returns the length that the body is said to have, bytes; null when it is not said. */
export function announcedLength(request: Request): number | null {
  const announced = request.headers.get('content-length');
  return announced !== null && /^\d{1,15}$/.test(announced) ? Number(announced) : null;
}

/** How a large body may arrive. */
interface BodyPace {
  /** Longest silence, and longest time of all, ms. */
  stallMs: number;
  deadlineMs: number;
  now: () => number;
  /** Hears of every chunk. */
  onChunk: () => void;
}

/** What a body has to pass when it turns out to be large. */
interface LargeBody {
  /** Bytes. */
  from: number;
  /** @returns what hears how many bytes came, when they are read; a refusal is the answer, and the rest is dropped. */
  enter: () => Promise<Result<(bytes: number) => void, ApiError>>;
}

/**
 * Reads a body of at most `limit` bytes, whether or not its length was announced. No more is held than the body, or
 * than `limit` where its length is not known.
 * @param how.pace none: as it comes.
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
        return err({ code: 'deadline_exceeded', message: 'The body came too slowly.' });
      }
      ended = read.done;
      // The last bytes may come with the end.
      if (read.value === undefined) break;
      pace?.onChunk();
      const start = size;
      size += read.value.length;
      if (size > limit * DRAIN_FACTOR) break;
      if (large !== undefined && size > large.from) entered ??= await large.enter();
      // What is too large, or refused, is read on, and dropped.
      if (size > limit || entered?.ok === false) continue;
      if (size > body.length) body = grown(body, start, Math.min(limit, Math.max(size, 2 * body.length)));
      body.set(read.value, start);
    }
  } catch {
    // The client went away, or sent chunks that are none: no bug of ours, and mostly nobody there to read this.
    return err({ code: 'invalid_request', message: 'The body broke off before its end.', param: null });
  } finally {
    if (entered?.ok === true) entered.value(size);
  }
  if (entered?.ok === false) return entered;
  if (size <= limit) return ok(body.subarray(0, size));
  if (size > limit * DRAIN_FACTOR) void reader.cancel().catch(() => undefined);
  return tooLarge(limit);
}

/**
 * Bytes that one read of a large body waits for. workerd gives 4 KiB at a time unless told so, which takes 5 ms of its
 * one thread a MiB in place of one.
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
      // Its memory comes back with what was read.
      if (value !== undefined) room = new Uint8Array(value.buffer);
      return { done, value: value?.length === 0 ? undefined : value };
    },
    cancel: () => bytes.cancel(),
  };
}

/** Workers' own: reads until `minBytes` have come, or the body ends. */
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

/** Room for the beginning of a body of unknown length. */
const FIRST_BYTES = 16 * 1024;

function grown(body: Uint8Array<ArrayBuffer>, filled: number, length: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(length);
  larger.set(body.subarray(0, filled));
  return larger;
}

/** @param how.whenEmpty what no body at all stands for, where it may be left out. */
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

/** JSON body of a request. @param how.mayBeEmpty no body at all stands for an empty object. */
export async function readInput<T>(
  request: Request,
  schema: z.ZodType<T>,
  { maxBytes = MAX_ADMIN_BODY_BYTES, mayBeEmpty = false }: { maxBytes?: number; mayBeEmpty?: boolean } = {},
): Promise<Result<T, ApiError>> {
  const json = await readJson(request, maxBytes, mayBeEmpty ? { whenEmpty: {} } : {});
  return json.ok ? parseInput(schema, json.value) : json;
}
