import {
  err,
  ok,
  type AdapterManifest,
  type ApiError,
  type NameEntry,
  type Result,
} from '../../protocol/index.ts';
import { registryUnavailable, modelWithdrawn } from '../errors.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { manifestOf, nameEntryOf } from '../registry/write-pointer.ts';
import { ancestorsOf, decoyOf } from '../registry/claims.ts';
import { type ModelReference } from './kinds.ts';
import type { BulkIndex, Index, Lookup } from '../platform/ports.ts';
import type { Caller } from '../access/ports.ts';
import type { HeldGrants } from '../access/ports-grants.ts';
import type { VersionRow } from '../registry/ports.ts';
import { createCallerRights, type CallerRights } from '../access/authenticate.ts';
import { logLine } from '../log.ts';
import type { TakeDropOnMiss } from '../drops/take-drops.ts';
import type { AbsenceCheck } from '../registry/ports-pointers.ts';

interface SeeDeps {
  absence: AbsenceCheck;
  /** Takes in what was dropped for a name that does not exist. */
  takeDropOnMiss?: TakeDropOnMiss;
}

/** An adapter that the caller may use, with the whole chain. */
export interface FoundAdapter {
  manifest: AdapterManifest;
  /** The name that was asked for, when it only points at the adapter's. */
  alias: string | null;
  /** Read from memory, because the registry does not answer. */
  stale: boolean;
}

/**
 * What a name is to the caller. `unusable`: unknown and forbidden come out alike; `known` is of a name which the caller may
 * know of, though it may not use the whole chain.
 */
type Seen =
  | { kind: 'usable'; adapter: FoundAdapter }
  | { kind: 'unusable'; known: Pick<AdapterManifest, 'owner' | 'base'> | null }
  /** `unread`: it is not even known what the name means. `manifest`: what the caller might be allowed to use. */
  | { kind: 'trouble'; error: ApiError; unread: boolean; manifest: AdapterManifest | null };

const unread = (lookup: Extract<Lookup<never>, { state: 'trouble' }>): Seen => {
  logLine('name_lookup_trouble', { reason: lookup.reason });
  return { kind: 'trouble', error: registryUnavailable(lookup.retryAfterMs), unread: true, manifest: null };
};

/**
 * Finds out what a name is to the caller. What the caller may use is settled by the first reads. Else the same is asked
 * in the same order whether the name is missing or forbidden, an alias or not: the name, the grants, what an alias
 * stands for, the system of record, what was dropped; in place of what there is no cause to ask, a name that nobody can
 * have. So nobody can time which it is.
 */
async function seeName(
  deps: SeeDeps,
  params: {
    name: string;
    /** What the index says of it. */
    lookup: Lookup<NameEntry>;
    rights: CallerRights;
    /** What the index says of the name that an alias stands for, or of the decoy; read when it is called. */
    second: () => Promise<Lookup<NameEntry>>;
    /** null = nothing that was dropped is taken in for this name. */
    life: RequestLife | null;
  },
): Promise<Seen> {
  const { name, lookup, rights, second, life } = params;
  if (lookup.state === 'trouble') return unread(lookup);
  const entry = lookup.state === 'found' ? lookup.value : null;
  let adapter: FoundAdapter | null = null;
  let seen: Seen | null = null;
  if (lookup.state === 'found' && !('alias' in lookup.value)) {
    adapter = { manifest: lookup.value, alias: null, stale: lookup.stale };
    seen = await judge(rights, adapter);
    if (seen.kind === 'usable') return seen;
  } else await rights.asIfForbidden();
  const behind = await second();
  if (lookup.state === 'found' && entry !== null && 'alias' in entry) {
    if (behind.state === 'trouble') return unread(behind);
    adapter = behindAlias(name, behind, lookup.stale);
    seen = adapter === null ? null : await judge(rights, adapter);
    if (seen?.kind === 'usable') return seen;
  }
  if (adapter === null) {
    adapter = await fromRecord(deps.absence, name, entry);
    if (adapter !== null) seen = await judge(rights, adapter);
    if (seen?.kind === 'usable') return seen;
  } else await deps.absence.pretend(name);
  if (life !== null) {
    const pretend = adapter === null && entry === null ? undefined : { decoy: decoyOf(name) };
    const dropped = await deps.takeDropOnMiss?.(name, life, pretend);
    if (dropped && pretend === undefined)
      seen = await judge(rights, { manifest: dropped, alias: null, stale: false });
  }
  if (seen !== null) return seen;
  const grants = await rights.asIfForbidden();
  return grants.ok
    ? { kind: 'unusable', known: null }
    : { kind: 'trouble', error: grants.error, unread: false, manifest: null };
}

/** What the caller may do with an adapter. */
async function judge(rights: CallerRights, adapter: FoundAdapter): Promise<Seen> {
  const { manifest } = adapter;
  const decided = await rights.allow(manifest);
  if (!decided.ok) return { kind: 'trouble', error: decided.error, unread: false, manifest };
  if (decided.value.allowed)
    return { kind: 'usable', adapter: { ...adapter, stale: adapter.stale || decided.value.stale } };
  return { kind: 'unusable', known: (await rights.knows(manifest)) ? manifest : null };
}

/**
 * @returns null also for an alias of an alias: it cannot be made, so one that is read is out of date, and the system of
 * record knows better.
 */
const behindAlias = (alias: string, target: Lookup<NameEntry>, stale: boolean): FoundAdapter | null =>
  target.state === 'found' && !('alias' in target.value)
    ? { manifest: target.value, alias, stale: stale || target.stale }
    : null;

/** What the system of record says of a name that the index does not have, or of what the alias stands for. */
async function fromRecord(
  absence: AbsenceCheck,
  name: string,
  entry: NameEntry | null,
): Promise<FoundAdapter | null> {
  const alias = entry !== null && 'alias' in entry ? entry.alias : null;
  const confirmed = await confirm(absence, alias ?? name);
  if (confirmed === null || !('alias' in confirmed))
    return confirmed && { manifest: confirmed, alias: alias === null ? null : name, stale: false };
  if (alias !== null) return null;
  const target = await confirm(absence, confirmed.alias);
  return target === null || 'alias' in target ? null : { manifest: target, alias: name, stale: false };
}

async function confirm(absence: AbsenceCheck, name: string): Promise<NameEntry | null> {
  const confirmed = await absence.confirm(name);
  return confirmed.state === 'found' ? nameEntryOf(name, confirmed.value) : null;
}

export interface FindDeps extends SeeDeps {
  names: BulkIndex<NameEntry>;
  grants: Index<HeldGrants>;
  /** By `name@version`. */
  versions: Index<VersionRow>;
}

/**
 * Which ancestors may answer for a name: besides the caller's own tenant's, those of the owner of the nearest name that
 * exists on the way up; and those for that name's base. null = there is a name, of an owner or a base that nobody can
 * tell; undefined = no name was met yet.
 */
export interface Kin {
  owner: string | null | undefined;
  base: string | null | undefined;
}

/** Of a name that does not exist, as far as the caller may know. */
export const STRANGER: Kin = { owner: undefined, base: undefined };

export const kinOf = ({ owner, base }: Pick<AdapterManifest, 'owner' | 'base'>): Kin => ({
  owner,
  base: base.id,
});

/** `unusable`: unknown and forbidden come out alike. `trouble` is never taken for either. `withdrawn`: the caller may use it, but nobody is served it. */
export type NotFound =
  | { kind: 'unusable'; kin: Kin }
  | { kind: 'trouble'; error: ApiError }
  | { kind: 'withdrawn'; error: ApiError };

type Named = Extract<ModelReference, { kind: 'name' | 'version' }>;
type Found = Result<FoundAdapter, NotFound>;

export interface Finder {
  /** The very adapter that is named. @param lookup what `names` said of it, when it has been asked. */
  exact(reference: Named, lookup?: Lookup<NameEntry> | null): Promise<Found>;
  /**
   * The nearest ancestors of the name that the caller may use, nearest first, at most `limit`; not empty. They end below
   * one that is strict, below one that cannot be read now, which may be, and below one that is neither the caller's own
   * nor the kin's, and below one for another base: nobody's adapter answers for a name among somebody else's, and no
   * base for another.
   * @param options.kin of the name itself.
   * @param options.skipTrouble goes past ancestors of which nobody can tell now whether the caller may use them.
   */
  ancestors(
    name: string,
    options: { limit: number; skipTrouble: boolean; kin: Kin },
  ): Promise<Result<FoundAdapter[], NotFound>>;
  /** May the caller use this chain? */
  allows: CallerRights['allow'];
}

const unusable = (kin: Kin): Result<never, NotFound> => err({ kind: 'unusable', kin });
const trouble = (error: ApiError): Result<never, NotFound> => err({ kind: 'trouble', error });

/** The name whose entry is read second: what an alias stands for, or one that nobody can have. */
const behind = (name: string, lookup: Lookup<NameEntry>): string =>
  lookup.state === 'found' && 'alias' in lookup.value ? lookup.value.alias : decoyOf(name);

/** Looks adapters up for one caller and one request. */
export function createFinder(deps: FindDeps, caller: Caller, life: RequestLife): Finder {
  const rights = createCallerRights(deps.grants, caller);

  /** All ancestors in one read, and, only when it is needed, all that is behind them in one more. */
  async function* climb(name: string): AsyncGenerator<Seen> {
    const paths = ancestorsOf(name);
    const lookups = await deps.names.getMany(paths);
    let reading: Promise<Lookup<NameEntry>[]> | undefined;
    const seconds = () =>
      (reading ??= deps.names.getMany(paths.map((path, i) => behind(path, lookups[i] as Lookup<NameEntry>))));
    for (const [i, path] of paths.entries()) {
      const second = async () => (await seconds())[i] as Lookup<NameEntry>;
      yield await seeName(deps, {
        ...{ name: path, lookup: lookups[i] as Lookup<NameEntry>, rights, second },
        life: null,
      });
    }
  }

  return {
    allows: rights.allow,

    async exact(reference, known) {
      if (reference.kind === 'name') {
        const { name } = reference;
        const lookup = known ?? (await deps.names.get(name));
        const second = () => deps.names.get(behind(name, lookup));
        return foundOf(await seeName(deps, { name, lookup, rights, second, life }));
      }
      const pinned = await deps.versions.get(`${reference.name}@${reference.version}`);
      if (pinned.state === 'trouble') {
        logLine('version_lookup_trouble', { reason: pinned.reason });
        return trouble(registryUnavailable(pinned.retryAfterMs));
      }
      if (pinned.state === 'found' && pinned.value.retiredAt === null)
        return foundOf(
          await judge(rights, { manifest: manifestOf(pinned.value), alias: null, stale: pinned.stale }),
        );
      const read = await rights.asIfForbidden();
      return read.ok ? unusable(STRANGER) : trouble(read.error);
    },

    async ancestors(name, { limit, skipTrouble, kin }) {
      let { owner, base } = kin;
      const found: FoundAdapter[] = [];
      for await (const seen of climb(name)) {
        // It may be the caller's nearest, or strict: a farther one is not to stand in for it.
        if (seen.kind === 'trouble' && (seen.unread || seen.manifest?.strict === true || !skipTrouble))
          return found.length > 0 ? ok(found) : trouble(seen.error);
        const met = knownOf(seen);
        if (met === null) continue;
        if (met.owner !== caller.tenant && owner !== undefined && met.owner !== owner) break;
        if (base !== undefined && met.base.id !== base) break;
        if (owner === undefined) owner = met.owner;
        base = met.base.id;
        if (seen.kind !== 'usable') continue;
        if (seen.adapter.manifest.strict === true) break;
        if (seen.adapter.manifest.withdrawn === true) continue;
        found.push(seen.adapter);
        if (found.length >= limit) break;
      }
      return found.length > 0 ? ok(found) : unusable({ owner, base });
    },
  };
}

function foundOf(seen: Seen): Found {
  if (seen.kind === 'usable') {
    const { manifest, alias } = seen.adapter;
    if (manifest.withdrawn !== true) return ok(seen.adapter);
    return err({ kind: 'withdrawn', error: modelWithdrawn(alias ?? manifest.name) });
  }
  if (seen.kind === 'trouble') return trouble(seen.error);
  return unusable(seen.known === null ? STRANGER : kinOf(seen.known));
}

/** What a name holds that the caller may know of; null = of none. */
function knownOf(seen: Seen): Pick<AdapterManifest, 'owner' | 'base'> | null {
  if (seen.kind === 'unusable') return seen.known;
  return seen.kind === 'usable' ? seen.adapter.manifest : seen.manifest;
}
