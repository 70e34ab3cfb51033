import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { adapterNotFound } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { Registry, VersionRow } from './ports.ts';

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
