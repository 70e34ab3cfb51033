import { afterEach, expect, it, vi } from 'vitest';
import type { Drops } from '../../worker/kv-inbox/take-drops.ts';
import { createSchedule, runJobs } from '../../worker/schedule.ts';

afterEach(() => void vi.restoreAllMocks());

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
