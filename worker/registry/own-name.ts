import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import { mayTake, takenAmong } from './claims.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { NameRow, Registry, VersionRow } from './ports.ts';

/**
 * The current name, if the caller may change it. Unknown names and others' give the same error.
 * @param params.what how the error names it; default: the name.
 * @param params.removed also finds a removed name.
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
  /** The name's owner, now or after the request. */
  owner: string;
  /** For the registry: tenant for which a new name must still be free when it is taken; null = no check. */
  claimant: string | null;
  /** For the operator, who may take any name. */
  notice: string | null;
}

/**
 * May the caller publish under this name, or make it an alias? Checked before anything else in a request. All
 * refusals get the same error, which does not reveal who owns the name, the room or a name below.
 * @param params.owner tenant that will own the name; null = the caller's. Only the bootstrap key may name
 * another.
 * @param params.before the current name.
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

/**
 * A version of a name that the caller owns, by default the live one. Unknown names and others' give the same
 * error.
 */
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

/** Somebody else changed the name, or the caller has an outdated state. */
export const changed = (name: string, now: NameRow | null): ApiError =>
  conflict(
    `'${name}' has changed: its live version is ${now?.version ?? 'none'}, its newest ` +
      `${now?.latest ?? 'none'}. Check it and try again.`,
  );
