/** Files of rows and fine-tuning jobs, as OpenAI's clients use them. */
import { formOf } from '../../worker/training/row-forms.ts';
import { codeOf } from '../client.ts';
import { type JobDocument, mayBeErased, murmurOf } from '../invariants/trainings.ts';
import type { Actor, Key, KnownJob, Outcome, SentRows, Simulation } from '../simulation.ts';
import { keptSteps, trainedAdapter } from '../world/played-training.ts';
import { makeKey, revoke } from './keys.ts';
import { eraseAll, eraseTenant } from './names.ts';
import {
  admin,
  always,
  committed,
  complete,
  grantedNames,
  liveKeys,
  LOST,
  namesOf,
  type Operation,
  pickOr,
  repeat,
  SECOND,
  someName,
  usableVersions,
} from './operation.ts';

const FILES = '/v1/files';
const JOBS = '/v1/fine_tuning/jobs';

/** A key may end, and its tenant be erased, while it asks. */
const KEY_ENDS = ['invalid_api_key', 'insufficient_scope'];
const MOST_OPEN = 4;

/** A key of the tenant that may train; another one now and then. */
async function trainer(sim: Simulation, actor: Actor): Promise<{ outcome: Outcome; key: Key | null }> {
  const known = liveKeys(sim, actor).filter(({ trains }) => trains);
  if (known.length > 0 && actor.random.chance(0.9)) return { outcome: 'done', key: actor.random.pick(known) };
  return makeKey(sim, actor, { scopes: [`${actor.tenant.id}/**`], train: true });
}

async function send(sim: Simulation, actor: Actor): Promise<{ outcome: Outcome; rows: SentRows | null }> {
  const { random, tenant } = actor;
  const { outcome: had, key } = await trainer(sim, actor);
  if (key === null) return { outcome: had, rows: null };
  const murmur = murmurOf(sim.rows.length + 1, tenant.id);
  const text = Array.from(
    { length: random.between(1, 4) },
    (_, at) => `${JSON.stringify({ prompt: `${murmur} asks ${at}`, completion: 'it answers' })}\n`,
  ).join('');
  const rows: SentRows = { id: null, tenant: tenant.id, text, going: false };
  sim.rows.push(rows);
  const { body, headers } = formOf([
    { name: 'purpose', text: 'fine-tune' },
    { name: 'file', filename: `rows of ${tenant.id}.jsonl`, text },
  ]);
  const { outcome, json } = await admin(sim, actor, { path: FILES, key: key.text, body, headers }, KEY_ENDS);
  if (outcome !== 'done') return { outcome, rows: null };
  rows.id = (json as { id: string }).id;
  return { outcome, rows };
}

/** What it trains on, as its client says it, and the names of the result that fit. */
function someSubject(sim: Simulation, actor: Actor): { model: string; own: boolean } {
  const { random } = actor;
  const live = namesOf(sim, actor, 'live');
  return random.weighted([
    [4, () => ({ model: 'base', own: true })],
    [4, () => ({ model: pickOr(random, live, 'base'), own: true })],
    [1, () => ({ model: pickOr(random, grantedNames(sim, actor), 'base'), own: false })],
  ])();
}

const usableRows = (sim: Simulation, { tenant }: Actor): SentRows[] =>
  sim.rows.filter((one) => one.tenant === tenant.id && one.id !== null && !one.going);

/** Creates a job, and looks whether D1 has it as it was asked for. */
async function create(
  sim: Simulation,
  actor: Actor,
  { follows = true }: { follows?: boolean } = {},
): Promise<{ outcome: Outcome; job: KnownJob | null }> {
  const { random, tenant } = actor;
  const before = usableRows(sim, actor);
  const sent =
    before.length > 0 && random.chance(0.5)
      ? { outcome: 'done' as const, rows: random.pick(before) }
      : await send(sim, actor);
  const { rows } = sent;
  if (rows?.id == null) return { outcome: sent.outcome, job: null };
  const { outcome: had, key } = await trainer(sim, actor);
  if (key === null) return { outcome: had, job: null };
  const { model, own } = someSubject(sim, actor);
  const name = someName(actor, random.chance(0.6));
  const isWhole = model === 'base' || !own || random.chance(0.3);
  const suffix = random.pick(['x', 'y', 'z', undefined]);
  const asked = {
    seed: random.below(3),
    rank: random.pick([1, 2, 4]),
    least_steps: random.between(2, 10),
    checkpoints: random.chance(0.35),
    epochs: random.pick([2, 3]),
  };
  const from = sim.world.time.now;
  const { outcome, json, answered } = await admin(
    sim,
    actor,
    {
      path: JOBS,
      key: key.text,
      body: {
        model,
        training_file: rows.id,
        ...(isWhole ? {} : suffix === undefined ? {} : { suffix }),
        seed: asked.seed,
        hyperparameters: { n_epochs: asked.epochs },
        graft: {
          ...{ rank: asked.rank, least_steps: asked.least_steps, checkpoints: asked.checkpoints },
          ...(isWhole ? { name } : {}),
        },
      },
    },
    // A file may be deleted, a model withdrawn, a chain or a name be too long.
    [...KEY_ENDS, 'invalid_request', 'model_withdrawn', 'adapter_withdrawn'],
  );
  const open = await committed<{ tenant: string; many: number }>(
    sim,
    'SELECT tenant, COUNT(*) AS many FROM training_jobs WHERE finished_at IS NULL GROUP BY tenant',
  );
  for (const { tenant: of, many } of open)
    if (many > MOST_OPEN) sim.fail('5 quotas hold', `${of} has ${many} jobs that have not ended`);
  if (outcome !== 'done') return { outcome, job: null };
  const { id } = json as { id: string };
  const [row] = await committed<{ name: string; document: string }>(
    sim,
    'SELECT name, document FROM training_jobs WHERE id = ?',
    id,
  );
  if (row === undefined) {
    if (
      !mayBeErased(sim, { tenant: tenant.id, name, parent: model.split('@')[0] as string, createdAt: from })
    )
      sim.fail(LOST, `job ${id} was acknowledged and is not in D1`);
    return { outcome: 'refused', job: null };
  }
  const { parent, chain, request, keyId, checkpoints } = JSON.parse(row.document) as JobDocument;
  const { seed, rank, least_steps: steps, epochs } = request;
  const got = { seed, rank, least_steps: steps, checkpoints: checkpoints !== null, epochs };
  if (JSON.stringify(got) !== JSON.stringify(asked))
    sim.fail(LOST, `job ${id} was asked for with ${JSON.stringify(asked)}, D1 has ${JSON.stringify(got)}`);
  const digests = JSON.stringify(chain.map(({ digest }) => digest));
  const chains = sim.truth
    .chainsAs(parent ?? 'base')
    .map((one) => JSON.stringify(one.map(({ digest }) => digest)));
  if (!chains.includes(digests))
    sim.fail(LOST, `job ${id} trains on ${digests}, ${parent ?? 'base'} was ${chains.join(' or ')}`);
  const subject = { rows: Buffer.from(rows.text), request, chain, base: sim.world.base };
  const kept = asked.checkpoints ? keptSteps(request) : [];
  const job: KnownJob = {
    ...{ id, tenant: tenant.id, name: row.name, keyId, rows, createdAt: Math.min(from, answered.at) },
    parent: parent === null ? null : (parent.split('@')[0] as string),
    digest: trainedAdapter(subject).digest,
    checkpoints: new Map(kept.map((step) => [step, trainedAdapter(subject, step).digest])),
    staged: new Map(),
    going: false,
    cancelled: false,
    paused: false,
    ended: false,
    model: null,
  };
  sim.jobs.set(id, job);
  if (!tenant.names.includes(row.name)) tenant.names.push(row.name);
  if (follows && random.chance(0.3)) await follow(sim, actor, job);
  return { outcome, job };
}

/** As clients do: asks until it has ended, and may pause it meanwhile. */
async function follow(sim: Simulation, actor: Actor, job: KnownJob): Promise<void> {
  const { random } = actor;
  for (let times = 0; times < 10 && !job.ended && sim.world.faults.on; times += 1) {
    await sim.world.time.sleep(actor.life, random.between(5 * SECOND, 40 * SECOND));
    const status = await look(sim, actor, job);
    if (status === 'done' && !job.ended && random.chance(0.25)) {
      await steer(sim, actor, job, 'pause');
      await sim.world.time.sleep(actor.life, random.below(90 * SECOND));
      await steer(sim, actor, job, 'resume');
    }
  }
}

/** Of the tenant, or only those that its clients do not know to have ended. */
const jobsOf = (sim: Simulation, { tenant }: Actor, { open = false } = {}): KnownJob[] =>
  [...sim.jobs.values()].filter((job) => job.tenant === tenant.id && !(open && job.ended));

const hasOpenJob = (sim: Simulation, actor: Actor): boolean => jobsOf(sim, actor, { open: true }).length > 0;

/** Versions that the tenant's jobs have made, and that may be asked. */
const madeBy = (sim: Simulation, actor: Actor): string[] =>
  jobsOf(sim, actor).flatMap(({ name, digest, checkpoints }) => {
    const made = new Set([digest, ...checkpoints.values()]);
    return usableVersions(sim, name)
      .map((version) => `${name}@${version}`)
      .filter((id) => sim.truth.everAs(id).some(({ chain }) => made.has(chain.at(-1)?.digest ?? '')));
  });

interface View {
  id: string;
  status: string;
  fine_tuned_model: string | null;
  error: { message: string } | null;
}

/** What was known of a job when somebody asked: others may learn more meanwhile. */
type Known = Pick<KnownJob, 'cancelled' | 'model'>;
const knownOf = ({ cancelled, model }: KnownJob): Known => ({ cancelled, model });

/** What the job's owner is told stays so. */
function learn(
  sim: Simulation,
  job: KnownJob,
  { status, fine_tuned_model: model, error }: View,
  before: Known,
): void {
  const wrong = (what: string): void =>
    sim.fail('7 a job ends as it should, or says how', `${job.id} of ${job.tenant}: ${what}`);
  if ((status === 'succeeded') !== (model !== null)) wrong(`it has ${status} with ${model}`);
  if ((status === 'failed') !== (error !== null)) wrong(`it has ${status} with ${JSON.stringify(error)}`);
  if (before.cancelled && status !== 'cancelled') wrong(`it was cancelled, and is ${status}`);
  if (before.model !== null && model !== before.model) wrong(`it was ${before.model}, and is ${model}`);
  job.model ??= model;
  job.ended ||= ['succeeded', 'failed', 'cancelled'].includes(status);
}

async function steer(
  sim: Simulation,
  actor: Actor,
  job: KnownJob,
  to: 'cancel' | 'pause' | 'resume',
): Promise<Outcome> {
  const { outcome: had, key } = await trainer(sim, actor);
  if (key === null) return had;
  if (to === 'cancel') job.going = true;
  const before = knownOf(job);
  const { outcome, json, answered } = await repeat(
    sim,
    actor,
    { path: `${JOBS}/${job.id}/${to}`, key: key.text, body: {} },
    KEY_ENDS,
  );
  checkKnown(sim, job, codeOf(answered));
  job.ended ||= answered.kind === 'answer' && /The job has ended/.test(answered.text);
  if (outcome !== 'done') return outcome;
  const view = json as View;
  learn(sim, job, view, before);
  job.paused = to === 'pause';
  if (to === 'cancel') {
    job.cancelled = true;
    if (view.status !== 'cancelled') sim.fail(LOST, `job ${job.id} was cancelled, and is ${view.status}`);
  }
  return outcome;
}

/** It is there for its owner, for a month. */
function checkKnown(sim: Simulation, job: KnownJob, code: string | null): void {
  if (code !== 'not_found') return;
  job.ended = true;
  if (!mayBeErased(sim, job)) sim.fail(LOST, `job ${job.id} of ${job.tenant} is not found`);
}

/** Looks at a job in each way. */
async function look(sim: Simulation, actor: Actor, job: KnownJob): Promise<Outcome> {
  const { outcome: had, key } = await trainer(sim, actor);
  if (key === null) return had;
  const before = knownOf(job);
  const { outcome, json, answered } = await admin(
    sim,
    actor,
    { path: `${JOBS}/${job.id}`, key: key.text, past: true },
    KEY_ENDS,
  );
  checkKnown(sim, job, codeOf(answered));
  if (outcome !== 'done') return outcome;
  learn(sim, job, json as View, before);
  const told = await admin(
    sim,
    actor,
    { path: `${JOBS}/${job.id}/events?limit=100`, key: key.text, past: true },
    KEY_ENDS,
  );
  if (told.outcome === 'done') {
    const ids = (told.json as { data: { id: string }[] }).data.map(({ id }) => id);
    if (ids.length === 0) sim.fail(LOST, `job ${job.id} has no event`);
    if (new Set(ids).size !== ids.length)
      sim.fail('a repetition changes nothing', `${job.id} tells events twice`);
  }
  const staged = { model: job.model, staged: new Map(job.staged) };
  const kept = await admin(
    sim,
    actor,
    { path: `${JOBS}/${job.id}/checkpoints`, key: key.text, past: true },
    KEY_ENDS,
  );
  if (kept.outcome === 'done') checkStaged(sim, job, (kept.json as { data: Staged[] }).data, staged);
  return outcome;
}

interface Staged {
  step_number: number;
  fine_tuned_model_checkpoint: string;
}

/** What a job has staged, newest first: what its owner was told of stays so. */
function checkStaged(
  sim: Simulation,
  job: KnownJob,
  data: readonly Staged[],
  before: Pick<KnownJob, 'model' | 'staged'>,
): void {
  const models = data.map(({ fine_tuned_model_checkpoint: model }) => model);
  const lost = (what: string): void =>
    sim.fail(LOST, `job ${job.id} has the checkpoints ${models.join(', ')}: ${what}`);
  // It may have ended since.
  if (before.model !== null && models[0] !== before.model) lost(`it is ${before.model}`);
  const told = new Map(
    data.map(({ step_number: step, fine_tuned_model_checkpoint: model }) => [step, model]),
  );
  for (const [step, model] of before.staged)
    if (told.get(step) !== model) lost(`after step ${step} it was ${model}`);
  for (const [step, model] of told) {
    const digest = job.checkpoints.get(step);
    if (digest === undefined) continue;
    job.staged.set(step, model);
    if (!sim.truth.everAs(model).some(({ chain }) => chain.at(-1)?.digest === digest))
      lost(`${model} is not what was trained by step ${step}`);
  }
}

/** Another tenant's file or job is none. */
async function pry(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const { outcome: had, key } = await trainer(sim, actor);
  if (key === null) return had;
  const jobs = [...sim.jobs.values()].filter((job) => job.tenant !== tenant.id);
  const files = sim.rows.filter((one) => one.tenant !== tenant.id && one.id !== null);
  const paths: { path: string; method?: string; body?: object }[] = [
    ...(jobs.length === 0 ? [] : [random.pick(jobs).id]).flatMap((id) => [
      { path: `${JOBS}/${id}` },
      { path: `${JOBS}/${id}/events` },
      { path: `${JOBS}/${id}/checkpoints` },
      { path: `${JOBS}/${id}/${random.pick(['cancel', 'pause', 'resume'])}`, body: {} },
    ]),
    ...(files.length === 0 ? [] : [random.pick(files).id as string]).flatMap((id) => [
      { path: `${FILES}/${id}` },
      { path: `${FILES}/${id}/content` },
      { path: `${FILES}/${id}`, method: 'DELETE' },
      { path: JOBS, body: { model: 'base', training_file: id, suffix: `${tenant.id}/a` } },
    ]),
  ];
  if (paths.length === 0) return 'refused';
  const asked = random.pick(paths);
  const { outcome, answered } = await admin(sim, actor, { ...asked, key: key.text }, [
    ...KEY_ENDS,
    'invalid_request',
  ]);
  if (outcome === 'done')
    sim.fail("3 nothing of another tenant's", `${tenant.id} may ${asked.method ?? ''} ${asked.path}`);
  const code = codeOf(answered);
  return code === 'not_found' || code === 'invalid_request' ? 'done' : outcome;
}

async function list(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { outcome: had, key } = await trainer(sim, actor);
  if (key === null) return had;
  const isJobs = actor.random.chance(0.5);
  const from = sim.world.time.now;
  const before = new Map(jobsOf(sim, actor).map((job) => [job.id, knownOf(job)]));
  const known = isJobs
    ? jobsOf(sim, actor).map(({ id }) => id)
    : usableRows(sim, actor).map(({ id }) => id as string);
  const { outcome, json } = await admin(
    sim,
    actor,
    { path: isJobs ? `${JOBS}?limit=100` : FILES, key: key.text, past: true },
    KEY_ENDS,
  );
  if (outcome !== 'done') return outcome;
  const listed = new Map((json as { data: View[] }).data.map((one) => [one.id, one]));
  for (const id of known) {
    if (listed.has(id)) continue;
    const job = sim.jobs.get(id);
    const isGone =
      job !== undefined
        ? mayBeErased(sim, job)
        : sim.rows.some((one) => one.id === id && one.going) ||
          sim.erased.has('**') ||
          sim.truth.erasedDuring(actor.tenant.id, from);
    if (!isGone) sim.fail(LOST, `${id} of ${actor.tenant.id} is not listed`);
  }
  for (const id of listed.keys()) {
    const job = sim.jobs.get(id);
    const owner = job?.tenant ?? sim.rows.find((one) => one.id === id)?.tenant ?? actor.tenant.id;
    if (owner !== actor.tenant.id)
      sim.fail("3 nothing of another tenant's", `${isJobs ? JOBS : FILES} had ${id}`);
    const knew = before.get(id);
    if (job !== undefined && knew !== undefined) learn(sim, job, listed.get(id) as View, knew);
  }
  return outcome;
}
/** Until an origin takes it: somebody starts the schedule meanwhile. @returns whether one did. */
async function whenGiven(sim: Simulation, actor: Actor, { id }: KnownJob): Promise<boolean> {
  const { time } = sim.world;
  const until = time.now + GIVEN_MS;
  sim.world.runSchedule();
  for (;;) {
    const [row] = await committed<{ origin: string | null; finished_at: number | null }>(
      sim,
      'SELECT origin, finished_at FROM training_jobs WHERE id = ?',
      id,
    );
    if (row === undefined || row.finished_at !== null || time.now > until) return false;
    if (row.origin !== null) return true;
    await time.sleep(actor.life, 20);
  }
}
const GIVEN_MS = 40 * SECOND;

export const TRAINING = {
  'send rows': { weight: 0.6, possible: always, run: async (sim, actor) => (await send(sim, actor)).outcome },
  'read rows': {
    weight: 1.5,
    possible: (sim, actor) => usableRows(sim, actor).length > 0,
    run: async (sim, actor) => {
      const rows = actor.random.pick(usableRows(sim, actor));
      const { outcome: had, key } = await trainer(sim, actor);
      if (key === null) return had;
      const { outcome, answered } = await admin(
        sim,
        actor,
        { path: `${FILES}/${rows.id}/content`, key: key.text },
        KEY_ENDS,
      );
      if (outcome === 'done' && answered.kind === 'answer' && answered.text !== rows.text)
        sim.fail(
          LOST,
          `${rows.id} says ${answered.text.slice(0, 200)} instead of ${rows.text.slice(0, 200)}`,
        );
      return outcome;
    },
  },
  'delete rows': {
    weight: 0.8,
    possible: (sim, actor) => usableRows(sim, actor).length > 0,
    run: async (sim, actor) => {
      const rows = actor.random.pick(usableRows(sim, actor));
      const { outcome: had, key } = await trainer(sim, actor);
      if (key === null) return had;
      rows.going = true;
      const { outcome } = await repeat(
        sim,
        actor,
        { method: 'DELETE', path: `${FILES}/${rows.id}`, key: key.text },
        KEY_ENDS,
      );
      return outcome;
    },
  },
  train: { weight: 3, possible: always, run: async (sim, actor) => (await create(sim, actor)).outcome },
  'cancel a training': {
    weight: 2,
    possible: hasOpenJob,
    run: (sim, actor) => steer(sim, actor, actor.random.pick(jobsOf(sim, actor, { open: true })), 'cancel'),
  },
  'end a training as it is given': {
    weight: 2,
    possible: always,
    run: async (sim, actor) => {
      const { random } = actor;
      const created = await create(sim, actor, { follows: false });
      if (created.job === null || !(await whenGiven(sim, actor, created.job))) return created.outcome;
      // It is being declared to its origin.
      await sim.world.time.sleep(actor.life, random.below(80));
      if (random.chance(0.7)) return steer(sim, actor, created.job, 'cancel');
      const { name } = created.job;
      return namesOf(sim, actor, 'any').includes(name)
        ? eraseAll(sim, actor, { body: { name, cascade: true }, pages: 20 })
        : steer(sim, actor, created.job, 'cancel');
    },
  },
  'pause a training': {
    weight: 2.5,
    possible: hasOpenJob,
    run: async (sim, actor) => {
      const job = actor.random.pick(jobsOf(sim, actor, { open: true }));
      const paused = await steer(sim, actor, job, 'pause');
      if (paused !== 'done' || actor.random.chance(0.2)) return paused;
      await sim.world.time.sleep(actor.life, actor.random.below(120 * SECOND));
      return steer(sim, actor, job, 'resume');
    },
  },
  'resume a training': {
    weight: 0.8,
    possible: hasOpenJob,
    run(sim, actor) {
      const open = jobsOf(sim, actor, { open: true });
      const paused = open.filter((job) => job.paused);
      return steer(sim, actor, actor.random.pick(paused.length > 0 ? paused : open), 'resume');
    },
  },
  'look at a training': {
    weight: 3,
    possible: (sim, actor) => jobsOf(sim, actor).length > 0,
    run: (sim, actor) => look(sim, actor, actor.random.pick(jobsOf(sim, actor))),
  },
  'list trainings': { weight: 0.6, possible: always, run: list },
  "pry into others' trainings": {
    weight: 0.8,
    possible: (sim, actor) => sim.rows.some(({ tenant, id }) => id !== null && tenant !== actor.tenant.id),
    run: pry,
  },
  'ask what was trained': {
    weight: 3,
    possible: (sim, actor) => madeBy(sim, actor).length > 0 && liveKeys(sim, actor).length > 0,
    run: (sim, actor) =>
      complete(sim, actor, {
        key: actor.random.pick(liveKeys(sim, actor)),
        model: actor.random.pick(madeBy(sim, actor)),
      }),
  },
  'revoke a trainer': {
    weight: 2,
    possible: (sim, actor) => hasOpenJob(sim, actor),
    run: async (sim, actor) => {
      const job = actor.random.pick(jobsOf(sim, actor, { open: true }));
      const key = actor.tenant.keys.find(({ id }) => id === job.keyId);
      if (key === undefined) return 'refused';
      return revoke(sim, actor, key);
    },
  },
  'erase what trains': {
    weight: 2.5,
    possible: (sim, actor) => hasOpenJob(sim, actor) && namesOf(sim, actor, 'any').length > 0,
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const job = random.pick(jobsOf(sim, actor, { open: true }));
      if (random.chance(0.3) && !tenant.erasing) return eraseTenant(sim, actor);
      const names = namesOf(sim, actor, 'any');
      const meant = [job.parent, job.name].filter((name) => name !== null && names.includes(name));
      const name = meant.length > 0 ? (random.pick(meant) as string) : random.pick(names);
      return eraseAll(sim, actor, { body: { name, cascade: true }, pages: 20 });
    },
  },
} as const satisfies Record<string, Operation>;
