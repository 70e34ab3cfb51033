import { createMiddleware } from 'hono/factory';
import type { Gate } from './request-gate.ts';
import type { Index } from '../platform/ports.ts';
import type { KeyRecord } from './ports.ts';
import { authenticate } from './authenticate.ts';
import { enterGate } from './gates.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';

/** For what a client asks beside completions: its key is good, and its tenant does not ask too often. */
export const requireKey = (deps: { keys: Index<KeyRecord>; gate: Gate; now: () => number }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const caller = await authenticate(context.req.raw, deps.keys, deps.now);
    if (!caller.ok) return fail(caller.error);
    const { tenant, keyId } = caller.value;
    context.get('trace').note({ tenant, keyId });
    const entered = enterGate(deps.gate, tenant);
    if (!entered.ok) return fail(entered.error);
    context.set('caller', caller.value);
    try {
      return await next();
    } finally {
      entered.value();
    }
  });
