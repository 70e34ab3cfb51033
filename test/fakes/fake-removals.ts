import { err, ok } from '../../protocol/index.ts';
import type {
  Doomed,
  RemovedName,
  Removals,
  HistoryRow,
  NameRow,
  VersionRow,
  ChangeNote,
} from '../../worker/registry/ports.ts';
import type { FakeNames } from './fake-names.ts';
import { byName } from './fake-rooms.ts';

/** By `name@version`. */
export type FakeRemoved = Map<string, { at: number; removal: number }>;

/** What is removed from the fake registry, and brought back. @param parts its own tables. */
export function createFakeRemovals(parts: {
  names: Map<string, NameRow>;
  versions: Map<string, VersionRow>;
  removed: FakeRemoved;
  history: HistoryRow[];
  forExperiments: FakeNames;
  noteStale: (name: string, since: number) => unknown;
  dependentsOf: (row: Pick<VersionRow, 'name' | 'digest'>) => VersionRow[];
}): Removals {
  const { names, versions, removed, history, forExperiments, noteStale, dependentsOf } = parts;
  const goneNames = new Map<string, Omit<RemovedName, 'row'>>();
  const id = ({ name, version }: { name: string; version: number | null }) => `${name}@${version}`;
  const isAmong = (items: readonly Doomed[], row: { name: string; version: number }) =>
    items.some(({ name, version }) => name === row.name && (version === null || version === row.version));
  const sorted = (rows: Iterable<VersionRow>) => byName([...rows].sort((a, b) => a.version - b.version));
  const there = () => sorted(versions.values()).filter((row) => !removed.has(id(row)));
  const wholeOf = (items: readonly Doomed[]) =>
    items.flatMap(({ name, version }) => (version === null ? [name] : []));

  const standing = (items: readonly Doomed[]) => {
    const found = there()
      .filter((row) => isAmong(items, row))
      .flatMap(dependentsOf)
      .filter((row) => !isAmong(items, row));
    return sorted(new Set(found));
  };
  const testing = (items: readonly Doomed[]) =>
    forExperiments
      .using()
      .filter(
        ({ name, adapters }) =>
          wholeOf(items).includes(name) ||
          there().some((row) => isAmong(items, row) && adapters.includes(id(row))),
      );
  const aliasesOf = (items: readonly Doomed[], owner: string) =>
    byName(names.values())
      .filter((row) => row.alias !== null && wholeOf(items).includes(row.alias) && row.owner === owner)
      .flatMap(({ name }) => (items.some((item) => item.name === name) ? [] : [name]));
  const pinsOf = (items: readonly Doomed[]) => wholeOf(items).filter(forExperiments.isPinned).sort();

  const lacks = (row: VersionRow, isTheirs: boolean): string[] =>
    row.chain
      .slice(0, -1)
      .filter((member) => (member.owner !== row.owner) === isTheirs)
      .filter(
        ({ name, digest }) =>
          !there().some((one) => one.name === name && one.digest === digest && one.retiredAt === null),
      )
      .map(({ name }) => name);

  const write = (
    before: NameRow,
    next: Partial<NameRow>,
    entry: Omit<HistoryRow, 'id' | 'sequence' | 'owner' | 'name' | 'from'>,
  ) => {
    const row = names.get(before.name) as NameRow;
    const sequence = row.sequence + 1;
    const { name, owner } = row;
    history.push({ id: history.length + 1, name, owner, sequence, from: before.version, ...entry });
    names.set(name, { ...row, ...next, sequence });
  };
  const noteTests = (rows: readonly VersionRow[], at: number) => {
    const changed = new Set(rows.map(id));
    for (const { name, started, adapters } of forExperiments.using())
      if (started && adapters.some((adapter) => changed.has(adapter))) noteStale(name, at);
  };
  const noteLive = (rows: readonly VersionRow[], at: number) => {
    for (const { name, version } of rows) if (names.get(name)?.version === version) noteStale(name, at);
  };
  const stale = (befores: readonly NameRow[]) =>
    befores.some((before) => names.get(before.name)?.sequence !== before.sequence);
  const conflicted = (name: string) => err({ kind: 'conflict' as const, name: names.get(name) ?? null });
  const entryOf = (note: ChangeNote) => ({ actor: note.actor, at: note.at, why: note.why ?? null });

  return {
    async withRemoved({ prefix, owner, since, cursor, limit }) {
      const found = byName(names.values()).flatMap((row) => {
        const gone = sorted(versions.values()).filter(
          (one) => one.name === row.name && (removed.get(id(one))?.at ?? -1) >= since,
        );
        const whole = (row.removedAt ?? -1) >= since;
        const times = [
          ...gone.map((one) => removed.get(id(one))?.at ?? 0),
          ...(whole ? [row.removedAt ?? 0] : []),
        ];
        const meant = row.name.startsWith(prefix) && (owner ?? row.owner) === row.owner;
        if (!meant || times.length === 0 || row.name <= (cursor ?? '')) return [];
        const list = gone.map(({ version }) => version);
        return [{ name: row.name, owner: row.owner, whole, versions: list, removedAt: Math.min(...times) }];
      });
      const items = found.slice(0, limit);
      return { items, cursor: items.length === limit ? (items.at(-1)?.name ?? null) : null };
    },
    descendants: async ({ items, owner, limit }) =>
      standing(items)
        .filter((row) => row.owner === owner)
        .slice(0, limit)
        .map(({ name, version }) => ({
          ...{ name, version, live: names.get(name)?.version === version },
          versions: there().filter((row) => row.name === name).length,
        })),
    holders: async ({ items, owner }) => {
      const tests = testing(items);
      return {
        aliases: aliasesOf(items, owner),
        pins: pinsOf(items),
        experiments: tests.flatMap((test) => (test.owner === owner ? [test.id] : [])).sort(),
        others: {
          versions: standing(items).filter((row) => row.owner !== owner).length,
          experiments: tests.filter((test) => test.owner !== owner).length,
        },
      };
    },
    async remove({ items, owner, cascade, ...note }) {
      const mine = <T extends { owner: string }>(rows: T[]) =>
        cascade ? rows.filter((row) => row.owner === owner) : rows;
      const held =
        mine(standing(items)).length + mine(testing(items)).length + aliasesOf(items, owner).length > 0;
      if (held || (!cascade && pinsOf(items).length > 0) || stale(items.map(({ before }) => before)))
        return conflicted(items[0]?.name ?? '');
      noteTests(
        there().filter((row) => isAmong(items, row)),
        note.at,
      );
      const gone = there().filter((row) => isAmong(items, row));
      for (const { before, version } of items)
        write(before, {}, { ...entryOf(note), action: 'remove', to: version, target: before.alias });
      const removal = history.length;
      for (const row of gone) removed.set(id(row), { at: note.at, removal });
      for (const { before, version } of items) {
        if (version !== null) continue;
        goneNames.set(before.name, { removal, version: before.version, alias: before.alias });
        const row = names.get(before.name) as NameRow;
        names.set(before.name, { ...row, version: null, alias: null, removedAt: note.at });
        forExperiments.unpin(before.name);
        noteStale(before.name, note.at);
      }
      const withdrawn = gone
        .filter(
          (row) =>
            !there().some(
              (one) => one.name === row.name && one.digest === row.digest && one.retiredAt === null,
            ),
        )
        .flatMap((row) => dependentsOf(row).filter((one) => one.owner !== row.owner));
      for (const row of withdrawn) row.withdrawnAt ??= note.at;
      noteLive(withdrawn, note.at);
      noteTests(withdrawn, note.at);
      return ok(null);
    },
    removedVersions: async (of, since) =>
      sorted(versions.values()).flatMap((row) => {
        const gone = removed.get(id(row));
        if (gone === undefined || gone.at < since) return [];
        if ('name' in of ? of.name !== row.name : of.removal !== gone.removal) return [];
        const { name, version } = row;
        return [{ name, version, removal: gone.removal, lacks: lacks(row, false) }];
      }),
    removedNames: async (of, since) =>
      byName(names.values()).flatMap((row) => {
        const gone = goneNames.get(row.name);
        if (gone === undefined || row.removedAt === null || row.removedAt < since) return [];
        if ('name' in of ? of.name !== row.name : of.removal !== gone.removal) return [];
        return [{ ...gone, row: { ...row } }];
      }),
    async restore({ names: whole, versions: wanted, ...note }) {
      const rows = wanted.map((one) => versions.get(id(one)) as VersionRow);
      const back = new Map(wanted.map((one) => [id(one), removed.get(id(one))]));
      const first = whole[0]?.row.name ?? wanted[0]?.name ?? '';
      if (stale([...whole.map(({ row }) => row), ...wanted.map(({ before }) => before)]))
        return conflicted(first);
      if ([...back.values()].includes(undefined)) return conflicted(first);
      for (const key of back.keys()) removed.delete(key);
      if (rows.some((row) => row.retiredAt === null && lacks(row, false).length > 0)) {
        for (const [key, gone] of back) if (gone !== undefined) removed.set(key, gone);
        return conflicted(first);
      }
      for (const { row, version, alias } of whole) {
        write(
          row,
          { version, alias, removedAt: null },
          { ...entryOf(note), action: 'restore', to: version, target: alias },
        );
        goneNames.delete(row.name);
        noteStale(row.name, note.at);
      }
      for (const { name, version, before } of wanted)
        if (!whole.some(({ row }) => row.name === name))
          write(before, {}, { ...entryOf(note), action: 'restore', to: version, target: null });
      for (const row of rows) if (lacks(row, true).length > 0) row.withdrawnAt ??= note.at;
      const theirs = rows.flatMap((row) => dependentsOf(row).filter((one) => one.owner !== row.owner));
      for (const row of theirs) if (lacks(row, true).length === 0) row.withdrawnAt = null;
      noteLive(theirs, note.at);
      noteTests([...rows, ...theirs], note.at);
      return ok(null);
    },
    async forgetRemoved({ before, limit }) {
      const old = [...removed].filter(([, { at }]) => at < before).sort((a, b) => a[1].at - b[1].at);
      for (const [key] of old.slice(0, limit)) {
        removed.delete(key);
        versions.delete(key);
      }
      return Math.min(old.length, limit);
    },
  };
}
