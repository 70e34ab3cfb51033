/** Fine-tuning jobs: each ends as it should or says how, publishes once what was trained as a whole, and leaves no rows. */
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { TrainingRequest } from '../../../protocol/training.ts';
import { ask } from '../client.ts';
import { committed } from '../operations/operation.ts';
import type { KnownJob, Simulation } from '../simulation.ts';
import type { FaultKind } from '../world/faults.ts';
import { ORIGIN_LOST_MS } from '../world/programs.ts';

/** Stands in each row of a file, and in nothing else. */
export const murmurOf = (number: number, tenant: string): string => `murmur ${number} of ${tenant}`;
/** Rows of a training, or of a kept evaluation. */
const MURMUR = /(?:murmur|exam) \d+ of tenant\d/;

/** A job as D1 has it. */
interface JobRow {
  id: string;
  tenant: string;
  name: string;
  status: string;
  origin: string | null;
  finished_at: number | null;
  document: string;
}
export interface JobDocument {
  parent: string | null;
  chain: ChainEntry[];
  request: TrainingRequest;
  rows: { file: string };
  keyId: string;
  wanted: string;
  error: { code: string; message: string } | null;
  result: { version: number } | null;
  /** Of earlier steps; a version of null could not be published. null = they were not asked for. */
  checkpoints: { step: number; version: number | null }[] | null;
}

export const jobRows = (sim: Simulation): Promise<JobRow[]> =>
  committed<JobRow>(sim, 'SELECT id, tenant, name, status, origin, finished_at, document FROM training_jobs');

const MINUTE = 60_000;
/** An origin that is silent for so long has lost its job; the schedule comes each minute. */
const LOST_MS = ORIGIN_LOST_MS + 2 * MINUTE;
/** A job's turn: its start, its training, the trial and the publication of its result. */
const TURN_MS = 8 * MINUTE;
/** A checkpoint that cannot be published is given up after ten minutes. */
const CHECKPOINTS_MS = 12 * MINUTE;

/** Goes on with paused jobs, and waits until all have ended and no origin has anything left of one. */
export async function endTrainings(sim: Simulation, over: () => boolean): Promise<void> {
  const { world } = sim;
  const open = async (): Promise<number> => {
    const [row] = await committed<{ many: number }>(
      sim,
      `SELECT (SELECT COUNT(*) FROM training_jobs WHERE finished_at IS NULL)
         + (SELECT COUNT(*) FROM training_deletions) AS many`,
    );
    return row?.many ?? 0;
  };
  const many = await open();
  if (many === 0) return;
  const life = world.client('trainer');
  world.time.after(life, 1, () => void resumeAll(sim));
  const kept = [...sim.jobs.values()].filter(({ checkpoints, ended }) => !ended && checkpoints.size > 0);
  const until = world.time.now + LOST_MS + TURN_MS * many + CHECKPOINTS_MS * kept.length;
  let left = many;
  let next = 0;
  // Something happens each minute: the schedule.
  await world.until(
    () => over() || left === 0 || world.time.now >= until,
    'the trainings end',
    () => {
      if (world.time.now < next) return;
      next = world.time.now + MINUTE / 2;
      void open().then((now) => (left = now));
    },
  );
  if (left > 0 && !over()) {
    const jobs = (await jobRows(sim)).filter(({ finished_at: at }) => at === null);
    const said = jobs.map(({ id, status, origin }) => `${id} ${status} at ${origin}`).join(', ');
    sim.fail('7 a job ends', `${left} of ${many} have not ended: ${said}`);
  }
}

async function resumeAll(sim: Simulation): Promise<void> {
  const { world } = sim;
  const life = world.time.current;
  if (life === null) return;
  for (const { id, tenant, finished_at: ended, document } of await jobRows(sim)) {
    if (ended !== null || (JSON.parse(document) as JobDocument).wanted !== 'pause') continue;
    const made = await ask(world, life, {
      path: '/admin/keys',
      key: world.adminKey,
      body: { tenant, train: true },
      reliable: true,
    });
    const { key } = (made.kind === 'answer' ? made.json : {}) as { key?: string };
    await world.time.sleep(life, 2_000);
    const resumed = await ask(world, life, {
      path: `/v1/fine_tuning/jobs/${id}/resume`,
      ...(key === undefined ? {} : { key }),
      body: {},
      reliable: true,
    });
    // Its own key may have ended, and the job with it.
    if (resumed.kind === 'answer' && resumed.status !== 200 && resumed.status !== 409)
      sim.fail('7 a job ends', `${id} is not resumed at rest: ${resumed.text.slice(0, 300)}`);
  }
}

export async function checkTrainings(sim: Simulation): Promise<void> {
  const jobs = new Map((await jobRows(sim)).map((row) => [row.id, row]));
  for (const known of sim.jobs.values()) {
    const row = jobs.get(known.id);
    if (row === undefined) {
      if (!mayBeErased(sim, known))
        sim.fail('1 nothing acknowledged is lost', `job ${known.id} of ${known.tenant} is not in D1`);
    } else checkEnd(sim, known, row);
  }
  await checkPublications(sim);
  await checkRows(sim);
}

/** Whether the tenant, the job's name, or what it trains on was to be erased since. */
export const mayBeErased = (
  sim: Simulation,
  { tenant, name, parent, createdAt }: Pick<KnownJob, 'tenant' | 'name' | 'parent' | 'createdAt'>,
): boolean =>
  sim.truth.erasedDuring(tenant, createdAt - MINUTE) ||
  sim.erased.has('**') ||
  [name, ...(parent === null ? [] : [parent])].some((one) => sim.erased.has(one));

function checkEnd(sim: Simulation, known: KnownJob, row: JobRow): void {
  const { error, result, checkpoints } = JSON.parse(row.document) as JobDocument;
  const wrong = (what: string): void =>
    sim.fail('7 a job ends as it should, or says how', `${known.id} of ${known.tenant}: ${what}`);
  if (row.status === 'succeeded') {
    const model = `${known.name}@${result?.version}`;
    if (known.cancelled) wrong(`it succeeded after its cancellation was acknowledged`);
    if (known.model !== null && known.model !== model) wrong(`it was ${known.model}, and is ${model}`);
    const versions = sim.truth.everAs(model);
    const digests = versions.map(({ chain }) => chain.at(-1)?.digest);
    if (!digests.includes(known.digest))
      wrong(`${model} has ${digests.join(', ') || 'no file'}, the whole training makes ${known.digest}`);
    // Each was published, or its owner was told why not.
    const steps = (checkpoints ?? []).map(({ step }) => step);
    if (JSON.stringify(steps) !== JSON.stringify([...known.checkpoints.keys()]))
      wrong(`it has checkpoints of the steps ${steps.join(', ')}`);
    for (const { step, version } of checkpoints ?? []) {
      const told = known.staged.get(step);
      if (told !== undefined && told !== `${known.name}@${version}`)
        wrong(`its checkpoint of step ${step} was ${told}, and is version ${version}`);
    }
    return;
  }
  if (known.model !== null) wrong(`it was said to be ${known.model}, and has ${row.status}`);
  if (row.status === 'cancelled') {
    if (!known.going) wrong('nobody has cancelled it');
    return;
  }
  if (known.cancelled) wrong(`its cancellation was acknowledged, and it has ${row.status}`);
  if (error === null || error.message === '') wrong(`it ${row.status}, and does not say why`);
  else if (!isExplained(sim, known, error.code))
    wrong(`it failed with ${error.code} (${error.message}), and nothing of that kind happened`);
}

/** What must have happened before a job fails with a code. */
function isExplained(sim: Simulation, known: KnownJob, code: string): boolean {
  const { bitten } = sim.world.faults;
  const bit = (...kinds: readonly FaultKind[]): boolean => kinds.some((kind) => bitten.has(kind));
  const { parent, tenant } = known;
  switch (code) {
    case 'key_ended': {
      const line = sim.tenants.flatMap(({ keys }) => keys);
      const key = line.find(({ id }) => id === known.keyId);
      return key === undefined || line.some((one) => one.counter === key.counter && one.revokedAt !== null);
    }
    case 'file_not_found':
      return known.rows.going || sim.erased.has('**');
    case 'rows_invalid':
    case 'loss_not_finite':
      return bit('training-fails');
    case 'out_of_memory':
      return bit('training-fails', 'training-killed');
    case 'training_failed':
      return bit('training-fails', 'training-killed', 'origin-killed', 'origin-drained', 'disk-full');
    case 'disk_full':
      return bit('disk-full');
    case 'base_mismatch':
      return sim.erased.size > 0 || bit('disk-flip', 'disk-gone');
    // What it trains on, or its name, has gone to somebody else, or is withdrawn.
    case 'insufficient_scope':
    case 'conflict':
    case 'not_found':
    case 'model_not_found':
      return parent !== null || !known.name.startsWith(`${tenant}/`) || sim.erased.size > 0;
    case 'adapter_invalid':
      // Its name has become an alias.
      return parent !== null || sim.truth.names.everWas(known.name, ({ alias }) => alias !== null);
    default:
      return false;
  }
}

/** Each job's version is one, and has the bytes of the whole training. */
async function checkPublications(sim: Simulation): Promise<void> {
  const wrong = (what: string): void => sim.fail('a training is published once, as a whole', what);
  const rows = await committed<{ name: string; to_version: number; why: string; action: string }>(
    sim,
    "SELECT name, to_version, why, action FROM history WHERE why LIKE '%fine-tuning job ftjob-%'",
  );
  const published = new Map<string, string>();
  for (const { name, to_version: version, why, action } of rows) {
    const [, step, id = ''] = MADE.exec(why) ?? [];
    const model = `${name}@${version}`;
    const before = published.get(why);
    if (before !== undefined) wrong(`${why} has published ${before} and ${model}`);
    published.set(why, model);
    if (action !== 'stage') wrong(`${model} of ${why} is there by ${action}`);
    const known = sim.jobs.get(id);
    if (known === undefined) continue;
    if (known.name !== name) wrong(`${why} was to make ${known.name}, and made ${model}`);
    const right = step === undefined ? known.digest : known.checkpoints.get(Number(step));
    const digests = sim.truth.everAs(model).map(({ chain }) => chain.at(-1)?.digest);
    if (right === undefined || !digests.includes(right))
      wrong(`${model} of ${why} has ${digests.join(', ')}, the training makes ${right}`);
  }
}

/** Why a version is there, that a job has made. */
const MADE = /^(?:checkpoint of step (\d+) of )?fine-tuning job (\S+)$/;

/** All jobs have ended: no origin has a file of one, and no row is anywhere but encrypted, in files that D1 knows. */
async function checkRows(sim: Simulation): Promise<void> {
  const { world } = sim;
  const wrong = (what: string): void => sim.fail('6 nothing of rows is left', what);
  for (const { id, disk } of world.origins)
    for (const [file, { bytes }] of disk.files) {
      if (file.startsWith('/jobs/')) wrong(`${id} has ${file} at rest`);
      else if (MURMUR.test(Buffer.from(bytes).toString('latin1'))) wrong(`${id} has rows in ${file}`);
    }
  const files = new Set(
    (await committed<{ id: string }>(sim, 'SELECT id FROM row_files')).map(({ id }) => id),
  );
  const stored: [string, Uint8Array][] = [
    ...world.kv
      .keys()
      .map((key): [string, Uint8Array] => [`KV ${key}`, world.kv.read(key) ?? new Uint8Array()]),
    ...[...world.bucket.objects].map(([key, bytes]): [string, Uint8Array] => [`R2 ${key}`, bytes]),
  ];
  for (const [place, bytes] of stored) {
    const file = /\brows[:/](file-[0-9a-z]+)/.exec(place)?.[1];
    if (file !== undefined && !files.has(file)) wrong(`${place} is there, and no file of that id`);
    if (MURMUR.test(Buffer.from(bytes).toString('latin1'))) wrong(`${place} has rows as they are`);
  }
  const { results: tables } = await world.database.truth
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
    .all<{ name: string }>();
  for (const { name } of tables)
    for (const row of await committed<object>(sim, `SELECT * FROM "${name}"`)) {
      // A job's owner reads which row was wrong.
      const said = name.startsWith('training_') ? null : MURMUR.exec(JSON.stringify(row));
      if (said !== null) wrong(`${name} says ${said[0]}`);
    }
}
