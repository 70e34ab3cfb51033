/** A reader that lets so much pile up is cut off; its row is worth more to others. */
const MAX_BUFFERED_BYTES = 256 * 1024;
/**
 * An event counts at most so much of that, bytes. What is larger repeats the request or the whole answer: a stream has
 * seven such events at most, written one behind the other before anybody can have read the first.
 */
const MAX_COUNTED_BYTES = 4 * 1024;

export interface SseWriter {
  /** @param value sent as one event's JSON, with its `type` as the event's name when `named`. */
  send(value: unknown, named?: boolean): void;
  /** A line for the edge, which takes it out; it begins with a colon. */
  comment(line: string): void;
  /** The last event, as OpenAI's clients expect it. */
  done(): void;
}

/**
 * A response of server-sent events.
 * @param produce writes events until it returns; an exception cuts the connection, so that no client takes the answer
 * for a whole one.
 * @param heartbeat writes something; called when nothing was written for `heartbeatMs`.
 * @param tooSlow writes the last events for a reader that is too far behind: it reads what it has not read, and these.
 * @param onGone called once when nobody reads any more (client gone, or too slow).
 */
export function sseResponse(params: {
  produce: (writer: SseWriter) => Promise<void>;
  heartbeat: (writer: SseWriter) => void;
  tooSlow: (writer: SseWriter) => void;
  onGone: () => void;
  onEnd: () => void;
  heartbeatMs: number;
  headers: Record<string, string>;
}): Response {
  const encoder = new TextEncoder();
  let stop = (): void => undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        let open = true;
        let late = false;
        const silence = setTimeout(() => {
          silence.refresh();
          params.heartbeat(writer);
        }, params.heartbeatMs);
        stop = () => {
          if (!open) return;
          open = false;
          clearTimeout(silence);
          params.onEnd();
        };
        const giveUp = (): void => {
          late = true;
          params.tooSlow(writer);
          stop();
          controller.close();
          params.onGone();
        };
        const write = (text: string): void => {
          if (!open) return;
          silence.refresh();
          if (!late && (controller.desiredSize ?? 0) < -MAX_BUFFERED_BYTES) giveUp();
          else controller.enqueue(encoder.encode(text));
        };
        const writer: SseWriter = {
          send: (value, named = false) => {
            const name = named ? `event: ${(value as { type: string }).type}\n` : '';
            write(`${name}data: ${JSON.stringify(value)}\n\n`);
          },
          comment: (line) => write(`${line}\n\n`),
          done: () => write('data: [DONE]\n\n'),
        };
        params.produce(writer).then(
          () => {
            if (!open) return;
            stop();
            controller.close();
          },
          (error: unknown) => {
            if (!open) return;
            stop();
            controller.error(error);
          },
        );
      },
      cancel() {
        stop();
        params.onGone();
      },
    },
    { highWaterMark: 0, size: (chunk) => Math.min(chunk?.byteLength ?? 0, MAX_COUNTED_BYTES) },
  );
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
      ...params.headers,
    },
  });
}
