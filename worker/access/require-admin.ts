import { createMiddleware } from 'hono/factory';
import { ok, type ApiError, type Result } from '../../protocol/index.ts';
import { GATE_ENTRIES } from './limits.ts';
import type { GrantLedger } from './ports-grants.ts';
import { authenticateAdmin, presentedAdminKey, type AdminKeys, authenticate } from './authenticate.ts';
import { enterGate, type AdminGates, type Gates } from './gates.ts';
import { fail, carryThrough, type AppEnv } from '../http/request-scope.ts';
import type { Gate } from './request-gate.ts';
import type { Index } from '../platform/ports.ts';
import type { KeyRecord } from './ports.ts';

const READS: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/**
 * The key is good, and its tenant neither asks too often nor has too much under way. That is looked at before the system
 * of record is asked about the key: by the tenant that the key had when it was last good here, else by the key itself,
 * and all such keys share {@link Gates.strangers}. What a client leaves behind counts until it has ended.
 */
export const requireAdmin = (deps: AdminKeys & { grantLedger: GrantLedger; gates: Gates }) => {
  const { gates, grantLedger } = deps;
  /** Hash of a key -> its tenant, when it was last good here. */
  const tenants = new Map<string, string>();
  const remember = (hash: string, tenant: string) => {
    tenants.delete(hash);
    tenants.set(hash, tenant);
    const oldest = tenants.keys().next();
    if (tenants.size > GATE_ENTRIES && !oldest.done) tenants.delete(oldest.value);
  };

  return createMiddleware<AppEnv>(async (context, next) => {
    const presented = await presentedAdminKey(context.req.raw, deps.adminKeyHash);
    if (!presented.ok) return fail(presented.error);
    const { hash, root } = presented.value;
    const kind: keyof AdminGates = READS.has(context.req.method) ? 'reads' : 'changes';
    const left: (() => void)[] = [];
    const enter = (who: string): Result<null, ApiError> => {
      const gate = (root ? gates.operator : gates.tenants)[kind];
      const entered = enterGate(gate, who, root ? 'This key' : undefined);
      if (!entered.ok) return entered;
      left.push(entered.value);
      return ok(null);
    };
    const serve = async (): Promise<Response | undefined> => {
      const known = tenants.get(hash);
      const first = enter(known === undefined ? `key ${hash}` : `tenant ${known}`);
      if (!first.ok) return fail(first.error);
      const met = root || known !== undefined ? null : enterGate(gates.strangers, '', 'New keys together');
      if (met !== null && !met.ok) return fail(met.error);
      const caller = await authenticateAdmin(presented.value, deps).finally(() => met?.value());
      if (!caller.ok) {
        tenants.delete(hash);
        return fail(caller.error);
      }
      const { tenant, keyId } = caller.value;
      context.get('trace').note({ tenant, keyId });
      if (!root && tenant !== known) {
        remember(hash, tenant);
        const entered = enter(`tenant ${tenant}`);
        if (!entered.ok) return fail(entered.error);
      }
      const grants = root ? [] : await grantLedger.usableBy(tenant);
      context.set('admin', { ...caller.value, grants });
      await next();
      return undefined;
    };
    // A client that hangs up ends neither the work nor its place.
    return carryThrough(context, () =>
      serve().finally(() => {
        for (const leave of left) leave();
      }),
    );
  });
};

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
