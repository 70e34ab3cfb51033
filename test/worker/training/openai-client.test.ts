/** OpenAI's own client: files and jobs from the first to the last call. */
import OpenAI, { NotFoundError, toFile } from 'openai';
import { expect, it, vi } from 'vitest';
import { createApp } from '../../../worker/app.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createJobRig, LATER_MS, ROWS } from './job-rig.ts';

it('sends a file, trains on it, follows the job and cleans up', async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockReturnValue(undefined);
  const rig = await createJobRig();
  const key = await rig.makeKey({ tenant: 'alice', train: true });
  const app = createApp(rig.graft.services);
  const openai = new OpenAI({
    baseURL: 'http://edge.test/v1',
    apiKey: key.key!,
    maxRetries: 0,
    fetch: async (url, init) => app.fetch(new Request(url, init)),
  });

  const file = await openai.files.create({
    file: await toFile(Buffer.from(ROWS), 'rows.jsonl'),
    purpose: 'fine-tune',
    expires_after: { anchor: 'created_at', seconds: 86_400 },
  });
  expect(file).toMatchObject({ object: 'file', filename: 'rows.jsonl', bytes: ROWS.length });
  expect(file.expires_at! - file.created_at).toBe(86_400);
  expect((await openai.files.waitForProcessing(file.id)).status).toBe('processed');
  expect(await (await openai.files.content(file.id)).text()).toBe(ROWS);
  const names: string[] = [];
  for await (const one of openai.files.list({ purpose: 'fine-tune', limit: 1 })) names.push(one.filename);
  expect(names).toEqual(['rows.jsonl']);

  const { jobs } = openai.fineTuning;
  const job = await jobs.create({
    model: 'base',
    training_file: file.id,
    suffix: 'alice/first',
    seed: 5,
    metadata: { team: 'a' },
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 2 } } },
  });
  expect(job).toMatchObject({ status: 'queued', seed: 5, method: { type: 'supervised' } });
  await rig.run();
  rig.origin.step(1);
  rig.origin.step(2);
  rig.graft.clock.advance(LATER_MS);
  expect((await jobs.retrieve(job.id)).status).toBe('running');
  expect((await jobs.pause(job.id)).status).toBe('paused');
  await jobs.resume(job.id);
  rig.graft.clock.advance(LATER_MS);
  expect((await jobs.retrieve(job.id)).status).toBe('running');
  const messages: string[] = [];
  for await (const event of jobs.listEvents(job.id, { limit: 2 })) messages.push(event.message);
  expect(messages).toEqual([
    'Resumed.',
    'Paused. What is trained is kept.',
    'Step 2/90',
    'Step 1/90',
    'An origin takes the job.',
    "Created. The result will be a staged version of 'alice/first'.",
  ]);

  rig.origin.finish(tinyAdapter({ seed: 11 }));
  await rig.run();
  const done = await jobs.retrieve(job.id);
  expect(done).toMatchObject({ status: 'succeeded', fine_tuned_model: 'alice/first@1' });
  const checkpoints = [];
  for await (const one of jobs.checkpoints.list(job.id)) checkpoints.push(one.fine_tuned_model_checkpoint);
  expect(checkpoints).toEqual(['alice/first@1']);
  const answer = await openai.chat.completions.create({
    model: done.fine_tuned_model!,
    messages: [{ role: 'user', content: 'hi' }],
  });
  expect(answer).toBeDefined();

  const other = await jobs.create({ model: 'base', training_file: file.id, suffix: 'alice/second' });
  expect((await jobs.cancel(other.id)).status).toBe('cancelled');
  const listed: string[] = [];
  for await (const one of jobs.list({ limit: 1 })) listed.push(one.id);
  expect(listed).toEqual([other.id, job.id]);
  expect(await openai.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true });
  await expect(openai.files.retrieve(file.id)).rejects.toBeInstanceOf(NotFoundError);
  await expect(jobs.retrieve(`ftjob-${'0'.repeat(24)}`)).rejects.toBeInstanceOf(NotFoundError);
});
