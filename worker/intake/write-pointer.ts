import type { AdapterManifest } from '../../protocol/index.ts';
import type { VersionRow } from '../stores/types.ts';
import type { IntakeDeps } from './intake-deps.ts';

/** A name that flips faster than it can be written is left to the one who flipped last. */
const MAX_TRIES = 3;

export function manifestOf(row: VersionRow): AdapterManifest {
  const { name, version, digest, chain, chainId, owner, base, bytes, rank, createdAt } = row;
  return { name, version, digest, chain, chainId, owner, base, bytes, rank, createdAt };
}

/** Copies the live version from the system of record to the index that the hot path reads. */
export async function writePointer(
  deps: Pick<IntakeDeps, 'registry' | 'names'>,
  name: string,
): Promise<void> {
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const live = await deps.registry.live(name);
    if (live === null) return;
    await deps.names.put(manifestOf(live));
    // Someone may have flipped it while we wrote; then ours may have landed on top of theirs.
    if ((await deps.registry.name(name))?.version === live.version) return;
  }
}
