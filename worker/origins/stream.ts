/**
 * An answer's stream as it passes: ended properly when its origin breaks off, its first token noticed, its usage taken
 * out.
 */
import { errorBody, type ApiError } from '../../protocol/api-error.ts';
import { isEventStream } from '../../protocol/completion-answers.ts';
import { STREAM_STALL_MS } from '../../protocol/limits.ts';
import { messagesError } from '../../protocol/messages.ts';
import { readUsageNote, USAGE_COMMENT, type UsageNote } from '../../protocol/origin-wire.ts';
import type { StreamEnd } from '../metering/ports.ts';
import { CONNECTION_BYTES, STREAM_STALL_CHECK_MS, UNREAD_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { Lease, OriginHealth } from './routing.ts';
import type { Origin } from './choose-origin.ts';
import { z } from 'zod';

/** Cuts what an origin streams into whole events, and knows how the last of them ends the answer. */

const LF = 10;
const COLON = 58;
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

class OriginFrames {
  readonly #endings: Endings;
  readonly #maxHeldBytes: number;
  #held: Uint8Array | null = null;
  /** The beginning of the last event that went by. */
  #head = '';
  /** What went by ends with a whole event. */
  #atEventStart = true;

  /** @param maxHeldBytes an event that is not complete by then is passed on as it is. */
  constructor(path: string, maxHeldBytes: number) {
    this.#endings = ENDINGS[path] ?? OTHER_ENDINGS;
    this.#maxHeldBytes = maxHeldBytes;
  }

  /** @returns what goes on: whole events; null when none is complete. */
  push(value: Uint8Array): Uint8Array | null {
    const bytes = this.#held === null ? value : join(this.#held, value);
    const whole = bytes.length > this.#maxHeldBytes ? bytes.length : endOfEvents(bytes, bytes.length);
    this.#held = whole === bytes.length ? null : bytes.subarray(whole);
    if (whole === 0) return null;
    const passed = whole === bytes.length ? bytes : bytes.subarray(0, whole);
    this.#noteHead(passed);
    return passed;
  }

  /** The origin has closed its stream, or it broke: what came last decides. */
  end(): 'whole' | 'told' | 'cut' {
    if (this.#held !== null) return 'cut';
    if (this.#endings.whole.test(this.#head)) return 'whole';
    return this.#endings.told.test(this.#head) ? 'told' : 'cut';
  }

  #noteHead(passed: Uint8Array): void {
    const isWhole = endOfEvents(passed, passed.length) === passed.length;
    const from = endOfEvents(passed, isWhole ? passed.length - 1 : passed.length);
    if (from > 0 || this.#atEventStart)
      this.#head = new TextDecoder().decode(passed.subarray(from, from + HEAD_BYTES));
    this.#atEventStart = isWhole;
  }
}

/** Index behind the last blank line before `to`, 0 when there is none. */
function endOfEvents(bytes: Uint8Array, to: number): number {
  for (let i = to - 1; i > 0; i -= 1) if (bytes[i] === LF && bytes[i - 1] === LF) return i + 1;
  return 0;
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** A frame that is not complete after this many bytes is passed on as it is. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

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
 * Passes an origin's event stream on in whole events, and is the one place that watches it. When the origin breaks off,
 * is silent, or ends before the answer does, the client gets an error event: what it already has cannot be taken back,
 * so no other origin is asked. When nobody reads, the origin is let go.
 * @param gone aborts when the client has gone.
 */
export function guardStream(
  body: ReadableStream<Uint8Array>,
  params: {
    path: string;
    gone: AbortSignal;
    /** Unix ms. */
    now: () => number;
    onProgress: () => void;
    /** A stream in which nothing moves for this long is ended, ms … */
    stallMs: number;
    /** … or for this long, when nobody reads and less than `connectionBytes` have been read … */
    unreadMs: number;
    connectionBytes: number;
    /** … and so often it is looked at. One timer a stream: one a chunk would cost the edge's CPU. */
    checkMs: number;
    /** Once. */
    onEnd: (end: StreamEnd) => void;
  },
): ReadableStream<Uint8Array> {
  const { path, now } = params;
  const reader = body.getReader();
  const frames = new OriginFrames(path, MAX_HELD_BYTES);
  let last: Uint8Array | null = null;
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
    params.onEnd(how);
  };
  // workerd does not always cancel the stream of a client that has gone.
  const leave = (): void => {
    end('gone');
    void letGo();
  };

  let controller: ReadableStreamDefaultController<Uint8Array>;
  // A machine that loses its power says no goodbye, and neither does each client (workerd#6832): of those who left before
  // their first token, workerd told of 7 in 100.
  const watch = setInterval(() => {
    const left = !reading && passedBytes < params.connectionBytes;
    if (now() - movedAt < (left ? params.unreadMs : params.stallMs)) return;
    if (reading) {
      silent = true;
      void letGo();
    } else {
      leave();
      controller.error(new Error('client disconnected'));
    }
  }, params.checkMs);
  if (params.gone.aborted) leave();
  else params.gone.addEventListener('abort', leave, { once: true });

  /** @returns what the origin said, in whole frames; null at its end. @throws when it breaks off or is silent. */
  async function next(): Promise<Uint8Array | null> {
    for (;;) {
      const { done, value } = await reader.read();
      if (silent) throw new Error('the origin is silent');
      if (done) return null;
      movedAt = now();
      params.onProgress();
      const whole = frames.push(value);
      if (whole !== null) return whole;
    }
  }

  return new ReadableStream<Uint8Array>({
    start: (started) => void (controller = started),
    async pull() {
      movedAt = now();
      reading = true;
      const said = await next().catch(() => null);
      reading = false;
      if (ended) return controller.close();
      if (said !== null) {
        passedBytes += said.length;
        // A heartbeat says nothing of how far the answer is.
        if (said[0] !== COLON || endOfEvents(said, said.length - 1) > 0) last = said;
        return controller.enqueue(said);
      }
      const how = silent ? 'stalled' : frames.end();
      if (how === 'cut' || how === 'stalled') controller.enqueue(errorEvent(path, BROKEN, last));
      end(how);
      controller.close();
    },
    cancel: leave,
  });
}

/** Hands an origin's answer on, streams under guard; what becomes of them counts for or against the origin. */
export function createDeliver({ health, now }: { health: OriginHealth; now: () => number }) {
  /** The lease ends with the body of a stream; headers of a whole answer come when the work is done. */
  return (params: {
    origin: Origin;
    response: Response;
    lease: Lease;
    call: { path: string; requestId: string; signal: AbortSignal };
  }): { response: Response; ended: Promise<StreamEnd> | null } => {
    const { origin, response, lease, call } = params;
    const { body, status, headers } = response;
    if (body === null || !isEventStream(headers)) {
      lease.end();
      return { response, ended: null };
    }
    let tell: (end: StreamEnd) => void = () => undefined;
    const ended = new Promise<StreamEnd>((resolve) => (tell = resolve));
    const guarded = guardStream(body, {
      path: call.path,
      gone: call.signal,
      now,
      onProgress: lease.renew,
      stallMs: STREAM_STALL_MS,
      checkMs: STREAM_STALL_CHECK_MS,
      unreadMs: UNREAD_MS,
      connectionBytes: CONNECTION_BYTES,
      onEnd(end) {
        lease.end();
        tell(end);
        if (end !== 'cut' && end !== 'stalled') return;
        logLine('stream_cut', { origin: origin.id, request_id: call.requestId });
        health.failed(origin);
      },
    });
    return { response: new Response(guarded, { status, headers }), ended };
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

const NEWLINE = 0x0a;
const D = 0x64;
/** A comment longer than this is not ours, and goes on as it is; it bounds what is held back. */
const MAX_COMMENT_BYTES = 128;
const NOTHING = new Uint8Array(0);
const PREFIX = new TextEncoder().encode(USAGE_COMMENT);

/**
 * Reads the origin's note of usage out of a stream of server-sent events and takes it away, byte for byte as if it had
 * not been there. Lines are told apart by their first byte alone (JSON has no bare newline), so that an event costs two
 * searches for a newline; only comments are held back until their end.
 */
export class UsageStripper {
  note: UsageNote | null = null;
  /** Lines of data that went by: an upper bound of an answer's tokens when its end was never seen. */
  events = 0;
  #atLineStart = true;
  /** Of a comment whose end has not come. */
  #held = NOTHING;
  /** After our comment: its empty line goes too. */
  #skipEmptyLine = false;
  readonly #takesComments: boolean;

  /** @param takesComments whether other comments go on to the client. */
  constructor(takesComments = true) {
    this.#takesComments = takesComments;
  }

  /** @returns what goes on; possibly nothing. */
  push(chunk: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    const data = this.#held.length === 0 ? chunk : concat(this.#held, chunk);
    this.#held = NOTHING;
    let from = 0;
    let at = 0;
    while (at < data.length) {
      if (this.#atLineStart) {
        if (this.#skipEmptyLine) {
          this.#skipEmptyLine = false;
          if (data[at] === NEWLINE) {
            if (at > from) out.push(data.subarray(from, at));
            at += 1;
            from = at;
            continue;
          }
        }
        if (data[at] === COLON) {
          const end = data.indexOf(NEWLINE, at);
          if (end === -1 && data.length - at < MAX_COMMENT_BYTES) {
            if (at > from) out.push(data.subarray(from, at));
            this.#held = data.slice(at);
            return out;
          }
          if (end !== -1 && this.#take(data.subarray(at, end))) {
            if (at > from) out.push(data.subarray(from, at));
            at = end + 1;
            from = at;
            this.#skipEmptyLine = true;
            continue;
          }
        } else if (data[at] === D) this.events += 1;
      }
      const end = data.indexOf(NEWLINE, at);
      this.#atLineStart = end !== -1;
      at = end === -1 ? data.length : end + 1;
    }
    if (from === 0) out.push(data);
    else if (from < data.length) out.push(data.subarray(from));
    return out;
  }

  /** @returns what was still held back. */
  end(): Uint8Array[] {
    const rest = this.#held;
    this.#held = NOTHING;
    return rest.length === 0 ? [] : [rest];
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

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
