import type { Context } from 'hono';
import { errorResponse, type ApiError } from '../../protocol/index.ts';
import type { RequestTrace } from './request-trace.ts';
import type { AdminCaller, Caller } from '../access/ports.ts';
import type { DownloadGrant } from '../downloads/download-token.ts';
import { loggingFailure } from '../log.ts';

/** What middleware leaves for the routes. */
export interface AppEnv {
  Variables: {
    requestId: string;
    admin: AdminCaller;
    caller: Caller;
    downloads: DownloadGrant;
    trace: RequestTrace;
  };
}

export type AppContext = Context<AppEnv>;

export const fail = (error: ApiError): Response => errorResponse(error);

/** Lets work go on after the response that nobody waits for; what fails is in the log, with the request's id. */
export function keepAlive(context: AppContext, work: Promise<unknown>): void {
  waitUntil(context, loggingFailure(work, { request_id: context.get('requestId') }));
}

/** Does work that whoever hangs up does not stop half way. Its failure is for who waits for it to tell. */
export function carryThrough<T>(context: AppContext, work: () => Promise<T>): Promise<T> {
  const running = work();
  waitUntil(
    context,
    running.catch(() => undefined),
  );
  return running;
}

function waitUntil(context: AppContext, settled: Promise<unknown>): void {
  try {
    context.executionCtx.waitUntil(settled);
  } catch {
    // Outside of workerd there is no execution context, and nothing that would end the work.
  }
}

/** What work that reaches beyond this worker needs of the request. */
export const requestLife = (
  context: AppContext,
): { signal: AbortSignal; keepAlive: (work: Promise<unknown>) => void } => ({
  signal: context.req.raw.signal,
  keepAlive: (work) => keepAlive(context, work),
});

/** Query parameters, each at most once. */
export const query = (context: AppContext, name: string): string | null => context.req.query(name) ?? null;

/** For known paths, asked in another way. */
export const methodNotAllowed =
  (allow: string) =>
  (context: AppContext): Response =>
    errorResponse(
      { code: 'method_not_allowed', message: `${context.req.method} is not allowed here; use ${allow}.` },
      { allow },
    );
