import { isUniqueViolation, prefixEnd, type SqlDatabase } from '../platform/d1-database.ts';
import { beginning } from './d1-begin-erasure.ts';
import { createD1ErasedFiles } from './d1-erased-files.ts';
import { createD1ErasedNames } from './d1-erased-names.ts';
import { createD1ErasedTraces } from './d1-erased-traces.ts';
import {
  EXPERIMENTS,
  FILES,
  hasItem,
  numbered,
  OF_TENANT,
  OTHERS_EXPERIMENTS,
  OUTSIDE,
  OWN,
  STANDING,
  STAYS,
  WHOLE,
} from './item-rows.ts';
import { MAX_IN_THE_WAY } from './limits.ts';
import type { Erasure, ErasureLedger, ErasureStep, ErasureTarget } from './ports.ts';

interface ErasureRecord extends ErasureTarget {
  id: number;
  usage: number;
  step: ErasureStep;
  place: string;
  touched_at: number;
}

const toErasure = ({ usage, touched_at: touchedAt, ...row }: ErasureRecord): Erasure => ({
  ...row,
  usage: usage !== 0,
  touchedAt,
});
const ROW = 'SELECT id, kind, target, owner, usage, step, place, touched_at FROM erasures';

/** Names that are meant. @param at number of the first of {@link meantValues}. */
const meant = (kind: 'name' | 'below', at: number): string =>
  kind === 'name'
    ? `FROM names WHERE name = ?${at}`
    : `FROM names WHERE (name = ?${at} OR (name > ?${at + 1} AND name < ?${at + 2}))`;
const meantValues = (kind: 'name' | 'below', name: string): string[] =>
  kind === 'name' ? [name] : [name, `${name}/`, prefixEnd(`${name}/`)];

const SIZE = `COALESCE((SELECT b.bytes FROM blobs b WHERE b.digest = f.digest),
  (SELECT SUM(p.bytes) FROM stored_parts p WHERE p.digest = f.digest), 0)`;

/** Each with ?1 and ?2; one row of numbers each. */
const COUNTS = [
  `SELECT COALESCE(SUM(n.latest > 0), 0) AS names, COALESCE(SUM(n.latest = 0), 0) AS aliases
   FROM names n WHERE n.name IN (${WHOLE})`,
  `SELECT COUNT(DISTINCT own.rowid) AS versions ${OWN}`,
  `SELECT COUNT(*) AS pins FROM pins WHERE name IN (${WHOLE})`,
  `SELECT COUNT(*) AS experiments ${EXPERIMENTS}`,
  `SELECT COUNT(*) AS keys FROM keys WHERE tenant = ?2 AND ${OF_TENANT}`,
  `SELECT COUNT(*) AS grants FROM grants WHERE (owner = ?2 OR tenant = ?2) AND ${OF_TENANT}`,
  `SELECT COUNT(*) AS rooms FROM rooms WHERE tenant = ?2 AND ${OF_TENANT}`,
  `SELECT COUNT(*) AS usage FROM usage u WHERE u.tenant = ?2 AND (${OF_TENANT} OR u.name IN (${WHOLE}))
     AND EXISTS (SELECT 1 FROM erasures t WHERE t.id = ?1 AND t.usage = 1)`,
];
const OF_FILES = `SELECT ${STAYS} AS stays, COUNT(*) AS files, COALESCE(SUM(${SIZE}), 0) AS bytes
  FROM (${FILES}) f GROUP BY stays`;

export function createD1Erasures(db: SqlDatabase): ErasureLedger {
  const all = async <Row>(sql: string, ...values: (string | number)[]): Promise<Row[]> =>
    (
      await db
        .prepare(sql)
        .bind(...values)
        .all<Row>()
    ).results;

  /** @returns whether there was anything to add. */
  async function addBelow(id: number, owner: string, cascade: boolean): Promise<boolean> {
    const added = [
      `SELECT ?1, a.name, 0 FROM names a WHERE a.owner = ?2 AND a.alias IN (${WHOLE})`,
      ...(cascade
        ? [
            // A name goes as a whole where its live version does, or where it has no other.
            `SELECT DISTINCT ?1, v.name, CASE WHEN EXISTS (
               SELECT 1 FROM names n WHERE n.name = v.name AND n.version = v.version) THEN 0 ELSE v.version END
             ${STANDING} AND v.owner = ?2`,
            `SELECT ?1, n.name, 0 FROM names n WHERE n.owner = ?2 AND n.latest > 0
               AND n.name IN (SELECT name FROM erasure_items WHERE erasure = ?1 AND version > 0)
               AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.name = n.name AND v.removed_at IS NULL AND NOT ${hasItem('v')})`,
          ]
        : []),
    ].map((rows) =>
      numbered(db, `INSERT OR IGNORE INTO erasure_items (erasure, name, version) ${rows} RETURNING name`, [
        id,
        owner,
      ]),
    );
    return (await db.batch(added)).some(({ results }) => results.length > 0);
  }

  const ledger: ErasureLedger = {
    ...createD1ErasedNames(db),
    ...createD1ErasedFiles(db),
    ...createD1ErasedTraces(db),

    async owners(kind, name) {
      const sql = `SELECT DISTINCT owner ${meant(kind, 1)} ORDER BY owner LIMIT 3`;
      const rows = await all<{ owner: string }>(sql, ...meantValues(kind, name));
      return rows.map(({ owner }) => owner);
    },

    async ownerOfBegun(kind, target) {
      const sql = "SELECT owner FROM erasures WHERE kind = ? AND target = ? AND step <> 'planned' LIMIT 1";
      return (await all<{ owner: string }>(sql, kind, target))[0]?.owner ?? null;
    },

    async plan({ kind, target, owner, cascade, usage, at }) {
      const [made] = await all<{ id: number }>(
        `INSERT INTO erasures (kind, target, owner, cascade, usage, step, place, touched_at)
         VALUES (?, ?, ?, ?, ?, 'planned', '', ?) RETURNING id`,
        ...[kind, target, owner, cascade ? 1 : 0, usage ? 1 : 0, at],
      );
      const id = made?.id ?? 0;
      const names = kind === 'tenant' ? 'FROM names WHERE owner = ?2' : `${meant(kind, 3)} AND owner = ?2`;
      await numbered(db, `INSERT INTO erasure_items (erasure, name, version) SELECT ?1, name, 0 ${names}`, [
        id,
        owner,
        ...(kind === 'tenant' ? [] : meantValues(kind, target)),
      ]).run();
      while (await addBelow(id, owner, cascade));

      const ask = (sql: string, ...more: (string | number)[]) => numbered(db, sql, [id, owner, ...more]);
      const answers = await db.batch([
        ...COUNTS.map((sql) => ask(sql)),
        ask(OF_FILES),
        ask(
          `SELECT DISTINCT v.name || '@' || v.version AS id ${STANDING} AND v.owner = ?2 ORDER BY 1 LIMIT ?3`,
          MAX_IN_THE_WAY + 1,
        ),
        ask(`SELECT e.id ${OUTSIDE} ORDER BY e.id LIMIT ?3`, MAX_IN_THE_WAY + 1),
        ask(`SELECT COUNT(DISTINCT v.rowid) AS count ${STANDING} AND v.owner <> ?2`),
        ask(`SELECT COUNT(*) AS count ${OTHERS_EXPERIMENTS}`),
        ask(
          `SELECT COUNT(*) AS count FROM erasures o JOIN erasures me ON me.id = ?1 AND me.owner = ?2
           WHERE o.kind = me.kind AND o.target = me.target AND o.owner = me.owner AND o.step <> 'planned'`,
        ),
      ]);
      const rows = <Row>(at: number): Row[] => (answers[COUNTS.length + at]?.results ?? []) as Row[];
      const count = (at: number): number => rows<{ count: number }>(at)[0]?.count ?? 0;
      const ids = (at: number): string[] => rows<{ id: string }>(at).map((row) => row.id);
      const files = (stays: number) =>
        rows<{ stays: number; files: number; bytes: number }>(0).find((row) => row.stays === stays) ?? {
          ...{ files: 0, bytes: 0 },
        };
      const counted = Object.assign({}, ...answers.slice(0, COUNTS.length).map(({ results }) => results[0]));
      return {
        id,
        counts: { ...counted, files: files(0).files, bytes: files(0).bytes, traffic: 0, requests: 0 },
        kept: { files: files(1).files, bytes: files(1).bytes },
        stops: { versions: count(3), experiments: count(4) },
        inTheWay: { versions: ids(1), experiments: ids(2) },
        begun: count(5) > 0,
      };
    },

    async begin({ id, cascade, record, ...note }) {
      const row = await ledger.get(id);
      if (row === null) return false;
      try {
        await db.batch(beginning(db, row, { cascade, record, ...note }));
        return true;
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return false;
      }
    },

    async get(id) {
      const [row] = await all<ErasureRecord>(`${ROW} WHERE id = ?`, id);
      return row === undefined ? null : toErasure(row);
    },

    async move(id, { step, place, at }) {
      await all('UPDATE erasures SET step = ?, place = ?, touched_at = ? WHERE id = ?', step, place, at, id);
    },

    async next({ steps, touchedBefore }) {
      const [row] = await all<ErasureRecord>(
        `${ROW} WHERE step IN (SELECT value FROM json_each(?)) AND touched_at < ? ORDER BY touched_at LIMIT 1`,
        ...[JSON.stringify(steps), touchedBefore],
      );
      return row === undefined ? null : toErasure(row);
    },

    async end(id) {
      await db.batch(
        ['erasure_items WHERE erasure', 'erasure_files WHERE erasure', 'erasures WHERE id'].map((from) =>
          // eslint-disable-next-line no-restricted-syntax -- made of constants
          db.prepare(`DELETE FROM ${from} = ?`).bind(id),
        ),
      );
    },

    discard: (id) => ledger.end(id),
  };
  return ledger;
}
