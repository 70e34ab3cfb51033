/** What jobs that have ended have used goes to usage, which may lie in another database. */
import type { UsageLedger } from '../metering/ports.ts';
import { COUNTED_JOBS } from './limits.ts';
import type { TrainingJobs } from './ports.ts';

/**
 * Adds some of it to usage, each job's once, whoever does so and however often: what ends between the two databases is
 * repeated, under the same id.
 * @param tenant null = any. @returns `over`: nothing is left.
 */
export async function countUsage(
  deps: {
    trainingJobs: Pick<TrainingJobs, 'uncounted' | 'counted'>;
    usage: Pick<UsageLedger, 'add'>;
    now: () => number;
  },
  tenant: string | null,
): Promise<{ counted: number; over: boolean }> {
  const jobs = await deps.trainingJobs.uncounted({ tenant, limit: COUNTED_JOBS });
  for (const { batch, row } of jobs) {
    await deps.usage.add({ id: batch, at: deps.now(), rows: [row] });
    await deps.trainingJobs.counted({ tenant: row.tenant, batch });
  }
  return { counted: jobs.length, over: jobs.length < COUNTED_JOBS };
}
