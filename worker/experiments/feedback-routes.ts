import { Hono } from 'hono';
import { FeedbackRequest, type FeedbackAnswer } from '../../protocol/admin-api/experiments.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { isRecorded, metricOf, type Experiment } from '../../protocol/experiment.ts';
import { answerTextOf } from '../../protocol/origin-wire.ts';
import { registryUnavailable } from '../errors.ts';
import { type AnswerTokens, variantTag, type Exposure, type ExposureProblem } from './answer-token.ts';
import { EXPOSURE_LIFE_MS, MAX_FEEDBACK_BODY_BYTES, MAX_FEEDBACK_VALUE } from './limits.ts';
import { requireKey } from '../access/require-admin.ts';
import { fail, keepAlive, methodNotAllowed, type AppEnv, readInput } from '../http/request.ts';
import { logLine } from '../log.ts';
import type { Gates } from '../access/rate-limits.ts';
import type { Index, Lookup } from '../platform/ports.ts';
import type { KeyRecord } from '../access/ports.ts';
import type { ExperimentEntry, ExperimentTallies } from './ports.ts';

export interface FeedbackDeps {
  keys: Index<KeyRecord>;
  gates: Pick<Gates, 'feedback'>;
  experiments: Index<ExperimentEntry>;
  answerTokens: AnswerTokens;
  tallies: Pick<ExperimentTallies, 'feedback' | 'refused'>;
  /** Unix ms. */
  now: () => number;
}

const PATH = '/v1/feedback';

/** `POST /v1/feedback`: what an application, or its user, thinks of an answer that belongs to an experiment. */
export function feedbackRoutes(deps: FeedbackDeps): Hono<AppEnv> {
  const { experiments, tallies, now } = deps;
  const routes = new Hono<AppEnv>();
  routes.post(PATH, requireKey(deps, deps.gates.feedback), async (context) => {
    const { tenant } = context.get('caller');
    const input = await readInput(context.req.raw, FeedbackRequest, { maxBytes: MAX_FEEDBACK_BODY_BYTES });
    if (!input.ok) return fail(input.error);
    const at = now();
    const opened = await ratedAnswer(deps, input.value.id, { tenant, now: at });
    if (!opened.ok) return fail(opened.error);
    const rated = opened.value;
    const document = documentOf(await experiments.get(rated.experiment), rated);
    if (!document.ok) return fail(document.error);
    const variant = rated.variantIn(document.value);
    if (variant === null) return fail(DEALT_ANEW);
    const { metric, value } = input.value;
    const before = input.value.before ?? null;
    const problem = valueProblem(document.value, { metric, value, before });
    const { name, seed } = document.value;
    const { experiment, version, unit } = rated;
    if (problem !== null) {
      // Nobody reads an application's log, so the experiment's own page reports it too.
      if (problem.param === 'metric')
        keepAlive(context, tallies.refused(experiment, { seed, unit, metric, at }));
      return fail(problem);
    }
    const status = await tallies.feedback(experiment, {
      token: rated.id,
      expiresAt: rated.at + EXPOSURE_LIFE_MS,
      ...{ seed, variant, unit, metric, value, before, at },
    });
    if (status === 'counted')
      context.get('trace').note({
        feedback: { name, experiment, version, variant, metric, value, unit },
      });
    return context.json({ object: 'graft.feedback', status } satisfies FeedbackAnswer);
  });
  routes.all(PATH, methodNotAllowed('POST'));
  return routes;
}

const OVER: ApiError = {
  code: 'experiment_over',
  message: 'The experiment of the rated answer is archived; feedback is no longer counted.',
  param: 'id',
};

const DEALT_ANEW: ApiError = {
  code: 'experiment_over',
  message: "The rated answer's variant was renamed since; feedback on it is not counted any more.",
  param: 'id',
};

/** Feedback on a decided experiment counts too: it rates earlier answers. */
function documentOf(
  found: Lookup<ExperimentEntry>,
  rated: Pick<RatedAnswer, 'experiment'>,
): Result<Experiment, ApiError> {
  if (found.state === 'trouble') {
    logLine('experiment_lookup_trouble', { experiment: rated.experiment, reason: found.reason });
    return err(registryUnavailable(found.retryAfterMs));
  }
  if (found.state !== 'found' || found.value.document.status === 'archived') return err(OVER);
  return ok(found.value.document);
}

type BadValue = Extract<ApiError, { code: 'invalid_request' }>;

const refuse = (param: 'metric' | 'value' | 'before', message: string): BadValue => ({
  code: 'invalid_request',
  message: `Invalid value for '${param}': ${message}`,
  param,
});

/** @returns why the value cannot be counted, or null. */
function valueProblem(
  document: Experiment,
  told: { metric: string; value: number; before: number | null },
): BadValue | null {
  const metric = metricOf(document, told.metric);
  const reported = document.metrics.filter((one) => !isRecorded(one)).map(({ key }) => `'${key}'`);
  const has = reported.length === 0 ? 'no metric that is reported' : reported.join(', ');
  if (metric !== undefined && isRecorded(metric))
    return refuse('metric', `'${told.metric}' is recorded by the edge itself; the experiment has ${has}.`);
  if (metric === undefined)
    return refuse('metric', `the experiment has no metric '${told.metric}'; it has ${has}.`);
  const [low, high] = metric.kind === 'proportion' ? [0, 1] : [-MAX_FEEDBACK_VALUE, MAX_FEEDBACK_VALUE];
  const isWithin = (value: number) => value >= low && value <= high;
  for (const param of ['value', 'before'] as const) {
    const value = told[param];
    if (value !== null && !isWithin(value))
      return refuse(param, `'${metric.key}' is a ${metric.kind} between ${low} and ${high}.`);
  }
  return null;
}

/** The answer that is rated, as its id says. */
interface RatedAnswer extends Pick<Exposure, 'id' | 'experiment' | 'version' | 'unit' | 'at'> {
  /** @returns null when the document no longer has it, and its name cannot be found elsewhere. */
  variantIn(document: Experiment): string | null;
}

async function ratedAnswer(
  { answerTokens }: Pick<FeedbackDeps, 'answerTokens'>,
  id: string,
  asked: Parameters<AnswerTokens['open']>[1],
): Promise<Result<RatedAnswer, ApiError>> {
  const opened = await answerTokens.open(answerTextOf(id) ?? '', asked);
  if (!opened.ok) return err(problemOf(opened.error));
  const { variantTag: tag, ...rated } = opened.value;
  return ok({
    ...rated,
    variantIn: ({ variants }) => variants.find(({ key }) => variantTag(key) === tag)?.key ?? null,
  });
}

const SEND_THE_ID = "Send the answer's id as it came.";

function problemOf(problem: ExposureProblem): ApiError {
  const param = 'id';
  switch (problem.kind) {
    case 'malformed':
      return {
        code: 'exposure_malformed',
        message: `This is the id of no answer that can be rated: it belongs to no experiment, or a fallback answered. ${SEND_THE_ID}`,
        param,
      };
    case 'forged':
      return {
        code: 'exposure_forged',
        message: `This id was not made here, or was changed since. ${SEND_THE_ID}`,
        param,
      };
    case 'other_tenant':
      return {
        code: 'exposure_of_another_tenant',
        message: 'The rated answer belongs to another tenant. Use a key of that tenant.',
        param,
      };
    case 'expired':
      return {
        code: 'exposure_expired',
        message: `Feedback on this answer was accepted until ${new Date(problem.expiredAt).toISOString()}.`,
        param,
      };
  }
}
