import type { Experiment, ExperimentPairs } from '../../../protocol/index.ts';

/**
 * Where nobody is in the experiment (coverage 0), its pairs decide: nothing else does, so that nothing is looked at twice
 * for one decision. With users in it the first metric decides, and pairs are shown.
 * @returns null where pairs do not decide, or there is none yet.
 */
export function judgedDecision(
  { coverage, judge, variants }: Experiment,
  pairs: ExperimentPairs | null,
): { action: 'propose_winner'; variant: string } | { action: 'wait'; reason: 'pairs' } | null {
  if (judge === undefined || coverage > 0 || pairs === null) return null;
  if (pairs.verdict === 'better') return { action: 'propose_winner', variant: pairs.variant };
  const [control, ...treatments] = variants;
  if (pairs.verdict === 'worse' && treatments.length === 1 && control !== undefined)
    return { action: 'propose_winner', variant: control.key };
  return pairs.wins + pairs.ties + pairs.losses > 0 ? { action: 'wait', reason: 'pairs' } : null;
}
