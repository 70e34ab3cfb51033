import type { ExperimentView } from '../../../protocol/index.ts';
import type { z } from 'zod';
import type { ExperimentRow } from '../ports.ts';

/** As the admin API shows it. */
export const viewOf = (row: ExperimentRow): z.infer<typeof ExperimentView> => ({
  id: row.id,
  owner: row.owner,
  document: row.document,
  seeds: row.seeds,
  created_at: row.createdAt,
  created_by: row.createdBy,
  started_at: row.startedAt,
  coverage_at: row.coverageAt,
  evaluation: row.evaluation,
});
