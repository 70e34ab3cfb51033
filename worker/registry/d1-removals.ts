/** Removes, restores and forgets names and versions in D1. */
import { err, ok } from '../../protocol/api-error.ts';
import {
  isUniqueViolation,
  type SqlDatabase,
  type SqlStatement,
  prefixEnd,
} from '../platform/d1-database.ts';
import { historyRow, isGone, type Guard } from './d1-registry-changes.ts';
import { THIS_CHANGE, STANDS_ON, NAME, toName, type NameRecord } from './d1-registry-rows.ts';
import type { Descendant, Doomed, Removals, Registry, RemovedName, RemovedVersion } from './ports.ts';
import { z } from 'zod';

/** Whether the version or its name is an item of a list; the list is in `json_each`. */
const isItem = (item: string, version: string): string =>
  `${item}.value ->> 'name' = ${version}.name AND (${item}.value ->> 'version' IS NULL OR ${item}.value ->> 'version' = ${version}.version)`;

/** Versions in use that are built on items of the list ?1, but not in it. */
const STANDING = `FROM json_each(?1) item CROSS JOIN versions own ON ${isItem('item', 'own')} AND own.removed_at IS NULL
  JOIN chain_members m ON m.digest = own.digest JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE ${STANDS_ON} AND NOT EXISTS (SELECT 1 FROM json_each(?1) other WHERE ${isItem('other', 'v')})`;
/** Names in the list ?1 that are removed entirely. */
const WHOLE = "SELECT value ->> 'name' AS name FROM json_each(?1) WHERE value ->> 'version' IS NULL";
const ALIASES = `FROM names a WHERE a.alias IN (${WHOLE}) AND a.owner = ?2
  AND NOT EXISTS (SELECT 1 FROM json_each(?1) other WHERE other.value ->> 'name' = a.name)`;
const PINS = `FROM pins p WHERE p.name IN (${WHOLE})`;
/** Experiments on names of the list ?1, or that use one of its versions. */
const EXPERIMENTS = `FROM experiments e WHERE e.status <> 'archived' AND e.id IN (
    SELECT x.id FROM json_each(?1) item CROSS JOIN experiments x ON x.name = item.value ->> 'name'
      WHERE item.value ->> 'version' IS NULL
    UNION ALL SELECT u.experiment FROM json_each(?1) item CROSS JOIN experiment_versions u ON ${isItem('item', 'u')})`;

/** Rows of the list ?1 with their versions. */
const DOOMED = `FROM json_each(?1) item CROSS JOIN versions own ON ${isItem('item', 'own')}`;

const listOf = (items: readonly Doomed[]): string =>
  JSON.stringify(items.map(({ name, version }) => ({ name, version })));

/** What prevents the removal. The transaction checks it again. */
const heldBy = (items: readonly Doomed[], owner: string, cascade: boolean): Guard => {
  const list = listOf(items);
  const parts: [sql: string, values: string[]][] = [
    [`EXISTS (SELECT 1 ${STANDING}${cascade ? ' AND v.owner = ?2' : ''})`, cascade ? [list, owner] : [list]],
    [`EXISTS (SELECT 1 ${ALIASES})`, [list, owner]],
    [
      `EXISTS (SELECT 1 ${EXPERIMENTS}${cascade ? ' AND e.owner = ?2' : ''})`,
      cascade ? [list, owner] : [list],
    ],
    ...(cascade ? [] : ([[`EXISTS (SELECT 1 ${PINS})`, [list]]] as [string, string[]][])),
  ];
  return inOrder(parts);
};

/** Turns the numbered values of several parts into the positional ones of a guard. */
function inOrder(parts: readonly (readonly [sql: string, values: readonly string[]])[]): Guard {
  const values: string[] = [];
  const sql = parts.map(([text, given]) =>
    text.replaceAll(/\?(\d)/g, (_, number: string) => {
      values.push(given[Number(number) - 1] ?? '');
      return '?';
    }),
  );
  return { sql: sql.join(' OR '), values };
}

/** @param taken each name's last sequence number in history. */
const sequencesTo = (db: SqlDatabase, taken: ReadonlyMap<string, number>): SqlStatement[] =>
  [...taken].map(([name, sequence]) =>
    db.prepare('UPDATE names SET sequence = ? WHERE name = ?').bind(sequence, name),
  );

/** Versions that this change removes (by `removal`), and those with one of them in their chain. */
const ofThisChange = (joins = ''): string =>
  `FROM versions own INDEXED BY versions_of_removal JOIN chain_members m ON m.digest = own.digest
   JOIN versions v ON v.name = m.name AND v.version = m.version ${joins} WHERE own.removal = ${THIS_CHANGE}`;

/** Experiments that use `v`. */
const NAMED_BY = `JOIN experiment_versions u ON u.name = v.name AND u.version = v.version
  JOIN experiments e ON e.id = u.experiment`;

/**
 * Takes a time and a limit. Rows with `removed_at = 0` belong to an erasure, which deletes and counts them
 * itself.
 */
const OLDEST = `SELECT name, version FROM versions WHERE removed_at > 0 AND removed_at < ? ORDER BY removed_at, name, version LIMIT ?`;
/** Whole names among them. Takes the time again, before both. */
const OLDEST_NAMES = `SELECT n.name FROM names n WHERE n.removed_at > 0 AND n.removed_at < ?
  AND n.name IN (SELECT name FROM (${OLDEST}))`;
const THEIRS = ofThisChange();
const THEIR_NAMES = ofThisChange('JOIN names n ON n.name = v.name AND n.version = v.version');
const THEIR_EXPERIMENTS = ofThisChange(NAMED_BY);

export function createD1Removals(db: SqlDatabase, readName: Registry['name']): Removals {
  return {
    ...createD1Restorals(db, readName),

    async descendants({ items, owner, limit }) {
      const { results } = await db
        .prepare(
          `SELECT s.name, s.version,
             EXISTS (SELECT 1 FROM names n WHERE n.name = s.name AND n.version = s.version) AS live,
             (SELECT COUNT(*) FROM versions x WHERE x.name = s.name AND x.removed_at IS NULL) AS versions
           FROM versions s WHERE (s.name, s.version) IN (SELECT v.name, v.version ${STANDING} AND v.owner = ?2)
           ORDER BY s.name, s.version LIMIT ?3`,
        )
        .bind(listOf(items), owner, limit)
        .all<Omit<Descendant, 'live'> & { live: number }>();
      return results.map((row) => ({ ...row, live: row.live === 1 }));
    },

    async holders({ items, owner }) {
      const list = listOf(items);
      const ask = (sql: string, ...values: string[]) => db.prepare(sql).bind(list, ...values);
      const [aliases, pins, experiments, versions, others] = await db.batch([
        ask(`SELECT a.name AS id ${ALIASES} ORDER BY a.name`, owner),
        ask(`SELECT p.name AS id ${PINS} ORDER BY p.name`),
        ask(`SELECT e.id ${EXPERIMENTS} AND e.owner = ?2 ORDER BY e.id`, owner),
        ask(
          `SELECT COUNT(*) AS count FROM versions s
           WHERE (s.name, s.version) IN (SELECT v.name, v.version ${STANDING} AND v.owner <> ?2)`,
          owner,
        ),
        ask(`SELECT COUNT(*) AS count ${EXPERIMENTS} AND e.owner <> ?2`, owner),
      ]);
      const ids = (answer: typeof aliases) => (answer?.results as { id: string }[]).map(({ id }) => id);
      const count = (answer: typeof aliases) => (answer?.results as { count: number }[])[0]?.count ?? 0;
      return {
        ...{ aliases: ids(aliases), pins: ids(pins), experiments: ids(experiments) },
        others: { versions: count(versions), experiments: count(others) },
      };
    },

    async remove({ items, owner, cascade, ...note }) {
      const list = listOf(items);
      const taken = new Map<string, number>();
      const history = items.map(({ before, version }, i) => {
        const guards = [
          ...(taken.has(before.name) ? [] : [isGone(before)]),
          ...(i === 0 ? [heldBy(items, owner, cascade)] : []),
        ];
        const sequence = (taken.get(before.name) ?? before.sequence) + 1;
        taken.set(before.name, sequence);
        const entry = { ...note, action: 'remove' as const, from: before.version, to: version };
        return historyRow(db, { ...before, sequence }, { ...entry, target: before.alias }, guards);
      });
      try {
        await db.batch([...history, ...sequencesTo(db, taken), ...removing(list, note.at)]);
        return ok(null);
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return err({ kind: 'conflict', name: await readName(items[0]?.name ?? '') });
      }
    },

    async forgetRemoved({ before, limit, at }) {
      const [, , , , , gone] = await db.batch([
        ...['evaluation_rows', 'evaluation_scores', 'evaluations'].map((table) =>
          db
            // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
            .prepare(`DELETE FROM ${table} WHERE name IN (${OLDEST_NAMES})`)
            .bind(before, before, limit),
        ),
        db
          .prepare(
            `DELETE FROM chain_members WHERE (digest, below, name, version) IN (
               SELECT member.value ->> 'digest', member.key < json_array_length(v.chain) - 1, v.name, v.version
               FROM versions v, json_each(v.chain) member WHERE (v.name, v.version) IN (${OLDEST}))`,
          )
          .bind(before, limit),
        // Others may have it, or are about to: the collector sees.
        db
          .prepare(
            `INSERT OR IGNORE INTO stored_parts (digest, sha256, bytes, kept_at) SELECT v.digest, v.proof, 0, ?
             FROM versions v WHERE (v.name, v.version) IN (${OLDEST}) AND v.proof IS NOT NULL`,
          )
          .bind(at, before, limit),
        db
          .prepare(`DELETE FROM versions WHERE (name, version) IN (${OLDEST}) RETURNING name`)
          .bind(before, limit),
      ]);
      return gone?.results.length ?? 0;
    },
  };

  function removing(list: string, at: number): SqlStatement[] {
    return [
      db
        .prepare(
          `UPDATE versions SET removed_at = ?2, removal = ${THIS_CHANGE} WHERE removed_at IS NULL AND (name, version) IN (
             SELECT own.name, own.version ${DOOMED})`,
        )
        .bind(list, at),
      db
        .prepare(
          `UPDATE names SET removed_at = ?2, removal = ${THIS_CHANGE}, removed_version = version, removed_alias = alias,
             version = NULL, alias = NULL WHERE name IN (${WHOLE})`,
        )
        .bind(list, at),
      db.prepare(`DELETE FROM pins WHERE name IN (${WHOLE})`).bind(list),
      // Others' versions, unless the name has another version in use with the same file.
      db
        .prepare(
          `UPDATE versions SET withdrawn_at = ? WHERE withdrawn_at IS NULL AND (name, version) IN (
             SELECT v.name, v.version ${THEIRS} AND v.owner <> own.owner AND ${STANDS_ON}
               AND NOT EXISTS (SELECT 1 FROM versions o WHERE o.name = own.name AND o.digest = own.digest
                 AND o.retired_at IS NULL AND o.removed_at IS NULL))`,
        )
        .bind(at),
      db
        .prepare(
          `INSERT INTO stale_pointers (name, since, change) SELECT name, ?2, ${THIS_CHANGE} FROM (
             ${WHOLE}
             UNION ALL SELECT n.name ${THEIR_NAMES}
               AND v.withdrawn_at IS NOT NULL
             UNION ALL SELECT e.name ${EXPERIMENTS} AND e.started_at IS NOT NULL
             UNION ALL SELECT e.name ${THEIR_EXPERIMENTS} AND v.withdrawn_at IS NOT NULL
               AND e.status <> 'archived' AND e.started_at IS NOT NULL) WHERE true
           ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change`,
        )
        .bind(list, at),
    ];
  }
}

interface RemovedRecord extends NameRecord {
  removal: number;
  removed_version: number | null;
  removed_alias: string | null;
}

/**
 * Names of adapters that `v` is built on and that are not in use; `among` adds exceptions, `owners` compares
 * the owner.
 */
const lacks = (owners: '=' | '<>', among: string): string => `SELECT below.value ->> 'name' AS name
  FROM json_each(v.chain) below WHERE below.key < json_array_length(v.chain) - 1
    AND below.value ->> 'owner' ${owners} v.owner AND NOT EXISTS (
      SELECT 1 FROM versions o WHERE o.name = below.value ->> 'name' AND o.digest = below.value ->> 'digest'
        AND o.retired_at IS NULL AND (o.removed_at IS NULL OR ${among}))`;

/** Versions of the list ?1, as `v`. */
const listed = (v: string): string => `FROM json_each(?1) pin JOIN versions ${v}
  ON ${v}.name = pin.value ->> 'name' AND ${v}.version = pin.value ->> 'version'`;
/** Others' versions `v` with one of the list ?1 in their chain. */
const above = (joins = ''): string => `${listed('own')} JOIN chain_members m ON m.digest = own.digest
  JOIN versions v ON v.name = m.name AND v.version = m.version ${joins} WHERE v.owner <> own.owner`;
const IN_LIST = `(name, version) IN (
  SELECT pin.value ->> 'name', pin.value ->> 'version' FROM json_each(?1) pin)`;
/** Whether an adapter of another owner that `v` needs is missing. */
const LACKS_OTHERS = `EXISTS (${lacks('<>', '0')})`;
const AMONG_LISTED = `EXISTS (SELECT 1 FROM json_each(?1) other
  WHERE other.value ->> 'name' = o.name AND other.value ->> 'version' = o.version)`;

/** Experiments that use `v` and were ever live. */
const IS_ON = "e.status <> 'archived' AND e.started_at IS NOT NULL";

/** A guard that binds the same list several times: its values are positional. */
const repeatedList = (sql: string, list: string): Guard => ({
  sql: sql.replaceAll('?1', '?'),
  values: Array.from(sql.matchAll(/\?1/g), () => list),
});

/** The first ?4 names behind ?1 with something removed, whoever's, between ?2 and ?3; exclusive. */
const removedBetween = (table: string, index: string): string =>
  `SELECT * FROM (SELECT DISTINCT name FROM ${table} INDEXED BY ${index}
     WHERE removed_at > 0 AND name > ?1 AND name >= ?2 AND name < ?3 ORDER BY name LIMIT ?4)`;
const WITH_REMOVED = `(${removedBetween('versions', 'versions_removed_by_name')}
  UNION ${removedBetween('names', 'names_removed')} ORDER BY name LIMIT ?4)`;

interface RemovedRow {
  name: string;
  owner: string;
  whole: number;
  versions: string;
  removed_at: number;
}

function createD1Restorals(
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
      const bound = [cursor ?? '', prefix, prefixEnd(prefix), limit] as const;
      const [listed, ended] = await db.batch([
        db
          .prepare(
            `SELECT n.name, n.owner, COALESCE(n.removed_at >= ?5, 0) AS whole,
               json_group_array(v.version) FILTER (WHERE v.version IS NOT NULL) AS versions,
               MIN(COALESCE(MIN(v.removed_at), n.removed_at), COALESCE(n.removed_at, MIN(v.removed_at))) AS removed_at
             FROM ${WITH_REMOVED} found
             CROSS JOIN names n ON n.name = found.name
             LEFT JOIN versions v INDEXED BY versions_removed_by_name
               ON v.name = n.name AND v.removed_at > 0 AND v.removed_at >= ?5
             WHERE ?6 IS NULL OR n.owner = ?6
             GROUP BY n.name HAVING MIN(v.removed_at) IS NOT NULL OR n.removed_at >= ?5 ORDER BY n.name`,
          )
          .bind(...bound, since, owner),
        db.prepare(`SELECT name FROM ${WITH_REMOVED} LIMIT 1 OFFSET ?4 - 1`).bind(...bound),
      ]);
      const rows = listed!.results as RemovedRow[];
      const [last] = ended!.results as { name: string }[];
      return {
        items: rows.map(({ name, owner: of, whole, versions, removed_at: removedAt }) => ({
          ...{ name, owner: of, whole: whole !== 0, removedAt },
          versions: z
            .array(z.int())
            .parse(JSON.parse(versions))
            .sort((a, b) => a - b),
        })),
        cursor: last?.name ?? null,
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
      const guard = repeatedList(
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
      try {
        await db.batch([
          ...history,
          ...sequencesTo(db, sequences),
          ...restoring(list, JSON.stringify([...whole]), note.at),
        ]);
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
      // Others may have retired their bases in the meantime …
      one(
        `UPDATE versions SET withdrawn_at = COALESCE(withdrawn_at, ?2) WHERE (name, version) IN (
           SELECT v.name, v.version ${listed('v')} WHERE ${LACKS_OTHERS})`,
        ...[list, at],
      ),
      // … and what others built on these is served again, unless it lacks something else.
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
