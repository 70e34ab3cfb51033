import { Hono } from 'hono';
import { adminRoute } from './admin-route.ts';
import type { AppEnv } from './request-scope.ts';

/** `GET /admin/openapi.json` -> the API as an OpenAPI 3.1 document. */
export function adminOpenApiRoutes(deps: { document: () => object }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  // Made once, when somebody asks: it takes tens of milliseconds.
  let document: object | undefined;
  adminRoute(routes, 'GET /admin/openapi.json', ({ context }) =>
    context.json((document ??= deps.document())),
  );
  return routes;
}
