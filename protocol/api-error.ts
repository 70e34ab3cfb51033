/** Every failure that reaches a client, as tagged data, with one map to HTTP and OpenAI's error body. */

export type ApiError =
  | { code: 'invalid_api_key'; message: string }
  | { code: 'insufficient_scope'; message: string }
  /** It has made the versions that it allows, or sent as much for them as it may. */
  | { code: 'publish_token_spent'; message: string }
  /** `reason`: the kind of `SignatureProblem`, for the edge. */
  | { code: 'invalid_signature'; message: string; reason?: string }
  | { code: 'model_not_found'; message: string }
  /** It existed and the caller may use it, but an adapter that it depends on was retired. */
  | { code: 'model_withdrawn'; message: string }
  | { code: 'not_found'; message: string }
  | { code: 'unknown_url'; message: string }
  | { code: 'method_not_allowed'; message: string }
  | { code: 'invalid_request'; message: string; param: string | null }
  | { code: 'unsupported_parameter'; message: string; param: string }
  /** A classifier was asked for text, or an adapter without a classification head for classes. */
  | { code: 'wrong_endpoint'; message: string; param: 'model' }
  /** A row of an evaluation has a label that the classification head does not. */
  | { code: 'label_unknown'; message: string; param: 'label' }
  /** `promptTokens`: how many were counted before it was refused, for the edge. */
  | { code: 'context_length_exceeded'; message: string; param: string | null; promptTokens?: number }
  | { code: 'request_too_large'; message: string }
  | { code: 'version_conflict'; message: string; param?: string }
  /** Of an answer's id, which feedback is given with. */
  | { code: 'exposure_malformed'; message: string; param: 'id' }
  | { code: 'exposure_forged'; message: string; param: 'id' }
  | { code: 'exposure_of_another_tenant'; message: string; param: 'id' }
  | { code: 'exposure_expired'; message: string; param: 'id' }
  /** Its experiment is archived: feedback is no longer counted. */
  | { code: 'experiment_over'; message: string; param: 'id' }
  | { code: 'adapter_invalid'; message: string; reason?: string; param?: string }
  | { code: 'adapter_missing'; message: string; missing: string[] }
  | { code: 'adapter_loading'; message: string; retryAfterMs: number }
  | { code: 'rate_limit_exceeded'; message: string; retryAfterMs: number }
  /** A budget is used up: a retry cannot help before it is renewed. */
  | { code: 'insufficient_quota'; message: string }
  /** A counter cannot read its usage: requests are refused until the operator resets it. */
  | { code: 'quota_damaged'; message: string }
  /** null: it never fits, so a retry cannot help. */
  | { code: 'queue_full'; message: string; retryAfterMs: number | null }
  | { code: 'deadline_exceeded'; message: string }
  | { code: 'origin_unavailable'; message: string; retryAfterMs: number }
  /** Origins stopped answering while serving this request: it is blocked for some minutes. */
  | { code: 'origin_stopped'; message: string }
  | { code: 'adapter_unavailable'; message: string; retryAfterMs: number }
  | { code: 'registry_unavailable'; message: string; retryAfterMs: number }
  /** An isolate accepts only as many large files as fit in its memory. */
  | { code: 'edge_busy'; message: string; retryAfterMs: number }
  /** The needed registry row cannot be read: an operator must repair it. */
  | { code: 'registry_damaged'; message: string }
  | { code: 'internal_error'; message: string };

export type ApiErrorCode = ApiError['code'];

/** HTTP status and OpenAI's `type` of each code. */
const HTTP: Record<ApiErrorCode, readonly [status: number, type: string]> = {
  invalid_api_key: [401, 'authentication_error'],
  insufficient_scope: [403, 'permission_error'],
  publish_token_spent: [403, 'permission_error'],
  invalid_signature: [401, 'authentication_error'],
  model_not_found: [404, 'invalid_request_error'],
  model_withdrawn: [410, 'invalid_request_error'],
  not_found: [404, 'invalid_request_error'],
  unknown_url: [404, 'invalid_request_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  invalid_request: [400, 'invalid_request_error'],
  unsupported_parameter: [400, 'invalid_request_error'],
  wrong_endpoint: [400, 'invalid_request_error'],
  label_unknown: [400, 'invalid_request_error'],
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

/** What each code means and what to do about it; docs/reference/errors.md is made from it. Nothing else uses it. */
export const API_ERROR_HELP: Readonly<Record<ApiErrorCode, string>> = {
  invalid_api_key:
    'The key is missing, wrong, revoked or expired, or is of the other kind. Send `gk_…` to `/v1`, `ga_…` to `/admin`.',
  insufficient_scope:
    'The key is good but lacks this right. Ask your operator, or use the bootstrap key where the message says so.',
  publish_token_spent:
    'A page’s publish token has made its versions, or sent and tried as often as it may. Make another one.',
  invalid_signature:
    'An origin rejected a signed call. `reason` says why: compare `GRAFT_ORIGIN_KEYS`, the origin’s id, both clocks and both versions.',
  model_not_found:
    'The name or version does not exist, or the key may not use it: both look the same. Check the spelling, or have it granted.',
  model_withdrawn:
    'An adapter below this one was retired or withdrawn. Publish on top of another version, or ask for another name.',
  not_found:
    'This admin object, file, job, stored response or path does not exist, or belongs to another tenant. Check its id.',
  unknown_url:
    'There is no such path below `/v1`. The message lists those that exist; check the base URL of your client.',
  method_not_allowed: 'The path exists, the method does not. Use one that the message names.',
  invalid_request:
    'A field is missing, of the wrong type or out of range. Correct the field that `param` names.',
  unsupported_parameter:
    'The field in `param` would change the answer, and graft cannot do it. Remove it, or use what the message suggests.',
  wrong_endpoint:
    'An adapter with a classification head answers at `/v1/classify`, `/v1/score` and `/v1/rerank` only; others do not. Ask the path that the message names.',
  label_unknown:
    'A row of the evaluation has a label that is none of the classifier’s classes. Correct the row, or score a version with that class.',
  context_length_exceeded:
    'Prompt and answer do not fit the context. Shorten the prompt, or lower `max_tokens`.',
  request_too_large: 'The body, file or part is larger than its limit. Send less; the message has the limit.',
  version_conflict:
    'Somebody changed it at the same time, or its state forbids the change. Read it again, then decide whether to repeat.',
  exposure_malformed:
    'The field in `param` does not come from an answer. Send it exactly as the answer had it.',
  exposure_forged:
    'The signature of the field in `param` is wrong, or `GRAFT_MAC_KEY` changed since. Send it unchanged.',
  exposure_of_another_tenant:
    'The answer was given to another tenant. Send feedback with a key of that tenant.',
  exposure_expired: 'Feedback is accepted for seven days after the answer. Later ratings are not counted.',
  experiment_over:
    'The experiment is archived, or its variants were renamed. Stop sending feedback on its answers.',
  adapter_invalid: 'The adapter cannot be served on this base or chain. The message and `reason` say why.',
  adapter_missing:
    'The origin lacks the files in `missing`. An edge sends them by itself; calling an origin directly, upload them.',
  adapter_loading: 'The adapter is being sent to the origin. Retry after the time in `retry-after`.',
  rate_limit_exceeded:
    'The key or its tenant asks too often; `x-graft-limited-by` says which. Retry after `retry-after`.',
  insufficient_quota:
    'The budget of the day or month is used up, or there is no room for another file. Do what the message says, or ask for more.',
  quota_damaged:
    'What was used cannot be read, so nothing passes. The operator runs `graft limits reset <key id or tenant>`.',
  queue_full:
    'The origin’s queue is full. Retry after `retry-after`; without that header it never fits: ask for fewer answers (`n`).',
  deadline_exceeded:
    'The request took longer than ten minutes, or the client sent or read too slowly. Ask for a shorter answer.',
  origin_unavailable:
    'No origin answers, is ready or has room. Retry after `retry-after`; if it lasts, the operator looks at `graft ps`.',
  origin_stopped:
    'Two origins fell silent under this request, which is therefore sent to no other for five minutes. Change the request, or report it.',
  adapter_unavailable:
    'The adapter’s file cannot be read or loaded now. Retry after `retry-after`; if it lasts, the operator runs `graft repair --blobs`.',
  registry_unavailable: 'KV, D1 or a Durable Object does not answer. Retry after `retry-after`.',
  edge_busy: 'This isolate is taking in as many large files as it has memory for. Retry after `retry-after`.',
  registry_damaged:
    'A row of the registry cannot be read. Contact the operator, who finds it with `graft repair --dry-run`.',
  internal_error: 'A bug in graft. Retry once; then report it with the answer’s `x-request-id`.',
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
    /**
     * `adapter_invalid`: the toolkit's own code, such as `rank_mismatch`. `invalid_signature`: the kind of
     * problem.
     */
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

/** Failures that no retry can change, whatever their status. */
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

/** The whole client API. */
const HAS =
  'POST /v1/chat/completions, POST /v1/completions, POST /v1/responses, POST /v1/messages, POST /v1/embeddings, POST /v1/classify, POST /v1/score, POST /v1/rerank, POST /tokenize, POST /detokenize, POST /v1/feedback, GET /v1/models and GET /v1/models/<name>; for fine-tuning POST and GET /v1/files and /v1/fine_tuning/jobs';

/** Paths are repeated in errors if they are short and plain. */
const PLAIN = /^[\x21-\x7e]{1,128}$/;

/** For every path without a route: clients of OpenAI's API try paths that do not exist here. */
export function unknownPath(method: string, path: string): ApiError {
  if (!path.startsWith('/v1/')) return { code: 'not_found', message: 'No such path.' };
  const stored = method === 'GET' || method === 'DELETE' || path.endsWith('/cancel');
  if (path.startsWith('/v1/responses/') && stored)
    return {
      code: 'not_found',
      message:
        "This server does not store responses ('store' is false in every answer), so there is none to " +
        'retrieve.',
    };
  const asked = PLAIN.test(`${method}${path}`) ? `${method} ${path}` : 'such path';
  return { code: 'unknown_url', message: `This server has no ${asked}. It serves ${HAS}.` };
}

/** Expected failures are data. A thrown exception is a bug. */
export type Result<T, E> = { ok: true; value: T } | { ok: false; error: E };

export const ok = <T>(value: T): { ok: true; value: T } => ({ ok: true, value });
export const err = <E>(error: E): { ok: false; error: E } => ({ ok: false, error });
