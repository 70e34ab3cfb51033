import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { requestId } from 'hono/request-id';
import { secureHeaders } from 'hono/secure-headers';
import { MAX_REQUEST_ID, unknownPath, type AdapterManifest } from '../protocol/index.ts';
import type { IntakeDeps } from './intake/intake-deps.ts';
import { RETRY_AFTER_MS } from './limits.ts';
import { drainBody } from './middleware/drain-body.ts';
import { fail, methodNotAllowed, type AppEnv } from './middleware/request-scope.ts';
import { requireAdmin } from './middleware/require-admin.ts';
import type { OriginClient } from './origin-client.ts';
import { registryUnavailable } from './policy/resolve-name.ts';
import { adminBlobRoutes } from './routes/admin-blobs.ts';
import { adminEvaluateRoutes } from './routes/admin-evaluate.ts';
import { adminKeyRoutes } from './routes/admin-keys.ts';
import { adminOriginRoutes } from './routes/admin-origins.ts';
import { adminVerifyRoutes } from './routes/admin-verify.ts';
import { adminVersionRoutes } from './routes/admin-versions.ts';
import { completionRoutes } from './routes/completions.ts';
import { modelRoutes } from './routes/models.ts';
import {
  StoreUnavailable,
  type Index,
  type KeyIndex,
  type KeyLedger,
  type KeyRecord,
} from './stores/types.ts';

export interface Services {
  /** As the hot path reads them: with the last known good behind. */
  names: Index<AdapterManifest>;
  keys: Index<KeyRecord>;
  intake: Omit<IntakeDeps, 'base' | 'trials'>;
  keyIndex: KeyIndex;
  keyLedger: KeyLedger;
  origins: OriginClient;
  adminKeyHash: string | null;
}

/** What a page in a browser may read of an answer. */
const EXPOSED_HEADERS = [
  'retry-after',
  'retry-after-ms',
  'x-graft-adapter',
  'x-graft-chain',
  'x-graft-degraded',
  'x-graft-origin',
  'x-request-id',
  'x-should-retry',
];

/** The path as it stands on the request line: names keep their encoded slashes until a route decodes them. */
const rawPath = (request: Request): string => new URL(request.url).pathname;

export function createApp(services: Services): Hono<AppEnv> {
  const { names, keys, origins, keyIndex, keyLedger, adminKeyHash } = services;
  const intake: IntakeDeps = { ...services.intake, base: () => origins.base(), trials: origins };
  const { registry } = intake;
  const app = new Hono<AppEnv>({ getPath: rawPath });
  app.use(requestId({ limitLength: MAX_REQUEST_ID }));
  app.use(async (context, next) => {
    await next();
    context.header('x-request-id', context.get('requestId'));
  });
  app.use(
    secureHeaders({
      contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      crossOriginResourcePolicy: 'same-site',
    }),
  );
  // Keys travel in a header of their own, never by themselves as cookies do: any page may ask if it has one. What a
  // page asks to send (openai-node's x-stainless-*) is allowed as it asks.
  app.use('/v1/*', cors({ origin: '*', exposeHeaders: EXPOSED_HEADERS }));
  app.use(drainBody);
  app.get('/healthz', (context) => context.json({ status: 'ok' }));
  app.all('/healthz', methodNotAllowed('GET'));
  app.route('/', completionRoutes({ keys, names, registry, origins }));
  app.route('/', modelRoutes({ keys, names, registry, origins }));
  app.use('/admin/*', requireAdmin({ adminKeyHash, keyLedger }));
  app.route('/', adminBlobRoutes(intake));
  app.route('/', adminVersionRoutes(intake));
  app.route('/', adminVerifyRoutes(intake));
  app.route('/', adminEvaluateRoutes(intake));
  app.route('/', adminKeyRoutes({ keyLedger, keyIndex, now: intake.now }));
  app.route('/', adminOriginRoutes({ origins }));
  app.notFound(({ req }) => fail(unknownPath(req.method, req.path)));
  app.onError((error, context) => {
    const known = error instanceof StoreUnavailable;
    const line = { event: known ? 'store_unavailable' : 'bug', request: context.get('requestId') };
    console.error(
      JSON.stringify({ ...line, message: error.message, ...(known ? {} : { stack: error.stack }) }),
    );
    if (known) return fail(registryUnavailable(RETRY_AFTER_MS));
    return fail({ code: 'internal_error', message: 'Something went wrong here. Please try again.' });
  });
  return app;
}
