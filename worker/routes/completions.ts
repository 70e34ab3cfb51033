import { Hono } from 'hono';
import {
  chainId,
  MAX_BODY_BYTES,
  ok,
  parseChatCompletion,
  parseResponse,
  parseTextCompletion,
  type ApiError,
  type ChatCompletionRequest,
  type ResponseRequest,
  type Result,
  type TextCompletionRequest,
} from '../../protocol/index.ts';
import { authenticate } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/read-body.ts';
import {
  fail,
  keepAlive,
  methodNotAllowed,
  type AppContext,
  type AppEnv,
} from '../middleware/request-scope.ts';
import type { CompletionCall } from '../origin-client.ts';
import type { Resolution } from '../policy/resolve-name.ts';
import type { Caller, Index, KeyRecord } from '../stores/types.ts';
import { lookUpModel, type ResolveDeps } from './resolve-model.ts';

export interface CompletionDeps extends ResolveDeps {
  keys: Index<KeyRecord>;
}

type Path = CompletionCall['path'];
type Parse = (
  body: unknown,
) => Result<ChatCompletionRequest | TextCompletionRequest | ResponseRequest, ApiError>;

/** `POST /v1/chat/completions`, `POST /v1/completions`, `POST /v1/responses`. */
export function completionRoutes(deps: CompletionDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const add = (path: Path, parse: Parse) => {
    routes.post(path, (context) => complete(deps, context, path, parse));
    routes.all(path, methodNotAllowed('POST'));
  };
  add('/v1/chat/completions', parseChatCompletion);
  add('/v1/completions', parseTextCompletion);
  add('/v1/responses', parseResponse);
  return routes;
}

async function complete(
  deps: CompletionDeps,
  context: AppContext,
  path: Path,
  parse: Parse,
): Promise<Response> {
  const request = context.req.raw;
  // The key is looked up while the body arrives and the name is looked up; it speaks first all the same.
  const asking = authenticate(request, deps.keys);
  const prepared = await prepare(deps, request, parse, asking);
  const caller = await asking;
  if (!caller.ok) return fail(caller.error);
  if (!prepared.ok) return fail(prepared.error);
  const { body, resolve } = prepared.value;
  const resolved = await resolve(caller.value);
  if (!resolved.ok) return fail(resolved.error);
  const answer = await deps.origins.complete({
    path,
    request: body,
    model: body.model,
    manifest: resolved.value.manifest,
    tenant: caller.value.tenant,
    requestId: context.get('requestId'),
    signal: request.signal,
    keepAlive: (work) => keepAlive(context, work),
  });
  if (!answer.ok) return fail(answer.error);
  const headers = await labels(caller.value, resolved.value);
  headers.set('x-graft-origin', answer.value.origin.id);
  const { response } = answer.value;
  for (const name of ['content-type', 'retry-after', 'retry-after-ms', 'x-should-retry']) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  // Caches and proxies must neither keep nor collect a stream.
  headers.set('cache-control', 'no-store');
  headers.set('x-accel-buffering', 'no');
  return new Response(response.body, { status: response.status, headers });
}

async function prepare(
  deps: CompletionDeps,
  request: Request,
  parse: Parse,
  asking: Promise<Result<Caller, ApiError>>,
) {
  const json = await Promise.race([readJson(request, MAX_BODY_BYTES), refusal(asking)]);
  if (!json.ok) return json;
  const body = parse(json.value);
  if (!body.ok) return body;
  return ok({ body: body.value, resolve: await lookUpModel(deps, body.value.model) });
}

/** Settles only when the key is refused: a stranger's body is not waited for. */
async function refusal(asking: Promise<Result<Caller, ApiError>>): Promise<Result<never, ApiError>> {
  const caller = await asking;
  return caller.ok ? new Promise(() => undefined) : caller;
}

async function labels(caller: Caller, { manifest, stale }: Resolution): Promise<Headers> {
  const headers = new Headers({
    'x-graft-adapter': manifest === null ? 'base' : `${manifest.name}@${manifest.version}`,
    'x-graft-chain': manifest === null ? await chainId([]) : manifest.chainId,
  });
  if (caller.stale || stale) headers.set('x-graft-degraded', 'stale');
  return headers;
}
