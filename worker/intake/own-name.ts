import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import type { AdminCaller, NameRow, Registry } from '../stores/types.ts';

const notFound = (what: string): ApiError => ({
  code: 'model_not_found',
  message: `'${what}' does not exist or you do not have access to it.`,
});

/**
 * The name as it is now, when it is the caller's to change; unknown and another's come out alike.
 * @param params.what as the error names it; the name unless given.
 */
export async function ownName(
  deps: { registry: Registry },
  params: { name: string; caller: AdminCaller; what?: string },
): Promise<Result<NameRow, ApiError>> {
  const { name, caller, what = name } = params;
  const row = await deps.registry.name(name);
  return row !== null && (caller.root || row.owner === caller.tenant) ? ok(row) : err(notFound(what));
}

/**
 * A name belongs to who published it first, and so does the room below it.
 * @param params.owner tenant that is to own the name; null = the caller's. Only the bootstrap key may name another.
 * @param params.before the name as it is.
 * @returns who will own it.
 */
export async function mayName(
  deps: { registry: Registry },
  params: { name: string; owner: string | null; caller: AdminCaller; before: NameRow | null },
): Promise<Result<string, ApiError>> {
  const { name, caller, before } = params;
  const forbidden = err<ApiError>({
    code: 'insufficient_scope',
    message: `This key may not publish '${name}'.`,
  });
  if (caller.root) {
    const owner = params.owner ?? before?.owner ?? caller.tenant;
    return before !== null && before.owner !== owner ? forbidden : ok(owner);
  }
  if ((params.owner ?? caller.tenant) !== caller.tenant) return forbidden;
  let nearest = before;
  for (let path = name; nearest === null && path.includes('/');) {
    path = path.slice(0, path.lastIndexOf('/'));
    nearest = await deps.registry.name(path);
  }
  return nearest !== null && nearest.owner !== caller.tenant ? forbidden : ok(caller.tenant);
}
