/**
 * Advances fine-tuning jobs: gives them to origins, sends rows and adapters, follows them, publishes results. D1 is the
 * truth. Each step may be repeated, and may end anywhere: the next one asks the origin what there is.
 */
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { MAX_PART_BYTES, MAX_PARTS } from '../../protocol/limits.ts';
import { SentTrainingCard, type TrainingCard } from '../../protocol/training.ts';
import { MAX_JOB_EVENTS_AT_ONCE, MAX_JOB_SECONDS, type JobReport } from '../../protocol/training-jobs.ts';
import { mayUseChain } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import type { KeyRow } from '../access/ports.ts';
import { PART_SETTLE_MS } from '../blobs/limits.ts';
import { finishBlob, receivePart } from '../blobs/stored-file.ts';
import { logLine, reasonOf } from '../log.ts';
import { budgetWords, type Budgets } from '../metering/meter.ts';
import type { UsageLedger, UsageRow } from '../metering/ports.ts';
import type { JobAnswer, OriginJobs } from '../origins/jobs.ts';
import { JOB_CALL_MS } from '../origins/limits.ts';
import type { PageUploads } from '../publications/d1-page-uploads.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { IntakeDeps, RequestLife } from '../registry/ports.ts';
import { publishVersion } from '../registry/publish-version.ts';
import { countUsage } from './count-usage.ts';
import {
  CHECKPOINT_LOST_MS,
  JOB_DELETIONS_PER_RUN,
  JOB_KEPT_MS,
  JOB_LEASE_MS,
  JOB_LEASE_RENEW_MS,
  JOB_RETRY_MS,
  JOBS_PER_RUN,
  MAX_ROTATIONS,
  ORIGIN_LOST_MS,
  RESULT_LOST_MS,
  RESULT_PART_BYTES,
} from './limits.ts';
import type {
  JobChange,
  NewJobEvent,
  RowFiles,
  RowParts,
  Trainer,
  TrainingJob,
  TrainingJobs,
} from './ports.ts';
import { BOOTSTRAP_TRAINER, trainerOfRow } from './require-trainer.ts';

export interface AdvanceDeps extends IntakeDeps {
  trainingJobs: TrainingJobs;
  rowFiles: Pick<RowFiles, 'get'>;
  rowParts: Pick<RowParts, 'get'>;
  originJobs: OriginJobs;
  keyLedger: Pick<KeyLedger, 'get'>;
  grantLedger: Pick<GrantLedger, 'usableBy'>;
  pageUploads: PageUploads;
  budgets: Budgets;
  usage: Pick<UsageLedger, 'add'>;
}

type KeepAlive = RequestLife['keepAlive'];

/** The schedule's part. @throws the first failure, when all jobs have had their turn. */
export async function advanceJobs(deps: AdvanceDeps, keepAlive: KeepAlive): Promise<void> {
  const { trainingJobs, now } = deps;
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<unknown>, job?: string): Promise<void> => {
    try {
      await work();
    } catch (error) {
      failures.push(error);
      logLine('training_job_failed', { job, reason: reasonOf(error) });
    }
  };
  await attempt(() => removeAtOrigins(deps));
  for (const id of await trainingJobs.attended({ now: now(), limit: JOBS_PER_RUN }))
    await attempt(() => advanceJob(deps, id, keepAlive), id);
  await attempt(() => beginJobs(deps, keepAlive));
  await attempt(() => countUsage(deps, null));
  await attempt(() => trainingJobs.tend(now()));
  if (failures.length > 0) throw failures[0];
}

/**
 * Origins delete jobs that have ended, all at once; one that is away is asked until it has. One that answers slowly, or
 * not at all, has the time of one call for all of its jobs.
 */
export async function removeAtOrigins({
  trainingJobs,
  originJobs,
  now,
}: Pick<AdvanceDeps, 'trainingJobs' | 'originJobs' | 'now'>): Promise<void> {
  const until = now() + JOB_CALL_MS;
  const jobs = await trainingJobs.deletions({ now: now(), limit: JOB_DELETIONS_PER_RUN });
  const removeAt = async (origin: string): Promise<void> => {
    for (const one of jobs.filter((job) => job.origin === origin)) {
      // An origin that has left ORIGINS deletes by itself what no edge asks about.
      const gone = !originJobs.isKnown(origin) || (await originJobs.remove(origin, one.job));
      if (gone) await trainingJobs.deleted(one);
      if (!gone || now() >= until) return;
    }
  };
  await Promise.all([...new Set(jobs.map(({ origin }) => origin))].map(removeAt));
}

/** Gives waiting jobs to origins that train and are free, a tenant's turn after the other's. */
async function beginJobs(deps: AdvanceDeps, keepAlive: KeepAlive): Promise<void> {
  const { trainingJobs, originJobs, now } = deps;
  const bases = await trainingJobs.waitingBases(now());
  if (bases.length === 0) return;
  const busy = new Set(await trainingJobs.busyOrigins());
  for (const base of bases)
    for (const origin of originJobs.of(base)) {
      if (busy.has(origin)) continue;
      const known = await originJobs.list(origin);
      // Another edge's job may run there.
      const isFree = known?.trains === true && !known.jobs.some(({ state }) => OCCUPIED.has(state));
      if (!isFree) continue;
      const job = await trainingJobs.next({ base, now: now() });
      if (job === null) break;
      busy.add(origin);
      const at = now();
      const begun = await trainingJobs.save(
        job,
        { origin, heardAt: at, beganAt: at, seen: 0 },
        { events: [event(at, 'info', 'An origin takes the job.')] },
      );
      if (begun !== null) await advanceJob(deps, job.id, keepAlive);
    }
}

const OCCUPIED: ReadonlySet<JobReport['state']> = new Set(['receiving', 'waiting', 'running']);

const event = (at: number, level: NewJobEvent['level'], message: string): NewJobEvent => ({
  at,
  level,
  message,
  metrics: null,
});

/** One job's next steps, unless somebody else attends to it. @throws StoreUnavailable */
export async function advanceJob(deps: AdvanceDeps, id: string, keepAlive: KeepAlive): Promise<void> {
  const { trainingJobs, now } = deps;
  const until = now() + JOB_LEASE_MS;
  const job = await trainingJobs.lease({ id, now: now(), until });
  if (job === null) return;
  const end = renewing(deps, { id, until });
  try {
    await attend(deps, job, keepAlive);
  } finally {
    await trainingJobs.release({ id, until: await end() });
  }
}

/** Renews a lease until it is told to end. @returns what does so; resolves to the lease's end. */
function renewing(
  { trainingJobs, now }: Pick<AdvanceDeps, 'trainingJobs' | 'now'>,
  lease: { id: string; until: number },
): () => Promise<number> {
  let { until } = lease;
  let last: Promise<unknown> = Promise.resolve();
  const renew = async (): Promise<void> => {
    const next = now() + JOB_LEASE_MS;
    try {
      if (await trainingJobs.renew({ id: lease.id, until, next })) until = next;
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      // The next one may find it in time.
    }
  };
  const timer = setInterval(() => (last = last.then(renew)), JOB_LEASE_RENEW_MS);
  return async () => {
    clearInterval(timer);
    await last;
    return until;
  };
}

/** As often as an origin can have something new at once: rows, adapters, a pause to do, and some thousand events. */
const ROUNDS = 16;

async function attend(deps: AdvanceDeps, leased: TrainingJob, keepAlive: KeepAlive): Promise<void> {
  const { originJobs } = deps;
  const trainer = await trainerOf(deps, leased);
  if (trainer === null) return void (await fail(deps, leased, KEY_ENDED));
  let job: TrainingJob | null = leased;
  const { origin } = leased;
  if (origin === null) return;
  let answer = await originJobs.report(origin, leased.id, leased.seen);
  if (answer.kind === 'unknown') {
    answer = await declare(deps, leased, origin);
    // It begins there anew: so do the numbers of its events.
    if (answer.kind === 'report') job = { ...leased, seen: 0 };
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    if (answer.kind !== 'report') {
      // It may have been given the job all the same.
      if (answer.kind === 'away') await leftBehind(deps, leased, origin);
      return unheard(deps, job, answer);
    }
    const { report }: { report: JobReport } = answer;
    const tokens = job === null ? null : await countTokens(deps, { job, report, trainer });
    job = await note(deps, { job, report, counted: tokens?.counted ?? {} });
    if (job === null) return leftBehind(deps, leased, origin);
    if (report.events.length >= MAX_JOB_EVENTS_AT_ONCE) {
      // Before it ends: the origin deletes what is left of its story then.
      answer = await originJobs.report(origin, job.id, job.seen);
      continue;
    }
    const over = tokens?.over ?? null;
    if (over !== null && report.state === 'running') return void (await fail(deps, job, over));
    if (report.state === 'failed') {
      const failure = report.failure ?? { code: 'training_failed', message: 'The training failed.' };
      return void (await fail(deps, job, { ...failure, param: null }));
    }
    if (report.state === 'done') return publish(deps, { job, report, trainer, keepAlive });
    const next = await help(deps, { job, origin, report, keepAlive });
    if (next === null) return;
    if (next.kind === 'lost') return void (await fail(deps, job, next.error));
    answer = next;
  }
}

const KEY_ENDED = {
  code: 'key_ended',
  message: 'The key that created the job has ended or may no longer train.',
  param: null,
};

/** The job's key, or the one that it was rotated into; null = it may no longer train. */
async function trainerOf(
  { keyLedger, grantLedger, now }: AdvanceDeps,
  { keyId, tenant }: TrainingJob,
): Promise<Trainer | null> {
  const grants = () => grantLedger.usableBy(tenant);
  // It is in no ledger: it neither ends nor loses a right.
  if (keyId === BOOTSTRAP_TRAINER.keyId) return { ...BOOTSTRAP_TRAINER, grants: await grants() };
  let row: KeyRow | null = await keyLedger.get(keyId);
  for (let i = 0; i < MAX_ROTATIONS && row !== null; i += 1) {
    const isOver = row.revoked_at !== null || (row.expires_at !== null && row.expires_at <= now());
    if (row.tenant !== tenant) return null;
    if (!isOver && row.train) return { ...trainerOfRow(row), grants: await grants() };
    if (!isOver || row.replaced_by === null) return null;
    row = await keyLedger.get(row.replaced_by);
  }
  return null;
}

const announced = ({ bytes, sha256 }: TrainingJob['rows']) => ({ bytes, sha256 });

const declare = ({ originJobs }: AdvanceDeps, job: TrainingJob, origin: string): Promise<JobAnswer> =>
  originJobs.declare(origin, job.id, {
    tenant: job.tenant,
    request: job.request,
    chain: job.chain,
    rows: announced(job.rows),
    ...(job.validation === null ? {} : { validation: announced(job.validation) }),
    ...(job.checkpoints === null ? {} : { checkpoints: true }),
    max_seconds: MAX_JOB_SECONDS,
  });

/** Refusals that time may change. */
const FOR_NOW: ReadonlySet<string> = new Set([
  'queue_full',
  'origin_overloaded',
  'origin_unavailable',
  'deadline_exceeded',
]);

/** The origin does not answer, or has no room, or refuses the job. */
async function unheard(
  deps: AdvanceDeps,
  job: TrainingJob | null,
  answer: Exclude<JobAnswer, { kind: 'report' }>,
): Promise<void> {
  if (job === null) return;
  const { trainingJobs, originJobs, now } = deps;
  const at = now();
  if (answer.kind === 'refused' && !FOR_NOW.has(answer.code))
    return void (await fail(deps, job, { code: answer.code, message: answer.message, param: null }));
  const isLost = at - job.heardAt > ORIGIN_LOST_MS || !originJobs.isKnown(job.origin ?? '');
  if (answer.kind !== 'refused' && !isLost) return;
  // Paused, it has its place there, and resumes when there is room.
  if (answer.kind === 'refused' && job.startedAt !== null && !isLost) return;
  const message =
    answer.kind === 'refused'
      ? 'The origin has no room for the job. It waits for its next turn.'
      : 'The origin no longer answers. The job begins again elsewhere.';
  await trainingJobs.save(
    job,
    {
      origin: null,
      status: 'queued',
      notBefore: at + JOB_RETRY_MS,
      seen: 0,
      startedAt: null,
      estimatedFinish: null,
    },
    { events: [event(at, 'warn', message)], leaves: true },
  );
}

const BEGUN: ReadonlySet<JobReport['state']> = new Set(['running', 'done', 'failed']);

/**
 * Counts what was trained since the last time in the budgets of the job's key.
 * @returns what the job is to know of it, and why it has to end, if a budget is used up.
 */
async function countTokens(
  { budgets, now }: AdvanceDeps,
  { job, report, trainer }: { job: TrainingJob; report: JobReport; trainer: Trainer },
): Promise<{ counted: JobChange; over: NonNullable<TrainingJob['error']> | null }> {
  // One that began anew elsewhere is paid for what was counted.
  const trained = Math.max(job.trained, report.result?.card.tokens ?? report.tokens);
  if (trained === job.spent && report.state !== 'running') return { counted: { trained }, over: null };
  const tokens = { job: job.id, from: job.spent, total: Math.max(trained, job.spent) };
  const { counted, least } = await budgets.spend(trainer.limited, tokens);
  const change = { trained, spent: counted ? tokens.total : job.spent };
  if (least === null || least.left > 0) return { counted: change, over: null };
  const { budget, renewed } = budgetWords(least, now());
  const message =
    `${budget} is used up: the job was ended at step ${report.step} of ${report.steps}, with ${trained} tokens ` +
    `trained. ${renewed}. Create the job again then, or ask for a larger budget.`;
  return { counted: change, over: { code: 'insufficient_quota', message, param: null } };
}

/** Usage of a job that ends. @returns null if it has trained nothing. */
export const usageOf = (
  { tenant, keyId, name, base, trained, doneAt }: TrainingJob,
  end: { at: number; version?: number; errors?: number },
): UsageRow | null =>
  trained === 0
    ? null
    : {
        tenant,
        hour: Math.floor((doneAt ?? end.at) / 3_600_000),
        keyId,
        name,
        version: end.version ?? 0,
        base,
        requests: 1,
        errors: end.errors ?? 0,
        promptTokens: trained,
        completionTokens: 0,
      };

/** Records what an origin says. @returns null if the job was changed meanwhile: whoever did has the word. */
function note(
  deps: AdvanceDeps,
  of: { job: TrainingJob | null; report: JobReport; counted: JobChange },
): Promise<TrainingJob | null> {
  const { job, report, counted } = of;
  if (job === null) return Promise.resolve(null);
  const { trainingJobs, now } = deps;
  const at = now();
  const news = report.events.filter(({ number }) => number > job.seen);
  const hasBegun = BEGUN.has(report.state);
  const change: JobChange = {
    ...counted,
    heardAt: at,
    seen: Math.max(job.seen, ...news.map(({ number }) => number)),
    status: job.wanted === 'pause' ? 'paused' : hasBegun ? 'running' : 'queued',
    startedAt: job.startedAt ?? (hasBegun ? at : null),
    doneAt: report.state === 'done' ? (job.doneAt ?? at) : null,
    estimatedFinish:
      report.seconds_left === null
        ? null
        : at + Math.ceil(Math.min(report.seconds_left, MAX_JOB_SECONDS) * 1_000),
  };
  return trainingJobs.save(job, change, {
    events: news.map(({ at: when, level, message, metrics }) => ({ at: when, level, message, metrics })),
  });
}

/**
 * A job that was ended or erased while its origin was given it: the deletion that was noted then may have come before
 * the job.
 */
async function leftBehind(
  deps: AdvanceDeps,
  { id, tenant }: Pick<TrainingJob, 'id' | 'tenant'>,
  origin: string,
): Promise<void> {
  const { trainingJobs } = deps;
  const now = await trainingJobs.get({ id, tenant });
  if (now?.origin === origin) return;
  await trainingJobs.leaves({ origin, job: id });
  await removeAtOrigins(deps);
}

type Lost = { kind: 'lost'; error: NonNullable<TrainingJob['error']> };

/** Does what the origin waits for. @returns its answer; null if there is nothing to do, or not now. */
async function help(
  deps: AdvanceDeps,
  of: { job: TrainingJob; origin: string; report: JobReport; keepAlive: KeepAlive },
): Promise<JobAnswer | Lost | null> {
  const { originJobs } = deps;
  const { job, origin, report, keepAlive } = of;
  const { id, wanted } = job;
  if (report.state === 'receiving') return sendRows(deps, of);
  if (wanted === 'pause')
    return report.state === 'paused' ? null : unlessRefused(await originJobs.steer(origin, id, 'pause'));
  if (report.state === 'paused') return unlessRefused(await originJobs.steer(origin, id, 'resume'));
  if (report.state !== 'waiting') return null;
  // An origin cannot ask for others' adapters.
  const missing = report.missing_adapters.filter((digest) =>
    job.chain.some((member) => member.digest === digest),
  );
  if (missing.length === 0) return null;
  const brought = await originJobs.bring(origin, missing, keepAlive);
  return brought ? originJobs.report(origin, id, job.seen) : null;
}

/** It cannot be paused or go on now: the next step tries again. */
const unlessRefused = (answer: JobAnswer): JobAnswer | null => (answer.kind === 'refused' ? null : answer);

async function sendRows(
  deps: AdvanceDeps,
  { job, origin, report }: { job: TrainingJob; origin: string; report: JobReport },
): Promise<JobAnswer | Lost | null> {
  const { originJobs, rowFiles, rowParts, now } = deps;
  const { id, tenant } = job;
  let first = 0;
  let answer: JobAnswer | null = null;
  for (const param of ['training_file', 'validation_file'] as const) {
    const sent = param === 'training_file' ? job.rows : job.validation;
    if (sent === null) continue;
    const file = await rowFiles.get({ id: sent.file, tenant, now: now() });
    if (file === null) return { kind: 'lost', error: fileGone(param) };
    for (const index of report.missing_parts) {
      if (index < first || index >= first + file.parts) continue;
      const bytes = await rowParts.get({ tenant, file: sent.file, part: index - first });
      if (bytes === null) {
        // KV may be a minute behind.
        if (now() - file.createdAt < PART_SETTLE_MS) return null;
        return { kind: 'lost', error: fileDamaged(param) };
      }
      answer = await originJobs.sendRows(origin, id, { index, bytes });
      if (answer.kind !== 'report') return answer;
    }
    first += file.parts;
  }
  return answer;
}

type FileParam = 'training_file' | 'validation_file';
const nameOf = (param: FileParam): string => param.replace('_', ' ');

const fileGone = (param: FileParam) => ({
  code: 'file_not_found',
  message: `The ${nameOf(param)} was deleted, or expired, before an origin had it.`,
  param,
});
const fileDamaged = (param: FileParam) => ({
  code: 'file_damaged',
  message: `A part of the ${nameOf(param)} is missing or damaged in the store. Send the file again.`,
  param,
});

/** Ends the job without a result. @returns null if somebody has changed it since. */
export function fail(
  deps: Pick<AdvanceDeps, 'trainingJobs' | 'now'>,
  job: TrainingJob,
  error: NonNullable<TrainingJob['error']>,
): Promise<TrainingJob | null> {
  const at = deps.now();
  logLine('training_job_ended', { job: job.id, tenant: job.tenant, code: error.code }, 'info');
  return deps.trainingJobs.save(
    job,
    { status: 'failed', finishedAt: at, origin: null, estimatedFinish: null, error },
    { events: [event(at, 'error', error.message)], leaves: true, usage: usageOf(job, { at, errors: 1 }) },
  );
}

/** Errors that say nothing of the adapter: the next step tries again. */
const MAY_PASS: ReadonlySet<ApiError['code']> = new Set([
  'origin_unavailable',
  'registry_unavailable',
  'adapter_unavailable',
  'adapter_loading',
  'edge_busy',
  'queue_full',
  'deadline_exceeded',
  // Somebody else changes the name.
  'version_conflict',
]);

/** Packed, at its origin. */
type Packed = NonNullable<JobReport['result']>;

/** Makes a staged version of the result, once, with every check of a publication; before it, of its checkpoints. */
async function publish(
  deps: AdvanceDeps,
  of: { job: TrainingJob; report: JobReport; trainer: Trainer; keepAlive: KeepAlive },
): Promise<void> {
  const { report } = of;
  const { now, trainingJobs } = deps;
  const card = cardOf(of.job, report.result);
  if (report.result === null || card === null) return void (await fail(deps, of.job, NOT_ITS_OWN));
  const job = await publishCheckpoints(deps, of);
  if (job === null) return;
  const published = await versionOf(deps, { ...of, job, card, packed: report.result, step: null });
  if (!published.ok) {
    if (mayPass(published.error) && !isOver(deps, job, RESULT_LOST_MS)) return;
    const { code, message } = published.error;
    return void (await fail(deps, job, { code, message, param: null }));
  }
  const at = now();
  const { tokens, steps } = card;
  const version = published.value;
  const result = { version, tokens, steps, ...lossesOf(card) };
  const message = `Published as '${job.name}@${version}', staged: promote it to make it live.`;
  await trainingJobs.save(
    job,
    { status: 'succeeded', finishedAt: at, origin: null, estimatedFinish: null, result },
    { events: [event(at, 'info', message)], leaves: true, usage: usageOf(job, { at, version }) },
  );
}

/**
 * Publishes those that are neither published nor given up. One that cannot be published ends as a warning.
 * @returns the job as it is then; null = its result has to wait, or somebody has changed the job.
 */
async function publishCheckpoints(
  deps: AdvanceDeps,
  of: Parameters<typeof publish>[1],
): Promise<TrainingJob | null> {
  const { now, trainingJobs } = deps;
  let job: TrainingJob | null = of.job;
  if (job.checkpoints === null) return job;
  for (const packed of of.report.checkpoints) {
    const { steps: step } = packed.card;
    const known: NonNullable<TrainingJob['checkpoints']> = job.checkpoints ?? [];
    if (known.some((one) => one.step === step)) continue;
    const card = cardOf(job, packed);
    const published = card === null ? null : await versionOf(deps, { ...of, job, card, packed, step });
    if (published?.ok === false && mayPass(published.error) && !isOver(deps, job, CHECKPOINT_LOST_MS))
      return null;
    const version = published?.ok === true ? published.value : null;
    const problem = published?.ok === false ? published.error.message : NOT_ITS_OWN.message;
    const at = now();
    const told =
      version === null
        ? event(at, 'warn', `The checkpoint of step ${step} is not published: ${problem}`)
        : event(at, 'info', `Published the checkpoint of step ${step} as '${job.name}@${version}', staged.`);
    const one = { step, at, version, ...lossesOf(packed.card) };
    job = await trainingJobs.save(job, { checkpoints: [...known, one] }, { events: [told] });
    if (job === null) return null;
  }
  return job;
}

/** @returns null if it is not this job's. */
function cardOf(job: TrainingJob, packed: Packed | null): TrainingCard | null {
  const card = SentTrainingCard.safeParse(packed?.card);
  const isOwn =
    card.success &&
    card.data.rows.sha256 === job.rows.sha256 &&
    card.data.rows.held_out_sha256 === job.validation?.sha256;
  return isOwn ? card.data : null;
}

const NOT_ITS_OWN = {
  code: 'training_failed',
  message: 'The origin returned a result that does not belong to this job.',
  param: null,
};

const lossesOf = ({ curve, scores }: TrainingCard) => ({
  train_loss: curve.at(-1)?.[1] ?? null,
  valid_loss: scores?.loss ?? null,
});

/** A part that the store has lost is fetched again. */
const mayPass = (error: ApiError): boolean =>
  MAY_PASS.has(error.code) || ('reason' in error && error.reason === 'part_missing');

const isOver = ({ now }: AdvanceDeps, { doneAt }: TrainingJob, ms: number): boolean =>
  now() - (doneAt ?? now()) > ms;

/** @param of.step of a checkpoint; null = the result. */
async function versionOf(
  deps: AdvanceDeps,
  of: {
    job: TrainingJob;
    trainer: Trainer;
    keepAlive: KeepAlive;
    card: TrainingCard;
    packed: Packed;
    step: number | null;
  },
): Promise<Result<number, ApiError>> {
  const { job, trainer, keepAlive, card, packed, step } = of;
  const { pageUploads, trainingJobs } = deps;
  const { id, tenant, name, parent } = job;
  const token = step === null ? id : `${id}:${step}`;
  const before = await pageUploads.versionOf(token);
  if (before !== null) return ok(before);
  const fetched = await fetchPacked(deps, { job, packed, step, token });
  if (!fetched.ok) return fetched;
  const published = await publishVersion(
    { ...deps, mayUseChain },
    {
      request: {
        name,
        digest: packed.digest,
        parent,
        stage: true,
        training: card,
        why: step === null ? `fine-tuning job ${id}` : `checkpoint of step ${step} of fine-tuning job ${id}`,
      },
      caller: trainer,
      life: { signal: new AbortController().signal, keepAlive },
      upload: {
        token,
        keyId: trainer.keyId,
        right: 'train',
        job: id,
        refusal: async () => {
          if ((await trainingJobs.get({ id, tenant }))?.finishedAt !== null) return OVER;
          return (await trainerOf(deps, job)) === null ? { ...OVER, message: KEY_ENDED.message } : null;
        },
      },
    },
  );
  return published.ok ? ok(published.value.row.version) : published;
}

const OVER: ApiError = { code: 'insufficient_scope', message: 'The job has ended.' };

/** Brings it into the store, part by part; what is there already is not fetched again. */
async function fetchPacked(
  deps: AdvanceDeps,
  of: { job: TrainingJob; packed: Packed; step: number | null; token: string },
): Promise<Result<null, ApiError>> {
  const { originJobs, pageUploads, uploadMemory, now } = deps;
  const { job, packed, step, token } = of;
  const { id, tenant, origin } = job;
  const { digest, bytes } = packed;
  const size = Math.max(RESULT_PART_BYTES, Math.ceil(bytes / MAX_PARTS));
  if (size > MAX_PART_BYTES)
    return err({ code: 'request_too_large', message: 'The result is larger than any adapter may be.' });
  await pageUploads.claim({
    token,
    tenant,
    digest,
    bytes: 0,
    most: Number.MAX_SAFE_INTEGER,
    files: 1,
    expiresAt: now() + JOB_KEPT_MS,
  });
  const sender = pageUploads.sentWith({ token, digest });
  const sent = new Map((await sender.sent()).map((part) => [part.index, part]));
  const parts: { bytes: number; sha256: string }[] = [];
  for (let begin = 0, index = 0; begin < bytes; begin += size, index += 1) {
    const length = Math.min(size, bytes - begin);
    const known = sent.get(index);
    if (known?.stored === true && known.bytes === length) {
      parts.push({ bytes: length, sha256: known.sha256 });
      continue;
    }
    const received = await uploadMemory.hold({ tenant, kind: 'part', bytes: length }, async (alive) => {
      const slice = await originJobs.result(origin ?? '', id, { step, begin, bytes: length });
      alive();
      if (slice === null) return err(notFetched(step === null ? 'the result' : 'its file'));
      return receivePart(deps, { digest, index, bytes: slice, sha256: null, tenant, sender });
    });
    if (!received.ok) return received;
    parts.push({ bytes: length, sha256: received.value.sha256 });
  }
  const done = await finishBlob(deps, { digest, record: { bytes, parts }, tenant, sender });
  return done.ok ? ok(null) : done;
}

const notFetched = (what: string): ApiError => ({
  code: 'origin_unavailable',
  message: `The origin did not send ${what}.`,
  retryAfterMs: JOB_RETRY_MS,
});
