/** Every failure that reaches a client, as tagged data, and the one map to HTTP and to OpenAI's error body. */

export type ApiError =
  | { code: 'invalid_api_key'; message: string }
  | { code: 'insufficient_scope'; message: string }
  /** `reason`: the kind of `SignatureProblem`, for the edge. */
  | { code: 'invalid_signature'; message: string; reason?: string }
  | { code: 'model_not_found'; message: string }
  /** It was there and the caller may use it, but an adapter that it stands on was retired. */
  | { code: 'model_withdrawn'; message: string }
  | { code: 'not_found'; message: string }
  | { code: 'unknown_url'; message: string }
  | { code: 'method_not_allowed'; message: string }
  | { code: 'invalid_request'; message: string; param: string | null }
  | { code: 'unsupported_parameter'; message: string; param: string }
  /** `promptTokens`: how many were counted before it was refused, for the edge. */
  | { code: 'context_length_exceeded'; message: string; param: string | null; promptTokens?: number }
  | { code: 'request_too_large'; message: string }
  | { code: 'version_conflict'; message: string; param?: string }
  /** Of an answer's id, which feedback is given with. */
  | { code: 'exposure_malformed'; message: string; param: 'id' }
  | { code: 'exposure_forged'; message: string; param: 'id' }
  | { code: 'exposure_of_another_tenant'; message: string; param: 'id' }
  | { code: 'exposure_expired'; message: string; param: 'id' }
  /** Its experiment is put away: nothing is counted any more. */
  | { code: 'experiment_over'; message: string; param: 'id' }
  | { code: 'adapter_invalid'; message: string; reason?: string; param?: string }
  | { code: 'adapter_missing'; message: string; missing: string[] }
  | { code: 'adapter_loading'; message: string; retryAfterMs: number }
  | { code: 'rate_limit_exceeded'; message: string; retryAfterMs: number }
  /** A budget is used up: repeating does not help before it is renewed. */
  | { code: 'insufficient_quota'; message: string }
  /** A counter cannot read what was used: nothing passes before the operator resets it. */
  | { code: 'quota_damaged'; message: string }
  /** null: it never fits, so that repeating cannot help. */
  | { code: 'queue_full'; message: string; retryAfterMs: number | null }
  | { code: 'deadline_exceeded'; message: string }
  | { code: 'origin_unavailable'; message: string; retryAfterMs: number }
  /** Origins stopped answering under the request: it is sent to no other one for some minutes. */
  | { code: 'origin_stopped'; message: string }
  | { code: 'adapter_unavailable'; message: string; retryAfterMs: number }
  | { code: 'registry_unavailable'; message: string; retryAfterMs: number }
  /** An isolate takes in as many large files as it has memory for. */
  | { code: 'edge_busy'; message: string; retryAfterMs: number }
  /** Exactly the row of the registry that is needed cannot be read: an operator has to mend it. */
  | { code: 'registry_damaged'; message: string }
  | { code: 'internal_error'; message: string };

export type ApiErrorCode = ApiError['code'];

/** HTTP status and OpenAI's `type` of each code. */
const HTTP: Record<ApiErrorCode, readonly [status: number, type: string]> = {
  invalid_api_key: [401, 'authentication_error'],
  insufficient_scope: [403, 'permission_error'],
  invalid_signature: [401, 'authentication_error'],
  model_not_found: [404, 'invalid_request_error'],
  model_withdrawn: [410, 'invalid_request_error'],
  not_found: [404, 'invalid_request_error'],
  unknown_url: [404, 'invalid_request_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  invalid_request: [400, 'invalid_request_error'],
  unsupported_parameter: [400, 'invalid_request_error'],
  context_length_exceeded: [400, 'invalid_request_error'],
  request_too_large: [413, 'invalid_request_error'],
  version_conflict: [409, 'conflict_error'],
  exposure_malformed: [400, 'invalid_request_error'],
  exposure_forged: [400, 'invalid_request_error'],
  exposure_of_another_tenant: [403, 'permission_error'],
  exposure_expired: [400, 'invalid_request_error'],
  experiment_over: [409, 'conflict_error'],
  adapter_invalid: [422, 'invalid_request_error'],
  adapter_missing: [409, 'conflict_error'],
  adapter_loading: [409, 'conflict_error'],
  rate_limit_exceeded: [429, 'rate_limit_error'],
  insufficient_quota: [429, 'insufficient_quota'],
  quota_damaged: [503, 'server_error'],
  queue_full: [429, 'rate_limit_error'],
  deadline_exceeded: [503, 'server_error'],
  origin_unavailable: [503, 'server_error'],
  origin_stopped: [503, 'server_error'],
  adapter_unavailable: [503, 'server_error'],
  registry_unavailable: [503, 'server_error'],
  edge_busy: [503, 'server_error'],
  registry_damaged: [500, 'server_error'],
  internal_error: [500, 'server_error'],
};

export const API_ERROR_CODES = Object.keys(HTTP) as ApiErrorCode[];

export interface ErrorBody {
  error: {
    message: string;
    type: string;
    param: string | null;
    code: ApiErrorCode;
    /** `adapter_missing`: the digests that the origin does not hold. */
    missing?: string[];
    /** `adapter_invalid`: the toolkit's own code, such as `rank_mismatch`. `invalid_signature`: what is wrong with it. */
    reason?: string;
  };
}

export function errorStatus(error: ApiError): number {
  return HTTP[error.code][0];
}

export function errorBody(error: ApiError): ErrorBody {
  return {
    error: {
      message: error.message,
      type: HTTP[error.code][1],
      param: 'param' in error ? (error.param ?? null) : null,
      code: error.code,
      ...('missing' in error ? { missing: error.missing } : {}),
      ...('reason' in error && error.reason !== undefined ? { reason: error.reason } : {}),
    },
  };
}

/** Failures that end the same way however often the request is repeated, whatever their status says. */
const FINAL: ReadonlySet<ApiErrorCode> = new Set([
  'deadline_exceeded',
  'experiment_over',
  'origin_stopped',
  'quota_damaged',
  'registry_damaged',
]);

/**
 * Headers that tell OpenAI's clients when to retry: `retry-after` in whole seconds, `retry-after-ms` exactly,
 * `x-should-retry` (openai-node `client.ts` obeys all three; without the last it repeats 408, 409, 429 and 5xx).
 */
export function errorHeaders(error: ApiError): Record<string, string> {
  const retryAfterMs = 'retryAfterMs' in error ? error.retryAfterMs : null;
  if (retryAfterMs !== null)
    return {
      'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))),
      'retry-after-ms': String(retryAfterMs),
      'x-should-retry': 'true',
    };
  const status = errorStatus(error);
  return (status === 409 || status >= 500) && !FINAL.has(error.code) ? {} : { 'x-should-retry': 'false' };
}

/** A whole `Response` for the error; Node, workerd and browsers have the class. */
export function errorResponse(error: ApiError, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(errorBody(error)), {
    status: errorStatus(error),
    headers: { 'content-type': 'application/json', ...errorHeaders(error), ...headers },
  });
}

/** The client API, whole. */
const HAS =
  'POST /v1/chat/completions, POST /v1/completions, POST /v1/responses, POST /v1/messages, POST /v1/embeddings, POST /tokenize, POST /detokenize, POST /v1/feedback, GET /v1/models and GET /v1/models/<name>';

/** Paths are shown as they were sent, if they are short and plain. */
const PLAIN = /^[\x21-\x7e]{1,128}$/;

/** For every path without a route: clients of OpenAI's API try more of it than there is here. */
export function unknownPath(method: string, path: string): ApiError {
  if (!path.startsWith('/v1/')) return { code: 'not_found', message: 'There is no such path.' };
  const stored = method === 'GET' || method === 'DELETE' || path.endsWith('/cancel');
  if (path.startsWith('/v1/responses/') && stored)
    return {
      code: 'not_found',
      message: "Responses are not stored here ('store' is false in every answer), so there is none to find.",
    };
  const asked = PLAIN.test(`${method}${path}`) ? `${method} ${path}` : 'such path';
  return { code: 'unknown_url', message: `This server has no ${asked}; it has ${HAS}.` };
}

/** Expected failures are data. A thrown exception is a bug. */
export type Result<T, E> = { ok: true; value: T } | { ok: false; error: E };

export const ok = <T>(value: T): { ok: true; value: T } => ({ ok: true, value });
export const err = <E>(error: E): { ok: false; error: E } => ({ ok: false, error });
