import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import { type ApiError, err, errorResponse } from '../../protocol/api-error.ts';
import type { FinishReason } from '../../protocol/completion-answers.ts';
import { STREAM_HEARTBEAT_MS } from '../../protocol/limits.ts';
import {
  ANSWER_PARAMETER,
  AnswerText,
  CANCEL_PARAMETER,
  CancelId,
  COLD_HEADER,
  USAGE_HEADER,
  writeUsageNote,
  USAGE_COMMENT,
} from '../../protocol/origin-wire.ts';
import { ASK_HEADER, TURNED_HEADER } from '../../protocol/pool-notes.ts';
import { answersTo } from '../../protocol/request-fields.ts';
import {
  prepareGrammar,
  callSyntaxOf,
  chatFormat,
  type CompletionFormat,
  textFormat,
  messagesFormat,
  type AnswerTokens,
} from './completion-formats.ts';
import { deadlineExceeded, type EngineEvent, type ScoredToken } from '../engine/engine.ts';
import { choiceSeeds, samplingParamsOf, type GenerationRequest } from '../generation/sampler.ts';
import { type Generation, startGeneration } from './generation.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { type CompletionKind, type Directive, ignoredHeaders, readCompletion } from './read-request.ts';
import { type Prompt, promptsOf } from '../prompts/prompt.ts';
import { responsesFormat } from './responses-format.ts';
import {
  runPrompts,
  type ChoiceEvent,
  startTiming,
  type TrackedUsage,
  type Timing,
  usageCounter,
} from './run-prompts.ts';

/** For an edge only: it asks another origin. */
const CROWDED: ApiError = {
  code: 'queue_full',
  message: 'This origin is crowded. Ask another one of its pool.',
  retryAfterMs: 1_000,
};

/** `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/messages`. */
export function handleCompletion(
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const generation = startGeneration(kind === 'text' ? 'text_completion' : 'chat', c, context, services);
  return generation.answer(() => complete(kind, c, context, services, generation));
}

async function complete(
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
  generation: Generation,
): Promise<Response> {
  const timing = startTiming(context.now);
  const parsed = readCompletion(kind, c, context, services);
  if (!parsed.ok) {
    generation.fail(parsed.error.code);
    return errorResponse(parsed.error);
  }
  const { request, directive, ignored } = parsed.value;
  generation.asked(directive, request);
  if (directive.requestId !== null) c.set('requestId', directive.requestId);
  const { pool } = c.var;
  if (pool?.turnsAway(c.req.header(ASK_HEADER)) === true) {
    generation.fail(CROWDED.code);
    return errorResponse(CROWDED, { [TURNED_HEADER]: 'true' });
  }
  const gone = following(c.req.raw.signal);
  const { tenant, budgetMs } = directive;
  const arrivedAt = context.now();
  const perPrompt = 'n' in request ? (request.n ?? 1) : 1;
  const choices = answersTo(request);
  // Before the prompts are encoded, which takes a while: the edge may cancel it already.
  const tracked = trackUsage(c, context, choices, () => gone.abort());
  const digests = directive.chain.map(({ digest }) => digest);
  const letGo = services.files.keep(digests);
  const refuse = (error: ApiError): Response => {
    letGo();
    tracked?.refused();
    generation.fail(error.code);
    return refusal(error, context);
  };
  const encoded = await promptsOf(request, services, { tenant, signal: gone.signal });
  if (!encoded.ok) return refuse(encoded.error);
  const prompts = encoded.value;
  timing.lap('prompt');
  // Adapters could be evicted between two prompts, when the edge can no longer send them.
  const missing = prompts.length > 1 ? await services.engine.check(digests, true) : null;
  if (missing !== null) return refuse(missing);

  const grammar = await prepareGrammar(request, services, { tenant, signal: gone.signal });
  if (!grammar.ok) return refuse(grammar.error);
  if (grammar.value !== null) timing.lap('grammar');
  const sampling = samplingParamsOf(request);
  const ofPrompt = 'input' in request ? null : (request.prompt_logprobs ?? null);
  // Each answer opens the grammar and reads the adapters; neither is needed once every prompt is queued or
  // dropped.
  const unqueued = new Set(prompts.keys());
  const queued = (at: number): void => {
    unqueued.delete(at);
    if (unqueued.size > 0) return;
    grammar.value?.release();
    letGo();
  };
  const isCold = services.engine.holds?.(directive.chain) === false;
  const seeds = choiceSeeds(sampling.seed, perPrompt);
  const running = await runPrompts({
    prompts,
    choices: perPrompt,
    signal: gone.signal,
    async add({ ids, echo }, at) {
      const leftMs = budgetMs === null ? null : budgetMs - (context.now() - arrivedAt);
      // The first one gets at least a moment, so that its own errors are reported.
      if (leftMs !== null && leftMs <= 0 && at > 0) return err(deadlineExceeded());
      let begunAt: number | null = null;
      const rows = seeds.map(() => generation.enter());
      const added = await services.engine.addChoices(
        {
          id: c.var.requestId,
          parent: generation.parent,
          span: generation.span,
          tenant,
          prompt: ids,
          chain: directive.chain,
          sampling,
          grammar: grammar.value,
          promptLogprobs: most(echo === null ? null : sampling.logprobs, ofPrompt),
          promptRanks: ofPrompt !== null,
          budgetMs: leftMs === null ? null : Math.max(1, leftMs),
          signal: gone.signal,
          onBegin() {
            begunAt ??= context.now();
            timing.begin();
          },
          onEnd(ran) {
            generation.rowEnded(ran, at, gone.signal.aborted);
            rows.pop()?.();
            tracked?.ended(ran, at);
            if (begunAt !== null) pool?.held(directive.chain, context.now() - begunAt);
          },
        },
        seeds,
      );
      if (added.ok) {
        pool?.arrived(directive.chain, perPrompt);
        queued(at);
      } else for (const leave of rows) leave();
      return added;
    },
    onDrop(at) {
      queued(at);
      for (let left = perPrompt; left > 0; left -= 1)
        tracked?.ended({ promptTokens: 0, completionTokens: 0 }, at);
    },
  });
  if (!running.ok) {
    grammar.value?.release();
    return refuse(running.error);
  }
  const prompted = prompts.reduce((sum, { ids }) => sum + ids.length, 0);
  const answering = {
    events: running.value,
    choices,
    perPrompt,
    prompted,
    format: formatOf({
      kind,
      id: answerText(c),
      prompted,
      request,
      directive,
      prompts,
      choices,
      logprobs: sampling.logprobs,
      ofPrompt,
      context,
      services,
    }),
    abort: () => gone.abort(),
    timing,
    generation,
    notesUsage: context.mode.kind === 'signed',
  };
  const response = await (request.stream === true ? stream({ ...answering, context }) : collect(answering));
  const longest = Math.max(...prompts.map(({ ids }) => ids.length));
  const lowered = loweredLimit(request, sampling.maxTokens, services.base.context - longest);
  const left = ignoredHeaders(lowered === null ? ignored : [...ignored, lowered]);
  for (const [name, value] of Object.entries(left)) response.headers.set(name, value);
  if (isCold && context.mode.kind === 'signed') response.headers.set(COLD_HEADER, 'true');
  return response;
}

/**
 * Aborts when the client disconnects. Unlike the request's own signal: Node keeps a signal that a Request
 * follows as long as the Request (undici's finalizer), so if it led to objects made for the request, both
 * would leak.
 */
function following(signal: AbortSignal): AbortController {
  const follower = new AbortController();
  if (signal.aborted) follower.abort();
  else {
    const weak = new WeakRef(follower);
    signal.addEventListener('abort', () => weak.deref()?.abort(), { once: true });
  }
  return follower;
}

/** The larger one; null = none. */
const most = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.max(a, b);

/**
 * The effective limit of tokens if the requested one does not fit.
 * @param room tokens left.
 */
function loweredLimit(request: GenerationRequest, maxTokens: number | null, room: number): string | null {
  return maxTokens === null || maxTokens <= room ? null : `${limitField(request)}=${room}`;
}

/**
 * Tracks the usage of a request that an edge may cancel.
 * @param cancel ends it.
 */
export function trackUsage(
  c: Context<OriginEnv>,
  context: OriginContext,
  choices: number,
  cancel: () => void,
): TrackedUsage | null {
  const id = CancelId.safeParse(c.req.query(CANCEL_PARAMETER));
  const { kid } = c.var;
  return kid === null || !id.success ? null : context.usage.begin(id.data, kid, choices, cancel);
}

/** The end of the answer's id: the edge's choice, or a new one. */
export function answerText(c: Context<OriginEnv>): string {
  const wanted = AnswerText.safeParse(c.req.query(ANSWER_PARAMETER));
  return c.var.kid !== null && wanted.success ? wanted.data : randomUUID().replaceAll('-', '');
}

/** Encoding a prompt that turns out too long is work, and the edge counts it. */
function refusal(error: ApiError, { mode }: OriginContext): Response {
  const counted = error.code === 'context_length_exceeded' ? (error.promptTokens ?? 0) : 0;
  const note = writeUsageNote({ promptTokens: counted, completionTokens: 0 });
  return errorResponse(error, counted > 0 && mode.kind === 'signed' ? { [USAGE_HEADER]: note } : {});
}

function formatOf(params: {
  kind: CompletionKind;
  /** Without the API's prefix. */
  id: string;
  /** Tokens of all prompts. */
  prompted: number;
  request: GenerationRequest;
  directive: Directive;
  prompts: readonly Prompt[];
  choices: number;
  /** Alternatives per position with log-probabilities, of the answers and of the prompts; null = none. */
  logprobs: number | null;
  ofPrompt: number | null;
  context: OriginContext;
  services: Services;
}): CompletionFormat {
  const { request, context } = params;
  const now = (): number => Math.floor(context.now() / 1000);
  const { model } = params.directive;
  const common = {
    id: params.id,
    created: now(),
    model,
    choices: params.choices,
    includeUsage: false,
    tokenizer: params.services.tokenizer,
    logprobs: params.logprobs !== null,
    calls: callSyntaxOf(request, params.services),
    promptLogprobs: params.ofPrompt,
  };
  if (params.kind === 'messages') return messagesFormat({ ...common, prompted: params.prompted });
  // The edge may have received another name than the one in the body.
  if ('input' in request) return responsesFormat({ ...common, request: { ...request, model }, now });
  const includeUsage = request.stream === true && request.stream_options?.include_usage === true;
  return 'messages' in request
    ? chatFormat({ ...common, includeUsage })
    : textFormat({
        ...common,
        includeUsage,
        echoes: params.prompts.map(({ echo }) => echo),
        topLogprobs: params.logprobs ?? 0,
        showSpecial: request.skip_special_tokens === false,
      });
}

function limitField(request: GenerationRequest): string {
  if ('input' in request) return 'max_output_tokens';
  return 'messages' in request && request.max_completion_tokens != null
    ? 'max_completion_tokens'
    : 'max_tokens';
}

/** Long enough for most failures before the first token to get their own HTTP status. */
const HEADERS_AFTER_MS = 3_000;

const GOING_DOWN: ApiError = {
  code: 'origin_unavailable',
  message: 'The origin is shutting down.',
  retryAfterMs: 1_000,
};

const TOO_SLOW: ApiError = {
  code: 'deadline_exceeded',
  message: 'The client read the answer too slowly; the answer was aborted.',
};

interface Answering {
  events: AsyncGenerator<ChoiceEvent, undefined>;
  /** Of all prompts together. */
  choices: number;
  /** Of each prompt. */
  perPrompt: number;
  /** Tokens of all prompts, each counted once. */
  prompted: number;
  format: CompletionFormat;
  /** Ends all choices. */
  abort: () => void;
  /**
   * Laps: `prompt`, `first` (queue and prefill, until the first event), `rest` (of an answer that is not
   * streamed); `queue` is part of `first`.
   */
  timing: Timing;
  generation: Generation;
  /** Whether to report usage to the edge, beside the answer. */
  notesUsage: boolean;
}

async function collect(params: Answering): Promise<Response> {
  const { events, choices, prompted, format, abort, timing, generation, notesUsage } = params;
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
      generation.fail(failure.code);
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
  if (usage.ended < choices) throw new Error('the engine ended a request without a reason');
  const total = usage.total();
  timing.lap('rest');
  const note = notesUsage ? { [USAGE_HEADER]: writeUsageNote(usage.note()) } : {};
  return Response.json(format.whole(answers, total), { headers: { ...timing.headers(), ...note } });
}

/**
 * Waits for the first event, so that an earlier failure is an HTTP error and the role is sent with the first
 * token. Not for long, because proxies expect headers.
 */
async function stream(params: Answering & { context: OriginContext }): Promise<Response> {
  const { events, choices, prompted, format, context, abort, timing, generation, notesUsage } = params;
  const begun = writeUsageNote({ promptTokens: prompted, completionTokens: null });
  let next = events.next();
  const early = await within(next, context.headersAfterMs ?? HEADERS_AFTER_MS);
  const failure = failureOf(early?.value?.event);
  if (failure !== null) {
    generation.fail(failure.code);
    abort();
    return errorResponse(failure);
  }
  timing.first(early !== null);
  const usage = usageCounter(prompted, params.perPrompt);
  const leave = context.serving.enter();
  const sent = generation.enter();
  return sseResponse({
    heartbeatMs: context.heartbeatMs ?? STREAM_HEARTBEAT_MS,
    heartbeat(writer) {
      if (format.heartbeat === undefined) writer.comment(WAITING_COMMENT);
      else writer.send(format.heartbeat, format.named);
    },
    tooSlow(writer) {
      generation.fail(TOO_SLOW.code);
      if (notesUsage) writer.comment(USAGE_COMMENT + writeUsageNote({ ...usage.note(), finish: 'left' }));
      writer.send(format.failure(TOO_SLOW), format.named);
    },
    headers: { ...timing.headers(), ...(notesUsage ? { [USAGE_HEADER]: begun } : {}) },
    onGone: abort,
    onEnd() {
      leave();
      sent();
    },
    async produce(writer) {
      const send = (values: unknown[]) => values.forEach((value) => writer.send(value, format.named));
      send(format.opening());
      while (usage.ended < choices) {
        const { value, done } = await next;
        if (done === true) throw new Error('the engine ended a request without a reason');
        const { choice, event } = value;
        const failed = failureOf(event);
        if (failed !== null) {
          generation.fail(failed.code);
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

/** @returns null if it takes longer. */
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

/** A client that lets this much pile up is disconnected: others need its row. */
const MAX_BUFFERED_BYTES = 256 * 1024;
/**
 * An event counts as at most this many bytes. Larger ones repeat the request or the whole answer: a stream
 * has at most seven of them, written in a row before any client can read the first.
 */
const MAX_COUNTED_BYTES = 4 * 1024;

/**
 * Sent in a quiet stream. Not a chunk with empty text: clients take that for the first token. The blank line
 * after it belongs to it, since clients that split a stream at blank lines would lose the next event.
 */
const WAITING_COMMENT = ': waiting';

export interface SseWriter {
  /** @param value one event's JSON, with its `type` as the event's name if `named`. */
  send(value: unknown, named?: boolean): void;
  /** A line that starts with a colon. */
  comment(line: string): void;
  /** The last event that OpenAI's clients expect. */
  done(): void;
}

/**
 * A response of server-sent events.
 * @param produce writes events until it returns; an exception cuts the connection, so that no client takes
 * the answer for complete.
 * @param heartbeat writes something; called if nothing was written for `heartbeatMs`.
 * @param tooSlow writes the last events for a client that is too slow: it still gets what it has not read,
 * and these.
 * @param onGone called once when nobody reads any more (client disconnected, or too slow).
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
