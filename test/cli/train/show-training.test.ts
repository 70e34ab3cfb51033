import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { createOutput } from '../../../cli/output.ts';
import { timeText, trainingProgress } from '../../../cli/train/show-training.ts';
import type { TrainingEvent } from '../../../protocol/training.ts';
import { writtenTo } from '../../fixtures/written-to.ts';

const stepEvent = (step: number, steps: number): TrainingEvent => ({
  ...{ event: 'step', step, steps, loss: 1.2345, rate: 1e-3 },
  ...{ tokens_per_second: 1_310.4, tokens: 1_000 * step, seconds_left: 7_900 },
});

function shown(events: readonly TrainingEvent[], columns?: number): string {
  const stderr = Object.assign(new PassThrough(), {
    isTTY: columns !== undefined,
    ...(columns === undefined ? {} : { columns }),
  });
  const progress = trainingProgress(createOutput({ json: false, stdout: new PassThrough(), stderr }), 64);
  for (const event of events) progress.hear(event);
  progress.end();
  return writtenTo(stderr);
}

const rows: TrainingEvent = {
  ...{ event: 'rows', trained: 1, held_out: 0, left_out: 0, longest: 9, tokens: 1_234 },
};

it('writes ten lines at most where no rows are held out', () => {
  const steps = Array.from({ length: 1_000 }, (_, i) => stepEvent(i + 1, 1_000));
  const lines = shown([rows, ...steps])
    .trimEnd()
    .split('\n');
  expect(lines).toHaveLength(11);
  expect(lines[0]).toBe('1 row to train on (1,234 tokens, the longest 9)');
  expect(lines.at(-1)).toBe('step 1000 of 1000: loss 1.23, 2 h 12 min left, 1,310 tok/s');
});

it.each([40, 80, 200])('draws a bar that fits a terminal of %d columns', (columns) => {
  const heldOut: TrainingEvent = { event: 'held_out', step: 1, loss: 2.3456, exact: 3, rows: 14 };
  const drawn = shown([stepEvent(1, 9_000), heldOut, stepEvent(9_000, 9_000)], columns);
  expect(drawn).toContain('step  ░');
  for (const line of drawn.split('\r\u001b[2K')) expect(line.length, line).toBeLessThan(columns);
  if (columns === 200)
    expect(drawn).toContain('9000 of 9000  loss 1.23, held out 2.35, 2 h 12 min left, 1,310 tok/s');
});

it('says from where it continues, and that memory is saved', () => {
  const plan: TrainingEvent = {
    ...{ event: 'plan', steps: 1_200, done: 40, parameters: 2_442_240, seconds_per_step: 0.31, seconds: 350 },
    ...{ memory_bytes: 9.7e8, recompute: true },
  };
  expect(shown([plan])).toBe(
    'continuing after step 40 of 1,200, about 6 min (0.31 s a step), 1.0 GB memory, saved by computing layers twice, 2.44M numbers to train\n',
  );
});

it.each([
  [0.4, '0 s'],
  [99, '99 s'],
  [100, '2 min'],
  [5_940, '99 min'],
  [7_800, '2 h 10 min'],
])('tells %d seconds as %s', (seconds, text) => {
  expect(timeText(seconds)).toBe(text);
});
