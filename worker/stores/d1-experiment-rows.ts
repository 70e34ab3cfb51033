import { z } from 'zod';
import { adaptersOf, Experiment, ExperimentEvaluation, pinOf } from '../../protocol/index.ts';
import type { ExperimentRow } from './types-experiments.ts';

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
  evaluation: string | null;
}

export const toDocument = (text: string): Experiment => Experiment.parse(JSON.parse(text));
export const toEvaluation = (text: string): ExperimentEvaluation =>
  ExperimentEvaluation.parse(JSON.parse(text));

export const toExperiment = (record: ExperimentRecord): ExperimentRow => ({
  id: record.id,
  owner: record.owner,
  document: toDocument(record.document),
  seeds: z.array(z.string()).parse(JSON.parse(record.seeds)),
  createdAt: record.created_at,
  createdBy: record.created_by,
  startedAt: record.started_at,
  coverageAt: record.coverage_at,
  evaluation: record.evaluation === null ? null : toEvaluation(record.evaluation),
});

/** `[{name, version}]` of all adapters that it names, for `json_each`. */
export const pinsJson = (document: Experiment): string => JSON.stringify(adaptersOf(document).map(pinOf));
