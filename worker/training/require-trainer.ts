/** Lets keys with the right to train in. */
import { createMiddleware } from 'hono/factory';
import type { ApiError } from '../../protocol/api-error.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import { presentedKeyHash } from '../access/page-requests.ts';
import { keyIdOf, type KeyRow } from '../access/ports.ts';
import { fail, type AppEnv } from '../http/request.ts';
import type { Trainer } from './ports.ts';

export interface TrainerDeps {
  keyLedger: KeyLedger;
  /** Unix ms. */
  now: () => number;
}

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not send files or start fine-tuning jobs. Ask an admin of your tenant to give it that right: ' +
    'graft keys change <id> --train.',
};

export const trainerOfRow = (row: KeyRow): Trainer => {
  const { id: keyId, tenant, scopes, scope_owners, limits, tenant_limits: ofTenant, counter } = row;
  const limited = {
    keyId,
    tenant,
    counter,
    ...(limits === null ? {} : { limits }),
    ...(ofTenant === null ? {} : { tenant_limits: ofTenant }),
  };
  return { keyId, tenant, scopes, scope_owners, root: false, limited };
};

/** After `requireKey`: the right is read from D1, never from KV. */
export const requireTrainer = ({ keyLedger, now }: TrainerDeps) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const { tenant } = context.get('caller');
    const hash = await presentedKeyHash(context);
    const row = await keyLedger.get(keyIdOf(hash));
    const isGood =
      row !== null &&
      row.hash === hash &&
      row.tenant === tenant &&
      row.kind === 'api' &&
      row.revoked_at === null &&
      (row.expires_at === null || row.expires_at > now());
    if (!isGood || !row.train) return fail(NO_RIGHT);
    context.set('trainer', trainerOfRow(row));
    await next();
    return undefined;
  });
