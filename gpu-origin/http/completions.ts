import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import {
  type ApiError,
  ASK_PARAMETER,
  AskId,
  errorResponse,
  type FinishReason,
  STREAM_HEARTBEAT_MS,
  USAGE_COMMENT,
  USAGE_HEADER,
  writeUsageNote,
} from '../../protocol/index.ts';
import type { EngineEvent, ScoredToken } from '../engine/engine.ts';
import { prepareGrammar } from './prepare-grammar.ts';
import { choiceSeeds, samplingParamsOf, type GenerationRequest } from '../generation/sampling-params.ts';
import { chatFormat } from './chat-format.ts';
import type { CompletionFormat } from './completion-format.ts';
import { messagesFormat } from './messages-format.ts';
import { mergeChoices, type ChoiceEvent } from './merge-choices.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import {
  type CompletionKind,
  type Directive,
  ignoredHeaders,
  parseCompletion,
  readingOf,
} from './parse-completion.ts';
import { promptOf } from '../prompts/prompt.ts';
import { parseJson } from './read-body.ts';
import { responsesFormat } from './responses-format.ts';
import { startTiming, type Timing } from './server-timing.ts';
import { sseResponse } from './sse.ts';
import { textFormat } from './text-format.ts';
import { usageCounter } from './usage-counter.ts';
import type { TrackedUsage } from './usage-memory.ts';

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

/** `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/messages`. */
export async function handleCompletion(
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const timing = startTiming(context.now);
  const json = parseJson(c.var.body);
  if (!json.ok) return errorResponse(json.error);
  const parsed = parseCompletion(kind, json.value, readingOf(c, context, services));
  if (!parsed.ok) return errorResponse(parsed.error);
  const { request, directive, ignored } = parsed.value;
  if (directive.requestId !== null) c.set('requestId', directive.requestId);
  const gone = new AbortController();
  const { signal } = c.req.raw;
  if (signal.aborted) gone.abort();
  else signal.addEventListener('abort', () => gone.abort(), { once: true });

  const { tenant, budgetMs } = directive;
  const arrivedAt = context.now();
  const choices = 'n' in request ? (request.n ?? 1) : 1;
  // From before the prompt is encoded, which takes a while: the edge may ask already.
  const tracked = trackUsage(c, context, choices);
  const prompt = await promptOf(request, services, { tenant, signal: gone.signal });
  if (!prompt.ok) {
    tracked?.refused();
    return refusal(prompt.error, context);
  }
  const { ids, echo } = prompt.value;
  timing.lap('prompt');

  const grammar = await prepareGrammar(request, services, { tenant, signal: gone.signal });
  if (!grammar.ok) {
    tracked?.refused();
    return refusal(grammar.error, context);
  }
  if (grammar.value !== null) timing.lap('grammar');
  const sampling = samplingParamsOf(request);
  const added = await services.engine.addChoices(
    {
      id: c.var.requestId,
      tenant,
      prompt: ids,
      chain: directive.chain,
      sampling,
      grammar: grammar.value,
      promptLogprobs: echo === null ? null : sampling.logprobs,
      budgetMs: budgetMs === null ? null : Math.max(1, budgetMs - (context.now() - arrivedAt)),
      signal: gone.signal,
      ...(tracked === null ? {} : { onEnd: tracked.ended }),
    },
    choiceSeeds(sampling.seed, choices),
  );
  // The answers that were added have opened it.
  grammar.value?.release();
  if (!added.ok) {
    tracked?.refused();
    return refusal(added.error, context);
  }
  const format = formatOf({
    kind,
    prompted: ids.length,
    request,
    directive,
    echo,
    choices,
    context,
    services,
  });
  const events = mergeChoices(added.value);
  const abort = () => gone.abort();
  const answering = {
    events,
    choices,
    prompted: ids.length,
    format,
    abort,
    timing,
    notesUsage: context.mode.kind === 'signed',
  };
  const response = await (request.stream === true ? stream({ ...answering, context }) : collect(answering));
  const lowered = loweredLimit(request, added.value[0]!.maxTokens);
  const left = ignoredHeaders(lowered === null ? ignored : [...ignored, lowered]);
  for (const [name, value] of Object.entries(left)) response.headers.set(name, value);
  return response;
}

/** The limit of tokens that holds, when the context leaves no room for the one that was asked for. */
function loweredLimit(request: GenerationRequest, limit: number): string | null {
  const { maxTokens } = samplingParamsOf(request);
  return maxTokens === null || maxTokens <= limit ? null : `${limitField(request)}=${limit}`;
}

/** Remembers what the request uses when an edge may ask about it. */
export function trackUsage(
  c: Context<OriginEnv>,
  context: OriginContext,
  choices: number,
): TrackedUsage | null {
  const askId = AskId.safeParse(c.req.query(ASK_PARAMETER));
  const { kid } = c.var;
  return kid === null || !askId.success ? null : context.usage.begin(askId.data, kid, choices);
}

/** What was encoded of a prompt before its length was refused is work done, and the edge counts it. */
function refusal(error: ApiError, { mode }: OriginContext): Response {
  const counted = error.code === 'context_length_exceeded' ? (error.promptTokens ?? 0) : 0;
  const note = writeUsageNote({ promptTokens: counted, completionTokens: 0 });
  return errorResponse(error, counted > 0 && mode.kind === 'signed' ? { [USAGE_HEADER]: note } : {});
}

function formatOf(params: {
  kind: CompletionKind;
  /** Tokens of the prompt. */
  prompted: number;
  request: GenerationRequest;
  directive: Directive;
  echo: string | null;
  choices: number;
  context: OriginContext;
  services: Services;
}): CompletionFormat {
  const { request, context } = params;
  const now = (): number => Math.floor(context.now() / 1000);
  const { model } = params.directive;
  const common = {
    id: randomUUID().replaceAll('-', ''),
    created: now(),
    model,
    choices: params.choices,
    includeUsage: false,
    tokenizer: params.services.tokenizer,
    logprobs: samplingParamsOf(request).logprobs !== null,
  };
  if (params.kind === 'messages') return messagesFormat({ ...common, prompted: params.prompted });
  // The edge may have been asked by another name than the body's.
  if ('input' in request) return responsesFormat({ ...common, request: { ...request, model }, now });
  const includeUsage = request.stream === true && request.stream_options?.include_usage === true;
  return 'messages' in request
    ? chatFormat({ ...common, includeUsage })
    : textFormat({ ...common, includeUsage, echo: params.echo });
}

function limitField(request: GenerationRequest): string {
  if ('input' in request) return 'max_output_tokens';
  return 'messages' in request && request.max_completion_tokens != null
    ? 'max_completion_tokens'
    : 'max_tokens';
}

interface Answering {
  events: AsyncGenerator<ChoiceEvent, undefined>;
  choices: number;
  /** Tokens of the prompt, which count once. */
  prompted: number;
  format: CompletionFormat;
  /** Ends all choices. */
  abort: () => void;
  /** Laps: `prompt`, `first` (queue and prefill, to the first event), `rest` (of an answer that is not streamed). */
  timing: Timing;
  /** Whether the edge is told what was used, beside the answer. */
  notesUsage: boolean;
}

async function collect(params: Answering): Promise<Response> {
  const { events, choices, prompted, format, abort, timing, notesUsage } = params;
  const answers = Array.from({ length: choices }, () => ({
    text: '',
    prompt: [] as readonly ScoredToken[],
    tokens: [] as ScoredToken[],
    finishReason: 'stop' as FinishReason,
  }));
  const usage = usageCounter(prompted);
  let begun = false;
  for await (const { choice, event } of events) {
    if (!begun) timing.lap('first');
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
      usage.add(event);
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
async function stream(params: Answering & { context: OriginContext }): Promise<Response> {
  const { events, choices, prompted, format, context, abort, timing, notesUsage } = params;
  const begun = writeUsageNote({ promptTokens: prompted, completionTokens: null });
  let next = events.next();
  const early = await within(next, context.headersAfterMs ?? HEADERS_AFTER_MS);
  const failure = failureOf(early?.value?.event);
  if (failure !== null) {
    abort();
    return errorResponse(failure);
  }
  if (early !== null) timing.lap('first');
  const open = new Set(Array.from({ length: choices }, (_, choice) => choice));
  const usage = usageCounter(prompted);
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
          usage.add(event);
          open.delete(choice);
          send(format.closing(choice, event.finishReason));
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
