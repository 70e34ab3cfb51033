import { errorBody, messagesError, type ApiError } from '../../protocol/index.ts';
import { OriginFrames } from './frames.ts';
import type { StreamEnd } from '../metering/ports.ts';

/** A frame that is not complete after this many bytes is passed on as it is. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

const BROKEN: ApiError = {
  code: 'origin_unavailable',
  message: 'The model server stopped in the middle of the answer. Please ask again.',
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
  // A machine that loses its power says no goodbye, and neither does each client (workerd#6832).
  const watch = setInterval(() => {
    if (now() - movedAt < params.stallMs) return;
    if (reading) {
      silent = true;
      void letGo();
    } else {
      leave();
      controller.error(new Error('nobody reads'));
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
      if (said !== null) return controller.enqueue((last = said));
      const how = silent ? 'stalled' : frames.end();
      if (how === 'cut' || how === 'stalled') controller.enqueue(errorEvent(path, BROKEN, last));
      end(how);
      controller.close();
    },
    cancel: leave,
  });
}
