/** Fine-tuning by OpenAI's own client on `graft dev --train`: from a file of rows to an answer, beside `graft train`. */
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { NewKey } from '../../protocol/admin-api/keys.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { filesWith } from '../gpu-origin/jobs/rig.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let stack: TinyStack;
beforeAll(async () => {
  stack = await startTinyStack('', ['--train']);
});
afterAll(() => stack.remove());

const ANSWERS = { 'sky?': 'blue', 'grass?': 'green', 'snow?': 'white', 'coal?': 'black' };
const ROWS = Object.entries(ANSWERS)
  .map(([question, answer]) =>
    JSON.stringify({
      messages: [
        { role: 'user', content: question },
        { role: 'assistant', content: answer },
      ],
    }),
  )
  .join('\n');

const HELD_OUT = ROWS.split('\n').slice(0, 2).join('\n');

const json = async <T>(...args: string[]): Promise<T> => {
  const { code, stdout, stderr } = await stack.graft(...args, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as T;
};
const newest = async (name: string): Promise<{ digest: string; training: TrainingCard }> =>
  (await json<{ versions: { digest: string; training: TrainingCard }[] }>('versions', name)).versions[0]!;

it('answers as its rows say, from the same bytes that graft train publishes', async () => {
  const { key } = await json<NewKey>('keys', 'create', '--tenant', 'me', '--train');
  const openai = new OpenAI({ baseURL: `${stack.local.url}/v1`, apiKey: key!, maxRetries: 2 });
  const file = await openai.files.create({
    file: await toFile(Buffer.from(ROWS), 'rows.jsonl'),
    purpose: 'fine-tune',
  });
  const heldOut = await openai.files.create({
    file: await toFile(Buffer.from(HELD_OUT), 'held-out.jsonl'),
    purpose: 'fine-tune',
  });
  const { jobs } = openai.fineTuning;
  const { id } = await jobs.create({
    model: 'base',
    training_file: file.id,
    validation_file: heldOut.id,
    suffix: 'me/answers',
    seed: 5,
    method: {
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: 3, learning_rate_multiplier: 2 } },
    },
    // OpenAI's types know no settings but their own.
    ...{ graft: { rank: 8, least_steps: 120 } },
  });
  await expect.poll(async () => (await jobs.retrieve(id)).status).toMatch(/succeeded|failed|cancelled/);
  const job = await jobs.retrieve(id);
  expect(job).toMatchObject({ status: 'succeeded', error: null, fine_tuned_model: 'me/answers@1' });
  expect(job.trained_tokens).toBeGreaterThan(0);
  const steps: number[] = [];
  for await (const { data } of jobs.listEvents(id, { limit: 50 }))
    if (data !== null) steps.push((data as { step: number }).step);
  // Step 0 is the score before the first one.
  expect(steps).toEqual(Array.from({ length: 121 }, (_, at) => 120 - at));
  for (const [question, answer] of Object.entries(ANSWERS)) {
    const { choices } = await openai.chat.completions.create({
      model: job.fine_tuned_model!,
      messages: [{ role: 'user', content: question }],
      temperature: 0,
      max_tokens: 12,
    });
    expect(choices[0]?.message.content, question).toBe(answer);
  }

  await writeFile(path.join(stack.folder, 'rows.jsonl'), ROWS);
  await writeFile(path.join(stack.folder, 'held-out.jsonl'), HELD_OUT);
  const ofJob = await newest('me/answers');
  await json(
    ...['train', 'rows.jsonl', '--name', 'me/beside', '--base', 'tiny-base', '--seed', '5', '--rank', '8'],
    ...[
      '--least-steps',
      '120',
      '--val',
      'held-out.jsonl',
      '--epochs',
      '3',
      '--rate',
      String(ofJob.training.settings.rate),
    ],
    // The origin leaves one core to those who ask it.
    ...['--threads', String(Math.max(1, availableParallelism() - 1))],
  );
  const beside = await newest('me/beside');
  expect(beside.digest).toBe(ofJob.digest);
  expect(untimed(beside.training)).toEqual(untimed(ofJob.training));

  // The origin deletes the job when the schedule has asked it to.
  await expect.poll(() => filesWith(path.join(stack.folder, 'cache'), id)).toEqual([]);
});

it('stages what it had learnt after each epoch before the last, to be asked like the result', async () => {
  const { key } = await json<NewKey>('keys', 'create', '--tenant', 'me', '--train');
  const openai = new OpenAI({ baseURL: `${stack.local.url}/v1`, apiKey: key!, maxRetries: 2 });
  const file = await openai.files.create({
    file: await toFile(Buffer.from(ROWS), 'rows.jsonl'),
    purpose: 'fine-tune',
  });
  const { jobs } = openai.fineTuning;
  const { id } = await jobs.create({
    ...{ model: 'base', training_file: file.id, suffix: 'me/epochs' },
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 3 } } },
    ...{ graft: { checkpoints: true, least_steps: 30 } },
  });
  await expect.poll(async () => (await jobs.retrieve(id)).status).toMatch(/succeeded|failed|cancelled/);
  expect((await jobs.retrieve(id)).fine_tuned_model).toBe('me/epochs@3');
  const found: [number, string][] = [];
  for await (const one of jobs.checkpoints.list(id)) {
    found.push([one.step_number, one.fine_tuned_model_checkpoint]);
    expect(one.metrics.train_loss).toBeGreaterThan(0);
    const answer = await openai.chat.completions.create({
      model: one.fine_tuned_model_checkpoint,
      messages: [{ role: 'user', content: 'sky?' }],
      max_tokens: 4,
    });
    expect(answer.choices).toHaveLength(1);
  }
  expect(found).toEqual([
    [30, 'me/epochs@3'],
    [20, 'me/epochs@2'],
    [10, 'me/epochs@1'],
  ]);
  await expect.poll(() => filesWith(path.join(stack.folder, 'cache'), id)).toEqual([]);
});

const untimed = (card: TrainingCard): TrainingCard => ({ ...card, seconds: 0, finished_at: 0 });
