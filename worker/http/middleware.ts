/** What every request passes on its way in and out. */
import { createMiddleware } from 'hono/factory';
import { type AppEnv, createRequestTrace } from './request-scope.ts';
import type { MiddlewareHandler } from 'hono';
import { MAX_DRAINED_BYTES } from '../limits.ts';
import {
  isEventStream,
  parseTraceparent,
  TRACEPARENT_HEADER,
  asMessagesError,
} from '../../protocol/index.ts';
import type { Observer } from './observer.ts';

/** No cache keeps what the admin API answers: keys that are shown once are among it. */
export const noStore = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  context.header('cache-control', 'no-store');
});

/**
 * Reads and drops a small body that a refusal left unread: otherwise the connection is closed behind the answer, and a
 * client that sends its next request on it sees a reset.
 */
export const drainBody: MiddlewareHandler<AppEnv> = async (context, next) => {
  await next();
  const { body, bodyUsed, headers } = context.req.raw;
  if (body === null || bodyUsed) return;
  if (Number(headers.get('content-length') ?? Infinity) > MAX_DRAINED_BYTES) return;
  try {
    await body.pipeTo(new WritableStream());
  } catch {
    // The client has gone, or somebody reads it after all.
  }
};

/** Gives each request a trace and its id in the answer, and reports it when it has ended: a stream at its last byte. */
export const observeRequest = (params: { observer: Observer; now: () => number }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const trace = createRequestTrace(params.now, parseTraceparent(context.req.header(TRACEPARENT_HEADER)));
    context.set('trace', trace);
    await next();
    const requestId = context.get('requestId');
    context.header('x-request-id', requestId);
    const { method, routePath } = context.req;
    const route = routePath.startsWith('/') ? routePath : 'other';
    const { status } = context.res;
    const report = () => params.observer({ trace, requestId, method, route, status, at: params.now() });
    if (isEventStream(context.res.headers)) trace.onFinish(report);
    else report();
  });

/** What is refused here is told in the words that Anthropic's clients know. */
export const anthropicErrors = createMiddleware<AppEnv>(async (context, next) => {
  await next();
  const { res } = context;
  if (res.ok) return;
  // Else the headers of both are merged.
  context.res = undefined;
  context.res = await asMessagesError(res);
});

/** What a page in a browser may read of an answer. */
export const EXPOSED_HEADERS = [
  'retry-after',
  'retry-after-ms',
  'server-timing',
  'x-graft-adapter',
  'x-graft-alias',
  'x-graft-base',
  'x-graft-chain',
  'x-graft-composed',
  'x-graft-degraded',
  'x-graft-experiment',
  'x-graft-exposure',
  'x-graft-ignored',
  'x-graft-inherited',
  'x-graft-limited-by',
  'x-graft-origin',
  'x-graft-variant',
  'x-ratelimit-limit-requests',
  'x-ratelimit-limit-tokens',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-requests',
  'x-ratelimit-reset-tokens',
  'x-request-id',
  'x-should-retry',
];
