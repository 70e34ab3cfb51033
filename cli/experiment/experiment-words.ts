/** States and next steps of experiments as text; parsing and printing of shares and means. */
import type {
  CreateExperiment,
  ExperimentDecision,
  ExperimentEvaluation,
  ExperimentView,
} from '../../protocol/admin-api/experiments.ts';
import {
  type Experiment,
  type ExperimentGuardrail,
  type ExperimentMetric,
  guardrailLimits,
  isLive,
} from '../../protocol/experiment.ts';
import { decisionWords, proposalGain, type NumberWords } from '../../protocol/state-words.ts';
import { plainTable, when } from '../output.ts';
import { usageError } from '../flags.ts';

/** Digits of a share: differences below a millionth have no effect. */
const DIGITS = 12;
/** Digits of a mean that a reader compares. */
const MEAN_DIGITS = 4;

/**
 * @returns 0 to 1. @throws CliError (usage) unless `text` looks like `5%` or `0.05`. A bare `1` is refused: it
 * would mean everybody, but usually one percent was intended.
 */
export function parseShare(text: string, flag: string): number {
  const percent = /^(\d{1,3}(?:\.\d{1,6})?)%$/.exec(text)?.[1];
  const share =
    percent !== undefined
      ? Number((Number(percent) / 100).toPrecision(DIGITS))
      : /^\d?\.\d{1,12}$/.test(text)
        ? Number(text)
        : NaN;
  if (share >= 0 && share <= 1) return share;
  throw usageError(`${flag}: '${text}' is not a share, such as 5% or 0.05.`);
}

/** @returns a lift that is below 0, above -1. @throws CliError (usage) when `text` is not such as `-2%` or `-0.02`. */
export function parseLoss(text: string, flag: string): number {
  const loss = text.startsWith('-') ? parseShare(text.slice(1), flag) : NaN;
  if (loss > 0 && loss < 1) return -loss;
  throw usageError(`${flag}: '${text}' is not a lift below 0, such as -2% or -0.02.`);
}

/** @returns such as `5 %`, `0.1 %`, `33.3333 %`. */
export const shareText = (share: number): string => `${Number((100 * share).toPrecision(6))} %`;

/** @returns such as `31.2 %`. */
const rateText = (rate: number): string => `${(100 * rate).toFixed(1)} %`;

/** Of a lift or a difference of rates. @returns such as `+9.0 %`, `-0.4 %`, `0.0 %`. */
export function liftText(lift: number): string {
  // Beyond this a tenth of a percent is meaningless.
  const text = (100 * lift).toFixed(Math.abs(lift) >= 10 ? 0 : 1);
  const none = Number(text) === 0;
  return `${none ? '0.0' : `${lift > 0 ? '+' : ''}${text}`} %`;
}

/** A unit's mean: of a proportion as a percentage, otherwise in the metric's own unit. */
export const meanText = (mean: number, kind: 'proportion' | 'mean'): string =>
  kind === 'proportion' ? rateText(mean) : String(Number(mean.toPrecision(MEAN_DIGITS)));

/** A difference of means, with its sign; of proportions in percentage points. */
export function differenceText(difference: number, kind: 'proportion' | 'mean'): string {
  if (kind === 'proportion') return `${liftText(difference).slice(0, -2)} pp`;
  const text = meanText(difference, kind);
  return difference > 0 ? `+${text}` : text;
}

/** @returns such as `0.034`, `< 0.001`. */
export const pValueText = (p: number): string => (p < 0.001 ? '< 0.001' : String(Number(p.toPrecision(2))));

const WRITTEN: NumberWords = {
  count: String,
  share: shareText,
  moment: when,
  pValue: pEquals,
};

/** @returns one line; with the command to type if a person has to act. */
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

/** Nobody is in it: there are pairs, but no units to compare. */
export const isJudgedAlone = ({ judge, coverage }: Pick<CreateExperiment, 'judge' | 'coverage'>): boolean =>
  judge !== undefined && coverage === 0;

export const JUDGED_ALONE = 'nobody: answers are judged in parallel to those that users get';

/** One line after a step: the new state. */
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
          ? `${which} is ${status}: ${shadow?.adapter ?? 'the other version'} answers too, but nobody ` +
            'gets its answers'
          : `${which} is ${status} with ${shareText(coverage)} of the units: ${variantsText(document)}`;
    case 'decided':
      return winner === null
        ? `${which} is decided without a winner: everybody gets the live version`
        : `${which} is decided: ${winner} won, and ${adapterOf(winner)} is the live version`;
    case 'archived':
      return `${which} is archived: the name is free for another experiment`;
  }
}

/** @returns the next command; null when there is none. */
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

/** The proposed winner of a live experiment. @returns such as `treatment: +12 points of thumbs, 240 users; since …`. */
export const proposalText = ({ proposal, document, evaluation }: ExperimentView): string | null =>
  proposal === null || !isLive(document)
    ? null
    : `${proposal.variant}: ${proposalGain({ proposal, document, evaluation }, WRITTEN)}; since ` +
      `${when(proposal.at)}, and later looks do not change it`;

export const variantsText = ({ variants }: Pick<Experiment, 'variants'>): string =>
  variants.map(({ key, adapter, weight }) => `${key} ${adapter} ${shareText(weight)}`).join(', ');

export const metricText = ({ kind, better, cap }: Omit<ExperimentMetric, 'key'>): string =>
  `${kind}, ${better === 'up' ? 'higher' : 'lower'} is ` +
  `better${cap === undefined ? '' : `, capped at control’s ${cap}`}`;

/** @returns such as `at most +50 % and +0.02`, `at most -10 %`. */
export function allowedText(rail: ExperimentGuardrail): string {
  // Shares first: they are the most common.
  const limits = [...guardrailLimits(rail)].reverse().map(({ limit, direction, allowed }) => {
    const sign = direction === 'increase' ? '+' : '-';
    return sign + (limit === 'relative' ? shareText(allowed) : String(allowed));
  });
  return limits.join(' and ');
}

export const judgeText = ({
  model,
  url,
}: {
  model?: string | undefined;
  url?: string | undefined;
}): string =>
  model === undefined ? `${url ?? '?'} (signed calls, in random order)` : `${model}, in both orders`;

export function minutesText(minutes: number): string {
  if (minutes >= 1_440 && minutes % 1_440 === 0) return `${minutes / 1_440} d`;
  return minutes >= 60 && minutes % 60 === 0 ? `${minutes / 60} h` : `${minutes} min`;
}

/** A look under an earlier seed does not apply to the current one. */
export const presentLook = ({ evaluation, document }: ExperimentView): ExperimentView['evaluation'] =>
  evaluation?.seed === document.seed ? evaluation : null;

export const unitsOf = (evaluation: ExperimentView['evaluation']): number =>
  Object.values(evaluation?.units ?? {}).reduce((sum, units) => sum + units, 0);

/** Whether its decision is relevant: while it is live, or when the decision has ended it. */
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
