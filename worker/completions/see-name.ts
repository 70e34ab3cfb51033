import type { AdapterManifest, ApiError, NameEntry } from '../../protocol/index.ts';
import { registryUnavailable } from '../errors.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import type { TakeDropOnMiss } from '../drops/take-drop-on-miss.ts';
import { nameEntryOf } from '../registry/write-pointer.ts';
import { decoyOf } from './resolve-name.ts';
import type { AbsenceCheck } from '../registry/ports-pointers.ts';
import type { Lookup } from '../platform/ports.ts';
import type { CallerRights } from '../access/caller-rights.ts';
import { logLine } from '../log.ts';

export interface SeeDeps {
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
export type Seen =
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
export async function seeName(
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
export async function judge(rights: CallerRights, adapter: FoundAdapter): Promise<Seen> {
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
