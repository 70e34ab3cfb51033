/** Erasures in D1: planning, and everything that happens at once when one starts. */
import {
  isUniqueViolation,
  prefixEnd,
  type SqlDatabase,
  type SqlStatement,
} from '../platform/d1-database.ts';
import {
  createD1ErasedFiles,
  createD1ErasedNames,
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
  STANDS_FOR,
  WHOLE,
  createD1ErasedTraces,
  ITEMS,
  USED,
  WHOLE_YET,
  WITH_CHAIN,
} from './d1-erased-items.ts';
import { MAX_IN_THE_WAY } from './limits.ts';
import type { Erasure, ErasureKind, ErasurePlan, ErasureStep, ErasureTarget } from './ports.ts';
import type { ChangeNote } from '../registry/ports.ts';

interface ErasureRecord extends ErasureTarget {
  id: number;
  usage: number;
  step: ErasureStep;
  place: string;
  touched_at: number;
  ended_at: number | null;
}

const toErasure = ({ usage, touched_at: touchedAt, ended_at: endedAt, ...row }: ErasureRecord): Erasure => ({
  ...row,
  usage: usage !== 0,
  touchedAt,
  endedAt,
});
const ROW = 'SELECT id, kind, target, owner, usage, step, place, touched_at, ended_at FROM erasures';

/** Names in scope. @param at number of the first of {@link meantValues}. */
const meant = (kind: 'name' | 'below', at: number): string =>
  kind === 'name'
    ? `FROM names WHERE name = ?${at}`
    : `FROM names WHERE (name = ?${at} OR (name > ?${at + 1} AND name < ?${at + 2}))`;
const meantValues = (kind: 'name' | 'below', name: string): string[] =>
  kind === 'name' ? [name] : [name, `${name}/`, prefixEnd(`${name}/`)];

/** Names of owner ?2 in scope. @param at number of the first of {@link namesOfValues}. */
const namesOf = (kind: ErasureKind, at: number): string =>
  kind === 'tenant' ? 'FROM names WHERE owner = ?2' : `${meant(kind, at)} AND owner = ?2`;
const namesOfValues = (kind: ErasureKind, target: string): string[] =>
  kind === 'tenant' ? [] : meantValues(kind, target);

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
  `SELECT COUNT(*) AS row_files FROM row_files WHERE tenant = ?2 AND ${OF_TENANT}`,
  `SELECT COUNT(*) AS jobs FROM training_jobs WHERE (tenant = ?2 AND ${OF_TENANT}) OR name IN (${WHOLE})
     OR parent IN (${WHOLE})`,
  `SELECT COUNT(*) AS evaluations FROM evaluations WHERE name IN (${WHOLE})`,
];
/** Usage may lie in another database, and gatherers have a part of the rest. */
const COUNTED_ELSEWHERE = { usage: 0, traffic: 0, requests: 0 };
const OF_FILES = `SELECT ${STAYS} AS stays, COUNT(*) AS files, COALESCE(SUM(${SIZE}), 0) AS bytes
  FROM (${FILES}) f GROUP BY stays`;

export function createD1Erasures(db: SqlDatabase) {
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
      `SELECT ?1, a.name, 0 FROM names a WHERE a.owner = ?2 AND ${STANDS_FOR}`,
      ...(cascade
        ? [
            // A name is erased as a whole if its live version is, or if it has no other.
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

  const ledger = {
    ...createD1ErasedNames(db),
    ...createD1ErasedFiles(db),
    ...createD1ErasedTraces(db),

    /** Owners of the names in scope, at most a few. */
    async owners(kind: 'name' | 'below', name: string): Promise<string[]> {
      const sql = `SELECT DISTINCT owner ${meant(kind, 1)} ORDER BY owner LIMIT 3`;
      const rows = await all<{ owner: string }>(sql, ...meantValues(kind, name));
      return rows.map(({ owner }) => owner);
    },

    /** Owner of an unfinished erasure of it; null = there is none. */
    async ownerOfBegun(kind: ErasureKind, target: string): Promise<string | null> {
      const sql = "SELECT owner FROM erasures WHERE kind = ? AND target = ? AND step <> 'planned' LIMIT 1";
      return (await all<{ owner: string }>(sql, kind, target))[0]?.owner ?? null;
    },

    /**
     * Records everything that would be erased, with `cascade` also what the owner built on it; then begin or
     * discard it.
     */
    async plan({
      kind,
      target,
      owner,
      cascade,
      usage,
      at,
    }: ErasureTarget & { cascade: boolean; usage: boolean; at: number }): Promise<ErasurePlan> {
      const [made] = await all<{ id: number }>(
        `INSERT INTO erasures (kind, target, owner, cascade, usage, step, place, touched_at)
         VALUES (?, ?, ?, ?, ?, 'planned', '', ?) RETURNING id`,
        ...[kind, target, owner, cascade ? 1 : 0, usage ? 1 : 0, at],
      );
      const id = made?.id ?? 0;
      await numbered(
        db,
        `INSERT INTO erasure_items (erasure, name, version) SELECT ?1, name, 0 ${namesOf(kind, 3)}`,
        [id, owner, ...namesOfValues(kind, target)],
      ).run();
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
        counts: { ...counted, files: files(0).files, bytes: files(0).bytes, ...COUNTED_ELSEWHERE },
        kept: { files: files(1).files, bytes: files(1).bytes },
        stops: { versions: count(3), experiments: count(4) },
        inTheWay: { versions: ids(1), experiments: ids(2) },
        begun: count(5) > 0,
      };
    },

    /**
     * Takes all of it out of service, in one transaction, and takes over what an earlier one of the same target left.
     * @param params.record it leaves a row of history. @returns false when something came in its way since it was planned.
     */
    async begin({
      id,
      cascade,
      record,
      ...note
    }: ChangeNote & { id: number; cascade: boolean; record: boolean }): Promise<boolean> {
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

    async get(id: number): Promise<Erasure | null> {
      const [row] = await all<ErasureRecord>(`${ROW} WHERE id = ?`, id);
      return row === undefined ? null : toErasure(row);
    },

    /** The one of this target that has not ended; null = there is none. */
    async begunOf({ kind, target, owner }: ErasureTarget): Promise<Erasure | null> {
      const [row] = await all<ErasureRecord>(
        `${ROW} WHERE kind = ? AND target = ? AND owner = ? AND step <> 'planned' ORDER BY id DESC LIMIT 1`,
        ...[kind, target, owner],
      );
      return row === undefined ? null : toErasure(row);
    },

    /** @returns false if it is not there any more: another one of the same target has taken it over, or it has ended. */
    async move(
      id: number,
      { step, place, at }: { step: ErasureStep; place: string; at: number },
    ): Promise<boolean> {
      const moved = await all(
        `UPDATE erasures SET step = ?1, place = ?2, touched_at = ?3,
           ended_at = CASE ?1 WHEN 'settling' THEN ?3 ELSE ended_at END WHERE id = ?4 RETURNING id`,
        ...[step, place, at, id],
      );
      return moved.length > 0;
    },

    /** One at one of these steps and untouched since; the one that waits longest. */
    async next({
      steps,
      touchedBefore,
    }: {
      steps: readonly ErasureStep[];
      touchedBefore: number;
    }): Promise<Erasure | null> {
      const [row] = await all<ErasureRecord>(
        `${ROW} WHERE step IN (SELECT value FROM json_each(?)) AND touched_at < ? ORDER BY touched_at LIMIT 1`,
        ...[JSON.stringify(steps), touchedBefore],
      );
      return row === undefined ? null : toErasure(row);
    },

    /** Nothing of it is left here. */
    async end(id: number): Promise<void> {
      await db.batch(
        ['erasure_items WHERE erasure', 'erasure_files WHERE erasure', 'erasures WHERE id'].map((from) =>
          // eslint-disable-next-line no-restricted-syntax -- made of constants
          db.prepare(`DELETE FROM ${from} = ?`).bind(id),
        ),
      );
    },

    discard: (id: number): Promise<void> => ledger.end(id),
  };
  return ledger;
}

/** D1's record of erasures. Throws StoreUnavailable. Everything may be repeated. */
export type ErasureLedger = ReturnType<typeof createD1Erasures>;

/** Placeholder in others' chains for what was erased; such versions are never served. */
const ERASED = { name: 'erased', owner: 'erased', digest: '0'.repeat(64) };

/** Ids of earlier, unfinished ones of the same target. */
const OLD = `SELECT o.id FROM erasures o JOIN erasures me ON me.id = ?1
  WHERE o.kind = me.kind AND o.target = me.target AND o.owner = me.owner AND o.id <> ?1 AND o.step <> 'planned'`;

/** Versions `v` that stay but have an erased one in their chain, in use or not. */
const IN_CHAIN = `${WITH_CHAIN} AND NOT ${hasItem('v')} AND EXISTS (SELECT 1 FROM json_each(v.chain) c
  WHERE c.value ->> 'digest' = own.digest AND c.value ->> 'name' = own.name)`;

/** The chain's entry `c` is erased. */
const GOES = `EXISTS (SELECT 1 FROM ${ITEMS} WHERE i.erasure = ?1 AND i.gone = 0
  AND own.name = c.value ->> 'name' AND own.digest = c.value ->> 'digest')`;

/** After the row of history, so that no later change is erased with it. */
const NOTE =
  'INSERT INTO stale_pointers (name, since, change) SELECT name, ?2, (SELECT MAX(id) FROM history) FROM';
const NOTED = 'ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change';

/**
 * Everything that an erasure does at once. Names point at nothing from then on, like removed ones, but cannot
 * be restored; keys are revoked; what others have built on it is withdrawn, and no longer names it.
 */
function beginning(
  db: SqlDatabase,
  { id, kind, target, owner, usage }: Erasure,
  { cascade, record, actor, at, why }: ChangeNote & { cascade: boolean; record: boolean },
): SqlStatement[] {
  const run = (sql: string, ...values: (string | number | null)[]) => numbered(db, sql, [id, ...values]);
  const inTheWay = cascade
    ? `EXISTS (SELECT 1 ${STANDING} AND v.owner = ?2)`
    : `EXISTS (SELECT 1 ${STANDING}) OR EXISTS (SELECT 1 ${OUTSIDE}) OR EXISTS (SELECT 1 ${OTHERS_EXPERIMENTS})`;
  // Published since it was planned.
  const isNew = `EXISTS (SELECT 1 ${namesOf(kind, 6)}
    AND name NOT IN (SELECT i.name FROM erasure_items i WHERE i.erasure = ?1))`;
  const history = run(
    `INSERT INTO history (name, sequence, at, actor, owner, action, why)
     SELECT label, (SELECT MIN(0, COALESCE(MIN(sequence), 0)) - 1 FROM history WHERE name = label), ?3,
       CASE WHEN ${inTheWay} OR ${isNew} THEN NULL ELSE ?4 END, owner, 'erase', ?5
     FROM (SELECT owner, CASE kind WHEN 'tenant' THEN '**' WHEN 'below' THEN target || '/**' ELSE target END AS label
       FROM erasures WHERE id = ?1)`,
    ...[owner, at, actor, why ?? null, ...namesOfValues(kind, target)],
  );
  return [
    // A concurrent publication of one of them finds its place in history taken.
    run(
      `INSERT OR IGNORE INTO history (name, sequence, at, actor, owner, action, from_version)
       SELECT name, sequence + 1, ?2, ?3, owner, 'remove', version FROM names WHERE name IN (${WHOLE_YET})`,
      ...[at, actor],
    ),
    // After those: what is older than this row is erased with its name.
    ...(record ? [history] : []),
    run(
      `INSERT INTO erasure_files (erasure, digest) SELECT ?1, digest FROM (${FILES}) WHERE true
       ON CONFLICT (erasure, digest) DO UPDATE SET origins = NULL`,
      owner,
    ),
    run(
      `${NOTE} (${WHOLE_YET}
         UNION SELECT n.name FROM names n WHERE (n.name, n.version) IN (SELECT v.name, v.version ${IN_CHAIN})
         UNION SELECT e.name FROM experiments e WHERE e.started_at IS NOT NULL AND e.id IN (SELECT u.experiment ${USED})
         UNION SELECT e.name FROM experiments e JOIN experiment_versions u ON u.experiment = e.id
           WHERE e.started_at IS NOT NULL AND (u.name, u.version) IN (SELECT v.name, v.version ${IN_CHAIN}))
       WHERE true ${NOTED}`,
      at,
    ),
    run(
      `UPDATE versions SET withdrawn_at = COALESCE(withdrawn_at, ?2),
         parent = CASE WHEN substr(parent, 1, instr(parent, '@') - 1) IN (SELECT own.name ${OWN}) THEN NULL ELSE parent END,
         chain = (SELECT json_group_array(json(CASE WHEN ${GOES}
             THEN json_set(c.value, '$.name', ?3, '$.owner', ?4, '$.digest', ?5) ELSE c.value END))
           FROM json_each(versions.chain) c)
       WHERE (name, version) IN (SELECT v.name, v.version ${IN_CHAIN})`,
      ...[at, ERASED.name, ERASED.owner, ERASED.digest],
    ),
    run(
      `DELETE FROM chain_members WHERE (digest, below, name, version) IN (
         SELECT m.digest, m.below, m.name, m.version ${WITH_CHAIN} AND NOT ${hasItem('v')}
           AND NOT EXISTS (SELECT 1 FROM json_each(v.chain) c WHERE c.value ->> 'digest' = m.digest))`,
    ),
    run(
      `UPDATE versions SET removed_at = 0, removal = NULL WHERE (name, version) IN (SELECT own.name, own.version ${OWN})`,
    ),
    run(`DELETE FROM pins WHERE name IN (${WHOLE_YET})`),
    run(`UPDATE evaluations SET tenant = '' WHERE name IN (${WHOLE_YET})`),
    run(
      `UPDATE names SET version = NULL, alias = NULL, about = NULL, strict = 0, sequence = sequence + 1, removed_at = 0,
         removal = NULL, removed_version = NULL, removed_alias = NULL WHERE name IN (${WHOLE_YET})`,
    ),
    run(
      `UPDATE keys SET revoked_at = COALESCE(revoked_at, ?3) WHERE tenant = ?2 AND ${OF_TENANT}`,
      ...[owner, at],
    ),
    // After all that: what an earlier one was to erase and has been made anew since stays, unless it is in this one, too.
    run(
      `INSERT OR IGNORE INTO erasure_items (erasure, name, version, gone)
       SELECT ?1, name, version, gone FROM erasure_items WHERE erasure IN (${OLD})`,
    ),
    run(
      `INSERT OR IGNORE INTO erasure_files (erasure, digest, origins)
       SELECT ?1, digest, origins FROM erasure_files WHERE erasure IN (${OLD})`,
    ),
    run(`DELETE FROM erasure_items WHERE erasure IN (${OLD})`),
    run(`DELETE FROM erasure_files WHERE erasure IN (${OLD})`),
    run(`DELETE FROM erasures WHERE id IN (${OLD})`),
    run(
      "UPDATE erasures SET step = 'keys', place = '', touched_at = ?2, usage = ?3 WHERE id = ?1",
      ...[at, usage ? 1 : 0],
    ),
  ];
}
