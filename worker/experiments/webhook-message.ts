import type { Experiment, ExperimentDecision, ExperimentEvaluation } from '../../protocol/index.ts';
import type { WebhookMessageRow } from './ports-webhook.ts';

/**
 * What a look is worth telling, once a seed; null = nothing. The body is as Standard Webhooks recommends:
 * `{type, timestamp, data}`; `data` has names and figures only, nothing that users wrote.
 */
export function messageOf(
  id: string,
  { webhook, name, seed }: Pick<Experiment, 'webhook' | 'name' | 'seed'>,
  { decision, at, units }: ExperimentEvaluation,
): Omit<WebhookMessageRow, 'tries'> | null {
  const event = webhook === undefined ? null : eventOf(decision);
  if (webhook === undefined || event === null) return null;
  const { type, ...about } = event;
  const data = { experiment: id, name, seed, ...about, units };
  return {
    // A message is told apart by what it is about, and by nothing that another look has otherwise.
    id: ['msg', id, type, ...Object.values(about), seed].join(':'),
    experiment: id,
    url: webhook,
    body: JSON.stringify({ type: `experiment.${type}`, timestamp: new Date(at).toISOString(), data }),
  };
}

function eventOf(decision: ExperimentDecision): ({ type: string } & Record<string, string>) | null {
  switch (decision.action) {
    case 'propose_winner':
      return { type: 'proposed', variant: decision.variant };
    case 'rollback':
      return {
        type: 'rolled_back',
        variant: decision.variant,
        reason: decision.reason,
        metric: decision.metric,
      };
    case 'drop':
      return { type: 'dropped', variant: decision.variant, reason: decision.reason, metric: decision.metric };
    case 'hold': {
      const { reason, variant, metric } = decision;
      return {
        type: 'alarm',
        reason,
        ...(variant === undefined ? {} : { variant }),
        ...(metric === undefined ? {} : { metric }),
      };
    }
    default:
      return null;
  }
}
