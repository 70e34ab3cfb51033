import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import {
  ANSWER_PARAMETER,
  answersTo,
  AnswerText,
  type ApiError,
  ASK_PARAMETER,
  AskId,
  COLD_HEADER,
  err,
  errorResponse,
  USAGE_HEADER,
  writeUsageNote,
} from '../../protocol/index.ts';
import { prepareGrammar, callSyntaxOf } from './answer-form.ts';
import { deadlineExceeded } from '../engine/engine.ts';
import { choiceSeeds, samplingParamsOf, type GenerationRequest } from '../generation/sampling-params.ts';
import { chatFormat, type CompletionFormat, textFormat } from './completion-formats.ts';
import { messagesFormat } from './messages-format.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { type CompletionKind, type Directive, ignoredHeaders, readCompletion } from './read-request.ts';
import { type Prompt, promptsOf } from '../prompts/prompt.ts';
import { responsesFormat } from './responses-format.ts';
import { runPrompts } from './run-prompts.ts';
import { collect, stream } from './write-answer.ts';
import { startTiming, type TrackedUsage } from './usage.ts';

/** `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/messages`. */
export async function handleCompletion(
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const timing = startTiming(context.now);
  const parsed = readCompletion(kind, c, context, services);
  if (!parsed.ok) return errorResponse(parsed.error);
  const { request, directive, ignored } = parsed.value;
  if (directive.requestId !== null) c.set('requestId', directive.requestId);
  const gone = following(c.req.raw.signal);
  const { tenant, budgetMs } = directive;
  const arrivedAt = context.now();
  const perPrompt = 'n' in request ? (request.n ?? 1) : 1;
  const choices = answersTo(request);
  // From before the prompts are encoded, which takes a while: the edge may ask already.
  const tracked = trackUsage(c, context, choices);
  const digests = directive.chain.map(({ digest }) => digest);
  const letGo = services.files.keep(digests);
  const refuse = (error: ApiError): Response => {
    letGo();
    tracked?.refused();
    return refusal(error, context);
  };
  const encoded = await promptsOf(request, services, { tenant, signal: gone.signal });
  if (!encoded.ok) return refuse(encoded.error);
  const prompts = encoded.value;
  timing.lap('prompt');
  // Between two prompts its adapters may leave the memory, and by then nobody can bring them.
  const missing = prompts.length > 1 ? await services.engine.check(digests, true) : null;
  if (missing !== null) return refuse(missing);

  const grammar = await prepareGrammar(request, services, { tenant, signal: gone.signal });
  if (!grammar.ok) return refuse(grammar.error);
  if (grammar.value !== null) timing.lap('grammar');
  const sampling = samplingParamsOf(request);
  const ofPrompt = 'input' in request ? null : (request.prompt_logprobs ?? null);
  // Each answer opens the grammar and reads the adapters; nothing does once every prompt is queued or given up.
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
      // The first has at least a moment, for what is wrong with it.
      if (leftMs !== null && leftMs <= 0 && at > 0) return err(deadlineExceeded());
      const added = await services.engine.addChoices(
        {
          id: c.var.requestId,
          parent: c.var.parent,
          tenant,
          prompt: ids,
          chain: directive.chain,
          sampling,
          grammar: grammar.value,
          promptLogprobs: most(echo === null ? null : sampling.logprobs, ofPrompt),
          promptRanks: ofPrompt !== null,
          budgetMs: leftMs === null ? null : Math.max(1, leftMs),
          signal: gone.signal,
          onBegin: timing.begin,
          ...(tracked === null ? {} : { onEnd: (ran) => tracked.ended(ran, at) }),
        },
        seeds,
      );
      if (added.ok) queued(at);
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
 * Aborts when the client has gone. The signal of a request must not lead to what was made for it: Node keeps a signal that
 * a Request follows for as long as that Request lives (undici's finalizer of Request), so both would stay for ever.
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

/** The limit of tokens that holds, when the one that was asked for has no room. @param room what is left, tokens. */
function loweredLimit(request: GenerationRequest, maxTokens: number | null, room: number): string | null {
  return maxTokens === null || maxTokens <= room ? null : `${limitField(request)}=${room}`;
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

/** What an edge wants the answer's id to end with, or something of its own. */
function answerText(c: Context<OriginEnv>): string {
  const wanted = AnswerText.safeParse(c.req.query(ANSWER_PARAMETER));
  return c.var.kid !== null && wanted.success ? wanted.data : randomUUID().replaceAll('-', '');
}

/** What was encoded of a prompt before its length was refused is work done, and the edge counts it. */
function refusal(error: ApiError, { mode }: OriginContext): Response {
  const counted = error.code === 'context_length_exceeded' ? (error.promptTokens ?? 0) : 0;
  const note = writeUsageNote({ promptTokens: counted, completionTokens: 0 });
  return errorResponse(error, counted > 0 && mode.kind === 'signed' ? { [USAGE_HEADER]: note } : {});
}

function formatOf(params: {
  kind: CompletionKind;
  /** Behind what stands before an id of this API. */
  id: string;
  /** Tokens of the prompts. */
  prompted: number;
  request: GenerationRequest;
  directive: Directive;
  prompts: readonly Prompt[];
  choices: number;
  /** Log-probabilities of the answers, and of the prompts: of how many others at each place; null = none. */
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
  // The edge may have been asked by another name than the body's.
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
