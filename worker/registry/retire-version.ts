import { err, ok, type ApiError, type Result, type RetireRequest } from '../../protocol/index.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import { MAX_DEPENDENTS_TOLD, STALE_POINTERS_OF_RETIREMENT } from './limits.ts';
import type { ExperimentLedger } from '../experiments/ports.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { Stopped } from './ports-rooms.ts';
import type { VersionRow } from './ports.ts';
import { changed, ownName } from './own-name.ts';
import type { IntakeDeps } from './registry-deps.ts';

import { syncStalePointers } from './write-pointer.ts';

export type Retired = VersionRow & { retiredAt: number; stops: Stopped };

/**
 * Takes a version out of use: it can neither be asked for nor made live any more, and stays in the history. Not the
 * live one, none that another version in use of the same owner was made on top of, and none that an experiment of theirs
 * names. What others have made with it does not stand in the way, as it does not when a grant is taken back: it is not
 * served any more, and counted here, never named.
 */
export async function retireVersion(
  deps: Pick<IntakeDeps, 'registry' | 'pointers' | 'now'> & {
    experimentLedger: Pick<ExperimentLedger, 'using'>;
  },
  params: { request: RetireRequest; caller: AdminCaller },
): Promise<Result<Retired, ApiError>> {
  const { request, caller } = params;
  const { name, version } = request;
  const what = `${name}@${version}`;
  const before = await ownName(deps, { name, caller, what });
  if (!before.ok) return before;
  const row = await deps.registry.version(name, version);
  if (row === null) return err(adapterNotFound(what));
  // Also of one that is retired: an earlier attempt may have ended before its pointers.
  const limit = STALE_POINTERS_OF_RETIREMENT;
  if (row.retiredAt !== null) {
    if (request.dry_run !== true) await syncStalePointers(deps, { limit, newest: true });
    return ok({ ...row, retiredAt: row.retiredAt, stops: { versions: 0, experiments: 0 } });
  }
  if (before.value.version === version)
    return err(conflict(`'${what}' is live. Make another version live before it is retired.`));
  const children = await deps.registry.dependents(row, MAX_DEPENDENTS_TOLD + 1);
  if (children.length > 0) return err(conflict(inUse(what, children)));
  const experiments = await deps.experimentLedger.using({ name, version, owner: row.owner });
  if (experiments.length > 0) return err(conflict(tested(what, experiments)));
  const stops = await deps.registry.stops(row);
  const at = deps.now();
  if (request.dry_run === true) return ok({ ...row, retiredAt: at, stops });
  const note = { actor: caller.keyId, at, why: request.why ?? null };
  const retired = await deps.registry.retire({ before: before.value, version, digest: row.digest, ...note });
  if (!retired.ok) return err(changed(name, retired.error.name));
  await syncStalePointers(deps, { limit, newest: true });
  return ok({ ...row, retiredAt: at, stops });
}

function tested(what: string, experiments: readonly string[]): string {
  const told = experiments.slice(0, MAX_DEPENDENTS_TOLD).join("', '");
  return `'${what}' cannot be retired: experiment '${told}' names it. Archive the experiment first.`;
}

function inUse(what: string, children: readonly { name: string; version: number }[]): string {
  const told = children.slice(0, MAX_DEPENDENTS_TOLD).map(({ name, version }) => `${name}@${version}`);
  const more = children.length > MAX_DEPENDENTS_TOLD ? ' and others' : '';
  return `'${what}' cannot be retired: ${told.join(', ')}${more} ${children.length === 1 ? 'was' : 'were'} made on top of it. Retire what stands on it first.`;
}
