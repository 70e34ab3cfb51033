import { segmentWords, type Experiment, type ExperimentEvaluation } from '../../protocol/index.ts';
import { plainTable } from '../output.ts';
import { liftText, meanText } from './experiment-numbers.ts';

/** The metric that decides, by the declared dimension; nothing without one. */
export function segmentsText(
  { metrics, variants }: Pick<Experiment, 'metrics' | 'variants'>,
  look: ExperimentEvaluation | null,
): string[] {
  const segments = look?.segments;
  const metric = metrics[0];
  if (segments === undefined || segments.rows.length === 0 || metric === undefined) return [];
  const rows = segments.rows.flatMap((row) =>
    variants.slice(1).map(({ key: variant }) => {
      const control = variants[0]!.key;
      const mean = (key: string): string => {
        const arm = row.means[metric.key]?.[key];
        return arm === undefined || arm.n === 0 ? '-' : meanText(arm.mean, metric.kind);
      };
      const lift = row.lifts[variant] ?? null;
      return [
        segmentWords(segments.by, row),
        variant,
        `${row.units[variant] ?? 0}, ${row.units[control] ?? 0}`,
        ...[mean(control), mean(variant)],
        lift === null ? '-' : liftText(lift.estimate),
        lift === null ? '-' : `${liftText(lift.low)} to ${liftText(lift.high)}`,
      ];
    }),
  );
  const head = ['TREATMENT', 'UNITS', 'CONTROL', 'MEAN', 'LIFT', 'INTERVAL'];
  return [
    `${plainTable([segments.by.toUpperCase(), ...head], rows)}\n${metric.key} by ${segments.by}; decides nothing, and where many are looked at, one differs by chance`,
  ];
}
