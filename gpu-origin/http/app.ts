import { type Context, Hono } from 'hono';
import { type ApiError, errorResponse, unknownPath, err, ok, type Result } from '../../protocol/api-error.ts';
import type { Model } from '../../protocol/completion-answers.ts';
import { sha256Hex, type ChainEntry, Digest } from '../../protocol/identity.ts';
import { MAX_BODY_BYTES } from '../../protocol/limits.ts';
import { asMessagesError } from '../../protocol/messages.ts';
import { BASE_PARAMETER, CancelId, LOAD_HEADER, writeLoad } from '../../protocol/origin-wire.ts';
import { parseTraceparent, TRACEPARENT_HEADER, TRACESTATE_HEADER } from '../../protocol/trace-context.ts';
import {
  declareAdapter,
  dropAdapters,
  giveFile,
  handleEvaluate,
  handleVerify,
  keepPins,
  listAdapters,
  pinAdapters,
  prefetchAdapters,
  receiveAdapterPart,
} from './adapters.ts';
import { ASK_HEADER, POOL_HEADER } from '../../protocol/pool-notes.ts';
import { OriginPool } from './pool.ts';
import { authenticate, mayScrape, NonceStore, readBody, requestIdOf } from './read-request.ts';
import { handleClassify } from './classify.ts';
import { handleCompletion } from './completions.ts';
import { handleEmbeddings } from './embeddings.ts';
import {
  declareJob,
  deleteJob,
  giveResult,
  listJobs,
  pauseJob,
  receiveRows,
  reportJob,
  resumeJob,
  ROWS_PART_ROUTE,
} from './jobs.ts';
import type { OriginContext, OriginEnv, Services, Mode } from './origin-context.ts';
import { handleCountTokens, handleDetokenize, handleInputTokens, handleTokenize } from './tokenize.ts';

/** The worker's envelope around a client's body: a chain of eight digests, ids and names. */
const ENVELOPE_BYTES = 8_192;

const PART_ROUTE = /^\/adapters\/[^/]+\/parts\/[^/]+$/;

const LOADING: ApiError = {
  code: 'origin_unavailable',
  message: 'The origin is not ready: it is loading its base or shutting down. Retry in a few seconds.',
  retryAfterMs: 2_000,
};

/** Long: the base changes only with a restart, or with the edge's configuration. */
const WRONG_BASE_RETRY_MS = 30_000;

/** An edge takes this for an origin of another base; null = it does not, or does not say. */
function wrongBase(c: Context<OriginEnv>, { base }: Services): ApiError | null {
  const wanted = c.var.kid === null ? undefined : c.req.query(BASE_PARAMETER);
  if (wanted === undefined || wanted === base.id) return null;
  return {
    code: 'origin_unavailable',
    message:
      `This origin serves the base ${base.id}, but its edge expects another. Correct the edge's ORIGINS, ` +
      'or start this origin with the other base.',
    retryAfterMs: WRONG_BASE_RETRY_MS,
  };
}

function loadOf({ engine }: Services): { rows: number; slots: number } {
  const { running, waiting, loading, preempted, slots } = engine.stats();
  return { rows: running + waiting + loading + preempted, slots };
}

/** What it and its edges tell each other of its pool; null where it has no edge. */
function poolOf(context: OriginContext): OriginPool | null {
  const { mode } = context;
  if (mode.kind === 'dev') return null;
  return new OriginPool({
    id: mode.originId,
    now: context.now,
    load: () => (context.services === null ? { rows: 0, slots: 1 } : loadOf(context.services)),
    holds: (chain) =>
      context.services?.engine.holds?.(chain.map(({ digest }) => ({ digest, scale: 1 }))) !== false,
  });
}

/** `POST /cancel/<id>` -> `RequestUsage`: cancels a request, and waits briefly for its end. */
async function cancelRequest(c: Context<OriginEnv>, { usage }: OriginContext): Promise<Response> {
  const id = CancelId.safeParse(c.req.param('id'));
  const { kid } = c.var;
  if (kid === null || !id.success)
    return errorResponse({
      code: 'invalid_request',
      message: 'An id is a UUID, and only an edge cancels.',
      param: 'id',
    });
  return Response.json(await usage.cancel(id.data, kid));
}

type Handler = (c: Context<OriginEnv>, services: Services) => Response | Promise<Response>;

/** The origin's HTTP interface. */
export function createApp(context: OriginContext): Hono<OriginEnv> {
  const { serving, metrics, mode } = context;
  const nonces = new NonceStore(context.now, context.maxNonces);
  const pool = poolOf(context);
  const app = new Hono<OriginEnv>();

  app.use('*', async (c, next) => {
    c.set('arrivedAt', context.monotonic());
    c.set('requestId', requestIdOf(c.req.header('x-request-id')));
    c.set('parent', parseTraceparent(c.req.header(TRACEPARENT_HEADER), c.req.header(TRACESTATE_HEADER)));
    const leave = serving.enter();
    try {
      await next();
    } finally {
      leave();
    }
    c.res.headers.set('x-request-id', c.var.requestId);
    c.res.headers.set('x-content-type-options', 'nosniff');
    metrics.onResponse(c.req.routePath.startsWith('/') ? c.req.routePath : 'other', c.res.status);
  });
  app.onError((error, c) => {
    context.onFault(`${c.req.method} ${c.req.routePath} (${c.var.requestId})`, error);
    return errorResponse({
      code: 'internal_error',
      message: 'The origin failed. See the request id in its log.',
    });
  });

  // An edge formats errors itself.
  if (mode.kind === 'dev')
    app.use('/v1/messages/*', async (c, next) => {
      await next();
      const { res } = c;
      if (res.ok) return;
      c.res = undefined;
      c.res = await asMessagesError(res);
    });

  // vLLM's clients use the second one.
  for (const path of ['/healthz', '/health']) app.get(path, () => Response.json({ status: 'ok' }));
  app.get('/readyz', () => {
    // An origin whose disk is full still serves the adapters that it has.
    const disk = context.services?.files.disk().refusing === true ? { disk: 'full' } : {};
    return Response.json(
      { status: serving.state, ...disk },
      { status: serving.state === 'ready' ? 200 : 503 },
    );
  });

  app.use('*', async (c, next) => {
    c.set('bodyHash', null);
    c.set('kid', null);
    if (mode.kind === 'dev' || !mayScrape(c, context)) {
      const sender = await authenticate(c, mode, nonces, context.now());
      if (!sender.ok) {
        const { error, headers, problem } = sender.error;
        if (problem !== null) context.onRefusedSignature?.(problem);
        return errorResponse(error, headers);
      }
      // In dev mode all local callers may send any request; one beyond health checks counts as proof.
      (c.env as OriginEnv['Bindings'] | undefined)?.proved?.();
      if (sender.value !== null) {
        c.set('bodyHash', sender.value.bodyHash);
        c.set('kid', sender.value.kid);
      }
    }
    c.set('pool', c.var.kid === null ? null : pool);
    c.var.pool?.hear(c.req.header(POOL_HEADER));
    await next();
    if (context.services === null) return;
    const draining = serving.state === 'draining';
    c.res.headers.set(LOAD_HEADER, writeLoad({ ...loadOf(context.services), draining }));
    const notes = c.var.pool?.tell(c.req.header(ASK_HEADER)) ?? null;
    if (notes !== null) c.res.headers.set(POOL_HEADER, notes);
  });

  app.use('*', async (c, next) => {
    const { bodyHash } = c.var;
    c.set('body', new Uint8Array(0));
    if (PART_ROUTE.test(c.req.path) || ROWS_PART_ROUTE.test(c.req.path)) return next();
    const body = await readBody(c.req.raw, MAX_BODY_BYTES + (mode.kind === 'signed' ? ENVELOPE_BYTES : 0));
    if (!body.ok) return errorResponse(body.error);
    if (bodyHash !== null && (await sha256Hex(body.value)) !== bodyHash)
      return errorResponse({
        code: 'invalid_signature',
        message: 'The body is not the one that was signed.',
        reason: 'mismatch',
      });
    c.set('body', body.value);
    return next();
  });

  app.get(
    '/metrics',
    async () => new Response(await metrics.text(), { headers: { 'content-type': metrics.contentType } }),
  );

  const route = (method: string, path: string, handler: Handler): void => {
    app.on(method, path, async (c) => {
      const { services } = context;
      if (services === null || serving.refuses) return errorResponse(LOADING);
      const wrong = wrongBase(c, services);
      return wrong === null ? handler(c, services) : errorResponse(wrong);
    });
  };
  route('POST', '/v1/chat/completions', (c, services) => handleCompletion('chat', c, context, services));
  route('POST', '/v1/completions', (c, services) => handleCompletion('text', c, context, services));
  route('POST', '/v1/responses', (c, services) => handleCompletion('response', c, context, services));
  route('POST', '/v1/messages', (c, services) => handleCompletion('messages', c, context, services));
  route('POST', '/v1/messages/count_tokens', (c, services) => handleCountTokens(c, context, services));
  route('POST', '/v1/responses/input_tokens', (c, services) => handleInputTokens(c, context, services));
  route('POST', '/v1/embeddings', (c, services) => handleEmbeddings(c, context, services));
  route('POST', '/v1/classify', (c, services) => handleClassify('classify', c, context, services));
  route('POST', '/v1/score', (c, services) => handleClassify('score', c, context, services));
  route('POST', '/v1/rerank', (c, services) => handleClassify('rerank', c, context, services));
  route('POST', '/tokenize', (c, services) => handleTokenize(c, context, services));
  route('POST', '/detokenize', (c, services) => handleDetokenize(c, context, services));
  route('GET', '/v1/models', (_c, services) => listModels(mode, services));
  route('GET', '/v1/models/:id{.+}', (c, services) => getModel(c, mode, services));
  // Also while draining: clients disconnect then too.
  app.post('/cancel/:id', (c) => cancelRequest(c, context));
  route('GET', '/base', (_c, services) => Response.json(services.base));
  route('GET', '/adapters', (_c, services) => listAdapters(services));
  route('POST', '/adapters/prefetch', prefetchAdapters);
  route('PUT', '/adapters/:digest/parts/:part{[0-9]{1,3}}', receiveAdapterPart);
  route('GET', '/adapters/:digest/file', giveFile);
  route('POST', '/adapters/:digest/verify', (c, services) => handleVerify(c, context, services));
  route('POST', '/adapters/:digest/evaluate', (c, services) => handleEvaluate(c, context, services));
  route('POST', '/adapters/pins', pinAdapters);
  route('PUT', '/adapters/pins', keepPins);
  route('POST', '/adapters/drop', (c, services) => dropAdapters(c, context, services));
  route('PUT', '/adapters/:digest', declareAdapter);
  route('GET', '/jobs', () => listJobs(context));
  route('PUT', '/jobs/:id', (c) => declareJob(c, context));
  route('GET', '/jobs/:id', (c) => reportJob(c, context));
  route('DELETE', '/jobs/:id', (c) => deleteJob(c, context));
  route('PUT', '/jobs/:id/parts/:part{[0-9]{1,3}}', (c) => receiveRows(c, context));
  route('POST', '/jobs/:id/pause', (c) => pauseJob(c, context));
  route('POST', '/jobs/:id/resume', (c) => resumeJob(c, context));
  route('GET', '/jobs/:id/result', (c) => giveResult(c, context));

  const methods = new Map<string, Set<string>>();
  for (const { method, path } of app.routes)
    if (method !== 'ALL') methods.set(path, (methods.get(path) ?? new Set()).add(method));
  for (const [path, allowed] of methods) {
    const message = `Method not allowed. Use ${[...allowed].join(' or ')}.`;
    app.all(path, () => errorResponse({ code: 'method_not_allowed', message }));
  }
  app.notFound(({ req }) => errorResponse(unknownPath(req.method, req.path)));
  return app;
}

/** The base and, standalone, the adapters with a name here. */
function modelsOf(mode: Mode, services: Services): Model[] {
  const { id } = services.base;
  return [
    { id, object: 'model', created: 0, owned_by: 'graft', parent: null, root: id },
    ...(mode.kind === 'dev' ? mode.models(id) : []),
  ];
}

/** `GET /v1/models` */
const listModels = (mode: Mode, services: Services): Response =>
  Response.json({ object: 'list', data: modelsOf(mode, services) });

/** `GET /v1/models/<id>`; slashes of an id may be percent-encoded. */
function getModel(c: Context<OriginEnv>, mode: Mode, services: Services): Response {
  const id = c.req.param('id') ?? '';
  const model = modelsOf(mode, services).find((candidate) => candidate.id === id);
  return model === undefined
    ? errorResponse({ code: 'model_not_found', message: 'No such model.' })
    : Response.json(model);
}

/**
 * Resolves `model` without an edge: the base's id or `base`, a name, or a digest.
 * @param chains names and their chains, root first; may grow.
 */
export function standaloneMode(
  chains: ReadonlyMap<string, readonly ChainEntry[]>,
): Extract<Mode, { kind: 'dev' }> {
  return {
    kind: 'dev',
    resolve(model, baseId): Result<readonly ChainEntry[], ApiError> {
      if (model === baseId || model === 'base') return ok([]);
      const named = chains.get(model);
      if (named !== undefined) return ok(named);
      if (Digest.safeParse(model).success) return ok([{ digest: model, scale: 1 }]);
      return err({
        code: 'model_not_found',
        message: 'No such model: it is not the base, the name of an adapter, or a digest.',
      });
    },
    models: (baseId): Model[] =>
      [...chains.keys()].map((id) => ({
        id,
        object: 'model',
        created: 0,
        owned_by: 'graft',
        parent: baseId,
        root: baseId,
      })),
  };
}
