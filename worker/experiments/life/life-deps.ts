import type { MayUseChain } from '../../registry/assemble-chain.ts';
import type { IntakeDeps } from '../../registry/registry-deps.ts';
import type { ExperimentLedger, ExperimentTallies } from '../ports.ts';

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
