import { Hono } from 'hono';
import type {
  ExperimentList,
  ExperimentLooks,
  ExperimentView,
} from '../../protocol/admin-api/experiments.ts';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { JudgeSecret, KeptPairList } from '../../protocol/experiment.ts';
import {
  changeExperiment,
  archiveExperiment,
  killExperiment,
  promoteExperiment,
  rampExperiment,
  startExperiment,
  stopExperiment,
  type StepParams,
} from './life/change-experiment.ts';
import { createExperiment, planExperiment, type PlanDeps } from './life/create-experiment.ts';
import { evaluateNow } from './life/evaluate.ts';
import { type EvaluateDeps, type LifeDeps, ownExperiment } from './life/life-deps.ts';
import type { PairTallies } from './pairs/ports.ts';
import { LOOKS_KEPT } from './limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import { mayUseChain } from '../access/authenticate.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { ExperimentRow, ExperimentLedger } from './ports.ts';
import type { WebhookSigner } from '../webhooks/send-webhooks.ts';

/**
 * Experiments and the steps of their life. 404 for missing ones and those of others; 409 `version_conflict`
 * when it has changed or its state forbids it, with the field in `param`; 503 `registry_unavailable` when the
 * change is recorded, but KV is not updated yet.
 */
export function adminExperimentRoutes(
  deps: Omit<LifeDeps, 'mayUseChain'> &
    Pick<EvaluateDeps, 'tallies' | 'outbox'> &
    Pick<PlanDeps, 'usage'> & {
      pairTallies: PairTallies;
      webhookSigner: WebhookSigner;
      judgeSigner: WebhookSigner;
    },
): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const life: LifeDeps = { ...deps, mayUseChain };
  const { experimentLedger } = deps;

  /** A webhook's secret is shown only when the webhook is set. @param before the earlier webhook. */
  const withSecret = async (
    row: ExperimentRow,
    before: string | undefined,
    status: 200 | 201 = 200,
  ): Promise<Response> => {
    const { webhook } = row.document;
    if (webhook === undefined || webhook === before) return Response.json(viewOf(row), { status });
    const secret = await deps.webhookSigner.secret({ source: row.id, url: webhook });
    const view: ExperimentView = { ...viewOf(row), webhook_secret: secret };
    return Response.json(view, { status });
  };

  adminRoute(routes, 'POST /admin/experiments', async ({ caller, request }) => {
    const made = await createExperiment(life, { request, caller });
    return made.ok ? withSecret(made.value, undefined, 201) : fail(made.error);
  });

  adminRoute(routes, 'POST /admin/experiments/plan', async ({ context, caller, request }) => {
    const plan = await planExperiment({ ...deps, mayUseChain }, { request, caller });
    return plan.ok ? context.json(plan.value) : fail(plan.error);
  });

  adminRoute(routes, 'GET /admin/experiments', async ({ context, caller, query }) => {
    const { root, tenant } = caller;
    const { name = null, status = null, cursor, limit } = query;
    const page = await experimentLedger.list({ owner: root ? null : tenant, name, status, cursor, limit });
    return context.json({
      experiments: page.items.map(viewOf),
      cursor: page.cursor,
    } satisfies ExperimentList);
  });

  adminRoute(routes, 'GET /admin/experiments/:id', async ({ caller, params: { id } }) =>
    answer(await ownExperiment(deps, { id, caller })),
  );

  adminRoute(routes, 'PUT /admin/experiments/:id', async ({ caller, params: { id }, request }) => {
    const own = await ownExperiment(deps, { id, caller });
    const before = own.ok ? own.value.document.webhook : undefined;
    const changed = await changeExperiment(life, { id, request, caller });
    if (!changed.ok) return fail(changed.error);
    return request.dry_run === true ? answer(changed) : withSecret(changed.value, before);
  });

  const step =
    <Request extends object>(
      take: (deps: LifeDeps, params: StepParams<Request>) => Promise<Result<ExperimentRow, ApiError>>,
    ) =>
    async ({ caller, params: { id }, request }: StepInput<Request>): Promise<Response> =>
      answer(await take(life, { id, request, caller }));
  adminRoute(routes, 'POST /admin/experiments/:id/start', step(startExperiment));
  adminRoute(routes, 'POST /admin/experiments/:id/ramp', step(rampExperiment));
  adminRoute(routes, 'POST /admin/experiments/:id/stop', step(stopExperiment));
  adminRoute(routes, 'POST /admin/experiments/:id/kill', step(killExperiment));
  adminRoute(routes, 'POST /admin/experiments/:id/promote', step(promoteExperiment));
  adminRoute(routes, 'POST /admin/experiments/:id/archive', step(archiveExperiment));

  adminRoute(routes, 'POST /admin/experiments/:id/evaluate', async ({ caller, params: { id } }) =>
    answer(await evaluateNow(deps, { id, caller })),
  );

  adminRoute(routes, 'GET /admin/experiments/:id/looks', async ({ context, caller, params: { id } }) => {
    const own = await ownExperiment(deps, { id, caller });
    if (!own.ok) return fail(own.error);
    const { seed } = own.value.document;
    const looks = await experimentLedger.looks({ experiment: id, seed, limit: LOOKS_KEPT });
    return context.json({ looks: looks.map(({ evaluation }) => evaluation) } satisfies ExperimentLooks);
  });

  adminRoute(routes, 'GET /admin/experiments/:id/pairs', async ({ context, caller, params: { id } }) => {
    const own = await ownPairs(deps, { id, caller });
    if (!own.ok) return fail(own.error);
    const keep = own.value.document.judge?.keep_pairs ?? 0;
    const kept = keep === 0 ? [] : await deps.pairTallies.kept(id, { at: deps.now(), keep });
    const pairs = kept.map(({ learner: _learner, ...pair }) => pair);
    return context.json({ pairs } satisfies KeptPairList);
  });

  adminRoute(
    routes,
    'GET /admin/experiments/:id/judge-secret',
    async ({ context, caller, params: { id } }) => {
      const own = await ownPairs(deps, { id, caller });
      if (!own.ok) return fail(own.error);
      const url = own.value.document.judge?.url;
      if (url === undefined)
        return fail({
          code: 'not_found',
          message: `Experiment '${id}' has no judge.url.`,
        });
      const secret = await deps.judgeSigner.secret({ source: id, url });
      return context.json({ secret } satisfies JudgeSecret);
    },
  );
  return routes;
}

interface StepInput<Request> {
  caller: AdminCaller;
  params: { readonly id: string };
  request: Request;
}

function answer(done: Result<ExperimentRow, ApiError>, status: 200 | 201 = 200): Response {
  return done.ok ? Response.json(viewOf(done.value), { status }) : fail(done.error);
}

/** As the admin API shows it. */
export const viewOf = (row: ExperimentRow): ExperimentView => ({
  id: row.id,
  owner: row.owner,
  document: row.document,
  seeds: row.seeds,
  created_at: row.createdAt,
  created_by: row.createdBy,
  started_at: row.startedAt,
  coverage_at: row.coverageAt,
  step_units: row.stepUnits,
  ended_at: row.endedAt,
  proposal: row.proposal,
  evaluation: row.evaluation,
});

/** Like {@link ownExperiment}, but for the owner only: the operator must not read what users wrote. */
const ownPairs = (
  deps: { experimentLedger: Pick<ExperimentLedger, 'get'> },
  { id, caller }: { id: string; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> =>
  ownExperiment(deps, { id, caller: { ...caller, root: false } });
