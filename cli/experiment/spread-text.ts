import type { ExperimentEvaluation } from '../../protocol/index.ts';
import { plainTable } from '../output.ts';
import { meanText } from './experiment-numbers.ts';

const mean = (value: number): string => meanText(value, 'mean');

/** How times are spread, beside their means; nothing where it is not known. */
export function spreadText(look: ExperimentEvaluation | null): string[] {
  const rows = Object.entries(look?.spread ?? {}).flatMap(([metric, arms]) =>
    Object.entries(arms).map(([variant, { values, p50, p95, ...of }]) => [
      ...[metric, variant, String(values)],
      ...[mean(of.mean), mean(p50), mean(p95)],
    ]),
  );
  if (rows.length === 0) return [];
  return [
    `${plainTable(['SPREAD', 'VARIANT', 'VALUES', 'MEAN', 'P50', 'P95'], rows)}\nthe mean is that of the units; p50 and p95 are those of the single answers, to 2 %`,
  ];
}
