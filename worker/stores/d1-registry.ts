import { prefixEnd, type SqlDatabase } from './d1-database.ts';
import { createD1Changes } from './d1-registry-changes.ts';
import { createD1Pointers } from './d1-registry-pointers.ts';
import { createD1Rooms } from './d1-rooms.ts';
import {
  DEPENDS,
  NAME,
  toHistory,
  toName,
  toUsable,
  toVersion,
  type HistoryRecord,
  type NameRecord,
  type UsableRecord,
  type VersionRecord,
} from './d1-registry-rows.ts';
import { GOES_LIVE, type Registry } from './types.ts';

const LIVE = 'SELECT v.* FROM names n JOIN versions v ON v.name = n.name AND v.version = n.version';
/** Names, and aliases of names, with the version that they mean. */
const USABLE = `SELECT v.*, n.name AS own_name, n.owner AS name_owner
  FROM names n JOIN names t ON t.name = COALESCE(n.alias, n.name)
  JOIN versions v ON v.name = t.name AND v.version = t.version`;
const WENT_LIVE = GOES_LIVE.map((action) => `'${action}'`).join(', ');

/** A scope as a condition on the name, as `policy/authorize` reads it. */
function scopeCondition(scope: string): { sql: string; values: string[] } {
  if (scope === '**') return { sql: '1', values: [] };
  if (!scope.endsWith('/**')) return { sql: 'n.name = ?', values: [scope] };
  const path = scope.slice(0, -3);
  return {
    sql: '(n.name = ? OR (n.name >= ? AND n.name < ?))',
    values: [path, `${path}/`, prefixEnd(`${path}/`)],
  };
}

export function createD1Registry(db: SqlDatabase): Registry {
  const name: Registry['name'] = async (wanted) => {
    const record = await db.prepare(`${NAME} WHERE name = ?`).bind(wanted).first<NameRecord>();
    return record && toName(record);
  };

  return {
    ...createD1Changes(db, name),
    ...createD1Pointers(db),
    ...createD1Rooms(db),
    name,

    async version(name, version) {
      const record = await db
        .prepare('SELECT * FROM versions WHERE name = ? AND version = ?')
        .bind(name, version)
        .first<VersionRecord>();
      return record && toVersion(record);
    },

    async live(name) {
      const record = await db.prepare(`${LIVE} WHERE n.name = ?`).bind(name).first<VersionRecord>();
      return record && toVersion(record);
    },

    async names({ prefix, cursor, limit, owner }) {
      const { results } = await db
        .prepare(
          `${NAME} WHERE name > ? AND name >= ? AND name < ? AND (? IS NULL OR owner = ?)
             AND (latest > 0 OR alias IS NOT NULL) ORDER BY name LIMIT ?`,
        )
        .bind(cursor ?? '', prefix, prefixEnd(prefix), owner, owner, limit)
        .all<NameRecord>();
      return {
        items: results.map(toName),
        cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null,
      };
    },

    async usable({ tenant, scopes, prefix, after, limit }) {
      const conditions = scopes.map(scopeCondition);
      const allowed = ['n.owner = ?', ...conditions.map(({ sql }) => sql)].join(' OR ');
      const { results } = await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
          `${USABLE} WHERE n.name > ? AND n.name >= ? AND n.name < ? AND (${allowed}) ORDER BY n.name LIMIT ?`,
        )
        .bind(after, prefix, prefixEnd(prefix), tenant, ...conditions.flatMap(({ values }) => values), limit)
        .all<UsableRecord>();
      return results.map(toUsable);
    },

    async versions(name) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE name = ? ORDER BY version DESC')
        .bind(name)
        .all<VersionRecord>();
      return results.map(toVersion);
    },

    async versionsOf({ digest, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE digest = ? ORDER BY name, version DESC LIMIT ?')
        .bind(digest, limit)
        .all<VersionRecord>();
      return results.map(toVersion);
    },

    async versionsOfChain({ chainId, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE chain_id = ? ORDER BY created_at DESC LIMIT ?')
        .bind(chainId, limit)
        .all<VersionRecord>();
      return results.map(toVersion);
    },

    async history({ name: wanted, owner, before, limit }) {
      // Only what is asked for stands in the query, so that SQLite finds the index.
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
          `SELECT * FROM versions v WHERE name = ? AND retired_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM history h
             WHERE h.name = v.name AND h.to_version = v.version AND h.action IN (${WENT_LIVE}))
           ORDER BY version DESC LIMIT 1`,
        )
        .bind(wanted)
        .first<VersionRecord>();
      return record && toVersion(record);
    },

    async dependents(row, limit) {
      const { results } = await db
        .prepare(
          `SELECT v.name, v.version FROM chain_members m
           JOIN versions v ON v.name = m.name AND v.version = m.version
           WHERE m.digest = ? AND ${DEPENDS}
           ORDER BY v.name, v.version LIMIT ?`,
        )
        .bind(row.digest, row.name, limit)
        .all<{ name: string; version: number }>();
      return results;
    },
  };
}
