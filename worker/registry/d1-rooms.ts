import { prefixEnd, type SqlDatabase, type SqlStatement } from '../platform/d1-database.ts';
import { MAX_OWNERS_BELOW, type Claim, type RoomRow, type Rooms } from './ports-rooms.ts';

interface RoomRecord {
  name: string;
  tenant: string;
  created_at: number;
  created_by: string;
}

const toRoom = (record: RoomRecord): RoomRow => ({
  name: record.name,
  tenant: record.tenant,
  createdAt: record.created_at,
  createdBy: record.created_by,
});

/** @returns the names above `name`, as JSON. */
function above(name: string): string {
  const parts = name.split('/');
  return JSON.stringify(parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('/')));
}

/** Takes {@link nearestValues}. A room comes before a name of the same path: 'room' sorts behind 'name'. */
const NEAREST = `SELECT * FROM (
    SELECT name AS path, tenant AS owner, 'room' AS kind FROM rooms
    WHERE name = ? OR name IN (SELECT value FROM json_each(?))
    UNION ALL SELECT name, owner, 'name' FROM names WHERE name IN (SELECT value FROM json_each(?)))
  ORDER BY length(path) DESC, kind DESC LIMIT 1`;
const nearestValues = (name: string): string[] => [name, above(name), above(name)];

/** Takes {@link belowValues}. */
const BELOW = `SELECT owner FROM names WHERE name > ? AND name < ?
  UNION SELECT tenant FROM rooms WHERE name > ? AND name < ?`;
const belowValues = (name: string): string[] => {
  const range = [`${name}/`, prefixEnd(`${name}/`)];
  return [...range, ...range];
};

/** What must not be true when a name that does not exist is taken: as `mayTake` of policy/claims decides, then. */
export const notFreeFor = (tenant: string, name: string): { sql: string; values: string[] } => ({
  sql: `CASE (SELECT CASE WHEN owner <> ? THEN 'other' ELSE kind END FROM (${NEAREST}))
    WHEN 'other' THEN 1 WHEN 'room' THEN 0
    ELSE EXISTS (SELECT 1 FROM (${BELOW}) WHERE owner <> ?) END`,
  values: [tenant, ...nearestValues(name), ...belowValues(name), tenant],
});

const CHANGE = `INSERT INTO history (name, sequence, at, actor, owner, action, from_version, to_version, target, why)
  SELECT ?, (SELECT MIN(0, COALESCE(MIN(sequence), 0)) - 1 FROM history WHERE name = ?), ?, ?, `;

export function createD1Rooms(db: SqlDatabase): Rooms {
  /** What its tenant until now hears of it, when that is not `but`. */
  const taken = (change: Parameters<Rooms['release']>[0], but: string): SqlStatement =>
    db
      .prepare(
        `${CHANGE} tenant, 'unreserve', NULL, NULL, tenant, ? FROM rooms WHERE name = ? AND tenant <> ?`,
      )
      .bind(change.name, change.name, change.at, change.actor, change.why ?? null, change.name, but);

  const tenantOf = async (name: string): Promise<string | null> =>
    (await db.prepare('SELECT tenant FROM rooms WHERE name = ?').bind(name).first<{ tenant: string }>())
      ?.tenant ?? null;

  return {
    async around(name) {
      const { results } = await db
        .prepare(
          `SELECT 'own' AS place, name AS path, owner, 'name' AS kind FROM names WHERE name = ?
           UNION ALL SELECT 'above', * FROM (${NEAREST})
           UNION ALL SELECT 'below', '', owner, '' FROM (${BELOW} ORDER BY 1 LIMIT ${MAX_OWNERS_BELOW})`,
        )
        .bind(name, ...nearestValues(name), ...belowValues(name))
        .all<{ place: 'own' | 'above' | 'below'; path: string; owner: string; kind: Claim['by'] }>();
      const nearest = results.find(({ place }) => place === 'above');
      return {
        own: results.find(({ place }) => place === 'own')?.owner ?? null,
        above: nearest === undefined ? null : { path: nearest.path, owner: nearest.owner, by: nearest.kind },
        below: results.filter(({ place }) => place === 'below').map(({ owner }) => owner),
      };
    },

    async rooms({ tenant, cursor, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM rooms WHERE name > ? AND (? IS NULL OR tenant = ?) ORDER BY name LIMIT ?')
        .bind(cursor ?? '', tenant, tenant, limit)
        .all<RoomRecord>();
      return {
        items: results.map(toRoom),
        cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null,
      };
    },

    async reserve(change) {
      const { name, tenant, at, actor, why = null } = change;
      const before = await tenantOf(name);
      await db.batch([
        taken(change, tenant),
        db
          .prepare(
            `${CHANGE} ?, 'reserve', NULL, NULL, ?, ?
             WHERE NOT EXISTS (SELECT 1 FROM rooms WHERE name = ? AND tenant = ?)`,
          )
          .bind(name, name, at, actor, tenant, tenant, why, name, tenant),
        db
          .prepare(
            `INSERT INTO rooms (name, tenant, created_at, created_by) VALUES (?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET tenant = excluded.tenant, created_at = excluded.created_at,
               created_by = excluded.created_by WHERE tenant <> excluded.tenant`,
          )
          .bind(name, tenant, at, actor),
      ]);
      return before !== tenant;
    },

    async release(change) {
      const before = await tenantOf(change.name);
      // No tenant is called so.
      await db.batch([taken(change, ''), db.prepare('DELETE FROM rooms WHERE name = ?').bind(change.name)]);
      return before !== null;
    },
  };
}
