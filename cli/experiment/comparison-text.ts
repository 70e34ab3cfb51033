import {
  effectOf,
  type Experiment,
  type ExperimentComparison,
  type ExperimentEvaluation,
  OPEN_REASONS,
  segmentWords,
  TOO_EARLY,
  VERDICT_WORDS,
} from '../../protocol/index.ts';
import { colors, plainTable } from '../output.ts';
import { drawAxis, drawInterval, type Glyphs, scaleOf } from './draw-interval.ts';
import { differenceText, liftText, meanText, shareText } from './experiment-numbers.ts';
import { metricText } from './experiment-words.ts';

/** Columns of a drawn interval: fewer show nothing, more are no easier to read. */
const DRAWN = { least: 16, most: 61 };

const VERDICTS = { better: colors.green, not_worse: colors.green, worse: colors.red, open: colors.dim };

/**
 * A table for each metric, and below them all intervals of lifts on one scale.
 * @param comparisons in the order of the metrics. @param alpha level of one comparison. @param width of the terminal.
 */
export function comparisonText(params: {
  comparisons: readonly ExperimentComparison[];
  alpha: number;
  width: number;
  glyphs: Glyphs;
}): string {
  const { comparisons, alpha } = params;
  const metrics = [...new Set(comparisons.map(({ metric }) => metric))];
  const head = [
    'TREATMENT',
    'VALUES',
    'CONTROL',
    'MEAN',
    'LIFT',
    `${shareText(1 - alpha)} INTERVAL`,
    'VERDICT',
  ];
  const rows = comparisons.map(comparisonRow);
  const widths = head.map((title, at) => Math.max(title.length, ...rows.map((row) => row[at]!.length)));
  // The same columns in every table, so that the eye finds them again.
  const aligned = (row: readonly string[]): string[] => row.map((cell, at) => cell.padEnd(widths[at]!));
  const tables = metrics.map((metric, place) => {
    const own = comparisons.flatMap((one, at) => (one.metric === metric ? [{ one, row: rows[at]! }] : []));
    const first = own[0]!.one;
    const notes = [
      metricText({ kind: first.kind, better: first.better }),
      ...(place === 0 ? ['decides'] : []),
      ...capText(first.cap),
      ...adjustedText(own.map(({ one }) => one)),
    ];
    const title = `${colors.bold(metric)}  ${notes.join('; ')}`;
    const table = plainTable(
      aligned(head),
      own.map(({ one, row }) => {
        const cells = aligned(row);
        cells.push(VERDICTS[one.verdict](cells.pop()!.trimEnd()));
        return cells;
      }),
    );
    return `${title}\n${table}`;
  });
  return [...tables, ...intervalChart(params)].join('\n\n');
}

/** @param cap see `ExperimentComparison`. */
function capText(cap: number | null | undefined): string[] {
  if (cap === undefined) return [];
  return [
    cap === null
      ? 'to be capped at control’s p99, which is not known yet'
      : `capped at ${meanText(cap, 'mean')}, control’s p99`,
  ];
}

/** By treatment the shares are nearly the same. */
function adjustedText(comparisons: readonly ExperimentComparison[]): string[] {
  const adjusted = comparisons.filter((one) => one.adjusted);
  if (adjusted.length === 0) return [];
  const share = Math.min(...adjusted.map((one) => one.adjusted_share ?? 1));
  const known = share < 1 ? `, known of ${shareText(Number(share.toFixed(3)))} of units` : '';
  return [`adjusted by values from before (CUPED${known})`];
}

function comparisonRow(comparison: ExperimentComparison): string[] {
  const { variant, control, treatment, kind } = comparison;
  const shown = effectOf(comparison);
  const text = shown?.scale === 'lift' ? liftText : (value: number) => differenceText(value, kind);
  const interval = shown?.interval;
  return [
    variant,
    `${treatment.n}, ${control.n}`,
    control.n === 0 ? '-' : meanText(control.mean, kind),
    treatment.n === 0 ? '-' : meanText(treatment.mean, kind),
    shown === null ? '-' : text(shown.estimate),
    shown === null ? '-' : interval == null ? TOO_EARLY : `${text(interval.low)} to ${text(interval.high)}`,
    VERDICT_WORDS[comparison.verdict] +
      (comparison.reason === null ? '' : `: ${OPEN_REASONS[comparison.reason]}`),
  ];
}

function intervalChart({ comparisons, width, glyphs }: Parameters<typeof comparisonText>[0]): string[] {
  const drawn = comparisons.flatMap(({ metric, variant, lift }) =>
    lift === null ? [] : [{ label: `${metric} ${variant}`, lift }],
  );
  if (drawn.length === 0) return [];
  const title = 'lift over control';
  const labels = Math.max(title.length, ...drawn.map(({ label }) => label.length));
  const columns = Math.max(DRAWN.least, Math.min(DRAWN.most, width - labels - 2));
  const scale = scaleOf(drawn.map(({ lift }) => lift));
  const lines = [
    colors.dim(`${title.padEnd(labels)}  ${drawAxis(scale, columns)}`.trimEnd()),
    ...drawn.map(({ label, lift }) =>
      `${label.padEnd(labels)}  ${drawInterval(lift, scale, columns, glyphs)}`.trimEnd(),
    ),
  ];
  return [lines.join('\n')];
}

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
