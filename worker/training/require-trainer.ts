/** Lets keys with the right to train in: API keys, and admin keys, as which the console asks. */
import { createMiddleware } from 'hono/factory';
import type { ApiError } from '../../protocol/api-error.ts';
import { bearer } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import { presentedKeyHash } from '../access/page-requests.ts';
import { keyIdOf, type AdminCaller, type KeyRecord } from '../access/ports.ts';
import { enterGate, type Gates } from '../access/rate-limits.ts';
import { requireAdmin, requireKey, type AdminKeys } from '../access/require-admin.ts';
import { fail, type AppContext, type AppEnv } from '../http/request.ts';
import type { Index } from '../platform/ports.ts';

export interface TrainerDeps extends AdminKeys {
  keys: Index<KeyRecord>;
  grantLedger: Pick<GrantLedger, 'usableBy'>;
  gates: Gates;
}

const noRight = (whose: string, id: string): ApiError => ({
  code: 'insufficient_scope',
  message: `This key may not send files or start fine-tuning jobs. Ask ${whose} to run: graft keys change ${id} --train`,
});

const isAdmin = (context: AppContext): boolean => bearer(context.req.raw, 'ga').ok;

/** To stand before each route, in this order. The right is read from D1, never from KV. */
export const requireTrainer = (deps: TrainerDeps) => {
  const [adminKey, apiKey] = [requireAdmin(deps), requireKey(deps, deps.gates.training)];
  return [
    createMiddleware<AppEnv>((context, next) => (isAdmin(context) ? adminKey : apiKey)(context, next)),
    createMiddleware<AppEnv>((context, next) =>
      isAdmin(context) ? trainAsAdmin(deps, context, next) : trainByKey(deps, context, next),
    ),
  ] as const;
};

type Next = () => Promise<void>;

async function trainAsAdmin({ gates }: TrainerDeps, context: AppContext, next: Next) {
  const caller = context.get('admin');
  if (caller.train !== true) return fail(noRight('the operator', caller.keyId));
  const entered = enterGate(gates.training, caller.tenant);
  if (!entered.ok) return fail(entered.error);
  context.set('trainer', asTrainer(caller));
  try {
    return await next();
  } finally {
    entered.value();
  }
}

async function trainByKey({ keyLedger, now }: TrainerDeps, context: AppContext, next: Next) {
  const { tenant } = context.get('caller');
  const hash = await presentedKeyHash(context);
  const id = keyIdOf(hash);
  const row = await keyLedger.get(id);
  const isGood =
    row !== null &&
    row.hash === hash &&
    row.tenant === tenant &&
    row.kind === 'api' &&
    row.revoked_at === null &&
    (row.expires_at === null || row.expires_at > now());
  if (!isGood || !row.train) return fail(noRight('an admin of your tenant', id));
  context.set('trainer', asTrainer({ ...row, keyId: id }));
  return next();
}

/** Trains for its own tenant alone, also the bootstrap key, and has no other right. */
export const asTrainer = (
  caller: Pick<AdminCaller, 'keyId' | 'tenant' | 'scopes' | 'scope_owners'>,
): AdminCaller => {
  const { keyId, tenant, scopes, scope_owners } = caller;
  return { keyId, tenant, scopes, scope_owners, root: false };
};
