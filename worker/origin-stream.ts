import { errorBody, type ApiError } from '../protocol/index.ts';

/** How the answer's body came to its end. */
export type StreamEnd = 'whole' | 'cut' | 'gone';

/** A frame that is not complete after this many bytes is passed on as it is. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

const LF = 10;

/** Index behind the last blank line, 0 when there is none. */
function lastFrameEnd(bytes: Uint8Array): number {
  for (let i = bytes.length - 1; i > 0; i -= 1) if (bytes[i] === LF && bytes[i - 1] === LF) return i + 1;
  return 0;
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** The event that OpenAI's clients of this path take for an error. */
function errorEvent(path: string, error: ApiError, last: Uint8Array | null): Uint8Array {
  const { code, message } = error;
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
 * Passes an origin's event stream on in whole events. When the origin's connection breaks, the client gets an error
 * event instead of silence: what it already has cannot be taken back, so no other origin is asked.
 * @param gone aborts when the client has gone.
 */
export function guardStream(
  body: ReadableStream<Uint8Array>,
  params: {
    path: string;
    gone: AbortSignal;
    onProgress: () => void;
    /** A read that brings nothing for this long, and at most twice as long, ends the stream as a break does, ms. */
    idleMs: number;
    /** Once. */
    onEnd: (end: StreamEnd) => void;
  },
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let held: Uint8Array | null = null;
  let last: Uint8Array | null = null;
  let ended = false;
  let reading = false;
  let moved = false;
  let stalled = false;
  // A machine that loses its power says no goodbye. One timer a stream: one a chunk would cost the edge's CPU.
  const watch = setInterval(() => {
    stalled = reading && !moved;
    moved = false;
    if (stalled) reader.cancel().catch(() => undefined);
  }, params.idleMs);
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
    reader.cancel().catch(() => undefined);
  };
  if (params.gone.aborted) leave();
  else params.gone.addEventListener('abort', leave, { once: true });

  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        for (;;) {
          reading = true;
          const { done, value } = await reader.read();
          reading = false;
          moved = true;
          if (stalled) throw new Error('the origin is silent');
          if (done) {
            if (held !== null) controller.enqueue(held);
            end('whole');
            return controller.close();
          }
          params.onProgress();
          const bytes: Uint8Array = held === null ? value : join(held, value);
          const whole = bytes.length > MAX_HELD_BYTES ? bytes.length : lastFrameEnd(bytes);
          held = whole === bytes.length ? null : bytes.subarray(whole);
          if (whole === 0) continue;
          last = whole === bytes.length ? bytes : bytes.subarray(0, whole);
          return controller.enqueue(last);
        }
      } catch {
        if (!ended) {
          const message = 'The model server stopped in the middle of the answer. Please ask again.';
          controller.enqueue(
            errorEvent(params.path, { code: 'origin_unavailable', message, retryAfterMs: 0 }, last),
          );
        }
        end('cut');
        controller.close();
      }
    },
    cancel: leave,
  });
}
