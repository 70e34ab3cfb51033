import type { Context } from 'hono';
import { err, errorResponse, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import {
  type DetokenizeAnswer,
  parseDetokenize,
  parseTokenize,
  type TokenizeAnswer,
  type TokenizeRequest,
} from '../../protocol/embed-tokenize.ts';
import { countedToChat, parseCountTokens } from '../../protocol/messages.ts';
import { type InputTokensAnswer, parseInputTokens } from '../../protocol/responses.ts';
import type { Chunked } from '../model/tokenizer.ts';
import { promptOf, type SinglePrompt, type PromptCaller, type PromptServices } from '../prompts/prompt.ts';
import { tokenText } from '../model/tokenizer.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { type Directive, ignoredHeaders, readAsked } from './read-request.ts';

/** Tokens decoded per step. */
const TOKENS_A_STEP = 4_096;

/** `POST /tokenize` */
export async function handleTokenize(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const asked = readAsked(parseTokenize, c, context, services);
  if (!asked.ok) return errorResponse(asked.error);
  const { request, directive, ignored } = asked.value;
  const caller = { tenant: directive.tenant, signal: c.req.raw.signal };
  const tokens = await tokensOf(request, services, caller);
  if (!tokens.ok) return errorResponse(tokens.error);
  const answer: TokenizeAnswer = {
    count: tokens.value.length,
    max_model_len: services.base.context,
    tokens: [...tokens.value],
    token_strs:
      request.return_token_strs === true ? tokens.value.map((id) => tokenText(services.tokenizer, id)) : null,
  };
  return Response.json(answer, { headers: ignoredHeaders(ignored) });
}

/** A raw text may exceed the context: callers want to know by how much. */
async function tokensOf(
  request: TokenizeRequest,
  services: PromptServices,
  caller: PromptCaller,
): Promise<Result<readonly number[], ApiError>> {
  const { prompt, messages, add_special_tokens: special } = request;
  if (messages != null) {
    const written = await promptOf({ ...request, model: '', messages }, services, caller);
    return written.ok ? ok(written.value.ids) : written;
  }
  const { tokenizer } = services;
  const text = prompt ?? '';
  const encoded = await services.prompts.run({
    ...caller,
    bytes: Buffer.byteLength(text),
    steps: tokenizer.encodeChunked(text, { allowSpecial: true, limit: Infinity }),
  });
  if (!encoded.ok) return encoded;
  return ok([...(special === false ? [] : tokenizer.prefixIds), ...(encoded.value ?? [])]);
}

/** `POST /v1/messages/count_tokens` */
export async function handleCountTokens(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const asked = readAsked(parseCountTokens, c, context, services);
  if (!asked.ok) return errorResponse(asked.error);
  const { request, directive, ignored } = asked.value;
  const chat = countedToChat(request);
  if (!chat.ok) return errorResponse(chat.error);
  return countPrompt(chat.value.request, { c, services, directive }, (input_tokens) =>
    Response.json({ input_tokens }, { headers: ignoredHeaders(ignored) }),
  );
}

/** `POST /v1/responses/input_tokens` */
export async function handleInputTokens(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const asked = readAsked(parseInputTokens, c, context, services);
  if (!asked.ok) return errorResponse(asked.error);
  const { request, directive, ignored } = asked.value;
  return countPrompt(request, { c, services, directive }, (input_tokens) => {
    const answer: InputTokensAnswer = { object: 'response.input_tokens', input_tokens };
    return Response.json(answer, { headers: ignoredHeaders(ignored) });
  });
}

/** Encodes a prompt to count its tokens, when it is its tenant's turn. */
async function countPrompt(
  request: SinglePrompt,
  asked: { c: Context<OriginEnv>; services: Services; directive: Pick<Directive, 'tenant'> },
  answer: (tokens: number) => Response,
): Promise<Response> {
  const caller = { tenant: asked.directive.tenant, signal: asked.c.req.raw.signal };
  const prompt = await promptOf(request, asked.services, caller);
  return prompt.ok ? answer(prompt.value.ids.length) : errorResponse(prompt.error);
}

/** `POST /detokenize` */
export async function handleDetokenize(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const asked = readAsked(parseDetokenize, c, context, services);
  if (!asked.ok) return errorResponse(asked.error);
  const { request, directive, ignored } = asked.value;
  const text = await services.prompts.run({
    ...{ tenant: directive.tenant, signal: c.req.raw.signal },
    bytes: request.tokens.length,
    steps: textOf(request.tokens, services),
  });
  if (!text.ok) return errorResponse(text.error);
  if (!text.value.ok) return errorResponse(text.value.error);
  const answer: DetokenizeAnswer = { prompt: text.value.value };
  return Response.json(answer, { headers: ignoredHeaders(ignored) });
}

/** Joins bytes before decoding them: a character may span several tokens. */
function* textOf(ids: readonly number[], { tokenizer }: PromptServices): Chunked<Result<string, ApiError>> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let text = '';
  for (const [at, id] of ids.entries()) {
    const bytes = tokenizer.tokenBytes(id);
    if (bytes === null) {
      const message = `There is no token ${id} in this model's vocabulary.`;
      return err({ code: 'invalid_request', message, param: `tokens[${at}]` });
    }
    text += decoder.decode(bytes, { stream: true });
    if ((at + 1) % TOKENS_A_STEP === 0) yield;
  }
  return ok(text + decoder.decode());
}
