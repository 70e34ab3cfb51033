import { ancestorsOf } from '../../worker/registry/claims.ts';
import {
  MAX_OWNERS_BELOW,
  type Claim,
  type RoomRow,
  type Rooms,
  type Surroundings,
  type ChangeNote,
  type HistoryRow,
  type NameRow,
} from '../../worker/registry/ports.ts';

export const byName = <T extends { name: string }>(rows: Iterable<T>): T[] =>
  [...rows].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));

/** The rooms of the fake registry. @param names of it. @param history to which changes are added. */
export function createFakeRooms(
  names: ReadonlyMap<string, NameRow>,
  history: HistoryRow[],
): Rooms & { surroundings(name: string): Surroundings } {
  const rooms = new Map<string, RoomRow>();
  const around = (name: string): Surroundings => {
    const claims = [name, ...ancestorsOf(name)].flatMap((path): Claim[] => {
      const room = rooms.get(path);
      const row = path === name ? undefined : names.get(path);
      return [
        ...(room === undefined ? [] : [{ path, owner: room.tenant, by: 'room' as const }]),
        ...(row === undefined ? [] : [{ path, owner: row.owner, by: 'name' as const }]),
      ];
    });
    const isBelow = ({ name: other }: { name: string }) => other.startsWith(`${name}/`);
    const below = [
      ...[...names.values()].filter(isBelow).map(({ owner }) => owner),
      ...[...rooms.values()].filter(isBelow).map(({ tenant }) => tenant),
    ];
    return {
      own: names.get(name)?.owner ?? null,
      above: claims[0] ?? null,
      below: [...new Set(below)].sort().slice(0, MAX_OWNERS_BELOW),
    };
  };
  const noteRoom = (
    { name, actor, at, why = null }: ChangeNote & { name: string },
    owner: string,
    action: 'reserve' | 'unreserve',
  ) => {
    const sequence =
      Math.min(0, ...history.filter((row) => row.name === name).map((row) => row.sequence)) - 1;
    const id = history.length + 1;
    history.push({ id, name, sequence, at, actor, owner, action, from: null, to: null, target: owner, why });
  };

  return {
    surroundings: around,
    around: async (name) => around(name),
    async rooms({ tenant, cursor, limit }) {
      const items = byName(rooms.values())
        .filter((row) => row.name > (cursor ?? '') && (tenant === null || row.tenant === tenant))
        .slice(0, limit)
        .map((row) => ({ ...row }));
      return { items, cursor: items.length === limit ? (items.at(-1)?.name ?? null) : null };
    },
    async reserve({ name, tenant, ...note }) {
      const before = rooms.get(name);
      if (before?.tenant === tenant) return false;
      if (before !== undefined) noteRoom({ name, ...note }, before.tenant, 'unreserve');
      noteRoom({ name, ...note }, tenant, 'reserve');
      rooms.set(name, { name, tenant, createdAt: note.at, createdBy: note.actor });
      return true;
    },
    async release({ name, ...note }) {
      const before = rooms.get(name);
      if (before === undefined) return false;
      noteRoom({ name, ...note }, before.tenant, 'unreserve');
      return rooms.delete(name);
    },
  };
}
