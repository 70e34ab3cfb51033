import { Hono } from 'hono';
import { z } from 'zod';
import {
  ArchiveExperiment,
  ChangeExperiment,
  CreateExperiment,
  ExperimentFilter,
  KillExperiment,
  PromoteExperiment,
  RampExperiment,
  StartExperiment,
  StopExperiment,
  type ApiError,
  type ExperimentList,
  type ExperimentLooks,
  type Result,
  type ExperimentView,
} from '../../protocol/index.ts';
import { changeExperiment } from './life/change-experiment.ts';
import { createExperiment } from './life/create-experiment.ts';
import { evaluateNow } from './life/evaluate.ts';
import type { EvaluateDeps, LifeDeps } from './life/life-deps.ts';
import { ownExperiment } from './life/own-experiment.ts';
import {
  archiveExperiment,
  killExperiment,
  promoteExperiment,
  rampExperiment,
  startExperiment,
  stopExperiment,
} from './life/steps.ts';
import type { StepParams } from './life/take-step.ts';
import { EXPERIMENTS_SHOWN, LOOKS_KEPT, MAX_EXPERIMENT_BODY_BYTES, MAX_EXPERIMENTS_SHOWN } from './limits.ts';
import { MAX_ADMIN_BODY_BYTES } from '../limits.ts';
import { readJson } from '../http/read-body.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import { mayUseChain } from '../access/authorize.ts';
import type { ExperimentRow } from './ports.ts';
import { parseInput, readInput } from '../http/parse-input.ts';

export const ExperimentQuery = ExperimentFilter.extend({
  cursor: z.string().max(64).nullable().default(null),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,3}$/, 'must be a positive whole number')
    .transform(Number)
    .pipe(z.int().max(MAX_EXPERIMENTS_SHOWN))
    .default(EXPERIMENTS_SHOWN),
});

const NoInput = z.strictObject({});

/**
 * `POST /admin/experiments` {@link CreateExperiment} -> 201;
 * `GET /admin/experiments?name=&status=&cursor=&limit=` -> {@link ExperimentList}, the newest first;
 * `GET /admin/experiments/<id>`; `PUT /admin/experiments/<id>` {@link ChangeExperiment};
 * `POST /admin/experiments/<id>/start`, `ramp`, `stop`, `kill`, `promote`, `archive` and `evaluate`; all of these answer
 * with the experiment. `GET /admin/experiments/<id>/looks` -> {@link ExperimentLooks}, the oldest first.
 * 404 when it is not there or another's; 409 `version_conflict` when it has changed or its state forbids it, with the
 * field in `param`; 503 `registry_unavailable` when the change is recorded, but KV was not told yet.
 */
export function adminExperimentRoutes(
  deps: Omit<LifeDeps, 'mayUseChain'> & Pick<EvaluateDeps, 'tallies'>,
): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const life: LifeDeps = { ...deps, mayUseChain };
  const { experimentLedger } = deps;

  routes.post('/admin/experiments', async (context) => {
    const request = await readInput(context.req.raw, CreateExperiment, MAX_EXPERIMENT_BODY_BYTES);
    if (!request.ok) return fail(request.error);
    const made = await createExperiment(life, { request: request.value, caller: context.get('admin') });
    return answer(made, 201);
  });

  routes.get('/admin/experiments', async (context) => {
    const input = parseInput(ExperimentQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const { root, tenant } = context.get('admin');
    const { name = null, status = null, cursor, limit } = input.value;
    const page = await experimentLedger.list({ owner: root ? null : tenant, name, status, cursor, limit });
    return context.json({
      experiments: page.items.map(viewOf),
      cursor: page.cursor,
    } satisfies ExperimentList);
  });
  routes.all('/admin/experiments', methodNotAllowed('GET, POST'));

  routes.get('/admin/experiments/:id', async (context) =>
    answer(await ownExperiment(deps, { id: context.req.param('id'), caller: context.get('admin') })),
  );

  routes.put('/admin/experiments/:id', async (context) => {
    const request = await readInput(context.req.raw, ChangeExperiment, MAX_EXPERIMENT_BODY_BYTES);
    if (!request.ok) return fail(request.error);
    const params = { id: context.req.param('id'), request: request.value, caller: context.get('admin') };
    return answer(await changeExperiment(life, params));
  });
  routes.all('/admin/experiments/:id', methodNotAllowed('GET, PUT'));

  function step<R extends object>(
    name: string,
    schema: z.ZodType<R>,
    take: (deps: LifeDeps, params: StepParams<R>) => Promise<Result<ExperimentRow, ApiError>>,
  ): void {
    const path = `/admin/experiments/:id/${name}`;
    routes.post(path, async (context) => {
      const request = await readStep(context.req.raw, schema);
      if (!request.ok) return fail(request.error);
      const id = context.req.param('id') as string;
      return answer(await take(life, { id, request: request.value, caller: context.get('admin') }));
    });
    routes.all(path, methodNotAllowed('POST'));
  }
  step('start', StartExperiment, startExperiment);
  step('ramp', RampExperiment, rampExperiment);
  step('stop', StopExperiment, stopExperiment);
  step('kill', KillExperiment, killExperiment);
  step('promote', PromoteExperiment, promoteExperiment);
  step('archive', ArchiveExperiment, archiveExperiment);

  routes.post('/admin/experiments/:id/evaluate', async (context) => {
    const request = await readStep(context.req.raw, NoInput);
    if (!request.ok) return fail(request.error);
    return answer(await evaluateNow(deps, { id: context.req.param('id'), caller: context.get('admin') }));
  });
  routes.all('/admin/experiments/:id/evaluate', methodNotAllowed('POST'));

  routes.get('/admin/experiments/:id/looks', async (context) => {
    const id = context.req.param('id');
    const own = await ownExperiment(deps, { id, caller: context.get('admin') });
    if (!own.ok) return fail(own.error);
    const { seed } = own.value.document;
    const looks = await experimentLedger.looks({ experiment: id, seed, limit: LOOKS_KEPT });
    return context.json({ looks: looks.map(({ evaluation }) => evaluation) } satisfies ExperimentLooks);
  });
  routes.all('/admin/experiments/:id/looks', methodNotAllowed('GET'));
  return routes;
}

function answer(done: Result<ExperimentRow, ApiError>, status: 200 | 201 = 200): Response {
  return done.ok ? Response.json(viewOf(done.value), { status }) : fail(done.error);
}

/** All of it may be left out, and so may the body itself. */
async function readStep<T>(request: Request, schema: z.ZodType<T>): Promise<Result<T, ApiError>> {
  const json = await readJson(request, MAX_ADMIN_BODY_BYTES, { whenEmpty: {} });
  return json.ok ? parseInput(schema, json.value) : json;
}

/** As the admin API shows it. */
export const viewOf = (row: ExperimentRow): z.infer<typeof ExperimentView> => ({
  id: row.id,
  owner: row.owner,
  document: row.document,
  seeds: row.seeds,
  created_at: row.createdAt,
  created_by: row.createdBy,
  started_at: row.startedAt,
  coverage_at: row.coverageAt,
  evaluation: row.evaluation,
});
