/** A job from its declaration to its end, with a played training and virtual time. */
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  JOB_TICK_MS,
  JOB_UNBEGUN_MS,
  JOB_UNHEARD_MS,
  MAX_HELD_JOBS,
  STOP_PATIENCE_MS,
  STORY_STEPS,
} from '../../../gpu-origin/jobs/jobs.ts';
import { CHECKPOINT_FILE, type TrainingCard, type TrainingFailure } from '../../../protocol/training.ts';
import { JobReport, MAX_JOB_EVENTS_AT_ONCE, ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import {
  CARD,
  JOB,
  OTHER,
  declarationOf,
  filesWith,
  idOf,
  openRig,
  type PlayedTraining,
  type Rig,
  ROWS,
  SECRET,
  sha256,
  valueOf,
} from './rig.ts';

let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(async () => {
  await rig.settled();
  expect(rig.faults).toEqual([]);
  await rig.remove();
});

const messages = async (id = JOB): Promise<string[]> =>
  (await rig.report(id)).events.map(({ message }) => message);

describe('a job', () => {
  it('receives its rows, trains, and has a result', async () => {
    expect(await rig.jobs.declare(JOB, declarationOf())).toMatchObject({
      ok: true,
      value: { state: 'receiving', missing_parts: [0], missing_adapters: [], step: 0, steps: 0, events: [] },
    });
    expect((await rig.bring()).state).toBe('running');
    const training = await rig.training(1);
    expect(training.wish).toMatchObject({ resume: false, chain: [], request: declarationOf().request });
    expect(readFileSync(training.wish.rows)).toEqual(ROWS);
    expect(rig.jobs.running).toBe(1);
    training.says({ event: 'rows', trained: 9, held_out: 1, left_out: 2, longest: 31, tokens: 120 });
    training.plans(10);
    expect(await rig.report()).toMatchObject({ state: 'running', step: 0, steps: 10, seconds_left: 20 });
    training.steps(1);
    expect(await rig.report()).toMatchObject({ step: 1, steps: 10, seconds_left: 18 });
    training.succeeds('an adapter');
    await rig.settled();
    const report = await rig.report();
    expect(JobReport.parse(report)).toMatchObject({
      state: 'done',
      missing_parts: [],
      seconds_left: null,
      result: { bytes: 10, digest: sha256('an adapter'), card: { steps: 10 } },
      failure: null,
    });
    expect(readFileSync(rig.jobs.result(JOB)!.path, 'utf8')).toBe('an adapter');
    expect(await messages()).toEqual([
      'The training starts.',
      '9 rows to train on (120 tokens), 1 held out, 2 left out: too long, or without an answer.',
      'Step 1 of 10: training loss 3',
      'The training is done.',
    ]);
    expect([rig.outcomes, rig.jobs.running]).toEqual([[[JOB, 'done']], 0]);
    // Nothing of the rows is left, though nobody has deleted it yet.
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
  });

  it('takes rows to hold out as a file of their own, whose parts come after the others', async () => {
    const heldOut = Buffer.from(`${JSON.stringify({ prompt: SECRET, completion: 'no' })}\n`);
    const validation = { bytes: heldOut.length, sha256: sha256(heldOut) };
    const wrong = { ...validation, sha256: sha256('others') };
    const declared = valueOf(await rig.jobs.declare(OTHER, declarationOf(ROWS, { validation: wrong })));
    expect(declared.missing_parts).toEqual([0, 1]);
    expect([rig.jobs.partBytes(OTHER, 1), rig.jobs.partBytes(OTHER, 2)]).toEqual([heldOut.length, null]);
    expect(valueOf(await rig.jobs.putPart(OTHER, 1, heldOut)).missing_parts).toEqual([0]);
    const refused = await rig.jobs.putPart(OTHER, 0, ROWS);
    expect(refused).toMatchObject({ ok: false, error: { param: 'validation.sha256' } });
    await rig.jobs.remove(OTHER);

    valueOf(await rig.jobs.declare(JOB, declarationOf(ROWS, { validation })));
    await rig.jobs.putPart(JOB, 0, ROWS);
    await rig.reopen();
    expect((await rig.report()).missing_parts).toEqual([1]);
    await rig.jobs.putPart(JOB, 1, heldOut);
    const training = await rig.training(1);
    expect(readFileSync(training.wish.rows)).toEqual(ROWS);
    expect(readFileSync(training.wish.validation!)).toEqual(heldOut);
    training.succeeds('an adapter');
    await rig.settled();
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
  });

  it('is for its own user alone', async () => {
    await rig.bring();
    const training = await rig.training(1);
    training.saves(1);
    training.succeeds('an adapter');
    await rig.settled();
    for (const name of ['', JOB]) expect(statSync(join(rig.folder, name)).mode & 0o777).toBe(0o700);
    for (const name of rig.files()) expect(statSync(join(rig.folder, name)).mode & 0o777).toBe(0o600);
  });

  it('waits for the adapters of its chain, protects them, and takes copies', async () => {
    const [one, two] = [Buffer.from('first adapter'), Buffer.from('second adapter')];
    const chain = [one, two].map((bytes, at) => ({ digest: sha256(bytes), scale: at + 1 }));
    rig.adapters.set(chain[0]!.digest, new Uint8Array(one));
    const report = await rig.bring(JOB, ROWS, { chain });
    expect(report).toMatchObject({ state: 'waiting', missing_adapters: [chain[1]!.digest] });
    expect([...rig.kept.values()]).toEqual([1, 1]);
    rig.adapters.set(chain[1]!.digest, new Uint8Array(two));
    rig.pass(JOB_TICK_MS);
    const { wish } = await rig.training(1);
    expect(wish.chain.map(({ digest, scale }) => ({ digest, scale }))).toEqual(chain);
    expect(wish.chain.map(({ path }) => readFileSync(path))).toEqual([one, two]);
    expect([...rig.kept.values()]).toEqual([0, 0]);
    rig.adapters.clear();
    expect(await rig.report()).toMatchObject({ state: 'running', missing_adapters: [] });
  });

  it('is refused beside another, above the limit, without memory, and under an id that is taken', async () => {
    await rig.bring();
    expect(await rig.jobs.declare(OTHER, declarationOf())).toMatchObject({
      error: { code: 'queue_full', retryAfterMs: expect.any(Number) as number },
    });
    // Again, it is the same.
    expect(await rig.jobs.declare(JOB, declarationOf())).toMatchObject({ ok: true });
    expect(await rig.jobs.declare(JOB, declarationOf(ROWS, { max_seconds: 5 }))).toMatchObject({
      error: { code: 'version_conflict' },
    });
    (await rig.training(1)).succeeds('one');
    await rig.settled();
    rig.memoryProblem = 'This training needs about 9.0 GB.';
    expect(await rig.jobs.declare(OTHER, declarationOf())).toMatchObject({
      error: { code: 'invalid_request', message: rig.memoryProblem },
    });
    rig.memoryProblem = null;
    for (let at = 1; at < MAX_HELD_JOBS; at += 1) {
      await rig.bring(idOf(`x${at}x`));
      (await rig.training(at + 1)).succeeds('more');
      await rig.settled();
    }
    expect(await rig.jobs.declare(OTHER, declarationOf())).toMatchObject({ error: { code: 'queue_full' } });
    expect(await rig.jobs.remove(JOB)).toBe(true);
    expect(await rig.jobs.declare(OTHER, declarationOf())).toMatchObject({ ok: true });
  });

  it('is one, however many requests come at once', async () => {
    const many = <T>(ask: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: 5 }, ask));
    const declared = await Promise.all([JOB, OTHER, JOB].map((id) => rig.jobs.declare(id, declarationOf())));
    expect(declared.map(({ ok }) => ok)).toEqual([true, false, true]);
    await many(() => rig.jobs.putPart(JOB, 0, ROWS));
    expect(rig.trainings).toHaveLength(1);
    await Promise.all([many(() => rig.jobs.pause(JOB)), many(() => rig.jobs.resume(JOB))]);
    expect(rig.trainings[0]!.signals).toEqual(['SIGTERM']);
    rig.trainings[0]!.stops(1);
    await rig.training(2);
    expect(await many(() => rig.jobs.remove(JOB))).toEqual([true, false, false, false, false]);
    expect([rig.files(), rig.outcomes]).toEqual([[], [[JOB, 'deleted']]]);
  });

  it('limits the events of one report, which begin after the given number', async () => {
    await rig.bring();
    const training = await rig.training(1);
    for (let step = 1; step <= 500; step += 1) training.steps(step, 500);
    const first = await rig.report();
    expect(first.events.map(({ number }) => number)).toEqual(
      Array.from({ length: MAX_JOB_EVENTS_AT_ONCE }, (_, at) => at + 1),
    );
    const after = await rig.report(JOB, 450);
    expect(after.events.map(({ number }) => number)).toEqual(Array.from({ length: 50 }, (_, at) => 451 + at));
  });

  it('tells a held-out loss beside its step, and one line in many of a long training', async () => {
    await rig.bring();
    const training = await rig.training(1);
    training.plans(10);
    training.says({ event: 'held_out', step: 0, loss: 4, exact: 0, rows: 1 });
    training.steps(1);
    training.says({ event: 'held_out', step: 1, loss: 2.51, exact: 0, rows: 1 });
    training.steps(2);
    training.steps(3);
    const metrics = (await rig.report()).events.flatMap((event) => (event.metrics === null ? [] : [event]));
    expect(metrics.map((event) => [event.message, event.metrics])).toEqual([
      [
        'Before the first step: validation loss 4',
        { step: 0, total_steps: 10, train_loss: null, valid_loss: 4 },
      ],
      [
        'Step 1 of 10: training loss 3, validation loss 2.51',
        { step: 1, total_steps: 10, train_loss: 3, valid_loss: 2.51 },
      ],
      ['Step 2 of 10: training loss 1.5', { step: 2, total_steps: 10, train_loss: 1.5, valid_loss: null }],
    ]);
    // Owed by an earlier run.
    training.steps(4);
    training.saves(4);
    training.says({ event: 'held_out', step: 4, loss: 2, exact: 0, rows: 1 });
    training.says({ event: 'held_out', step: 4, loss: 2, exact: 0, rows: 1 });
    expect((await rig.report()).events.slice(-2).map(({ metrics }) => metrics)).toEqual([
      { step: 4, total_steps: 10, train_loss: 0.75, valid_loss: null },
      { step: 4, total_steps: 10, train_loss: null, valid_loss: 2 },
    ]);
    const steps = 50 * STORY_STEPS;
    for (let step = 5; step <= steps; step += 1) training.steps(step, steps);
    training.succeeds('one');
    await rig.settled();
    let count = 0;
    for (let last = 0; ;) {
      const { events } = await rig.report(JOB, last);
      if (events.length === 0) break;
      count += events.length;
      last = events.at(-1)!.number;
    }
    expect(count).toBeGreaterThan(STORY_STEPS);
    expect(count).toBeLessThan(STORY_STEPS + 20);
  });
});

describe('rows', () => {
  const LARGE = Buffer.alloc(2 * ROWS_PART_BYTES + 5, `${SECRET}\n`);
  const part = (at: number): Buffer => LARGE.subarray(at * ROWS_PART_BYTES, (at + 1) * ROWS_PART_BYTES);

  it('come in any order, and are still there after a restart', async () => {
    await rig.jobs.declare(JOB, declarationOf(LARGE));
    expect(await rig.jobs.putPart(JOB, 2, part(2))).toMatchObject({ value: { missing_parts: [0, 1] } });
    await rig.reopen();
    expect(await rig.report()).toMatchObject({ state: 'receiving', missing_parts: [0, 1] });
    // Twice does no harm.
    for (const at of [0, 0, 2, 1]) await rig.jobs.putPart(JOB, at, part(at));
    expect(readFileSync((await rig.training(1)).wish.rows).equals(LARGE)).toBe(true);
  });

  it('are sent again when a part is torn, and when they are not the declared ones', async () => {
    await rig.jobs.declare(JOB, declarationOf(LARGE));
    for (const at of [0, 1]) await rig.jobs.putPart(JOB, at, part(at));
    truncateSync(join(rig.folder, JOB, 'parts/1'), 100);
    writeFileSync(join(rig.folder, JOB, 'parts/2.0123456789abcdef.tmp'), SECRET);
    await rig.reopen();
    expect(await rig.report()).toMatchObject({ missing_parts: [1, 2] });
    expect(rig.files()).toEqual([`${JOB}/job.json`, `${JOB}/parts/0`, `${JOB}/parts/1`]);
    await rig.jobs.putPart(JOB, 1, Buffer.alloc(ROWS_PART_BYTES));
    expect(await rig.jobs.putPart(JOB, 2, part(2))).toMatchObject({
      error: { code: 'invalid_request', param: 'rows.sha256' },
    });
    expect(await rig.report()).toMatchObject({ state: 'receiving', missing_parts: [0, 1, 2] });
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
    for (const at of [0, 1, 2]) await rig.jobs.putPart(JOB, at, part(at));
    await rig.training(1);
  });

  it('are sent again when the origin ended between the last part and joining them', async () => {
    await rig.jobs.declare(JOB, declarationOf(LARGE));
    for (const at of [0, 1]) await rig.jobs.putPart(JOB, at, part(at));
    writeFileSync(join(rig.folder, JOB, 'parts/2'), part(2));
    await rig.reopen();
    expect(await rig.report()).toMatchObject({ state: 'receiving', missing_parts: [0, 1, 2] });
    for (const at of [0, 1, 2]) await rig.jobs.putPart(JOB, at, part(at));
    expect(readFileSync((await rig.training(1)).wish.rows).equals(LARGE)).toBe(true);
  });

  it('of another length, number or job are refused', async () => {
    await rig.jobs.declare(JOB, declarationOf(LARGE));
    const wrong = [
      [0, part(2)],
      [3, part(2)],
    ] as const;
    for (const [at, bytes] of wrong)
      expect(await rig.jobs.putPart(JOB, at, bytes)).toMatchObject({ error: { code: 'invalid_request' } });
    expect(await rig.jobs.putPart(OTHER, 0, part(0))).toMatchObject({ error: { code: 'not_found' } });
    expect(rig.jobs.partBytes(JOB, 2)).toBe(5);
    expect([rig.jobs.partBytes(JOB, 3), rig.jobs.partBytes(OTHER, 0)]).toEqual([null, null]);
  });

  it('that the disk refuses are a tagged refusal, and can be sent again', async () => {
    const full = { error: { code: 'origin_unavailable', retryAfterMs: expect.any(Number) as number } };
    rig.isDiskFull = true;
    expect(await rig.jobs.declare(JOB, declarationOf())).toMatchObject(full);
    expect([rig.files(), rig.jobs.list().jobs]).toEqual([[], []]);
    rig.isDiskFull = false;
    await rig.jobs.declare(JOB, declarationOf());
    rig.isDiskFull = true;
    expect(await rig.jobs.putPart(JOB, 0, ROWS)).toMatchObject(full);
    expect(await rig.report()).toMatchObject({ missing_parts: [0] });
    rig.isDiskFull = false;
    expect(await rig.jobs.putPart(JOB, 0, ROWS)).toMatchObject({ value: { state: 'running' } });
    const training = await rig.training(1);
    // A full disk at the end loses nothing that is here.
    rig.isDiskFull = true;
    training.succeeds('an adapter');
    await rig.settled();
    expect(await rig.report()).toMatchObject({ state: 'done', result: { bytes: 10 } });
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
  });
});

describe('pause and resume', () => {
  it('save a checkpoint, let another job run, and go on from it', async () => {
    await rig.bring();
    const first = await rig.training(1);
    first.steps(3);
    expect(await rig.jobs.pause(JOB)).toMatchObject({ value: { state: 'paused' } });
    expect(first.signals).toEqual(['SIGTERM']);
    // Declared while the first is still ending, and then in its place.
    expect((await rig.bring(OTHER)).state).toBe('running');
    expect(rig.trainings).toHaveLength(1);
    first.stops(3);
    const second = await rig.training(2);
    expect(second.wish.resume).toBe(false);
    expect(await rig.jobs.resume(JOB)).toMatchObject({ error: { code: 'queue_full' } });
    second.succeeds('second');
    await rig.settled();
    expect(await rig.jobs.resume(JOB)).toMatchObject({ value: { state: 'running' } });
    expect((await rig.training(3)).wish).toMatchObject({ resume: true, work: first.wish.work });
    expect(await messages()).toEqual([
      'The training starts.',
      'Step 3 of 10: training loss 1',
      'Paused at step 3 of 10.',
      'Resumed.',
      'The training goes on from its checkpoint.',
    ]);
  });

  it('may follow each other before the training has ended', async () => {
    await rig.bring();
    const first = await rig.training(1);
    await rig.jobs.pause(JOB);
    await rig.jobs.resume(JOB);
    expect(rig.trainings).toHaveLength(1);
    first.stops(2);
    expect((await rig.training(2)).wish.resume).toBe(true);
  });

  it('hold a job that has not begun', async () => {
    await rig.jobs.declare(JOB, declarationOf());
    expect(await rig.jobs.pause(JOB)).toMatchObject({ value: { state: 'paused', missing_parts: [0] } });
    await rig.jobs.putPart(JOB, 0, ROWS);
    await rig.settled();
    expect(rig.trainings).toEqual([]);
    await rig.reopen();
    expect([await rig.state(), rig.trainings]).toEqual(['paused', []]);
    await rig.jobs.resume(JOB);
    await rig.training(1);
  });

  it('kill a training that does not end', async () => {
    await rig.bring();
    const training = await rig.training(1);
    await rig.jobs.pause(JOB);
    rig.pass(STOP_PATIENCE_MS - 1);
    expect(training.signals).toEqual(['SIGTERM']);
    rig.pass(1);
    expect(training.signals).toEqual(['SIGTERM', 'SIGKILL']);
    await rig.settled();
    expect([await rig.state(), rig.jobs.running]).toEqual(['paused', 0]);
  });

  it('change nothing at a job that has ended', async () => {
    await rig.bring();
    (await rig.training(1)).succeeds('one');
    await rig.settled();
    for (const change of ['pause', 'resume'] as const)
      expect(await rig.jobs[change](JOB)).toMatchObject({ value: { state: 'done' } });
    expect(await rig.jobs.pause(OTHER)).toMatchObject({ error: { code: 'not_found' } });
  });
});

describe('a deleted job', () => {
  it('is killed, and leaves no byte behind', async () => {
    const adapter = Buffer.from(`${SECRET}, in an adapter`);
    const chain = [{ digest: sha256(adapter), scale: 1 }];
    rig.adapters.set(chain[0]!.digest, new Uint8Array(adapter));
    await rig.bring(JOB, ROWS, { chain });
    const training = await rig.training(1);
    training.steps(3);
    training.saves(3);
    expect(filesWith(rig.folder, SECRET)).toHaveLength(3);
    training.steps(4);
    const removed = rig.jobs.remove(JOB);
    expect(await removed).toBe(true);
    expect(training.signals).toEqual(['SIGKILL']);
    expect(rig.files()).toEqual([]);
    expect(existsSync(join(rig.folder, JOB))).toBe(false);
    expect(await rig.jobs.remove(JOB)).toBe(false);
    await rig.settled();
    expect(rig.files()).toEqual([]);
    expect(rig.outcomes).toEqual([[JOB, 'deleted']]);
    // The next one has the place.
    expect((await rig.bring(OTHER)).state).toBe('running');
  });

  it('is gone in every state', async () => {
    await rig.jobs.declare(JOB, declarationOf());
    await rig.jobs.remove(JOB);
    await rig.bring();
    (await rig.training(1)).succeeds('one');
    await rig.settled();
    await rig.jobs.remove(JOB);
    await rig.bring();
    const training = await rig.training(2);
    // Its end and the deletion come at once.
    training.succeeds('two');
    await rig.jobs.remove(JOB);
    expect(rig.files()).toEqual([]);
    expect(rig.outcomes).toEqual([
      [JOB, 'deleted'],
      [JOB, 'done'],
      [JOB, 'deleted'],
    ]);
  });

  it('is removed by the next start, if a crash came in between', async () => {
    await rig.bring();
    await rig.training(1);
    writeFileSync(join(rig.folder, JOB, 'job.json'), '{"torn');
    writeFileSync(join(rig.folder, 'rest'), SECRET);
    await rig.reopen();
    expect(rig.files()).toEqual([]);
    expect(rig.jobs.list()).toEqual({ trains: true, jobs: [] });
  });

  it.each([
    ['has not begun, and no edge has asked about it for minutes', JOB_UNBEGUN_MS, false],
    ['is paused, and no edge has asked about it for a day', JOB_UNHEARD_MS, true],
  ])('is one that %s', async (_, patience, isPaused) => {
    await rig.jobs.declare(JOB, declarationOf());
    if (isPaused) await rig.jobs.pause(JOB);
    rig.pass(patience - 1);
    await rig.settled();
    // To ask is to be heard of.
    expect(await rig.state()).toBe(isPaused ? 'paused' : 'receiving');
    rig.pass(patience - 1);
    await rig.settled();
    expect(rig.jobs.list().jobs).toHaveLength(1);
    rig.pass(JOB_TICK_MS);
    await rig.settled();
    expect([rig.jobs.list().jobs, rig.files()]).toEqual([[], []]);
    expect((await rig.jobs.declare(OTHER, declarationOf())).ok).toBe(true);
  });

  it('is not one that has not begun, right after a start', async () => {
    await rig.jobs.declare(JOB, declarationOf());
    rig.now += JOB_UNHEARD_MS;
    await rig.reopen();
    rig.pass(JOB_UNBEGUN_MS - 1);
    await rig.settled();
    expect(rig.jobs.list().jobs).toHaveLength(1);
  });

  it('is not one whose origin was away for long', async () => {
    await rig.bring();
    await rig.training(1);
    rig.now += 3 * JOB_UNHEARD_MS;
    await rig.reopen();
    expect(rig.jobs.list().jobs).toHaveLength(1);
  });
});

describe('an origin that ends', () => {
  it('saves a checkpoint first, and goes on by itself at the next start', async () => {
    await rig.bring();
    const training = await rig.training(1);
    training.steps(3);
    const halted = rig.jobs.halt();
    await expect.poll(() => training.signals).toEqual(['SIGTERM']);
    training.stops(3);
    await halted;
    expect(rig.trainings).toHaveLength(1);
    await rig.reopen();
    expect((await rig.training(2)).wish.resume).toBe(true);
    expect((await rig.report()).events.map(({ number }) => number)).toEqual([1, 2, 3]);
    expect(await messages()).toEqual([
      'The training starts.',
      'Step 3 of 10: training loss 1',
      'The training goes on from its checkpoint.',
    ]);
  });

  it('starts nothing any more', async () => {
    await rig.jobs.declare(JOB, declarationOf());
    await rig.jobs.halt();
    await rig.jobs.putPart(JOB, 0, ROWS);
    rig.pass(JOB_TICK_MS);
    await rig.settled();
    expect(rig.trainings).toEqual([]);
    await rig.reopen();
    await rig.training(1);
  });

  it('goes on after kill -9, tells no step twice, and gives up a training that kills it each time', async () => {
    await rig.bring();
    (await rig.training(1)).saves(4);
    rig.trainings[0]!.steps(5);
    await rig.settled();
    for (let start = 2; start <= 4; start += 1) {
      await rig.reopen();
      const training = await rig.training(start);
      expect(training.wish.resume).toBe(true);
      training.steps(5);
      training.steps(6);
    }
    expect((await messages()).filter((message) => message.startsWith('Step'))).toEqual([
      'Step 5 of 10: training loss 0.6',
    ]);
    await rig.reopen();
    expect(await rig.report()).toMatchObject({ state: 'failed', failure: { code: 'training_failed' } });
    expect(rig.trainings).toHaveLength(4);
  });

  it('fails a job of another base, which it has no more', async () => {
    await rig.bring();
    (await rig.training(1)).saves(4);
    rig.base = 'c'.repeat(64);
    await rig.reopen();
    expect(await rig.report()).toMatchObject({ state: 'failed', failure: { code: 'base_mismatch' } });
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
  });

  it('has its results and its story afterwards, also a torn one', async () => {
    await rig.bring();
    (await rig.training(1)).succeeds('an adapter');
    await rig.settled();
    const { events } = await rig.report();
    const story = join(rig.folder, JOB, 'events.jsonl');
    await expect.poll(() => readFileSync(story, 'utf8').split('\n')).toHaveLength(events.length + 1);
    writeFileSync(story, `${readFileSync(story, 'utf8')}{"number":9,"at":1`);
    await rig.reopen();
    expect(await rig.report()).toMatchObject({ state: 'done', events, result: { bytes: 10 } });
    expect(readFileSync(rig.jobs.result(JOB)!.path, 'utf8')).toBe('an adapter');
  });
});

describe('checkpoints', () => {
  const keepTwo = (training: PlayedTraining): TrainingCard[] => [
    training.keeps(4, 'after four steps'),
    training.keeps(7, 'after seven'),
  ];
  const filesOfJob = (): string[] => rig.files().filter((name) => name.startsWith(`${JOB}/checkpoints/`));

  it('that were asked for are reported and kept with the result, and deleted with the job', async () => {
    await rig.bring(JOB, ROWS, { checkpoints: true });
    const training = await rig.training(1);
    const cards = keepTwo(training);
    expect((await rig.report()).checkpoints).toEqual([]);
    expect(rig.jobs.result(JOB, 4)).toBeNull();
    training.succeeds('an adapter', CARD, cards);
    await rig.settled();
    for (const reopened of [false, true]) {
      if (reopened) await rig.reopen();
      const report = JobReport.parse(await rig.report());
      expect(report.checkpoints).toEqual([
        { bytes: 16, digest: sha256('after four steps'), card: cards[0] },
        { bytes: 11, digest: sha256('after seven'), card: cards[1] },
      ]);
      expect(readFileSync(rig.jobs.result(JOB, 7)!.path, 'utf8')).toBe('after seven');
      expect(readFileSync(rig.jobs.result(JOB)!.path, 'utf8')).toBe('an adapter');
      expect(rig.jobs.result(JOB, 5)).toBeNull();
    }
    await rig.jobs.remove(JOB);
    expect(rig.files()).toEqual([]);
  });

  it('are not kept unless they were asked for', async () => {
    await rig.bring();
    const training = await rig.training(1);
    expect(training.wish.checkpoints).toBeNull();
    training.succeeds('an adapter');
    await rig.settled();
    expect((await rig.report()).checkpoints).toEqual([]);
  });

  it('outlive a restart of the origin, and not a job that fails', async () => {
    await rig.bring(JOB, ROWS, { checkpoints: true });
    const first = await rig.training(1);
    first.keeps(4, 'after four steps');
    first.saves(4);
    await rig.reopen();
    const second = await rig.training(2);
    expect(second.wish).toMatchObject({ resume: true, checkpoints: first.wish.checkpoints });
    expect(filesOfJob()).toHaveLength(1);
    second.fails('loss_not_finite', 'the loss of step 5 is not a number');
    await rig.settled();
    expect(filesOfJob()).toEqual([]);
    expect((await rig.report()).checkpoints).toEqual([]);
  });
});

describe('a training that does not succeed', () => {
  it.each<[TrainingFailure, string, RegExp]>([
    ['rows_invalid', 'line 3: no assistant message', /^line 3: no assistant message\.$/],
    ['settings_invalid', 'alpha over rank is 0. Use a larger --alpha', /Use a larger alpha\.$/],
    ['loss_not_finite', 'the loss of step 1 is not a number. Use a lower --rate', /Use a lower rate\.$/],
    ['out_of_memory', 'there is not enough memory (x)', /not enough memory/],
    ['base_mismatch', '/srv/graft/base.gguf is truncated', /chain does not fit the base/],
    ['disk_full', 'ENOSPC: /srv/graft', /disk is full/],
    ['training_failed', 'ENOENT: /srv/graft/jobs', /origin's log/],
  ])('fails with %s, and tells nothing of the origin’s files', async (code, message, told) => {
    await rig.bring();
    (await rig.training(1)).fails(code, message);
    await rig.settled();
    const { state, failure, events } = await rig.report();
    expect([state, failure?.code]).toEqual(['failed', code]);
    expect(failure?.message).toMatch(told);
    expect(failure?.message).not.toContain('/srv');
    expect(events.at(-1)).toMatchObject({ level: 'error', message: failure?.message });
    // Nor does the log repeat what may quote rows.
    const isOfRows = ['rows_invalid', 'settings_invalid', 'loss_not_finite'].includes(code);
    expect(rig.troubles).toEqual(isOfRows ? [] : [`${code}: ${message}`]);
    expect(rig.outcomes).toEqual([[JOB, 'failed']]);
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
  });

  it.each([
    ['SIGKILL', []],
    ['SIGABRT', ['FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory']],
  ] as const)('failed for want of memory, if it died of %s', async (signal, log) => {
    await rig.bring();
    (await rig.training(1)).dies(signal, log);
    await rig.settled();
    expect(await rig.report()).toMatchObject({ state: 'failed', failure: { code: 'out_of_memory' } });
  });

  it.each([['SIGSEGV'], [null]] as const)('goes on once if it died of %s, then fails', async (signal) => {
    await rig.bring();
    const first = await rig.training(1);
    first.saves(4);
    first.dies(signal);
    const second = await rig.training(2);
    expect(second.wish.resume).toBe(true);
    second.dies(signal, ['TypeError: no such tensor']);
    await rig.settled();
    expect(await rig.report()).toMatchObject({ state: 'failed', failure: { code: 'training_failed' } });
    expect(rig.troubles.at(-1)).toContain('TypeError: no such tensor');
    expect(rig.trainings).toHaveLength(2);
  });

  it('starts again without a checkpoint that a power cut has damaged', async () => {
    await rig.bring();
    const first = await rig.training(1);
    first.saves(4);
    first.fails('checkpoint_damaged', 'its sha256 is another');
    const second = await rig.training(2);
    expect(second.wish.resume).toBe(false);
    expect(existsSync(join(second.wish.work, CHECKPOINT_FILE))).toBe(false);
  });

  it('goes on if somebody else has stopped it', async () => {
    await rig.bring();
    (await rig.training(1)).stops(3);
    await rig.settled();
    expect(rig.trainings).toHaveLength(1);
    rig.pass(JOB_TICK_MS);
    expect((await rig.training(2)).wish.resume).toBe(true);
  });

  it('fails if its result is not there', async () => {
    await rig.bring();
    (await rig.training(1)).succeeds(null);
    await rig.settled();
    expect(await rig.report()).toMatchObject({ state: 'failed', failure: { code: 'training_failed' } });
    expect(rig.troubles.at(-1)).toContain('ENOENT');
  });

  it('is ended after its time, pauses not counted', async () => {
    await rig.bring(JOB, ROWS, { max_seconds: 100 });
    const first = await rig.training(1);
    rig.pass(60_000);
    await rig.jobs.pause(JOB);
    first.stops(3);
    await rig.settled();
    rig.pass(3_600_000);
    await rig.reopen();
    await rig.jobs.resume(JOB);
    const second = await rig.training(2);
    rig.pass(39_999);
    expect(second.signals).toEqual([]);
    rig.pass(1);
    await rig.settled();
    expect(await rig.report()).toMatchObject({
      state: 'failed',
      failure: { code: 'too_long', message: expect.stringContaining('100 seconds') as string },
    });
    expect(filesWith(rig.folder, SECRET)).toEqual([]);
  });

  it('ends when an adapter of its chain is erased', async () => {
    const adapter = Buffer.from('an adapter');
    const chain = [{ digest: sha256(adapter), scale: 1 }];
    rig.adapters.set(chain[0]!.digest, new Uint8Array(adapter));
    await rig.bring(JOB, ROWS, { chain });
    const training = await rig.training(1);
    await rig.jobs.dropAdapters(new Set(['0'.repeat(64)]));
    expect(await rig.state()).toBe('running');
    await rig.jobs.dropAdapters(new Set([chain[0]!.digest]));
    expect(training.signals).toEqual(['SIGKILL']);
    expect(filesWith(rig.folder, 'an adapter')).toEqual([]);
    expect(await rig.report()).toMatchObject({ state: 'failed', failure: { code: 'base_mismatch' } });
    await rig.settled();
    expect(rig.outcomes).toEqual([[JOB, 'failed']]);
  });
});
