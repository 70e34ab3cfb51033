/** What an experiment is and what follows, in words. */
import {
  type CreateExperiment,
  decisionWords,
  type Experiment,
  type ExperimentDecision,
  type ExperimentEvaluation,
  type ExperimentGuardrail,
  type ExperimentMetric,
  type ExperimentView,
  guardrailLimits,
  isLive,
  type NumberWords,
} from '../../protocol/index.ts';
import { when } from '../keys/key-table.ts';
import { plainTable } from '../output.ts';
import { pValueText, shareText } from './experiment-numbers.ts';

const WRITTEN: NumberWords = {
  count: String,
  share: shareText,
  moment: when,
  pValue: pEquals,
};

/** @returns one line; with what to type where it is a person's turn. */
export const decisionText = (decision: ExperimentDecision): string =>
  decisionWords(decision, WRITTEN).text +
  (decision.action === 'propose_winner' ? ': graft experiment promote' : '');

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

/** Nobody is in it: there are pairs, and no units to compare. */
export const isJudgedAlone = ({ judge, coverage }: Pick<CreateExperiment, 'judge' | 'coverage'>): boolean =>
  judge !== undefined && coverage === 0;

export const JUDGED_ALONE = 'nobody: answers are judged beside those that users get';

/** One line after a step: what is so now. */
export function nowText({ id, document }: ExperimentView): string {
  const { name, status, killed, variants, coverage, winner, shadow } = document;
  const which = `${id} on ${name}`;
  const adapterOf = (key: string): string => variants.find((one) => one.key === key)?.adapter ?? key;
  switch (status) {
    case 'draft':
      return `${which} is a draft: nobody is in it`;
    case 'running':
    case 'ramping':
      return killed
        ? `${which} is killed: everybody gets the live version`
        : isJudgedAlone(document)
          ? `${which} is ${status}: ${shadow?.adapter ?? 'the other version'} answers beside, and nobody gets its answers`
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
export function nextCommand({ document, proposal }: ExperimentView): string | null {
  const { name, status, killed } = document;
  const graft = (step: string, more = ''): string => `graft experiment ${step} ${name}${more}`;
  switch (status) {
    case 'draft':
      return graft('start');
    case 'running':
    case 'ramping':
      if (killed) return graft('kill', ' --undo');
      return proposal !== null ? graft('promote') : graft('status', ' --watch');
    case 'decided':
      return graft('archive');
    case 'archived':
      return null;
  }
}

/** The winner that was proposed, of one that is live. @returns such as `treatment, since …, after 240 units`. */
export const proposalText = ({ proposal, document }: ExperimentView): string | null =>
  proposal === null || !isLive(document)
    ? null
    : `${proposal.variant}, since ${when(proposal.at)}, after ${proposal.units} units; it stands whatever later looks say`;

export const variantsText = ({ variants }: Pick<Experiment, 'variants'>): string =>
  variants.map(({ key, adapter, weight }) => `${key} ${adapter} ${shareText(weight)}`).join(', ');

export const metricText = ({ kind, better, cap }: Omit<ExperimentMetric, 'key'>): string =>
  `${kind}, ${better === 'up' ? 'more' : 'less'} is better${cap === undefined ? '' : `, capped at control’s ${cap}`}`;

/** @returns such as `at most +50 % and +0.02`, `at most -10 %`. */
export function allowedText(rail: ExperimentGuardrail): string {
  // Shares first: they are what most say.
  const limits = [...guardrailLimits(rail)].reverse().map(({ limit, direction, allowed }) => {
    const sign = direction === 'increase' ? '+' : '-';
    return sign + (limit === 'relative' ? shareText(allowed) : String(allowed));
  });
  return limits.join(' and ');
}

export function minutesText(minutes: number): string {
  if (minutes >= 1_440 && minutes % 1_440 === 0) return `${minutes / 1_440} d`;
  return minutes >= 60 && minutes % 60 === 0 ? `${minutes / 60} h` : `${minutes} min`;
}

/** A look under a seed before says nothing of the present one. */
export const presentLook = ({ evaluation, document }: ExperimentView): ExperimentView['evaluation'] =>
  evaluation?.seed === document.seed ? evaluation : null;

export const unitsOf = (evaluation: ExperimentView['evaluation']): number =>
  Object.values(evaluation?.units ?? {}).reduce((sum, units) => sum + units, 0);

/** Whether its decision says something: while it is live, or when the decision has ended it. */
export const isShown = (
  { document: { status } }: ExperimentView,
  { decision }: ExperimentEvaluation,
): boolean => status === 'running' || status === 'ramping' || decision.action === 'rollback';

export function experimentTable(experiments: readonly ExperimentView[]): string {
  if (experiments.length === 0) return 'no experiments';
  return plainTable(
    ['NAME', 'ID', 'STATE', 'COVERAGE', 'UNITS', 'DECISION'],
    experiments.map((view) => {
      const { id, document } = view;
      const look = presentLook(view);
      return [
        document.name,
        id,
        stateText(document),
        shareText(document.coverage),
        look === null ? '-' : String(unitsOf(look)),
        look === null || !isShown(view, look) ? '-' : decisionText(look.decision),
      ];
    }),
  );
}
