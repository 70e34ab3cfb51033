import { Hono } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import { WEB_BASE_MANIFEST } from '../../protocol/index.ts';
import type { PageFiles } from './page-files.ts';
import { fail, methodNotAllowed, type AppEnv } from './request-scope.ts';

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
