import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { problemOf } from '../../dashboard/model/problem.ts';
import { prefilled } from '../../dashboard/model/training-form.ts';
import {
  failureAdvice,
  inOrder,
  messagesOf,
  missingRight,
  progressOf,
  settingsOf,
  storyColumns,
  timeLeft,
  withPage,
} from '../../dashboard/model/training-jobs.ts';
import { JobView, type JobEventView } from '../../protocol/fine-tuning.ts';
import { JOB_FAILURES } from '../../protocol/training-jobs.ts';
import { sampleJob } from '../contracts/sample-training.ts';

const JOB = sampleJob();

const event = (number: number, data: JobEventView['data'] = null, message = `m${number}`): JobEventView => ({
  id: `ftevent-${'0'.repeat(24)}-${number}`,
  object: 'fine_tuning.job.event',
  created_at: number,
  level: 'info',
  message,
  type: data === null ? 'message' : 'metrics',
  data,
});
const step = (number: number, at: number, losses: { train_loss?: number; valid_loss?: number }) =>
  event(number, { step: at, total_steps: 9, ...losses });

it('lists running jobs first, then waiting, paused and ended ones, newest first', () => {
  const jobs = (['failed', 'queued', 'running', 'paused', 'succeeded', 'running'] as const).map(
    (status, i): JobView => ({ ...JOB, status, created_at: i }),
  );
  expect(inOrder(jobs).map(({ status, created_at: at }) => `${status} ${at}`)).toEqual([
    ...['running 5', 'running 2', 'queued 1', 'paused 3', 'succeeded 4', 'failed 0'],
  ]);
});

it.each<[Partial<JobView>, string | null]>([
  [{ status: 'running', estimated_finish: 280 }, 'about 3 min left'],
  [{ status: 'running', estimated_finish: 99 }, 'about to end'],
  [{ status: 'running' }, null],
  [{ status: 'paused', estimated_finish: 280 }, null],
])('says how long %j takes, as %s', (job, words) => {
  expect(timeLeft({ ...JOB, ...job }, 100_000)).toBe(words);
});

it('says of every failure of an origin what to do', () => {
  for (const code of JOB_FAILURES)
    expect([code, failureAdvice({ ...JOB, error: { code, message: '', param: null } })]).toEqual([
      code,
      expect.stringMatching(/^[A-Z].*\.$/),
    ]);
  expect(failureAdvice(JOB)).toBeNull();
});

describe('a story', () => {
  it('is put together from pages in any order', () => {
    const all = Array.from({ length: 12 }, (_, i) => event(i + 1));
    fc.assert(
      fc.property(fc.array(fc.subarray(all), { maxLength: 6 }), (pages) => {
        let known: JobEventView[] = [];
        for (const page of pages) known = withPage(known, page.toReversed());
        const numbers = new Set(pages.flat().map(({ created_at: number }) => number));
        expect(known.map(({ created_at: number }) => number)).toEqual([...numbers].sort((a, b) => a - b));
      }),
    );
  });

  it('has the losses of its steps', () => {
    const events = [
      event(1),
      step(2, 0, { valid_loss: 9 }),
      step(3, 1, { train_loss: 8 }),
      step(4, 2, { train_loss: 6 }),
      // Of the same step, told apart.
      step(5, 2, { valid_loss: 7 }),
    ];
    expect(storyColumns(events)).toEqual({
      steps: [0, 1, 2],
      training: [null, 8, 6],
      heldOut: [9, null, 7],
    });
    expect(progressOf(events)).toEqual({ step: 2, steps: 9 });
    expect(progressOf([event(1)])).toBeNull();
  });

  it('drops the steps of a run that was begun again', () => {
    const events = [
      ...[1, 2, 3].map((at) => step(at, at, { train_loss: 10 - at })),
      event(4),
      step(5, 1, { train_loss: 5 }),
      step(6, 2, { train_loss: 4 }),
    ];
    expect(storyColumns(events)).toMatchObject({ steps: [1, 2], training: [5, 4] });
  });

  it('shows messages newest first, and one that is repeated once', () => {
    const events = [event(1), step(2, 1, {}), event(3, null, 'no'), event(4, null, 'no'), event(5)];
    expect(messagesOf(events).map(({ message }) => message)).toEqual(['m5', 'no', 'm1']);
  });
});

it('begins another training with the settings of this one', () => {
  expect(JobView.parse(JOB)).toEqual(JOB);
  expect(prefilled(new URLSearchParams(settingsOf(JOB)).toString())).toMatchObject({
    ...{ name: 'team/notes', parent: 'team@2', method: 'dpo', rank: '4', epochs: '3', batch: '' },
    ...{ factor: '2', seed: '7' },
  });
  expect(settingsOf({ ...JOB, graft: { ...JOB.graft, parent: null } })['parent']).toBe('tiny');
  expect(settingsOf(JOB)).not.toHaveProperty('checkpoints');
  const asked = settingsOf({ ...JOB, graft: { ...JOB.graft, checkpoints: true } });
  expect(prefilled(new URLSearchParams(asked).toString()).checkpoints).toBe('epochs');
});

it('finds the command for a key without the right, and no other', () => {
  const told = (code: string, message: string) =>
    problemOf(403, JSON.stringify({ error: { code, message } }));
  expect(
    missingRight(told('insufficient_scope', 'Ask the operator to run: graft keys change key_1 --train')),
  ).toBe('graft keys change key_1 --train');
  expect(missingRight(told('insufficient_scope', 'This key may not publish it.'))).toBeNull();
  expect(missingRight(told('not_found', 'graft keys change key_1 --train'))).toBeNull();
});
