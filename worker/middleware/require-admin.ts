import { createMiddleware } from 'hono/factory';
import type { KeyLedger } from '../stores/types.ts';
import { authenticateAdmin } from './authenticate.ts';
import { fail, type AppEnv } from './request-scope.ts';

export const requireAdmin = (deps: { adminKeyHash: string | null; keyLedger: KeyLedger }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const caller = await authenticateAdmin(context.req.raw, deps);
    if (!caller.ok) return fail(caller.error);
    context.set('admin', caller.value);
    return next();
  });
