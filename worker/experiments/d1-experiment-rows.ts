import { z } from 'zod';
import {
  adaptersOf,
  Experiment,
  ExperimentEvaluation,
  ExperimentProposal,
  pinOf,
} from '../../protocol/index.ts';
import { readColumn, type SqlDatabase, readable } from '../platform/d1-database.ts';
import type { ExperimentRow, ExperimentLedger, LookRow } from './ports.ts';

/** A row of `experiments`. */
export interface ExperimentRecord {
  id: string;
  owner: string;
  seeds: string;
  document: string;
  created_at: number;
  created_by: string;
  started_at: number | null;
  coverage_at: number | null;
  step_units: number;
  proposal: string | null;
  ended_at: number | null;
  evaluation: string | null;
}

const place = (id: string, column: string) => ({ table: 'experiments', id, column });

/** @param id of the experiment. @throws DamagedRow */
export const toDocument = (text: string, id: string): Experiment =>
  readColumn(Experiment, text, place(id, 'document'));
/** @param id of the experiment. @throws DamagedRow */
export const toEvaluation = (text: string, id: string): ExperimentEvaluation =>
  readColumn(ExperimentEvaluation, text, place(id, 'evaluation'));

export const toExperiment = (record: ExperimentRecord): ExperimentRow => ({
  id: record.id,
  owner: record.owner,
  document: toDocument(record.document, record.id),
  seeds: readColumn(z.array(z.string()), record.seeds, place(record.id, 'seeds')),
  createdAt: record.created_at,
  createdBy: record.created_by,
  startedAt: record.started_at,
  coverageAt: record.coverage_at,
  stepUnits: record.step_units,
  endedAt: record.ended_at,
  proposal:
    record.proposal === null
      ? null
      : readColumn(ExperimentProposal, record.proposal, place(record.id, 'proposal')),
  evaluation: record.evaluation === null ? null : toEvaluation(record.evaluation, record.id),
});

/** `[{name, version}]` of all adapters that it names, for `json_each`. */
export const pinsJson = (document: Experiment): string => JSON.stringify(adaptersOf(document).map(pinOf));

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
            'INSERT OR REPLACE INTO experiment_looks (experiment, seed, at, evaluation) VALUES (?, ?, ?, ?)',
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
            'UPDATE experiments SET evaluation = ?, proposal = COALESCE(proposal, ?) WHERE id = ? AND seed = ?',
          )
          .bind(text, proposal === undefined ? null : JSON.stringify(proposal), experiment, seed),
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
