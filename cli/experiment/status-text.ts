import {
  GUARDRAIL_STATES,
  metricOf,
  SHADOW_METRICS,
  type ExperimentEvaluation,
  type ExperimentView,
} from '../../protocol/index.ts';
import { facts } from '../adapter-files/module-table.ts';
import { when } from '../keys/key-table.ts';
import { colors, plainTable } from '../output.ts';
import { comparisonText } from './comparison-text.ts';
import { meanText, shareText } from './experiment-numbers.ts';
import { isShown, presentLook } from './experiment-table.ts';
import { allowedText, decisionText, minutesText, pEquals, stateText } from './experiment-words.ts';
import type { Glyphs } from './glyphs.ts';

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
    ...guardrailTable(view, look),
    ...(look === null || look.comparisons.length === 0
      ? []
      : [comparisonText({ comparisons: look.comparisons, alpha: look.alpha, width, glyphs })]),
    ...shadowTable(view, look),
  ];
  return blocks.join('\n\n');
}

function summary(view: ExperimentView, look: ExperimentEvaluation | null): string {
  const { id, document, started_at: startedAt } = view;
  const live = document.status === 'running' || document.status === 'ramping';
  return facts([
    ['experiment', `${id} on ${document.name}, document ${document.version}`],
    ['state', stateText(document) + (startedAt === null ? '' : `, begun ${when(startedAt)}`)],
    ['coverage', coverageText(view)],
    ['sample ratio', look === null ? null : sampleRatioText(look)],
    ['decision', look === null || !isShown(view, look) ? null : colors.bold(decisionText(look.decision))],
    ['looked at', look === null ? (live ? 'not yet; the schedule looks each minute' : null) : when(look.at)],
  ]);
}

function coverageText({ document, coverage_at: since }: ExperimentView): string {
  const { coverage, ramp, status, killed } = document;
  if (killed) return 'nobody: it is killed, and everybody gets the live version';
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
  const rated = document.variants.some(({ key }) => look?.arms[key]?.rated != null);
  const cold = document.variants.some(({ key }) => (look?.arms[key]?.cold_starts ?? 0) > 0);
  return plainTable(
    ['VARIANT', 'ADAPTER', 'WEIGHT', 'UNITS', ...(rated ? ['RATED'] : []), ...(cold ? ['COLD STARTS'] : [])],
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
  const table = plainTable(
    ['SHADOW', 'REQUESTS', 'MEAN'],
    entries.map(([metric, { n, mean }]) => [metric, String(n), meanText(mean, shadowKind(metric))]),
  );
  return [`${table}\n${document.shadow.adapter}; nobody gets its answers`];
}
