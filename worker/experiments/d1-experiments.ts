/** Experiments in D1: their documents and history, and their looks. */
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { isLive } from '../../protocol/experiment.ts';
import {
  isUniqueViolation,
  placeOf,
  type SqlDatabase,
  type SqlStatement,
  readable,
} from '../platform/d1-database.ts';
import { pinsJson, toExperiment, type ExperimentRecord, toEvaluation } from './d1-experiment-rows.ts';
import { NAME, toName, type NameRecord } from '../registry/d1-registry-rows.ts';
import type { ExperimentLedger, ExperimentNote, ExperimentRow, Flip, LookRow } from './ports.ts';
import type { Conflict } from '../registry/ports.ts';

/** Conditions that must not hold when the change is made. */
interface Guard {
  sql: string;
  values: (string | number)[];
}

/** Live experiments that may share a unit with another's range. */
const OVERLAPPING = `SELECT o.id FROM experiments o
  WHERE o.status IN ('running', 'ramping') AND o.id <> ? AND o.owner = ?
    AND json_extract(o.document, '$.namespace.name') = ?
    AND json_extract(o.document, '$.namespace.range[0]') < ?
    AND json_extract(o.document, '$.namespace.range[1]') > ?`;
const overlappingValues = (of: Parameters<ExperimentLedger['overlapping']>[0]): (string | number)[] => {
  const { name, range } = of.namespace;
  return [of.except, of.owner, name, range[1], range[0]];
};

export function createD1ExperimentLedger(db: SqlDatabase): ExperimentLedger {
  /**
   * If a guard holds, the actor is NULL, which the column refuses: the whole transaction fails. The same
   * happens for a name that has been erased.
   */
  const history = (
    { id, document: { name } }: ExperimentRow,
    note: ExperimentNote,
    guards: readonly Guard[],
    flip?: Flip,
  ): SqlStatement =>
    db
      .prepare(
        // eslint-disable-next-line no-restricted-syntax -- guards are constants of this file; the values are bound
        `INSERT INTO history (name, sequence, at, actor, owner, action, from_version, to_version, target, why)
         SELECT n.name, n.sequence + 1, ?,
           CASE WHEN ${guards.map(({ sql }) => sql).join(' OR ')} THEN NULL ELSE ? END,
           n.owner, ?, n.version, ?, ?, ?
         FROM (SELECT ? AS wanted) LEFT JOIN names n ON n.name = wanted`,
      )
      .bind(
        note.at,
        ...guards.flatMap(({ values }) => values),
        note.actor,
        note.action,
        flip?.to ?? null,
        id,
        note.why,
        name,
      );

  /** A concurrent reader of the name then finds it changed. */
  const nameRow = ({ document: { name } }: ExperimentRow, flip?: Flip): SqlStatement =>
    db
      .prepare('UPDATE names SET sequence = sequence + 1, version = COALESCE(?, version) WHERE name = ?')
      .bind(flip?.to ?? null, name);

  const versions = ({ id, document }: ExperimentRow): SqlStatement[] => [
    db.prepare('DELETE FROM experiment_versions WHERE experiment = ?').bind(id),
    db
      .prepare(
        `INSERT OR IGNORE INTO experiment_versions (name, version, experiment)
         SELECT json_extract(value, '$.name'), json_extract(value, '$.version'), ? FROM json_each(?)`,
      )
      .bind(id, pinsJson(document)),
  ];

  async function change(statements: SqlStatement[], name: string): Promise<Result<null, Conflict>> {
    try {
      await db.batch(statements);
      return ok(null);
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      const row = await db.prepare(`${NAME} WHERE name = ?`).bind(name).first<NameRecord>();
      return err({ kind: 'conflict', name: row && toName(row) });
    }
  }

  const many = async (statement: SqlStatement): Promise<ExperimentRow[]> =>
    readable((await statement.all<ExperimentRecord>()).results, toExperiment);
  const one = async (statement: SqlStatement): Promise<ExperimentRow | null> => {
    const record = await statement.first<ExperimentRecord>();
    return record && toExperiment(record);
  };

  return {
    ...looksOf(db),

    create({ row, note }) {
      const { document } = row;
      return change(
        [
          history(row, note, [namesRetired(row)]),
          nameRow(row),
          db
            .prepare(
              `INSERT INTO experiments (id, name, owner, version, status, seed, seeds, document, created_at,
                created_by, started_at, coverage_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            )
            .bind(
              row.id,
              document.name,
              row.owner,
              document.version,
              document.status,
              document.seed,
              JSON.stringify(row.seeds),
              JSON.stringify(document),
              row.createdAt,
              row.createdBy,
              row.startedAt,
              row.coverageAt,
            ),
          ...versions(row),
        ],
        document.name,
      );
    },

    save({ row, note, flip }) {
      const { document } = row;
      return change(
        [
          history(row, note, guardsOf(row, flip), flip),
          nameRow(row, flip),
          db
            .prepare(
              `UPDATE experiments SET version = ?1, status = ?2, evaluation = CASE WHEN seed = ?3 THEN evaluation END,
                 proposal = CASE WHEN seed = ?3 AND NOT EXISTS (SELECT 1 FROM json_each(?10) gone
                   WHERE gone.value = json_extract(proposal, '$.variant')) THEN proposal END,
                 seed = ?3, seeds = ?4, document = ?5, started_at = ?6, coverage_at = ?7, step_units = ?8,
                 ended_at = ?9 WHERE id = ?11`,
            )
            .bind(
              document.version,
              document.status,
              document.seed,
              JSON.stringify(row.seeds),
              JSON.stringify(document),
              row.startedAt,
              row.coverageAt,
              row.stepUnits,
              row.endedAt,
              JSON.stringify(document.dropped ?? []),
              row.id,
            ),
          ...versions(row),
        ],
        document.name,
      );
    },

    get: (id) => one(db.prepare('SELECT * FROM experiments WHERE id = ?').bind(id)),
    ofName: (name) =>
      one(db.prepare("SELECT * FROM experiments WHERE name = ? AND status <> 'archived'").bind(name)),

    async list({ owner, name, status = null, cursor, limit }) {
      // Only the requested filters are in the query, so that SQLite uses the index.
      const wanted: [sql: string, values: (string | number | null)[]][] = [
        ['owner = ?', [owner]],
        ['name = ?', [name]],
        ['status = ?', [status]],
        ['(created_at, id) < (?, ?)', placeOf(cursor) ?? [null]],
      ];
      const given = wanted.flatMap(([sql, values]) => (values.includes(null) ? [] : [{ sql, values }]));
      const where = given.length === 0 ? '' : `WHERE ${given.map(({ sql }) => sql).join(' AND ')}`;
      const { results } = await db
        // eslint-disable-next-line no-restricted-syntax -- made of the constants above; the values are bound
        .prepare(`SELECT * FROM experiments ${where} ORDER BY created_at DESC, id DESC LIMIT ?`)
        .bind(...given.flatMap(({ values }) => values), limit)
        .all<ExperimentRecord>();
      const last = results.at(-1);
      return {
        items: readable(results, toExperiment),
        cursor: last === undefined || results.length < limit ? null : `${last.created_at}-${last.id}`,
      };
    },

    async inTurn({ at, limit }) {
      const rows = await many(
        db
          .prepare(
            `UPDATE experiments SET attended_at = ? WHERE id IN (
               SELECT id FROM experiments INDEXED BY experiments_in_turn WHERE status IN ('running', 'ramping')
               ORDER BY attended_at, id LIMIT ?) RETURNING *`,
          )
          .bind(at, limit),
      );
      // RETURNING has no order (sqlite.org/lang_returning.html).
      return rows.sort((a, b) => (a.id < b.id ? -1 : 1));
    },

    async overlapping(of) {
      const { results } = await db
        .prepare(`${OVERLAPPING} ORDER BY o.id`)
        .bind(...overlappingValues(of))
        .all<{ id: string }>();
      return results.map(({ id }) => id);
    },

    async written({ id, version }) {
      await db
        .prepare('UPDATE experiments SET written_version = MAX(written_version, ?) WHERE id = ?')
        .bind(version, id)
        .run();
    },

    behind: (limit) =>
      many(
        db
          .prepare(
            `SELECT * FROM experiments WHERE started_at IS NOT NULL AND written_version < version
             ORDER BY id LIMIT ?`,
          )
          .bind(limit),
      ),

    unsettled: ({ endedBefore, limit }) =>
      many(
        db
          .prepare(
            `SELECT * FROM experiments WHERE ended_at IS NOT NULL AND settled = 0
               AND (ended_at <= ? OR status = 'archived') ORDER BY ended_at, id LIMIT ?`,
          )
          .bind(endedBefore, limit),
      ),

    async settle(id) {
      await db.prepare('UPDATE experiments SET settled = 1 WHERE id = ?').bind(id).run();
    },

    async using({ name, version, owner }) {
      const { results } = await db
        .prepare(
          `SELECT e.id FROM experiment_versions u JOIN experiments e ON e.id = u.experiment
           WHERE u.name = ? AND u.version = ? AND e.owner = ? AND e.status <> 'archived' ORDER BY e.id`,
        )
        .bind(name, version, owner)
        .all<{ id: string }>();
      return results.map(({ id }) => id);
    },
  };
}

const namesRetired = ({ document }: ExperimentRow): Guard => ({
  sql: `EXISTS (
    SELECT 1 FROM json_each(?) pin WHERE NOT EXISTS (
      SELECT 1 FROM versions v WHERE v.name = json_extract(pin.value, '$.name')
        AND v.version = json_extract(pin.value, '$.version')
        AND v.retired_at IS NULL AND v.withdrawn_at IS NULL AND v.removed_at IS NULL))`,
  values: [pinsJson(document)],
});

function guardsOf(row: ExperimentRow, flip: Flip | undefined): Guard[] {
  const { document, id, owner } = row;
  const guards: Guard[] = [
    {
      sql: 'NOT EXISTS (SELECT 1 FROM experiments e WHERE e.id = ? AND e.version = ?)',
      values: [id, document.version - 1],
    },
  ];
  // An end, or the kill switch, is never refused because of the adapters' state.
  const ends = document.status === 'decided' || document.status === 'archived' || document.killed;
  if (!ends) guards.push(namesRetired(row));
  if (flip !== undefined)
    guards.push(
      {
        sql: `NOT EXISTS (SELECT 1 FROM versions v WHERE v.name = ? AND v.version = ? AND v.retired_at IS NULL
          AND v.removed_at IS NULL)`,
        values: [document.name, flip.to],
      },
      {
        sql: 'NOT EXISTS (SELECT 1 FROM names l WHERE l.name = ? AND l.version = ?)',
        values: [document.name, flip.from],
      },
    );
  if (isLive(document) && document.namespace !== undefined)
    guards.push({
      sql: `EXISTS (${OVERLAPPING})`,
      values: overlappingValues({ except: id, owner, namespace: document.namespace }),
    });
  return guards;
}

interface LookRecord {
  experiment: string;
  seed: string;
  at: number;
  evaluation: string;
}

const toLook = (record: LookRecord): LookRow => ({
  ...record,
  evaluation: toEvaluation(record.evaluation, record.experiment),
});

/** Looks of experiments over time. */
function looksOf(db: SqlDatabase): Pick<ExperimentLedger, 'look' | 'looks'> {
  return {
    async look({ row: { experiment, seed, at, evaluation }, keep, proposal }) {
      const text = JSON.stringify(evaluation);
      // Never drawn over time, and ten times as large as the rest.
      const { segments: _, ...kept } = evaluation;
      await db.batch([
        db
          .prepare(
            // One that was erased in the meantime has none.
            `INSERT OR REPLACE INTO experiment_looks (experiment, seed, at, evaluation)
             SELECT id, ?2, ?3, ?4 FROM experiments WHERE id = ?1`,
          )
          .bind(experiment, seed, at, JSON.stringify(kept)),
        // Drops the one whose neighbours are closest, the oldest of such: the rest is spaced evenly, first and
        // last stay.
        db
          .prepare(
            `DELETE FROM experiment_looks WHERE experiment = ?1 AND seed = ?2 AND at IN (
               SELECT at FROM (
                 SELECT at, LEAD(at) OVER (ORDER BY at) - LAG(at) OVER (ORDER BY at) AS gap
                 FROM experiment_looks WHERE experiment = ?1 AND seed = ?2)
               WHERE gap IS NOT NULL ORDER BY gap, at LIMIT MAX(0, (
                 SELECT COUNT(*) FROM experiment_looks WHERE experiment = ?1 AND seed = ?2) - ?3))`,
          )
          .bind(experiment, seed, keep),
        db
          .prepare(
            // The variant may have been dropped since this look's data.
            `UPDATE experiments SET evaluation = ?1, proposal = COALESCE(proposal, CASE WHEN NOT EXISTS (
               SELECT 1 FROM json_each(document, '$.dropped') gone WHERE gone.value = ?5) THEN ?2 END)
             WHERE id = ?3 AND seed = ?4`,
          )
          .bind(
            text,
            proposal === undefined ? null : JSON.stringify(proposal),
            ...[experiment, seed, proposal?.variant ?? null],
          ),
      ]);
    },

    async looks({ experiment, seed, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM experiment_looks WHERE experiment = ? AND seed = ? ORDER BY at LIMIT ?')
        .bind(experiment, seed, limit)
        .all<LookRecord>();
      return readable(results, toLook);
    },
  };
}
