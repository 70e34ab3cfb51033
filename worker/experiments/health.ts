import type { ExperimentHealth } from '../../protocol/admin-api/experiments.ts';
import { isRecorded, metricOf, type Experiment } from '../../protocol/experiment.ts';
import { rangesOf } from './pick-variant.ts';
import type { TallySnapshot } from './ports.ts';
import { sampleRatio } from './statistics/sample-ratio.ts';

/** Answers after which an unreported metric is missed: with one rating in twenty, one of 170 has none by then. */
export const MIN_ANSWERS = 100;
/** Share of answers, or of units, without a user, from which the units no longer represent users. */
const NAMELESS_SHARE = 0.1;
/** Share of units without a variant of the document, from which something else must be assigning them. */
const UNKNOWN_SHARE = 0.01;
/** How long refused feedback is reported: by then its sender has been corrected, or has stopped. */
const REFUSED_SPOKEN_OF_MS = 86_400_000;

type Counted = Pick<TallySnapshot, 'units' | 'metrics' | 'counts' | 'refused'>;
interface Look {
  experiment: Experiment;
  counted: Counted;
  /** In all variants of the document. */
  answers: number;
}

/**
 * Unnoticed problems of an experiment, each a line, in the order in which to solve them. While there is one, no
 * winner is proposed.
 * @param now unix ms.
 */
export function healthOf(experiment: Experiment, counted: Counted, now: number): ExperimentHealth[] {
  const answers = sum(experiment.variants.map(({ key }) => counted.counts[key]?.answers ?? 0));
  const look: Look = { experiment, counted, answers };
  return [
    ...nobodyRates(look),
    ...neverCame(look),
    ...refusedMetrics(look, now),
    ...oneUnit(look),
    ...nameless(look),
    ...unequalRaters(look),
    ...unknownVariants(look),
  ];
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
const percent = (share: number): string => `${Number((share * 100).toPrecision(2))} %`;
const some = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** Whether the edge records it itself. */
const isAutomatic = (experiment: Experiment, key: string): boolean =>
  isRecorded(metricOf(experiment, key) ?? { key });
/** Reported by the application, in their order. */
export const reportedMetrics = (experiment: Experiment): string[] =>
  experiment.metrics.map(({ key }) => key).filter((key) => !isAutomatic(experiment, key));

/** Units with a value, by variant. */
const valuesOf = ({ experiment, counted }: Look, metric: string): number[] =>
  experiment.variants.map(({ key }) => counted.metrics[metric]?.[key]?.n ?? 0);
const hasCome = (look: Look, metric: string): boolean => sum(valuesOf(look, metric)) > 0;

function nobodyRates(look: Look): ExperimentHealth[] {
  const reported = reportedMetrics(look.experiment);
  if (look.answers < MIN_ANSWERS || reported.length === 0) return [];
  if (reported.some((metric) => hasCome(look, metric))) return [];
  const what = reported.map((metric) => `'${metric}'`).join(', ');
  const message =
    `${look.answers} answers without feedback: the application must send ${what} to POST /v1/feedback, ` +
    'with the id of the answer.';
  return [{ issue: 'no_feedback', message }];
}

/** For reported metrics only if another one has arrived: otherwise one line covers all. */
function neverCame(look: Look): ExperimentHealth[] {
  const { experiment, answers } = look;
  if (answers < MIN_ANSWERS) return [];
  const reported = reportedMetrics(experiment);
  const anyReported = reported.some((metric) => hasCome(look, metric));
  const wanted = new Set(
    [...experiment.metrics, ...experiment.guardrails.map((rail) => ({ key: rail.metric }))].map(
      ({ key }) => key,
    ),
  );
  return [...wanted]
    .filter((metric) => !hasCome(look, metric) && (anyReported || !reported.includes(metric)))
    .map((metric) => ({
      issue: 'metric_missing',
      metric,
      message:
        `${answers} answers, and no value of ` +
        `'${metric}'${isAutomatic(experiment, metric) ? '. Check that the origins report how answers end' : '. Check the metric key that the application sends'}.`,
    }));
}

function refusedMetrics({ experiment, counted }: Look, now: number): ExperimentHealth[] {
  const has = experiment.metrics.map(({ key }) => key);
  const known = reportedMetrics(experiment);
  return Object.entries(counted.refused)
    .filter(([metric, { at }]) => !known.includes(metric) && now - at < REFUSED_SPOKEN_OF_MS)
    .map(([metric, { n }]) => ({
      issue: 'unknown_metric',
      metric,
      message:
        `${some(n, 'rating')} with '${metric}' refused in the last day: the experiment ` +
        `${isAutomatic(experiment, metric) ? 'records that itself' : `has ${has.map((key) => `'${key}'`).join(', ')}`}.`,
    }));
}

function oneUnit({ experiment, counted, answers }: Look): ExperimentHealth[] {
  if (answers < MIN_ANSWERS || sum(experiment.variants.map(({ key }) => counted.units[key] ?? 0)) !== 1)
    return [];
  const message =
    `${answers} answers, all from one unit. Send each user as 'user' (or 'safety_identifier', or the ` +
    "header 'x-graft-user').";
  return [{ issue: 'one_unit', message }];
}

function nameless({ experiment, counted, answers }: Look): ExperimentHealth[] {
  if (experiment.unit !== 'user' || answers === 0) return [];
  const of = (what: 'nameless' | 'namelessUnits') =>
    sum(experiment.variants.map(({ key }) => counted.counts[key]?.[what] ?? 0));
  const units = sum(experiment.variants.map(({ key }) => counted.units[key] ?? 0));
  const ofAnswers = of('nameless') / answers;
  const ofUnits = units === 0 ? 0 : of('namelessUnits') / units;
  if (Math.max(ofAnswers, ofUnits) < NAMELESS_SHARE) return [];
  const message =
    `${percent(ofAnswers)} of the answers name no user, and ${some(of('namelessUnits'), 'unit')} of ` +
    `${units} (${percent(ofUnits)}) are API keys. Send 'user', or create the experiment with unit 'key'.`;
  return [{ issue: 'no_user', message }];
}

/** Units that rate are distributed like all units, unless the variants themselves affect who rates. */
function unequalRaters(look: Look): ExperimentHealth[] {
  const { experiment, counted } = look;
  const buckets = rangesOf(experiment).map(({ from, to }) => to - from);
  return reportedMetrics(experiment).flatMap((metric): ExperimentHealth[] => {
    const raters = valuesOf(look, metric);
    if (sampleRatio([{ units: raters, dealt: [buckets] }]).state !== 'alarm') return [];
    const shares = experiment.variants.map(({ key }, i) => {
      const units = counted.units[key] ?? 0;
      return `${key} ${percent(units === 0 ? 0 : raters[i]! / units)}`;
    });
    const message =
      `'${metric}' comes from a different share of each variant's units (${shares.join(', ')}), so the ` +
      'comparison is between different people.';
    return [{ issue: 'raters_unequal', metric, message }];
  });
}

function unknownVariants({ experiment, counted }: Look): ExperimentHealth[] {
  const known = new Set(experiment.variants.map(({ key }) => key));
  const all = sum(Object.values(counted.units));
  return Object.entries(counted.units)
    .filter(([variant, n]) => !known.has(variant) && n > all * UNKNOWN_SHARE)
    .map(([variant, n]) => ({
      issue: 'unknown_variant',
      variant,
      message:
        `${some(n, 'unit')} of a variant '${variant}' that the experiment no longer has, from answers ` +
        'before its variants changed.',
    }));
}
