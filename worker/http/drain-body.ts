import type { MiddlewareHandler } from 'hono';
import { MAX_DRAINED_BYTES } from '../limits.ts';
import type { AppEnv } from './request-scope.ts';

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
