/** Files that were built for this edge: the dashboard, and a base for browsers. */
import { Hono } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import { SignInRequest } from '../../protocol/identity.ts';
import { WEB_BASE_MANIFEST } from '../../protocol/browser-downloads.ts';
import { fail, methodNotAllowed, type AppEnv, readInput } from './request.ts';
import type { SignIn } from '../access/require-admin.ts';

/** Files that were built for this edge: one by its path, such as `/dashboard/index.html`; 404 for what is not there. */
export type PageFiles = (path: string) => Promise<Response>;

const PATH = '/base/:file{base\\.json|[0-9a-f]{64}\\.bin}';

/** Pages of other origins may read it, as CORS says which. Goes before the API's policy. */
export const sharedHeaders = secureHeaders({ crossOriginResourcePolicy: 'cross-origin' });

/** `GET /base/<file>` -> the base for browsers, where `graft base export --web` wrote it among the edge's files. */
export function baseRoutes({ page }: { page: PageFiles | undefined }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get(PATH, async (context) => {
    const name = context.req.param('file');
    const file = await page?.(`/base/${name}`);
    if (file?.ok !== true) {
      await file?.body?.cancel();
      return fail({
        code: 'not_found',
        message: 'This edge has no such file of a base for browsers. `graft base export --web` writes it.',
      });
    }
    const isManifest = name === WEB_BASE_MANIFEST;
    return new Response(file.body, {
      headers: {
        'content-type': isManifest ? 'application/json' : 'application/octet-stream',
        // Parts have their sha256 as their name, and the page stores them itself.
        'cache-control': isManifest ? 'no-cache' : 'public, max-age=31536000, immutable',
      },
    });
  });
  routes.all(PATH, methodNotAllowed('GET'));
  return routes;
}

/** What the build writes. Types are set here, because not every server of files knows them. */
const TYPES: Record<string, string> = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  mjs: 'text/javascript; charset=utf-8',
  wasm: 'application/wasm',
  svg: 'image/svg+xml',
};

/** A token, and the names around it. */
const MAX_SIGN_IN_BYTES = 1_024;

/** Names carry a hash of what is in them, or their folder's does. */
const FOREVER = 'public, max-age=31536000, immutable';
/** Scripts and styles of the page; graft/browser's module and worker; ONNX Runtime's files. */
const FILES = [
  '/dashboard/assets/:file{[A-Za-z0-9_-]+\\.(css|js|svg)}',
  '/dashboard/browser/:build{[0-9a-f]+}/:file{(index|worker)\\.js}',
  '/dashboard/browser/:build{[0-9a-f]+}/ort/:file{[A-Za-z0-9-][A-Za-z0-9.-]*\\.(mjs|wasm)}',
];

const POLICY = {
  defaultSrc: ["'none'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  connectSrc: ["'self'"],
  imgSrc: ["'self'", 'data:'],
  baseUri: ["'none'"],
  formAction: ["'none'"],
  frameAncestors: ["'none'"],
};
const PAGE = {
  crossOriginResourcePolicy: 'same-origin',
  referrerPolicy: 'no-referrer',
  xFrameOptions: 'DENY',
} as const;

/** Scripts, styles and requests of this very address, and nothing in the document itself. Goes before the API's policy. */
export const pageHeaders = secureHeaders({ ...PAGE, contentSecurityPolicy: POLICY });

/**
 * Of the one document that runs a base itself, and of the worker's scripts, which bring policies of their own:
 * WebAssembly may be compiled, a worker started, and memory shared between threads. Goes before {@link pageHeaders}.
 */
export const enginePageHeaders = secureHeaders({
  ...PAGE,
  contentSecurityPolicy: {
    ...POLICY,
    scriptSrc: ["'self'", "'wasm-unsafe-eval'"],
    workerSrc: ["'self'"],
  },
  crossOriginEmbedderPolicy: 'require-corp',
  crossOriginOpenerPolicy: 'same-origin',
});

/**
 * `GET /dashboard` -> the page, for anybody: it holds no data; `GET /dashboard/here` -> the same, with the headers of a
 * page that runs a base itself; `GET /dashboard/assets/<file>` -> its scripts and styles; `GET /dashboard/browser/<file>`
 * -> graft/browser; `GET /` -> leads a browser to it; `POST /dashboard/sign-in` -> a key for the token of a link (a local stack's).
 */
export function dashboardRoutes(parts: {
  page: PageFiles | undefined;
  signIn: SignIn | undefined;
}): Hono<AppEnv> {
  const { page, signIn } = parts;
  const routes = new Hono<AppEnv>();
  routes.get('/', (context, next) =>
    page !== undefined && context.req.header('accept')?.includes('text/html') === true
      ? Promise.resolve(context.redirect('/dashboard'))
      : next(),
  );
  for (const path of ['/dashboard', '/dashboard/', '/dashboard/here']) {
    routes.get(path, async () => {
      const file = await page?.('/dashboard/index.html');
      if (file?.ok !== true) {
        await file?.body?.cancel();
        return fail({
          code: 'not_found',
          message: "This edge has no dashboard: its page was not built. 'npm run build:page' makes it.",
        });
      }
      return served(file, 'text/html; charset=utf-8', 'no-store');
    });
    routes.all(path, methodNotAllowed('GET'));
  }

  routes.post('/dashboard/sign-in', async (context) => {
    const input = await readInput(context.req.raw, SignInRequest, { maxBytes: MAX_SIGN_IN_BYTES });
    if (!input.ok) return fail(input.error);
    if (signIn === undefined)
      return fail({ code: 'not_found', message: 'This edge has no links to sign in by: use an admin key.' });
    const keys = await signIn(input.value.token);
    if (keys === null)
      return fail({
        code: 'invalid_api_key',
        message:
          'This link was used, is older than five minutes, or belongs to an earlier start. `graft open` makes a new one.',
      });
    return context.json(keys, 200, { 'cache-control': 'no-store' });
  });
  routes.all('/dashboard/sign-in', methodNotAllowed('POST'));

  for (const path of FILES) {
    routes.get(path, async (context) => {
      const { build, file: name } = context.req.param() as { build?: string; file: string };
      // As the pattern, with what was asked for in it.
      const where = path.replace(/:build\{.*?\}/, build ?? '').replace(/:file\{.*\}$/, name);
      const file = await page?.(where);
      if (file?.ok !== true) {
        await file?.body?.cancel();
        return fail({
          code: 'not_found',
          message: 'There is no such file. Load the page again: it may have changed.',
        });
      }
      return served(file, TYPES[name.slice(name.lastIndexOf('.') + 1)] as string, FOREVER);
    });
    routes.all(path, methodNotAllowed('GET'));
  }
  return routes;
}

const served = (file: Response, type: string, cacheControl: string): Response =>
  new Response(file.body, { headers: { 'content-type': type, 'cache-control': cacheControl } });
