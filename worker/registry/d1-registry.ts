import { prefixEnd, type SqlDatabase } from '../platform/d1-database.ts';
import { createD1Changes } from './d1-registry-changes.ts';
import { createD1Pointers } from './d1-registry-pointers.ts';
import { createD1Removals } from './d1-removals.ts';
import { createD1Rooms } from './d1-rooms.ts';
import { createD1StalePointers } from './d1-stale-pointers.ts';
import { createD1Withdrawals } from './d1-withdrawals.ts';
import {
  NAME,
  toHistory,
  toName,
  toVersion,
  type HistoryRecord,
  type NameRecord,
  type VersionRecord,
} from './d1-registry-rows.ts';
import { readable } from '../platform/read-row.ts';
import { createD1UsableNames } from './d1-usable-names.ts';
import { GOES_LIVE, type Registry } from './ports.ts';

const LIVE = 'SELECT v.* FROM names n JOIN versions v ON v.name = n.name AND v.version = n.version';
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
        .prepare('SELECT * FROM versions WHERE name = ? AND version = ? AND removed_at IS NULL')
        .bind(name, version)
        .first<VersionRecord>();
      return record && toVersion(record);
    },

    async live(name) {
      const record = await db.prepare(`${LIVE} WHERE n.name = ?`).bind(name).first<VersionRecord>();
      return record && toVersion(record);
    },

    async names({ prefix, cursor, limit, owner }) {
      // One bound from below, or SQLite reads each page from the beginning; a blank comes before what names have in them.
      const from = cursor === null || cursor < prefix ? prefix : `${cursor} `;
      const values = [from, prefixEnd(prefix), limit];
      const { results } = await (
        owner === null
          ? db.prepare(`${NAME} WHERE ${PAGE}`).bind(...values)
          : db.prepare(`${NAME} WHERE owner = ? AND ${PAGE}`).bind(owner, ...values)
      ).all<NameRecord>();
      return {
        items: results.map(toName),
        cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null,
      };
    },

    async versions(name) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE name = ? AND removed_at IS NULL ORDER BY version DESC')
        .bind(name)
        .all<VersionRecord>();
      return readable(results, toVersion);
    },

    async versionsOf({ digest, limit }) {
      const { results } = await db
        .prepare(
          'SELECT * FROM versions WHERE digest = ? AND removed_at IS NULL ORDER BY name, version DESC LIMIT ?',
        )
        .bind(digest, limit)
        .all<VersionRecord>();
      return readable(results, toVersion);
    },

    async versionsOfChain({ chainId, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE chain_id = ? ORDER BY created_at DESC LIMIT ?')
        .bind(chainId, limit)
        .all<VersionRecord>();
      return readable(results, toVersion);
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
          `SELECT * FROM versions v WHERE name = ? AND retired_at IS NULL AND withdrawn_at IS NULL
             AND removed_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM history h
             WHERE h.name = v.name AND h.to_version = v.version AND h.action IN (${WENT_LIVE}))
           ORDER BY version DESC LIMIT 1`,
        )
        .bind(wanted)
        .first<VersionRecord>();
      return record && toVersion(record);
    },
  };
}
