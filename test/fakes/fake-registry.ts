import { err, ok } from '../../protocol/index.ts';
import { scopeCovers } from '../../worker/policy/authorize.ts';
import type { NameRow, Registry, VersionRow } from '../../worker/stores/types.ts';

const byName = <T extends { name: string }>(rows: Iterable<T>): T[] =>
  [...rows].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));

/** The registry as a model: what D1 must do, in a few lines. */
export function createFakeRegistry(): Registry {
  const names = new Map<string, NameRow>();
  const versions = new Map<string, VersionRow>();
  const id = (name: string, version: number) => `${name}@${version}`;
  const copy = <T>(value: T | undefined): T | null => (value === undefined ? null : structuredClone(value));
  const liveRow = (row: NameRow | undefined): VersionRow | undefined =>
    row?.version ? versions.get(id(row.name, row.version)) : undefined;
  const unchanged = (name: string, before: NameRow | null) =>
    (names.get(name)?.sequence ?? 0) === (before?.sequence ?? 0);

  return {
    name: async (name) => copy(names.get(name)),
    version: async (name, version) => copy(versions.get(id(name, version))),
    live: async (name) => copy(liveRow(names.get(name))),
    async names({ prefix, cursor, limit, owner }) {
      const items = byName(names.values())
        .filter((row) => row.name > (cursor ?? '') && row.name.startsWith(prefix))
        .filter((row) => owner === null || row.owner === owner)
        .slice(0, limit)
        .map((row) => ({ ...row }));
      return { items, cursor: items.length === limit ? (items.at(-1)?.name ?? null) : null };
    },
    async usable({ tenant, scopes, prefix, after, limit }) {
      return byName(names.values())
        .filter((row) => row.name > after && row.name.startsWith(prefix))
        .filter((row) => row.owner === tenant || scopes.some((scope) => scopeCovers(scope, row.name)))
        .flatMap((row) => liveRow(row) ?? [])
        .slice(0, limit)
        .map((row) => structuredClone(row));
    },
    versions: async (name) =>
      [...versions.values()]
        .filter((row) => row.name === name)
        .sort((a, b) => b.version - a.version)
        .map((row) => structuredClone(row)),
    versionsOf: async ({ digest, limit }) =>
      byName([...versions.values()].sort((a, b) => b.version - a.version))
        .filter((row) => row.digest === digest)
        .slice(0, limit)
        .map((row) => structuredClone(row)),
    async publish({ row, stage, before }) {
      if (!unchanged(row.name, before)) return err({ kind: 'conflict', name: copy(names.get(row.name)) });
      const next: NameRow = {
        name: row.name,
        owner: before?.owner ?? row.owner,
        version: stage ? (before?.version ?? null) : row.version,
        latest: row.version,
        sequence: (before?.sequence ?? 0) + 1,
      };
      versions.set(id(row.name, row.version), structuredClone(row));
      names.set(row.name, next);
      return ok({ ...next });
    },
    async flip({ before, to }) {
      if (!unchanged(before.name, before))
        return err({ kind: 'conflict', name: copy(names.get(before.name)) });
      const next: NameRow = { ...before, version: to, sequence: before.sequence + 1 };
      names.set(before.name, next);
      return ok({ ...next });
    },
  };
}
