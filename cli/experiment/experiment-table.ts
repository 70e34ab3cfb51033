import type { ExperimentEvaluation, ExperimentView } from '../../protocol/index.ts';
import { plainTable } from '../output.ts';
import { shareText } from './experiment-numbers.ts';
import { decisionText, stateText } from './experiment-words.ts';

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
