import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import { DEPENDS } from './d1-registry-rows.ts';
import type { Registry, VersionRow } from './ports.ts';
import { THIS_CHANGE } from './d1-registry-pointers.ts';
import type { Stopped } from './ports-rooms.ts';

type Retiring = Pick<VersionRow, 'name' | 'version' | 'digest' | 'owner'>;

/** Versions in use that stand on it; takes digest and name. */
const STANDING = `FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE m.digest = ? AND ${DEPENDS}`;

/** Those of others that stop when it is retired; takes {@link stoppingValues}. */
const STOPPING = `SELECT v.name, v.version ${STANDING} AND v.owner <> ? AND v.withdrawn_at IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM versions o WHERE o.name = ? AND o.digest = ? AND o.version <> ? AND o.retired_at IS NULL
      AND o.removed_at IS NULL)`;
const stoppingValues = ({ name, version, digest, owner }: Retiring): (string | number)[] => [
  ...[digest, name, owner],
  ...[name, digest, version],
];

/** Experiments that name it, or what was withdrawn because of its file; takes name, version and digest. */
const CONCERNED = `FROM experiment_versions u JOIN experiments e ON e.id = u.experiment
  WHERE e.status <> 'archived' AND ((u.name = ? AND u.version = ?) OR EXISTS (
    SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
    WHERE m.digest = ? AND m.name = u.name AND m.version = u.version AND v.withdrawn_at IS NOT NULL))`;

/**
 * A version in use of the same owner was made on top of this one, or an experiment of the same owner names it; asked
 * beforehand too, but it may come to be in between.
 */
export const isInUse = ({ name, version, owner }: Omit<Retiring, 'digest'>) => ({
  sql: `(EXISTS (
    SELECT 1 FROM versions own JOIN chain_members m ON m.digest = own.digest
    JOIN versions v ON v.name = m.name AND v.version = m.version
    WHERE own.name = ? AND own.version = ? AND v.owner = ? AND ${DEPENDS})
   OR EXISTS (
    SELECT 1 FROM experiment_versions u JOIN experiments e ON e.id = u.experiment
    WHERE u.name = ? AND u.version = ? AND e.owner = ? AND e.status <> 'archived'))`,
  values: [name, version, owner, name, name, version, owner],
});

/** Marks what stops, and notes the pointers that lead to it; behind the statement that retires the version. */
export function withdrawals(db: SqlDatabase, row: Retiring, at: number): SqlStatement[] {
  const { name, version, digest } = row;
  return [
    db
      .prepare(`UPDATE versions SET withdrawn_at = ? WHERE (name, version) IN (${STOPPING})`)
      .bind(at, ...stoppingValues(row)),
    db
      .prepare(
        `INSERT INTO stale_pointers (name, since, change)
         SELECT n.name, ?, ${THIS_CHANGE} FROM chain_members m
         JOIN versions v ON v.name = m.name AND v.version = m.version
         JOIN names n ON n.name = v.name AND n.version = v.version
         WHERE m.digest = ? AND v.withdrawn_at IS NOT NULL
         UNION SELECT e.name, ?, ${THIS_CHANGE} ${CONCERNED} AND e.started_at IS NOT NULL
         ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change`,
      )
      .bind(at, digest, at, name, version, digest),
  ];
}

export function createD1Withdrawals(db: SqlDatabase): Pick<Registry, 'dependents' | 'stops'> {
  return {
    async dependents({ name, digest, owner }, limit) {
      const { results } = await db
        .prepare(`SELECT v.name, v.version ${STANDING} AND v.owner = ? ORDER BY v.name, v.version LIMIT ?`)
        .bind(digest, name, owner, limit)
        .all<{ name: string; version: number }>();
      return results;
    },

    async stops(row) {
      const { name, version } = row;
      const values = stoppingValues(row);
      const stopped = await db
        .prepare(
          `SELECT (SELECT COUNT(*) FROM (${STOPPING})) AS versions,
             (SELECT COUNT(DISTINCT e.id) FROM experiment_versions u JOIN experiments e ON e.id = u.experiment
              WHERE e.status <> 'archived'
                AND ((u.name = ? AND u.version = ?) OR (u.name, u.version) IN (${STOPPING}))) AS experiments`,
        )
        .bind(...values, name, version, ...values)
        .first<Stopped>();
      return stopped ?? { versions: 0, experiments: 0 };
    },
  };
}
