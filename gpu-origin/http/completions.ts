import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import {
  type ApiError,
  errorBody,
  errorResponse,
  type ChatCompletionRequest,
  type TextCompletionRequest,
} from '../../protocol/index.ts';
import type { EngineEvent, EngineHandle, ScoredToken } from '../engine/engine.ts';
import { samplingParamsOf } from '../generation/sampling-params.ts';
import { chatFormat } from './chat-format.ts';
import type { CompletionFormat } from './completion-format.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { type CompletionKind, type Directive, parseCompletion, promptOf } from './parse-completion.ts';
import { parseJson } from './read-body.ts';
import { sseResponse } from './sse.ts';
import { textFormat } from './text-format.ts';

/** The edge's read timeout is 100 s; proxies in between may be less patient. */
const HEARTBEAT_MS = 15_000;
/** Long enough that most failures before the first token still get an HTTP status of their own. */
const HEADERS_AFTER_MS = 3_000;

const GOING_DOWN: ApiError = {
  code: 'origin_unavailable',
  message: 'The origin is shutting down.',
  retryAfterMs: 1_000,
};

/** `POST /v1/chat/completions` and `/v1/completions`. */
export async function handleCompletion(
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const json = parseJson(c.var.body);
  if (!json.ok) return errorResponse(json.error);
  const parsed = parseCompletion(kind, json.value, context.mode, services.base.id);
  if (!parsed.ok) return errorResponse(parsed.error);
  const { request, directive } = parsed.value;
  const prompt = promptOf(request, services);
  if (!prompt.ok) return errorResponse(prompt.error);
  const { ids, echo } = prompt.value;

  const gone = new AbortController();
  const { signal } = c.req.raw;
  if (signal.aborted) gone.abort();
  else signal.addEventListener('abort', () => gone.abort(), { once: true });

  const sampling = samplingParamsOf(request);
  const added = await services.engine.add({
    id: c.var.requestId,
    tenant: directive.tenant,
    prompt: ids,
    chain: directive.chain,
    sampling,
    promptLogprobs: echo === null ? null : sampling.logprobs,
    budgetMs: directive.budgetMs,
    signal: gone.signal,
  });
  if (!added.ok) return errorResponse(added.error);
  const format = formatOf(kind, request, directive, echo, context, services);
  return request.stream === true
    ? stream(added.value, format, context, () => gone.abort())
    : collect(added.value, format);
}

function formatOf(
  kind: CompletionKind,
  request: ChatCompletionRequest | TextCompletionRequest,
  directive: Directive,
  echo: string | null,
  context: OriginContext,
  services: Services,
): CompletionFormat {
  const common = {
    id: `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${randomUUID().replaceAll('-', '')}`,
    created: Math.floor(context.now() / 1000),
    model: directive.model,
    includeUsage: request.stream === true && request.stream_options?.include_usage === true,
    tokenizer: services.tokenizer,
    logprobs: samplingParamsOf(request).logprobs !== null,
  };
  return kind === 'chat' ? chatFormat(common) : textFormat({ ...common, echo });
}

async function collect(handle: EngineHandle, format: CompletionFormat): Promise<Response> {
  let text = '';
  let prompt: readonly ScoredToken[] = [];
  const tokens: ScoredToken[] = [];
  for await (const event of handle.events) {
    switch (event.kind) {
      case 'prompt':
        prompt = event.tokens;
        break;
      case 'tokens':
        text += event.text;
        tokens.push(...event.tokens);
        break;
      case 'end':
        return Response.json(
          format.whole({ text, prompt, tokens, finishReason: event.finishReason, usage: event.usage }),
        );
      case 'error':
        return errorResponse(event.error);
      case 'aborted':
        return errorResponse(GOING_DOWN);
    }
  }
  throw new Error('the engine ended a request without saying how');
}

/**
 * Waits for the first event, so that a failure before it is an HTTP error and the role goes out with the first token;
 * not for long, because proxies in between want to see headers.
 */
async function stream(
  handle: EngineHandle,
  format: CompletionFormat,
  context: OriginContext,
  abort: () => void,
): Promise<Response> {
  const events = handle.events[Symbol.asyncIterator]();
  let next = events.next();
  const early = await within(next, context.headersAfterMs ?? HEADERS_AFTER_MS);
  const failure = early === null ? null : failureOf(early.value as EngineEvent | undefined);
  if (failure !== null) return errorResponse(failure);

  return sseResponse({
    heartbeatMs: context.heartbeatMs ?? HEARTBEAT_MS,
    headers: {},
    onGone: abort,
    onEnd: context.lifecycle.enter(),
    async produce(writer) {
      for (const chunk of format.opening()) writer.send(chunk);
      for (;;) {
        const { value: event, done } = await next;
        if (done === true) throw new Error('the engine ended a request without saying how');
        if (event.kind === 'end') {
          for (const chunk of format.closing(event.finishReason, event.usage)) writer.send(chunk);
          writer.done();
          return;
        }
        const failed = failureOf(event);
        if (failed !== null) return writer.send(errorBody(failed));
        if (event.kind === 'tokens' || event.kind === 'prompt') {
          const chunk = format.piece(event);
          if (chunk !== null) writer.send(chunk);
        }
        next = events.next();
      }
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
