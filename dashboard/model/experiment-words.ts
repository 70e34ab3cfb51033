/** States of an experiment, its last look and its judged pairs, as text. */
import type {
  ExperimentDecision,
  ExperimentEvaluation,
  ExperimentView,
} from '../../protocol/admin-api/experiments.ts';
import {
  type ExperimentPairs,
  PAIR_FAILURE_WORDS,
  type PairFailure,
  type Experiment,
  isLive,
  SHADOW_METRICS,
} from '../../protocol/experiment.ts';
import {
  decisionWords,
  type DecisionWords,
  type NumberWords,
  proposalGain,
} from '../../protocol/state-words.ts';
import { moment, number, percent } from './words.ts';

/** How the page formats numbers. */
export const WRITTEN: NumberWords = {
  count: number,
  share: percent,
  moment,
  pValue: (p) => (p < 0.0001 ? '< 0.0001' : `= ${number(p)}`),
};

/** As a sentence. */
export function decisionSentence(decision: ExperimentDecision): DecisionWords {
  const { tone, text } = decisionWords(decision, WRITTEN);
  const end = text.endsWith('?') ? '' : '.';
  // The sentence starts with the variant's key, which must stay as it is.
  const first = decision.action === 'propose_winner' ? text[0] : text[0]?.toUpperCase();
  return { tone, text: `${first}${text.slice(1)}${end}` };
}

/** The state of an experiment: its outcome or, while it runs, its last look. */
export function standing(
  view: Pick<ExperimentView, 'document' | 'evaluation' | 'started_at' | 'proposal'>,
): DecisionWords {
  const { document, evaluation, started_at: startedAt } = view;
  const { status, winner } = document;
  const calm = (text: string): DecisionWords => ({ tone: 'calm', text });
  if (winner !== null) return { tone: 'good', text: `${winner} won, and its version is live.` };
  if (status === 'draft') return calm('Not started.');
  if (status === 'decided' || status === 'archived') {
    if (startedAt === null) return calm('Archived before it started.');
    if (evaluation?.decision.action !== 'rollback') return calm('Stopped without a winner.');
    const { text } = decisionSentence(evaluation.decision);
    return { tone: 'alarm', text: text.replace('Roll back', 'Rolled back') };
  }
  if (document.killed) return { tone: 'alarm', text: 'Killed: everybody gets the live version.' };
  const decision = evaluation?.decision;
  // The first look of an experiment without users counts units all the same.
  if (isJudgedAlone(document) && decision?.action === 'wait' && decision.reason === 'units')
    return calm('Wait: no pair has been judged yet.');
  if (decision?.action === 'propose_winner' && openProposal(view) !== null)
    return { tone: 'good', text: proposalSentence(view) };
  return evaluation === null ? calm('Not evaluated yet.') : decisionSentence(evaluation.decision);
}

/** A proposed winner that has not been promoted; null if there is none. */
export const openProposal = ({
  proposal,
  document,
}: Pick<ExperimentView, 'proposal' | 'document'>): ExperimentView['proposal'] =>
  isLive(document) ? proposal : null;

/** @returns such as `treatment is the proposed winner: +41 points of thumbs, 200 users.` */
export function proposalSentence(view: Pick<ExperimentView, 'document' | 'evaluation' | 'proposal'>): string {
  return `${view.proposal?.variant ?? 'nobody'} is the proposed winner: ${proposalGain(view, WRITTEN) ?? ''}.`;
}

/** Why results are hidden, or null. */
export function hiddenBecause(evaluation: ExperimentEvaluation | null): string | null {
  if (evaluation?.sample_ratio.state !== 'alarm') return null;
  const { p_value: p } = evaluation.sample_ratio;
  const split = Object.entries(evaluation.units)
    .map(([key, units]) => `${key} ${number(units)}`)
    .join(', ');
  return (
    `The variants do not receive the units that their weights call for (${split}; p ` +
    `${WRITTEN.pValue(p)}). The counts are wrong, so all results are hidden. Look for a variant whose ` +
    'answers fail or are retried, then stop this experiment and start a new one.'
  );
}

export type Step = 'start' | 'ramp' | 'kill' | 'revive' | 'stop' | 'promote' | 'archive';

/** Possible actions, in the order of its life. */
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

/** The ramp step after the current coverage; null when there is none. */
export const nextCoverage = ({ ramp, coverage }: Pick<Experiment, 'ramp' | 'coverage'>): number | null =>
  ramp?.steps.find((step) => step > coverage) ?? null;

type Judge = NonNullable<Experiment['judge']>;

export const judgeWords = ({ model, url }: Judge): string =>
  model === undefined
    ? `${url ?? '?'}, which gets the answers in random order`
    : `${model}, asked in both orders; if the two verdicts differ, it is a tie`;

/** Evidence about the judge, each a sentence. */
export function pairNotes(pairs: ExperimentPairs, { tokens_per_day: budget }: Judge): string[] {
  const { same, first_chosen: first, agreement, failures, tokens_today: tokens } = pairs;
  return [
    ...(same === 0 ? [] : [`${number(same)} of the ties: identical answers, not sent to the judge.`]),
    ...(first === null ? [] : [`The answer shown first was chosen in ${percent(first)}.`]),
    ...(agreement === null ? [] : [`The judge agreed with itself in both orders in ${percent(agreement)}.`]),
    ...Object.entries(failures).map(
      ([reason, count]) => `${number(count)} not judged: ${PAIR_FAILURE_WORDS[reason as PairFailure]}.`,
    ),
    `${number(tokens)} of ${number(budget)} tokens used today.`,
  ];
}

/** Minimum verdicts before a position bias is reported. */
const FEWEST_CHOICES = 10;
/** Share of one position above which the position decides, not the answer. */
const MOSTLY = 0.9;

/** A warning about a judge with a position bias; null for others. */
export function judgedByPlace(
  pairs: Pick<ExperimentPairs, 'wins' | 'ties' | 'losses' | 'same' | 'first_chosen'>,
): string | null {
  const { first_chosen: first } = pairs;
  const asked = pairs.wins + pairs.ties + pairs.losses - pairs.same;
  if (first === null || asked < FEWEST_CHOICES || Math.max(first, 1 - first) < MOSTLY) return null;
  const [place, share] = first >= 0.5 ? ['first', first] : ['second', 1 - first];
  return (
    `It chose the answer shown ${place} in ${percent(share)} of ${number(asked)} pairs: it judges the ` +
    'position, not the answer. Use another judge.'
  );
}

/** What users of the name get while it runs. */
export const whoGetsWhat = (document: Pick<Experiment, 'judge' | 'coverage'>): string =>
  isJudgedAlone(document)
    ? 'Users get the live version; the other one also answers, for the judge only.'
    : 'Its users get the version that it assigns, whichever is live.';

/** Share of the users in it; null if answers are judged in parallel. */
export const coverageWords = (document: Pick<Experiment, 'judge' | 'coverage'>): string =>
  isJudgedAlone(document) ? 'judged' : percent(document.coverage);

/** Nobody is in it: there are pairs, but no units to compare. */
export const isJudgedAlone = ({ judge, coverage }: Pick<Experiment, 'judge' | 'coverage'>): boolean =>
  judge !== undefined && coverage === 0;

/** Metrics of the shadow. */
interface ShadowFigure {
  readonly metric: string;
  readonly requests: string;
  readonly mean: string;
  /** If they are known. */
  readonly p50: string;
  readonly p95: string;
}

/** Only metrics that the edge records itself, whatever their names in the document. */
export const shadowFigures = ({ shadow }: Pick<ExperimentEvaluation, 'shadow'>): ShadowFigure[] =>
  Object.entries(shadow).map(([metric, { n, mean, p50, p95 }]) => {
    const kind = SHADOW_METRICS.find(({ key }) => key === metric)?.kind;
    return {
      ...{ metric, requests: number(n), mean: kind === 'proportion' ? percent(mean) : number(mean) },
      ...{ p50: known(p50), p95: known(p95) },
    };
  });

const known = (value: number | undefined): string => (value === undefined ? '–' : number(value));
