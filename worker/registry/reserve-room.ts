import {
  err,
  ok,
  type ApiError,
  type ReservedRoom,
  type ReserveRequest,
  type Result,
} from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { Registry } from './ports.ts';

interface Deps {
  registry: Pick<Registry, 'around' | 'reserve' | 'release'>;
  now: () => number;
}

const operatorOnly = (caller: AdminCaller): Result<null, ApiError> =>
  caller.root
    ? ok(null)
    : err({ code: 'insufficient_scope', message: 'Only the bootstrap key reserves rooms for tenants.' });

/**
 * Reserves a name and all below it. What exists there stays its owners', and so does what they publish below it: the
 * nearest name or room decides.
 */
export async function reserveRoom(
  deps: Deps,
  params: { request: ReserveRequest; caller: AdminCaller },
): Promise<Result<ReservedRoom & { created: boolean }, ApiError>> {
  const { request, caller } = params;
  const allowed = operatorOnly(caller);
  if (!allowed.ok) return allowed;
  const { name, tenant, why = null } = request;
  const { own, above, below } = await deps.registry.around(name);
  const from = above?.by === 'room' && above.path === name ? above.owner : null;
  const others = [...new Set([...(own === null ? [] : [own]), ...below])].filter((owner) => owner !== tenant);
  const notice =
    others.length === 0
      ? {}
      : { notice: `What exists at or below '${name}' already stays that of '${others.join("', '")}'.` };
  const answer: ReservedRoom = { name, tenant, from, ...notice };
  if (request.dry_run === true) return ok({ ...answer, created: false });
  const note = { actor: caller.keyId, at: deps.now(), why };
  return ok({ ...answer, created: await deps.registry.reserve({ name, tenant, ...note }) });
}

/** Ends a reservation. Error: `not_found` when there is none. */
export async function releaseRoom(
  deps: Deps,
  params: { name: string; caller: AdminCaller },
): Promise<Result<null, ApiError>> {
  const { name, caller } = params;
  const allowed = operatorOnly(caller);
  if (!allowed.ok) return allowed;
  const released = await deps.registry.release({ name, actor: caller.keyId, at: deps.now() });
  return released ? ok(null) : err({ code: 'not_found', message: `'${name}' is not reserved for anybody.` });
}
