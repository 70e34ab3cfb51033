import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { requestId } from 'hono/request-id';
import { secureHeaders } from 'hono/secure-headers';
import { unknownPath, type ApiError } from '../protocol/api-error.ts';
import { MAX_REQUEST_ID } from '../protocol/limits.ts';
import { registryUnavailable } from './errors.ts';
import { RETRY_AFTER_MS } from './limits.ts';
import {
  anthropicErrors,
  drainBody,
  EXPOSED_HEADERS,
  noStore,
  observeRequest,
  fail,
  methodNotAllowed,
  type AppEnv,
} from './http/request.ts';
import { repinAfterChange } from './origins/pins.ts';
import { requireAdmin } from './access/require-admin.ts';
import { logLine } from './log.ts';
import { adminOpenApiRoutes } from './http/openapi/document.ts';
import { adminDownloadRoutes, adminBlobRoutes } from './blobs/routes.ts';
import { downloadRoutes } from './downloads/routes.ts';
import { jobRoutes } from './training/jobs-routes.ts';
import { fileRoutes } from './training/files-routes.ts';
import { publicationRoutes } from './publications/routes.ts';
import { adminBackupRoutes } from './backup/routes.ts';
import { adminEraseRoutes } from './erasure/routes.ts';
import { adminEvaluationRoutes } from './evaluations/routes.ts';
import { adminEvaluateRoutes, adminOriginRoutes, adminPinRoutes, adminWarmRoutes } from './origins/routes.ts';
import { adminExperimentRoutes } from './experiments/routes.ts';
import { adminGrantRoutes, adminRefusalRoutes } from './access/grants-routes.ts';
import { adminHistoryRoutes, adminLifeCycleRoutes } from './registry/live-routes.ts';
import { adminKeyRoutes } from './access/keys-routes.ts';
import { adminRoomRoutes } from './registry/rooms-routes.ts';
import { adminTenantLimitsRoutes, adminUsageRoutes } from './metering/routes.ts';
import { adminUpkeepRoutes } from './registry/upkeep-routes.ts';
import { adminPromptRoutes } from './prompts/routes.ts';
import { adminWebhookRoutes } from './webhooks/routes.ts';
import { adminRequestRoutes, adminTrafficRoutes } from './traffic/routes.ts';
import { adminVerifyRoutes, adminVersionRoutes } from './registry/versions-routes.ts';
import { completionRoutes, tokenizerRoutes } from './completions/routes.ts';
import { preferenceRoutes } from './improvements/preferences-routes.ts';
import { adminImprovementRoutes } from './improvements/routes.ts';
import { feedbackRoutes } from './experiments/feedback-routes.ts';
import {
  baseRoutes,
  sharedHeaders,
  dashboardRoutes,
  enginePageHeaders,
  pageHeaders,
} from './http/page-routes.ts';
import { modelRoutes } from './completions/models-routes.ts';
import { DamagedRow, StoreUnavailable } from './platform/ports.ts';
import type { Services } from './parts.ts';

/**
 * The path as the runtime delivers it: names keep their encoded slashes until a route decodes them, and
 * `%2e%2e` or a backslash, which `new URL` would resolve, stay as they are.
 */
const rawPath = ({ url }: Request): string => {
  const start = url.indexOf('/', url.indexOf('://') + 3);
  const end = url.slice(start).search(/[?#]/);
  return url.slice(start, end < 0 ? undefined : start + end);
};

/** Anybody may ask: stores and origins are checked at most once in this time and isolate, ms. */
const READY_MEMORY_MS = 1_000;

/** @returns why the edge cannot serve; null = the registry answers and has its tables, and an origin answers. */
function createReadiness({ keptPrompts, origins, now }: Services) {
  let known: { error: ApiError | null; at: number } = { error: registryUnavailable(), at: -Infinity };
  const ask = async (): Promise<ApiError | null> => {
    try {
      // Reads one of the tables: a database without the schema has none.
      await keptPrompts.read({ tenant: '', id: '', at: null, now: 0 });
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      return registryUnavailable();
    }
    const base = await origins.bases.info(null);
    return base.ok ? null : base.error;
  };
  return async (): Promise<ApiError | null> => {
    if (now() - known.at < READY_MEMORY_MS) return known.error;
    known = { ...known, at: now() };
    const error = await ask();
    known = { error, at: now() };
    return error;
  };
}

/** Each picks what it needs of the services, and is mounted at `/`. */
const CLIENT_ROUTES = [
  completionRoutes,
  tokenizerRoutes,
  feedbackRoutes,
  preferenceRoutes,
  modelRoutes,
  downloadRoutes,
  publicationRoutes,
  fileRoutes,
  jobRoutes,
  baseRoutes,
  dashboardRoutes,
];
/** The same, behind an admin key. */
const ADMIN_ROUTES = [
  adminBlobRoutes,
  adminDownloadRoutes,
  adminVersionRoutes,
  adminLifeCycleRoutes,
  adminHistoryRoutes,
  adminUpkeepRoutes,
  adminBackupRoutes,
  adminEraseRoutes,
  adminVerifyRoutes,
  adminEvaluateRoutes,
  adminEvaluationRoutes,
  adminExperimentRoutes,
  adminGrantRoutes,
  adminRefusalRoutes,
  adminRoomRoutes,
  adminKeyRoutes,
  adminTenantLimitsRoutes,
  adminUsageRoutes,
  adminTrafficRoutes,
  adminRequestRoutes,
  adminPromptRoutes,
  adminImprovementRoutes,
  adminOriginRoutes,
  adminWarmRoutes,
  adminPinRoutes,
  adminWebhookRoutes,
  adminOpenApiRoutes,
];

export function createApp(services: Services): Hono<AppEnv> {
  const { corsOrigins, observer = () => undefined, now, traceShare, runtimeTracing } = services;
  const app = new Hono<AppEnv>({ getPath: rawPath });
  app.use(requestId({ limitLength: MAX_REQUEST_ID }));
  app.use(observeRequest({ observer, now, traceShare, runtimeTracing }));
  for (const path of ['/dashboard/here', '/dashboard/browser/*']) app.use(path, enginePageHeaders);
  app.use('/dashboard/*', pageHeaders);
  if (corsOrigins.length > 0) for (const path of ['/base/*', '/v1/downloads/*']) app.use(path, sharedHeaders);
  app.use(
    secureHeaders({
      contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      crossOriginResourcePolicy: 'same-site',
    }),
  );
  // Off unless configured: a page has no key of its own to send. Requested headers (openai-node's
  // x-stainless-*) are allowed as requested.
  if (corsOrigins.length > 0) {
    const origin = corsOrigins.includes('*') ? '*' : [...corsOrigins];
    for (const shared of ['/v1/*', '/base/*'])
      app.use(shared, cors({ origin, exposeHeaders: EXPOSED_HEADERS }));
  }
  app.use(drainBody);
  app.use('/v1/messages/*', anthropicErrors);
  // The second is the path that vLLM's clients use.
  for (const path of ['/healthz', '/health']) {
    app.get(path, (context) => context.json({ status: 'ok' }));
    app.all(path, methodNotAllowed('GET'));
  }
  const problem = createReadiness(services);
  app.get('/readyz', async (context) => {
    const error = await problem();
    return error === null ? context.json({ status: 'ok' }) : fail(error);
  });
  app.all('/readyz', methodNotAllowed('GET'));
  for (const routes of CLIENT_ROUTES) app.route('/', routes(services));
  app.use('/admin/*', noStore);
  app.use('/admin/*', requireAdmin(services));
  app.use('/admin/*', repinAfterChange(services));
  for (const routes of ADMIN_ROUTES) app.route('/', routes(services));
  app.notFound(({ req }) => fail(unknownPath(req.method, req.path)));
  app.onError((error, context) => {
    const known = error instanceof StoreUnavailable;
    logLine(known ? 'store_unavailable' : 'bug', {
      request_id: context.get('requestId'),
      reason: error.message,
      stack: known ? undefined : error.stack,
    });
    if (error instanceof DamagedRow)
      return fail({
        code: 'registry_damaged',
        message: 'The registry entry is corrupted. Contact the operator.',
      });
    if (known) return fail(registryUnavailable(RETRY_AFTER_MS));
    return fail({ code: 'internal_error', message: 'Internal error. Retry in a few seconds.' });
  });
  return app;
}
