import { AdapterName, sha256Hex, type ApiError, type Result } from '../../protocol/index.ts';
import { adapterInvalid } from '../errors.ts';
import type { DropBox, DropLedger, DropRow } from './ports.ts';
import type { VersionRow } from '../registry/ports.ts';
import type { MayUseChain } from '../registry/assemble-chain.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { publishVersion } from '../registry/publish-version.ts';
import { storeDrop, type DroppedFile, type StoreDropDeps } from './store-drop.ts';
import { DROP_SETTLE_MS, DROP_STALE_MS } from './limits.ts';

/**
 * `new`: nobody decided on this file, or it was put there again after it had gone; `known`: leave it; `settled`: it was
 * taken, and what lies there now may be removed; `last`: it was refused, and is looked at once more before it is removed,
 * since what it lacked, such as its parent, may have come meanwhile.
 */
type Recalled = { kind: 'new' } | { kind: 'known' | 'settled' | 'last'; row: DropRow };

/**
 * What a file just read from KV is. KV goes on showing what was removed or replaced for a while, elsewhere longer than
 * here: a file that has gone by our own books counts as gone only when no location can show it any more.
 * @param rows of its name, newest first. @param now unix ms.
 */
export function recallDrop(rows: readonly DropRow[], sha256: string, now: number): Recalled {
  const place = rows.findIndex((row) => row.sha256 === sha256);
  const row = rows[place];
  if (row === undefined) return { kind: 'new' };
  const followedAt = rows[place - 1]?.at ?? null;
  // To refuse once more what was refused last does no harm, so whoever brings it again need not wait.
  if (row.version === null && row.removedAt !== null && followedAt === null) return { kind: 'new' };
  const goneAt = followedAt ?? row.removedAt;
  if (goneAt !== null) return now - goneAt < DROP_STALE_MS ? { kind: 'known', row } : { kind: 'new' };
  if (now - row.at < DROP_SETTLE_MS) return { kind: 'known', row };
  return { kind: row.version === null ? 'last' : 'settled', row };
}

export interface DropDeps extends StoreDropDeps {
  drops: DropBox;
  dropLedger: DropLedger;
  mayUseChain: MayUseChain;
}

export type DropOutcome =
  | { kind: 'none' }
  /** Made a version, or is the live one already. */
  | { kind: 'taken'; row: VersionRow }
  /** The same file was decided on before. */
  | { kind: 'known'; row: DropRow }
  | { kind: 'refused'; error: ApiError }
  /** Nobody could decide on it now; it stays where it is. */
  | { kind: 'postponed'; error: ApiError };

/**
 * Takes the file under `drop:<name>` in, by the same checks as a publication. What became of it is kept, so that the
 * same file is taken once, however often it is seen. It is removed from KV only when it is seen again, the same, after
 * every cached copy has ended: a read right after the first one would say nothing about what lies there now.
 * @throws StoreUnavailable
 */
export async function takeDrop(
  deps: DropDeps,
  params: { name: string; life: RequestLife },
): Promise<DropOutcome> {
  const { name, life } = params;
  const legal = AdapterName.safeParse(name);
  if (!legal.success) {
    const problem = legal.error.issues[0]?.message ?? 'illegal';
    const error = adapterInvalid('name_invalid', `The name after "drop:" is not legal: ${problem}.`, 'name');
    await deps.drops.putError(name, { ...told(error), at: deps.now(), retrying: false });
    await deps.drops.remove(name);
    return { kind: 'refused', error };
  }
  const stored = await readDrop(deps, name);
  if (stored.kind !== 'new') return stored;
  const { sha256, last } = stored;
  const published = stored.file.ok
    ? await publishVersion(deps, {
        request: { name, digest: sha256, parent: stored.file.value.parent },
        caller: stored.file.value.caller,
        life,
        action: 'drop',
      })
    : stored.file;
  const at = deps.now();
  if (published.ok) {
    const { row } = published.value;
    await deps.dropLedger.put({ name, sha256, version: row.version, at, removedAt: null });
    await deps.drops.clearError(name);
    return { kind: 'taken', row };
  }
  const { error } = published;
  const retrying = mayPass(error);
  await deps.drops.putError(name, { ...told(error), at, retrying });
  if (retrying) return { kind: 'postponed', error };
  if (last) await deps.drops.remove(name);
  await deps.dropLedger.put({ name, sha256, version: null, at, removedAt: last ? at : null });
  return { kind: 'refused', error };
}

const told = (error: ApiError) => ({
  code: error.code,
  ...('reason' in error && error.reason !== undefined ? { reason: error.reason } : {}),
  message: error.message,
});

/** The same file may be taken later, without anybody having done anything to it. */
const mayPass = (error: ApiError): boolean =>
  ('retryAfterMs' in error && error.retryAfterMs !== null) ||
  ['version_conflict', 'deadline_exceeded', 'internal_error'].includes(error.code);

type ReadDrop =
  | DropOutcome
  /** `last`: if it is refused again, it goes. */
  | { kind: 'new'; sha256: string; last: boolean; file: Result<DroppedFile, ApiError> };

/** A function of its own: the bytes end with it, 25 MiB of an isolate's 128. */
async function readDrop(deps: DropDeps, name: string): Promise<ReadDrop> {
  const bytes = await deps.drops.read(name);
  if (bytes === null) return { kind: 'none' };
  const sha256 = await sha256Hex(bytes);
  const recalled = recallDrop(await deps.dropLedger.recent(name), sha256, deps.now());
  switch (recalled.kind) {
    case 'known':
      return { kind: 'known', row: recalled.row };
    case 'settled': {
      await deps.drops.remove(name);
      const row = { ...recalled.row, removedAt: deps.now() };
      await deps.dropLedger.put(row);
      return { kind: 'known', row };
    }
    case 'new':
    case 'last': {
      const file = await storeDrop(deps, { name, bytes, digest: sha256 });
      return { kind: 'new', sha256, last: recalled.kind === 'last', file };
    }
  }
}
