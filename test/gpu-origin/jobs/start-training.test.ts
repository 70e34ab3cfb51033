import { expect, it } from 'vitest';
import { trainingStarter } from '../../../gpu-origin/jobs/start-training.ts';
import { TINY_REQUEST } from '../../fixtures/training-program.ts';

/** A program that never listens for signals, as the real one in its first moments. */
const start = trainingStarter({
  program: ['--eval', 'setInterval(() => undefined, 1_000)', '--'],
  basePath: '',
  baseId: 'base',
  cacheDir: '',
  weights: 'int8',
  provider: 'cpu',
  threads: 1,
  env: {},
});
const training = () =>
  start({
    request: TINY_REQUEST,
    chain: [],
    rows: '',
    validation: null,
    work: '',
    checkpoints: null,
    resume: false,
    onEvent: () => undefined,
  });

it('is stopped, and has not died, when it is told to end before it listens', async () => {
  const early = training();
  early.stop();
  expect(await early.ended).toEqual({ event: 'stopped', step: 0, steps: 0 });
});

it('dies when it is killed', async () => {
  const killed = training();
  killed.kill();
  expect(await killed.ended).toMatchObject({ event: 'died', signal: 'SIGKILL' });
});
