import type {
  CreateExperiment,
  ExperimentPlan,
  ExperimentProgress,
} from '../../protocol/admin-api/experiments.ts';
import { DEFAULT_GUARDRAILS } from '../../protocol/experiment.ts';
import { DEFAULT_JUDGE_TOKENS } from '../../protocol/limits.ts';
import { planWords, progressWords } from '../../protocol/state-words.ts';
import { facts } from '../adapter-files/module-table.ts';
import {
  shareText,
  allowedText,
  isJudgedAlone,
  JUDGED_ALONE,
  judgeText,
  metricText,
  minutesText,
  variantsText,
} from './experiment-words.ts';

/** Omitted fields are the server's choice. */
const SERVERS = "the server's choice";

/** What an experiment will do once it is started, one line per fact. */
export function planText(design: CreateExperiment): string {
  const {
    metrics,
    guardrails = DEFAULT_GUARDRAILS,
    shadow,
    judge,
    targeting,
    overrides = [],
    holdout,
    namespace,
  } = design;
  const [first, ...others] = metrics ?? [];
  // Nobody is in it, so no metric decides and none is guarded.
  const alone = isJudgedAlone(design);
  return facts([
    ['name', design.name],
    ['variants', variantsText(design)],
    ['who', coverageText(design)],
    ['only', targetingText(targeting)],
    ['not', holdout === undefined ? null : `${shareText(holdout.share)} in the holdout ${holdout.name}`],
    [
      'namespace',
      namespace === undefined
        ? null
        : `${namespace.name}, ${shareText(namespace.range[0])} to ${shareText(namespace.range[1])}`,
    ],
    [
      'testers',
      overrides.length === 0 ? null : overrides.map((one) => `${one.unit} ${one.variant}`).join(', '),
    ],
    [
      'decided by',
      alone
        ? 'the judge: the share of pairs that the other answer wins'
        : first === undefined
          ? SERVERS
          : `${first.key} (${metricText(first)}${first.at_least === undefined ? '' : `, ${shareText(first.at_least)} is good enough`})`,
    ],
    [
      'shown',
      others.length === 0 ? null : others.map((metric) => `${metric.key} (${metricText(metric)})`).join(', '),
    ],
    ['results by', design.segment_by === undefined ? null : `${design.segment_by}; decides nothing`],
    ['guardrail', guardrails.length === 0 && !alone ? 'none' : null],
    ...(alone ? [] : guardrails).map((rail): [string, string] => [
      'guardrail',
      `${rail.metric} at most ${allowedText(rail)} against control, otherwise ` +
        `${rail.action === 'rollback' ? 'rolled back' : 'held'}`,
    ]),
    [
      'shadow',
      shadow === undefined
        ? null
        : `${shadow.adapter} also runs for ${shareText(shadow.sample)} of the requests; nobody gets its ` +
          `answers${shadow.compare === true ? ', which are compared' : ''}`,
    ],
    ['judge', judge === undefined ? null : planOfJudge(judge)],
    ['not before', design.min_days === undefined ? null : `${design.min_days} d after its start`],
    ['told', design.webhook ?? null],
    ['seed', design.seed ?? null],
  ]);
}

function planOfJudge(judge: NonNullable<CreateExperiment['judge']>): string {
  const { tokens_per_day: tokens = DEFAULT_JUDGE_TOKENS, keep_pairs: kept = 0 } = judge;
  return (
    `${judgeText(judge)}; at most ${tokens} tokens a day; ` +
    `${kept === 0 ? 'no texts are kept' : `the last ${kept} pairs are kept for 30 days`}`
  );
}

function coverageText(design: CreateExperiment): string {
  const { ramp, coverage, unit } = design;
  if (isJudgedAlone(design)) return JUDGED_ALONE;
  const units = unit === 'key' ? 'the API keys' : 'the users';
  if (ramp !== undefined) {
    const steps = ramp.steps.map(shareText).join(', ');
    return (
      `${steps} of ${units}: each step for ${minutesText(ramp.hold_minutes)}, and at least ` +
      `${ramp.min_units} units`
    );
  }
  return coverage === undefined
    ? `${units}; the share is ${SERVERS}`
    : `${shareText(coverage)} of ${units}; the others get the live version`;
}

function targetingText(targeting: CreateExperiment['targeting']): string | null {
  if (targeting === undefined) return null;
  const { tenants, name_prefix: prefix, headers = [] } = targeting;
  const parts = [
    ...(tenants === undefined ? [] : [`tenants ${tenants.join(', ')}`]),
    ...(prefix === undefined ? [] : [`requests for ${prefix} or a name below it`]),
    ...headers.map(({ name, values }) => `header ${name} ${values.join(', ')}`),
  ];
  return parts.join('; ');
}

const WRITTEN = { count: String, share: shareText };

/** `graft experiment create`: what can be found, and the assumptions behind it. */
export function outlookText(plan: ExperimentPlan): string {
  const words = planWords(plan, WRITTEN, 'use --expect-units');
  return facts([
    ['traffic', words.traffic],
    ['values', words.values],
    ['mean', words.mean],
    ['pairs', words.pairs],
    ['tokens', words.tokens],
    ['finds', words.finds],
  ]);
}

/** `graft experiment status`. */
export const progressText = (progress: ExperimentProgress): string => progressWords(progress, WRITTEN);
