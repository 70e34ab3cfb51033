/** From a request's body to what the engine is asked: one shape for chat and text, signed and standalone. */
import {
  type ApiError,
  type ChainEntry,
  type ChatMessage,
  err,
  ok,
  OriginRequest,
  parseChatCompletion,
  parseResponse,
  parseTextCompletion,
  type Result,
  type TextCompletionRequest,
} from '../../protocol/index.ts';
import { noSuchBias } from '../engine/admission.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import { ChatTemplateError } from '../model/chat-template.ts';
import type { Mode, Services } from './origin-context.ts';
import { OWN_TENANT } from './own-tenant.ts';
import { requestIdOf } from './request-id.ts';
import { messagesOf } from './responses-messages.ts';
import { tokenText } from './token-text.ts';

export type CompletionKind = 'chat' | 'text' | 'response';

const PARSERS: Record<CompletionKind, (body: unknown) => Result<GenerationRequest, ApiError>> = {
  chat: parseChatCompletion,
  text: parseTextCompletion,
  response: parseResponse,
};

export interface Directive {
  /** As the client asked for it. */
  model: string;
  chain: readonly ChainEntry[];
  tenant: string;
  budgetMs: number | null;
  /** The edge's, which its client knows; null without an edge. */
  requestId: string | null;
}

export interface ParsedCompletion {
  request: GenerationRequest;
  directive: Directive;
}

/** @param body parsed JSON. */
export function parseCompletion(
  kind: CompletionKind,
  body: unknown,
  mode: Mode,
  baseId: string,
): Result<ParsedCompletion, ApiError> {
  const parse = PARSERS[kind];
  if (mode.kind === 'dev') {
    const request = parse(body);
    if (!request.ok) return request;
    const { model } = request.value;
    const chain = mode.resolve(model, baseId);
    if (!chain.ok) return chain;
    const directive = {
      model,
      chain: chain.value,
      tenant: OWN_TENANT,
      budgetMs: null,
      requestId: null,
    };
    return ok({ request: request.value, directive });
  }
  const envelope = OriginRequest.safeParse(body);
  if (!envelope.success) {
    const issue = envelope.error.issues[0];
    const param = issue?.path.join('.') || null;
    return err({ code: 'invalid_request', message: `The envelope is not valid: ${issue?.message}.`, param });
  }
  const { graft } = envelope.data;
  const request = parse(envelope.data.request);
  if (!request.ok) return request;
  return ok({
    request: request.value,
    directive: {
      model: graft.model,
      chain: graft.chain,
      tenant: graft.tenant,
      budgetMs: graft.budget_ms ?? null,
      requestId: requestIdOf(graft.request_id),
    },
  });
}

/** Counting goes on to so many times the context, so that the error can say the real number for honest mistakes. */
const COUNT_FACTOR = 4;

/** The prompt as token ids, and as text where it is to be echoed. */
export function promptOf(
  request: GenerationRequest,
  services: Services,
): Result<{ ids: number[]; echo: string | null }, ApiError> {
  const { tokenizer, base } = services;
  const beyond = Object.keys(request.logit_bias ?? {}).find(
    (id) => tokenizer.tokenBytes(Number(id)) === null,
  );
  if (beyond !== undefined) return err(noSuchBias(Number(beyond)));
  const limit = COUNT_FACTOR * base.context;
  const param = promptField(request);
  const prompt =
    'prompt' in request
      ? textPrompt(request, services, limit)
      : chatPrompt('messages' in request ? request.messages : messagesOf(request), param, services, limit);
  if (!prompt.ok) return prompt;
  const ids = prompt.value;
  if (ids.length > limit)
    return err({
      code: 'context_length_exceeded',
      message: `This model's maximum context length is ${base.context} tokens; the prompt has more than ${limit}.`,
      param,
    });
  if (ids.length === 0) return err({ code: 'invalid_request', message: 'The prompt is empty.', param });
  if (!('prompt' in request) || request.echo !== true) return ok({ ids, echo: null });
  const echo =
    typeof request.prompt === 'string'
      ? request.prompt
      : request.prompt.map((id) => (tokenizer.isSpecial(id) ? '' : tokenText(tokenizer, id))).join('');
  return ok({ ids, echo });
}

const promptField = (request: GenerationRequest): string =>
  'messages' in request ? 'messages' : 'input' in request ? 'input' : 'prompt';

const textOf = (content: ChatMessage['content']): string =>
  typeof content === 'string' ? content : content.map((part) => part.text).join('');

function chatPrompt(
  messages: readonly ChatMessage[],
  param: string,
  services: Services,
  limit: number,
): Result<number[], ApiError> {
  if (services.chatTemplate === null)
    return err({
      code: 'invalid_request',
      message: 'This base has no chat template; use /v1/completions.',
      param: null,
    });
  try {
    return ok(
      services.chatTemplate.encode(
        messages.map(({ role, content }) => ({
          role: role === 'developer' ? 'system' : role,
          content: textOf(content),
        })),
        limit,
      ),
    );
  } catch (error) {
    if (!(error instanceof ChatTemplateError)) throw error;
    const message = `The base's chat template refuses these messages: ${error.message}`;
    return err({ code: 'invalid_request', message, param });
  }
}

/** A raw prompt is the caller's own template: special strings in it mean their tokens. */
function textPrompt(
  { prompt }: TextCompletionRequest,
  services: Services,
  limit: number,
): Result<number[], ApiError> {
  const { tokenizer } = services;
  if (typeof prompt === 'string')
    return ok([...tokenizer.prefixIds, ...tokenizer.encode(prompt, { allowSpecial: true, limit })]);
  const unknown = prompt.findIndex((id) => tokenizer.tokenBytes(id) === null);
  if (unknown === -1) return ok([...prompt]);
  return err({
    code: 'invalid_request',
    message: `There is no token ${String(prompt[unknown])}.`,
    param: `prompt[${unknown}]`,
  });
}
