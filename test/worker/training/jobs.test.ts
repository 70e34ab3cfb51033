/** Fine-tuning jobs from creation to a staged version, and everything that can come in between. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { JobCheckpointPage } from '../../../protocol/fine-tuning.ts';
import { sha256Hex } from '../../../protocol/identity.ts';
import { TRAINING_DEFAULTS, usualRate } from '../../../protocol/training.ts';
import { MAX_JOB_SECONDS, ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import { CHECKPOINT_LOST_MS, MAX_OPEN_JOBS, ORIGIN_LOST_MS } from '../../../worker/training/limits.ts';
import { trainingCard } from '../../contracts/sample-training.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createJobRig, LATER_MS, ROWS, type JobRig } from './job-rig.ts';
import { rowsOfBytes } from './row-forms.ts';

let rig: JobRig;
let alice: NewKey;
let bob: NewKey;
const first = tinyAdapter({ seed: 11 });

beforeEach(async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockReturnValue(undefined);
  rig = await createJobRig();
  alice = await rig.makeKey({ tenant: 'alice', train: true });
  bob = await rig.makeKey({ tenant: 'bob', train: true });
});

const versions = (name: string) => rig.graft.services.registry.versions(name);
const bodyOf = async (response: Promise<Response>) =>
  (await (await response).json()) as Record<string, never> & { chain_id: string };

describe('a job', () => {
  it('is given to an origin, followed, and published as a staged version with its card', async () => {
    const created = await rig.create(alice, { metadata: { team: 'a' }, seed: 3 });
    const { id } = created.body;
    expect(created).toMatchObject({
      status: 200,
      body: {
        id: expect.stringMatching(/^ftjob-[0-9a-z]{24}$/) as string,
        object: 'fine_tuning.job',
        status: 'queued',
        model: 'base',
        fine_tuned_model: null,
        user_provided_suffix: 'alice/first',
        organization_id: 'alice',
        trained_tokens: null,
        seed: 3,
        error: null,
        metadata: { team: 'a' },
        method: { type: 'supervised' },
        hyperparameters: { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' },
      },
    });
    await rig.run();
    expect(rig.origin.jobs.get(id)?.declaration).toEqual({
      tenant: 'alice',
      request: { ...TRAINING_DEFAULTS, targets: [...TRAINING_DEFAULTS.targets], seed: 3 },
      chain: [],
      rows: { bytes: ROWS.length, sha256: await sha256Hex(ROWS) },
      max_seconds: MAX_JOB_SECONDS,
    });
    expect(rig.origin.rowsOf(id).toString()).toBe(ROWS);
    rig.origin.step(45, { valid: 0.5 });
    rig.graft.clock.advance(6_000);
    const running = await rig.get(id, alice);
    expect(running.status).toBe('running');
    expect(running.estimated_finish).toBe(
      Math.ceil((rig.graft.clock.now() + 45_000) / 1_000) - (rig.graft.clock.now() % 1_000 === 0 ? 0 : 1),
    );
    expect((await rig.events(id, alice))[0]).toMatchObject({
      object: 'fine_tuning.job.event',
      type: 'metrics',
      data: { step: 45, total_steps: 90, valid_loss: 0.5 },
    });

    rig.origin.finish(first);
    await rig.run();
    const done = await rig.get(id, alice);
    expect(done).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: 'alice/first@1',
      trained_tokens: trainingCard().tokens,
      error: null,
    });
    expect(done.finished_at).toBeGreaterThan(done.created_at);
    const [version] = await versions('alice/first');
    expect(version).toMatchObject({
      digest: first.digest,
      owner: 'alice',
      createdBy: alice.id,
      parent: null,
    });
    expect(version?.training?.rows.sha256).toBe(await sha256Hex(ROWS));
    expect(await rig.graft.services.registry.name('alice/first')).toMatchObject({ version: null, latest: 1 });
    const [change] = await rig.graft.services.registry.history({
      ...{ name: 'alice/first', owner: null, before: null, limit: 1 },
    });
    expect(change).toMatchObject({ action: 'stage', why: `fine-tuning job ${id}` });
    expect(await rig.tokens('alice')).toBe(trainingCard().tokens);
    expect(
      (await rig.ask<JobCheckpointPage>(`/v1/fine_tuning/jobs/${id}/checkpoints`, alice)).body.data,
    ).toEqual([
      expect.objectContaining({
        fine_tuned_model_checkpoint: 'alice/first@1',
        fine_tuning_job_id: id,
        step_number: 90,
        metrics: { step: 90, train_loss: 0.0421, full_valid_loss: 0.09 },
      }),
    ]);
    // The origin is told to delete it, and nothing is counted twice.
    await rig.run();
    await rig.run();
    expect([rig.origin.jobs.size, await rig.count('training_deletions')]).toEqual([0, 0]);
    expect([(await versions('alice/first')).length, await rig.tokens('alice')]).toEqual([
      1,
      trainingCard().tokens,
    ]);
  });

  it('sends rows of several parts', async () => {
    const text = rowsOfBytes(2 * ROWS_PART_BYTES + 7);
    const training_file = await rig.sendRows(alice, text);
    const { body } = await rig.create(alice, { training_file });
    await rig.run();
    expect(await sha256Hex(new Uint8Array(rig.origin.rowsOf(body.id)))).toBe(await sha256Hex(text));
    expect(rig.origin.asked.filter((one) => one.startsWith('PUT parts'))).toEqual([
      'PUT parts/0',
      'PUT parts/1',
      'PUT parts/2',
    ]);
  });

  it('trains on top of an adapter, and is published on it though another version is live by then', async () => {
    const parent = tinyAdapter({ seed: 1 });
    const { chain_id } = await bodyOf(rig.graft.publish('alice', parent, { owner: 'alice' }));
    const created = await rig.create(alice, { model: 'alice', suffix: 'child' });
    expect(created.body).toMatchObject({ model: 'alice' });
    await rig.run();
    expect(rig.origin.jobs.get(created.body.id)?.declaration.chain).toEqual([
      { digest: parent.digest, scale: 1 },
    ]);
    expect(rig.origin.files.has(parent.digest)).toBe(true);
    rig.graft.clock.advance(LATER_MS);
    await rig.graft.publish('alice', tinyAdapter({ seed: 2 }), { owner: 'alice' });
    rig.origin.finish(tinyAdapter({ seed: 3, parent: chain_id }));
    await rig.run();
    expect(await rig.get(created.body.id, alice)).toMatchObject({ fine_tuned_model: 'alice/child@1' });
    expect((await versions('alice/child'))[0]).toMatchObject({ parent: 'alice@1' });
  });

  it('trains on an activated adapter only what is activated too', async () => {
    const parent = tinyAdapter({ seed: 1, invocation: [5, 6] });
    const { chain_id } = await bodyOf(rig.graft.publish('alice', parent, { owner: 'alice' }));
    const plain = await rig.create(alice, { model: 'alice', suffix: 'child' });
    expect(plain).toMatchObject({
      status: 400,
      body: {
        error: {
          message:
            "'alice' acts from its alora_invocation_tokens on only. Set graft.activated_by for what is trained on top.",
          param: 'graft.activated_by',
        },
      },
    });
    const { body } = await rig.create(alice, {
      model: 'alice',
      suffix: 'child',
      graft: { activated_by: '<child>' },
    });
    await rig.run();
    expect(rig.origin.jobs.get(body.id)?.declaration).toMatchObject({
      chain: [{ digest: parent.digest, scale: 1 }],
      request: { activated_by: '<child>' },
    });
    rig.origin.finish(tinyAdapter({ seed: 3, parent: chain_id, invocation: [7] }));
    await rig.run();
    expect(await rig.get(body.id, alice)).toMatchObject({ fine_tuned_model: 'alice/child@1' });
    expect((await versions('alice/child'))[0]?.chain.map(({ activated }) => activated)).toEqual([true, true]);
  });

  it('trains on a version, and with settings of its own', async () => {
    await rig.graft.publish('alice', tinyAdapter({ seed: 1 }), { owner: 'alice' });
    const { body } = await rig.create(alice, {
      model: 'alice@1',
      suffix: undefined,
      method: {
        type: 'dpo',
        dpo: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 3, beta: 0.2 } },
      },
      graft: { rank: 4, targets: ['q'], validation: 0 },
    });
    await rig.run();
    const [id, job] = rig.origin.only;
    expect(job.declaration.request).toEqual({
      ...TRAINING_DEFAULTS,
      method: 'dpo',
      rank: 4,
      alpha: 8,
      targets: ['q'],
      validation: 0,
      epochs: 2,
      batch: 4,
      rate: 3 * usualRate('dpo', 8),
      beta: 0.2,
    });
    expect(body.method).toEqual({
      type: 'dpo',
      dpo: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 3, beta: 0.2 } },
    });
    rig.origin.fail('no_rows', 'No row is short enough.');
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({
      status: 'failed',
      error: { code: 'no_rows', message: 'No row is short enough.', param: null },
      fine_tuned_model: null,
    });
  });

  it('takes hyperparameters where older clients send them', async () => {
    await rig.create(alice, { hyperparameters: { n_epochs: 7, learning_rate_multiplier: 'auto' } });
    await rig.run();
    expect(rig.origin.only[1].declaration.request).toMatchObject({ epochs: 7, rate: null, batch: null });
  });
});

describe('checkpoints', () => {
  const [early, late] = [tinyAdapter({ seed: 21 }), tinyAdapter({ seed: 22 })];
  const asked = { graft: { checkpoints: true } };
  const listed = async (id: string, query = '') =>
    (await rig.ask<JobCheckpointPage>(`/v1/fine_tuning/jobs/${id}/checkpoints${query}`, alice)).body;
  const told = async (id: string) => (await rig.events(id, alice)).map(({ message }) => message);

  it('that were asked for are staged before the result, each with its card, and listed newest first', async () => {
    const { id } = (await rig.create(alice, asked)).body;
    await rig.run();
    expect(rig.origin.only[1].declaration).toMatchObject({ checkpoints: true });
    rig.origin.finish(first, {}, { 30: early, 60: late });
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: 'alice/first@3',
      trained_tokens: trainingCard().tokens,
      graft: { checkpoints: true },
    });
    const made = (await versions('alice/first')).sort((a, b) => a.version - b.version);
    expect(made.map(({ digest, training }) => [digest, training?.steps])).toEqual([
      [early.digest, 30],
      [late.digest, 60],
      [first.digest, 90],
    ]);
    expect(await rig.graft.services.registry.name('alice/first')).toMatchObject({ version: null, latest: 3 });
    const { data, has_more: hasMore } = await listed(id);
    expect(data.map(({ fine_tuned_model_checkpoint: model, metrics }) => [model, metrics])).toEqual([
      ['alice/first@3', { step: 90, train_loss: 0.0421, full_valid_loss: 0.09 }],
      ['alice/first@2', { step: 60, train_loss: 2 / 60, full_valid_loss: 3 / 60 }],
      ['alice/first@1', { step: 30, train_loss: 2 / 30, full_valid_loss: 3 / 30 }],
    ]);
    expect([data.map((one) => one.step_number), hasMore]).toEqual([[90, 60, 30], false]);
    const pages = [await listed(id, '?limit=2'), await listed(id, `?limit=2&after=${data[1]?.id}`)];
    expect(pages.map((page) => [page.data.map((one) => one.step_number), page.has_more])).toEqual([
      [[90, 60], true],
      [[30], false],
    ]);
    expect((await listed(id, '?after=ftckpt-x')).data).toEqual([]);
    expect((await told(id)).slice(0, 3)).toEqual([
      "Published as 'alice/first@3', staged: promote it to make it live.",
      "Published the checkpoint of step 60 as 'alice/first@2', staged.",
      "Published the checkpoint of step 30 as 'alice/first@1', staged.",
    ]);
    // The result alone is counted.
    expect(await rig.tokens('alice')).toBe(trainingCard().tokens);
    await rig.run();
    expect([rig.origin.jobs.size, (await versions('alice/first')).length]).toEqual([0, 3]);
  });

  it('are not published unless they were asked for, whatever the origin sends', async () => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    const [, job] = rig.origin.only;
    rig.origin.finish(first);
    job.checkpoints.set(30, { adapter: early, card: { ...job.card!, steps: 30 } });
    await rig.run();
    expect((await rig.get(id, alice)).fine_tuned_model).toBe('alice/first@1');
    expect((await listed(id)).data).toHaveLength(1);
  });

  it('that cannot be published, or are another job’s, end as a warning and do not fail the job', async () => {
    const { id } = (await rig.create(alice, asked)).body;
    await rig.run();
    const notOurs = tinyAdapter({ seed: 23, parent: 'f'.repeat(64) });
    rig.origin.finish(first, {}, { 30: notOurs, 60: late });
    const card = rig.origin.only[1].checkpoints.get(60)!.card;
    card.rows = { ...card.rows, sha256: 'e'.repeat(64) };
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: 'alice/first@1',
    });
    const events = await rig.events(id, alice);
    const warnings = events.filter(({ level }) => level === 'warn').map(({ message }) => message);
    expect(warnings).toEqual([
      expect.stringMatching(/^The checkpoint of step 60 is not published: .* does not belong to this job\.$/),
      expect.stringMatching(/^The checkpoint of step 30 is not published: ./),
    ]);
    expect((await listed(id)).data.map((one) => one.step_number)).toEqual([90]);
  });

  it('that the origin has lost do not keep the result waiting for long', async () => {
    const { id } = (await rig.create(alice, asked)).body;
    await rig.run();
    rig.origin.finish(first, {}, { 60: late });
    const { answer } = rig.graft.origin;
    rig.graft.origin.answer = (method, path, init, url) =>
      url?.includes('step=60') === true
        ? Response.json({ error: { code: 'not_found', message: 'Gone.' } }, { status: 404 })
        : answer(method, path, init, url);
    await rig.run();
    expect((await rig.get(id, alice)).status).toBe('running');
    rig.graft.clock.advance(CHECKPOINT_LOST_MS);
    await rig.run();
    expect((await rig.get(id, alice)).fine_tuned_model).toBe('alice/first@1');
    expect(await told(id)).toContain(
      'The checkpoint of step 60 is not published: The origin did not send its file.',
    );
  });
});

it('tells all of a job’s story, though it ends before anybody asks', async () => {
  const { id } = (await rig.create(alice)).body;
  await rig.run();
  for (let step = 1; step <= 450; step += 1) rig.origin.step(step);
  rig.origin.finish(first);
  await rig.run();
  expect((await rig.get(id, alice)).status).toBe('succeeded');
  const { n } = (await rig.graft.db
    .prepare('SELECT COUNT(*) AS n FROM training_events WHERE job = ? AND metrics IS NOT NULL')
    .bind(id)
    .first<{ n: number }>())!;
  expect(n).toBe(450);
});

describe('a job is refused', () => {
  it.each<[why: string, more: object, status: number, param: string | null]>([
    ['with a validation file that is none', { validation_file: 'file-x' }, 400, 'validation_file'],
    ['with another validation file', { validation_file: `file-${'0'.repeat(24)}` }, 400, 'validation_file'],
    ['with integrations', { integrations: [{ type: 'wandb' }] }, 400, 'integrations'],
    ['with reinforcement', { method: { type: 'reinforcement' } }, 400, 'method.type'],
    ['without its file', { training_file: `file-${'0'.repeat(24)}` }, 400, 'training_file'],
    ['with a name that is none', { suffix: 'a//b' }, 400, 'suffix'],
    ['with the base’s own name', { suffix: 'tiny-base' }, 422, 'name'],
    ['with an unknown setting', { graft: { rnk: 8 } }, 400, 'graft.rnk'],
    [
      'with a rank that no origin takes',
      { graft: { rank: 256, name: 'alice/x' }, model: 'alice' },
      400,
      'graft.rank',
    ],
    [
      'with a rate above 1',
      { hyperparameters: { learning_rate_multiplier: 1_000 } },
      400,
      'learning_rate_multiplier',
    ],
    ['with a model that is not there', { model: 'nobody' }, 404, null],
    ['with a version that is not there', { model: 'alice@9' }, 404, null],
    ['with a model that is another tenant’s', { model: 'secret' }, 404, null],
    ['with a name of another tenant', { suffix: 'secret/mine' }, 403, null],
    ['with an unknown field', { training_files: [] }, 400, 'training_files'],
  ])('%s', async (_, more, status, param) => {
    await rig.graft.publish('alice', tinyAdapter({ seed: 1 }), { owner: 'alice' });
    await rig.graft.publish('secret', tinyAdapter({ seed: 2 }), { owner: 'other' });
    const refused = await rig.create(alice, more);
    expect([refused.status, refused.body.error.param]).toEqual([status, param]);
    expect(await rig.count('training_jobs')).toBe(0);
  });

  it('with more than a tenant may have, which others’ do not count for', async () => {
    for (let i = 0; i < MAX_OPEN_JOBS; i += 1)
      expect((await rig.create(alice, { suffix: `alice/${i}` })).status).toBe(200);
    expect(await rig.create(alice, { suffix: 'alice/more' })).toMatchObject({
      status: 429,
      body: { error: { code: 'rate_limit_exceeded' } },
    });
    expect((await rig.create(bob)).status).toBe(200);
  });
});

describe('another tenant', () => {
  it('cannot see, change or tell a job', async () => {
    const { id } = (await rig.create(alice)).body;
    const nowhere = `ftjob-${'0'.repeat(24)}`;
    for (const path of ['', '/events', '/checkpoints']) {
      const [hidden, absent] = [
        await rig.ask(`/v1/fine_tuning/jobs/${id}${path}`, bob),
        await rig.ask(`/v1/fine_tuning/jobs/${nowhere}${path}`, bob),
      ];
      expect(hidden).toEqual(absent);
      expect(hidden.status).toBe(404);
    }
    for (const step of ['cancel', 'pause', 'resume'] as const)
      expect((await rig.step(id, step, bob)).status).toBe(404);
    expect((await rig.list(bob)).data).toEqual([]);
    expect((await rig.get(id, alice)).status).toBe('queued');
    // Nor train on its rows.
    const { training_file } = (await rig.get(id, alice)) as { training_file: string };
    expect((await rig.create(bob, { training_file })).body.error.param).toBe('training_file');
  });

  it('cannot take the name while the job lasts, and can afterwards', async () => {
    const { id } = (await rig.create(alice, { suffix: 'free/name' })).body;
    const owner = await rig.makeKey({ kind: 'admin', tenant: 'bob' });
    const adapter = tinyAdapter({ seed: 5 });
    const take = async (name: string) => {
      await rig.graft.request(`/admin/blobs/${adapter.digest}/parts/0`, {
        method: 'PUT',
        key: owner.key!,
        body: new Uint8Array(adapter.bytes),
      });
      const parts = [{ bytes: adapter.bytes.length, sha256: adapter.digest }];
      await rig.graft.request(`/admin/blobs/${adapter.digest}`, {
        key: owner.key!,
        body: { bytes: adapter.bytes.length, parts },
      });
      rig.graft.clock.advance(LATER_MS);
      const body = { name, digest: adapter.digest };
      return (await rig.graft.request('/admin/versions', { key: owner.key!, body })).status;
    };
    for (const name of ['free/name', 'free/name/below', 'free'])
      expect([name, await take(name)]).toEqual([name, 403]);
    expect((await rig.create(bob, { suffix: 'free/name' })).status).toBe(403);
    await rig.step(id, 'cancel', alice);
    expect(await take('free/name')).toBe(201);
  });

  it('has its turn after one job of the first', async () => {
    for (const name of ['a', 'b']) await rig.create(alice, { suffix: `alice/${name}` });
    rig.graft.clock.advance(1);
    await rig.create(bob);
    const order: string[] = [];
    for (let i = 0; i < 3; i += 1) {
      await rig.run();
      const [id, job] = rig.origin.only;
      order.push(job.declaration.tenant);
      await rig.step(id, 'cancel', job.declaration.tenant === 'alice' ? alice : bob);
      await rig.graft.settled();
    }
    expect(order).toEqual(['alice', 'bob', 'alice']);
  });

  it('waits for one job at most of a tenant that always has as many as it may', async () => {
    let created = 0;
    const more = async (): Promise<void> => {
      for (; created < 10; created += 1)
        if ((await rig.create(alice, { suffix: `alice/${created}` })).status !== 200) return;
    };
    const order: string[] = [];
    for (let jobs = 0; jobs < 12; jobs += 1) {
      rig.graft.clock.advance(1);
      await more();
      // After three of alice's, and again when she has one left.
      if (jobs === 3 || jobs === 9) await rig.create(bob, { suffix: `bob/${jobs}` });
      await rig.run();
      const [id, job] = rig.origin.only;
      const { tenant } = job.declaration;
      order.push(tenant);
      await rig.step(id, 'cancel', tenant === 'alice' ? alice : bob);
      await rig.graft.settled();
    }
    const [first, second] = order.flatMap((tenant, at) => (tenant === 'bob' ? [at] : []));
    expect(order.filter((tenant) => tenant === 'alice')).toHaveLength(10);
    // Created when the third or the ninth had begun.
    expect([first! - 3, second! - 9].every((waited) => waited <= 1)).toBe(true);
  });
});

describe('its owner', () => {
  it('pauses and resumes it, before and while an origin has it', async () => {
    const { id } = (await rig.create(alice)).body;
    expect((await rig.step(id, 'pause', alice)).body.status).toBe('paused');
    await rig.run();
    expect(rig.origin.jobs.size).toBe(0);
    await rig.step(id, 'resume', alice);
    await rig.run();
    rig.origin.step(1);
    rig.graft.clock.advance(LATER_MS);
    expect((await rig.step(id, 'pause', alice)).body.status).toBe('paused');
    expect(rig.origin.only[1].state).toBe('paused');
    await rig.run();
    expect((await rig.get(id, alice)).status).toBe('paused');
    rig.graft.clock.advance(LATER_MS);
    expect((await rig.step(id, 'pause', alice)).status).toBe(200);
    await rig.step(id, 'resume', alice);
    expect(rig.origin.only[1].state).toBe('running');
    expect((await rig.get(id, alice)).status).toBe('running');
    expect((await rig.events(id, alice)).map(({ message }) => message)).toEqual(
      expect.arrayContaining(['Paused. What is trained is kept.', 'Resumed.']),
    );
  });

  it('cancels it, and the origin deletes it when it is back', async () => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    rig.origin.isAway = true;
    expect((await rig.step(id, 'cancel', alice)).body).toMatchObject({ status: 'cancelled' });
    await rig.graft.settled();
    await rig.run();
    expect([rig.origin.jobs.size, await rig.count('training_deletions')]).toEqual([1, 1]);
    rig.origin.isAway = false;
    await rig.run();
    expect([rig.origin.jobs.size, await rig.count('training_deletions')]).toEqual([0, 0]);
    expect((await rig.step(id, 'cancel', alice)).status).toBe(200);
    expect((await rig.step(id, 'pause', alice)).status).toBe(409);
  });

  it('lists jobs and events page by page', async () => {
    const ids: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      ids.unshift((await rig.create(alice, { suffix: `alice/${name}` })).body.id);
      rig.graft.clock.advance(1);
    }
    const page = await rig.list(alice, '?limit=2');
    expect([page.data.map(({ id }) => id), page.has_more]).toEqual([ids.slice(0, 2), true]);
    const rest = await rig.list(alice, `?limit=2&after=${ids[1]}`);
    expect([rest.data.map(({ id }) => id), rest.has_more]).toEqual([[ids[2]], false]);
    await rig.step(ids[0]!, 'pause', alice);
    const [last, made] = await rig.events(ids[0]!, alice);
    const older = await rig.ask<{ data: object[] }>(
      `/v1/fine_tuning/jobs/${ids[0]}/events?after=${last?.id}`,
      alice,
    );
    expect(older.body.data).toEqual([made]);
    const wrong = await rig.ask(`/v1/fine_tuning/jobs/${ids[1]}/events?after=${last?.id}`, alice);
    expect(wrong.status).toBe(400);
  });
});

describe('an origin', () => {
  it('that has no room, or does not train, gets nothing', async () => {
    rig.origin.trains = false;
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    expect(rig.origin.asked).toEqual([]);
    rig.origin.trains = true;
    rig.origin.refusal = { code: 'queue_full', message: 'full', retryAfterMs: 1 };
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({ status: 'queued' });
    rig.origin.refusal = null;
    await rig.run();
    expect(rig.origin.jobs.size).toBe(1);
    expect(await rig.count('training_deletions')).toBe(0);
  });

  it('that refuses the job ends it, and says why', async () => {
    rig.origin.refusal = { code: 'invalid_request', message: 'Not enough memory.', param: null };
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({
      status: 'failed',
      error: { code: 'invalid_request', message: 'Not enough memory.' },
    });
  });

  it('that has lost the job gets it once more', async () => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    rig.origin.jobs.clear();
    await rig.run();
    expect(rig.origin.rowsOf(id).toString()).toBe(ROWS);
  });

  it('that is silent for long loses the job to another, and deletes it when it is back', async () => {
    rig = await createJobRig({ ids: ['o1', 'o2'] });
    alice = await rig.makeKey({ tenant: 'alice', train: true });
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    const [o1, o2] = [rig.origins.get('o1')!, rig.origins.get('o2')!];
    o1.isAway = true;
    await rig.run();
    expect(o2.jobs.size).toBe(0);
    rig.graft.clock.advance(ORIGIN_LOST_MS);
    await rig.run();
    await rig.run();
    expect(o2.rowsOf(id).toString()).toBe(ROWS);
    o2.finish(first);
    await rig.run();
    expect((await rig.get(id, alice)).status).toBe('succeeded');
    o1.isAway = false;
    await rig.run();
    expect([o1.jobs.size, o2.jobs.size, await rig.count('training_deletions')]).toEqual([0, 0, 0]);
  });

  it.each([
    ['of other rows', { rows: { ...trainingCard().rows } }],
    ['without steps', { steps: 0 }],
  ])('that returns a result %s makes no version', async (_, card) => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    rig.origin.finish(first, card);
    await rig.run().catch(() => undefined);
    expect(await versions('alice/first')).toEqual([]);
    expect(['failed', 'running']).toContain((await rig.get(id, alice)).status);
  });

  it('that returns other bytes than it says makes no version', async () => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    rig.origin.finish({ bytes: first.bytes, digest: 'd'.repeat(64) });
    await rig.run();
    expect(await versions('alice/first')).toEqual([]);
    expect(await rig.get(id, alice)).toMatchObject({ status: 'failed', error: { code: 'adapter_invalid' } });
  });

  it('cannot have a parent of another chain published', async () => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    rig.origin.finish(tinyAdapter({ seed: 4, parent: 'e'.repeat(64) }));
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({ status: 'failed', error: { code: 'adapter_invalid' } });
  });
});

describe('a key', () => {
  it('that is revoked ends its jobs', async () => {
    const admin = await rig.makeKey({ tenant: 'alice', train: true });
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    await rig.graft.request(`/admin/keys/${alice.id}`, { method: 'DELETE' });
    await rig.run();
    expect(await rig.get(id, admin)).toMatchObject({ status: 'failed', error: { code: 'key_ended' } });
    await rig.run();
    expect(rig.origin.jobs.size).toBe(0);
  });

  it('that was rotated is replaced by its successor', async () => {
    const { id } = (await rig.create(alice)).body;
    await rig.run();
    const made = await rig.graft.request('/admin/keys/rotate', { body: { id: alice.id, grace: 0 } });
    const next = (await made.json()) as NewKey;
    rig.origin.finish(first);
    await rig.run();
    expect(await rig.get(id, next)).toMatchObject({ status: 'succeeded' });
    expect((await versions('alice/first'))[0]).toMatchObject({ createdBy: next.id });
  });
});

describe('an admin key', () => {
  let admin: NewKey;
  beforeEach(async () => {
    admin = await rig.makeKey({ kind: 'admin', tenant: 'alice', train: true });
  });
  const counted = async (): Promise<unknown> =>
    (await rig.graft.db.prepare('SELECT key_id, tenant, prompt_tokens FROM usage').all()).results;

  it('has a job of its tenant, which is published and counted under it', async () => {
    const { id } = (await rig.create(admin)).body;
    await rig.run();
    expect(rig.origin.jobs.get(id)?.declaration.tenant).toBe('alice');
    rig.origin.finish(first);
    await rig.run();
    expect(await rig.get(id, admin)).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: 'alice/first@1',
      graft: { name: 'alice/first', parent: null, base: 'tiny-base', rank: TRAINING_DEFAULTS.rank },
    });
    expect((await versions('alice/first'))[0]).toMatchObject({ createdBy: admin.id, owner: 'alice' });
    expect(await counted()).toEqual([
      expect.objectContaining({ key_id: admin.id, tenant: 'alice', prompt_tokens: trainingCard().tokens }),
    ]);
    // Keys of the tenant see each other's jobs.
    expect((await rig.list(alice)).data.map((job) => job.id)).toEqual([id]);
    expect((await rig.step(id, 'cancel', bob)).status).toBe(404);
  });

  it.each([
    ['is revoked', () => rig.graft.request(`/admin/keys/${admin.id}`, { method: 'DELETE' })],
    [
      'loses the right',
      () => rig.graft.request('/admin/keys/change', { body: { id: admin.id, train: false } }),
    ],
  ])('that %s ends its jobs, also while a result waits', async (_, end) => {
    const { id } = (await rig.create(admin)).body;
    await rig.run();
    rig.origin.finish(first);
    await end();
    await rig.run();
    expect(await rig.get(id, alice)).toMatchObject({ status: 'failed', error: { code: 'key_ended' } });
    expect(await versions('alice/first')).toEqual([]);
  });

  it('that was rotated is replaced by its successor', async () => {
    const { id } = (await rig.create(admin)).body;
    await rig.run();
    const made = await rig.graft.request('/admin/keys/rotate', { body: { id: admin.id, grace: 0 } });
    const next = (await made.json()) as NewKey;
    rig.origin.finish(first);
    await rig.run();
    expect(await rig.get(id, next)).toMatchObject({ status: 'succeeded' });
    expect((await versions('alice/first'))[0]).toMatchObject({ createdBy: next.id });
  });

  it('trains only on what its scopes or grants open, and publishes under no other tenant’s name', async () => {
    await rig.graft.publish('bob', tinyAdapter({ seed: 7 }), { owner: 'bob' });
    const own = { graft: { name: 'alice/on-bob' }, suffix: undefined };
    expect((await rig.create(admin, { model: 'bob', ...own })).status).toBe(404);
    const wide = await rig.makeKey({ kind: 'admin', tenant: 'alice', train: true, scopes: ['bob'] });
    expect((await rig.create(wide, { model: 'bob', ...own })).status).toBe(200);
    expect((await rig.create(wide, { suffix: 'bob/mine' })).status).toBe(403);
  });

  it('that is the bootstrap key trains for its own tenant alone', async () => {
    await rig.graft.publish('bob', tinyAdapter({ seed: 7 }), { owner: 'bob' });
    const root = { key: rig.graft.adminKey, tenant: 'default' } as NewKey;
    expect((await rig.create(root, { suffix: 'bob/mine' })).status).toBe(403);
    const hidden = (await rig.create(alice)).body.id;
    expect((await rig.ask(`/v1/fine_tuning/jobs/${hidden}`, root)).status).toBe(404);
    await rig.step(hidden, 'cancel', alice);
    const { id } = (await rig.create(root)).body;
    await rig.run();
    rig.origin.finish(first);
    await rig.run();
    expect(await rig.get(id, root)).toMatchObject({ fine_tuned_model: 'default/first@1' });
    expect((await versions('default/first'))[0]).toMatchObject({ createdBy: 'bootstrap', owner: 'default' });
    expect(await counted()).toEqual([expect.objectContaining({ key_id: 'bootstrap', tenant: 'default' })]);
  });
});

it('fails when its file is deleted before an origin has it', async () => {
  const { id, training_file } = (await rig.create(alice)).body;
  await rig.ask(`/v1/files/${training_file}`, alice, undefined, 'DELETE');
  await rig.run();
  expect(await rig.get(id, alice)).toMatchObject({ status: 'failed', error: { code: 'file_not_found' } });
});

describe('an erasure', () => {
  const erase = async (body: object) => {
    let counts: Record<string, number> = {};
    for (let cursor: unknown = null, page = 0; page === 0 || cursor !== null; page += 1) {
      const answer = (await bodyOf(
        rig.graft.request('/admin/erase', { body: { ...body, cursor } }),
      )) as Record<string, unknown>;
      ({ cursor } = answer);
      counts = { ...counts, ...(page === 0 ? (answer['plan'] as Record<string, number>) : {}) };
    }
    return counts;
  };

  it('of a tenant deletes its jobs, here and at origins that are away', async () => {
    await rig.create(alice, { suffix: 'alice/canary' });
    await rig.run();
    const other = (await rig.create(bob)).body.id;
    rig.origin.isAway = true;
    expect(await erase({ tenant: 'alice' })).toMatchObject({ jobs: 1, row_files: 1 });
    for (const table of ['training_jobs', 'training_events', 'training_deletions'])
      expect(
        JSON.stringify((await rig.graft.db.prepare(`SELECT * FROM ${table}`).all()).results),
      ).not.toMatch(/alice|canary/);
    expect(await rig.count('training_deletions')).toBe(1);
    rig.origin.isAway = false;
    await rig.run();
    await rig.run();
    expect([...rig.origin.jobs.keys()]).toEqual([other]);
    expect(await rig.count('training_deletions')).toBe(0);
  });

  it('of a name deletes jobs for it, and on top of it', async () => {
    await rig.graft.publish('alice', tinyAdapter({ seed: 1 }), { owner: 'alice' });
    await rig.create(alice, { model: 'alice', suffix: 'child' });
    const kept = (await rig.create(alice, { suffix: 'alice/own' })).body.id;
    expect(await erase({ name: 'alice' })).toMatchObject({ jobs: 1 });
    expect((await rig.list(alice)).data.map(({ id }) => id)).toEqual([kept]);
  });
});
