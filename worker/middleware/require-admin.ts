import { createMiddleware } from 'hono/factory';
import type { GrantLedger } from '../stores/types.ts';
import { authenticateAdmin, type AdminKeys } from './authenticate.ts';
import { fail, type AppEnv } from './request-scope.ts';

export const requireAdmin = (deps: AdminKeys & { grantLedger: GrantLedger }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const caller = await authenticateAdmin(context.req.raw, deps);
    if (!caller.ok) return fail(caller.error);
    const { tenant, keyId, root } = caller.value;
    context.get('trace').note({ tenant, keyId });
    const grants = root ? [] : await deps.grantLedger.usableBy(tenant);
    context.set('admin', { ...caller.value, grants });
    return next();
  });
