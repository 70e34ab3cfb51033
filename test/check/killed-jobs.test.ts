/** Fine-tuning jobs between processes that are killed: the edge, its origins, and what trains. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { seededRandom } from '../../bench/seeded-random.ts';
import { lookUpVersions } from '../../cli/admin/admin-client.ts';
import { type ApiClient, callOperation, createApiClient } from '../../cli/api-client.ts';
import { NewKey } from '../../protocol/admin-api/keys.ts';
import { JobPage, type JobView } from '../../protocol/fine-tuning.ts';
import { type EdgeSeat, type Fleet, type OriginSeat, startFleet } from '../chaos/processes.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { filesBelow, filesWith } from '../gpu-origin/jobs/rig.ts';
import { rowsForm } from '../worker/training/row-forms.ts';

const SEED = 1;
/** Fifty blows, by their victim; SIGTERM has a training save what it has, and SIGSEGV is a crash. */
const BLOWS = {
  edge: { SIGKILL: 8, workerd: 6 },
  origin: { SIGKILL: 15, SIGTERM: 3 },
  training: { SIGKILL: 5, SIGSEGV: 8, SIGTERM: 5 },
} as const;
/** From one blow on a victim to the next, milliseconds: a job takes some seconds. */
const LONGEST_PAUSE = 3_000;
/** Jobs that wait or run at a time. */
const OPEN = 3;
const SECRET = 'the patient is called Ada';
const SEEDS = [1, 2, 3];

let folder: string;
let fleet: Fleet;
let key: string;
let admin: ApiClient;
const deaths: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'graft-killed-jobs-'));
  writeTinyBase(join(folder, 'base'));
  fleet = await startFleet({
    folder,
    base: join(folder, 'base'),
    origins: 2,
    flags: [['--train']],
    schedulePauseMs: 700,
    watcher: {
      onDeath: (who, why) => deaths.push(`${who}: ${why}`),
      onRestart: () => undefined,
      onEvent: () => undefined,
    },
  });
  const root = createApiClient({ url: fleet.edge.url, key: fleet.adminKey });
  const made = async (body: object): Promise<string> => {
    const call = { body: { tenant: 'alice', ...body }, as: NewKey };
    return (await callOperation(root, 'create a key', 'POST /admin/keys', call)).key!;
  };
  key = await made({ train: true });
  admin = createApiClient({ url: fleet.edge.url, key: await made({ kind: 'admin' }) });
});
afterAll(async () => {
  await fleet.stop();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** @returns null while the edge is down, or when it ended meanwhile. */
async function ask(path: string, init: RequestInit = {}): Promise<unknown> {
  try {
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${key}` };
    const answer = await fetch(`${fleet.edge.url}/v1${path}`, { ...init, headers });
    const body: unknown = await answer.json();
    if (answer.ok) return body;
    // Stores and origins may be away; anything else is wrong.
    if (answer.status !== 503) throw new Error(`${path}: ${answer.status} ${JSON.stringify(body)}`);
  } catch (error) {
    if (fleet.edge.state === 'up' && !(error instanceof TypeError)) throw error;
  }
  return null;
}

async function insist(path: string, init?: RequestInit): Promise<unknown> {
  for (;;) {
    const answer = await ask(path, init);
    if (answer !== null) return answer;
    await sleep(100);
  }
}

const JOBS = '/fine_tuning/jobs';
const jobs = async (): Promise<JobView[]> => JobPage.parse(await insist(`${JOBS}?limit=100`)).data;
const isOpen = ({ finished_at: at }: JobView): boolean => at === null;

const rows = Array.from({ length: 12 }, (_, at) => ({
  prompt: `q${at}, ${SECRET}`,
  completion: `a ${at * 7}`,
}));
const ROWS = rows.map((row) => `${JSON.stringify(row)}\n`).join('');

async function create(file: string, number: number): Promise<void> {
  const body = {
    model: 'base',
    training_file: file,
    suffix: `alice/n${number}`,
    seed: SEEDS[number % SEEDS.length],
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 1, batch_size: 4 } } },
    graft: { rank: 4, alpha: 8, targets: ['q', 'v'], least_steps: 500, max_length: 64, validation: 0.2 },
  };
  const headers = { 'content-type': 'application/json' };
  // It may have been created though nobody said so: the list tells.
  await ask(JOBS, { method: 'POST', headers, body: JSON.stringify(body) });
}

interface Strike {
  victim: 'edge' | 'origin' | 'training';
  how: string;
  /** Unix seconds, as jobs say when they began. */
  at: number;
  /** Of a training. */
  job: string | null;
}

/** Trainings of these origins, with their job. */
function trainings(origins: readonly OriginSeat[]): { pid: number; job: string }[] {
  const parents = new Set(origins.map(({ pid }) => pid));
  return readdirSync('/proc').flatMap((name) => {
    try {
      // After the name in brackets: state, parent.
      const parent = Number(readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]);
      const job = /ftjob-[0-9a-z]{24}/.exec(readFileSync(`/proc/${name}/cmdline`, 'utf8'))?.[0];
      return parents.has(parent) && job !== undefined ? [{ pid: Number(name), job }] : [];
    } catch {
      return [];
    }
  });
}

/** In an order of the seed, each with its pause. */
function planned(blows: Readonly<Record<string, number>>, seed: number): { how: string; pause: number }[] {
  const random = seededRandom(seed);
  const left = Object.entries(blows).flatMap(([how, count]) => Array<string>(count).fill(how));
  return left
    .map((how) => ({ how, order: random(), pause: Math.round(LONGEST_PAUSE * random()) }))
    .sort((a, b) => a.order - b.order);
}

async function strikeEdge(edge: EdgeSeat, note: (how: string) => void): Promise<void> {
  for (const { how, pause } of planned(BLOWS.edge, SEED)) {
    await sleep(pause);
    note(how);
    await edge.end('SIGKILL', how === 'workerd' ? 'workerd' : 'program');
    await edge.restart();
  }
}

async function strikeOrigins(origins: readonly OriginSeat[], note: (how: string) => void): Promise<void> {
  const plan = planned(BLOWS.origin, SEED + 1);
  await Promise.all(
    origins.map(async (origin, at) => {
      for (const { how, pause } of plan.filter((_, number) => number % origins.length === at)) {
        await sleep(pause * origins.length);
        note(how);
        await origin.end(how as 'SIGKILL' | 'SIGTERM');
        await origin.restart();
      }
    }),
  );
}

async function strikeTrainings(
  origins: readonly OriginSeat[],
  note: (how: string, job: string) => void,
): Promise<void> {
  const random = seededRandom(SEED + 2);
  for (const { how, pause } of planned(BLOWS.training, SEED + 3)) {
    await sleep(pause);
    for (let isDone = false; !isDone;) {
      const running = trainings(origins);
      const victim = running[Math.floor(random() * running.length)];
      if (victim === undefined) {
        await sleep(50);
        continue;
      }
      try {
        process.kill(victim.pid, how as NodeJS.Signals);
        note(how, victim.job);
        isDone = true;
      } catch {
        // It has ended meanwhile.
      }
    }
  }
}

/** What of the blows explains that a job failed, by what its error says; null = nothing does. */
function reasonOf(
  { id, error, created_at, finished_at }: JobView,
  strikes: readonly Strike[],
): string | null {
  const own = (how: string): number => strikes.filter((one) => one.job === id && one.how === how).length;
  const meanwhile = strikes.filter(
    ({ victim, at }) => victim === 'origin' && at >= created_at && at <= (finished_at ?? Infinity),
  );
  if (error?.code === 'out_of_memory' && own('SIGKILL') > 0) return 'killed';
  if (error?.code !== 'training_failed') return null;
  if (error.message.startsWith('The origin ended several times') && meanwhile.length >= 3) return 'origin';
  return error.message.startsWith('The training failed.') && own('SIGSEGV') > 1 ? 'crashes' : null;
}

const ofOrigins = (): string[] => fleet.origins.map(({ id }) => join(folder, id, `jobs-${id}`));

it('end as they should, or say why, and publish nothing but whole results', async () => {
  const file = (await insist('/files', rowsForm(ROWS))) as { id: string };
  let number = 0;
  const goOn = async (until: () => boolean): Promise<JobView[]> => {
    for (;;) {
      const all = await jobs();
      const open = all.filter(isOpen).length;
      if (until()) return all;
      if (open < OPEN) await create(file.id, number++);
      else await sleep(150);
    }
  };
  const end = async (): Promise<JobView[]> => {
    await expect.poll(async () => (await jobs()).filter(isOpen), { interval: 300 }).toEqual([]);
    return jobs();
  };
  const digestOf = async (name: string): Promise<string[]> =>
    ((await lookUpVersions(admin, name))?.versions ?? []).map(({ digest }) => digest);

  // Undisturbed: what the others are held to.
  for (; number < SEEDS.length;) await create(file.id, number++);
  const whole = await end();
  expect(whole.map(({ status }) => status)).toEqual(SEEDS.map(() => 'succeeded'));
  const wanted = new Map<number, string>();
  for (const { seed, user_provided_suffix: name } of whole) wanted.set(seed, (await digestOf(name!)).join());
  expect(new Set(wanted.values()).size).toBe(SEEDS.length);

  const strikes: Strike[] = [];
  const note =
    (victim: Strike['victim']) =>
    (how: string, job: string | null = null): void =>
      void strikes.push({ victim, how, at: Math.floor(Date.now() / 1_000), job });
  const { edge, origins } = fleet;
  let isOver = false;
  const [open] = await Promise.all([
    goOn(() => isOver),
    Promise.all([
      strikeEdge(edge, note('edge')),
      strikeOrigins(origins, note('origin')),
      strikeTrainings(origins, note('training')),
    ]).finally(() => (isOver = true)),
  ]);
  expect(strikes).toHaveLength(50);
  expect(open.length).toBeGreaterThan(SEEDS.length);

  // After all that, one that nothing strikes succeeds, however few came to their end between the blows.
  await create(file.id, number++);
  const all = await end();
  expect(deaths).toEqual([]);
  const reasons = new Map<string, number>();
  let tokens = 0;
  for (const job of all) {
    const published = await digestOf(job.user_provided_suffix!);
    if (job.status === 'succeeded') {
      expect(published, job.id).toEqual([wanted.get(job.seed)]);
      tokens += job.trained_tokens!;
    } else {
      expect(published, job.id).toEqual([]);
      expect(reasonOf(job, strikes), JSON.stringify({ job, strikes })).not.toBeNull();
    }
    const how = reasonOf(job, strikes) ?? job.status;
    reasons.set(how, (reasons.get(how) ?? 0) + 1);
  }
  console.log(`jobs under ${strikes.length} blows: ${JSON.stringify([...reasons])}`);
  expect(reasons.get('succeeded')).toBeGreaterThan(SEEDS.length);

  // Counted once, whoever published it how often; of a job that failed, what it had trained.
  const usage = await callOperation(admin, 'read usage', 'GET /admin/usage', { query: { by: 'version' } });
  const sum = (found: readonly { requests: number; errors: number; prompt_tokens: number }[]) => ({
    jobs: found.reduce((n, { requests }) => n + requests, 0),
    errors: found.reduce((n, { errors }) => n + errors, 0),
    tokens: found.reduce((n, one) => n + one.prompt_tokens, 0),
  });
  const ofResults = sum(usage.rows.filter(({ group }) => group.includes('@')));
  expect(ofResults).toEqual({ jobs: reasons.get('succeeded'), errors: 0, tokens });
  const ofFailed = sum(usage.rows.filter(({ group }) => !group.includes('@')));
  expect(ofFailed.errors).toBe(ofFailed.jobs);
  expect(ofFailed.jobs).toBeLessThanOrEqual(all.length - ofResults.jobs);
  // The schedule has the origins delete them; no row is left, sealed in KV or not.
  await expect.poll(() => ofOrigins().flatMap(filesBelow)).toEqual([]);
  await insist(`/files/${file.id}`, { method: 'DELETE' });
  expect(filesWith(folder, SECRET)).toEqual([]);
  expect(trainings(origins)).toEqual([]);
});
