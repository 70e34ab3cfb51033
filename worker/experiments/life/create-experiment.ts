/** Drafts of experiments: created, or only planned. */
import {
  type CreateExperiment,
  type PairsPlan,
  PLANNED_WIN_RATES,
  type ExperimentPlan,
  type PlanExperiment,
} from '../../../protocol/admin-api/experiments.ts';
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import {
  contradictedGuardrail,
  DEFAULT_GUARDRAILS,
  Experiment,
  guardrailContradiction,
  metricOf,
  type ExperimentGuardrail,
  type ExperimentMetric,
  isRecorded,
} from '../../../protocol/experiment.ts';
import { DEFAULT_JUDGE_TOKENS } from '../../../protocol/limits.ts';
import { conflict } from '../../errors.ts';
import type { z } from 'zod';
import { ownName } from '../../registry/own-name.ts';
import type { ExperimentRow, ExperimentTallies } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { emptyArm } from '../legal-change.ts';
import { checkJudge, checkAdapters, type LifeDeps, guardrailRefused } from './life-deps.ts';
import { webhookRefused } from '../../webhooks/send-webhooks.ts';
import type { UsageLedger } from '../../metering/ports.ts';
import { cappedMetrics, withCaps } from '../analyze.ts';
import { alphaOf, findings } from '../decide.ts';
import { armOf } from '../statistics/moments.ts';
import { PAIR_ALPHA, PAIR_TUNING } from '../limits.ts';
import { type Baseline, pairsToFind } from '../statistics/power.ts';

/** The default metric: whether people like the answers. */
const THUMBS: ExperimentMetric = { key: 'thumbs', kind: 'proportion', better: 'up' };
/** Characters of an id after `exp_`: 16 of 36 are 83 bits. */
const ID_CHARACTERS = 16;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** Larger bytes would favour the first letters. */
const EVEN_BYTES = Math.floor(256 / ALPHABET.length) * ALPHABET.length;

/** Creates a draft. Nothing changes for anybody until it is started. */
export async function createExperiment(
  deps: LifeDeps,
  params: { request: z.output<typeof CreateExperiment>; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const { caller } = params;
  const { why, ...asked } = params.request;
  const own = await ownName(deps, { name: asked.name, caller });
  if (!own.ok) return own;
  const { alias, owner } = own.value;
  if (alias !== null)
    return err(
      conflict(`'${asked.name}' is an alias of '${alias}'. Create the experiment for that name.`, 'name'),
    );
  const other = await deps.experimentLedger.ofName(asked.name);
  if (other !== null) return err(taken(asked.name, other));
  const id = newId();
  const metrics = asked.metrics ?? [THUMBS];
  const document = parseDocument({
    unit: 'user',
    coverage: 1,
    ...asked,
    metrics,
    guardrails: asked.guardrails ?? fittingGuardrails(metrics),
    // No other experiment has it: otherwise the users with one name's treatment would also get the other's.
    seed: asked.seed ?? id,
    version: 1,
    status: 'draft',
    winner: null,
  });
  if (!document.ok) return document;
  const empty = emptyArm(document.value);
  if (empty !== null)
    return err({
      code: 'invalid_request',
      message: `Invalid value for '${empty.field}': ${empty.reason}.`,
      param: empty.field,
    });
  const refused = webhookRefused(document.value.webhook, deps.loopbackCallbacks, 'webhook');
  if (refused !== null) return err(refused);
  const checked = await checkAdapters(deps, { document: document.value, caller, owner });
  if (!checked.ok) return checked;
  const callable = checkJudge(document.value, deps.loopbackCallbacks);
  if (!callable.ok) return callable;
  const at = deps.now();
  const row: ExperimentRow = {
    id,
    owner,
    document: document.value,
    seeds: [document.value.seed],
    createdAt: at,
    createdBy: caller.keyId,
    startedAt: null,
    coverageAt: null,
    stepUnits: 0,
    endedAt: null,
    proposal: null,
    evaluation: null,
  };
  const note = { actor: caller.keyId, at, action: 'experiment_create', why: why ?? null } as const;
  const created = await deps.experimentLedger.create({ row, note });
  if (created.ok) return ok(row);
  const winner = await deps.experimentLedger.ofName(asked.name);
  return err(
    winner === null
      ? conflict('An adapter of the experiment has just been retired. Use another.', 'variants')
      : taken(asked.name, winner),
  );
}

const taken = (name: string, { id, document: { status } }: ExperimentRow): ApiError =>
  conflict(
    `'${name}' has experiment '${id}', which is ${status}. End it first: ` +
      `${status === 'running' || status === 'ramping' ? `\`graft experiment stop ${name}\`, then ` : ''}\`graft ` +
      `experiment archive ${name}\`.`,
    'name',
  );

/**
 * All except those that the experiment's own metrics contradict: a metric that should increase needs no upper
 * limit.
 */
const fittingGuardrails = (metrics: readonly ExperimentMetric[]): ExperimentGuardrail[] =>
  DEFAULT_GUARDRAILS.filter((rail) => {
    const better = metricOf({ metrics: [...metrics] }, rail.metric)?.better;
    return better !== undefined && guardrailContradiction(rail, better) === null;
  });

/** @returns `invalid_request` that names the first invalid field. */
function parseDocument(value: unknown): Result<Experiment, ApiError> {
  const parsed = Experiment.safeParse(value);
  if (parsed.success) {
    const contradicted = contradictedGuardrail(parsed.data);
    if (contradicted === null) return ok(parsed.data);
    return err(guardrailRefused(contradicted));
  }
  const issue = parsed.error.issues[0];
  const param = (issue?.path ?? []).map(String).join('.');
  return err({
    code: 'invalid_request',
    message: `Invalid value for '${param}': ${issue?.message}.`,
    param: param === '' ? null : param,
  });
}

function newId(): string {
  let id = 'exp_';
  while (id.length < 4 + ID_CHARACTERS)
    for (const byte of crypto.getRandomValues(new Uint8Array(ID_CHARACTERS)))
      if (byte < EVEN_BYTES && id.length < 4 + ID_CHARACTERS) id += ALPHABET[byte % ALPHABET.length];
  return id;
}

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Days of traffic in a plan: a week has all of its days once. */
const DAYS = 7;
/** Experiments of the name whose data a plan uses. */
const EARLIER = 5;
/** Assumptions without earlier experiments: one of twenty users rates, and half of the ratings are positive. */
const ASSUMED = { share: 0.05, mean: 0.5 };

export interface PlanDeps extends LifeDeps {
  usage: Pick<UsageLedger, 'ofName'>;
  tallies: Pick<ExperimentTallies, 'snapshot'>;
}

/** Estimates what an experiment would find, and when, from what is known of the name. Creates nothing. */
export async function planExperiment(
  deps: PlanDeps,
  { request, caller }: { request: z.output<typeof PlanExperiment>; caller: AdminCaller },
): Promise<Result<ExperimentPlan, ApiError>> {
  const own = await ownName(deps, { name: request.name, caller });
  if (!own.ok) return own;
  const { name, variants } = request;
  const metric = request.metrics?.[0] ?? THUMBS;
  const [traffic, known] = await Promise.all([
    trafficOf(deps, { name, tenant: own.value.owner }),
    earlier(deps, { name, metric, unit: request.unit ?? 'user' }),
  ]);
  const expected = request.expect_units ?? null;
  const unitsADay = expected ?? known?.unitsADay ?? null;
  const automatic = isRecorded(metric);
  const baseline: Baseline | null =
    known?.baseline ??
    (metric.kind === 'proportion' && !automatic
      ? { kind: 'proportion', mean: ASSUMED.mean, variance: ASSUMED.mean * (1 - ASSUMED.mean) }
      : null);
  const share = known?.share ?? (automatic ? 1 : ASSUMED.share);
  const coverage = coverageOf(request);
  const [control, ...treatments] = variants.map(({ weight }) => weight) as [number, ...number[]];
  const weights = { control, treatment: Math.min(...treatments) };
  const alpha = alphaOf({ variants });
  return ok({
    name,
    requests: { per_day: traffic.per_day, days: traffic.days },
    units: {
      per_day: unitsADay,
      from: expected !== null ? 'expected' : unitsADay !== null ? 'experiment' : 'unknown',
    },
    values: { share, from: known?.share != null ? 'experiment' : automatic ? 'edge' : 'assumed' },
    baseline: baseline && { mean: baseline.mean, from: known?.baseline ? 'experiment' : 'assumed' },
    coverage,
    alpha,
    finds:
      baseline === null
        ? []
        : findings({
            ...{ baseline, better: metric.better, weights, alpha, share, unitsNow: 0 },
            unitsADay:
              unitsADay === null ? null : unitsADay * coverage * (weights.control + weights.treatment),
            leastDays: request.min_days ?? 0,
          }),
    ...pairsOf(request, traffic),
  });
}

/** Tokens of the judge's rules and separators; depends slightly on the tokenizer. */
const JUDGE_RULES_TOKENS = 150;

function pairsOf(
  { judge, shadow, min_days: leastDays = 0 }: z.output<typeof PlanExperiment>,
  { per_day: requests, promptTokens, completionTokens }: Traffic,
): { pairs?: PairsPlan } {
  if (judge === undefined || shadow === undefined) return {};
  const { tokens_per_day: most = DEFAULT_JUDGE_TOKENS } = judge;
  const { sample } = shadow;
  // A model judges in both orders, each time with the prompt and both answers.
  const judged = judge.url === undefined ? 2 * (promptTokens + 2 * completionTokens + JUDGE_RULES_TOKENS) : 0;
  const each = requests > 0 ? Math.ceil(promptTokens + completionTokens + judged) : null;
  const perDay = each === null ? null : Math.min(requests * sample, most / each);
  const finds = PLANNED_WIN_RATES.map((rate) => {
    const pairs = pairsToFind(rate, PAIR_ALPHA, PAIR_TUNING);
    return { win_rate: rate, pairs, days: perDay === null ? null : Math.max(leastDays, pairs / perDay) };
  });
  return { pairs: { sample, per_day: perDay, tokens_per_pair: each, tokens_per_day: most, finds } };
}

/** Of all units, at the ramp's end. */
function coverageOf({ ramp, coverage, namespace, holdout }: z.output<typeof PlanExperiment>): number {
  const range = namespace === undefined ? 1 : namespace.range[1] - namespace.range[0];
  return (ramp?.steps.at(-1) ?? coverage ?? 1) * range * (1 - (holdout?.share ?? 0));
}

interface Traffic {
  per_day: number;
  days: number;
  /** Of one request, on average. */
  promptTokens: number;
  completionTokens: number;
}

async function trafficOf(
  { usage, now }: Pick<PlanDeps, 'usage' | 'now'>,
  { name, tenant }: { name: string; tenant: string },
): Promise<Traffic> {
  const hour = Math.floor(now() / HOUR);
  const from = hour - 24 * DAYS;
  const used = await usage.ofName({ tenant, name, from, to: hour + 1 });
  if (used === null) return { per_day: 0, days: 0, promptTokens: 0, completionTokens: 0 };
  // A new name has had fewer than seven days.
  const days = Math.min(DAYS, Math.max(1, Math.ceil((now() - used.since * HOUR) / DAY)));
  const each = (tokens: number): number => (used.requests === 0 ? 0 : tokens / used.requests);
  return {
    per_day: used.requests / days,
    days,
    promptTokens: each(used.promptTokens),
    completionTokens: each(used.completionTokens),
  };
}

interface Known {
  unitsADay: number | null;
  share: number | null;
  baseline: Baseline | null;
}

/** Data of the name's newest experiment with users. */
async function earlier(
  { experimentLedger, tallies }: Pick<PlanDeps, 'experimentLedger' | 'tallies'>,
  { name, metric, unit }: { name: string; metric: ExperimentMetric; unit: 'user' | 'key' },
): Promise<Known | null> {
  const page = await experimentLedger.list({ owner: null, name, cursor: null, limit: EARLIER });
  for (const row of page.items) {
    const rate = row.document.unit === unit ? unitsADayOf(row) : null;
    if (rate === null) continue;
    const { id, document } = row;
    const snapshot = await tallies.snapshot(id, document.seed);
    const { variants } = document;
    const { units, metrics } = withCaps(snapshot, cappedMetrics({ variants, metrics: [metric] }, snapshot));
    const control = variants[0]!.key;
    const moments = metrics[metric.key]?.[control];
    const seen = units[control] ?? 0;
    if (moments === undefined || moments.n === 0 || seen === 0)
      return { unitsADay: rate, share: null, baseline: null };
    const { mean, variance } = armOf(moments, metric.kind);
    return {
      unitsADay: rate,
      share: Math.min(1, moments.n / seen),
      baseline: variance > 0 ? { kind: metric.kind, mean, variance } : null,
    };
  }
  return null;
}

/** New units a day of the whole name, during its last step; null when that was too short. */
function unitsADayOf({ evaluation, coverageAt, stepUnits, document }: ExperimentRow): number | null {
  if (evaluation === null || coverageAt === null || evaluation.coverage === 0) return null;
  const { holdout, namespace } = document;
  const units = Object.values(evaluation.units).reduce((sum, n) => sum + n, 0) - stepUnits;
  const ran = evaluation.at - coverageAt;
  const range = namespace === undefined ? 1 : namespace.range[1] - namespace.range[0];
  const part = evaluation.coverage * range * (1 - (holdout?.share ?? 0));
  return ran < HOUR || units <= 0 || part <= 0 ? null : (units * DAY) / ran / part;
}
