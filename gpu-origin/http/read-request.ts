/**
 * Authenticates a request by its signature, and parses its body into the engine's request: one shape for chat
 * and text, signed and standalone.
 */
import { randomUUID, createHash, timingSafeEqual } from 'node:crypto';
import type { Context } from 'hono';
import type { z } from 'zod';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { parseChatCompletion, parseTextCompletion } from '../../protocol/completion.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import { MAX_JSON_DEPTH, MAX_REQUEST_ID, SIGNATURE_WINDOW_MS } from '../../protocol/limits.ts';
import { parseMessagesAsChat } from '../../protocol/messages.ts';
import { type OriginDirective, OriginRequest } from '../../protocol/origin-wire.ts';
import {
  badShape,
  IGNORED_HEADER,
  type Parsed,
  type ParseOptions,
  STRICT_FIELDS_HEADER,
  writeIgnored,
} from '../../protocol/parse-body.ts';
import { parseResponse } from '../../protocol/responses.ts';
import type { GenerationRequest } from '../generation/sampler.ts';
import type { OriginContext, OriginEnv, Services, Mode } from './origin-context.ts';
import {
  type NonceMemory,
  PROTOCOL_VERSION,
  SIGNATURE_HEADER,
  type SignatureProblem,
  START_HEADER,
  verifySignature,
} from '../../protocol/signature.ts';

/**
 * Tenant for work that no tenant requested: everything in `--dev`, and trials of an edge that names no
 * tenant. Tenants' names consist of [a-z0-9._-], so none can be called this.
 */
export const OWN_TENANT = ':origin';

const SAFE = new RegExp(`^[A-Za-z0-9._:=-]{1,${MAX_REQUEST_ID}}$`);

/**
 * The edge's or client's id if it is short and plain (it goes into logs and headers), otherwise a new one.
 */
export function requestIdOf(header: string | null | undefined): string {
  return header != null && SAFE.test(header) ? header : `req_${randomUUID().replaceAll('-', '')}`;
}

/** The worker's envelope adds one level around a client's body. */
const MAX_DEPTH = MAX_JSON_DEPTH + 1;

/** @returns the whole body; stops reading at `limit`, whatever the length header says. */
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

/** @returns the body as the schema has it. */
export function parseBody<T>(c: Context<OriginEnv>, schema: z.ZodType<T>): Result<T, ApiError> {
  const json = parseJson(c.var.body);
  if (!json.ok) return json;
  const parsed = schema.safeParse(json.value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const param = issue?.path.join('.') || null;
  const message = `Invalid value for '${param ?? 'body'}': ${issue?.message ?? 'not valid'}.`;
  return err({ code: 'invalid_request', message, param });
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
  /** As the client sent it. */
  model: string;
  chain: readonly ChainEntry[];
  tenant: string;
  budgetMs: number | null;
  /** The edge's id, which its client knows; null without an edge. */
  requestId: string | null;
  /** The version that answers; null = the base, or without an edge. */
  adapter: OriginDirective['adapter'] | null;
  experiment: OriginDirective['experiment'] | null;
}

interface Asked<T> extends Parsed<T> {
  directive: Directive;
}

/** Reads a body of chat, text completions, responses or messages. */
export const readCompletion = (
  kind: CompletionKind,
  c: Context<OriginEnv>,
  context: Pick<OriginContext, 'mode'>,
  services: Pick<Services, 'base'>,
): Result<Asked<GenerationRequest>, ApiError> => readAsked(PARSERS[kind], c, context, services);

/** Reads a request's body: the client's own without an edge, otherwise from its envelope. */
export function readAsked<T extends { model?: string | null | undefined }>(
  parse: Parse<T>,
  c: Context<OriginEnv>,
  { mode }: Pick<OriginContext, 'mode'>,
  { base }: Pick<Services, 'base'>,
): Result<Asked<T>, ApiError> {
  const body = parseJson(c.var.body);
  if (!body.ok) return body;
  if (mode.kind === 'dev') {
    // An edge has already refused unknown fields.
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
      adapter: null,
      experiment: null,
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
      adapter: graft.adapter ?? null,
      experiment: graft.experiment ?? null,
    },
  });
}

/** The header that lists dropped fields; none if nothing was dropped. */
export function ignoredHeaders(ignored: readonly string[]): Record<string, string> {
  const told = writeIgnored(ignored);
  return told === null ? {} : { [IGNORED_HEADER]: told };
}

const LOOPBACK_NAMES = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Path and query exactly as on the request line; in-process requests only have their parsed URL. */
function rawTarget(c: Context<OriginEnv>): string {
  const raw = (c.env as OriginEnv['Bindings'] | undefined)?.incoming?.url;
  if (raw !== undefined) return raw;
  const { pathname, search } = new URL(c.req.url);
  return pathname + search;
}

function isLoopback(c: Context<OriginEnv>): boolean {
  const address = (c.env as OriginEnv['Bindings'] | undefined)?.incoming?.socket?.remoteAddress;
  return address !== undefined && /^(127\.|::1$|::ffff:127\.)/.test(address);
}

/** The sender of a request that is authenticated except for its body. */
interface Sender {
  /** The hash that the body must have. */
  bodyHash: string;
  kid: string;
}

interface Refused {
  error: ApiError;
  headers: Record<string, string>;
  /** The exact problem, for the log: callers are not told all of it. */
  problem: SignatureProblem | null;
}

/** @returns null in dev mode. */
export async function authenticate(
  c: Context<OriginEnv>,
  mode: Mode,
  nonces: NonceStore,
  now: number,
): Promise<Result<Sender | null, Refused>> {
  if (mode.kind === 'dev')
    return checkLoopbackNames(c) ? ok(null) : err({ error: LOOPBACK_ONLY, headers: {}, problem: null });
  const checked = await verifySignature({
    ...mode,
    header: c.req.header(SIGNATURE_HEADER),
    method: c.req.method,
    pathAndQuery: rawTarget(c),
    now,
    rememberNonce: nonces.remember,
  });
  if (checked.ok) return ok({ bodyHash: checked.value.h, kid: checked.value.kid });
  const problem = checked.error;
  const starts = problem.kind === 'before_start' && mode.startId !== undefined;
  return err({
    error: refusal(problem),
    headers: starts ? { [START_HEADER]: mode.startId as string } : {},
    problem,
  });
}

const LOOPBACK_ONLY: ApiError = {
  code: 'insufficient_scope',
  message: 'With --dev, only this machine may call, by a loopback name.',
};

/** A web page can make a browser call loopback under a name of its own; Host or Origin reveals that. */
function checkLoopbackNames(c: Context<OriginEnv>): boolean {
  const host = c.req.header('host') ?? new URL(c.req.url).host;
  const origin = c.req.header('origin');
  return (
    LOOPBACK_NAMES.has(nameOf(`http://${host}`)) &&
    (origin === undefined || LOOPBACK_NAMES.has(nameOf(origin)))
  );
}

function nameOf(url: string): string {
  try {
    return new URL(url).hostname;
  } catch {
    return '';
  }
}

/**
 * A caller without a valid key learns nothing secret: the clock is in every response's `date`, and an unknown
 * key id gets the same answer as a wrong secret. `unknown_key` makes the edge try its next key.
 */
function refusal(problem: SignatureProblem): ApiError {
  if (problem.kind === 'store_full')
    return {
      code: 'origin_unavailable',
      message:
        'This origin has checked as many signatures as it can keep in mind; it will take more in a while.',
      retryAfterMs: 1_000,
    };
  return { code: 'invalid_signature', message: explain(problem), reason: toldAs(problem.kind) };
}

const toldAs = (kind: SignatureProblem['kind']): string => (kind === 'mismatch' ? 'unknown_key' : kind);

function explain(problem: Exclude<SignatureProblem, { kind: 'store_full' }>): string {
  switch (problem.kind) {
    case 'malformed':
      return `Header ${SIGNATURE_HEADER} is missing or invalid.`;
    case 'protocol_version':
      return (
        `The edge uses protocol version ${problem.version}, this origin version ${PROTOCOL_VERSION}. Run ` +
        'the same version of graft on both.'
      );
    case 'unknown_key':
    case 'mismatch':
      return (
        'The signature does not match: the key id, the secret, the origin id or the request differs. ' +
        "Read signature_refused in this origin's log to see which."
      );
    case 'clock_skew':
      return (
        'The clocks of the edge and this origin differ by ' +
        `${Math.round(Math.abs(problem.skewMs) / 1000)} s (the edge is ` +
        `${problem.skewMs < 0 ? 'behind' : 'ahead'}); at most ${SIGNATURE_WINDOW_MS / 1000} s are ` +
        'allowed. Synchronize this origin’s clock with NTP; the edge’s is Cloudflare’s.'
      );
    case 'before_start':
      return "The signature is older than this origin's last start. Retry with a new one.";
    case 'replayed':
      return 'The signature has been used already.';
  }
}

/** A worker with 1,000 requests a second leaves 180,000 nonces during the longest lifetime of one (180 s). */
const MAX_NONCES = 262_144;

/**
 * Used nonces, kept until their signatures expire. Bounded: when full, it reports that instead of
 * remembering.
 */
export class NonceStore {
  private readonly expiries = new Map<string, number>();

  constructor(
    private readonly now: () => number,
    private readonly capacity: number = MAX_NONCES,
  ) {}

  /**
   * @returns 'full' if the nonce cannot be remembered: the request must then be refused, like a repeated one.
   */
  readonly remember = (nonce: string, expiresAt: number): NonceMemory => {
    const now = this.now();
    // Insertion order is roughly the order of expiry (stamps differ by at most two windows).
    for (const [old, expiry] of this.expiries) {
      if (expiry > now) break;
      this.expiries.delete(old);
    }
    if (this.expiries.has(nonce)) return 'seen';
    if (this.expiries.size >= this.capacity) return 'full';
    this.expiries.set(nonce, expiresAt);
    return 'new';
  };
}

/**
 * Headers of Prometheus, curl and Node's `fetch`. A local tunnel or proxy calls from loopback for anybody on
 * the internet, and adds headers of its own, with too many possible names to list.
 */
const SCRAPER_HEADERS: ReadonlySet<string> = new Set([
  'host',
  'user-agent',
  'accept',
  'accept-encoding',
  'accept-language',
  'connection',
  'sec-fetch-mode',
  'x-prometheus-scrape-timeout-seconds',
  // Our own: it goes into the response.
  'x-request-id',
]);

/**
 * May this request read the metrics without a signature? With the configured token, from anywhere. Without a
 * token, only if the origin listens on loopback, the caller is on this machine, uses a loopback name, and
 * there is no proxy in between.
 */
export function mayScrape(
  c: Context<OriginEnv>,
  { metricsToken, loopbackOnly }: Pick<OriginContext, 'metricsToken' | 'loopbackOnly'>,
): boolean {
  if (c.req.path !== '/metrics' || c.req.header(SIGNATURE_HEADER) !== undefined) return false;
  const given = /^Bearer (\S+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
  if (given !== undefined) return metricsToken !== undefined && isSame(given, metricsToken);
  return (
    loopbackOnly === true &&
    isLoopback(c) &&
    checkLoopbackNames(c) &&
    Object.keys(c.req.header()).every((name) => SCRAPER_HEADERS.has(name))
  );
}

/** In constant time, for any lengths. */
const isSame = (a: string, b: string): boolean => timingSafeEqual(hash(a), hash(b));

const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
