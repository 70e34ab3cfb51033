/** From a request's body to what the engine is asked: one shape for chat and text, signed and standalone. */
import {
  type ApiError,
  type ChainEntry,
  err,
  ok,
  OriginRequest,
  parseChatCompletion,
  parseResponse,
  parseTextCompletion,
  type Result,
} from '../../protocol/index.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import type { Mode } from './origin-context.ts';
import { OWN_TENANT } from './own-tenant.ts';
import { requestIdOf } from './request-id.ts';

export type CompletionKind = 'chat' | 'text' | 'response';

type Parse<T> = (body: unknown) => Result<T, ApiError>;

const PARSERS: Record<CompletionKind, Parse<GenerationRequest>> = {
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

export interface Asked<T> {
  request: T;
  directive: Directive;
}

/** @param body parsed JSON. */
export const parseCompletion = (
  kind: CompletionKind,
  body: unknown,
  mode: Mode,
  baseId: string,
): Result<Asked<GenerationRequest>, ApiError> => parseAsked(PARSERS[kind], body, mode, baseId);

/** @param body parsed JSON: the client's own where there is no edge, else in its envelope. */
export function parseAsked<T extends { model?: string | null | undefined }>(
  parse: Parse<T>,
  body: unknown,
  mode: Mode,
  baseId: string,
): Result<Asked<T>, ApiError> {
  if (mode.kind === 'dev') {
    const request = parse(body);
    if (!request.ok) return request;
    const model = request.value.model ?? baseId;
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
