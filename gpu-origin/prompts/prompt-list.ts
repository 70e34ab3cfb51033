/** The prompts of a request: text completions have up to 128, all others one. */
import {
  type ApiError,
  err,
  isPromptList,
  MAX_PROMPT_LIST_SCORES,
  MAX_PROMPT_LIST_TOKENS,
  ok,
  promptsIn,
  type Result,
} from '../../protocol/index.ts';
import { contextFull, type ContextLengthExceeded } from '../engine/engine.ts';
import { samplingParamsOf, type GenerationRequest } from '../generation/sampling-params.ts';
import {
  promptField,
  promptOf,
  type Prompt,
  type PromptCaller,
  type PromptServices,
  type SinglePrompt,
} from './prompt.ts';

/** Each in its turn. Errors as of `promptOf`, and those of a prompt that leaves no room for an answer. */
export async function promptsOf(
  request: GenerationRequest,
  services: PromptServices,
  caller: PromptCaller,
): Promise<Result<Prompt[], ApiError>> {
  const { context } = services.base;
  const { maxTokens } = samplingParamsOf(request);
  const prompts: Prompt[] = [];
  let tokens = 0;
  for (const { single, param } of singles(request)) {
    const one = await promptOf(single, services, caller, param);
    if (!one.ok) return err(withCounted(one.error, tokens));
    const prompt = one.value.ids.length;
    tokens += prompt;
    const refusal = contextFull({ context, prompt, maxTokens, param }) ?? tooMany(request, tokens);
    if (refusal !== null) return err({ ...refusal, promptTokens: tokens });
    prompts.push(one.value);
  }
  return ok(prompts);
}

/** A list counts what was encoded of it; `queue_full` and others have nothing to count. */
const withCounted = (error: ApiError, tokens: number): ApiError =>
  error.code === 'context_length_exceeded'
    ? { ...error, promptTokens: (error.promptTokens ?? 0) + tokens }
    : error;

function singles(request: GenerationRequest): { single: SinglePrompt; param: string }[] {
  const field = promptField(request);
  if (!('prompt' in request)) return [{ single: request, param: field }];
  const isList = isPromptList(request.prompt);
  return promptsIn(request.prompt).map((prompt, at) => ({
    single: { ...request, prompt },
    param: isList ? `${field}[${at}]` : field,
  }));
}

/** Why so many tokens of a list are too many. One prompt alone has the context as its limit. */
function tooMany(request: GenerationRequest, tokens: number): ContextLengthExceeded | null {
  if (!('prompt' in request) || !isPromptList(request.prompt)) return null;
  const { logprobs } = samplingParamsOf(request);
  const wanted = [request.echo === true ? logprobs : null, request.prompt_logprobs ?? null];
  const scores = Math.max(...wanted.map((one) => (one === null ? 0 : 1 + one))) * (request.n ?? 1);
  const most =
    scores === 0
      ? MAX_PROMPT_LIST_TOKENS
      : Math.min(MAX_PROMPT_LIST_TOKENS, Math.floor(MAX_PROMPT_LIST_SCORES / scores));
  if (tokens <= most) return null;
  const message = `These prompts have more than ${most} tokens together, which is the most at once. Please send fewer.`;
  return { code: 'context_length_exceeded', message, param: 'prompt' };
}
