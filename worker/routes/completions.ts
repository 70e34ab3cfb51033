import { Hono } from 'hono';
import {
  MAX_BODY_BYTES,
  ok,
  parseChatCompletion,
  parseResponse,
  parseTextCompletion,
  takeEdgeFields,
  USAGE_HEADER,
  type ApiError,
  type ChatCompletionRequest,
  type EdgeRequest,
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
  requestLife,
  type AppContext,
  type AppEnv,
} from '../middleware/request-scope.ts';
import type { CompletionCall } from '../origin-client.ts';
import type { CompletionMeter, MeteredAnswer } from '../stores/types-metering.ts';
import type { Caller, Index, KeyRecord } from '../stores/types.ts';
import { serverTiming } from '../observe/server-timing.ts';
import { answerOrStandIn } from './answer-or-stand-in.ts';
import { lookUpModel, type PendingModel, type Resolution, type ResolveDeps } from './resolve-model.ts';

export interface CompletionDeps extends ResolveDeps {
  keys: Index<KeyRecord>;
  /** Unix ms. */
  now: () => number;
  meter: CompletionMeter;
}

/** The base model, as usage has it. */
const BASE = { name: 'base', version: 0 };

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
  const trace = context.get('trace');
  // The key is looked up while the body arrives and the name is looked up; it speaks first all the same.
  const asking = trace.time('key', authenticate(request, deps.keys, deps.now));
  const prepared = await prepare(deps, context, parse, asking);
  const caller = await asking;
  if (!caller.ok) return fail(caller.error);
  trace.note({ tenant: caller.value.tenant, keyId: caller.value.keyId });
  if (!prepared.ok) return fail(prepared.error);
  return deps.meter.measure({
    caller: caller.value,
    requestId: context.get('requestId'),
    gone: request.signal,
    keepAlive: (work) => keepAlive(context, work),
    run: (signal) => serve(deps, context, { path, caller: caller.value, ...prepared.value, signal }),
    onEnd: trace.finish,
  });
}

/** Beside the question to the caller's quota, which may abort `signal`. */
async function serve(
  deps: CompletionDeps,
  context: AppContext,
  call: {
    path: Path;
    caller: Caller;
    body: ChatCompletionRequest | TextCompletionRequest | ResponseRequest;
    edge: EdgeRequest;
    resolve: PendingModel;
    signal: AbortSignal;
  },
): Promise<MeteredAnswer> {
  const { path, caller, body, edge, resolve, signal } = call;
  const unserved = (error: ApiError): MeteredAnswer => ({ response: fail(error), note: null, served: null });
  const trace = context.get('trace');
  const resolved = await trace.time('name', resolve(caller, edge, requestLife(context)));
  if (!resolved.ok) return unserved(resolved.error);
  const { resolution, answer } = await answerOrStandIn(resolved.value, ({ manifest, chain }) => {
    const asking = deps.origins.complete({
      path,
      request: body,
      model: body.model,
      manifest,
      chain,
      tenant: caller.tenant,
      requestId: context.get('requestId'),
      signal,
      keepAlive: (work) => keepAlive(context, work),
    });
    return trace.time('origin', asking);
  });
  const { manifest } = resolution;
  const served = manifest === null ? BASE : { name: manifest.name, version: manifest.version };
  trace.note({ ...served, chainId: resolution.chainId, stream: body.stream === true });
  if (!answer.ok) return { ...unserved(answer.error), served };
  const { response, origin, tried } = answer.value;
  const headers = labels(caller, resolution);
  headers.set('x-graft-origin', origin.id);
  headers.set('server-timing', serverTiming(trace, response.headers.get('server-timing')));
  const degraded = headers.get('x-graft-degraded');
  trace.note({ origin: origin.id, tried, ...(degraded === null ? {} : { degraded }) });
  for (const name of ['content-type', 'retry-after', 'retry-after-ms', 'x-should-retry']) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  // Caches and proxies must neither keep nor collect a stream.
  headers.set('cache-control', 'no-store');
  headers.set('x-accel-buffering', 'no');
  return {
    response: new Response(response.body, { status: response.status, headers }),
    note: response.headers.get(USAGE_HEADER),
    served,
  };
}

async function prepare(
  deps: CompletionDeps,
  context: AppContext,
  parse: Parse,
  asking: Promise<Result<Caller, ApiError>>,
) {
  const json = await Promise.race([readJson(context.req.raw, MAX_BODY_BYTES), refusal(asking)]);
  if (!json.ok) return json;
  const taken = takeEdgeFields(json.value);
  if (!taken.ok) return taken;
  const { edge, rest } = taken.value;
  const body = parse(rest);
  if (!body.ok) return body;
  return ok({ body: body.value, edge, resolve: await lookUpModel(deps, body.value.model) });
}

/** Settles only when the key is refused: a stranger's body is not waited for. */
async function refusal(asking: Promise<Result<Caller, ApiError>>): Promise<Result<never, ApiError>> {
  const caller = await asking;
  return caller.ok ? new Promise(() => undefined) : caller;
}

/** What the client is told of what served it. */
function labels(caller: Caller, resolution: Resolution): Headers {
  const { manifest, chainId, composed, alias, inherited, degraded } = resolution;
  const headers = new Headers({
    'x-graft-adapter': manifest === null ? 'base' : `${manifest.name}@${manifest.version}`,
    'x-graft-chain': chainId,
  });
  if (composed.length > 0) headers.set('x-graft-composed', composed.join(', '));
  if (alias !== null) headers.set('x-graft-alias', alias);
  if (inherited) headers.set('x-graft-inherited', 'true');
  const stale = caller.stale || resolution.stale;
  if (degraded !== null || stale) headers.set('x-graft-degraded', degraded ?? 'stale');
  return headers;
}
