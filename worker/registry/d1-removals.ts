import { err, ok } from '../../protocol/index.ts';
import { isUniqueViolation, type SqlDatabase, type SqlStatement } from '../platform/d1-database.ts';
import { historyRow, isGone, type Guard } from './d1-registry-changes.ts';
import { createD1Restorals } from './d1-restorals.ts';
import { THIS_CHANGE } from './d1-registry-pointers.ts';
import { STANDS_ON } from './d1-registry-rows.ts';
import type { Descendant, Doomed, Removals } from './ports-removals.ts';
import type { Registry } from './ports.ts';

/** Whether an item of a list is the version, or its name; the list is in `json_each`. */
const isItem = (item: string, version: string): string =>
  `${item}.value ->> 'name' = ${version}.name AND (${item}.value ->> 'version' IS NULL OR ${item}.value ->> 'version' = ${version}.version)`;

/** Versions in use that stand on items of the list ?1 and are none of them. */
const STANDING = `FROM json_each(?1) item CROSS JOIN versions own ON ${isItem('item', 'own')} AND own.removed_at IS NULL
  JOIN chain_members m ON m.digest = own.digest JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE ${STANDS_ON} AND NOT EXISTS (SELECT 1 FROM json_each(?1) other WHERE ${isItem('other', 'v')})`;
/** Names of the list ?1 that go as a whole. */
const WHOLE = "SELECT value ->> 'name' AS name FROM json_each(?1) WHERE value ->> 'version' IS NULL";
const ALIASES = `FROM names a WHERE a.alias IN (${WHOLE}) AND a.owner = ?2
  AND NOT EXISTS (SELECT 1 FROM json_each(?1) other WHERE other.value ->> 'name' = a.name)`;
const PINS = `FROM pins p WHERE p.name IN (${WHOLE})`;
/** Experiments on names of the list ?1, or that name one of its versions. */
const EXPERIMENTS = `FROM experiments e WHERE e.status <> 'archived' AND e.id IN (
    SELECT x.id FROM json_each(?1) item CROSS JOIN experiments x ON x.name = item.value ->> 'name'
      WHERE item.value ->> 'version' IS NULL
    UNION ALL SELECT u.experiment FROM json_each(?1) item CROSS JOIN experiment_versions u ON ${isItem('item', 'u')})`;

/** Rows of the list ?1 with the versions that they mean. */
const DOOMED = `FROM json_each(?1) item CROSS JOIN versions own ON ${isItem('item', 'own')}`;

const listOf = (items: readonly Doomed[]): string =>
  JSON.stringify(items.map(({ name, version }) => ({ name, version })));

/** What stands in the way, asked once more where the change is made. */
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

/** The numbered values of several parts, as those of a guard, which has them in order. */
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

/** Versions of this change, which `removal` says, and those that have them in their chain. */
const ofThisChange = (joins = ''): string =>
  `FROM versions own INDEXED BY versions_of_removal JOIN chain_members m ON m.digest = own.digest
   JOIN versions v ON v.name = m.name AND v.version = m.version ${joins} WHERE own.removal = ${THIS_CHANGE}`;

/** Experiments that name `v`. */
const NAMED_BY = `JOIN experiment_versions u ON u.name = v.name AND u.version = v.version
  JOIN experiments e ON e.id = u.experiment`;

/** Takes a time and a number. */
const OLDEST = `SELECT name, version FROM versions WHERE removed_at < ? ORDER BY removed_at, name, version LIMIT ?`;
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
      const names = [...taken].map(([name, sequence]) =>
        db.prepare('UPDATE names SET sequence = ? WHERE name = ?').bind(sequence, name),
      );
      try {
        await db.batch([...history, ...names, ...removing(list, note.at)]);
        return ok(null);
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return err({ kind: 'conflict', name: await readName(items[0]?.name ?? '') });
      }
    },

    async forgetRemoved({ before, limit }) {
      const [, gone] = await db.batch([
        db
          .prepare(
            `DELETE FROM chain_members WHERE (digest, name, version) IN (
               SELECT member.value ->> 'digest', v.name, v.version FROM versions v, json_each(v.chain) member
               WHERE (v.name, v.version) IN (${OLDEST}))`,
          )
          .bind(before, limit),
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
      // Others' versions, unless another one of the name, of the same file, is still in use.
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
