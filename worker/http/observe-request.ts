import { createMiddleware } from 'hono/factory';
import { isEventStream } from '../../protocol/index.ts';
import type { Observer } from './observer.ts';
import { createRequestTrace } from './request-trace.ts';
import type { AppEnv } from './request-scope.ts';

/** Gives each request a trace and its id in the answer, and reports it when it has ended: a stream at its last byte. */
export const observeRequest = (params: { observer: Observer; now: () => number }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const trace = createRequestTrace(params.now);
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
