import { adaptersOf, err, NOTHING_SAID, ok, pinOf, type Result } from '../../protocol/index.ts';
import { mayTake } from '../../worker/registry/claims.ts';
import {
  GOES_LIVE,
  type ChangeAction,
  type Conflict,
  type HistoryRow,
  type NameRow,
  type Pointer,
  type Registry,
  type VersionRow,
  type ChangeNote,
} from '../../worker/registry/ports.ts';
import type { FakeNames } from './fake-names.ts';
import { createFakeRemovals, type FakeRemoved } from './fake-removals.ts';
import { byName, createFakeRooms } from './fake-rooms.ts';

/** A state that no name is ever in: whoever saw it is refused. */
const STALE: NameRow = {
  name: '',
  owner: '',
  version: null,
  latest: 0,
  sequence: -1,
  alias: null,
  strict: false,
  about: NOTHING_SAID,
  removedAt: null,
};

/** Changes of what a name points at. The ledger of experiments notes its own. */
const POINTED: readonly ChangeAction[] = [
  'publish',
  'drop',
  'promote',
  'rollback',
  'flip',
  'alias',
  'unalias',
  'strict',
  'unstrict',
  'remove',
  'restore',
];

/** The registry as a model: what D1 must do, in a few lines. */
export function createFakeRegistry(): Registry & {
  /** Whether a version's chain has the file. */
  contains(digest: string): boolean;
  forExperiments: FakeNames;
} {
  const names = new Map<string, NameRow>();
  const versions = new Map<string, VersionRow>();
  const removed: FakeRemoved = new Map();
  const history: HistoryRow[] = [];
  const stale = new Map<string, { since: number; change: number }>();
  const noteStale = (name: string, since: number) => stale.set(name, { since, change: history.length });
  const rooms = createFakeRooms(names, history);
  const id = (name: string, version: number) => `${name}@${version}`;
  const copy = <T>(value: T | undefined): T | null => (value === undefined ? null : structuredClone(value));
  const liveRow = (row: NameRow | undefined): VersionRow | undefined =>
    row?.version ? versions.get(id(row.name, row.version)) : undefined;
  const pointerOf = (row: NameRow | undefined): Pointer => {
    if (row === undefined) return { kind: 'none' };
    if (row.alias !== null) return { kind: 'alias', target: row.alias };
    const live = liveRow(row);
    if (live !== undefined) {
      const experiment = forExperiments.experimentOf(row.name);
      const pinned = experiment === null ? [] : adaptersOf(experiment.document).map(pinOf);
      const rows = pinned.flatMap((pin) => pinnedRow(pin) ?? []);
      const forgotten = rows.length < pinned.length;
      return structuredClone({
        kind: 'version',
        row: live,
        strict: row.strict,
        ...(experiment === null || forgotten
          ? {}
          : { experiment: { ...experiment, versions: [...new Set(rows)] } }),
      });
    }
    return { kind: row.latest === 0 || row.removedAt !== null ? 'gone' : 'none' };
  };
  /** As experiments have it: one that was removed is as one that was retired. */
  const pinnedRow = ({ name, version }: { name: string; version: number }): VersionRow | undefined => {
    const row = versions.get(id(name, version));
    const gone = removed.get(id(name, version));
    return row === undefined || gone === undefined ? row : { ...row, retiredAt: row.retiredAt ?? gone.at };
  };
  const thereRow = (name: string, version: number): VersionRow | undefined =>
    removed.has(id(name, version)) ? undefined : versions.get(id(name, version));
  const newestFirst = (name: string) =>
    [...versions.values()]
      .filter((row) => row.name === name && !removed.has(id(name, row.version)))
      .sort((a, b) => b.version - a.version);

  const dependentsOf = ({ name, digest }: Pick<VersionRow, 'name' | 'digest'>) =>
    byName([...versions.values()].sort((a, b) => a.version - b.version))
      .filter((row) => row.retiredAt === null && !removed.has(id(row.name, row.version)))
      .filter((row) =>
        row.chain.slice(0, -1).some((member) => member.digest === digest && member.name === name),
      );
  /** Those of others that stop being served when it is retired. */
  const stopping = (row: Pick<VersionRow, 'name' | 'version' | 'digest' | 'owner'>) =>
    newestFirst(row.name).some(
      (one) => one.version !== row.version && one.digest === row.digest && one.retiredAt === null,
    )
      ? []
      : dependentsOf(row).filter((one) => one.owner !== row.owner && one.withdrawnAt === null);
  const withdraw = (row: VersionRow, at: number) => {
    const stopped = stopping(row);
    for (const one of stopped) {
      one.withdrawnAt = at;
      if (names.get(one.name)?.version === one.version) noteStale(one.name, at);
    }
    const gone = new Set([row, ...stopped].map((one) => id(one.name, one.version)));
    for (const { name, started, adapters } of forExperiments.using())
      if (started && adapters.some((adapter) => gone.has(adapter))) noteStale(name, at);
  };
  const standsOnRetired = ({ chain }: VersionRow) =>
    chain.slice(0, -1).some(({ name, digest }) => {
      const same = newestFirst(name).filter((row) => row.digest === digest);
      return same.every((row) => row.retiredAt !== null);
    });

  const change = (
    before: NameRow | null,
    next: Omit<NameRow, 'sequence'>,
    entry: ChangeNote & Pick<HistoryRow, 'action' | 'to'> & { target?: string | null },
    apply: () => void = () => undefined,
  ): Result<NameRow, Conflict> => {
    const now = names.get(next.name);
    if ((now?.sequence ?? 0) !== (before?.sequence ?? 0)) return err({ kind: 'conflict', name: copy(now) });
    const row: NameRow = { ...next, sequence: (before?.sequence ?? 0) + 1 };
    const { actor, at, action, to, target = null, why = null } = entry;
    const { name, owner, sequence } = row;
    const from = before?.version ?? null;
    history.push({ id: history.length + 1, name, sequence, at, actor, owner, action, from, to, target, why });
    apply();
    names.set(name, row);
    if (POINTED.includes(action)) noteStale(name, at);
    return ok({ ...row });
  };

  /** What a new name is taken for a conflict by. */
  const taken = (name: string, claimant: string | null | undefined) =>
    claimant != null && !names.has(name) && !mayTake(claimant, rooms.surroundings(name));
  const forExperiments: FakeNames = {
    note(name, entry, flip) {
      const before = names.get(name) as NameRow;
      const next = { ...before, version: flip?.to ?? before.version };
      change(before, next, { ...entry, to: flip?.to ?? null });
    },
    isRetired: (name, version) => {
      const row = thereRow(name, version);
      return row?.retiredAt !== null || row.withdrawnAt !== null;
    },
    liveOf: (name) => names.get(name)?.version ?? null,
    experimentOf: () => null,
    isUsed: () => false,
    using: () => [],
    isPinned: () => false,
    unpin: () => undefined,
  };

  const removals = createFakeRemovals({
    ...{ names, versions, removed, history, forExperiments, noteStale, dependentsOf },
  });

  return {
    ...rooms,
    ...removals,
    forExperiments,
    contains: (digest) =>
      [...versions.values()].some(({ chain }) => chain.some((member) => member.digest === digest)),
    name: async (name) => copy(names.get(name)),
    version: async (name, version) => copy(thereRow(name, version)),
    live: async (name) => copy(liveRow(names.get(name))),
    async names({ prefix, cursor, limit, owner }) {
      const items = byName(names.values())
        .filter((row) => row.name > (cursor ?? '') && row.name.startsWith(prefix))
        .filter((row) => owner === null || row.owner === owner)
        .filter((row) => (row.latest > 0 || row.alias !== null) && row.removedAt === null)
        .slice(0, limit)
        .map((row) => ({ ...row }));
      return { items, cursor: items.length === limit ? (items.at(-1)?.name ?? null) : null };
    },
    async usable({ tenant, layers, windows }) {
      const ranges = layers.flat();
      return windows.map(({ from, to, limit }) => {
        const looked = byName(names.values())
          .filter(({ name }) => name >= from && name < to)
          .filter(
            ({ name, owner }) =>
              owner === tenant ||
              ranges.some(
                (range) =>
                  name >= range.from && name < range.to && (range.owner === null || range.owner === owner),
              ),
          )
          .slice(0, limit);
        return {
          names: looked.flatMap(({ name, owner, alias }) => {
            const version = liveRow(names.get(alias ?? name));
            return version === undefined || version.withdrawnAt !== null
              ? []
              : [{ name, owner, version: structuredClone(version) }];
          }),
          end: looked.length === limit ? (looked.at(-1)?.name ?? null) : null,
        };
      });
    },
    versions: async (name) => newestFirst(name).map((row) => structuredClone(row)),
    versionsOf: async ({ digest, limit }) =>
      byName([...versions.values()].sort((a, b) => b.version - a.version))
        .filter((row) => row.digest === digest && !removed.has(id(row.name, row.version)))
        .slice(0, limit)
        .map((row) => structuredClone(row)),
    versionsOfChain: async ({ chainId, limit }) =>
      [...versions.values()]
        .filter((row) => row.chainId === chainId)
        .sort((a, b) => b.createdAt - a.createdAt)
        .slice(0, limit)
        .map((row) => structuredClone(row)),
    pointer: async (name) => pointerOf(names.get(name)),
    pointerToWrite: async (name) => ({
      pointer: pointerOf(names.get(name)),
      change: stale.get(name)?.change ?? null,
    }),
    async pointers({ cursor, limit }) {
      const rows = byName(names.values())
        .filter((row) => row.name > (cursor ?? ''))
        .slice(0, limit);
      return {
        items: rows.map((row) => ({ name: { ...row }, pointer: pointerOf(row) })),
        cursor: rows.length === limit ? (rows.at(-1)?.name ?? null) : null,
      };
    },
    history: async ({ name, owner, before, limit }) =>
      history
        .filter((row) => (name === null || row.name === name) && (owner === null || row.owner === owner))
        .filter((row) => before === null || row.id < before)
        .reverse()
        .slice(0, limit)
        .map((row) => ({ ...row })),
    async newestStaged(name) {
      const wasLive = (row: VersionRow) =>
        history.some(
          (entry) => entry.name === name && entry.to === row.version && GOES_LIVE.includes(entry.action),
        );
      return copy(
        newestFirst(name).find((row) => row.retiredAt === null && row.withdrawnAt === null && !wasLive(row)),
      );
    },
    dependents: async (row, limit) =>
      dependentsOf(row)
        .filter(({ owner }) => owner === row.owner)
        .slice(0, limit)
        .map(({ name, version }) => ({ name, version })),

    publish: async ({ row, stage, before, action = 'publish', why, claimant }) =>
      change(
        standsOnRetired(row) || taken(row.name, claimant) ? STALE : before,
        {
          name: row.name,
          owner: before?.owner ?? row.owner,
          version: stage ? (before?.version ?? null) : row.version,
          latest: row.version,
          alias: null,
          strict: before?.strict ?? false,
          about: before?.about ?? NOTHING_SAID,
          removedAt: null,
        },
        {
          actor: row.createdBy,
          at: row.createdAt,
          action: stage ? 'stage' : action,
          to: row.version,
          why: why ?? null,
        },
        () => versions.set(id(row.name, row.version), structuredClone(row)),
      ),
    flip: async ({ before, to, action = 'promote', ...note }) =>
      change(before, { ...before, version: to }, { ...note, action, to }),
    stops: async (row) => {
      const stopped = stopping(row).map((one) => id(one.name, one.version));
      const named = new Set([id(row.name, row.version), ...stopped]);
      const experiments = forExperiments
        .using()
        .filter(({ adapters }) => adapters.some((one) => named.has(one)));
      return { versions: stopped.length, experiments: experiments.length };
    },
    stalePointers: async ({ limit, newest }) => {
      const rows = [...stale].map(([name, noted]) => ({ name, ...noted }));
      rows.sort((a, b) => a.since - b.since || (a.name < b.name ? -1 : 1));
      return (newest ? rows.reverse() : rows).slice(0, limit);
    },
    async pointersWritten(pointers) {
      for (const { name, change } of pointers) if (stale.get(name)?.change === change) stale.delete(name);
    },
    retire: async ({ before, version, digest: _, ...note }) => {
      const own = versions.get(id(before.name, version));
      const inUse = own !== undefined && dependentsOf(own).some(({ owner }) => owner === own.owner);
      const used = forExperiments.isUsed(before.name, version, before.owner);
      const seen = inUse || used ? STALE : before;
      return change(seen, before, { ...note, action: 'retire', to: version }, () => {
        const row = versions.get(id(before.name, version));
        if (row === undefined) return;
        row.retiredAt ??= note.at;
        withdraw(row, note.at);
      });
    },
    alias: async ({ before, name, owner, target, claimant, ...note }) =>
      change(
        taken(name, claimant) || (target !== null && names.get(target)?.removedAt != null) ? STALE : before,
        {
          name,
          owner: before?.owner ?? owner,
          version: null,
          latest: 0,
          alias: target,
          strict: false,
          about: before?.about ?? NOTHING_SAID,
          removedAt: null,
        },
        {
          ...note,
          action: target === null ? 'unalias' : 'alias',
          to: null,
          target: target ?? before?.alias ?? null,
        },
      ),
    setStrict: async ({ before, strict, ...note }) =>
      change(before, { ...before, strict }, { ...note, action: strict ? 'strict' : 'unstrict', to: null }),
    setAbout: async ({ before, about, ...note }) =>
      change(before, { ...before, about }, { ...note, action: 'edit', to: null }),
    repaired: async ({ before, ...note }) =>
      change(before, before, { ...note, action: 'repair', to: before.version, target: before.alias }),
  };
}
