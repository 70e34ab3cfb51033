import type { ExperimentComparison, ExperimentEvaluation } from '../../protocol/admin-api/experiments.ts';
import { segmentWords, type Experiment } from '../../protocol/experiment.ts';
import { effectOf, OPEN_REASONS, TOO_EARLY, VERDICT_WORDS } from '../../protocol/state-words.ts';
import { barRange, effectText } from '../model/interval-series.ts';
import { number, percent, signed } from '../model/words.ts';
import { Table } from '../parts/table.tsx';

export function Comparisons({ comparisons }: { comparisons: readonly ExperimentComparison[] }) {
  const notes = [...new Set(comparisons.flatMap(notesOf))];
  const ranges = new Map(
    comparisons.map(({ metric }) => [metric, barRange(comparisons.filter((one) => one.metric === metric))]),
  );
  return (
    <>
      <Table
        label="Metrics"
        columns={[
          'Metric',
          'Variant',
          { right: 'Control' },
          { right: 'Variant’s' },
          { right: 'Lift' },
          'Interval',
          'Verdict',
        ]}
      >
        {comparisons.map((one) => {
          const mean = ({ mean: value, n }: { mean: number; n: number }) => (
            <>
              {n === 0 ? '–' : one.kind === 'proportion' ? percent(value) : number(value)}{' '}
              <span class="hint">n {number(n)}</span>
            </>
          );
          const shown = effectOf(one);
          const interval = shown?.interval ?? null;
          const write = (value: number) => effectText(value, shown?.scale ?? 'difference', one.kind);
          return (
            <tr key={`${one.metric} ${one.variant}`}>
              <th scope="row">{one.metric}</th>
              <td>{one.variant}</td>
              <td class="right">{mean(one.control)}</td>
              <td class="right">{mean(one.treatment)}</td>
              <td class="right">
                {shown === null ? '–' : write(shown.estimate)}
                {shown?.scale === 'difference' && ' (difference)'}
              </td>
              <td class="nowrap">
                {interval === null ? (
                  shown === null ? (
                    '–'
                  ) : (
                    TOO_EARLY
                  )
                ) : (
                  <>
                    {write(interval.low)} to {write(interval.high)}
                    <IntervalBar {...interval} range={ranges.get(one.metric) ?? [-1, 1]} tone={toneOf(one)} />
                  </>
                )}
              </td>
              <td>
                <span class={`state ${one.verdict}`}>{VERDICT_WORDS[one.verdict]}</span>
                {one.reason !== null && <span class="hint"> {OPEN_REASONS[one.reason]}</span>}
              </td>
            </tr>
          );
        })}
      </Table>
      {notes.map((note) => (
        <p class="hint" key={note}>
          {note}
        </p>
      ))}
    </>
  );
}

const toneOf = ({ verdict }: ExperimentComparison): 'good' | 'bad' | 'open' =>
  verdict === 'worse' ? 'bad' : verdict === 'open' ? 'open' : 'good';

/** How a metric's values were taken otherwise than as they came. */
function notesOf({ metric, variant, cap, adjusted, adjusted_share: share }: ExperimentComparison): string[] {
  const known = share != null && share < 1 ? `, known of ${percent(share)} of units` : '';
  return [
    ...(cap === undefined
      ? []
      : cap === null
        ? [`${metric}: to be capped at control’s p99, which is not known yet.`]
        : [`${metric}: capped at ${number(cap)}, control’s p99.`]),
    ...(adjusted ? [`${metric} of ${variant}: adjusted by values from before${known}.`] : []),
  ];
}

/** An interval as a bar on a line, with its estimate and 0, which it has to leave; the figures stand beside it. */
function IntervalBar(props: {
  low: number;
  estimate: number;
  high: number;
  /** What the line shows, both ends. */
  range: readonly [number, number];
  tone: 'good' | 'bad' | 'open';
}) {
  const { low, estimate, high, range, tone } = props;
  const [from, to] = range;
  const at = (value: number): number =>
    (100 * (Math.min(to, Math.max(from, value)) - from)) / (to - from || 1);
  return (
    <svg class={`interval ${tone}`} viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
      <line class="zero" x1={at(0)} x2={at(0)} y1="0" y2="12" />
      <rect x={at(low)} width={Math.max(1, at(high) - at(low))} y="4" height="4" rx="1" />
      <line class="estimate" x1={at(estimate)} x2={at(estimate)} y1="2" y2="10" />
    </svg>
  );
}

/** The metric that decides, by the declared dimension; nothing without one. */
export function Segments(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { segments } = props.evaluation;
  const [control, ...treatments] = props.document.variants.map(({ key }) => key);
  const metric = props.document.metrics[0];
  if (segments === undefined || segments.rows.length === 0 || metric === undefined) return null;
  const write = metric.kind === 'proportion' ? percent : number;
  return (
    <section aria-label="Segments">
      <h2>
        {metric.key} by {segments.by}
      </h2>
      <p class="hint">It decides nothing. Where many are looked at, one differs by chance.</p>
      <Table
        label="Segments"
        columns={[
          'Segment',
          'Variant',
          { right: 'Units' },
          { right: 'Control' },
          { right: 'Variant’s' },
          { right: 'Lift' },
          'Interval',
        ]}
      >
        {segments.rows.flatMap((row) =>
          treatments.map((variant) => {
            const mean = (key: string | undefined) => {
              const arm = row.means[metric.key]?.[key ?? ''];
              return arm === undefined || arm.n === 0 ? '–' : write(arm.mean);
            };
            const lift = row.lifts[variant] ?? null;
            const name = segmentWords(segments.by, row);
            return (
              <tr key={`${String(row.other)} ${String(row.segment)} ${variant}`}>
                <th scope="row">{name}</th>
                <td>{variant}</td>
                <td class="right">
                  {number(row.units[variant] ?? 0)}{' '}
                  <span class="hint">
                    of {number((row.units[variant] ?? 0) + (row.units[control ?? ''] ?? 0))}
                  </span>
                </td>
                <td class="right">{mean(control)}</td>
                <td class="right">{mean(variant)}</td>
                <td class="right">{lift === null ? '–' : signed(percent(lift.estimate))}</td>
                <td class="nowrap">
                  {lift === null ? '–' : `${signed(percent(lift.low))} to ${signed(percent(lift.high))}`}
                </td>
              </tr>
            );
          }),
        )}
      </Table>
    </section>
  );
}

/** How times, and listed metrics that are no rates, are spread; nothing where it is not known. */
export function Spread({ evaluation: { spread = {} } }: { evaluation: ExperimentEvaluation }) {
  const rows = Object.entries(spread).flatMap(([metric, arms]) =>
    Object.entries(arms).map(([variant, arm]) => ({ metric, variant, arm })),
  );
  if (rows.length === 0) return null;
  return (
    <section aria-label="Spread">
      <h2>Spread</h2>
      <p class="hint">The mean is that of the units; p50 and p95 are those of the single answers, to 2 %.</p>
      <Table
        label="Spread"
        columns={[
          'Metric',
          'Variant',
          { right: 'Values' },
          { right: 'Mean' },
          { right: 'p50' },
          { right: 'p95' },
        ]}
      >
        {rows.map(({ metric, variant, arm }) => (
          <tr key={`${metric} ${variant}`}>
            <th scope="row">{metric}</th>
            <td>{variant}</td>
            {[arm.values, arm.mean, arm.p50, arm.p95].map((value, i) => (
              <td key={i} class="right">
                {number(value)}
              </td>
            ))}
          </tr>
        ))}
      </Table>
    </section>
  );
}
