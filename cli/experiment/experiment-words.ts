/** What an experiment is and what follows, in words. */
import type {
  Experiment,
  ExperimentDecision,
  ExperimentGuardrail,
  ExperimentMetric,
  ExperimentView,
} from '../../protocol/index.ts';
import { when } from '../keys/key-table.ts';
import { pValueText, shareText } from './experiment-numbers.ts';

export function decisionText(decision: ExperimentDecision): string {
  switch (decision.action) {
    case 'rollback':
      return `roll back: ${decision.variant} lost the guardrail ${decision.metric}`;
    case 'hold':
      return `hold: ${holdText(decision)}`;
    case 'wait':
      return `wait: ${waitText(decision)}`;
    case 'advance':
      return `advance to ${shareText(decision.coverage)}${decision.last ? ', the last step' : ''}`;
    case 'propose_winner':
      return `${decision.variant} wins, if you say so: graft experiment promote`;
  }
}

function holdText(decision: ExperimentDecision & { action: 'hold' }): string {
  switch (decision.reason) {
    case 'guardrail':
      return `${decision.variant} lost the guardrail ${decision.metric}`;
    case 'sample_ratio':
      return `the variants do not have the units that they should (p ${pEquals(decision.p_value)})`;
    case 'no_traffic':
      return 'an hour has passed without a unit; is the name asked for?';
  }
}

function waitText(decision: ExperimentDecision & { action: 'wait' }): string {
  switch (decision.reason) {
    case 'not_running':
      return 'it is not running';
    case 'killed':
      return 'it is killed';
    case 'not_significant':
      return 'no difference is certain';
    case 'units':
      return `${decision.units ?? 0} of ${decision.needed ?? '?'} units`;
    case 'hold_time':
      return `this step is held${decision.until === undefined ? '' : ` until ${when(decision.until)}`}`;
  }
}

/** @returns such as `= 0.2`, `< 0.001`. */
export function pEquals(p: number | undefined): string {
  const text = pValueText(p ?? 0);
  return text.startsWith('<') ? text : `= ${text}`;
}

/** @returns such as `ramping`, `running, killed`, `decided: treatment won`. */
export function stateText({ status, killed, winner }: Experiment): string {
  if (status === 'running' || status === 'ramping') return killed ? `${status}, killed` : status;
  if (status === 'draft') return status;
  return `${status}: ${winner === null ? 'nobody' : winner} won`;
}

/** One line after a step: what is so now. */
export function nowText({ id, document }: ExperimentView): string {
  const { name, status, killed, variants, coverage, winner } = document;
  const which = `${id} on ${name}`;
  const adapterOf = (key: string): string => variants.find((one) => one.key === key)?.adapter ?? key;
  switch (status) {
    case 'draft':
      return `${which} is a draft: nobody is in it`;
    case 'running':
    case 'ramping':
      return killed
        ? `${which} is killed: everybody gets the live version`
        : `${which} is ${status} with ${shareText(coverage)} of the units: ${variantsText(document)}`;
    case 'decided':
      return winner === null
        ? `${which} is decided, and nobody won: everybody gets the live version`
        : `${which} is decided: ${winner} won, and ${adapterOf(winner)} is the live version`;
    case 'archived':
      return `${which} is archived: the name is free for another one`;
  }
}

/** @returns the command that comes next; null when there is none. */
export function nextCommand({ document, evaluation }: ExperimentView): string | null {
  const { name, status, killed } = document;
  const graft = (step: string, more = ''): string => `graft experiment ${step} ${name}${more}`;
  switch (status) {
    case 'draft':
      return graft('start');
    case 'running':
    case 'ramping':
      if (killed) return graft('kill', ' --undo');
      return evaluation?.decision.action === 'propose_winner'
        ? graft('promote')
        : graft('status', ' --watch');
    case 'decided':
      return graft('archive');
    case 'archived':
      return null;
  }
}

export const variantsText = ({ variants }: Pick<Experiment, 'variants'>): string =>
  variants.map(({ key, adapter, weight }) => `${key} ${adapter} ${shareText(weight)}`).join(', ');

export const metricText = ({ kind, better }: ExperimentMetric): string =>
  `${kind}, ${better === 'up' ? 'more' : 'less'} is better`;

/** @returns such as `at most +50 % and +0.02`. */
export function allowedText({
  max_relative_increase: relative,
  max_absolute_increase: absolute,
}: ExperimentGuardrail): string {
  const limits = [
    ...(relative === undefined ? [] : [`+${shareText(relative)}`]),
    ...(absolute === undefined ? [] : [`+${absolute}`]),
  ];
  return limits.join(' and ');
}

export function minutesText(minutes: number): string {
  if (minutes >= 1_440 && minutes % 1_440 === 0) return `${minutes / 1_440} d`;
  return minutes >= 60 && minutes % 60 === 0 ? `${minutes / 60} h` : `${minutes} min`;
}
