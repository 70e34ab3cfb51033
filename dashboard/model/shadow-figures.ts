/** What was recorded of the adapter that runs beside, as the page writes it. */
import { SHADOW_METRICS } from '../../protocol/experiment.ts';
import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';
import { number, percent } from './words.ts';

export interface ShadowFigure {
  readonly metric: string;
  readonly requests: string;
  readonly mean: string;
  /** Where they are known. */
  readonly p50: string;
  readonly p95: string;
}

/** Only metrics that the edge records itself, whatever the document calls so. */
export const shadowFigures = ({ shadow }: Pick<ExperimentEvaluation, 'shadow'>): ShadowFigure[] =>
  Object.entries(shadow).map(([metric, { n, mean, p50, p95 }]) => {
    const kind = SHADOW_METRICS.find(({ key }) => key === metric)?.kind;
    return {
      ...{ metric, requests: number(n), mean: kind === 'proportion' ? percent(mean) : number(mean) },
      ...{ p50: known(p50), p95: known(p95) },
    };
  });

const known = (value: number | undefined): string => (value === undefined ? '–' : number(value));
