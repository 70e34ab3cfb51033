import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import { toUsable, type UsableRecord } from './d1-registry-rows.ts';
import { readable } from '../platform/read-row.ts';
import type { NameRange, NameWindow, Registry, UsableNames } from './ports.ts';

/** A name with the version that it, or what it stands for, means; null fields where none is live. */
type Looked = UsableRecord | (Pick<UsableRecord, 'own_name' | 'name_owner'> & { version: null });

/** @param inner `name`, `owner` and `alias` of at most `limit` names, each found by an index. */
const withVersions = (inner: string): string =>
  `SELECT v.*, found.name AS own_name, found.owner AS name_owner FROM (${inner}) found
   LEFT JOIN names t ON t.name = COALESCE(found.alias, found.name)
   LEFT JOIN versions v ON v.name = t.name AND v.version = t.version AND v.withdrawn_at IS NULL`;

const OWN = withVersions(
  `SELECT name, owner, alias FROM names INDEXED BY names_by_owner
   WHERE owner = ?1 AND name >= ?2 AND name < ?3 ORDER BY name LIMIT ?4`,
);
// CROSS JOIN keeps the ranges outside. They are sorted and do not overlap, so that what is found first comes first, and
// the limit ends the search: an ORDER BY would read all of them to sort them.
const OWNED_RANGES = withVersions(
  `SELECT n.name, n.owner, n.alias FROM json_each(?1) r CROSS JOIN names n INDEXED BY names_by_owner
   WHERE n.owner = r.value ->> 2 AND n.name >= r.value ->> 0 AND n.name < r.value ->> 1 LIMIT ?2`,
);
const RANGES = withVersions(
  `SELECT n.name, n.owner, n.alias FROM json_each(?1) r CROSS JOIN names n
   WHERE n.name >= r.value ->> 0 AND n.name < r.value ->> 1 LIMIT ?2`,
);

export const createD1UsableNames = (db: SqlDatabase): Pick<Registry, 'usable'> => ({
  async usable({ tenant, layers, windows }) {
    const asked = windows.map((window) => [
      db.prepare(OWN).bind(tenant, window.from, window.to, window.limit),
      ...layers.flatMap((layer) => statement(db, layer, window) ?? []),
    ]);
    const answers = await db.batch(asked.flat());
    return windows.map((window, i) =>
      merge(
        answers.splice(0, asked[i]?.length ?? 0).map(({ results }) => results as Looked[]),
        window.limit,
      ),
    );
  },
});

/** @returns null where no range reaches into the window. */
function statement(db: SqlDatabase, layer: readonly NameRange[], window: NameWindow): SqlStatement | null {
  const owned = layer[0]?.owner != null;
  const clipped = layer
    .filter(({ from, to }) => from < window.to && to > window.from)
    .map(({ from, to, owner }) => [
      from > window.from ? from : window.from,
      to < window.to ? to : window.to,
      ...(owned ? [owner] : []),
    ]);
  if (clipped.length === 0) return null;
  return db.prepare(owned ? OWNED_RANGES : RANGES).bind(JSON.stringify(clipped), window.limit);
}

/** @param streams each in the order of names, and complete unless it is as long as the limit. */
function merge(streams: readonly (readonly Looked[])[], limit: number): UsableNames {
  const ends = streams.flatMap((stream) => (stream.length < limit ? [] : [stream.at(-1)?.own_name ?? '']));
  const end = ends.length === 0 ? null : ends.reduce((least, name) => (name < least ? name : least));
  const found = new Map<string, UsableRecord>();
  for (const record of streams.flat())
    if (record.version !== null && (end === null || record.own_name <= end))
      found.set(record.own_name, record);
  const sorted = [...found.values()].sort((a, b) => (a.own_name < b.own_name ? -1 : 1));
  return { names: readable(sorted, toUsable), end };
}
