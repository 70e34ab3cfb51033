import type { MayUseChain } from '../../intake/assemble-chain.ts';
import type { IntakeDeps } from '../../intake/intake-deps.ts';
import type { ExperimentLedger, ExperimentTallies } from '../../stores/types-experiments.ts';

/** What leads experiments through their lives. */
export interface LifeDeps extends Pick<IntakeDeps, 'registry' | 'pointers' | 'now'> {
  experimentLedger: ExperimentLedger;
  mayUseChain: MayUseChain;
}

/** What evaluates them. */
export interface EvaluateDeps extends Pick<IntakeDeps, 'pointers' | 'now'> {
  experimentLedger: ExperimentLedger;
  tallies: Pick<ExperimentTallies, 'snapshot'>;
}
