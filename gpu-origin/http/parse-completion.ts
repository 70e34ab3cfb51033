/** From a request's body to what the engine is asked: one shape for chat and text, signed and standalone. */
import type { Context } from 'hono';
import {
  type ApiError,
  type ChainEntry,
  err,
  ok,
  OriginRequest,
  parseChatCompletion,
  parseMessagesAsChat,
  parseResponse,
  parseTextCompletion,
  type Parsed,
  type ParseOptions,
  type Result,
  IGNORED_HEADER,
  STRICT_FIELDS_HEADER,
  writeIgnored,
} from '../../protocol/index.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { OWN_TENANT } from './own-tenant.ts';
import { parseJson } from './read-body.ts';
import { requestIdOf } from './request-id.ts';

export type CompletionKind = 'chat' | 'text' | 'response' | 'messages';

type Parse<T> = (body: unknown, options: ParseOptions) => Result<Parsed<T>, ApiError>;

const PARSERS: Record<CompletionKind, Parse<GenerationRequest>> = {
  chat: parseChatCompletion,
  text: parseTextCompletion,
  response: parseResponse,
  messages: parseMessagesAsChat,
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

export interface Asked<T> extends Parsed<T> {
  directive: Directive;
}

/** A body of chat, text completions, responses or messages. */
export const readCompletion = (
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: Pick<OriginContext, 'mode'>,
  services: Pick<Services, 'base'>,
): Result<Asked<GenerationRequest>, ApiError> => readAsked(PARSERS[kind], c, context, services);

/** Reads a request's body: the client's own where there is no edge, else in its envelope. */
export function readAsked<T extends { model?: string | null | undefined }>(
  parse: Parse<T>,
  c: Context<OriginEnv>,
  { mode }: Pick<OriginContext, 'mode'>,
  { base }: Pick<Services, 'base'>,
): Result<Asked<T>, ApiError> {
  const body = parseJson(c.var.body);
  if (!body.ok) return body;
  if (mode.kind === 'dev') {
    // With an edge in front, it has refused what is unknown.
    const parsed = parse(body.value, { strict: c.req.header(STRICT_FIELDS_HEADER) === 'true' });
    if (!parsed.ok) return parsed;
    const model = parsed.value.request.model ?? base.id;
    const chain = mode.resolve(model, base.id);
    if (!chain.ok) return chain;
    const directive = {
      model,
      chain: chain.value,
      tenant: OWN_TENANT,
      budgetMs: null,
      requestId: null,
    };
    return ok({ ...parsed.value, directive });
  }
  const envelope = OriginRequest.safeParse(body.value);
  if (!envelope.success) {
    const issue = envelope.error.issues[0];
    const param = issue?.path.join('.') || null;
    return err({ code: 'invalid_request', message: `The envelope is not valid: ${issue?.message}.`, param });
  }
  const { graft } = envelope.data;
  const parsed = parse(envelope.data.request, { strict: false });
  if (!parsed.ok) return parsed;
  return ok({
    ...parsed.value,
    directive: {
      model: graft.model,
      chain: graft.chain,
      tenant: graft.tenant,
      budgetMs: graft.budget_ms ?? null,
      requestId: requestIdOf(graft.request_id),
    },
  });
}

/** The header that says what of a request was left out; none where there is nothing to say. */
export function ignoredHeaders(ignored: readonly string[]): Record<string, string> {
  const told = writeIgnored(ignored);
  return told === null ? {} : { [IGNORED_HEADER]: told };
}
