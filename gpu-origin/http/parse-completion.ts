/** From a request's body to what the engine is asked: one shape for chat and text, signed and standalone. */
import type { Context } from 'hono';
import {
  type ApiError,
  type ChainEntry,
  err,
  ok,
  OriginRequest,
  messagesToChat,
  parseChatCompletion,
  parseMessagesRequest,
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
import type { Mode, OriginContext, OriginEnv, Services } from './origin-context.ts';
import { OWN_TENANT } from './own-tenant.ts';
import { requestIdOf } from './request-id.ts';

export type CompletionKind = 'chat' | 'text' | 'response' | 'messages';

type Parse<T> = (body: unknown, options: ParseOptions) => Result<Parsed<T>, ApiError>;

const PARSERS: Record<CompletionKind, Parse<GenerationRequest>> = {
  chat: parseChatCompletion,
  text: parseTextCompletion,
  response: parseResponse,
  messages(body, options) {
    const parsed = parseMessagesRequest(body, options);
    if (!parsed.ok) return parsed;
    const { request, ignored } = parsed.value;
    const chat = messagesToChat(request);
    return chat.ok ? ok({ request: chat.value.request, ignored: [...ignored, ...chat.value.ignored] }) : chat;
  },
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

/** How an origin reads bodies. */
interface Reading {
  mode: Mode;
  baseId: string;
  /** Whether unknown fields are refused; with an edge in front, it has done so. */
  strict: boolean;
}

export const readingOf = (
  c: Context<OriginEnv>,
  { mode }: Pick<OriginContext, 'mode'>,
  { base }: Pick<Services, 'base'>,
): Reading => ({ mode, baseId: base.id, strict: c.req.header(STRICT_FIELDS_HEADER) === 'true' });

/** @param body parsed JSON. */
export const parseCompletion = (
  kind: CompletionKind,
  body: unknown,
  reading: Reading,
): Result<Asked<GenerationRequest>, ApiError> => parseAsked(PARSERS[kind], body, reading);

/** @param body parsed JSON: the client's own where there is no edge, else in its envelope. */
export function parseAsked<T extends { model?: string | null | undefined }>(
  parse: Parse<T>,
  body: unknown,
  { mode, baseId, strict }: Reading,
): Result<Asked<T>, ApiError> {
  if (mode.kind === 'dev') {
    const parsed = parse(body, { strict });
    if (!parsed.ok) return parsed;
    const model = parsed.value.request.model ?? baseId;
    const chain = mode.resolve(model, baseId);
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
  const envelope = OriginRequest.safeParse(body);
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
