import {
  type ExperimentEvaluation,
  type ExperimentView,
  GUARDRAIL_STATES,
  isLive,
  metricOf,
  SHADOW_METRICS,
} from '../../protocol/index.ts';
import { facts } from '../adapter-files/module-table.ts';
import { when } from '../keys/key-table.ts';
import { colors, plainTable } from '../output.ts';
import { comparisonText, segmentsText, spreadText } from './comparison-text.ts';
import type { Glyphs } from './draw-interval.ts';
import { meanText, shareText } from './experiment-numbers.ts';
import {
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
} from './experiment-words.ts';
import { progressText } from './plan-text.ts';
import { pairsText } from './pairs-text.ts';

/** Feedback on an answer is taken for seven days (docs/experiments.md). */
const FEEDBACK_MS = 7 * 86_400_000;

/** How much a terminal shows, and with what. */
export interface Screen {
  /** Columns. */
  width: number;
  glyphs: Glyphs;
}

/** `graft experiment status <name>`: what runs, how it goes, and what follows. */
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
    ['state', stateText(document) + (startedAt === null ? '' : `, begun ${when(startedAt)}`)],
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
      ? 'not yet; the server looks every minute (`npm start`: every ten seconds)'
      : null;
  if (look.last === true) return `${when(look.at)}, for the last time`;
  const last =
    endedAt !== null && document.status === 'decided'
      ? `; for the last time after ${when(endedAt + FEEDBACK_MS)}, when feedback is over`
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
      return `as it should be (p ${pEquals(p)})`;
    case 'too_few_units':
      return 'too few units to tell';
    case 'alarm':
      return `${colors.red('ALARM')} (p ${pEquals(p)}): ${Object.values(units).join(' and ')} units are not what the weights give. Some are lost or counted for the wrong variant, so that results would mislead: they are hidden.`;
  }
}

/** What is lacking; nothing else would say it. */
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
  return [plainTable(['GUARDRAIL', 'VARIANT', 'STATE', 'CONTROL', 'MEAN', 'ALLOWED', 'WHEN LOST'], rows)];
}

/** Only metrics that the edge records itself, whatever the document calls so. */
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

/** Between two looks at the server, ms. It looks at an experiment every minute, a person more often. */
const REFRESH_MS = 5_000;
/** Home, and clear what is below; what stood before stays in the scrollback. */
const CLEAR = '\u001b[H\u001b[2J';

/**
 * Shows `look()` again and again, until `signal` fires; a look that is on its way is not waited for then.
 * @param screen.isTTY redraws in place; elsewhere the texts follow each other.
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
