import { err, ok, type ApiError, type PublishRequest, type Result } from '../../protocol/index.ts';
import { adapterInvalid } from '../errors.ts';
import { changed } from './change-conflict.ts';
import type { NameRow, Registry, VersionRow } from './ports.ts';
import { unlessDamaged } from './repair-rows.ts';

type Wish = Pick<PublishRequest, 'name' | 'stage' | 'expect'>;
type Wanted = Pick<VersionRow, 'name' | 'digest' | 'chainId'>;

/**
 * What need not be tried: a repeat, or what cannot follow on the name as it is.
 * @returns the version that is there already, or null when it would be a new one.
 */
export async function settle(
  deps: { registry: Registry },
  params: { request: Wish; row: Wanted; before: NameRow | null },
): Promise<Result<{ row: VersionRow; name: NameRow } | null, ApiError>> {
  const { request, row, before } = params;
  if (before?.alias != null)
    return err(
      adapterInvalid(
        'name_is_alias',
        `'${request.name}' stands for '${before.alias}'. Take the alias away before something is published here.`,
        'name',
      ),
    );
  const same = before === null ? null : await sameVersion(deps, row, before, request.stage ?? false);
  if (same !== null && before !== null) return ok({ row: same, name: before });
  const expect = request.expect ?? null;
  return expect !== null && expect !== (before?.version ?? 0) ? err(changed(request.name, before)) : ok(null);
}

/** The newest version, when publishing again would only repeat it. */
async function sameVersion(
  deps: { registry: Registry },
  row: Wanted,
  before: NameRow,
  stage: boolean,
): Promise<VersionRow | null> {
  if (!stage && before.version !== before.latest) return null;
  // One that cannot be read is not repeated, but followed.
  const latest = await unlessDamaged(deps.registry.version(row.name, before.latest));
  if (latest === null || latest === 'damaged' || latest.retiredAt !== null || latest.withdrawnAt !== null)
    return null;
  return latest.digest === row.digest && latest.chainId === row.chainId ? latest : null;
}
