import { z } from 'zod';
import { ExperimentEvaluation, ExperimentProposal } from '../../protocol/admin-api/experiments.ts';
import { adaptersOf, Experiment } from '../../protocol/experiment.ts';
import { pinOf } from '../../protocol/identity.ts';
import { readColumn } from '../platform/d1-database.ts';
import type { ExperimentRow } from './ports.ts';

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
