import { readable, type SqlDatabase } from '../platform/d1-database.ts';
import { toEvaluation } from './d1-experiment-rows.ts';
import type { ExperimentLedger, LookRow } from './ports.ts';

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

/** What was seen of experiments over time. */
export function looksOf(db: SqlDatabase): Pick<ExperimentLedger, 'look' | 'looks'> {
  return {
    async look({ row: { experiment, seed, at, evaluation }, keep, proposal }) {
      const text = JSON.stringify(evaluation);
      // Nobody draws them over time, and they are ten times the rest.
      const { segments: _, ...kept } = evaluation;
      await db.batch([
        db
          .prepare(
            // One that was erased meanwhile has none.
            `INSERT OR REPLACE INTO experiment_looks (experiment, seed, at, evaluation)
             SELECT id, ?2, ?3, ?4 FROM experiments WHERE id = ?1`,
          )
          .bind(experiment, seed, at, JSON.stringify(kept)),
        // The one whose neighbours are closest goes, the oldest of such: what is left lies evenly, first and last stay.
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
            // The variant may have been dropped since what this look saw.
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
