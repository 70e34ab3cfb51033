/** Fine-tuning jobs of keys with budgets of tokens, and what usage and budgets have counted at the end. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import { trainingCard } from '../../contracts/sample-training.ts';
import { TOKENS_PER_STEP } from '../../fakes/fake-job-origin.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createJobRig, type JobRig } from './job-rig.ts';

let rig: JobRig;
const adapter = tinyAdapter({ seed: 11 });

beforeEach(async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockReturnValue(undefined);
  rig = await createJobRig();
});

const keyWith = (limits: object): Promise<NewKey> => rig.makeKey({ tenant: 'alice', train: true, limits });
const setTenantLimits = async (limits: object): Promise<void> => {
  const answer = await rig.graft.request('/admin/tenants/limits', { body: { tenant: 'alice', limits } });
  expect(answer.status).toBe(200);
};
/** What is left of the budget of a key, or of the tenant. */
async function left(counter: string, limits: object): Promise<number | null> {
  const { quotas, clock } = rig.graft;
  const ask = { asked: [{ counter, limits }], job: 'none', from: 0, total: 0, at: clock.now() };
  return (await quotas.spend('alice', ask))[0]?.least?.left ?? null;
}
/** Of the tenant's usage: name, version, requests, errors, tokens. */
const usage = async (): Promise<unknown[][]> =>
  (
    await rig.graft.db
      .prepare('SELECT name, version, requests, errors, prompt_tokens FROM usage WHERE tenant = ?')
      .bind('alice')
      .all<Record<string, unknown>>()
  ).results.map((row) => Object.values(row));

/** About sixty steps of one row with eight tokens: what its file is expected to train. */
const EXPECTED = 480;

describe('a new job', () => {
  it.each(['day', 'month'])(
    'that would exceed what is left of a %s is refused, with numbers',
    async (period) => {
      const key = await keyWith({ [`tokens_per_${period}`]: EXPECTED - 1 });
      const refused = await rig.create(key);
      expect(refused.status).toBe(429);
      expect(refused.body.error).toMatchObject({ code: 'insufficient_quota', param: 'training_file' });
      expect(refused.body.error.message).toMatch(
        new RegExp(
          `^This job would train about ${EXPECTED} tokens; this key's budget of ${EXPECTED - 1} tokens per ${period} ` +
            `has ${EXPECTED - 1} left\\. It is renewed on 20.*Z\\. Use fewer rows or epochs, or ask for a larger budget\\.$`,
        ),
      );
      expect((await rig.list(key)).data).toEqual([]);
      const twice = { least_steps: 120 };
      expect((await rig.create(await keyWith({ [`tokens_per_${period}`]: EXPECTED }))).status).toBe(200);
      expect((await rig.create(await keyWith({ tokens_per_day: EXPECTED }), { graft: twice })).status).toBe(
        429,
      );
    },
  );

  it('is refused for the budget of its tenant, too, and not for limits of minutes', async () => {
    const key = await keyWith({ tokens_per_minute: 1, tokens_per_day: 10 * EXPECTED });
    await setTenantLimits({ tokens_per_day: EXPECTED - 1 });
    expect((await rig.create(key)).body.error.message).toContain(
      "the tenant's budget, for all of its keys, of 479 tokens per day has 479 left",
    );
    await setTenantLimits({ tokens_per_day: EXPECTED });
    expect((await rig.create(key)).status).toBe(200);
  });

  it('waits for the counter, or does not, as the key says', async () => {
    rig.graft.quotas.down = true;
    const strict = await rig.create(await keyWith({ tokens_per_day: 1, on_outage: 'refuse' }));
    expect([strict.status, strict.body.error.code]).toEqual([503, 'registry_unavailable']);
    expect((await rig.create(await keyWith({ tokens_per_day: 1 }))).status).toBe(200);
  });
});

describe('a job that runs', () => {
  const limits = { tokens_per_day: 600 };

  it('ends when its budget is used up, says so, and is counted once', async () => {
    const key = await keyWith(limits);
    const { id } = (await rig.create(key)).body;
    await rig.run();
    rig.origin.step(30, { valid: 0.5 });
    await rig.run();
    expect((await rig.get(id, key)).status).toBe('running');
    expect(await left(key.id, limits)).toBe(600 - 30 * TOKENS_PER_STEP);
    rig.origin.step(60, { valid: 0.4 });
    await rig.run();
    const ended = await rig.get(id, key);
    expect(ended).toMatchObject({
      status: 'failed',
      fine_tuned_model: null,
      error: { code: 'insufficient_quota' },
    });
    expect(ended.error?.message).toMatch(
      /^This key's budget of 600 tokens per day is used up: the job was ended at step 60 of 90, with 600 tokens trained\. It is renewed on /,
    );
    // What was said before stays.
    const steps = (await rig.events(id, key)).flatMap(({ data }) => (data === null ? [] : [data.step]));
    expect(steps).toEqual([60, 30]);
    await rig.run();
    expect(rig.origin.jobs.size).toBe(0);
    expect(await left(key.id, limits)).toBe(0);
    expect(await usage()).toEqual([['alice/first', 0, 1, 1, 600]]);
  });

  it('ends for what completions have used of it', async () => {
    const key = await keyWith({ tokens_per_day: 500 });
    const { id } = (await rig.create(key)).body;
    await rig.run();
    const { quotas, clock } = rig.graft;
    const chat = { lease: 'chat', at: clock.now() };
    await quotas.admit('alice', { asked: [{ counter: key.id, limits }], ...chat });
    await quotas.settle('alice', {
      asked: [{ counter: key.id, limits }],
      ...chat,
      tokens: 500,
      again: false,
    });
    rig.origin.step(1);
    await rig.run();
    expect((await rig.get(id, key)).error?.message).toContain('at step 1 of 90, with 10 tokens trained');
  });

  it('is published though its last steps exceed the budget', async () => {
    const key = await keyWith({ tokens_per_day: 700 });
    const { id } = (await rig.create(key)).body;
    await rig.run();
    rig.origin.step(10);
    await rig.run();
    rig.origin.finish(adapter);
    await rig.run();
    expect(await rig.get(id, key)).toMatchObject({
      status: 'succeeded',
      trained_tokens: trainingCard().tokens,
    });
    expect(await left(key.id, { tokens_per_day: 2_000 })).toBe(2_000 - trainingCard().tokens);
    await rig.run();
    expect(await usage()).toEqual([['alice/first', 1, 1, 0, trainingCard().tokens]]);
  });

  it('is counted when the counter answers again, and shares its budget with the key it is rotated into', async () => {
    const key = await keyWith({ tokens_per_day: 2_000 });
    const { id } = (await rig.create(key)).body;
    await rig.run();
    rig.graft.quotas.down = true;
    rig.origin.step(50);
    await rig.run();
    expect((await rig.get(id, key)).status).toBe('running');
    rig.graft.quotas.down = false;
    const rotated = await rig.graft.request('/admin/keys/rotate', { body: { id: key.id, grace: 0 } });
    expect(rotated.status).toBe(201);
    const { key: next } = (await rotated.json()) as NewKey;
    await rig.run();
    expect(await left(key.id, { tokens_per_day: 2_000 })).toBe(1_500);
    expect((await rig.get(id, { ...key, key: next! })).status).toBe('running');
  });

  it('that is cancelled or begins anew elsewhere counts what was trained, once', async () => {
    const key = await keyWith({ tokens_per_day: 10_000 });
    const { id } = (await rig.create(key)).body;
    await rig.run();
    rig.origin.step(40);
    await rig.run();
    // Its origin has lost it.
    rig.origin.jobs.clear();
    await rig.run();
    rig.origin.step(5);
    await rig.run();
    expect(await left(key.id, { tokens_per_day: 10_000 })).toBe(9_600);
    rig.origin.step(50);
    await rig.run();
    expect((await rig.step(id, 'cancel', key)).body.status).toBe('cancelled');
    await rig.run();
    expect(await left(key.id, { tokens_per_day: 10_000 })).toBe(9_500);
    expect(await usage()).toEqual([['alice/first', 0, 1, 0, 500]]);
  });
});
