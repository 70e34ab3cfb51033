import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import { mayTake, takenAmong } from './claims.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { NameRow, Registry, VersionRow } from './ports.ts';

/**
 * The name as it is now, when it is the caller's to change; unknown and another's come out alike.
 * @param params.what as the error names it; the name unless given.
 * @param params.removed also one that was removed.
 */
export async function ownName(
  deps: { registry: Registry },
  params: { name: string; caller: AdminCaller; what?: string; removed?: boolean },
): Promise<Result<NameRow, ApiError>> {
  const { name, caller, what = name } = params;
  const row = await deps.registry.name(name);
  const own = row !== null && (caller.root || row.owner === caller.tenant);
  return own && (row.removedAt === null || params.removed === true) ? ok(row) : err(adapterNotFound(what));
}

export interface Taken {
  /** Who owns the name, or will. */
  owner: string;
  /** For the registry: tenant for which a new name must still be free when it is taken; null = it need not be. */
  claimant: string | null;
  /** What the operator is told, who may take any name. */
  notice: string | null;
}

/**
 * May the caller publish under this name, or make it an alias? It is asked before anything else of a request is looked
 * at, and every reason why not has one answer: whose the name is, or the room, or a name below, is not told.
 * @param params.owner tenant that is to own the name; null = the caller's. Only the bootstrap key may name another.
 * @param params.before the name as it is.
 */
export async function mayName(
  deps: { registry: Registry },
  params: { name: string; owner: string | null; caller: AdminCaller; before: NameRow | null },
): Promise<Result<Taken, ApiError>> {
  const { name, caller, before } = params;
  const owner = params.owner ?? (caller.root ? (before?.owner ?? caller.tenant) : caller.tenant);
  if (before !== null)
    return before.owner === owner && (caller.root || owner === caller.tenant)
      ? ok({ owner, claimant: null, notice: null })
      : err(notFree(name));
  if (!caller.root && owner !== caller.tenant) return err(notFree(name));
  const around = await deps.registry.around(name);
  if (caller.root) return ok({ owner, claimant: null, notice: takenAmong(name, owner, around) });
  return mayTake(owner, around) ? ok({ owner, claimant: owner, notice: null }) : err(notFree(name));
}

const notFree = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `This key may not publish '${name}': the name is not available.`,
});

/** A version, the live one unless named, of a name that is the caller's; unknown and another's come out alike. */
export async function ownVersion(
  registry: Registry,
  params: { request: { name: string; version?: number | null | undefined }; caller: AdminCaller },
): Promise<Result<VersionRow, ApiError>> {
  const { request, caller } = params;
  const name = await registry.name(request.name);
  const version = request.version ?? name?.version ?? null;
  const mine = name !== null && (caller.root || name.owner === caller.tenant);
  const row = mine && version !== null ? await registry.version(request.name, version) : null;
  return row === null
    ? err(adapterNotFound(`${request.name}${request.version ? `@${request.version}` : ''}`))
    : ok(row);
}

/** Somebody else changed the name, or the caller knows an older state of it. */
export const changed = (name: string, now: NameRow | null): ApiError =>
  conflict(
    `'${name}' has changed: its live version is ${now?.version ?? 'none'}, its newest ` +
      `${now?.latest ?? 'none'}. Check it and try again.`,
  );
