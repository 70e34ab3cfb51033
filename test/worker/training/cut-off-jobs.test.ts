/** Jobs whose isolate dies at any call of D1, of KV or of an origin, and isolates that attend to them at once. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import type { OriginJobs } from '../../../worker/origins/jobs.ts';
import { removeAtOrigins } from '../../../worker/training/advance-jobs.ts';
import { JOB_LEASE_MS, JOB_LEASE_RENEW_MS } from '../../../worker/training/limits.ts';
import type { TrainingJobs } from '../../../worker/training/ports.ts';
import { trainingCard } from '../../contracts/sample-training.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness } from '../app-harness.ts';
import { openDatabase } from '../platform/database.ts';
import { throughDatabase } from '../platform/through-database.ts';
import { createJobRig, type JobRig } from './job-rig.ts';

beforeEach(() => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockReturnValue(undefined);
});

type Mode = 'before' | 'after';

/** A database that is gone from one call on, which it makes before or not at all. */
function cuttable(db: SqlDatabase) {
  let left = Infinity;
  let how: Mode = 'before';
  async function call<T>(work: () => Promise<T>): Promise<T> {
    left -= 1;
    const gone = () => new StoreUnavailable('D1', new Error('cut off'));
    if (left < 0 || (left === 0 && how === 'before')) throw gone();
    const answer = await work();
    if (left === 0) throw gone();
    return answer;
  }
  return {
    db: throughDatabase(db, call),
    /** @param calls that still go well. */
    after(calls: number, mode: Mode): void {
      left = calls + 1;
      how = mode;
    },
    /** @returns whether it was cut off. */
    heal(): boolean {
      const was = left <= 0;
      left = Infinity;
      return was;
    },
  };
}

const adapter = tinyAdapter({ seed: 11 });

const CHECKPOINTS = { 30: tinyAdapter({ seed: 21 }), 60: tinyAdapter({ seed: 22 }) };
const KEEPING = { graft: { checkpoints: true } };

/** Until it has ended, however often. @returns its id's last status. */
async function runOn(rig: JobRig, id: string, key: Awaited<ReturnType<JobRig['makeKey']>>): Promise<string> {
  for (let runs = 0; runs < 8; runs += 1) {
    await rig.run();
    const job = rig.origin.jobs.get(id);
    if (job !== undefined && job.state === 'running') rig.origin.finish(adapter, {}, CHECKPOINTS);
  }
  return (await rig.get(id, key)).status;
}

async function expectOnce(rig: JobRig, digests = [adapter.digest]): Promise<void> {
  const versions = await rig.graft.services.registry.versions('alice/first');
  expect(versions.sort((a, b) => a.version - b.version).map(({ digest }) => digest)).toEqual(digests);
  expect(await rig.tokens('alice')).toBe(trainingCard().tokens);
  expect([rig.origin.jobs.size, await rig.count('training_deletions')]).toEqual([0, 0]);
}

describe.each(['before', 'after'] as const)('a run of the schedule that ends %s a call of D1', (mode) => {
  it.each(['that gives the job to an origin', 'that publishes its result'] as const)(
    '%s loses nothing, and publishes once',
    async (phase) => {
      // Every other call of each mode: those between are the other's.
      const offset = mode === 'before' ? 0 : 1;
      let wasCut = true;
      for (let calls = offset; wasCut; calls += 2) {
        const cut = cuttable(await openDatabase());
        const rig = await createJobRig({ db: cut.db });
        const key = await rig.makeKey({ tenant: 'alice', train: true });
        const { id } = (await rig.create(key)).body;
        if (phase === 'that publishes its result') {
          await rig.run();
          rig.origin.finish(adapter);
        }
        cut.after(calls, mode);
        await rig.run().catch(() => undefined);
        wasCut = cut.heal();
        expect([calls, await runOn(rig, id, key)]).toEqual([calls, 'succeeded']);
        await expectOnce(rig);
      }
    },
  );
});

const ALL = [...Object.values(CHECKPOINTS), adapter].map(({ digest }) => digest);

it('publishes checkpoints and result once, in this order, whichever call of D1 a run ends at', async () => {
  let wasCut = true;
  // Each third call: those between are much like it. Once before it, once after it.
  for (let calls = 0; wasCut; calls += 3) {
    const cut = cuttable(await openDatabase());
    const rig = await createJobRig({ db: cut.db });
    const key = await rig.makeKey({ tenant: 'alice', train: true });
    const { id } = (await rig.create(key, KEEPING)).body;
    await rig.run();
    rig.origin.finish(adapter, {}, CHECKPOINTS);
    cut.after(calls, calls % 2 === 0 ? 'after' : 'before');
    await rig.run().catch(() => undefined);
    wasCut = cut.heal();
    expect([calls, await runOn(rig, id, key)]).toEqual([calls, 'succeeded']);
    await expectOnce(rig, ALL);
    const told = (await rig.events(id, key)).map(({ message }) => message);
    expect(told.filter((message) => message.startsWith('Published '))).toHaveLength(3);
  }
});

it('publishes checkpoints and result once by two isolates that attend to it at the same time', async () => {
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key, KEEPING)).body;
  await rig.run();
  rig.origin.finish(adapter, {}, CHECKPOINTS);
  const { answer } = rig.graft.origin;
  let trials = 0;
  rig.graft.origin.answer = async (method, path, init, url) => {
    // At the trial of each, the lease is over.
    if (path.endsWith('/verify') && (trials += 1) <= 2) {
      rig.graft.clock.advance(181_000);
      await rig.graft.schedule(() => undefined);
    }
    return answer(method, path, init, url);
  };
  await rig.run();
  expect(await runOn(rig, id, key)).toBe('succeeded');
  await expectOnce(rig, ALL);
});

it('goes on after an origin’s call that was cut off, each in its turn', async () => {
  for (let cutAt = 0, wasCut = true; wasCut; cutAt += 1) {
    const rig = await createJobRig();
    const key = await rig.makeKey({ tenant: 'alice', train: true });
    const { id } = (await rig.create(key)).body;
    const { answer } = rig.graft.origin;
    let calls = 0;
    wasCut = false;
    rig.graft.origin.answer = async (method, path, init, url) => {
      const answered = await answer(method, path, init, url);
      const mine = path.startsWith('/jobs') && calls++ === cutAt;
      wasCut ||= mine;
      // The origin has done it, and nobody hears of it.
      if (mine) throw new Error('socket hang up');
      return answered;
    };
    expect([cutAt, await runOn(rig, id, key)]).toEqual([cutAt, 'succeeded']);
    await expectOnce(rig);
  }
});

it('waits while KV takes nothing', async () => {
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key)).body;
  await rig.run();
  rig.origin.finish(adapter);
  const put = rig.graft.kv.put.bind(rig.graft.kv);
  rig.graft.kv.put = () => Promise.reject(new Error('KV PUT failed: 500'));
  await rig.run().catch(() => undefined);
  expect((await rig.get(id, key)).status).toBe('running');
  rig.graft.kv.put = put;
  expect(await runOn(rig, id, key)).toBe('succeeded');
  await expectOnce(rig);
});

it('is published once by two isolates that attend to it at the same time', async () => {
  const rig = await createJobRig();
  const beside = await createAppHarness({ beside: rig.graft });
  beside.origin.answer = rig.graft.origin.answer;
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key)).body;
  const both = async () => {
    rig.graft.clock.advance(181_000);
    const runs = [rig.graft, beside, rig.graft].map((edge) => edge.schedule(() => undefined));
    await Promise.all(runs);
  };
  for (let i = 0; i < 3; i += 1) await both();
  expect(rig.origin.jobs.size).toBe(1);
  rig.origin.step(1);
  await both();
  // Its one event is told once.
  expect((await rig.events(id, key)).filter(({ type }) => type === 'metrics')).toHaveLength(1);
  rig.origin.finish(adapter);
  for (let i = 0; i < 3; i += 1) await both();
  expect((await rig.get(id, key)).status).toBe('succeeded');
  await expectOnce(rig);
});

it('is published once though its lease ends while it is being published', async () => {
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key)).body;
  await rig.run();
  rig.origin.finish(adapter);
  const { answer } = rig.graft.origin;
  let second: Promise<void> | null = null;
  rig.graft.origin.answer = async (method, path, init, url) => {
    if (path.endsWith('/verify') && second === null) {
      rig.graft.clock.advance(181_000);
      second = rig.graft.schedule(() => undefined);
      await second;
    }
    return answer(method, path, init, url);
  };
  await rig.run();
  expect(second).not.toBeNull();
  expect((await rig.get(id, key)).status).toBe('succeeded');
  await rig.run();
  await expectOnce(rig);
});

describe('a lease', () => {
  afterEach(() => void vi.useRealTimers());

  it('lasts for as long as somebody attends to the job', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const rig = await createJobRig();
    const key = await rig.makeKey({ tenant: 'alice', train: true });
    await rig.create(key);
    await rig.run();
    rig.origin.finish(adapter);
    const { answer } = rig.graft.origin;
    let fetches = 0;
    rig.graft.origin.answer = async (method, path, init, url) => {
      if (path.endsWith('/result') && (fetches += 1) === 1)
        for (let i = 0; i < 2 * (JOB_LEASE_MS / JOB_LEASE_RENEW_MS); i += 1) {
          rig.graft.clock.advance(JOB_LEASE_RENEW_MS);
          await vi.advanceTimersByTimeAsync(JOB_LEASE_RENEW_MS);
          await rig.graft.schedule(() => undefined);
        }
      return answer(method, path, init, url);
    };
    await rig.run();
    expect(fetches).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
    await rig.run();
    await expectOnce(rig);
  });

  it('of an edge that was ended is over after some seconds', async () => {
    const rig = await createJobRig();
    const { services } = rig.graft;
    const key = await rig.makeKey({ tenant: 'alice', train: true });
    const { id } = (await rig.create(key)).body;
    await rig.run();
    const { clock } = rig.graft;
    const { trainingJobs } = services;
    const until = clock.now() + JOB_LEASE_MS;
    expect(await trainingJobs.lease({ id, now: clock.now(), until })).not.toBeNull();
    // Who has lost it, cannot have it back.
    expect(await trainingJobs.renew({ id, until: until - 1, next: until + 1 })).toBe(false);
    rig.origin.finish(adapter);
    await rig.graft.schedule(() => undefined);
    expect((await rig.get(id, key)).status).toBe('running');
    clock.advance(JOB_LEASE_MS);
    await rig.graft.schedule(() => undefined);
    expect((await rig.get(id, key)).status).toBe('succeeded');
  });
});

it.each([
  ['its result', {}],
  ['a checkpoint', KEEPING],
])('of a job that is cancelled while %s is being published makes no version', async (_, more) => {
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key, more)).body;
  await rig.run();
  rig.origin.finish(adapter, {}, CHECKPOINTS);
  const { answer } = rig.graft.origin;
  rig.graft.origin.answer = async (method, path, init, url) => {
    if (path.endsWith('/verify')) await rig.step(id, 'cancel', key);
    return answer(method, path, init, url);
  };
  await rig.run();
  expect((await rig.get(id, key)).status).toBe('cancelled');
  expect(await rig.graft.services.registry.versions('alice/first')).toEqual([]);
  await rig.run();
  expect(rig.origin.jobs.size).toBe(0);
});

it('that its origin gets after its deletion is deleted there, however long the origin is away', async () => {
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key)).body;
  const { answer } = rig.graft.origin;
  let deletions = 0;
  rig.graft.origin.answer = async (method, path, init, url) => {
    if (path !== `/jobs/${id}`) return answer(method, path, init, url);
    if (method === 'PUT') {
      await rig.step(id, 'cancel', key);
      await vi.waitFor(() => expect(deletions).toBe(1));
    }
    if (method === 'DELETE') deletions += 1;
    if (deletions === 2) throw new Error('connect ECONNREFUSED');
    return answer(method, path, init, url);
  };
  await rig.run();
  expect([rig.origin.jobs.size, deletions]).toEqual([1, 2]);
  await rig.run();
  expect(rig.origin.jobs.size).toBe(0);
  expect(await rig.count('training_deletions')).toBe(0);
});

it('that its origin gets after its deletion is deleted there, also if D1 fails in between', async () => {
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const { id } = (await rig.create(key)).body;
  const { trainingJobs } = rig.graft.services;
  const { answer } = rig.graft.origin;
  let deletions = 0;
  rig.graft.origin.answer = async (method, path, init, url) => {
    if (path === `/jobs/${id}` && method === 'DELETE') deletions += 1;
    if (path === `/jobs/${id}` && method === 'PUT') {
      await rig.step(id, 'cancel', key);
      await vi.waitFor(() => expect(deletions).toBe(1));
      vi.spyOn(trainingJobs, 'save').mockRejectedValueOnce(new StoreUnavailable('D1', new Error('lost')));
    }
    return answer(method, path, init, url);
  };
  await expect(rig.run()).rejects.toThrow('lost');
  expect([rig.origin.jobs.size, deletions]).toEqual([1, 1]);
  await rig.run();
  expect(rig.origin.jobs.size).toBe(0);
  expect(await rig.count('training_deletions')).toBe(0);
});

it('and others are deleted at once at each origin, which has the time of one call for all of them', async () => {
  let now = 0;
  const asked: string[] = [];
  const left = new Set<string>();
  const jobs = ['hangs', 'slow', 'gone', 'quick'].flatMap((origin) =>
    Array.from({ length: 5 }, (_, at) => ({ origin, job: `${origin}-${at}` })),
  );
  for (const { job } of jobs) left.add(job);
  const begun = new Set<string>();
  await removeAtOrigins({
    now: () => now,
    trainingJobs: {
      deletions: () => Promise.resolve(jobs),
      deleted: ({ job }: { job: string }) => Promise.resolve(void left.delete(job)),
    } as unknown as TrainingJobs,
    originJobs: {
      isKnown: (origin: string) => origin !== 'gone',
      async remove(origin: string, job: string) {
        asked.push(job);
        begun.add(origin);
        await vi.waitFor(() => expect(begun.size).toBe(3));
        if (origin === 'slow') now += 4_000;
        return origin !== 'hangs';
      },
    } as unknown as OriginJobs,
  });
  const at = (origin: string): string[] => asked.filter((job) => job.startsWith(origin));
  expect([at('hangs').length, at('slow').length, at('gone').length]).toEqual([1, 3, 0]);
  expect([...left].filter((job) => !/hangs|slow|quick/.test(job))).toEqual([]);
  expect([...left].filter((job) => job.startsWith('slow'))).toEqual(['slow-3', 'slow-4']);
});
