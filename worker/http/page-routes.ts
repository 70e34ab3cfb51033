/** Built files of this edge: the console, and a base for browsers. */
import { Hono } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import { SignInRequest } from '../../protocol/identity.ts';
import { WEB_BASE_MANIFEST } from '../../protocol/browser-downloads.ts';
import { fail, methodNotAllowed, type AppEnv, readInput } from './request.ts';
import type { SignIn } from '../access/require-admin.ts';

/** Built files by path, such as `/dashboard/index.html`; 404 for missing ones. */
export type PageFiles = (path: string) => Promise<Response>;

const PATH = '/base/:file{base\\.json|[0-9a-f]{64}\\.bin}';

/** Pages of other origins may read it, as configured for CORS. Registered before the API's policy. */
export const sharedHeaders = secureHeaders({ crossOriginResourcePolicy: 'cross-origin' });

/** `GET /base/<file>` -> the base for browsers, written by `graft base export --web` among the edge's files. */
export function baseRoutes({ page }: { page: PageFiles | undefined }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get(PATH, async (context) => {
    const name = context.req.param('file');
    const file = await page?.(`/base/${name}`);
    if (file?.ok !== true) {
      await file?.body?.cancel();
      return fail({
        code: 'not_found',
        message: 'This edge has no such base file for browsers. Write it with `graft base export --web`.',
      });
    }
    const isManifest = name === WEB_BASE_MANIFEST;
    return new Response(file.body, {
      headers: {
        'content-type': isManifest ? 'application/json' : 'application/octet-stream',
        // Parts are named by their sha256, and the page stores them itself.
        'cache-control': isManifest ? 'no-cache' : 'public, max-age=31536000, immutable',
      },
    });
  });
  routes.all(PATH, methodNotAllowed('GET'));
  return routes;
}

/** The build's file types. Types are set here, because not every file server knows them. */
const TYPES: Record<string, string> = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  mjs: 'text/javascript; charset=utf-8',
  wasm: 'application/wasm',
  svg: 'image/svg+xml',
};

/** A token, and the names around it. */
const MAX_SIGN_IN_BYTES = 1_024;

/** Names, or their folders, contain a hash of the content. */
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

/** Scripts, styles and requests of this origin only, and nothing inline. Registered before the API's policy. */
export const pageHeaders = secureHeaders({ ...PAGE, contentSecurityPolicy: POLICY });

/**
 * For the one document that runs a base itself, and for the worker's scripts, which have their own policies:
 * allows WebAssembly compilation, workers, and shared memory. Registered before {@link pageHeaders}.
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
 * `GET /dashboard` -> the page, public, because it contains no data; `GET /dashboard/here` -> the same, with
 * the headers of a page that runs a base itself; `GET /dashboard/assets/<file>` -> its scripts and styles; `GET
 * /dashboard/browser/<file>`
 * -> graft/browser; `GET /` -> leads a browser to it; `POST /dashboard/sign-in` -> a key for the token of a
 *   link (a local stack's).
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
          message: "This edge has no console: its page was not built. Run 'npm run build:page'.",
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
      return fail({
        code: 'not_found',
        message: 'This edge has no sign-in links. Sign in with an admin key.',
      });
    const keys = await signIn(input.value.token);
    if (keys === null)
      return fail({
        code: 'invalid_api_key',
        message:
          'This link was used, is older than five minutes, or is from an earlier start. Make a new one ' +
          'with `graft open`.',
      });
    return context.json(keys, 200, { 'cache-control': 'no-store' });
  });
  routes.all('/dashboard/sign-in', methodNotAllowed('POST'));

  for (const path of FILES) {
    routes.get(path, async (context) => {
      const { build, file: name } = context.req.param() as { build?: string; file: string };
      // The pattern, with the requested file inserted.
      const where = path.replace(/:build\{.*?\}/, build ?? '').replace(/:file\{.*\}$/, name);
      const file = await page?.(where);
      if (file?.ok !== true) {
        await file?.body?.cancel();
        return fail({
          code: 'not_found',
          message: 'No such file. Reload the page: it may have changed.',
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
