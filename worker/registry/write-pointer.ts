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

/** What KV holds of a name; null where it is to hold nothing. An experiment is part of it only while it is live. */
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

/** What KV holds of an experiment, of one that has ended too: whoever has an old manifest learns it from here. */
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
    logLine('pointer_not_written', { name, reason: error.message });
    return err(
      registryUnavailable(
        RETRY_AFTER_MS,
        `The change of '${name}' is recorded, but not served yet: its pointer could not be written. ` +
          `Repeat the ${what}; nothing is done twice.`,
      ),
    );
  }
}

/**
 * Writes a page of the pointers that KV is still to be told of, because whoever changed their names died before that, or
 * because what they lead to was withdrawn. The writer strikes off what it has written; what fails is left for the next
 * time.
 * @param params.newest what changed last comes first, else the oldest.
 * @throws StoreUnavailable when the system of record does not answer.
 */
export async function syncStalePointers(
  deps: { registry: Registry; pointers: PointerWriter },
  params: { limit: number; newest: boolean },
): Promise<void> {
  const stale = await deps.registry.stalePointers(params);
  for (let at = 0; at < stale.length; at += STALE_POINTERS_AT_ONCE) {
    const page = stale.slice(at, at + STALE_POINTERS_AT_ONCE);
    await Promise.all(page.map((pointer) => sync(deps.pointers, pointer)));
  }
}

/**
 * Brings what a name's removal or restoration has changed to the index: its own pointer, and those of what stands on it.
 * @param params.name whose pointer changes; null = of single versions, which are never live. @returns the answer.
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
