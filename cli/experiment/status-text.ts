import type {
  ExperimentEvaluation,
  ExperimentView,
  ExperimentComparison,
} from '../../protocol/admin-api/experiments.ts';
import {
  isLive,
  metricOf,
  SHADOW_METRICS,
  type Experiment,
  segmentWords,
  type ExperimentPairs,
  type KeptPair,
  PAIR_FAILURE_WORDS,
} from '../../protocol/experiment.ts';
import {
  GUARDRAIL_STATES,
  effectOf,
  OPEN_REASONS,
  TOO_EARLY,
  VERDICT_WORDS,
} from '../../protocol/state-words.ts';
import { facts } from '../adapter-files/module-table.ts';
import { colors, plainTable, when, stripControlChars } from '../output.ts';
import { type Glyphs, drawAxis, drawInterval, scaleOf } from './draw-interval.ts';
import {
  meanText,
  shareText,
  allowedText,
  decisionText,
  isJudgedAlone,
  isShown,
  JUDGED_ALONE,
  minutesText,
  pEquals,
  presentLook,
  proposalText,
  stateText,
  differenceText,
  liftText,
  metricText,
  judgeText,
} from './experiment-words.ts';
import { progressText } from './plan-text.ts';

/** Feedback on an answer is taken for seven days (docs/guides/ab-test.md). */
const FEEDBACK_MS = 7 * 86_400_000;

/** Width and style of a terminal. */
export interface Screen {
  /** Columns. */
  width: number;
  glyphs: Glyphs;
}

/** `graft experiment status <name>`: state, results, and next step. */
export function statusText(view: ExperimentView, { width, glyphs }: Screen): string {
  const look = presentLook(view);
  const blocks = [
    summary(view, look),
    ...healthLines(look),
    armTable(view, look),
    ...(isJudgedAlone(view.document) ? [] : guardrailTable(view, look)),
    ...(look === null || look.comparisons.length === 0 || isJudgedAlone(view.document)
      ? []
      : [comparisonText({ comparisons: look.comparisons, alpha: look.alpha, width, glyphs })]),
    ...segmentsText(view.document, look),
    ...spreadText(look),
    ...pairsText(view.document, look),
    ...shadowTable(view, look),
  ];
  return blocks.join('\n\n');
}

function summary(view: ExperimentView, look: ExperimentEvaluation | null): string {
  const { id, document, started_at: startedAt } = view;
  return facts([
    ['experiment', `${id} on ${document.name}, document ${document.version}`],
    ['state', stateText(document) + (startedAt === null ? '' : `, started ${when(startedAt)}`)],
    ['coverage', coverageText(view)],
    ['sample ratio', look === null ? null : sampleRatioText(look)],
    ['proposed', proposalText(view)],
    ['decision', look === null || !isShown(view, look) ? null : colors.bold(decisionText(look.decision))],
    ['can find', look?.progress == null || !isLive(document) ? null : progressText(look.progress)],
    ['looked at', lookedText(view, look)],
  ]);
}

function lookedText({ document, ended_at: endedAt }: ExperimentView, look: ExperimentEvaluation | null) {
  if (look === null)
    return isLive(document)
      ? 'not yet; the server evaluates every minute (`npm start`: every ten seconds)'
      : null;
  if (look.last === true) return `${when(look.at)}, for the last time`;
  const last =
    endedAt !== null && document.status === 'decided'
      ? `; for the last time after ${when(endedAt + FEEDBACK_MS)}, when feedback closes`
      : '';
  return when(look.at) + last;
}

function coverageText({ document, coverage_at: since }: ExperimentView): string {
  const { coverage, ramp, status, killed } = document;
  if (killed) return 'nobody: it is killed, and everybody gets the live version';
  if (isJudgedAlone(document)) return JUDGED_ALONE;
  const at = ramp?.steps.indexOf(coverage) ?? -1;
  const parts = [
    shareText(coverage),
    ...(since === null ? [] : [`since ${when(since)}`]),
    ...(ramp === undefined
      ? []
      : status === 'ramping' || status === 'draft'
        ? [
            `${at < 0 ? 'ramp' : `step ${at + 1} of ${ramp.steps.length}`} (${ramp.steps.map(shareText).join(', ')})`,
            `${minutesText(ramp.hold_minutes)} and ${ramp.min_units} units each`,
          ]
        : []),
  ];
  return parts.join('; ');
}

function sampleRatioText({ sample_ratio: { state, p_value: p }, units }: ExperimentEvaluation): string {
  switch (state) {
    case 'ok':
      return `as expected (p ${pEquals(p)})`;
    case 'too_few_units':
      return 'too few units to tell';
    case 'alarm':
      return (
        `${colors.red('ALARM')} (p ${pEquals(p)}): ${Object.values(units).join(' and ')} units do not ` +
        'match the weights. Some are lost or counted for the wrong variant, so results would mislead and ' +
        'are hidden.'
      );
  }
}

/** Health problems, which nothing else shows. */
const healthLines = (look: ExperimentEvaluation | null): string[] =>
  look === null || look.health.length === 0
    ? []
    : [look.health.map(({ message }) => `${colors.yellow('health')}  ${message}`).join('\n')];

function armTable({ document }: ExperimentView, look: ExperimentEvaluation | null): string {
  const { dropped = [] } = document;
  const out = dropped.length > 0;
  const rated = document.variants.some(({ key }) => look?.arms[key]?.rated != null);
  const cold = document.variants.some(({ key }) => (look?.arms[key]?.cold_starts ?? 0) > 0);
  return plainTable(
    [
      ...['VARIANT', 'ADAPTER', 'WEIGHT', 'UNITS'],
      ...(rated ? ['RATED'] : []),
      ...(cold ? ['COLD STARTS'] : []),
      ...(out ? ['STATE'] : []),
    ],
    document.variants.map(({ key, adapter, weight }) => {
      const units = look?.units[key] ?? 0;
      const raters = look?.arms[key]?.rated ?? 0;
      const share = `${raters}${units === 0 ? '' : ` (${meanText(raters / units, 'proportion')})`}`;
      return [
        key,
        adapter,
        shareText(weight),
        look === null ? '-' : String(units),
        ...(rated ? [share] : []),
        ...(cold ? [`${look?.arms[key]?.cold_starts ?? 0} of ${look?.arms[key]?.answers ?? 0}`] : []),
        ...(out ? [dropped.includes(key) ? colors.red('dropped') : ''] : []),
      ];
    }),
  );
}

const RAIL_STATES = {
  ...GUARDRAIL_STATES,
  kept: colors.green(GUARDRAIL_STATES.kept),
  lost: colors.red(GUARDRAIL_STATES.lost.toUpperCase()),
};

function guardrailTable({ document }: ExperimentView, look: ExperimentEvaluation | null): string[] {
  const treatments = document.variants.slice(1).map(({ key }) => key);
  const rows = document.guardrails.flatMap((rail) =>
    treatments.map((variant) => {
      const result = look?.guardrails.find((one) => one.metric === rail.metric && one.variant === variant);
      const kind = metricOf(document, rail.metric)?.kind ?? 'mean';
      const known = result !== undefined && result.state !== 'too_few_units';
      return [
        rail.metric,
        variant,
        result === undefined ? '-' : RAIL_STATES[result.state],
        known ? meanText(result.control, kind) : '-',
        known ? meanText(result.treatment, kind) : '-',
        allowedText(rail),
        rail.action,
      ];
    }),
  );
  if (rows.length === 0) return [];
  return [plainTable(['GUARDRAIL', 'VARIANT', 'STATE', 'CONTROL', 'MEAN', 'ALLOWED', 'ON FAILURE'], rows)];
}

/** Only metrics that the edge records itself, whatever their names in the document. */
const shadowKind = (metric: string) => SHADOW_METRICS.find(({ key }) => key === metric)?.kind ?? 'mean';

function shadowTable({ document }: ExperimentView, look: ExperimentEvaluation | null): string[] {
  const entries = Object.entries(look?.shadow ?? {});
  if (document.shadow === undefined || entries.length === 0) return [];
  const isSpread = entries.some(([, { p50 }]) => p50 !== undefined);
  const percentile = (value: number | undefined): string =>
    value === undefined ? '-' : meanText(value, 'mean');
  const table = plainTable(
    ['SHADOW', 'REQUESTS', 'MEAN', ...(isSpread ? ['P50', 'P95'] : [])],
    entries.map(([metric, { n, mean, p50, p95 }]) => [
      ...[metric, String(n), meanText(mean, shadowKind(metric))],
      ...(isSpread ? [percentile(p50), percentile(p95)] : []),
    ]),
  );
  return [`${table}\n${document.shadow.adapter}; nobody gets its answers`];
}

/** Interval between two requests, ms. The server looks at an experiment every minute, a person more often. */
const REFRESH_MS = 5_000;
/** Home, and clear what is below; earlier output stays in the scrollback. */
const CLEAR = '\u001b[H\u001b[2J';

/**
 * Shows `look()` repeatedly, until `signal` fires; a pending look is not awaited then.
 * @param screen.isTTY redraws in place; otherwise the texts follow each other.
 * @param sleep resolves early when `signal` fires. @throws what `look` throws.
 */
export async function watchStatus(params: {
  look: () => Promise<string>;
  screen: { write(text: string): unknown; isTTY?: boolean };
  signal: AbortSignal;
  sleep: (ms: number) => Promise<void>;
}): Promise<void> {
  const { look, screen, signal, sleep } = params;
  const stopped = new Promise<null>((resolve) =>
    signal.addEventListener('abort', () => resolve(null), { once: true }),
  );
  while (!signal.aborted) {
    const text = await Promise.race([look(), stopped]);
    if (text === null) return;
    screen.write(screen.isTTY === true ? `${CLEAR}${text}\n` : `${text}\n\n`);
    await sleep(REFRESH_MS);
  }
}

/** Columns of a drawn interval: fewer show nothing, more are no easier to read. */
const DRAWN = { least: 16, most: 61 };

const LIFT_VERDICTS = { better: colors.green, not_worse: colors.green, worse: colors.red, open: colors.dim };

/**
 * A table for each metric, and below them all intervals of lifts on one scale.
 * @param comparisons in the order of the metrics. @param alpha level of one comparison. @param width of the terminal.
 */
function comparisonText(params: {
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
  // The same columns in every table, for comparison.
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
        cells.push(LIFT_VERDICTS[one.verdict](cells.pop()!.trimEnd()));
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

/** The shares are nearly the same for each treatment. */
function adjustedText(comparisons: readonly ExperimentComparison[]): string[] {
  const adjusted = comparisons.filter((one) => one.adjusted);
  if (adjusted.length === 0) return [];
  const share = Math.min(...adjusted.map((one) => one.adjusted_share ?? 1));
  const known = share < 1 ? `, known of ${shareText(Number(share.toFixed(3)))} of units` : '';
  return [`adjusted by earlier values (CUPED${known})`];
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

/** The deciding metric by the declared dimension; empty without one. */
function segmentsText(
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
    `${plainTable([segments.by.toUpperCase(), ...head], rows)}\n${metric.key} by ${segments.by}; ` +
      'decides nothing. Among many segments, some differ by chance',
  ];
}

const mean = (value: number): string => meanText(value, 'mean');

/** The spread of times, besides their means; empty if unknown. */
function spreadText(look: ExperimentEvaluation | null): string[] {
  const rows = Object.entries(look?.spread ?? {}).flatMap(([metric, arms]) =>
    Object.entries(arms).map(([variant, { values, p50, p95, ...of }]) => [
      ...[metric, variant, String(values)],
      ...[mean(of.mean), mean(p50), mean(p95)],
    ]),
  );
  if (rows.length === 0) return [];
  return [
    `${plainTable(['SPREAD', 'VARIANT', 'VALUES', 'MEAN', 'P50', 'P95'], rows)}\nthe mean is over ` +
      'units; p50 and p95 are over single answers, within 2 %',
  ];
}

const PAIR_VERDICTS = { better: colors.green, worse: colors.red, open: colors.dim };

const rate = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Results of the judged pairs; empty without a judge. */
function pairsText(
  { judge, variants }: Pick<Experiment, 'judge' | 'variants'>,
  look: ExperimentEvaluation | null,
): string[] {
  if (judge === undefined) return [];
  const pairs = look?.pairs;
  const by = `judged by ${judgeText(judge)}`;
  if (pairs === undefined || pairs.wins + pairs.ties + pairs.losses + failed(pairs) === 0)
    return [
      `${by}\nno pairs yet: they are made from answers of ${variants[0]?.adapter ?? 'control'} to keys ` +
        'of the tenant that owns the name',
    ];
  const { variant, wins, ties, losses, win_rate: won, verdict } = pairs;
  const table = plainTable(
    ['JUDGED', 'WINS', 'TIES', 'LOSSES', 'WIN RATE', '95 % INTERVAL', 'VERDICT'],
    [
      [
        variant,
        ...[wins, ties, losses].map(String),
        won === null ? '-' : rate(won.estimate),
        won === null ? '-' : `${rate(won.low)} to ${rate(won.high)}`,
        PAIR_VERDICTS[verdict](verdict),
      ],
    ],
  );
  return [[table, `${by}; a tie is half a win`, ...notes(pairs, judge.tokens_per_day)].join('\n')];
}

const failed = ({ failures }: ExperimentPairs): number =>
  Object.values(failures).reduce((sum: number, count) => sum + (count ?? 0), 0);

function notes(pairs: ExperimentPairs, budget: number): string[] {
  const { same, first_chosen: first, agreement, failures, tokens_today: tokens } = pairs;
  return [
    ...(same === 0 ? [] : [`${same} of the ties: identical answers, not sent to the judge`]),
    ...(first === null ? [] : [`the answer shown first was chosen in ${rate(first)}`]),
    ...(agreement === null ? [] : [`the judge agreed with itself in both orders in ${rate(agreement)}`]),
    ...Object.entries(failures).map(
      ([reason, count]) => `${count} not judged: ${PAIR_FAILURE_WORDS[reason as keyof typeof failures]}`,
    ),
    `${tokens} of ${budget} tokens used today (${shareText(Math.min(1, Number((tokens / budget).toFixed(3))))})`,
  ];
}

const RESULTS = { win: 'the treatment won', tie: 'a tie', loss: 'control won' };

/** Pairs with their texts, the newest first. */
export function keptPairsText(pairs: readonly KeptPair[]): string {
  if (pairs.length === 0)
    return 'No pairs are kept. Keep them with --keep-pairs of `graft experiment create`.';
  return pairs
    .map(({ at, prompt, control, treatment, result, cut }) =>
      [
        colors.bold(`${when(at)}  ${RESULTS[result]}${cut ? ' (texts are cut)' : ''}`),
        ...prompt.map(
          ({ role, content }) => `${colors.dim(`${stripControlChars(role)}:`)} ${stripControlChars(content)}`,
        ),
        `${colors.dim('control:')} ${stripControlChars(control)}`,
        `${colors.dim('treatment:')} ${stripControlChars(treatment)}`,
      ].join('\n'),
    )
    .join('\n\n');
}
