import { expect, it } from 'vitest';
import { Turns } from '../../../gpu-origin/jobs/give-way.ts';

/** Each run takes 10 ms of a clock that only `pass` and runs move. */
function play() {
  let now = 0;
  let timers: { at: number; callback: () => void }[] = [];
  const turns = new Turns({
    now: () => now,
    timer(ms, callback) {
      const timer = { at: now + ms, callback };
      timers.push(timer);
      return () => (timers = timers.filter((one) => one !== timer));
    },
  });
  const runs: number[] = [];
  const run = () =>
    turns.take(async () => {
      runs.push(now);
      now += 10;
    });
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return {
    turns,
    runs,
    /** One after another, for ever. */
    begin: async (): Promise<void> => {
      for (let i = 0; i < 1_000; i++) await run();
    },
    run,
    timers: () => timers.length,
    async pass(ms: number): Promise<void> {
      for (const end = now + ms; ;) {
        await settle();
        const next = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) {
          now = Math.max(now, end);
          return;
        }
        timers = timers.filter((one) => one !== next);
        now = Math.max(now, next.at);
        next.callback();
      }
    },
  };
}

it('runs at once while the origin is quiet', async () => {
  const { run, runs } = play();
  for (let i = 0; i < 3; i++) await run();
  expect(runs).toEqual([0, 10, 20]);
});

it('takes a hundredth of the time while the origin answers, also the first run', async () => {
  const { turns, begin, run, runs, pass } = play();
  await run();
  turns.tell(true);
  void begin();
  await pass(3_500);
  expect(runs).toEqual([0, 1_000, 2_000, 3_000]);
});

it('goes on at once when the origin becomes quiet, and leaves no timer', async () => {
  const { turns, run, runs, pass, timers } = play();
  await run();
  turns.tell(true);
  const second = run();
  await pass(500);
  expect(runs).toEqual([0]);
  turns.tell(false);
  await second;
  expect(runs).toEqual([0, 510]);
  expect(timers()).toBe(0);
});

it('waits again if the origin answers before the training has gone on', async () => {
  const { turns, run, runs, pass } = play();
  await run();
  turns.tell(true);
  const second = run();
  await pass(500);
  turns.tell(false);
  turns.tell(true);
  await pass(400);
  expect(runs).toEqual([0]);
  await pass(100);
  await second;
  expect(runs).toEqual([0, 1_000]);
});

it('passes a failure on, and counts its time', async () => {
  const { turns, run, runs, pass } = play();
  await expect(turns.take(() => Promise.reject(new Error('no memory')))).rejects.toThrow('no memory');
  turns.tell(true);
  await run();
  const next = run();
  await pass(989);
  expect(runs).toEqual([0]);
  await pass(1);
  await next;
});
