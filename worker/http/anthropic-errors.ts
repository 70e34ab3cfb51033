import { createMiddleware } from 'hono/factory';
import { asMessagesError } from '../../protocol/index.ts';
import type { AppEnv } from './request-scope.ts';

/** What is refused here is told in the words that Anthropic's clients know. */
export const anthropicErrors = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  const { res } = context;
  if (res.ok) return;
  // Else the headers of both are merged.
  context.res = undefined;
  context.res = await asMessagesError(res);
});
