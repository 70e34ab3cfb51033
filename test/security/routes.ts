import type { Hono } from 'hono';
import type { AppEnv } from '../../worker/http/request.ts';

export interface Route {
  method: string;
  path: string;
}

/** Every route of the edge as the app itself has them, with its parameters filled in: a new one is covered at once. */
export function routesOf(app: Hono<AppEnv>): Route[] {
  const routes = new Map<string, Route>();
  for (const { method, path } of app.routes) {
    // Middleware, and refusals of other methods.
    if (method === 'ALL') continue;
    const filled = path
      .replace(':digest', 'a'.repeat(64))
      .replace(/:index(\{[^/]*\})?/, '0')
      .replace(/:\w+(\{[^/]*\})?/g, 'x')
      .replace('*', 'alice/notes');
    routes.set(`${method} ${filled}`, { method, path: filled });
  }
  return [...routes.values()];
}

export const isAdmin = ({ path }: Route): boolean => path.startsWith('/admin');
