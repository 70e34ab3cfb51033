import type { Hono } from 'hono';
import { z } from 'zod';
import type { AdminOperation } from '../../protocol/admin-api/operation.ts';
import {
  ADMIN_ROUTES,
  adminOperation,
  splitRoute,
  type AdminRoute,
  type ParamsOf,
  type ParsedQueryOf,
  type ParsedRequestOf,
} from '../../protocol/admin-api/operations.ts';
import { ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import type { AdminCaller } from '../access/ports.ts';
import { parseInput, readInput, fail, methodNotAllowed, type AppContext, type AppEnv } from './request.ts';

/** A handler's view of a request: everything that its operation accepts, parsed. */
export interface AdminInput<Route extends AdminRoute, OwnQuery extends boolean = false> {
  context: AppContext;
  caller: AdminCaller;
  params: ParamsOf<Route>;
  query: OwnQuery extends true ? null : ParsedQueryOf<Route>;
  /** null also for bytes, which the handler reads itself. */
  request: ParsedRequestOf<Route>;
}

/**
 * Registers an operation of protocol's table by its method and path. Its input is parsed before the handler
 * sees it, and with the last operation of a path all other methods there get a 405. All operations of a path
 * belong to the same `routes`, and are registered before those of paths that would match it, too.
 * @param options.operatorOnly what all but the bootstrap key are told, before anything is read.
 * @param options.ownQuery the handler looks at the query itself.
 */
export function adminRoute<Route extends AdminRoute, OwnQuery extends boolean = false>(
  routes: Hono<AppEnv>,
  route: Route,
  handler: (input: AdminInput<Route, OwnQuery>) => Response | Promise<Response>,
  options: { operatorOnly?: ApiError; ownQuery?: OwnQuery } = {},
): void {
  const operation = adminOperation(route);
  const { method, path } = splitRoute(route);
  const at = routePath(route);
  routes.on(method, at, async (context) => {
    const caller = context.get('admin');
    if (options.operatorOnly !== undefined && !caller.root) return fail(options.operatorOnly);
    const params: Readonly<Record<string, string>> = context.req.param();
    for (const [name, schema] of Object.entries(operation.params ?? {})) {
      const param = parseInput(schema, params[name]);
      if (!param.ok) return fail(param.error);
    }
    const query =
      operation.query === null || options.ownQuery === true
        ? ok(null)
        : parseInput(operation.query, context.req.query());
    if (!query.ok) return fail(query.error);
    const request = await readRequest(operation, method, context.req.raw);
    if (!request.ok) return fail(request.error);
    // Parsed with the schemas that their types are derived from.
    const input = { context, caller, params, query: query.value, request: request.value };
    return handler(input as AdminInput<Route, OwnQuery>);
  });
  const methods = methodsOf(path);
  const registered = new Set(routes.routes.filter((one) => one.path === at).map((one) => one.method));
  if (methods.every((one) => registered.has(one))) routes.all(at, methodNotAllowed(methods.join(', ')));
}

/** As Hono has it, `/admin/blobs/:digest/parts/:index{[0-9]{1,4}}`. */
export function routePath(route: AdminRoute): string {
  const { patterns = {} } = adminOperation(route);
  return splitRoute(route).path.replaceAll(/:(\w+)/g, (parameter, name: string) =>
    patterns[name] === undefined ? parameter : `${parameter}{${patterns[name]}}`,
  );
}

const METHODS = ['GET', 'POST', 'PUT', 'DELETE'];

const methodsOf = (path: string): string[] =>
  METHODS.filter((method) => (ADMIN_ROUTES as readonly string[]).includes(`${method} ${path}`));

const NoInput = z.strictObject({});

/** A POST operation without a body refuses one that it would ignore. */
async function readRequest(
  { request, mayBeEmpty, maxBytes }: AdminOperation,
  method: string,
  raw: Request,
): Promise<Result<unknown, ApiError>> {
  if (request === 'bytes' || (request === null && method !== 'POST')) return ok(null);
  if (request === null) {
    const none = await readInput(raw, NoInput, { mayBeEmpty: true });
    return none.ok ? ok(null) : none;
  }
  return readInput(raw, request, {
    ...(maxBytes === undefined ? {} : { maxBytes }),
    mayBeEmpty: mayBeEmpty === true,
  });
}
