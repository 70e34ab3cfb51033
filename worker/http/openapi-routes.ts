import { Hono } from 'hono';
import { methodNotAllowed, type AppEnv } from './request-scope.ts';

/** `GET /admin/openapi.json` -> the API as an OpenAPI 3.1 document. */
export function adminOpenApiRoutes(deps: { document: () => object }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  // Made once, when somebody asks: it takes tens of milliseconds.
  let document: object | undefined;
  routes.get('/admin/openapi.json', (context) => context.json((document ??= deps.document())));
  routes.all('/admin/openapi.json', methodNotAllowed('GET'));
  return routes;
}
