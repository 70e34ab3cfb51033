import { err, ExperimentId, ok, type ApiError, type Result } from '../../../protocol/index.ts';
import type { ExperimentLedger, ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';

/** The experiment, when its name is the caller's; unknown and another's come out alike. */
export async function ownExperiment(
  deps: { experimentLedger: Pick<ExperimentLedger, 'get'> },
  { id, caller }: { id: string; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const row = ExperimentId.safeParse(id).success ? await deps.experimentLedger.get(id) : null;
  return row !== null && (caller.root || row.owner === caller.tenant)
    ? ok(row)
    : err({
        code: 'not_found',
        message: 'There is no such experiment, or you do not have access to it.',
      });
}
