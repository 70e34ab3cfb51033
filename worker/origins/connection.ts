/** The connection to an origin: requests signed on their way out, and streams watched on their way back. */
import { err, ok, type Result, errorBody, type ApiError } from '../../protocol/api-error.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import {
  TRACEPARENT_HEADER,
  isEventStream,
  readUsageNote,
  USAGE_COMMENT,
  type UsageNote,
} from '../../protocol/origin-wire.ts';
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
import type { StreamEnd, StreamOutcome } from '../metering/ports.ts';
import { logLine } from '../log.ts';
import { z } from 'zod';

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** The origin cannot be reached, or something in front of it answered instead. */
interface Unreachable {
  kind: 'unreachable';
  reason: string;
}

interface OriginCall {
  method: 'GET' | 'POST' | 'PUT';
  /** Below the origin's URL, as it will stand on the request line. */
  path: string;
  body?: string | ReadableStream<Uint8Array>;
  /** sha256 of the body, hex; needed for a stream. */
  bodyHash?: string;
  contentType?: string;
  /** For the origin's log. */
  requestId?: string;
  /** For its log and its engine's trace. */
  traceparent?: string;
  signal?: AbortSignal;
}

/**
 * Sends signed requests to origins, which come from configuration alone; never follows a redirect. The first key signs;
 * an origin that does not have it yet, or not any more, gets the next ones, so that keys can be rotated in any order. One
 * that started a moment ago by a clock that is ahead of ours says which start it is, and gets a signature for that.
 */
export function createOriginFetch(params: { keys: readonly SigningKey[]; fetch: Fetch; now: () => number }) {
  const { keys } = params;
  if (keys.length === 0) throw new Error('no origin key');
  /** Origin's id -> index of the key that it has. */
  const accepted = new Map<string, number>();
  /** Origin's id -> the start that signatures for it are for. */
  const starts = new Map<string, string>();

  async function sendOnce(
    key: SigningKey,
    origin: Origin,
    call: OriginCall,
    startId: string | undefined,
  ): Promise<Result<Response, Unreachable>> {
    const url = new URL(origin.url + call.path);
    const bodyHash = call.bodyHash ?? (await sha256Hex(typeof call.body === 'string' ? call.body : ''));
    const pathAndQuery = url.pathname + url.search;
    const signature = await sign(
      key,
      { originId: origin.id, method: call.method, pathAndQuery, bodyHash, startId },
      params.now(),
    );
    const headers: Record<string, string> = { [SIGNATURE_HEADER]: signature };
    if (call.body !== undefined) headers['content-type'] = call.contentType ?? 'application/json';
    if (call.requestId !== undefined) headers['x-request-id'] = call.requestId;
    if (call.traceparent !== undefined) headers[TRACEPARENT_HEADER] = call.traceparent;
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

  /** Signs for the origin's present start, once more when that is another one than we thought. */
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
    const isRepeatable = typeof (call.body ?? '') === 'string';
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

/** Why an origin refuses a signature; null when it does not say. @returns also the refusal, to be read once more. */
async function readRefusal(refused: Response): Promise<{ reason: string | null; response: Response }> {
  // Not from a clone: one of two readers that stops does not stop the other.
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
 * Reads what an origin says beside completions, which is small. An origin that was taken over may go on without an end:
 * the memory of an isolate is everybody's.
 * @returns null when there is more than `limit` bytes; the rest is not read. @throws when the connection breaks.
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

const LF = 10;
const COLON = 58;
const D = 100;
/** An event that is not complete after this many bytes is passed on as it is. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;
/** Bytes of an event's beginning that tell what it is: the longest name of an ending has 26. */
const HEAD_BYTES = 32;

/** How the last event of each API says that the answer is whole, or why it is not. */
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

/** A comment longer than this is not ours, and goes on as it is. */
const MAX_COMMENT_BYTES = 128;
const PREFIX = new TextEncoder().encode(USAGE_COMMENT);

/**
 * Cuts what an origin streams into whole events, takes its note of usage out, byte for byte as if it had not been there,
 * and knows how the last event ends the answer. Lines are told apart by their first byte alone (JSON has no bare
 * newline), so that an event costs a search for each newline.
 */
export class EventFilter {
  note: UsageNote | null = null;
  /** Lines of data that went by: an upper bound of an answer's tokens when its end was never seen. */
  events = 0;
  readonly #endings: Endings;
  readonly #takesComments: boolean;
  readonly #maxHeldBytes: number;
  /** Of an event that is not complete. */
  #held: Uint8Array | null = null;
  /** The beginning of the last event that went by. */
  #head = '';
  /** What went by ends within an event, or even within a line: it was too long to be held. */
  #midEvent = false;
  #midLine = false;
  /** After a comment that was taken out: its empty line goes too. */
  #skipEmptyLine = false;

  /**
   * @param path of the request. @param takesComments whether other comments go on to the client.
   * @param maxHeldBytes an event that is not complete by then is passed on as it is.
   */
  constructor(path: string, { takesComments = true, maxHeldBytes = MAX_HELD_BYTES } = {}) {
    this.#endings = ENDINGS[path] ?? OTHER_ENDINGS;
    this.#takesComments = takesComments;
    this.#maxHeldBytes = maxHeldBytes;
  }

  /** @returns whole events, as they came (`seen`) and as they go on (`pieces`, possibly none); null when none is complete. */
  push(value: Uint8Array): { seen: Uint8Array; pieces: Uint8Array[] } | null {
    const known = this.#held?.length ?? 0;
    const bytes = this.#held === null ? value : join(this.#held, value);
    const border = bytes.length > this.#maxHeldBytes ? bytes.length : endOfEvents(bytes, known);
    this.#held = border === bytes.length ? null : bytes.subarray(border);
    if (border === 0) return null;
    const seen = border === bytes.length ? bytes : bytes.subarray(0, border);
    return { seen, pieces: this.#passOn(seen) };
  }

  /** The origin has closed its stream, or it broke: what came last decides. */
  end(): 'whole' | 'told' | 'cut' {
    if (this.#held !== null) return 'cut';
    if (this.#endings.whole.test(this.#head)) return 'whole';
    return this.#endings.told.test(this.#head) ? 'told' : 'cut';
  }

  #passOn(seen: Uint8Array): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    /** Where what goes on in one piece begins. */
    let from = 0;
    const drop = (begin: number, end: number): void => {
      if (begin > from) pieces.push(seen.subarray(from, begin));
      from = end;
    };
    /** Where the last whole event begins, and the one after it; -1 = in what went by before. */
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

  /** @returns whether the comment goes no further. */
  #take(line: Uint8Array): boolean {
    if (line.length > MAX_COMMENT_BYTES) return false;
    if (PREFIX.some((byte, i) => line[i] !== byte)) return !this.#takesComments;
    const note = readUsageNote(new TextDecoder().decode(line.subarray(PREFIX.length)));
    if (note === null) return false;
    this.note = note;
    return true;
  }
}

/** Index behind the last blank line whose end is at `from` or later, 0 when there is none. */
function endOfEvents(bytes: Uint8Array, from: number): number {
  for (let i = bytes.length - 1; i >= Math.max(from, 1); i -= 1)
    if (bytes[i] === LF && bytes[i - 1] === LF) return i + 1;
  return 0;
}

/** @param events whole ones. */
const isOneEvent = (events: Uint8Array): boolean => endOfEvents(events.subarray(0, -1), 0) === 0;

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
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

/** The event that clients of this path take for an error. */
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
 * Passes an origin's event stream on in whole events, without its note of usage, and is the one place that watches it.
 * When the origin breaks off, is silent, or ends before the answer does, the client gets an error event: what it already
 * has cannot be taken back, so no other origin is asked. When nobody reads, the origin is let go.
 * @param gone aborts when the client has gone.
 */
export function passStream(
  body: ReadableStream<Uint8Array>,
  params: {
    path: string;
    gone: AbortSignal;
    /** false = a client that fails at comments in a stream. */
    takesComments: boolean;
    /** Unix ms. */
    now: () => number;
    keepAlive: (work: Promise<unknown>) => void;
    onProgress: () => void;
    /** A stream in which nothing moves for this long is ended, ms … */
    stallMs: number;
    /** … or for this long, when nobody reads and less than `connectionBytes` have been read … */
    unreadMs: number;
    connectionBytes: number;
    /** … and so often it is looked at. One timer a stream: one a chunk would cost the edge's CPU. */
    checkMs: number;
    /** Once. */
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
  /** Somebody waits for the origin. */
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
  // workerd does not always cancel the stream of a client that has gone.
  const leave = (): void => {
    end('gone');
    void letGo();
    // What waits for a client that does not read would hold the stream for ever.
    if (params.gone.aborted) controller.terminate();
    else controller.error(new Error('client disconnected'));
  };

  // A machine that loses its power says no goodbye, and neither does each client (workerd#6832): of those who left before
  // their first token, workerd told of 7 in 100.
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

  /** @returns what the origin said, in whole events; null at its end, when it breaks off or is silent. */
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
      // A heartbeat says nothing of how far the answer is.
      if (seen[0] !== COLON || !isOneEvent(seen)) last = seen;
      const hasFirst = firstAt === null && hasToken(seen);
      for (const piece of pieces) {
        await writer.write(piece);
        // Once it is taken: a client that leaves before has seen no token.
        if (hasFirst) firstAt ??= now();
      }
    }
    if (ended) return;
    const how = silent ? 'stalled' : filter.end();
    // Its reader may never take it.
    if (how === 'cut' || how === 'stalled')
      writer.write(errorEvent(path, BROKEN, last)).catch(() => undefined);
    end(how);
    await writer.close();
  }

  params.keepAlive(pass().catch(leave));
  return readable;
}

/** Hands an origin's answer on, streams in whole events; what becomes of them counts for or against the origin. */
export function createDeliver({ health, now }: { health: OriginHealth; now: () => number }) {
  /** The lease ends with the body of a stream; headers of a whole answer come when the work is done. */
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

/** A token with its 20 likeliest others is about 5 kB; what is longer repeats the request. */
const MAX_LINE_CHARACTERS = 64 * 1024;
const DATA = 'data: ';

const Spoken = z.string().min(1);
/** What the first event of each API has that says something: text, a call, log-probabilities, or the end. */
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
 * Whether one of these whole events of a stream says something: neither the role, nor the request over again, nor a
 * heartbeat. Asked until it is so; an opening and its heartbeats are a few events.
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
