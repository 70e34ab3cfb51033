import { createMiddleware } from 'hono/factory';
import type { PinSync } from './ports.ts';
import { keepAlive, type AppEnv } from '../http/request-scope.ts';

/**
 * Once a request has changed names: has the origins keep the new chains of pinned ones, and let go of the old. The
 * response does not wait for it; `GET /admin/pins` does, and the schedule makes up for what is cut off.
 */
export const repinAfterChange = (deps: { changed: () => boolean; pinSync: PinSync }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    await next();
    if (!deps.changed()) return;
    const { signal } = new AbortController();
    keepAlive(context, deps.pinSync.sync({ signal, keepAlive: (work) => keepAlive(context, work) }));
  });
