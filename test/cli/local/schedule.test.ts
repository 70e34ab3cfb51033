import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startSchedule } from '../../../cli/local/schedule.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('schedule', () => {
  it('runs after each pause, also after a failure, and reports it', async () => {
    let runs = 0;
    const failures: string[] = [];
    const stop = startSchedule({
      work: async () => {
        runs += 1;
        if (runs === 1) throw new Error('broken');
      },
      pauseMs: 1_000,
      onFailure: (reason) => failures.push(reason),
    });
    await vi.advanceTimersByTimeAsync(999);
    expect(runs).toBe(0);
    await vi.advanceTimersByTimeAsync(2_001);
    expect([runs, failures]).toEqual([3, ['broken']]);
    stop();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(runs).toBe(3);
  });

  it('never runs twice at once, and reports nothing after it was stopped', async () => {
    let runs = 0;
    const failures: string[] = [];
    let fail = (_: Error): void => undefined;
    const stop = startSchedule({
      work: () => {
        runs += 1;
        return new Promise((_, reject) => (fail = reject));
      },
      pauseMs: 1_000,
      onFailure: (reason) => failures.push(reason),
    });
    await vi.advanceTimersByTimeAsync(10_000);
    expect(runs).toBe(1);
    stop();
    fail(new Error('the edge is gone'));
    await vi.advanceTimersByTimeAsync(10_000);
    expect([runs, failures]).toEqual([1, []]);
  });
});
