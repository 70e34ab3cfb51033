/** An answer from its events: whole, or as a stream. */
import {
  type ApiError,
  errorResponse,
  type FinishReason,
  STREAM_HEARTBEAT_MS,
  USAGE_COMMENT,
  USAGE_HEADER,
  writeUsageNote,
} from '../../protocol/index.ts';
import type { EngineEvent, ScoredToken } from '../engine/engine.ts';
import type { AnswerTokens, CompletionFormat } from './completion-formats.ts';
import { type Timing, usageCounter } from './usage.ts';
import type { OriginContext } from './origin-context.ts';
import type { ChoiceEvent } from './run-prompts.ts';

/** Long enough that most failures before the first token still get an HTTP status of their own. */
const HEADERS_AFTER_MS = 3_000;

const GOING_DOWN: ApiError = {
  code: 'origin_unavailable',
  message: 'The origin is shutting down.',
  retryAfterMs: 1_000,
};

const TOO_SLOW: ApiError = {
  code: 'deadline_exceeded',
  message: 'The answer was not read fast enough, and was given up.',
};

interface Answering {
  events: AsyncGenerator<ChoiceEvent, undefined>;
  /** Of all prompts. */
  choices: number;
  /** Of each prompt. */
  perPrompt: number;
  /** Tokens of the prompts, which count once each. */
  prompted: number;
  format: CompletionFormat;
  /** Ends all choices. */
  abort: () => void;
  /** Laps: `prompt`, `first` (queue and prefill, to the first event), `rest` (of an answer that is not streamed); `queue` lies within `first`. */
  timing: Timing;
  /** Whether the edge is told what was used, beside the answer. */
  notesUsage: boolean;
}

export async function collect(params: Answering): Promise<Response> {
  const { events, choices, prompted, format, abort, timing, notesUsage } = params;
  const answers = Array.from({ length: choices }, () => ({
    text: '',
    parts: [] as AnswerTokens[],
    prompt: [] as readonly ScoredToken[],
    tokens: [] as ScoredToken[],
    finishReason: 'stop' as FinishReason,
    stop: undefined as string | undefined,
  }));
  const usage = usageCounter(prompted, params.perPrompt);
  let begun = false;
  for await (const { choice, event } of events) {
    if (!begun) timing.first(true);
    begun = true;
    const failure = failureOf(event);
    if (failure !== null) {
      abort();
      return errorResponse(failure);
    }
    const answer = answers[choice]!;
    if (event.kind === 'prompt') answer.prompt = event.tokens;
    if (event.kind === 'tokens') {
      answer.text += event.text;
      answer.parts.push(event);
      answer.tokens.push(...event.tokens);
    }
    if (event.kind === 'end') {
      answer.finishReason = event.finishReason;
      answer.stop = event.stop;
      usage.add(choice, event);
    }
  }
  if (usage.ended < choices) throw new Error('the engine ended a request without saying how');
  const total = usage.total();
  timing.lap('rest');
  const note = notesUsage ? { [USAGE_HEADER]: writeUsageNote(usage.note()) } : {};
  return Response.json(format.whole(answers, total), { headers: { ...timing.headers(), ...note } });
}

/**
 * Waits for the first event, so that a failure before it is an HTTP error and the role goes out with the first token;
 * not for long, because proxies in between want to see headers.
 */
export async function stream(params: Answering & { context: OriginContext }): Promise<Response> {
  const { events, choices, prompted, format, context, abort, timing, notesUsage } = params;
  const begun = writeUsageNote({ promptTokens: prompted, completionTokens: null });
  let next = events.next();
  const early = await within(next, context.headersAfterMs ?? HEADERS_AFTER_MS);
  const failure = failureOf(early?.value?.event);
  if (failure !== null) {
    abort();
    return errorResponse(failure);
  }
  timing.first(early !== null);
  const usage = usageCounter(prompted, params.perPrompt);
  return sseResponse({
    heartbeatMs: context.heartbeatMs ?? STREAM_HEARTBEAT_MS,
    heartbeat(writer) {
      if (format.heartbeat === undefined) writer.comment(WAITING_COMMENT);
      else writer.send(format.heartbeat, format.named);
    },
    tooSlow(writer) {
      if (notesUsage) writer.comment(USAGE_COMMENT + writeUsageNote({ ...usage.note(), finish: 'left' }));
      writer.send(format.failure(TOO_SLOW), format.named);
    },
    headers: { ...timing.headers(), ...(notesUsage ? { [USAGE_HEADER]: begun } : {}) },
    onGone: abort,
    onEnd: context.serving.enter(),
    async produce(writer) {
      const send = (values: unknown[]) => values.forEach((value) => writer.send(value, format.named));
      send(format.opening());
      while (usage.ended < choices) {
        const { value, done } = await next;
        if (done === true) throw new Error('the engine ended a request without saying how');
        const { choice, event } = value;
        const failed = failureOf(event);
        if (failed !== null) {
          abort();
          return send([format.failure(failed)]);
        }
        if (event.kind === 'tokens') usage.shown(event.tokens.length);
        if (event.kind === 'tokens' || event.kind === 'prompt') send(format.piece(choice, event));
        if (event.kind === 'end') {
          usage.add(choice, event);
          send(format.closing(choice, event.finishReason, event.stop));
        }
        next = events.next();
      }
      if (notesUsage) writer.comment(USAGE_COMMENT + writeUsageNote(usage.note()));
      send(format.ending(usage.total()));
      if (!format.named) writer.done();
    },
  });
}

function failureOf(event: EngineEvent | undefined): ApiError | null {
  if (event?.kind === 'error') return event.error;
  return event?.kind === 'aborted' ? GOING_DOWN : null;
}

/** @returns null when it takes longer. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A reader that lets so much pile up is cut off; its row is worth more to others. */
const MAX_BUFFERED_BYTES = 256 * 1024;
/**
 * An event counts at most so much of that, bytes. What is larger repeats the request or the whole answer: a stream has
 * seven such events at most, written one behind the other before anybody can have read the first.
 */
const MAX_COUNTED_BYTES = 4 * 1024;

/**
 * What a stream says that has been quiet for long. No chunk with an empty text: clients take that for the first token.
 * The blank line behind it belongs to it, since clients that cut a stream at blank lines would miss the event behind.
 */
const WAITING_COMMENT = ': waiting';

export interface SseWriter {
  /** @param value sent as one event's JSON, with its `type` as the event's name when `named`. */
  send(value: unknown, named?: boolean): void;
  /** A line that begins with a colon. */
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
