import { Hono } from 'hono';
import type { ApiError } from '../../protocol/api-error.ts';
import {
  JOB_PAGE,
  JobCheckpointQuery,
  JobEventQuery,
  JobListQuery,
  type JobCheckpointPage,
  type JobEventPage,
  type JobPage,
} from '../../protocol/fine-tuning.ts';
import { conflict } from '../errors.ts';
import {
  fail,
  keepAlive,
  methodNotAllowed,
  parseInput,
  readJson,
  type AppContext,
  type AppEnv,
} from '../http/request.ts';
import { loggingFailure } from '../log.ts';
import { withTimeout } from '../platform/store-calls.ts';
import { countUsage } from './count-usage.ts';
import { advanceJob, type AdvanceDeps, removeAtOrigins, usageOf } from './advance-jobs.ts';
import { createJob, parseJobRequest, type CreateDeps } from './create-job.ts';
import { eventNumberOf, shownCheckpoints, shownEvent, shownJob } from './job-view.ts';
import { pageOf } from './ids.ts';
import { JOB_FRESH_MS, JOB_WAIT_MS, MAX_JOB_BODY_BYTES } from './limits.ts';
import type { JobChange, NewJobEvent, TrainingJob } from './ports.ts';
import { requireTrainer, type TrainerDeps } from './require-trainer.ts';

export interface JobDeps extends CreateDeps, AdvanceDeps, TrainerDeps {
  // Both of what this extends have their own.
  rowFiles: AdvanceDeps['rowFiles'];
  grantLedger: AdvanceDeps['grantLedger'];
  keyLedger: TrainerDeps['keyLedger'];
}

const JOBS = '/v1/fine_tuning/jobs';
const JOB = `${JOBS}/:id`;
const EVENTS = `${JOB}/events`;
const CHECKPOINTS = `${JOB}/checkpoints`;

/** The same for another tenant's: nobody learns that it exists. */
const NO_JOB: ApiError = { code: 'not_found', message: 'There is no such fine-tuning job.' };

/** `/v1/fine_tuning/jobs`: jobs of the caller's tenant. */
export function jobRoutes(deps: JobDeps): Hono<AppEnv> {
  const { trainingJobs, now } = deps;
  const routes = new Hono<AppEnv>();
  const known = requireTrainer(deps);

  const jobOf = (context: AppContext): Promise<TrainingJob | null> =>
    trainingJobs.get({ id: context.req.param('id') ?? '', tenant: context.get('trainer').tenant });

  routes.post(JOBS, ...known, async (context) => {
    const json = await readJson(context.req.raw, MAX_JOB_BODY_BYTES);
    if (!json.ok) return fail(json.error);
    const request = parseJobRequest(json.value);
    if (!request.ok) return fail(request.error);
    const created = await createJob(deps, { request: request.value, trainer: context.get('trainer') });
    return created.ok ? context.json(shownJob(created.value)) : fail(created.error);
  });

  routes.get(JOBS, ...known, async (context) => {
    const query = parseInput(JobListQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const { after, limit } = query.value;
    const most = pageSize(limit);
    const { tenant } = context.get('trainer');
    const found = await trainingJobs.list({ tenant, after: after ?? null, limit: most + 1 });
    return context.json(pageOf(found.map(shownJob), most) satisfies JobPage);
  });
  routes.all(JOBS, methodNotAllowed('GET or POST'));

  routes.get(JOB, ...known, async (context) => {
    const job = await jobOf(context);
    if (job === null) return fail(NO_JOB);
    await lookAgain(deps, context, job);
    return context.json(shownJob((await jobOf(context)) ?? job));
  });
  routes.all(JOB, methodNotAllowed('GET'));

  routes.get(EVENTS, ...known, async (context) => {
    const query = parseInput(JobEventQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const job = await jobOf(context);
    if (job === null) return fail(NO_JOB);
    const { after, limit } = query.value;
    const before = after === undefined ? null : eventNumberOf(job.id, after);
    if (after !== undefined && before === null)
      return fail({ code: 'invalid_request', message: "'after' is no event of this job.", param: 'after' });
    if (before === null) await lookAgain(deps, context, job);
    const most = pageSize(limit);
    const found = await trainingJobs.events({ job: job.id, before, limit: most + 1 });
    const shown = found.map((event) => shownEvent(job.id, event));
    return context.json(pageOf(shown, most) satisfies JobEventPage);
  });
  routes.all(EVENTS, methodNotAllowed('GET'));

  routes.get(CHECKPOINTS, ...known, async (context) => {
    const query = parseInput(JobCheckpointQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const job = await jobOf(context);
    if (job === null) return fail(NO_JOB);
    const { after, limit } = query.value;
    const all = shownCheckpoints(job);
    const first = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
    // After what is not there comes nothing.
    const shown = after !== undefined && first === 0 ? [] : all.slice(first);
    return context.json(pageOf(shown, pageSize(limit)) satisfies JobCheckpointPage);
  });
  routes.all(CHECKPOINTS, methodNotAllowed('GET'));

  for (const step of ['cancel', 'pause', 'resume'] as const) {
    const path = `${JOB}/${step}`;
    routes.post(path, ...known, async (context) => {
      const body = await readJson(context.req.raw, MAX_JOB_BODY_BYTES, { whenEmpty: {} });
      if (!body.ok) return fail(body.error);
      for (let attempt = 0; attempt < TRIES; attempt += 1) {
        const job = await jobOf(context);
        if (job === null) return fail(NO_JOB);
        if (STANDS[step](job)) return context.json(shownJob(job));
        if (job.finishedAt !== null) return fail(conflict(`The job has ended: it has ${job.status}.`));
        const { change, event } = STEPS[step](job, now());
        const saved = await trainingJobs.save(job, change, {
          events: [event],
          ...(step === 'cancel' ? { leaves: true, usage: usageOf(job, { at: now() }) } : {}),
        });
        if (saved === null) continue;
        if (step === 'cancel') {
          keepAlive(context, removeAtOrigins(deps));
          keepAlive(context, countUsage(deps, job.tenant));
        }
        await settle(deps, context, saved);
        return context.json(shownJob(saved));
      }
      return fail(conflict('The job is being changed. Retry in a few seconds.'));
    });
    routes.all(path, methodNotAllowed('POST'));
  }
  return routes;
}

/** Of a change, while the schedule records what an origin says. */
const TRIES = 5;

const pageSize = (limit: string | undefined): number =>
  Math.min(Number(limit ?? JOB_PAGE.usual), JOB_PAGE.most);

type Step = 'cancel' | 'pause' | 'resume';

/** It is so already: a repetition. */
const STANDS: Readonly<Record<Step, (job: TrainingJob) => boolean>> = {
  cancel: ({ status }) => status === 'cancelled',
  pause: ({ wanted, finishedAt }) => wanted === 'pause' && finishedAt === null,
  resume: ({ wanted, finishedAt }) => wanted === 'run' && finishedAt === null,
};

const told = (at: number, message: string): NewJobEvent => ({ at, level: 'info', message, metrics: null });

const STEPS: Readonly<
  Record<Step, (job: TrainingJob, at: number) => { change: JobChange; event: NewJobEvent }>
> = {
  cancel: (_, at) => ({
    change: { status: 'cancelled', finishedAt: at, origin: null, estimatedFinish: null },
    event: told(at, 'Cancelled.'),
  }),
  pause: (_, at) => ({
    change: { wanted: 'pause', status: 'paused', estimatedFinish: null },
    event: told(at, 'Paused. What is trained is kept.'),
  }),
  // Running it is when its origin says so.
  resume: (_, at) => ({ change: { wanted: 'run', status: 'queued' }, event: told(at, 'Resumed.') }),
};

/** A client sees its job's progress between two runs of the schedule; it waits a moment for it. */
async function lookAgain(deps: JobDeps, context: AppContext, job: TrainingJob): Promise<void> {
  const isOld = deps.now() - job.lookedAt > JOB_FRESH_MS;
  if (job.finishedAt === null && job.origin !== null && isOld) await settle(deps, context, job);
}

async function settle(deps: JobDeps, context: AppContext, { id, origin }: TrainingJob): Promise<void> {
  if (origin === null) return;
  const work = loggingFailure(
    advanceJob(deps, id, (more) => keepAlive(context, more)),
    { request_id: context.get('requestId') },
  );
  keepAlive(context, work);
  await withTimeout(work, JOB_WAIT_MS, () => undefined);
}
