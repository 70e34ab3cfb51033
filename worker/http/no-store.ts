import { createMiddleware } from 'hono/factory';
import type { AppEnv } from './request-scope.ts';

/** No cache keeps what the admin API answers: keys that are shown once are among it. */
export const noStore = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  context.header('cache-control', 'no-store');
});
