/** What an experiment does and what its last look came to, in words. */
import type { Experiment } from '../../protocol/experiment.ts';
import type {
  ExperimentDecision,
  ExperimentEvaluation,
  ExperimentView,
} from '../../protocol/experiment-answers.ts';
import { decisionWords, type DecisionWords, type NumberWords } from '../../protocol/state-words.ts';
import { moment, number, percent } from './words.ts';

/** How the page writes numbers. */
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
  // The variant's key stands first there, as it is written.
  const first = decision.action === 'propose_winner' ? text[0] : text[0]?.toUpperCase();
  return { tone, text: `${first}${text.slice(1)}${end}` };
}

/** How an experiment stands: what became of it, or, while it runs, what its last look came to. */
export function standing(
  view: Pick<ExperimentView, 'document' | 'evaluation' | 'started_at'>,
): DecisionWords {
  const { document, evaluation, started_at: startedAt } = view;
  const { status, winner } = document;
  const calm = (text: string): DecisionWords => ({ tone: 'calm', text });
  if (winner !== null) return { tone: 'good', text: `${winner} won and is the version of the name.` };
  if (status === 'draft') return calm('Not started.');
  if (status === 'decided' || status === 'archived') {
    if (startedAt === null) return calm('Put away before it began.');
    if (evaluation?.decision.action !== 'rollback') return calm('Stopped; nobody won.');
    const { text } = decisionSentence(evaluation.decision);
    return { tone: 'alarm', text: text.replace('Roll back', 'Rolled back') };
  }
  if (document.killed) return { tone: 'alarm', text: 'Killed: everybody gets the live version.' };
  return evaluation === null ? calm('Nobody has looked yet.') : decisionSentence(evaluation.decision);
}

/** Why no result may be shown, or null when one may. */
export function hiddenBecause(evaluation: ExperimentEvaluation | null): string | null {
  if (evaluation?.sample_ratio.state !== 'alarm') return null;
  const { p_value: p } = evaluation.sample_ratio;
  const split = Object.entries(evaluation.units)
    .map(([key, units]) => `${key} ${number(units)}`)
    .join(', ');
  return `The variants do not get the units that their weights say (${split}; p ${WRITTEN.pValue(p)}). Something is wrong with who is counted, so no result counts, and none is shown. Look for a variant whose answers fail or are retried, then stop this experiment and begin a new one.`;
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
