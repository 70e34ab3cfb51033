import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { waitForChange } from '../../../cli/local/keep-process-ours.ts';

/** Notifies three times without a change, each time until somebody has heard it; then changes the value. */
const EARLY = `
  const { workerData: flag } = require('node:worker_threads');
  for (let heard = 0; heard < 3; ) heard += Atomics.notify(flag, 0);
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
`;

it('an early notification wakes nobody', async () => {
  waitForChange();
  waitForChange();
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(EARLY, { eval: true, workerData: flag });
  expect(Atomics.wait(flag, 0, 0)).toBe('ok');
  expect(Atomics.load(flag, 0)).toBe(1);
  await worker.terminate();
});

it('a different value, or a timeout, ends the wait as before', () => {
  waitForChange();
  const flag = new Int32Array(new SharedArrayBuffer(4));
  expect(Atomics.wait(flag, 0, 1)).toBe('not-equal');
  expect(Atomics.wait(flag, 0, 0, 1)).toBe('timed-out');
});
