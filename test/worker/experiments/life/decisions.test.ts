/** What evaluations come to, and what is left of it, through the admin API on the fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { ExperimentView } from '../../../../protocol/admin-api/experiments.ts';
import { EXPOSURE_LIFE_MS } from '../../../../worker/experiments/limits.ts';
import { evaluateAll } from '../../../../worker/experiments/life/evaluate.ts';
import type { ExperimentEvent } from '../../../../worker/experiments/ports.ts';
import { tinyAdapter } from '../../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../../app-harness.ts';

const NAME = 'support/intent';
const MINUTE = 60_000;
let graft: AppHarness;

const ask = async (path: string, body?: object, method = 'POST') => {
  const response = await graft.request(`/admin/${path}`, { method, ...(body === undefined ? {} : { body }) });
  const json = (await response.json()) as ExperimentView & { error?: { param: string; message: string } };
  return { status: response.status, view: json, error: json.error };
};
const must = async (path: string, body: object = {}) => {
  const { status, view } = await ask(path, body);
  expect([200, 201], JSON.stringify(view)).toContain(status);
  return view;
};
const read = async ({ id }: ExperimentView) => (await ask(`experiments/${id}`, undefined, 'GET')).view;
const schedule = () => evaluateAll(graft.services);

/** Control is version 1, which is live; the others are versions 2 and so on. */
async function live(keys: readonly string[], more: object = {}): Promise<ExperimentView> {
  const weight = 1 / keys.length;
  const variants = keys.map((key, i) => ({ key, adapter: `${NAME}@${i + 1}`, weight }));
  const { id } = await must('experiments', { name: NAME, variants, guardrails: [], ...more });
  return must(`experiments/${id}/start`);
}

let batch = 0;
async function count(view: ExperimentView, units: number, values: (arm: string, i: number) => object) {
  const events = view.document.variants.flatMap(({ key }) =>
    Array.from({ length: units }, (_, i): ExperimentEvent => ({
      ...{ experiment: view.id, seed: view.document.seed, variant: key, unit: `${key}${batch}-${i}` },
      ...{ at: 1, shadow: false, values: values(key, i) as Record<string, number> },
    })),
  );
  await graft.services.tallies.add(view.id, { id: `b${(batch += 1)}`, at: 1, events });
}
/** Shares of tenths who like an answer, by variant. */
const liking = (tenths: Record<string, number>) => (arm: string, i: number) => ({
  thumbs: i % 10 < (tenths[arm] ?? 5) ? 1 : 0,
});

beforeEach(async () => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  graft = await createAppHarness();
  for (let seed = 1; seed <= 4; seed += 1)
    expect((await graft.publish(NAME, tinyAdapter({ seed }), { stage: seed > 1 })).status).toBe(201);
});

it('caps a metric at control’s p99 where its document says so, and leaves guardrails as they are', async () => {
  const revenue = { key: 'revenue', kind: 'mean', better: 'up', cap: 'p99' };
  const guardrails = [{ metric: 'revenue', max_relative_decrease: 0.1, action: 'hold' }];
  const rates = { name: NAME, metrics: [{ ...revenue, kind: 'proportion' }] };
  const variants = ['control', 'treatment'].map((key, i) => ({
    key,
    adapter: `${NAME}@${i + 1}`,
    weight: 0.5,
  }));
  const { status, error } = await ask('experiments', { ...rates, variants });
  expect([status, error?.param]).toEqual([400, 'metrics.0.cap']);
  const view = await live(['control', 'treatment'], { metrics: [revenue], guardrails });
  const paid = (arm: string, i: number) => ({ revenue: i === 0 && arm === 'treatment' ? 1e6 : 1 + (i % 50) });
  await count(view, 199, paid);
  await schedule();
  const mean = (arm: string, n: number, most: number) =>
    Array.from({ length: n }, (_, i) => Math.min(most, paid(arm, i).revenue)).reduce((a, b) => a + b, 0) / n;
  expect((await read(view)).evaluation?.comparisons).toMatchObject([
    {
      cap: null,
      verdict: 'open',
      reason: 'too_few_values',
      treatment: { mean: mean('treatment', 199, 1e9) },
    },
  ]);
  await count(view, 400, (_, i) => paid('control', i));
  graft.clock.advance(MINUTE);
  await schedule();
  const { evaluation } = await read(view);
  const { cap, control, treatment, reason } = evaluation!.comparisons[0]!;
  expect(reason).toBeNull();
  expect(cap! / 50).toBeGreaterThanOrEqual(1);
  expect(cap! / 50).toBeLessThan(1.041);
  const all = (arm: string) => (199 * mean(arm, 199, cap!) + 400 * mean('control', 400, cap!)) / 599;
  expect(control.mean).toBeCloseTo(all('control'), 9);
  expect(treatment.mean).toBeCloseTo(all('treatment'), 9);
  expect(evaluation!.guardrails[0]!.treatment).toBeGreaterThan(1_000);
});

describe('a proposal', () => {
  it('stands although a later look is not sure any more, until another seed begins', async () => {
    const view = await live(['control', 'treatment']);
    await count(view, 150, liking({ control: 3, treatment: 6 }));
    const at = graft.clock.now();
    await schedule();
    const proposal = { variant: 'treatment', at, units: 300 };
    expect(await read(view)).toMatchObject({
      proposal,
      evaluation: { decision: { action: 'propose_winner', variant: 'treatment' } },
    });
    await count(view, 350, liking({ control: 6, treatment: 5 }));
    graft.clock.advance(MINUTE);
    await schedule();
    const later = await read(view);
    expect(later.evaluation).toMatchObject({
      comparisons: [{ verdict: 'open' }],
      decision: { action: 'propose_winner', variant: 'treatment' },
    });
    expect(later.proposal).toEqual(proposal);
    const document = { ...later.document, version: later.document.version + 1, seed: 'anew' };
    const anew = (await ask(`experiments/${view.id}`, { document }, 'PUT')).view;
    expect(anew).toMatchObject({ proposal: null, evaluation: null, step_units: 0 });
    expect((await read(view)).proposal).toBeNull();
  });

  it('is what is promoted when nobody says what', async () => {
    const view = await live(['control', 'treatment']);
    await count(view, 150, liking({ control: 3, treatment: 6 }));
    await schedule();
    await count(view, 350, liking({ control: 6, treatment: 5 }));
    await schedule();
    expect((await must(`experiments/${view.id}/promote`)).document.winner).toBe('treatment');
  });
});

describe('promote', () => {
  it('over a version that nobody compared needs that version’s number', async () => {
    const view = await live(['control', 'treatment']);
    expect((await ask('promote', { name: NAME, version: 3 })).status).toBe(200);
    const body = { variant: 'treatment' };
    const refused = await ask(`experiments/${view.id}/promote`, body);
    expect(refused).toMatchObject({ status: 409, error: { param: 'over' } });
    expect(refused.error?.message).toMatch(/'support\/intent@3' is live, which is neither .* over: 3/);
    expect(await ask(`experiments/${view.id}/promote`, { ...body, over: 4 })).toMatchObject({
      status: 409,
      error: { param: 'over' },
    });
    const done = await must(`experiments/${view.id}/promote`, { ...body, over: 3 });
    expect(done.document).toMatchObject({ status: 'decided', winner: 'treatment' });
    expect(await graft.services.registry.name(NAME)).toMatchObject({ version: 2 });
  });

  it('needs none over control or the variant itself', async () => {
    const view = await live(['control', 'treatment']);
    expect((await ask('promote', { name: NAME, version: 2 })).status).toBe(200);
    await must(`experiments/${view.id}/promote`, { variant: 'control' }).catch(() => undefined);
    expect((await read(view)).document.status).toBe('running');
    await must(`experiments/${view.id}/promote`, { variant: 'treatment' });
    expect(await graft.services.registry.name(NAME)).toMatchObject({ version: 2 });
  });
});

describe('a treatment', () => {
  const guardrails = [{ metric: 'error_rate', max_absolute_increase: 0.02, action: 'rollback' }];

  it('that fails is dropped alone: its units get the live version, the others go on', async () => {
    const view = await live(['control', 'b', 'c'], { guardrails });
    await count(view, 100, (arm, i) => ({ error_rate: arm === 'b' ? 1 : 0, ...liking({})(arm, i) }));
    await schedule();
    const after = await read(view);
    expect(after.document).toMatchObject({ status: 'running', dropped: ['b'], version: 3 });
    expect(after.evaluation?.decision).toEqual({
      action: 'drop',
      reason: 'guardrail',
      metric: 'error_rate',
      variant: 'b',
    });
    // KV is told at once, and nobody gets it any more.
    graft.clock.advance(61_000);
    const entry = await graft.services.experimentIndex.get(view.id);
    expect(entry).toMatchObject({ state: 'found', value: { document: { dropped: ['b'] } } });
    await schedule();
    expect((await read(view)).document).toMatchObject({ status: 'running', dropped: ['b'] });
    const rows = await graft.services.registry.history({
      ...{ name: NAME, owner: null, before: null, limit: 1 },
    });
    expect(rows[0]).toMatchObject({
      action: 'experiment_drop',
      actor: 'schedule',
      why: 'guardrail: error_rate of b is 1, of control 0',
    });
    // The last one that fails ends it.
    await count(view, 100, (arm, i) => ({ error_rate: arm === 'c' ? 1 : 0, ...liking({})(arm, i) }));
    await schedule();
    expect((await read(view)).document).toMatchObject({ status: 'decided', winner: null });
  });

  it('is not proposed by a look that began before it was dropped', async () => {
    const view = await live(['control', 'b', 'c']);
    await count(view, 300, liking({ b: 9 }));
    const { experimentLedger } = graft.services;
    const look = experimentLedger.look.bind(experimentLedger);
    vi.spyOn(experimentLedger, 'look').mockImplementationOnce(async (params) => {
      const document = { ...view.document, version: view.document.version + 1, dropped: ['b'] };
      expect((await ask(`experiments/${view.id}`, { document }, 'PUT')).status).toBe(200);
      await look(params);
    });
    await schedule();
    expect(await read(view)).toMatchObject({ proposal: null, document: { dropped: ['b'] } });
    await schedule();
    // Nobody makes it live unless it is named.
    expect((await ask(`experiments/${view.id}/promote`, {})).status).toBe(409);
    expect(await graft.services.registry.name(NAME)).toMatchObject({ version: 1 });
  });

  it('comes back with a new seed alone', async () => {
    const view = await live(['control', 'b', 'c'], { guardrails });
    await count(view, 30, (arm) => ({ error_rate: arm === 'b' ? 1 : 0 }));
    await schedule();
    const { document } = await read(view);
    const put = (changes: object) =>
      ask(
        `experiments/${view.id}`,
        { document: { ...document, version: document.version + 1, ...changes } },
        'PUT',
      );
    expect(await put({ dropped: [] })).toMatchObject({ status: 409, error: { param: 'dropped' } });
    expect((await put({ dropped: ['b', 'c'] })).status).toBe(400);
    const anew = await put({ seed: 'anew' });
    expect(anew.view.document).not.toHaveProperty('dropped');
  });

  it('that is worse ends the experiment, also while it ramps', async () => {
    const ramp = { steps: [0.1, 1], hold_minutes: 0, min_units: 20 };
    const view = await live(['control', 'treatment'], { ramp });
    await count(view, 150, liking({ control: 7, treatment: 3 }));
    await schedule();
    const after = await read(view);
    expect(after.document).toMatchObject({ status: 'decided', winner: null, coverage: 0.1 });
    expect(after.evaluation?.decision).toEqual({
      action: 'rollback',
      reason: 'worse',
      metric: 'thumbs',
      variant: 'treatment',
    });
  });
});

describe('the last look', () => {
  it('is taken once, when feedback is over, and keeps what was decided', async () => {
    const view = await live(['control', 'treatment']);
    await count(view, 150, liking({ control: 3, treatment: 6 }));
    await schedule();
    const stopped = await must(`experiments/${view.id}/stop`);
    const over = (stopped.ended_at ?? NaN) + EXPOSURE_LIFE_MS;
    const until = (at: number) => graft.clock.advance(at - graft.clock.now());
    await count(view, 10, liking({}));
    until(over - MINUTE);
    await schedule();
    expect((await read(view)).evaluation).toMatchObject({ units: { control: 150 } });
    until(over);
    await schedule();
    const settled = await read(view);
    expect(settled.evaluation).toMatchObject({
      last: true,
      units: { control: 160, treatment: 160 },
      decision: { action: 'propose_winner', variant: 'treatment' },
    });
    await count(view, 10, liking({}));
    graft.clock.advance(MINUTE);
    await schedule();
    expect(await read(view)).toEqual(settled);
  });

  it('is taken at once when it is archived: no feedback is taken from then on', async () => {
    const view = await live(['control', 'treatment']);
    await must(`experiments/${view.id}/stop`);
    await count(view, 10, liking({}));
    await must(`experiments/${view.id}/archive`);
    await schedule();
    expect((await read(view)).evaluation).toMatchObject({ last: true, units: { control: 10 } });
  });
});
