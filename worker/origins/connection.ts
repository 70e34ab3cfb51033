/** The connection to an origin: signs requests, and watches streams. */
import { err, ok, type Result, errorBody, type ApiError } from '../../protocol/api-error.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import { isEventStream, readUsageNote, USAGE_COMMENT, type UsageNote } from '../../protocol/origin-wire.ts';
import { traceHeaders, type Traceparent } from '../../protocol/trace-context.ts';
import {
  readStartId,
  sign,
  SIGNATURE_HEADER,
  START_HEADER,
  type SigningKey,
} from '../../protocol/signature.ts';
import type { Origin, Lease, OriginHealth } from './routing.ts';
import { MAX_ORIGIN_ANSWER_BYTES, CONNECTION_BYTES, STREAM_STALL_CHECK_MS, UNREAD_MS } from './limits.ts';
import { STREAM_STALL_MS } from '../../protocol/limits.ts';
import { messagesError } from '../../protocol/messages.ts';
import { withTimeout } from '../platform/store-calls.ts';
import type { StreamEnd, StreamOutcome } from '../metering/ports.ts';
import { logLine } from '../log.ts';
import { z } from 'zod';

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** The origin is unreachable, or something in front of it responded instead. */
interface Unreachable {
  kind: 'unreachable';
  reason: string;
}

interface OriginCall {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below the origin's URL, exactly as on the request line. */
  path: string;
  body?: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  /** sha256 of the body, hex; required for a stream. */
  bodyHash?: string;
  contentType?: string;
  /** For the origin's log. */
  requestId?: string;
  /** The request's span at the edge, for the origin's log and trace. */
  span?: Traceparent;
  /** Of the pool; not signed. */
  headers?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
}

/**
 * Sends signed requests to origins, which come only from the configuration; never follows redirects. Signs
 * with the first key. An origin that does not have this key gets the next ones, so keys can be rotated in any
 * order. An origin that has just started, and whose clock is ahead of ours, returns the id of its start, and
 * gets a signature for it.
 */
export function createOriginFetch(params: { keys: readonly SigningKey[]; fetch: Fetch; now: () => number }) {
  const { keys } = params;
  if (keys.length === 0) throw new Error('no origin key');
  /** Origin's id -> index of the key that it accepts. */
  const accepted = new Map<string, number>();
  /** Origin's id -> the start for which to sign. */
  const starts = new Map<string, string>();

  async function sendOnce(
    key: SigningKey,
    origin: Origin,
    call: OriginCall,
    startId: string | undefined,
  ): Promise<Result<Response, Unreachable>> {
    const url = new URL(origin.url + call.path);
    const bodyHash =
      call.bodyHash ?? (await sha256Hex(call.body instanceof ReadableStream ? '' : (call.body ?? '')));
    const pathAndQuery = url.pathname + url.search;
    const signature = await sign(
      key,
      { originId: origin.id, method: call.method, pathAndQuery, bodyHash, startId },
      params.now(),
    );
    const headers: Record<string, string> = { ...call.headers, [SIGNATURE_HEADER]: signature };
    if (call.body !== undefined) headers['content-type'] = call.contentType ?? 'application/json';
    if (call.requestId !== undefined) headers['x-request-id'] = call.requestId;
    if (call.span !== undefined) Object.assign(headers, traceHeaders(call.span));
    try {
      const response = await params.fetch(url.href, {
        method: call.method,
        headers,
        redirect: 'manual',
        ...(call.body === undefined ? {} : { body: call.body }),
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      if (response.status < 300 || response.status >= 400) return ok(response);
      await response.body?.cancel();
      return err({ kind: 'unreachable', reason: `answered ${response.status}, a redirect` });
    } catch (error) {
      return err({ kind: 'unreachable', reason: error instanceof Error ? error.message : 'unknown error' });
    }
  }

  /** Signs for the origin's current start; retries once if that turns out to be a different one. */
  async function sendForStart(
    key: SigningKey,
    origin: Origin,
    call: OriginCall,
    isRepeatable: boolean,
  ): Promise<{ sent: Result<Response, Unreachable>; reason: string | null }> {
    for (let tries = 1; ; tries += 1) {
      const startId = starts.get(origin.id);
      const sent = await sendOnce(key, origin, call, startId);
      if (!sent.ok || sent.value.status !== 401) return { sent, reason: null };
      const { reason, response } = await readRefusal(sent.value);
      const told = reason === 'before_start' ? readStartId(sent.value.headers.get(START_HEADER)) : null;
      if (told === null) return { sent: ok(response), reason };
      starts.set(origin.id, told);
      if (!isRepeatable || tries > 1) return { sent: ok(response), reason };
    }
  }

  return async (origin: Origin, call: OriginCall): Promise<Result<Response, Unreachable>> => {
    const first = accepted.get(origin.id) ?? 0;
    const isRepeatable = !(call.body instanceof ReadableStream);
    for (let turn = 0; ; turn += 1) {
      const index = (first + turn) % keys.length;
      const { sent, reason } = await sendForStart(keys[index] as SigningKey, origin, call, isRepeatable);
      const isLast = turn === keys.length - 1 || !isRepeatable;
      if (reason === 'unknown_key' && !isLast) continue;
      if (sent.ok && sent.value.status !== 401) accepted.set(origin.id, index);
      return sent;
    }
  };
}

/**
 * Why an origin rejects a signature; null if it does not say.
 * @returns also the response, readable again.
 */
async function readRefusal(refused: Response): Promise<{ reason: string | null; response: Response }> {
  // Not from a clone: cancelling one of two branches does not cancel the source.
  const text = (await readOriginText(refused).catch(() => null)) ?? '';
  const headers = { 'content-type': refused.headers.get('content-type') ?? 'text/plain' };
  const response = new Response(text, { status: refused.status, headers });
  try {
    const { error } = JSON.parse(text) as { error?: { reason?: unknown } };
    return { reason: typeof error?.reason === 'string' ? error.reason : null, response };
  } catch {
    return { reason: null, response };
  }
}

export type OriginFetch = ReturnType<typeof createOriginFetch>;

/**
 * Reads an origin's response other than a completion; these are small. A compromised origin could send an
 * endless one, and all requests share the isolate's memory.
 * @returns null if there are more than `limit` bytes; the rest is not read.
 * @throws if the connection breaks.
 */
export async function readOriginText(
  response: Response,
  limit: number = MAX_ORIGIN_ANSWER_BYTES,
): Promise<string | null> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  let text = '';
  let size = 0;
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    size += chunk.length;
    // Leaving the loop cancels the stream.
    if (size > limit) return null;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/**
 * Reads a whole answer before its status is sent: its headers arrive when the work is done, so its bytes follow at
 * once, and if they do not, the request can still be sent elsewhere.
 * @param limits.bytes the rest of a longer answer is read as it is passed on.
 * @param limits.stallMs a pause after which the connection counts as broken, ms.
 * @returns null if the connection breaks or falls silent.
 */
export async function readAnswer(
  response: Response,
  limits: { bytes: number; stallMs: number },
): Promise<Response | null> {
  const { body, status, headers } = response;
  if (body === null) return response;
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  let held = new Uint8Array();
  try {
    while (held.length <= limits.bytes) {
      const { done, value } = await withTimeout(reader.read(), limits.stallMs);
      if (done) return new Response(held, { status, headers });
      held = join(held, value);
    }
  } catch {
    // Not awaited: a broken connection may not answer.
    reader.cancel().catch(() => undefined);
    return null;
  }
  const rest = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(held),
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(rest, { status, headers });
}

const LF = 10;
const COLON = 58;
const D = 100;
/** An incomplete event of this size is passed on as it is. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;
/** Bytes at an event's start that identify it: the longest name of a final event has 26. */
const HEAD_BYTES = 32;

/** How the last event of each API says that the answer is complete, or why it is not. */
const ENDINGS: Record<string, Endings | undefined> = {
  '/v1/responses': {
    whole: /^event: response\.(completed|incomplete)\n/,
    told: /^event: (response\.failed|error)\n/,
  },
  '/v1/messages': { whole: /^event: message_stop\n/, told: /^event: error\n/ },
};
const OTHER_ENDINGS: Endings = { whole: /^data: \[DONE\]\n/, told: /^data: \{"error":/ };

interface Endings {
  whole: RegExp;
  told: RegExp;
}

/** Longer comments are not ours, and are passed on. */
const MAX_COMMENT_BYTES = 128;
const PREFIX = new TextEncoder().encode(USAGE_COMMENT);

/**
 * Splits an origin's stream into whole events, removes its usage note without a trace, and recognizes the
 * event that ends the answer. The first byte alone tells kinds of lines apart (JSON has no bare newline), so
 * an event costs one search per newline.
 */
export class EventFilter {
  note: UsageNote | null = null;
  /** Data lines received: an upper bound of the answer's tokens if its end was not seen. */
  events = 0;
  readonly #endings: Endings;
  readonly #takesComments: boolean;
  readonly #maxHeldBytes: number;
  /** An incomplete event. */
  #held: Uint8Array | null = null;
  /** Start of the last event that was passed on. */
  #head = '';
  /** The part passed on ends within an event, or even within a line, because it was too long to hold. */
  #midEvent = false;
  #midLine = false;
  /** After a removed comment: its empty line is removed too. */
  #skipEmptyLine = false;

  /**
   * @param path the request's.
   * @param takesComments passes other comments on to the client.
   * @param maxHeldBytes limit of an incomplete event, which is then passed on as it is.
   */
  constructor(path: string, { takesComments = true, maxHeldBytes = MAX_HELD_BYTES } = {}) {
    this.#endings = ENDINGS[path] ?? OTHER_ENDINGS;
    this.#takesComments = takesComments;
    this.#maxHeldBytes = maxHeldBytes;
  }

  /**
   * @returns whole events, as received (`seen`) and as passed on (`pieces`, may be empty); null if none is
   * complete.
   */
  push(value: Uint8Array): { seen: Uint8Array; pieces: Uint8Array[] } | null {
    const known = this.#held?.length ?? 0;
    const bytes = this.#held === null ? value : join(this.#held, value);
    const border = bytes.length > this.#maxHeldBytes ? bytes.length : endOfEvents(bytes, known);
    this.#held = border === bytes.length ? null : bytes.subarray(border);
    if (border === 0) return null;
    const seen = border === bytes.length ? bytes : bytes.subarray(0, border);
    return { seen, pieces: this.#passOn(seen) };
  }

  /** Call when the origin has closed its stream, or it broke: the last event decides. */
  end(): 'whole' | 'told' | 'cut' {
    if (this.#held !== null) return 'cut';
    if (this.#endings.whole.test(this.#head)) return 'whole';
    return this.#endings.told.test(this.#head) ? 'told' : 'cut';
  }

  #passOn(seen: Uint8Array): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    /** Start of the next piece to pass on. */
    let from = 0;
    const drop = (begin: number, end: number): void => {
      if (begin > from) pieces.push(seen.subarray(from, begin));
      from = end;
    };
    /** Starts of the last whole event and of the one after it; -1 = in what was passed on before. */
    let last = -1;
    let next = this.#midEvent ? -1 : 0;
    const rest = seen.indexOf(LF);
    for (let at = this.#midLine ? (rest === -1 ? seen.length : rest + 1) : 0; at < seen.length;) {
      const found = seen.indexOf(LF, at);
      const end = found === -1 ? seen.length : found;
      const skips = this.#skipEmptyLine;
      this.#skipEmptyLine = false;
      if (end === at) {
        [last, next] = [next, at + 1];
        if (skips) drop(at, at + 1);
      } else if (seen[at] === COLON && found !== -1 && this.#take(seen.subarray(at, end))) {
        drop(at, end + 1);
        this.#skipEmptyLine = true;
      } else if (seen[at] === D) this.events += 1;
      at = end + 1;
    }
    this.#midEvent = next !== seen.length;
    this.#midLine = seen.at(-1) !== LF;
    const head = this.#midEvent ? next : last;
    if (head !== -1) this.#head = new TextDecoder().decode(seen.subarray(head, head + HEAD_BYTES));
    if (from === 0) return [seen];
    drop(seen.length, seen.length);
    return pieces;
  }

  /** @returns whether the comment is removed. */
  #take(line: Uint8Array): boolean {
    if (line.length > MAX_COMMENT_BYTES) return false;
    if (PREFIX.some((byte, i) => line[i] !== byte)) return !this.#takesComments;
    const note = readUsageNote(new TextDecoder().decode(line.subarray(PREFIX.length)));
    if (note === null) return false;
    this.note = note;
    return true;
  }
}

/** Index after the last blank line that ends at `from` or later; 0 if there is none. */
function endOfEvents(bytes: Uint8Array, from: number): number {
  for (let i = bytes.length - 1; i >= Math.max(from, 1); i -= 1)
    if (bytes[i] === LF && bytes[i - 1] === LF) return i + 1;
  return 0;
}

/** @param events whole events. */
const isOneEvent = (events: Uint8Array): boolean => endOfEvents(events.subarray(0, -1), 0) === 0;

function join(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

const BROKEN: ApiError = {
  code: 'origin_unavailable',
  message: 'The model server stopped in the middle of the answer. Retry the request.',
  retryAfterMs: 0,
};

/** The event that this path's clients understand as an error. */
function errorEvent(path: string, error: ApiError, last: Uint8Array | null): Uint8Array {
  const { code, message } = error;
  if (path === '/v1/messages')
    return new TextEncoder().encode(`event: error\ndata: ${JSON.stringify(messagesError(error))}\n\n`);
  if (path !== '/v1/responses')
    return new TextEncoder().encode(`data: ${JSON.stringify(errorBody(error))}\n\n`);
  const text = last === null ? '' : new TextDecoder().decode(last);
  const numbers = [...text.matchAll(/"sequence_number":(\d+)/g)].map((match) => Number(match[1]));
  const event = {
    type: 'error',
    code,
    message,
    param: null,
    sequence_number: (numbers.at(-1) ?? -1) + 1,
  };
  return new TextEncoder().encode(`event: error\ndata: ${JSON.stringify(event)}\n\n`);
}

/**
 * Passes an origin's event stream on in whole events, without its usage note; the only place that watches it.
 * If the origin breaks off, stalls, or ends early, the client gets an error event: what it already has cannot
 * be taken back, so no other origin is asked. If nobody reads, the origin's stream is cancelled.
 * @param gone aborts when the client disconnects.
 */
export function passStream(
  body: ReadableStream<Uint8Array>,
  params: {
    path: string;
    gone: AbortSignal;
    /** false = the client cannot parse comments in a stream. */
    takesComments: boolean;
    /** Unix ms. */
    now: () => number;
    keepAlive: (work: Promise<unknown>) => void;
    onProgress: () => void;
    /** A stream without any progress for this long is ended, ms … */
    stallMs: number;
    /** … or for this long, if nobody reads it and less than `connectionBytes` have been read … */
    unreadMs: number;
    connectionBytes: number;
    /** … checked at this interval. One timer per stream: one per chunk would cost too much CPU. */
    checkMs: number;
    /** Called once. */
    onEnd: (outcome: StreamOutcome) => void;
  },
): ReadableStream<Uint8Array> {
  const { path, now } = params;
  const reader = body.getReader();
  const filter = new EventFilter(path, params);
  let controller!: TransformStreamDefaultController<Uint8Array>;
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
    start: (started) => void (controller = started),
  });
  const writer = writable.getWriter();
  let last: Uint8Array | null = null;
  let firstAt: number | null = null;
  let ended = false;
  /** A read from the origin is pending. */
  let reading = false;
  let silent = false;
  let movedAt = now();
  let passedBytes = 0;

  const letGo = () => reader.cancel().catch(() => undefined);
  const end = (how: StreamEnd): void => {
    if (ended) return;
    ended = true;
    clearInterval(watch);
    params.gone.removeEventListener('abort', leave);
    params.onEnd({ how, note: filter.note, events: filter.events, firstAt });
  };
  // workerd does not always cancel the stream of a client that has disconnected.
  const leave = (): void => {
    end('gone');
    void letGo();
    // Data queued for a client that does not read would hold the stream forever.
    if (params.gone.aborted) controller.terminate();
    else controller.error(new Error('client disconnected'));
  };

  // A machine that loses power closes nothing, and workerd does not report all disconnects (workerd#6832): of
  // clients that left before their first token, it reported 7 in 100.
  const watch = setInterval(() => {
    const left = !reading && passedBytes < params.connectionBytes;
    if (now() - movedAt < (left ? params.unreadMs : params.stallMs)) return;
    if (!reading) return leave();
    silent = true;
    void letGo();
  }, params.checkMs);
  if (params.gone.aborted) leave();
  else params.gone.addEventListener('abort', leave, { once: true });
  writer.closed.catch(leave);

  /** @returns the origin's next whole events; null at its end, or if it breaks off or stalls. */
  async function next(): ReturnType<typeof readWhole> {
    movedAt = now();
    reading = true;
    const said = await readWhole().catch(() => null);
    reading = false;
    return said;
  }

  async function readWhole(): Promise<ReturnType<EventFilter['push']>> {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || silent) return null;
      movedAt = now();
      params.onProgress();
      const whole = filter.push(value);
      if (whole !== null) return whole;
    }
  }

  async function pass(): Promise<void> {
    for (let said = await next(); said !== null; said = await next()) {
      const { seen, pieces } = said;
      passedBytes += seen.length;
      // A heartbeat says nothing about the answer's progress.
      if (seen[0] !== COLON || !isOneEvent(seen)) last = seen;
      const hasFirst = firstAt === null && hasToken(seen);
      for (const piece of pieces) {
        await writer.write(piece);
        // Only once it is read: a client that disconnects before has seen no token.
        if (hasFirst) firstAt ??= now();
      }
    }
    if (ended) return;
    const how = silent ? 'stalled' : filter.end();
    // The stream's reader may never take it.
    if (how === 'cut' || how === 'stalled')
      writer.write(errorEvent(path, BROKEN, last)).catch(() => undefined);
    end(how);
    await writer.close();
  }

  params.keepAlive(pass().catch(leave));
  return readable;
}

/**
 * Passes an origin's response on, streams in whole events. Their outcome counts for or against the origin's
 * health.
 */
export function createDeliver({ health, now }: { health: OriginHealth; now: () => number }) {
  /**
   * For a stream the lease ends with its body; the headers of a whole answer arrive when the work is done.
   */
  return (params: {
    origin: Origin;
    response: Response;
    lease: Lease;
    call: {
      path: string;
      requestId: string;
      signal: AbortSignal;
      keepAlive: (work: Promise<unknown>) => void;
      takesComments?: boolean;
    };
  }): { response: Response; ended: Promise<StreamOutcome> | null } => {
    const { origin, response, lease, call } = params;
    const { body, status, headers } = response;
    if (body === null || !isEventStream(headers)) {
      lease.end();
      return { response, ended: null };
    }
    let tell: (outcome: StreamOutcome) => void = () => undefined;
    const ended = new Promise<StreamOutcome>((resolve) => (tell = resolve));
    const passed = passStream(body, {
      path: call.path,
      gone: call.signal,
      takesComments: call.takesComments ?? true,
      now,
      keepAlive: call.keepAlive,
      onProgress: lease.renew,
      stallMs: STREAM_STALL_MS,
      checkMs: STREAM_STALL_CHECK_MS,
      unreadMs: UNREAD_MS,
      connectionBytes: CONNECTION_BYTES,
      onEnd(outcome) {
        lease.end();
        tell(outcome);
        if (outcome.how !== 'cut' && outcome.how !== 'stalled') return;
        logLine('stream_cut', { origin: origin.id, request_id: call.requestId });
        health.failed(origin);
      },
    });
    return { response: new Response(passed, { status, headers }), ended };
  };
}

/** A token with its 20 alternatives is about 5 kB; longer lines repeat the request. */
const MAX_LINE_CHARACTERS = 64 * 1024;
const DATA = 'data: ';

const Spoken = z.string().min(1);
/** Parts of each API's events that have content: text, a call, log-probabilities, or the end. */
const Choice = z.union([
  z.object({ delta: z.object({ content: Spoken }) }),
  z.object({ delta: z.object({ tool_calls: z.array(z.unknown()).min(1) }) }),
  z.object({ text: Spoken }),
  z.object({ logprobs: z.object({}) }),
  z.object({ finish_reason: z.string() }),
]);
const Event = z.union([
  z.object({ choices: z.array(z.unknown()) }),
  z.object({ type: z.literal('response.output_text.delta'), delta: Spoken }),
  z.object({ type: z.literal('response.output_text.done') }),
  z.object({ type: z.literal('response.function_call_arguments.delta') }),
  z.object({ type: z.enum(['content_block_delta', 'message_delta']) }),
]);

/**
 * Whether one of these whole events has content: not just the role, a copy of the request, or a heartbeat.
 * Only called until the first one: a stream's start has a few such events.
 */
export function hasToken(frames: Uint8Array): boolean {
  return new TextDecoder()
    .decode(frames)
    .split('\n')
    .some(
      (line) => line.startsWith(DATA) && line.length <= MAX_LINE_CHARACTERS && says(line.slice(DATA.length)),
    );
}

function says(data: string): boolean {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return false;
  }
  const event = Event.safeParse(value);
  if (!event.success) return false;
  return 'choices' in event.data
    ? event.data.choices.some((choice) => Choice.safeParse(choice).success)
    : true;
}
