/** Fine-tuning jobs between the edge's app and a whole origin, each with its own stores; only the training is played. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openJobStore } from '../../../gpu-origin/jobs/job-store.ts';
import { JOB_UNHEARD_MS, Jobs } from '../../../gpu-origin/jobs/jobs.ts';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { JobCheckpointPage, JobEventPage, JobView } from '../../../protocol/fine-tuning.ts';
import { chainId } from '../../../protocol/identity.ts';
import type { TrainingCard } from '../../../protocol/training.ts';
import { ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import { TINY_BASE, tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import {
  CARD,
  declarationOf,
  filesBelow,
  filesWith,
  PlayedTraining,
  SECRET,
  sha256,
} from '../../gpu-origin/jobs/rig.ts';
import { createEdgeAndOrigin, type EdgeAndOrigin } from '../edge-and-origin.ts';
import { LATER_MS, type Refusal } from './job-rig.ts';
import { rowsForm } from './row-forms.ts';

const JOBS = '/v1/fine_tuning/jobs';
const ROW = `${JSON.stringify({ prompt: SECRET, completion: 'yes' })}\n`;

let stack: EdgeAndOrigin;
let folder: string;
let jobs: Jobs;
let trainings: PlayedTraining[];
let faults: unknown[];
let timers: { at: number; callback: () => void }[];
let memoryProblem: string | null;
let alice: NewKey;
let bob: NewKey;

const now = (): number => stack.edge.clock.now();

async function openJobs(): Promise<void> {
  const origin = stack.origins.get('o1')!;
  timers = [];
  jobs = new Jobs({
    store: await openJobStore({ folder }),
    base: TINY_BASE.digest,
    files: origin.store,
    start(wish) {
      const training = new PlayedTraining(wish);
      trainings.push(training);
      return training;
    },
    memoryProblem: () => memoryProblem,
    now,
    timer(ms, callback) {
      const timer = { at: now() + ms, callback };
      timers.push(timer);
      return () => (timers = timers.filter((one) => one !== timer));
    },
    onEnd: () => undefined,
    onTrouble: () => undefined,
    onFault: (error) => faults.push(error),
  });
  origin.context.jobs = jobs;
  jobs.begin();
}

/** Time passes for both. */
async function pass(ms: number): Promise<void> {
  stack.edge.clock.advance(ms);
  for (const timer of timers.filter(({ at }) => at <= now())) {
    timers = timers.filter((one) => one !== timer);
    timer.callback();
  }
  await originSettled();
}

/** Until all changes of its jobs so far are done. */
async function originSettled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await jobs.dropAdapters(new Set());
}

/** One run of the schedule, when the last one is surely over. */
async function run(): Promise<void> {
  await pass(LATER_MS);
  await stack.edge.schedule(() => undefined);
  await stack.edge.settled();
}

async function ask<T = JobView>(path: string, key: NewKey, body?: object, method?: string) {
  const response = await stack.edge.request(path, {
    key: key.key!,
    ...(body === undefined ? {} : { body }),
    ...(method === undefined ? {} : { method }),
  });
  return { status: response.status, body: (await response.json()) as T & Refusal };
}

async function create(key: NewKey, more: object = {}, text = ROW): Promise<JobView> {
  const sent = await stack.edge.request('/v1/files', { ...rowsForm(text), key: key.key! });
  const { id: training_file } = (await sent.json()) as { id: string };
  const { status, body } = await ask(JOBS, key, {
    ...{ model: 'base', training_file, suffix: `${key.tenant}/first`, ...more },
  });
  expect(body).toMatchObject({ status: 'queued' });
  expect(status).toBe(200);
  return body;
}

/** A client asks: the origin is asked as well. */
async function get(id: string, key = alice): Promise<JobView> {
  await pass(6_000);
  return (await ask(`${JOBS}/${id}`, key)).body;
}
async function step(id: string, what: 'cancel' | 'pause' | 'resume', key = alice): Promise<JobView> {
  const { body } = await ask(`${JOBS}/${id}/${what}`, key, {});
  // It waits for the origin no longer than a moment.
  await stack.edge.settled();
  return body;
}
const told = async (id: string, key = alice): Promise<string[]> =>
  (await ask<JobEventPage>(`${JOBS}/${id}/events?limit=100`, key)).body.data.map(({ message }) => message);

/** The last training, once this many have been started. */
async function training(count: number): Promise<PlayedTraining> {
  await vi.waitFor(() => expect(trainings).toHaveLength(count));
  return trainings[count - 1]!;
}

function ownCard({ wish }: PlayedTraining): TrainingCard {
  const rows = { ...CARD.rows, sha256: sha256(readFileSync(wish.rows)) };
  const chain = wish.chain.map(({ digest, scale }) => ({ digest, scale }));
  const base = { id: TINY_BASE.id, digest: TINY_BASE.digest, weights: 'f32' as const };
  return { ...CARD, rows, chain, base };
}

/** It is done, with this as its result. */
const succeed = (played: PlayedTraining, adapter: TinyAdapter): void =>
  played.succeeds(adapter.bytes, ownCard(played));

const files = (): string[] => filesBelow(folder);

beforeEach(async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockReturnValue(undefined);
  folder = mkdtempSync(join(tmpdir(), 'graft-jobs-'));
  stack = await createEdgeAndOrigin();
  [trainings, faults, memoryProblem] = [[], [], null];
  await openJobs();
  const keyOf = async (tenant: string): Promise<NewKey> =>
    (await (await stack.edge.request('/admin/keys', { body: { tenant, train: true } })).json()) as NewKey;
  [alice, bob] = [await keyOf('alice'), await keyOf('bob')];
});
afterEach(async () => {
  const halted = jobs.halt();
  for (const played of trainings) played.dies(null);
  await halted;
  await stack.stop();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  expect(faults).toEqual([]);
});

it('trains on the base, follows it, and answers by its result', async () => {
  const rows = ROW.repeat(Math.ceil(ROWS_PART_BYTES / ROW.length) + 1);
  const { id } = await create(alice, { seed: 7, suffix: 'alice/first' }, rows);
  await run();
  const played = await training(1);
  expect(readFileSync(played.wish.rows, 'utf8')).toBe(rows);
  expect(played.wish).toMatchObject({ chain: [], resume: false, request: { seed: 7, method: 'sft' } });
  played.plans(300);
  for (let at = 1; at <= 300; at += 1) played.steps(at, 300);
  expect(await get(id)).toMatchObject({ status: 'running', fine_tuned_model: null });
  const first = tinyAdapter({ seed: 11 });
  succeed(played, first);
  await run();
  expect(await get(id)).toMatchObject({
    status: 'succeeded',
    error: null,
    fine_tuned_model: 'alice/first@1',
    trained_tokens: CARD.tokens,
  });
  // Nothing is told twice or not at all, however many answers it takes.
  const steps: number[] = [];
  for (let after = ''; ;) {
    const page = (await ask<JobEventPage>(`${JOBS}/${id}/events?limit=100${after}`, alice)).body;
    steps.push(...page.data.flatMap(({ data }) => (data === null ? [] : [data.step])));
    if (!page.has_more) break;
    after = `&after=${page.last_id}`;
  }
  expect(steps).toEqual(Array.from({ length: 300 }, (_, at) => 300 - at));
  expect(await stack.ask('alice/first@1', alice.key!)).toBe(200);
  await run();
  expect(files()).toEqual([]);
});

it('stages checkpoints before the result, which answer by their references', async () => {
  const { id } = await create(alice, { graft: { checkpoints: true } });
  await run();
  const played = await training(1);
  const [early, late, last] = [1, 2, 3].map((seed) => tinyAdapter({ seed }));
  const card = ownCard(played);
  const kept = [played.keeps(4, early!.bytes, card), played.keeps(7, late!.bytes, card)];
  played.succeeds(last!.bytes, card, kept);
  await originSettled();
  await run();
  expect(await get(id)).toMatchObject({ status: 'succeeded', fine_tuned_model: 'alice/first@3' });
  const { data } = (await ask<JobCheckpointPage>(`${JOBS}/${id}/checkpoints`, alice)).body;
  const models = data.map((one) => [one.step_number, one.fine_tuned_model_checkpoint]);
  expect(models).toEqual([
    [10, 'alice/first@3'],
    [7, 'alice/first@2'],
    [4, 'alice/first@1'],
  ]);
  for (const [, model] of models) expect(await stack.ask(String(model), alice.key!)).toBe(200);
  // Nobody gets one of them by the name.
  expect(await stack.ask('alice/first', alice.key!)).toBe(404);
  expect((await ask<JobCheckpointPage>(`${JOBS}/${id}/checkpoints`, bob)).status).toBe(404);
  await run();
  expect(files()).toEqual([]);
});

it('trains on the chain of a version, whose files the edge brings', async () => {
  const [root, child] = [tinyAdapter({ seed: 1 }), tinyAdapter({ seed: 2 })];
  await stack.edge.publish('alice', root, { owner: 'alice' });
  const chain = [{ digest: root.digest, scale: 1 }];
  const { id } = await create(alice, { model: 'alice', suffix: 'child' });
  stack.sent.length = 0;
  await run();
  const played = await training(1);
  expect(played.wish.chain).toMatchObject(chain);
  expect(sha256(readFileSync(played.wish.chain[0]!.path))).toBe(root.digest);
  succeed(played, tinyAdapter({ seed: 2, parent: await chainId(chain) }));
  await run();
  expect(await get(id)).toMatchObject({ status: 'succeeded', fine_tuned_model: 'alice/child@1' });
  expect(await stack.ask('alice/child@1', alice.key!)).toBe(200);
  // One that was made for another chain is refused as any publication is.
  const other = await create(alice, { model: 'alice', suffix: 'other' });
  await run();
  succeed(await training(2), child);
  await run();
  expect(await get(other.id)).toMatchObject({ status: 'failed', fine_tuned_model: null });
  await run();
  expect(files()).toEqual([]);
});

it('pauses, lets another go first, goes on from the checkpoint, and is cancelled while it runs', async () => {
  const { id } = await create(alice);
  // Ids rise with time.
  await pass(1_000);
  const other = await create(bob);
  await run();
  const first = await training(1);
  first.plans(10);
  first.steps(3);
  expect((await step(id, 'pause')).status).toBe('paused');
  expect(first.signals).toEqual(['SIGTERM']);
  first.stops(3);
  await run();
  const second = await training(2);
  expect((await get(other.id, bob)).status).toBe('running');
  expect((await step(id, 'resume')).status).toBe('queued');
  await run();
  expect([(await get(id)).status, trainings.length]).toEqual(['queued', 2]);
  succeed(second, tinyAdapter({ seed: 5 }));
  await run();
  await run();
  expect((await get(other.id, bob)).fine_tuned_model).toBe('bob/first@1');
  const third = await training(3);
  expect(third.wish.resume).toBe(true);
  expect((await get(id)).status).toBe('running');
  expect((await step(id, 'cancel')).status).toBe('cancelled');
  await stack.edge.settled();
  expect(third.signals).toEqual(['SIGKILL']);
  expect(files()).toEqual([]);
  expect(await told(id)).toEqual(expect.arrayContaining(['Paused at step 3 of 10.', 'Cancelled.']));
});

it('that is paused stays where it is, for days', async () => {
  const { id } = await create(alice);
  await run();
  await step(id, 'pause');
  (await training(1)).stops(2);
  await originSettled();
  for (let day = 0; day < 3; day += 1) {
    await pass(JOB_UNHEARD_MS - LATER_MS);
    await run();
  }
  expect((await get(id)).status).toBe('paused');
  await step(id, 'resume');
  expect((await training(2)).wish.resume).toBe(true);
});

it('goes on when its origin starts again, and begins anew, with its whole story, when that has lost it', async () => {
  const { id } = await create(alice);
  await run();
  const first = await training(1);
  first.plans(10);
  first.steps(1);
  first.saves(1);
  await get(id);
  const halted = jobs.halt();
  first.stops(1);
  await halted;
  await openJobs();
  const second = await training(2);
  expect(second.wish.resume).toBe(true);
  second.plans(10);
  second.steps(2);
  expect((await get(id)).status).toBe('running');

  // Its disk is lost.
  const over = jobs.halt();
  second.dies(null);
  await over;
  rmSync(folder, { recursive: true });
  await openJobs();
  await run();
  const third = await training(3);
  expect(third.wish.resume).toBe(false);
  third.plans(10);
  for (let at = 1; at <= 10; at += 1) third.steps(at);
  succeed(third, tinyAdapter({ seed: 5 }));
  await run();
  expect((await get(id)).fine_tuned_model).toBe('alice/first@1');
  const losses = (await told(id)).filter((message) => message.startsWith('Step '));
  // The line of a step waits for what comes after it: the second one of the second training was not told yet.
  expect(losses).toHaveLength(11);
});

it('waits while another edge trains there, and fails when the origin has too little memory', async () => {
  const { id } = await create(alice);
  const foreign = `ftjob-${'0'.repeat(24)}` as const;
  const declaration = declarationOf();
  expect((await jobs.declare(foreign, declaration)).ok).toBe(true);
  await run();
  expect([(await get(id)).status, trainings.length]).toEqual(['queued', 0]);
  await jobs.remove(foreign);
  memoryProblem = 'This training needs about 9 GB of memory.';
  await run();
  expect(await get(id)).toMatchObject({ status: 'failed', error: { message: memoryProblem } });
  await run();
  expect(files()).toEqual([]);
});

it('is offered again when another edge was quicker', async () => {
  const { id } = await create(alice);
  const foreign = `ftjob-${'0'.repeat(24)}` as const;
  // Between the edge's look and its declaration.
  const list = vi.spyOn(jobs, 'list').mockReturnValueOnce({ trains: true, jobs: [] });
  await jobs.declare(foreign, declarationOf());
  await run();
  expect(list).toHaveBeenCalled();
  expect(stack.sent).toContain(`o1 PUT /jobs/${id} 429`);
  expect((await get(id)).status).toBe('queued');
  await jobs.remove(foreign);
  await run();
  await training(1);
  expect((await get(id)).status).toBe('running');
});

/** Lines of all that the edge keeps which say this: rows of D1, and keys and values of KV, where bytes lie as well. */
async function saying(text: string): Promise<string[]> {
  const { db, kv } = stack.edge;
  const lines: string[] = [];
  const { results: tables } = await db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
    .all<{ name: string }>();
  for (const { name } of tables) {
    const { results } = await db.prepare(`SELECT * FROM "${name}"`).all();
    lines.push(...results.map((row) => `${name}: ${JSON.stringify(row)}`));
  }
  // Of a copy: bytes are no text, and reading is seen.
  const copy = kv.copy(now);
  for (const { name } of (await kv.list({ prefix: '', cursor: null })).keys)
    copy.tamper(name, (value) => {
      lines.push(`KV ${name}: ${value}`);
      return value;
    });
  return lines.filter((line) => line.includes(text));
}

describe('an erasure of the tenant', () => {
  const erase = async (tenant: string): Promise<void> => {
    for (let cursor: unknown = null, page = 0; page === 0 || cursor !== null; page += 1) {
      const answer = await stack.edge.request('/admin/erase', { body: { tenant, cursor } });
      expect(answer.status).toBe(200);
      ({ cursor } = (await answer.json()) as { cursor: unknown });
    }
  };

  it.each(['receiving', 'running', 'paused', 'failed', 'done', 'done with checkpoints'])(
    'leaves nothing of rows anywhere while its job is %s',
    async (state) => {
      const { id } = await create(alice, { graft: { checkpoints: state === 'done with checkpoints' } });
      expect(await saying(SECRET)).toEqual([]);
      if (state === 'receiving') vi.spyOn(jobs, 'putPart').mockRejectedValue(new Error('cut off'));
      await run().catch(() => undefined);
      if (state !== 'receiving') {
        const played = await training(1);
        played.saves(2);
        expect(filesWith(folder, SECRET)).not.toEqual([]);
        if (state === 'paused') {
          await step(id, 'pause');
          played.stops(2);
        }
        if (state === 'failed') {
          played.fails('rows_invalid', `Row 1 (${SECRET}) has no answer.`);
          await run();
          // Its owner reads why.
          expect(await saying(SECRET)).not.toEqual([]);
        }
        if (state === 'done') succeed(played, tinyAdapter({ seed: 5 }));
        if (state === 'done with checkpoints') {
          const card = ownCard(played);
          played.succeeds(tinyAdapter({ seed: 5 }).bytes, card, [
            played.keeps(4, tinyAdapter({ seed: 6 }).bytes, card),
          ]);
          await originSettled();
          expect(files()).toContain(`${id}/checkpoints/4.safetensors`);
          // One of them is staged when it comes.
          const real = jobs.result.bind(jobs);
          vi.spyOn(jobs, 'result').mockImplementation((_, step) => (step === 4 ? real(id, 4) : null));
          await run();
          expect((await get(id)).status).toBe('running');
          expect(await stack.ask('alice/first@1', alice.key!)).toBe(200);
        }
      }
      await erase('alice');
      for (let runs = 0; runs < 3; runs += 1) await run();
      expect(files()).toEqual([]);
      expect(await saying(SECRET)).toEqual([]);
      // A spent token stays for a while, without whose it was, and of which file.
      const spent = (line: string): boolean => line.startsWith('page_uploads: ') && !line.includes('alice');
      expect((await saying(id)).filter((line) => !spent(line))).toEqual([]);
      expect(await saying('KV rows:')).toEqual([]);
    },
  );
});
