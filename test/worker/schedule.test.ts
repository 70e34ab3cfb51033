import { afterEach, expect, it, vi } from 'vitest';
import type { Drops } from '../../worker/kv-inbox/take-drops.ts';
import { SCHEDULED_JOB_MS } from '../../worker/limits.ts';
import { createSchedule, runJobs } from '../../worker/schedule.ts';

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

it('runs all jobs in order, says which one failed, and fails with the first', async () => {
  const said = vi.spyOn(console, 'error').mockReturnValue();
  const ran: string[] = [];
  const job = (name: string, failure?: string) => async () => {
    ran.push(name);
    if (failure !== undefined) throw new Error(failure);
  };
  await runJobs({ a: job('a') });
  await expect(runJobs({ b: job('b', 'first'), c: job('c', 'second'), d: job('d') })).rejects.toThrow(
    'first',
  );
  expect(ran).toEqual(['a', 'b', 'c', 'd']);
  expect(said.mock.calls.map(([line]) => JSON.parse(line as string) as unknown)).toEqual([
    { level: 'error', event: 'job_failed', job: 'b', reason: 'first' },
    { level: 'error', event: 'job_failed', job: 'c', reason: 'second' },
  ]);
});

it('lets a job that takes longer than its time go on behind the others, and says so', async () => {
  vi.useFakeTimers();
  const said = [vi.spyOn(console, 'warn'), vi.spyOn(console, 'error')].map((spy) => spy.mockReturnValue());
  const ran: string[] = [];
  const kept: Promise<unknown>[] = [];
  let fail: () => void = () => undefined;
  const hangs = () => new Promise<void>((_, reject) => (fail = () => reject(new Error('late'))));
  const jobs = { a: hangs, b: async () => void ran.push('b'), c: hangs };
  let ended = false;
  const run = runJobs(jobs, { ms: SCHEDULED_JOB_MS, keepAlive: (work) => void kept.push(work) });
  void run.then(() => (ended = true));
  await vi.advanceTimersByTimeAsync(SCHEDULED_JOB_MS - 1);
  expect(ran).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect([ran, kept.length, ended]).toEqual([['b'], 1, false]);
  await vi.advanceTimersByTimeAsync(SCHEDULED_JOB_MS);
  expect([kept.length, ended]).toEqual([2, true]);
  fail();
  await kept[1];
  const lines = said.flatMap((spy) => spy.mock.calls.map(([line]) => JSON.parse(line as string) as object));
  expect(lines).toEqual([
    { level: 'warning', event: 'job_goes_on', job: 'a', ms: SCHEDULED_JOB_MS },
    { level: 'warning', event: 'job_goes_on', job: 'c', ms: SCHEDULED_JOB_MS },
    { level: 'error', event: 'job_failed', job: 'c', reason: 'late' },
  ]);
});

it('ends what was revoked, erased or retired before anything that may take a minute', async () => {
  const said = vi.spyOn(console, 'error').mockReturnValue();
  // Each job fails for want of its stores, and is named.
  const nothing = { now: () => 0 } as unknown as Parameters<typeof createSchedule>[0];
  const drops = { takeAll: () => Promise.reject(new Error('away')) } as unknown as Drops;
  await expect(createSchedule(nothing, drops)(() => undefined)).rejects.toThrow();
  const jobs = said.mock.calls.map(([line]) => (JSON.parse(line as string) as { job: string }).job);
  expect(jobs.slice(0, 2)).toEqual(['rights', 'pointers']);
  expect(jobs).toContain('drops');
});
