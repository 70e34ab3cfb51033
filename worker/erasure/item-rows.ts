/** Parts of statements about what an erasure has noted; ?1 is its id, ?2 whose things go. */
import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import { STANDS_ON } from '../registry/d1-registry-rows.ts';

/** Binds the values whose numbers the statement has; D1 takes no more. */
export function numbered(
  db: SqlDatabase,
  sql: string,
  values: readonly (string | number | null)[],
): SqlStatement {
  const most = Math.max(0, ...[...sql.matchAll(/\?(\d+)/g)].map(([, number]) => Number(number)));
  return db.prepare(sql).bind(...values.slice(0, most));
}

/** The row of `versions`, or what has a name and a version as those, goes. */
export const hasItem = (row: string): string =>
  `EXISTS (SELECT 1 FROM erasure_items x WHERE x.erasure = ?1 AND x.name = ${row}.name AND x.version IN (0, ${row}.version))`;

/** Of `history`: the newest row stays, so that no change has the id of an earlier one. */
export const NOT_NEWEST = 'id <> (SELECT MAX(id) FROM history)';

/** Names that go, or have gone, as a whole … */
export const WHOLE = 'SELECT name FROM erasure_items WHERE erasure = ?1 AND version = 0';
/** … and those of them that are to go yet. */
export const WHOLE_YET = `${WHOLE} AND gone = 0`;

/** Versions `own` that are to go yet; `i` has what is said of them. */
export const ITEMS = `erasure_items i CROSS JOIN versions own ON own.name = i.name AND i.version IN (0, own.version)`;
export const OWN = `FROM ${ITEMS} WHERE i.erasure = ?1 AND i.gone = 0`;

/** Versions `v` that have `own` in their chain, as far as digests say. */
export const WITH_CHAIN = `FROM ${ITEMS} JOIN chain_members m ON m.digest = own.digest
  JOIN versions v ON v.name = m.name AND v.version = m.version WHERE i.erasure = ?1 AND i.gone = 0`;

/** Experiments `u` that name what goes. */
export const USED = `FROM erasure_items i CROSS JOIN experiment_versions u ON u.name = i.name AND i.version IN (0, u.version)
  WHERE i.erasure = ?1`;

export const OF_TENANT = "EXISTS (SELECT 1 FROM erasures t WHERE t.id = ?1 AND t.kind = 'tenant')";

/** The owner's experiments on what goes; with others of theirs that test it. */
export const EXPERIMENTS = `FROM experiments e WHERE e.owner = ?2 AND (
  ${OF_TENANT} OR e.name IN (${WHOLE}) OR e.id IN (SELECT u.experiment ${USED}))`;

/** Versions `v` in use that stand on what goes, and stay. */
export const STANDING = `${WITH_CHAIN} AND ${STANDS_ON} AND NOT ${hasItem('v')}`;
/** … of which these are on other names. */
export const OUTSIDE = `${EXPERIMENTS} AND NOT ${OF_TENANT} AND e.name NOT IN (${WHOLE})`;
/** Of other owners, not archived: they test what goes. */
export const OTHERS_EXPERIMENTS = `FROM experiments e WHERE e.owner <> ?2 AND e.status <> 'archived'
  AND e.id IN (SELECT u.experiment ${USED})`;

/** Files of what goes; of a tenant also what it sent and never published. */
export const FILES = `SELECT own.digest ${OWN}
  UNION SELECT digest FROM blob_parts WHERE tenant = ?2 AND ${OF_TENANT}
  UNION SELECT digest FROM blob_holders WHERE tenant = ?2 AND ${OF_TENANT}`;
/** Another version has the file `f` of its own, or in its chain by another name; or another tenant has sent it. */
export const STAYS = `EXISTS (SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
    JOIN json_each(v.chain) c ON c.value ->> 'digest' = f.digest
    WHERE m.digest = f.digest AND NOT ${hasItem('v')}
      AND NOT EXISTS (SELECT 1 FROM erasure_items x WHERE x.erasure = ?1 AND x.name = c.value ->> 'name'))
  OR EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = f.digest AND h.tenant <> ?2)
  OR EXISTS (SELECT 1 FROM blob_parts p WHERE p.digest = f.digest AND p.tenant <> ?2)`;
