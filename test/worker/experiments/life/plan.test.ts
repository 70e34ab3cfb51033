/** What an experiment will be able to tell, and when, through the admin API on the fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ExperimentPlan, type ExperimentView } from '../../../../protocol/admin-api/experiments.ts';
import { tinyAdapter } from '../../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../../app-harness.ts';

const NAME = 'support/intent';
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
let graft: AppHarness;

const variants = [
  { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
  { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
];
const post = async (path: string, body: object = {}) => {
  const response = await graft.request(`/admin/experiments${path}`, { body, method: 'POST' });
  const json: unknown = await response.json();
  expect([200, 201], JSON.stringify(json)).toContain(response.status);
  return json;
};
const plan = async (more: object = {}) =>
  ExperimentPlan.parse(await post('/plan', { name: NAME, variants, ...more }));
const daysOf = ({ finds }: ExperimentPlan) => finds.map(({ days }) => days && Math.ceil(days));

beforeEach(async () => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  graft = await createAppHarness();
  for (let seed = 1; seed <= 2; seed += 1)
    expect((await graft.publish(NAME, tinyAdapter({ seed }), { stage: seed > 1 })).status).toBe(201);
});

const used = (hoursAgo: number, requests: number, name = NAME, tenant = 'default') =>
  graft.services.usage.add({
    id: `${hoursAgo} ${name} ${tenant}`,
    at: 1,
    rows: [
      {
        ...{ hour: Math.floor(graft.clock.now() / HOUR) - hoursAgo, tenant, keyId: 'k', name, version: 1 },
        ...{ base: 'tiny', requests, errors: 0, promptTokens: 1, completionTokens: 1 },
      },
    ],
  });

describe('a plan', () => {
  it('of a name that nobody knows anything of says what it assumes', async () => {
    expect(await plan()).toMatchObject({
      name: NAME,
      requests: { per_day: 0, days: 0 },
      units: { per_day: null, from: 'unknown' },
      values: { share: 0.05, from: 'assumed' },
      baseline: { mean: 0.5, from: 'assumed' },
      coverage: 1,
      alpha: 0.05,
      finds: [0.5, 0.2, 0.1, 0.05].map((lift) => ({ lift, days: null })),
    });
    const response = await graft.request('/admin/experiments/plan', {
      body: { name: 'no/such', variants },
      method: 'POST',
    });
    expect(response.status).toBe(404);
  });

  it('counts requests of the name alone, over the days that it has had', async () => {
    await used(30, 300);
    await used(2, 100);
    await used(2, 900, 'support');
    await used(2, 900, NAME, 'other');
    await used(24 * 8, 900);
    expect((await plan()).requests).toEqual({ per_day: 200, days: 2 });
  });

  it('takes units that are expected, and what is asked of them', async () => {
    const whole = await plan({ expect_units: 1_000 });
    expect(whole.units).toEqual({ per_day: 1_000, from: 'expected' });
    const days = daysOf(whole);
    expect(days.every((one, i) => one !== null && (i === 0 || one > days[i - 1]!))).toBe(true);
    const half = daysOf(await plan({ expect_units: 1_000, coverage: 0.5 }));
    expect(half[3]! / days[3]!).toBeCloseTo(2, 1);
    const ramp = { steps: [0.01, 0.25], hold_minutes: 1, min_units: 1 };
    expect((await plan({ ramp, holdout: { name: 'h', share: 0.2 } })).coverage).toBeCloseTo(0.2, 12);
    expect(daysOf(await plan({ expect_units: 1e9, min_days: 7 }))).toEqual([7, 7, 7, 7]);
    // Uneven arms take longer, and what the edge measures has no mean that anybody knows.
    const uneven = variants.map((one, i) => ({ ...one, weight: i === 0 ? 0.9 : 0.1 }));
    expect(daysOf(await plan({ expect_units: 1_000, variants: uneven }))[2]).toBeGreaterThan(days[2]!);
    const metrics = [{ key: 'latency_ms', kind: 'mean', better: 'down' }];
    expect(await plan({ metrics })).toMatchObject({
      values: { share: 1, from: 'edge' },
      baseline: null,
      finds: [],
    });
  });

  it('knows what an earlier experiment of the name has seen, and status how far it has come', async () => {
    const { id, document } = (await post('', { name: NAME, variants, guardrails: [] })) as ExperimentView;
    await post(`/${id}/start`);
    const count = (n: number, batch: string) =>
      graft.services.tallies.add(id, {
        ...{ id: batch, at: 1 },
        events: document.variants.flatMap(({ key: variant }) =>
          Array.from({ length: n }, (_, i) => ({
            ...{ experiment: id, seed: document.seed, variant, unit: `${variant}${batch}${i}`, at: 1 },
            // Four of ten rate, and half of them like it.
            ...{
              shadow: false,
              values: { ...(i % 10 < 4 ? { thumbs: i % 2 } : {}) } as Record<string, number>,
            },
          })),
        ),
      });
    graft.clock.advance(6 * HOUR);
    await count(100, 'a');
    const first = (await post(`/${id}/evaluate`)) as ExperimentView;
    expect(first.evaluation?.progress).toMatchObject({ variant: 'treatment', lift_now: null });
    await count(400, 'b');
    graft.clock.advance(6 * HOUR);
    const { evaluation } = (await post(`/${id}/evaluate`)) as ExperimentView;
    const progress = evaluation!.progress!;
    expect(progress.units_per_day).toBeCloseTo(2_000, -2);
    expect(progress.lift_now).toBeGreaterThan(0.2);
    expect(progress.lift_now).toBeLessThan(0.6);
    const still = progress.finds.map(({ units }) => units ?? NaN);
    expect(still.every((one, i) => i === 0 || one > still[i - 1]!)).toBe(true);
    const next = await plan();
    expect(next.units.from).toBe('experiment');
    expect(next.units.per_day).toBeCloseTo(2_000, -2);
    expect(next).toMatchObject({
      values: { share: 0.4, from: 'experiment' },
      baseline: { mean: 0.5, from: 'experiment' },
    });
    // What has been seen already need not come again.
    expect(next.finds[3]!.units! - still[3]!).toBe(1_000);
    expect(next.finds[3]!.days! * DAY).toBeGreaterThan(0);
  });
});

describe('a plan of judged pairs', () => {
  const judged = (more: object = {}) =>
    plan({
      ...{ coverage: 0, shadow: { adapter: `${NAME}@2`, sample: 0.2 }, judge: { model: 'base' } },
      ...more,
    });

  it('of a name that nobody asks for says how many pairs it takes, and nothing of users', async () => {
    const { coverage, pairs } = await judged();
    expect(coverage).toBe(0);
    expect(pairs).toEqual({
      ...{ sample: 0.2, per_day: null, tokens_per_pair: null, tokens_per_day: 500_000 },
      finds: [0.65, 0.6, 0.55].map((rate) => ({
        ...{ win_rate: rate, pairs: expect.any(Number) as number, days: null },
      })),
    });
  });

  it('says by the name’s own requests how many pairs come, and what they cost', async () => {
    await used(23, 200);
    const { pairs } = await judged();
    // A prompt and an answer of 1/200 token each beside the judge's own rules, in both orders.
    expect(pairs).toMatchObject({ per_day: 40, tokens_per_pair: 301 });
    expect(pairs?.finds.map(({ pairs: count, days }) => days! * 40 - count)).toEqual([0, 0, 0]);
    // Tokens bound what comes; the application's own judge uses none.
    const few = await judged({ judge: { model: 'base', tokens_per_day: 3_000 } });
    expect(few.pairs?.per_day).toBeCloseTo(3_000 / 301, 6);
    const own = await judged({ judge: { url: 'https://judge.example.com/' } });
    expect(own.pairs?.tokens_per_pair).toBe(1);
  });

  it('stands beside that of users where there are some', async () => {
    expect(await judged({ coverage: 0.5 })).toMatchObject({ coverage: 0.5, pairs: { sample: 0.2 } });
    expect((await plan()).pairs).toBeUndefined();
  });
});
