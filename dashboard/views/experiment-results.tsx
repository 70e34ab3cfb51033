import type {
  ExperimentComparison,
  ExperimentEvaluation,
  ExperimentProgress,
} from '../../protocol/admin-api/experiments.ts';
import { segmentWords, type Experiment, guardrailLimits, metricOf } from '../../protocol/experiment.ts';
import {
  effectOf,
  OPEN_REASONS,
  TOO_EARLY,
  VERDICT_WORDS,
  GUARDRAIL_STATES,
  planWords,
  progressWords,
} from '../../protocol/state-words.ts';
import { barRange, effectText } from '../model/interval-series.ts';
import { number, percent, signed } from '../model/words.ts';
import { Table } from '../parts/table.tsx';
import {
  judgedByPlace,
  judgeWords,
  pairNotes,
  shadowFigures,
  isJudgedAlone,
  WRITTEN,
} from '../model/experiment-words.ts';
import type { Client } from '../api/client.ts';
import { planRequest, type ExperimentFields } from '../model/experiment-form.ts';
import { useLoad } from '../parts/hooks.ts';

export function Comparisons({ comparisons }: { comparisons: readonly ExperimentComparison[] }) {
  const notes = [...new Set(comparisons.flatMap(notesOf))];
  const ranges = new Map(
    comparisons.map(({ metric }) => [metric, barRange(comparisons.filter((one) => one.metric === metric))]),
  );
  return (
    <>
      <Table
        label="Metrics"
        asCards
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
              <td class="nowrap whole">
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

/** Adjustments of a metric's values. */
function notesOf({ metric, variant, cap, adjusted, adjusted_share: share }: ExperimentComparison): string[] {
  const known = share != null && share < 1 ? `, known for ${percent(share)} of units` : '';
  return [
    ...(cap === undefined
      ? []
      : cap === null
        ? [`${metric}: to be capped at control’s p99, which is not known yet.`]
        : [`${metric}: capped at ${number(cap)}, control’s p99.`]),
    ...(adjusted ? [`${metric} of ${variant}: adjusted by earlier values${known}.`] : []),
  ];
}

/**
 * An interval as a bar on a line, with its estimate and 0, which a significant one excludes; the figures are
 * beside it.
 */
function IntervalBar(props: {
  low: number;
  estimate: number;
  high: number;
  /** Both ends of the line. */
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

/** The deciding metric by the declared dimension; empty without one. */
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
      <p class="hint">It decides nothing. Among many segments, some differ by chance.</p>
      <Table
        label="Segments"
        asCards
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

/** The spread of times, and of listed metrics that are not rates; empty if unknown. */
export function Spread({ evaluation: { spread = {} } }: { evaluation: ExperimentEvaluation }) {
  const rows = Object.entries(spread).flatMap(([metric, arms]) =>
    Object.entries(arms).map(([variant, arm]) => ({ metric, variant, arm })),
  );
  if (rows.length === 0) return null;
  return (
    <section aria-label="Spread">
      <h2>Spread</h2>
      <p class="hint">The mean is over units; p50 and p95 are over single answers, within 2 %.</p>
      <Table
        label="Spread"
        asCards
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

/** Which of two answers to the same prompt a judge prefers; no user sees the other one. */
export function JudgedPairs(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { judge, variants } = props.document;
  const { pairs } = props.evaluation;
  if (judge === undefined) return null;
  const warning = pairs === undefined ? null : judgedByPlace(pairs);
  return (
    <section aria-label="Judged pairs">
      <h2>Judged pairs</h2>
      <p class="hint">
        Judged by {judgeWords(judge)}. A tie is half a win; the interval is valid at every look.
      </p>
      {pairs === undefined || pairs.wins + pairs.ties + pairs.losses === 0 ? (
        <p class="hint">
          No pairs yet. They are made from answers of {variants[0]?.adapter} to keys of the tenant that owns
          the name.
        </p>
      ) : (
        <Table
          label="Judged pairs"
          asCards
          columns={[
            'Variant',
            { right: 'Wins' },
            { right: 'Ties' },
            { right: 'Losses' },
            { right: 'Win rate' },
            'Interval',
            'Verdict',
          ]}
        >
          <tr>
            <th scope="row">{pairs.variant}</th>
            <td class="right">{number(pairs.wins)}</td>
            <td class="right">{number(pairs.ties)}</td>
            <td class="right">{number(pairs.losses)}</td>
            <td class="right">{pairs.win_rate === null ? '–' : percent(pairs.win_rate.estimate)}</td>
            <td class="nowrap">
              {pairs.win_rate === null
                ? '–'
                : `${percent(pairs.win_rate.low)} to ${percent(pairs.win_rate.high)}`}
            </td>
            <td>
              <span class={`state ${pairs.verdict}`}>{pairs.verdict}</span>
            </td>
          </tr>
        </Table>
      )}
      {warning !== null && (
        <div class="note warm">
          <p>
            <strong>Do not trust this judge.</strong> {warning}
          </p>
        </div>
      )}
      {pairs !== undefined && <p class="hint">{pairNotes(pairs, judge).join(' ')}</p>}
    </section>
  );
}

/** Metrics of the shadow. It is not a variant, so they are shown even while results are hidden. */
export function Shadow(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { shadow } = props.document;
  const figures = shadowFigures(props.evaluation);
  if (shadow === undefined || figures.length === 0) return null;
  return (
    <section aria-label="Shadow">
      <h2>Shadow</h2>
      <p class="hint">
        {shadow.adapter} also runs for {percent(shadow.sample)} of the requests; nobody gets its answers.
      </p>
      <Table
        label="Shadow"
        asCards
        columns={['Metric', { right: 'Requests' }, { right: 'Mean' }, { right: 'p50' }, { right: 'p95' }]}
      >
        {figures.map(({ metric, requests, mean, p50, p95 }) => (
          <tr key={metric}>
            <th scope="row">{metric}</th>
            <td class="right">{requests}</td>
            <td class="right">{mean}</td>
            <td class="right">{p50}</td>
            <td class="right">{p95}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

/** Health problems with their remedies; no winner is proposed meanwhile. */
export function Health({ evaluation: { health } }: { evaluation: ExperimentEvaluation }) {
  if (health.length === 0) return null;
  return (
    <section class="note alarm" aria-label="Health">
      <p>
        <strong>Health problems.</strong> Until they are solved, no winner is proposed.
      </p>
      <ul>
        {health.map(({ message }) => (
          <li key={message}>{message}</li>
        ))}
      </ul>
    </section>
  );
}

export function Guardrails(props: { evaluation: ExperimentEvaluation; document: Experiment }) {
  const { guardrails, units } = props.evaluation;
  const [control] = props.document.variants;
  if (guardrails.length === 0) return null;
  const allowed = (metric: string): string => {
    const rail = props.document.guardrails.find((one) => one.metric === metric);
    if (rail === undefined) return '–';
    const write = metricOf(props.document, metric)?.kind === 'proportion' ? percent : number;
    return guardrailLimits(rail)
      .map(({ limit, direction, allowed }) => {
        const size = limit === 'relative' ? `${percent(allowed)} of it` : write(allowed);
        return `${direction === 'increase' ? '+' : '−'}${size}`;
      })
      .join(', ');
  };
  return (
    <section aria-label="Guardrails">
      <h2>Guardrails</h2>
      <Table
        label="Guardrails"
        asCards
        columns={[
          'Metric',
          'Variant',
          { right: 'Control' },
          { right: 'Variant’s' },
          { right: 'At most' },
          'On failure',
          'State',
        ]}
      >
        {guardrails.map((rail) => {
          const write = metricOf(props.document, rail.metric)?.kind === 'proportion' ? percent : number;
          // Without values there is no mean, rather than 0.
          const mean = (variant: string | undefined, value: number): string =>
            variant !== undefined && (units[variant] ?? 0) === 0 ? '–' : write(value);
          return (
            <tr key={`${rail.metric} ${rail.variant}`}>
              <th scope="row">{rail.metric}</th>
              <td>{rail.variant}</td>
              <td class="right">{mean(control?.key, rail.control)}</td>
              <td class="right">{mean(rail.variant, rail.treatment)}</td>
              <td class="right">{allowed(rail.metric)}</td>
              <td>{rail.action === 'rollback' ? 'roll back' : 'hold'}</td>
              <td>
                <span class={`state ${rail.state}`}>{GUARDRAIL_STATES[rail.state]}</span>
                {rail.state === 'kept' && rail.inside && <span class="hint"> for certain</span>}
                {rail.lost !== null && (
                  <span class="hint">
                    {' '}
                    by more than{' '}
                    {rail.lost.limit === 'relative'
                      ? percent(rail.lost.allowed)
                      : write(rail.lost.allowed)}{' '}
                    {rail.lost.direction === 'increase' ? 'above' : 'below'} control
                  </span>
                )}
              </td>
            </tr>
          );
        })}
      </Table>
    </section>
  );
}

/** Units per variant, how many of them rated, and how many answers waited for their adapter. */
export function Units(props: { document: Experiment; evaluation: ExperimentEvaluation | null }) {
  const { document, evaluation } = props;
  const { dropped = [] } = document;
  // Without assignment there are no units, and no shares of them.
  const isDealt = !isJudgedAlone(document);
  const isRated = isDealt && document.variants.some(({ key }) => evaluation?.arms[key]?.rated != null);
  const hasCold = document.variants.some(({ key }) => (evaluation?.arms[key]?.cold_starts ?? 0) > 0);
  return (
    <Table
      label="Variants"
      asCards
      columns={[
        'Variant',
        'Adapter',
        ...(isDealt ? [{ right: 'Weight' }, { right: 'Units' }] : []),
        ...(isRated ? [{ right: 'Rated' }] : []),
        ...(hasCold ? [{ right: 'Cold starts' }] : []),
      ]}
    >
      {document.variants.map(({ key, adapter, weight }) => {
        const units = evaluation?.units[key] ?? 0;
        const rated = evaluation?.arms[key]?.rated ?? 0;
        return (
          <tr key={key}>
            <th scope="row">{key}</th>
            <td class="chain">{adapter}</td>
            {isDealt && (
              <>
                <td class="right">
                  {dropped.includes(key) ? <span class="state lost">dropped</span> : percent(weight)}
                </td>
                <td class="right">{evaluation === null ? '–' : number(units)}</td>
              </>
            )}
            {isRated && (
              <td class="right">
                {number(rated)}
                {units > 0 && ` (${percent(rated / units)})`}
              </td>
            )}
            {hasCold && <td class="right">{number(evaluation?.arms[key]?.cold_starts ?? 0)}</td>}
          </tr>
        );
      })}
    </Table>
  );
}

/** Before an experiment is created: what it would find, and when. Empty while the form is incomplete. */
export function Outlook({ client, fields }: { client: Client; fields: ExperimentFields }) {
  const body = planRequest(fields);
  const { data } = useLoad(body === null ? null : `plan ${JSON.stringify(body)}`, () =>
    client.call('POST /admin/experiments/plan', { body: body ?? { name: '', variants: [] } }),
  );
  if (body === null || data === null) return null;
  const words = planWords(data, WRITTEN, 'enter it under More');
  return (
    <section class="note" aria-label="Plan">
      <p>
        <strong>
          {words.finds === null ? 'What it can find is unknown yet.' : `It can find ${words.finds}.`}
        </strong>{' '}
        <span class="hint">
          {[words.traffic, words.pairs, words.tokens, words.values]
            .flatMap((text) => (text === null ? [] : [sentence(text)]))
            .join(' ')}{' '}
          {words.mean === null ? '' : `Mean of the metric: ${words.mean}.`}
        </span>
      </p>
    </section>
  );
}

/** While it runs: what could be found so far, and how long the rest takes. */
export function Progress({ progress }: { progress: ExperimentProgress }) {
  return <p class="facts">{sentence(progressWords(progress, WRITTEN))}</p>;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
