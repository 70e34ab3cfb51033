/** Lets keys with the right to train in: API keys, and admin keys, as which the console asks. */
import { createMiddleware } from 'hono/factory';
import type { ApiError } from '../../protocol/api-error.ts';
import { bearer } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import { presentedKeyHash } from '../access/page-requests.ts';
import { BOOTSTRAP_CALLER, keyIdOf, type KeyRecord, type KeyRow } from '../access/ports.ts';
import { enterGate, type Gates } from '../access/rate-limits.ts';
import { requireAdmin, requireKey, type AdminKeys } from '../access/require-admin.ts';
import { fail, type AppContext, type AppEnv } from '../http/request.ts';
import type { Index } from '../platform/ports.ts';
import type { Trainer } from './ports.ts';

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

async function trainAsAdmin({ gates, keyLedger }: TrainerDeps, context: AppContext, next: Next) {
  const caller = context.get('admin');
  const row = caller.root ? null : await keyLedger.get(caller.keyId);
  const isGood = caller.root || row?.train === true;
  if (!isGood) return fail(noRight('the operator', caller.keyId));
  const entered = enterGate(gates.training, caller.tenant);
  if (!entered.ok) return fail(entered.error);
  context.set('trainer', row === null ? BOOTSTRAP_TRAINER : trainerOfRow(row));
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
  context.set('trainer', trainerOfRow(row));
  return next();
}

/** Trains for its own tenant alone, also if the key may do more elsewhere, and within the limits of key and tenant. */
export function trainerOfRow(row: KeyRow): Trainer {
  const { id: keyId, tenant, scopes, scope_owners, limits, tenant_limits: ofTenant, counter } = row;
  const limited = {
    keyId,
    tenant,
    counter,
    ...(limits === null ? {} : { limits }),
    ...(ofTenant === null ? {} : { tenant_limits: ofTenant }),
  };
  return { keyId, tenant, scopes, scope_owners, root: false, limited };
}

const { keyId, tenant, scopes } = BOOTSTRAP_CALLER;
/** Of its own tenant, without limits. */
export const BOOTSTRAP_TRAINER: Trainer = {
  ...{ keyId, tenant, scopes, root: false },
  limited: { keyId, tenant, counter: keyId },
};
