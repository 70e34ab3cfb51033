import { expect, it } from 'vitest';
import { Activity } from '../../../gpu-origin/jobs/give-way.ts';
import { trainingStarter, type TrainingWish } from '../../../gpu-origin/jobs/start-training.ts';
import { TINY_REQUEST } from '../../fixtures/training-program.ts';

const COMMON = {
  basePath: '',
  baseId: 'base',
  cacheDir: '',
  weights: 'int8',
  provider: 'cpu',
  threads: 1,
  activity: null,
  env: {},
} as const;
const WISH: TrainingWish = {
  request: TINY_REQUEST,
  chain: [],
  rows: '',
  validation: null,
  work: '',
  checkpoints: null,
  resume: false,
  onEvent: () => undefined,
};
/** A program that never listens for signals, as the real one in its first moments. */
const start = trainingStarter({
  ...COMMON,
  program: ['--eval', 'setInterval(() => undefined, 1_000)', '--'],
});
const training = () => start(WISH);

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

it('tells the training when the origin begins to answer, and when it has been quiet for a while', async () => {
  let now = 0;
  let timers: { at: number; callback: () => void }[] = [];
  const activity = new Activity({
    now: () => now,
    timer: (ms, callback) => timers.push({ at: now + ms, callback }),
  });
  const pass = (ms: number): void => {
    now += ms;
    const due = timers.filter(({ at }) => at <= now);
    timers = timers.filter(({ at }) => at > now);
    for (const { callback } of due) callback();
  };
  const heard: boolean[] = [];
  const end = activity.listen((busy) => heard.push(busy));
  activity.onStep();
  activity.onStep();
  expect(heard).toEqual([true]);
  pass(400);
  activity.onStep();
  pass(400);
  expect(heard).toEqual([true]);
  const late: boolean[] = [];
  activity.listen((busy) => late.push(busy));
  expect(late).toEqual([true]);
  pass(100);
  expect(heard).toEqual([true, false]);
  end();
  activity.onStep();
  expect(heard).toEqual([true, false]);
  expect(late).toEqual([true, false, true]);
});

it('reaches the process by its channel, from its first moment on', async () => {
  const activity = new Activity({ now: () => 0, timer: () => undefined });
  activity.onStep();
  const program = "process.on('message', ({ busy }) => { console.log('busy ' + busy); process.exit(3); })";
  const { ended } = trainingStarter({ ...COMMON, program: ['--eval', program, '--'], activity })(WISH);
  expect(await ended).toMatchObject({ event: 'died', exitCode: 3, log: ['busy true'] });
});
