import {
  err,
  ok,
  type AdapterManifest,
  type ApiError,
  type NameEntry,
  type Result,
} from '../../protocol/index.ts';
import type { RequestLife } from '../intake/intake-deps.ts';
import { manifestOf, nameEntryOf } from '../intake/write-pointer.ts';
import { ancestorsOf, registryUnavailable, type ModelReference } from '../policy/resolve-name.ts';
import type { AbsenceCheck, BulkIndex, Caller, Grant, Index, Lookup, VersionRow } from '../stores/types.ts';
import { createCallerRights, type CallerRights } from './caller-rights.ts';

export interface FindDeps {
  names: BulkIndex<NameEntry>;
  grants: Index<Grant[]>;
  absence: AbsenceCheck;
  /** By `name@version`. */
  versions: Index<VersionRow>;
  /** Takes in what was dropped for a name that does not exist. @returns its first version, or null. */
  takeDropOnMiss?: (name: string, life: RequestLife) => Promise<AdapterManifest | null>;
}

/** An adapter that the caller may use, with the whole chain. */
export interface FoundAdapter {
  manifest: AdapterManifest;
  /** The name that was asked for, when it only points at the adapter's. */
  alias: string | null;
  /** Read from memory, because the registry does not answer. */
  stale: boolean;
}

/** `unusable`: unknown and forbidden come out alike. `trouble` is never taken for either. */
export type NotFound = { kind: 'unusable' } | { kind: 'trouble'; error: ApiError };

type Named = Extract<ModelReference, { kind: 'name' | 'version' }>;
type Found = Result<FoundAdapter, NotFound>;
/** Found, but perhaps not the caller's to use. */
type Entry = FoundAdapter | { trouble: ApiError } | null;

export interface Finder {
  /** The very adapter that is named. @param lookup what `names` said of it, when it has been asked. */
  exact(reference: Named, lookup?: Lookup<NameEntry> | null): Promise<Found>;
  /**
   * The nearest ancestors of the name that the caller may use, nearest first, at most `limit`; not empty. They end below
   * one that is strict, and below one that cannot be read now, which may be.
   * @param options.skipTrouble goes past ancestors of which nobody can tell now whether the caller may use them.
   */
  ancestors(
    name: string,
    options: { limit: number; skipTrouble: boolean },
  ): Promise<Result<FoundAdapter[], NotFound>>;
  /** May the caller use this chain? */
  allows: CallerRights['allow'];
}

const unusable: Result<never, NotFound> = err({ kind: 'unusable' });
const trouble = (error: ApiError): Result<never, NotFound> => err({ kind: 'trouble', error });

/** Looks adapters up for one caller and one request. */
export function createFinder(deps: FindDeps, caller: Caller, life: RequestLife): Finder {
  const rights = createCallerRights(deps.grants, caller);

  /** @param lookup what the index says of `name`. */
  async function entryOf(name: string, lookup: Lookup<NameEntry>): Promise<Entry> {
    const first = await settle(deps.absence, name, lookup);
    if (first === null || 'trouble' in first) return first;
    const { value, stale } = first;
    if (!('alias' in value)) return { manifest: value, alias: null, stale };
    const target = await deps.names.get(value.alias);
    // An alias of an alias cannot be made, so one that is read is out of date: the system of record knows better.
    const behind = target.state === 'found' && 'alias' in target.value;
    const second = await settle(deps.absence, value.alias, behind ? { state: 'absent' } : target);
    if (second === null || 'trouble' in second || 'alias' in second.value)
      return second !== null && 'trouble' in second ? second : null;
    return { manifest: second.value, alias: name, stale: stale || second.stale };
  }

  async function decide(entry: Entry): Promise<Found> {
    if (entry !== null && 'trouble' in entry) return trouble(entry.trouble);
    if (entry === null) {
      const read = await rights.asIfForbidden();
      return read.ok ? unusable : trouble(read.error);
    }
    const decided = await rights.allow(entry.manifest);
    if (!decided.ok) return trouble(decided.error);
    return decided.value.allowed ? ok({ ...entry, stale: entry.stale || decided.value.stale }) : unusable;
  }

  return {
    allows: rights.allow,

    async exact(reference, lookup) {
      if (reference.kind === 'name') {
        const { name } = reference;
        const entry = await entryOf(name, lookup ?? (await deps.names.get(name)));
        const dropped = entry === null ? await deps.takeDropOnMiss?.(name, life) : null;
        return decide(dropped ? { manifest: dropped, alias: null, stale: false } : entry);
      }
      const pinned = await deps.versions.get(`${reference.name}@${reference.version}`);
      if (pinned.state === 'trouble') return trouble(unreadable('version', pinned));
      const usable = pinned.state === 'found' && pinned.value.retiredAt === null;
      return decide(usable ? { manifest: manifestOf(pinned.value), alias: null, stale: pinned.stale } : null);
    },

    async ancestors(name, { limit, skipTrouble }) {
      const paths = ancestorsOf(name);
      const lookups = await deps.names.getMany(paths);
      const found: FoundAdapter[] = [];
      for (const [i, path] of paths.entries()) {
        if (found.length >= limit) break;
        const entry = await entryOf(path, lookups[i] as Lookup<NameEntry>);
        if (entry === null) continue;
        const nearest = await decide(entry);
        const fence = 'trouble' in entry || entry.manifest.strict === true;
        if (nearest.ok && fence) break;
        if (nearest.ok) found.push(nearest.value);
        // The one that is in trouble may be the caller's nearest: a farther one is not to stand in for it.
        else if (nearest.error.kind === 'trouble' && (fence || !skipTrouble))
          return found.length > 0 ? ok(found) : nearest;
      }
      return found.length > 0 ? ok(found) : unusable;
    },
  };
}

function unreadable(what: string, { reason, retryAfterMs }: Extract<Lookup<never>, { state: 'trouble' }>) {
  console.error(JSON.stringify({ event: `${what}_lookup_trouble`, reason }));
  return registryUnavailable(retryAfterMs);
}

/** What is said in the end of a name: by the index, or where that has nothing, by the system of record. */
async function settle(
  absence: AbsenceCheck,
  name: string,
  lookup: Lookup<NameEntry>,
): Promise<{ value: NameEntry; stale: boolean } | { trouble: ApiError } | null> {
  if (lookup.state === 'found') return lookup;
  if (lookup.state === 'trouble') return { trouble: unreadable('name', lookup) };
  const confirmed = await absence.confirm(name);
  if (confirmed.state !== 'found') return null;
  const { value: pointer } = confirmed;
  const value = nameEntryOf(name, pointer);
  return value && { value, stale: false };
}
