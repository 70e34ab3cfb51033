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
import type { CompletionFormat } from './completion-format.ts';
import { usageCounter } from './usage.ts';
import type { OriginContext } from './origin-context.ts';
import type { ChoiceEvent } from './run-prompts.ts';
import { sseResponse } from './sse.ts';

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
  const open = new Set(Array.from({ length: choices }, (_, choice) => choice));
  const usage = usageCounter(prompted, params.perPrompt);
  return sseResponse({
    heartbeatMs: context.heartbeatMs ?? STREAM_HEARTBEAT_MS,
    heartbeat(writer) {
      const [choice] = open;
      if (choice === undefined) return;
      for (const value of format.heartbeat(choice)) writer.send(value, format.named);
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
          open.delete(choice);
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

/** `Server-Timing` of one answer: what followed what, in ms; see docs/operations.md. */
export interface Timing {
  /** The time since the last lap, or the beginning, went into this. @param name lower-case letters. */
  lap(name: string): void;
  /** A row begins to read the prompt. Of several the first one counts. */
  begin(): void;
  /**
   * The lap `first`, to the first event, and before it `queue`: the part of it until a row began. No `queue` where an
   * answer needed none.
   * @param isOver false: there is no event yet, but headers go now. While no row has begun there is `queue` alone, so far.
   */
  first(isOver: boolean): void;
  headers(): { 'server-timing': string };
}

/** @param now ms. */
export function startTiming(now: () => number): Timing {
  const laps: string[] = [];
  let last = now();
  let begunAt: number | null = null;
  const say = (name: string, until: number): void => {
    laps.push(`${name};dur=${Math.max(0, Math.round(until - last))}`);
  };
  const lap = (name: string): void => {
    const at = now();
    say(name, at);
    last = at;
  };
  return {
    lap,
    begin: () => void (begunAt ??= now()),
    first(isOver) {
      if (begunAt === null && !isOver) return lap('queue');
      if (begunAt !== null) say('queue', begunAt);
      lap('first');
    },
    headers: () => ({ 'server-timing': laps.join(', ') }),
  };
}
