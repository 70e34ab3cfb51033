import type { MayUseChain } from '../../registry/assemble-chain.ts';
import type { IntakeDeps } from '../../registry/registry-deps.ts';
import type { WebhookOutbox } from '../ports-webhook.ts';
import type { PairTallies } from '../pairs/ports.ts';
import type { ExperimentLedger, ExperimentTallies, ExperimentRow } from '../ports.ts';
import { err, ExperimentId, ok, type ApiError, type Result } from '../../../protocol/index.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { conflict } from '../../errors.ts';
import { webhookProblem } from '../webhooks.ts';

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

/** Somebody else changed it, or the caller knows an older document. */
export const changedMeanwhile = ({ id, document: { version, status } }: ExperimentRow): ApiError =>
  conflict(
    `Experiment '${id}' has changed: its document is version ${version} now, and it is ${status}. Read it and try again.`,
    'version',
  );

export const overlaps = (others: readonly string[]): ApiError =>
  conflict(
    `Experiment '${others.join("', '")}' is live in this namespace, and its range overlaps. ` +
      'Give a range that is free, or stop the other one first.',
    'namespace',
  );

/** A guardrail stands against the direction of its metric. @param prefix of the field's path. */
export const guardrailRefused = (
  { index, message }: { index: number; message: string },
  prefix = '',
): ApiError => {
  const param = `${prefix}guardrails.${index}`;
  return { code: 'invalid_request', message: `Invalid value for '${param}': ${message}.`, param };
};

/** The document's webhook is no address that this edge may call; null = it is, or there is none. */
export function webhookRefused(webhook: string | undefined, loopback: boolean, prefix = ''): ApiError | null {
  const problem = webhook === undefined ? null : webhookProblem(webhook, loopback);
  const param = `${prefix}webhook`;
  return problem === null
    ? null
    : { code: 'invalid_request', message: `Invalid value for '${param}': ${problem}.`, param };
}
