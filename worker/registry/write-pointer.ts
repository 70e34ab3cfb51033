import type { AdapterManifest, NameEntry } from '../../protocol/adapter-manifest.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { BASE_JUDGE, isLive } from '../../protocol/experiment.ts';
import { registryUnavailable } from '../errors.ts';
import type { ExperimentEntry } from '../experiments/ports.ts';
import { RETRY_AFTER_MS } from '../limits.ts';
import { logLine, reasonOf } from '../log.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import { STALE_POINTERS_AT_ONCE, STALE_POINTERS_OF_RETIREMENT } from './limits.ts';
import type {
  PointerWriter,
  PointedExperiment,
  Pointer,
  VersionRow,
  Registry,
  StalePointer,
} from './ports.ts';

export function manifestOf(row: VersionRow): AdapterManifest {
  const { name, version, digest, chain, chainId, owner, base, bytes, rank, createdAt } = row;
  const withdrawn = row.retiredAt !== null || row.withdrawnAt !== null;
  return {
    ...{ name, version, digest, chain, chainId, owner, base, bytes, rank, createdAt },
    ...(withdrawn ? { withdrawn } : {}),
  };
}

/** A name's value in KV; null if it has none. Contains an experiment only while it is live. */
export function nameEntryOf(name: string, pointer: Pointer): NameEntry | null {
  if (pointer.kind === 'alias') return { name, alias: pointer.target };
  if (pointer.kind !== 'version') return null;
  const { row, experiment, strict } = pointer;
  const live = experiment !== undefined && isLive(experiment.document);
  return {
    ...manifestOf(row),
    ...(live ? { experiment: experiment.id } : {}),
    ...(strict ? { strict } : {}),
  };
}

/** An experiment's value in KV, also when it has ended: readers with an old manifest learn that from it. */
export function experimentEntryOf({ id, owner, document, versions }: PointedExperiment): ExperimentEntry {
  const manifests = new Map(versions.map((row) => [`${row.name}@${row.version}`, manifestOf(row)]));
  const of = (adapter: string): AdapterManifest => {
    const manifest = manifests.get(adapter);
    if (manifest === undefined) throw new Error(`experiment ${id} uses '${adapter}', which does not exist`);
    return manifest;
  };
  const { variants, shadow, judge } = document;
  return {
    id,
    owner,
    document,
    adapters: Object.fromEntries(variants.map(({ key, adapter }) => [key, of(adapter)])),
    ...(shadow === undefined ? {} : { shadow: of(shadow.adapter) }),
    ...(judge?.model === undefined || judge.model === BASE_JUDGE ? {} : { judge: of(judge.model) }),
  };
}

/**
 * Writes a change of the registry to the hot path's index.
 * @param params.what to retry, such as `publish`, if that fails now; it is retried in the background anyway.
 * @param params.as how to repeat it so that nothing is done twice; default: unchanged.
 */
export async function writePointer(
  deps: { pointers: PointerWriter },
  params: { name: string; what: string; as?: string },
): Promise<Result<null, ApiError>> {
  const { name, what, as } = params;
  try {
    await deps.pointers.sync(name);
    return ok(null);
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    logLine('pointer_not_written', { name, reason: error.message });
    return err(
      registryUnavailable(
        RETRY_AFTER_MS,
        `The change of '${name}' is recorded, but not served yet: its pointer could not be written. ` +
          `Repeat the ${what}${as === undefined ? '' : ` ${as}`}; nothing is done twice.`,
      ),
    );
  }
}

/**
 * Writes a page of stale pointers: a request died before writing them, or their target was withdrawn. The
 * writer clears the notes of what it has written; failures are left for the next run.
 * @param params.newest starts with the latest changes, otherwise with the oldest.
 * @returns how many were stale.
 * @throws StoreUnavailable if the system of record does not respond.
 */
export async function syncStalePointers(
  deps: { registry: Registry; pointers: PointerWriter },
  params: { limit: number; newest: boolean },
): Promise<number> {
  const stale = await deps.registry.stalePointers(params);
  for (let at = 0; at < stale.length; at += STALE_POINTERS_AT_ONCE) {
    const page = stale.slice(at, at + STALE_POINTERS_AT_ONCE);
    await Promise.all(page.map((pointer) => sync(deps.pointers, pointer)));
  }
  return stale.length;
}

/**
 * Writes the pointers that a removal or restoration has changed: the name's own, and those of what is built
 * on it.
 * @param params.name whose pointer changes; null = single versions, which are never live.
 * @returns the response.
 */
export async function servedAnew<T>(
  deps: { registry: Registry; pointers: PointerWriter },
  { name, what }: { name: string | null; what: string },
  answer: T,
): Promise<Result<T, ApiError>> {
  const written = name === null ? ok(null) : await writePointer(deps, { name, what });
  if (!written.ok) return written;
  await syncStalePointers(deps, { limit: STALE_POINTERS_OF_RETIREMENT, newest: true });
  return ok(answer);
}

async function sync(pointers: PointerWriter, { name }: StalePointer): Promise<void> {
  try {
    await pointers.sync(name);
  } catch (error) {
    const reason = reasonOf(error);
    logLine('pointer_not_written', { name, reason });
  }
}
