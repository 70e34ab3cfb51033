import type { MayUseChain } from '../../registry/assemble-chain.ts';
import type { IntakeDeps } from '../../registry/registry-deps.ts';
import type { WebhookOutbox } from '../ports-webhook.ts';
import type { PairTallies } from '../pairs/ports.ts';
import type { ExperimentLedger, ExperimentTallies } from '../ports.ts';

/** What leads experiments through their lives. */
export interface LifeDeps extends Pick<IntakeDeps, 'registry' | 'pointers' | 'bases' | 'now'> {
  experimentLedger: ExperimentLedger;
  mayUseChain: MayUseChain;
  pairTallies: Pick<PairTallies, 'forget'>;
  /** Whether what tenants have called may be this machine itself. */
  loopbackCallbacks: boolean;
}

/** What evaluates them. */
export interface EvaluateDeps extends Pick<IntakeDeps, 'pointers' | 'now'> {
  experimentLedger: ExperimentLedger;
  tallies: Pick<ExperimentTallies, 'snapshot'>;
  outbox: Pick<WebhookOutbox, 'add' | 'retract'>;
  pairTallies: Pick<PairTallies, 'snapshot'>;
}
