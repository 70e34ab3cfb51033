import { z } from 'zod';
import { err, ok } from '../../protocol/index.ts';
import {
  isUniqueViolation,
  prefixEnd,
  type SqlDatabase,
  type SqlStatement,
} from '../platform/d1-database.ts';
import { historyRow, isGone, type Guard } from './d1-registry-changes.ts';
import { NAME, toName, type NameRecord } from './d1-registry-rows.ts';
import { THIS_CHANGE } from './d1-registry-pointers.ts';
import type { RemovedName, RemovedVersion, Removals } from './ports-removals.ts';
import type { Registry } from './ports.ts';

interface RemovedRecord extends NameRecord {
  removal: number;
  removed_version: number | null;
  removed_alias: string | null;
}

/** Names of adapters that `v` stands on and that are not in use, but for what `among` says; `owners` compares the owner. */
const lacks = (owners: '=' | '<>', among: string): string => `SELECT below.value ->> 'name' AS name
  FROM json_each(v.chain) below WHERE below.key < json_array_length(v.chain) - 1
    AND below.value ->> 'owner' ${owners} v.owner AND NOT EXISTS (
      SELECT 1 FROM versions o WHERE o.name = below.value ->> 'name' AND o.digest = below.value ->> 'digest'
        AND o.retired_at IS NULL AND (o.removed_at IS NULL OR ${among}))`;

/** Versions of the list ?1, called `v`. */
const listed = (v: string): string => `FROM json_each(?1) pin JOIN versions ${v}
  ON ${v}.name = pin.value ->> 'name' AND ${v}.version = pin.value ->> 'version'`;
/** Versions of others, `v`, that have one of the list ?1 in their chain. */
const above = (joins = ''): string => `${listed('own')} JOIN chain_members m ON m.digest = own.digest
  JOIN versions v ON v.name = m.name AND v.version = m.version ${joins} WHERE v.owner <> own.owner`;
const IN_LIST = `(name, version) IN (
  SELECT pin.value ->> 'name', pin.value ->> 'version' FROM json_each(?1) pin)`;
/** Whether `v` lacks an adapter of another owner. */
const LACKS_OTHERS = `EXISTS (${lacks('<>', '0')})`;
const AMONG_LISTED = `EXISTS (SELECT 1 FROM json_each(?1) other
  WHERE other.value ->> 'name' = o.name AND other.value ->> 'version' = o.version)`;

/** Experiments that name `v`, and were ever live. */
const NAMED_BY = `JOIN experiment_versions u ON u.name = v.name AND u.version = v.version
  JOIN experiments e ON e.id = u.experiment`;
const IS_ON = "e.status <> 'archived' AND e.started_at IS NOT NULL";

/** Changes that restore take the same list several times; a guard has its values in order. */
const inOrder = (sql: string, list: string): Guard => ({
  sql: sql.replaceAll('?1', '?'),
  values: Array.from(sql.matchAll(/\?1/g), () => list),
});

export function createD1Restorals(
  db: SqlDatabase,
  readName: Registry['name'],
): Pick<Removals, 'removedVersions' | 'removedNames' | 'restore' | 'withRemoved'> {
  return {
    async removedVersions(of, since) {
      const [where, value] =
        'name' in of ? (['v.name = ?', of.name] as const) : (['v.removal = ?', of.removal] as const);
      const { results } = await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of the constants above; the values are bound
          `SELECT v.name, v.version, v.removal,
             (SELECT json_group_array(lacking.name) FROM (${lacks('=', '0')}) lacking) AS lacks
           FROM versions v WHERE ${where} AND v.removed_at >= ? ORDER BY v.name, v.version`,
        )
        .bind(value, since)
        .all<Omit<RemovedVersion, 'lacks'> & { lacks: string }>();
      return results.map((row) => ({ ...row, lacks: z.array(z.string()).parse(JSON.parse(row.lacks)) }));
    },

    async withRemoved({ prefix, owner, since, cursor, limit }) {
      // Removed versions and removed names are few, and have indexes of their own.
      const { results } = await db
        .prepare(
          `SELECT n.name, n.owner, COALESCE(n.removed_at >= ?1, 0) AS whole, v.versions,
             MIN(COALESCE(v.first, n.removed_at), COALESCE(n.removed_at, v.first)) AS removed_at
           FROM (SELECT name FROM versions WHERE removed_at >= ?1
             UNION SELECT name FROM names WHERE removal IS NOT NULL AND removed_at >= ?1) found
           CROSS JOIN names n ON n.name = found.name
           LEFT JOIN (SELECT name, json_group_array(version) AS versions, MIN(removed_at) AS first
             FROM versions WHERE removed_at >= ?1 GROUP BY name) v ON v.name = n.name
           WHERE n.name > ?2 AND n.name >= ?3 AND n.name < ?4 AND (?5 IS NULL OR n.owner = ?5)
           ORDER BY n.name LIMIT ?6`,
        )
        .bind(since, cursor ?? '', prefix, prefixEnd(prefix), owner, limit)
        .all<{ name: string; owner: string; whole: number; versions: string | null; removed_at: number }>();
      return {
        items: results.map(({ name, owner: of, whole, versions, removed_at: removedAt }) => ({
          ...{ name, owner: of, whole: whole !== 0, removedAt },
          versions: z
            .array(z.int())
            .parse(JSON.parse(versions ?? '[]'))
            .sort((a, b) => a - b),
        })),
        cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null,
      };
    },

    async removedNames(of, since) {
      const [where, value] =
        'name' in of ? (['name = ?', of.name] as const) : (['removal = ?', of.removal] as const);
      const { results } = await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of the constants above; the values are bound
          `${NAME.replace(' FROM', ', removal, removed_version, removed_alias FROM')}
           WHERE ${where} AND removed_at >= ? ORDER BY name`,
        )
        .bind(value, since)
        .all<RemovedRecord>();
      return results.map(({ removal, removed_version, removed_alias, ...row }): RemovedName => ({
        ...{ row: toName(row), removal, version: removed_version, alias: removed_alias },
      }));
    },

    async restore({ names, versions, ...note }) {
      const list = JSON.stringify(versions.map(({ name, version }) => ({ name, version })));
      const guard = inOrder(
        `EXISTS (SELECT 1 FROM json_each(?1) pin WHERE NOT EXISTS (
           SELECT 1 FROM versions v WHERE v.name = pin.value ->> 'name' AND v.version = pin.value ->> 'version'
             AND v.removed_at IS NOT NULL AND (v.retired_at IS NOT NULL OR NOT EXISTS (${lacks('=', AMONG_LISTED)}))))`,
        list,
      );
      const whole = new Set(names.map(({ row }) => row.name));
      const sequences = new Map<string, number>();
      const changes = [
        ...names.map(({ row, version, alias }) => ({ before: row, to: version, target: alias })),
        ...versions.flatMap(({ name, version, before }) =>
          whole.has(name) ? [] : [{ before, to: version, target: null }],
        ),
      ];
      const history = changes.map(({ before, to, target }, i) => {
        const guards = [...(sequences.has(before.name) ? [] : [isGone(before)]), ...(i === 0 ? [guard] : [])];
        const sequence = (sequences.get(before.name) ?? before.sequence) + 1;
        sequences.set(before.name, sequence);
        const entry = { ...note, action: 'restore' as const, from: before.version, to, target };
        return historyRow(db, { ...before, sequence }, entry, guards);
      });
      const steps = [...sequences].map(([name, sequence]) =>
        db.prepare('UPDATE names SET sequence = ? WHERE name = ?').bind(sequence, name),
      );
      try {
        await db.batch([...history, ...steps, ...restoring(list, JSON.stringify([...whole]), note.at)]);
        return ok(null);
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return err({ kind: 'conflict', name: await readName(changes[0]?.before.name ?? '') });
      }
    },
  };

  function restoring(list: string, whole: string, at: number): SqlStatement[] {
    const one = (sql: string, ...values: (string | number)[]) => db.prepare(sql).bind(...values);
    return [
      one(`UPDATE versions SET removed_at = NULL, removal = NULL WHERE ${IN_LIST}`, list),
      one(
        `UPDATE names SET version = removed_version, alias = removed_alias, removed_at = NULL, removal = NULL,
           removed_version = NULL, removed_alias = NULL WHERE name IN (SELECT value FROM json_each(?))`,
        whole,
      ),
      // Meanwhile others may have retired what these stand on …
      one(
        `UPDATE versions SET withdrawn_at = COALESCE(withdrawn_at, ?2) WHERE (name, version) IN (
           SELECT v.name, v.version ${listed('v')} WHERE ${LACKS_OTHERS})`,
        ...[list, at],
      ),
      // … and what others made on top of these is served again, unless it lacks something else.
      one(
        `UPDATE versions SET withdrawn_at = NULL WHERE withdrawn_at IS NOT NULL AND (name, version) IN (
           SELECT v.name, v.version ${above()} AND NOT ${LACKS_OTHERS})`,
        list,
      ),
      one(
        `INSERT INTO stale_pointers (name, since, change) SELECT name, ?2, ${THIS_CHANGE} FROM (
           SELECT value AS name FROM json_each(?3)
           UNION ALL SELECT n.name ${above('JOIN names n ON n.name = v.name AND n.version = v.version')}
           UNION ALL SELECT e.name ${listed('v')} ${NAMED_BY} WHERE ${IS_ON}
           UNION ALL SELECT e.name ${above(NAMED_BY)} AND ${IS_ON}) WHERE true
         ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change`,
        ...[list, at, whole],
      ),
    ];
  }
}
