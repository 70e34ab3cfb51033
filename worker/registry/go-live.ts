import {
  err,
  ok,
  type PromoteRequest,
  type ApiError,
  type LiveAnswer,
  type Result,
} from '../../protocol/index.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { NameRow } from './ports.ts';
import { changed } from './change-conflict.ts';
import { followResidents } from './follow-residents.ts';
import type { IntakeDeps, RequestLife } from './registry-deps.ts';
import { writePointer } from './write-pointer.ts';

export type GoLiveDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'warmth' | 'now'>;

/**
 * Makes another version of a name that has been read live: whatever changed since then is a conflict. Requests that run
 * end on the version they began with.
 */
export async function goLive(
  deps: GoLiveDeps,
  params: {
    request: Omit<PromoteRequest, 'version'> & { to: number };
    caller: AdminCaller;
    life: Pick<RequestLife, 'keepAlive'>;
    before: NameRow;
    action: 'promote' | 'rollback';
  },
): Promise<Result<LiveAnswer, ApiError>> {
  const { request, caller, before, action } = params;
  const { name, to } = request;
  const row = await deps.registry.version(name, to);
  if (row === null) return err(adapterNotFound(`${name}@${to}`));
  if (row.retiredAt !== null)
    return err(conflict(`'${name}@${to}' is retired and cannot be live. Publish its file again instead.`));
  if (row.withdrawnAt !== null)
    return err(
      conflict(`'${name}@${to}' stands on an adapter that its owner has retired, and cannot be live.`),
    );
  const expect = request.expect ?? null;
  if (expect !== null && expect !== (before.version ?? 0)) return err(changed(name, before));
  const dryRun = request.dry_run ?? false;
  if (before.version !== to && !dryRun) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const flipped = await deps.registry.flip({ before, to, action, ...note });
    if (!flipped.ok) return err(changed(name, flipped.error.name));
  }
  if (!dryRun) {
    // Also when it was live already: an earlier attempt may have ended before its pointer.
    const written = await writePointer(deps, { name, what: action });
    if (!written.ok) return written;
    followResidents(deps, { from: before.version, to: row, life: params.life });
  }
  return ok({ name, version: to, from: before.version });
}
