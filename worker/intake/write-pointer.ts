import { err, ok, type AdapterManifest, type ApiError, type Result } from '../../protocol/index.ts';
import { StoreUnavailable, type PointerWriter, type VersionRow } from '../stores/types.ts';
import { unavailable } from './intake-deps.ts';

export function manifestOf(row: VersionRow): AdapterManifest {
  const { name, version, digest, chain, chainId, owner, base, bytes, rank, createdAt } = row;
  return { name, version, digest, chain, chainId, owner, base, bytes, rank, createdAt };
}

/**
 * Brings a change that the registry has to the index that the hot path reads.
 * @param params.what to repeat, such as `publish`, when that fails now; it is made up for later in any case.
 */
export async function writePointer(
  deps: { pointers: PointerWriter },
  params: { name: string; what: string },
): Promise<Result<null, ApiError>> {
  const { name, what } = params;
  try {
    await deps.pointers.sync(name);
    return ok(null);
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    console.error(JSON.stringify({ event: 'pointer_not_written', name, reason: error.message }));
    return err(
      unavailable(
        `The change of '${name}' is recorded, but not served yet: its pointer could not be written. ` +
          `Please repeat the ${what}; nothing is done twice.`,
      ),
    );
  }
}
