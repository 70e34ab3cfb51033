import { z } from 'zod';
import { ConfusionCount } from '../../protocol/confusion.ts';
import { gaveRow, mayAct, type SqlDatabase, type SqlStatement } from '../platform/d1-database.ts';
import { MAX_KEPT_EVALUATIONS } from '../../protocol/admin-api/evaluations.ts';
import { INSERTED_BYTES, MAX_TENANT_EVALUATION_BYTES, UNPUBLISHED_SCORE_MS } from './limits.ts';
import type {
  ChainScore,
  EvaluationJudge,
  EvaluationPart,
  Evaluations,
  KeptEvaluation,
  NamedScore,
} from './ports.ts';

interface Row {
  name: string;
  label: string;
  tenant: string;
  rows: number;
  bytes: number;
  sha256: string;
  created_at: number;
  created_by: string;
  judge: string | null;
  judge_chain: string | null;
  labelled: number;
}

const toJudge = ({
  judge,
  judge_chain: chainId,
}: Pick<Row, 'judge' | 'judge_chain'>): EvaluationJudge | null =>
  judge === null ? null : { model: judge, chainId: chainId ?? '' };

const toEvaluation = (row: Row): KeptEvaluation => {
  const { created_at: createdAt, created_by: createdBy, judge_chain: _chain, ...same } = row;
  return { ...same, judge: toJudge(row), labelled: row.labelled === 1, createdAt, createdBy };
};

const COLUMNS =
  'name, label, tenant, rows, bytes, sha256, created_at, created_by, judge, judge_chain, labelled';

/** The evaluation ?1, ?2 has the rows and judge ?3. */
const IS_THIS =
  "EXISTS (SELECT 1 FROM evaluations WHERE name = ?1 AND label = ?2 AND sha256 = ?3 AND tenant <> '')";

/** Of the name ?1: nothing of it has these rows any more. */
const OUTLIVED = `DELETE FROM evaluation_scores WHERE name = ?1
  AND sha256 NOT IN (SELECT sha256 FROM evaluations WHERE name = ?1)`;

const SCORES = `SELECT e.label, e.sha256, e.judge, e.judge_chain, e.labelled, e.rows, s.chain_id AS chainId, s.exact,
  s.nats, s.tokens, s.macro_f1 AS macroF1, s.at`;
const OF_NAME = `FROM evaluations e JOIN evaluation_scores s ON s.name = e.name AND s.sha256 = e.sha256 AND e.tenant <> ''`;

type ScoreRow = Omit<NamedScore, 'judge' | 'labelled'> & Pick<Row, 'judge' | 'judge_chain' | 'labelled'>;

function toScore<Found extends ScoreRow>(
  row: Found,
): Omit<Found, 'judge' | 'judge_chain' | 'labelled'> & Pick<NamedScore, 'judge' | 'labelled'> {
  const { judge: _model, judge_chain: _chain, labelled, ...same } = row;
  return { ...same, judge: toJudge(row), labelled: labelled === 1 };
}

const Confusion = z.array(ConfusionCount);

/** @returns JSON lists of parts, each short enough for one statement. */
function lists(parts: readonly EvaluationPart[]): string[] {
  const found: EvaluationPart[][] = [];
  let bytes = Infinity;
  for (const part of parts) {
    bytes += part.sealed.length;
    if (bytes <= INSERTED_BYTES) found.at(-1)?.push(part);
    else {
      found.push([part]);
      bytes = part.sealed.length;
    }
  }
  return found.map((list) => JSON.stringify(list));
}

export function createD1Evaluations(db: SqlDatabase): Evaluations {
  const run = (sql: string, ...values: (string | number | null)[]): SqlStatement =>
    db.prepare(sql).bind(...values);
  return {
    async keep({ evaluation, parts, secret }) {
      const { name, label, tenant, rows, bytes, sha256, createdAt, createdBy, judge, labelled } = evaluation;
      const [kept] = await db.batch([
        run(
          `INSERT INTO evaluations (${COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
           WHERE ${mayAct('?8')}
             AND EXISTS (SELECT 1 FROM names WHERE name = ?1 AND owner = ?3 AND removed_at IS NULL AND alias IS NULL)
             AND (SELECT COUNT(*) FROM evaluations WHERE name = ?1 AND label <> ?2 AND tenant <> '') < ${MAX_KEPT_EVALUATIONS}
             AND (SELECT COALESCE(SUM(bytes), 0) FROM evaluations WHERE tenant = ?3 AND NOT (name = ?1 AND label = ?2))
               + ?5 <= ${MAX_TENANT_EVALUATION_BYTES}
           ON CONFLICT (name, label) DO UPDATE SET tenant = excluded.tenant, rows = excluded.rows, bytes = excluded.bytes,
             sha256 = excluded.sha256, created_at = excluded.created_at, created_by = excluded.created_by,
             judge = excluded.judge, judge_chain = excluded.judge_chain, labelled = excluded.labelled
           RETURNING name`,
          ...[name, label, tenant, rows, bytes, sha256, createdAt, createdBy],
          ...[judge?.model ?? null, judge?.chainId ?? null, Number(labelled)],
        ),
        // Rows that are refused are not those that the evaluation has, or are the same.
        run(`DELETE FROM evaluation_rows WHERE name = ?1 AND label = ?2 AND ${IS_THIS}`, name, label, sha256),
        ...lists(parts).map((list) =>
          run(
            `INSERT INTO evaluation_rows (name, label, first, secret, sealed)
             SELECT ?1, ?2, value ->> 'first', ?4, value ->> 'sealed' FROM json_each(?5) WHERE ${IS_THIS}`,
            ...[name, label, sha256, secret, list],
          ),
        ),
        run(OUTLIVED, name),
      ]);
      return gaveRow(kept);
    },

    async get({ name, label }) {
      const row = await run(
        `SELECT ${COLUMNS} FROM evaluations WHERE name = ? AND label = ? AND tenant <> ''`,
        name,
        label,
      ).first<Row>();
      return row === null ? null : toEvaluation(row);
    },

    async list(name) {
      const { results } = await run(
        `SELECT ${COLUMNS} FROM evaluations WHERE name = ? AND tenant <> '' ORDER BY label`,
        name,
      ).all<Row>();
      return results.map(toEvaluation);
    },

    async remove({ name, label }) {
      const [gone] = await db.batch([
        run(
          "DELETE FROM evaluations WHERE name = ?1 AND label = ?2 AND tenant <> '' RETURNING name",
          ...[name, label],
        ),
        run('DELETE FROM evaluation_rows WHERE name = ?1 AND label = ?2', name, label),
        run(OUTLIVED, name),
      ]);
      return gaveRow(gone);
    },

    part: ({ name, label, first }) =>
      run(
        `SELECT r.first, r.sealed,
           (SELECT MIN(n.first) FROM evaluation_rows n WHERE n.name = ?1 AND n.label = ?2 AND n.first > ?3) AS next
         FROM evaluation_rows r WHERE r.name = ?1 AND r.label = ?2 AND r.first = ?3`,
        ...[name, label, first],
      ).first(),

    async score({ name, sha256, chainId }) {
      const row = await run(
        `SELECT exact, nats, tokens, macro_f1 AS macroF1, confusion, at FROM evaluation_scores
         WHERE name = ? AND sha256 = ? AND chain_id = ?`,
        ...[name, sha256, chainId],
      ).first<ChainScore & { confusion: string | null }>();
      if (row === null) return null;
      const { confusion } = row;
      return { ...row, confusion: confusion === null ? null : Confusion.parse(JSON.parse(confusion)) };
    },

    async addScore({ evaluation: { name, label, sha256 }, chainId, digest, after, added }) {
      const { exact, nats, tokens, at, macroF1, confusion } = added;
      const [written] = await db.batch([
        run(
          `INSERT INTO evaluation_scores (name, sha256, chain_id, exact, nats, tokens, at, digest, macro_f1, confusion)
           SELECT ?1, ?3, ?4, ?5, ?6, ?7, ?8, ?10, ?11, ?12 WHERE ${IS_THIS} AND (?9 = 0 OR EXISTS (
             SELECT 1 FROM evaluation_scores WHERE name = ?1 AND sha256 = ?3 AND chain_id = ?4))
           ON CONFLICT (name, sha256, chain_id) DO UPDATE SET exact = exact || excluded.exact,
             nats = nats + excluded.nats, tokens = tokens + excluded.tokens, at = excluded.at,
             macro_f1 = excluded.macro_f1, confusion = excluded.confusion
             WHERE LENGTH(exact) = ?9
           RETURNING name`,
          ...[name, label, sha256, chainId, exact, nats, tokens, at, after, digest],
          ...[macroF1, confusion === null ? null : JSON.stringify(confusion)],
        ),
        run(
          `DELETE FROM evaluation_scores WHERE name = ?1 AND at < ?2
             AND NOT EXISTS (
               SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
               WHERE m.digest = evaluation_scores.digest AND m.below = 0 AND v.chain_id = evaluation_scores.chain_id)`,
          ...[name, at - UNPUBLISHED_SCORE_MS],
        ),
      ]);
      return gaveRow(written);
    },

    async forgetScore({ name, sha256, chainId }) {
      await run(
        'DELETE FROM evaluation_scores WHERE name = ? AND sha256 = ? AND chain_id = ?',
        ...[name, sha256, chainId],
      ).run();
    },

    async scoresOfVersions({ name, limit }) {
      const { results } = await run(
        `${SCORES}, v.version ${OF_NAME} JOIN versions v ON v.name = e.name AND v.chain_id = s.chain_id
         WHERE e.name = ? AND v.removed_at IS NULL ORDER BY v.version DESC, e.label LIMIT ?`,
        ...[name, limit],
      ).all<ScoreRow & { version: number }>();
      return results.map(toScore);
    },

    async scoresOfChains({ name, chainIds }) {
      const { results } = await run(
        `${SCORES} ${OF_NAME} WHERE e.name = ? AND s.chain_id IN (SELECT value FROM json_each(?))`,
        ...[name, JSON.stringify(chainIds)],
      ).all<ScoreRow>();
      return results.map(toScore);
    },

    async sealedBy({ secrets, limit }) {
      const { results } = await run(
        `SELECT r.name, r.label, r.first, r.sealed, e.tenant, e.sha256 FROM evaluation_rows r
         JOIN evaluations e ON e.name = r.name AND e.label = r.label AND e.tenant <> ''
         WHERE r.secret IN (SELECT value FROM json_each(?)) LIMIT ?`,
        ...[JSON.stringify(secrets), limit],
      ).all<EvaluationPart & Pick<KeptEvaluation, 'name' | 'label' | 'tenant' | 'sha256'>>();
      return results;
    },

    async reseal({ name, label, first, sealed, was, secret }) {
      await run(
        `UPDATE evaluation_rows SET sealed = ?5, secret = ?6
         WHERE name = ?1 AND label = ?2 AND first = ?3 AND sealed = ?4`,
        ...[name, label, first, was, sealed, secret],
      ).run();
    },
  };
}
