import { expect, it } from 'vitest';
import { trainingError } from '../../../cli/train/run-program.ts';

const again = (flag: string): string => `graft train rows.jsonl ${flag}`.trim();

it.each([
  [true, 'Stopped while preparing. Continue with `graft train rows.jsonl --resume`.'],
  [false, 'Stopped before the first checkpoint. Start again with `graft train rows.jsonl`.'],
])('tells of a stop during the preparation; there is a checkpoint: %s', (hasCheckpoint, message) => {
  const end = { event: 'stopped', step: hasCheckpoint ? 4 : 0, steps: 0 } as const;
  const error = trainingError(end, { again, hasCheckpoint, isStopping: true });
  expect(error).toMatchObject({ message, code: 'interrupted', exitCode: 130 });
});
