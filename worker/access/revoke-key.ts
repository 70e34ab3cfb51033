import type { RevocationView } from '../../protocol/index.ts';
import { NO_SUCH_KEY } from '../errors.ts';
import { MAX_MADE_LISTED, REVOKED_PAGE } from './limits.ts';
import { fail, carryThrough } from '../http/request-scope.ts';
import type { KeptPrompts } from '../prompts/ports.ts';
import type { AdminCaller, KeyLedger, KeyRow, RevokedLine, RightsWriter } from './ports.ts';
import { keyJson } from './key-input.ts';
import type { AdminInput } from '../http/admin-route.ts';

/** Keys of other tenants do not exist. */
export async function visibleKey(
  ledger: KeyLedger,
  caller: AdminCaller,
  id: string,
  { toRevoke = false } = {},
): Promise<KeyRow | null> {
  const row = await ledger.get(id, { toRevoke });
  return row !== null && (caller.root || row.tenant === caller.tenant) ? row : null;
}

/**
 * Revokes a key: 204, or with `report=true` 200 {@link RevocationView}.
 * Whoever stole a key may have rotated it: those that it was rotated into end with it. All end in the system of record
 * in one statement; in KV a page after the other.
 */
export const revokeKeyRoute =
  (deps: {
    keyLedger: KeyLedger;
    rights: RightsWriter;
    keptPrompts: Pick<KeptPrompts, 'limit'>;
    now: () => number;
  }) =>
  async ({ context, caller, params, query }: AdminInput<'DELETE /admin/keys/:id'>): Promise<Response> => {
    const row = await visibleKey(deps.keyLedger, caller, params.id, { toRevoke: true });
    if (row === null) return fail(NO_SUCH_KEY);
    const { report, cursor } = query;
    const line = {
      id: row.id,
      successors: query.successors === 'true',
      made: query.made === 'true',
      forget: query.forget_prompts === 'true',
    };
    if (!line.successors && row.kind === 'admin' && !caller.root)
      return fail({
        code: 'insufficient_scope',
        message: 'Only the bootstrap key ends an admin key and lets what it was rotated into live.',
      });
    const done = await carryThrough<RevocationView | null>(context, () =>
      report === 'true' ? revokePage(deps, line, cursor) : revokeAll(deps, line),
    );
    return done === null ? context.body(null, 204) : context.json(done);
  };

type Deps = Parameters<typeof revokeKeyRoute>[0];

type Wanted = RevokedLine & { /** What is kept of them is deleted, too. */ forget: boolean };

async function revokeAll(deps: Deps, line: Wanted): Promise<null> {
  for (let cursor: string | null = null; ;) {
    ({ cursor } = await revokePage(deps, line, cursor));
    if (cursor === null) return null;
  }
}

async function revokePage(
  { keyLedger, rights, keptPrompts, now }: Deps,
  { forget, ...line }: Wanted,
  after: string | null,
): Promise<RevocationView> {
  await keyLedger.revoke({ ...line, at: now() });
  const [rows, made] = await Promise.all([
    keyLedger.line({ ...line, after, limit: REVOKED_PAGE }),
    line.made ? [] : keyLedger.madeBy({ id: line.id, at: now(), limit: MAX_MADE_LISTED + 1 }),
  ]);
  // Also those that were revoked before: an earlier attempt may have ended between the two stores.
  await Promise.all(rows.map(({ kind, hash }) => (kind === 'api' ? rights.syncKey(hash) : undefined)));
  const [{ tenant } = { tenant: '' }] = rows;
  if (forget && rows.length > 0)
    await keptPrompts.limit({ tenant, keyIds: rows.map(({ id }) => id), hours: null });
  return {
    id: line.id,
    revoked: rows.map(keyJson),
    made: made.slice(0, MAX_MADE_LISTED).map(keyJson),
    more_made: made.length > MAX_MADE_LISTED,
    cursor: rows.length === REVOKED_PAGE ? (rows.at(-1)?.id ?? null) : null,
  };
}
