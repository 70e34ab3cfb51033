/** From a request's bytes to what the engine is asked: one shape for chat and text, signed and standalone. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { parseChatCompletion, parseTextCompletion } from '../../protocol/completion.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import { MAX_JSON_DEPTH, MAX_REQUEST_ID } from '../../protocol/limits.ts';
import { parseMessagesAsChat } from '../../protocol/messages.ts';
import { OriginRequest } from '../../protocol/origin-wire.ts';
import {
  badShape,
  IGNORED_HEADER,
  type Parsed,
  type ParseOptions,
  STRICT_FIELDS_HEADER,
  writeIgnored,
} from '../../protocol/parse-body.ts';
import { parseResponse } from '../../protocol/responses.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';

/**
 * Whose share of the machine work takes that no tenant asked for: everything in `--dev`, and trials of an edge that does
 * not say for whom. Tenants' names are made of [a-z0-9._-], so that none of them can be called so.
 */
export const OWN_TENANT = ':origin';

const SAFE = new RegExp(`^[A-Za-z0-9._:=-]{1,${MAX_REQUEST_ID}}$`);

/** The edge's or client's id when it is short and plain (it goes into logs and headers), else a new one. */
export function requestIdOf(header: string | null | undefined): string {
  return header != null && SAFE.test(header) ? header : `req_${randomUUID().replaceAll('-', '')}`;
}

/** The worker's envelope is one level around a client's body. */
const MAX_DEPTH = MAX_JSON_DEPTH + 1;

/** @returns the whole body; reading stops at `limit`, whatever the length header says or does not say. */
export async function readBody(
  request: Request,
  limit: number,
): Promise<Result<Uint8Array<ArrayBuffer>, ApiError>> {
  const tooLarge: ApiError = { code: 'request_too_large', message: `The body exceeds ${limit} bytes.` };
  if (Number(request.headers.get('content-length') ?? 0) > limit) return err(tooLarge);
  if (request.body === null) return ok(new Uint8Array(0));
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > limit) return err(tooLarge);
      chunks.push(chunk);
    }
  } catch {
    return err({ code: 'invalid_request', message: 'The body was cut off.', param: null });
  }
  const body = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return ok(body);
}

export function parseJson(body: Uint8Array): Result<unknown, ApiError> {
  const message = badShape(body, MAX_DEPTH);
  if (message !== null) return err({ code: 'invalid_request', message, param: null });
  try {
    return ok(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown);
  } catch {
    return err({ code: 'invalid_request', message: 'The body is not JSON in UTF-8.', param: null });
  }
}

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

interface Asked<T> extends Parsed<T> {
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
