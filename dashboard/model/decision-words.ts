/** What an experiment does and what its last look came to, in words. */
import type { Experiment } from '../../protocol/experiment.ts';
import type { ExperimentDecision, ExperimentEvaluation } from '../../protocol/experiment-api.ts';
import { moment, number, percent } from './words.ts';

export interface Words {
  readonly tone: 'calm' | 'good' | 'alarm';
  readonly text: string;
}

export function decisionWords(decision: ExperimentDecision): Words {
  const about = (metric?: string, variant?: string): string =>
    metric === undefined ? '' : `: ${metric} of ${variant ?? 'a variant'}`;
  switch (decision.action) {
    case 'rollback':
      return {
        tone: 'alarm',
        text: `Rolled back. A guardrail was lost${about(decision.metric, decision.variant)}. Everybody gets the live version.`,
      };
    case 'hold':
      switch (decision.reason) {
        case 'guardrail':
          return {
            tone: 'alarm',
            text: `On hold. A guardrail was lost${about(decision.metric, decision.variant)}. Stop the experiment, or change it.`,
          };
        case 'sample_ratio':
          return { tone: 'alarm', text: 'On hold: the variants do not get the units that they should.' };
        case 'no_traffic':
          return {
            tone: 'alarm',
            text: 'On hold: nobody has been in it for an hour. Check that applications call this name.',
          };
      }
      break;
    case 'wait':
      switch (decision.reason) {
        case 'not_running':
          return { tone: 'calm', text: 'It is not running.' };
        case 'killed':
          return { tone: 'alarm', text: 'The kill switch is on: everybody gets the live version.' };
        case 'not_significant':
          return { tone: 'calm', text: 'Waiting: no difference can be told yet.' };
        case 'units':
          return {
            tone: 'calm',
            text: `Waiting: ${number(decision.units ?? 0)} of ${number(decision.needed ?? 0)} units.`,
          };
        case 'hold_time':
          return {
            tone: 'calm',
            text: `Waiting: this step is held${decision.until === undefined ? '' : ` until ${moment(decision.until)}`}.`,
          };
      }
      break;
    case 'advance':
      return {
        tone: 'good',
        text: `Advanced to ${percent(decision.coverage)}${decision.last ? ', the last step' : ''}.`,
      };
    case 'propose_winner':
      return {
        tone: 'good',
        text: `${decision.variant} is proposed as the winner. Promoting it is yours to do.`,
      };
  }
}

/** Why no result may be shown, or null when one may. */
export function hiddenBecause(evaluation: ExperimentEvaluation | null): string | null {
  if (evaluation?.sample_ratio.state !== 'alarm') return null;
  const { p_value: p } = evaluation.sample_ratio;
  const split = Object.entries(evaluation.units)
    .map(([key, units]) => `${key} ${number(units)}`)
    .join(', ');
  return `The variants do not get the units that their weights say (${split}; p ${p < 0.0001 ? '< 0.0001' : `= ${number(p)}`}). Something is wrong with who is counted, so no result counts, and none is shown. Look for a variant whose answers fail or are retried, then stop this experiment and begin a new one.`;
}

export type Step = 'start' | 'ramp' | 'kill' | 'revive' | 'stop' | 'promote' | 'archive';

/** What may be done with it now, in the order of its life. */
export function stepsOf({ status, killed, coverage }: Experiment): Step[] {
  switch (status) {
    case 'draft':
      return ['start', 'archive'];
    case 'running':
    case 'ramping':
      return [...(coverage < 1 ? (['ramp'] as const) : []), killed ? 'revive' : 'kill', 'promote', 'stop'];
    case 'decided':
      return ['archive'];
    case 'archived':
      return [];
  }
}

/** The step of the ramp that comes after the present coverage; null when there is none. */
export const nextCoverage = ({ ramp, coverage }: Pick<Experiment, 'ramp' | 'coverage'>): number | null =>
  ramp?.steps.find((step) => step > coverage) ?? null;
