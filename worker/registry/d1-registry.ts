import { prefixEnd, type SqlDatabase, readable, type SqlStatement } from '../platform/d1-database.ts';
import { createD1Changes, createD1Rooms, createD1Withdrawals } from './d1-registry-changes.ts';
import {
  createD1Pointers,
  createD1StalePointers,
  NAME,
  toHistory,
  toName,
  toDescribed,
  toVersion,
  VERSION,
  type HistoryRecord,
  type NameRecord,
  type VersionRecord,
  toUsable,
  type UsableRecord,
} from './d1-registry-rows.ts';
import { createD1Removals } from './d1-removals.ts';
import { GOES_LIVE, type Registry, type NameRange, type NameWindow, type UsableNames } from './ports.ts';

const LIVE = `SELECT ${VERSION} FROM names n JOIN versions v ON v.name = n.name AND v.version = n.version`;
const DESCRIBED = `SELECT ${VERSION}, v.training FROM versions v`;
/** Versions `v` with this file as their own. */
const OF_FILE = `FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE m.digest = ? AND m.below = 0`;
const WENT_LIVE = GOES_LIVE.map((action) => `'${action}'`).join(', ');

const PAGE =
  'name >= ? AND name < ? AND (latest > 0 OR alias IS NOT NULL) AND removed_at IS NULL ORDER BY name LIMIT ?';

export function createD1Registry(db: SqlDatabase): Registry {
  const name: Registry['name'] = async (wanted) => {
    const record = await db.prepare(`${NAME} WHERE name = ?`).bind(wanted).first<NameRecord>();
    return record && toName(record);
  };

  return {
    ...createD1Changes(db, name),
    ...createD1Pointers(db),
    ...createD1Removals(db, name),
    ...createD1Rooms(db),
    ...createD1StalePointers(db),
    ...createD1UsableNames(db),
    ...createD1Withdrawals(db),
    name,

    async version(name, version) {
      const record = await db
        .prepare(`SELECT ${VERSION} FROM versions v WHERE name = ? AND version = ? AND removed_at IS NULL`)
        .bind(name, version)
        .first<VersionRecord>();
      return record && toVersion(record);
    },

    async describedVersion(name, version) {
      const record = await db
        .prepare(`${DESCRIBED} WHERE name = ? AND version = ? AND removed_at IS NULL`)
        .bind(name, version)
        .first<Parameters<typeof toDescribed>[0]>();
      return record && toDescribed(record);
    },

    async live(name) {
      const record = await db.prepare(`${LIVE} WHERE n.name = ?`).bind(name).first<VersionRecord>();
      return record && toVersion(record);
    },

    async names({ prefix, cursor, limit, owner }) {
      // Only one lower bound: with two, SQLite reads each page from the beginning. A space sorts before all
      // characters of names.
      const from = cursor === null || cursor < prefix ? prefix : `${cursor} `;
      const values = [from, prefixEnd(prefix), limit];
      const { results } = await (
        owner === null
          ? db.prepare(`${NAME} WHERE ${PAGE}`).bind(...values)
          : db.prepare(`${NAME} WHERE owner = ? AND ${PAGE}`).bind(owner, ...values)
      ).all<NameRecord>();
      return {
        items: readable(results, toName),
        cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null,
      };
    },

    async versions(name) {
      const { results } = await db
        .prepare(`${DESCRIBED} WHERE name = ? AND removed_at IS NULL ORDER BY version DESC`)
        .bind(name)
        .all<Parameters<typeof toDescribed>[0]>();
      return readable(results, toDescribed);
    },

    async versionsOf({ digest, limit }) {
      const { results } = await db
        .prepare(
          `SELECT ${VERSION} ${OF_FILE} AND v.removed_at IS NULL ORDER BY m.name, m.version DESC LIMIT ?`,
        )
        .bind(digest, limit)
        .all<VersionRecord>();
      return readable(results, toVersion);
    },

    async proofs({ digest, chainId, baseDigest, limit }) {
      const { results } = await db
        .prepare(
          `SELECT DISTINCT proof FROM (SELECT v.proof ${OF_FILE}
             AND v.chain_id = ? AND v.base_digest = ? AND v.proof IS NOT NULL LIMIT ?)`,
        )
        .bind(digest, chainId, baseDigest, limit)
        .all<{ proof: string }>();
      return results.map(({ proof }) => proof);
    },

    async history({ name: wanted, owner, before, limit }) {
      // The query only contains the requested conditions, so that SQLite finds the index.
      const conditions: [sql: string, value: string | number | null][] = [
        ['name = ?', wanted],
        ['owner = ?', owner],
        ['id < ?', before],
      ];
      const given = conditions.flatMap(([sql, value]) => (value === null ? [] : [{ sql, value }]));
      const where = given.length === 0 ? '' : `WHERE ${given.map(({ sql }) => sql).join(' AND ')}`;
      const { results } = await db
        // eslint-disable-next-line no-restricted-syntax -- made of the constants above; the values are bound
        .prepare(`SELECT * FROM history ${where} ORDER BY id DESC LIMIT ?`)
        .bind(...given.map(({ value }) => value), limit)
        .all<HistoryRecord>();
      return results.map(toHistory);
    },

    async newestStaged(wanted) {
      const record = await db
        .prepare(
          `SELECT ${VERSION} FROM versions v WHERE name = ?1 AND retired_at IS NULL AND withdrawn_at IS NULL
             AND removed_at IS NULL AND version NOT IN (SELECT to_version FROM history
               WHERE name = ?1 AND action IN (${WENT_LIVE}) AND to_version IS NOT NULL)
           ORDER BY version DESC LIMIT 1`,
        )
        .bind(wanted)
        .first<VersionRecord>();
      return record && toVersion(record);
    },
  };
}

/** A name with the live version of it or of its target; null fields if there is none. */
type Looked = UsableRecord | (Pick<UsableRecord, 'own_name' | 'name_owner'> & { version: null });

/** @param inner selects `name`, `owner` and `alias` of at most `limit` names, each by an index. */
const withVersions = (inner: string): string =>
  `SELECT ${VERSION}, found.name AS own_name, found.owner AS name_owner FROM (${inner}) found
   LEFT JOIN names t ON t.name = COALESCE(found.alias, found.name)
   LEFT JOIN versions v ON v.name = t.name AND v.version = t.version AND v.withdrawn_at IS NULL`;

const OWN = withVersions(
  `SELECT name, owner, alias FROM names INDEXED BY names_by_owner
   WHERE owner = ?1 AND name >= ?2 AND name < ?3 ORDER BY name LIMIT ?4`,
);
// CROSS JOIN keeps the ranges as the outer loop. They are sorted and disjoint, so rows come in order and the
// limit ends the search. An ORDER BY would read and sort all of them.
const OWNED_RANGES = withVersions(
  `SELECT n.name, n.owner, n.alias FROM json_each(?1) r CROSS JOIN names n INDEXED BY names_by_owner
   WHERE n.owner = r.value ->> 2 AND n.name >= r.value ->> 0 AND n.name < r.value ->> 1 LIMIT ?2`,
);
const RANGES = withVersions(
  `SELECT n.name, n.owner, n.alias FROM json_each(?1) r CROSS JOIN names n
   WHERE n.name >= r.value ->> 0 AND n.name < r.value ->> 1 LIMIT ?2`,
);

const createD1UsableNames = (db: SqlDatabase): Pick<Registry, 'usable'> => ({
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

/** @returns null if no range overlaps the window. */
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

/** @param streams each ordered by name, and complete unless it is as long as the limit. */
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
