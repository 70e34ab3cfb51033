import type { ApiError, Result } from '../../../protocol/index.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { ownExperiment } from '../life/own-experiment.ts';
import type { ExperimentLedger, ExperimentRow } from '../ports.ts';

/** As {@link ownExperiment}, but for the owner alone: what users wrote is nothing for whoever runs the edge. */
export const ownPairs = (
  deps: { experimentLedger: Pick<ExperimentLedger, 'get'> },
  { id, caller }: { id: string; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> =>
  ownExperiment(deps, { id, caller: { ...caller, root: false } });
