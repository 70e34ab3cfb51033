/** The life of experiments through the admin API, on the fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { z } from 'zod';
import type { ExperimentLooks, ExperimentView } from '../../../protocol/admin-api/experiments.ts';
import { DEFAULT_GUARDRAILS, type Experiment } from '../../../protocol/experiment.ts';
import { evaluateAll } from '../../../worker/experiments/life/evaluate.ts';
import type { ExperimentEvent } from '../../../worker/experiments/ports.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

type View = z.infer<typeof ExperimentView>;
interface Answer {
  status: number;
  view: View;
  error: { code: string; message: string; param: string | null };
}

const NAME = 'support/intent';
const LATER_MS = 61_000;
const MINUTE = 60_000;
let graft: AppHarness;
const send = async (method: string, path: string, body?: object, key?: string): Promise<Answer> => {
  const given = { method, ...(body === undefined ? {} : { body }), ...(key === undefined ? {} : { key }) };
  const response = await graft.request(`/admin/${path}`, given);
  const json = (await response.json()) as { error: Answer['error'] };
  return { status: response.status, view: json as unknown as View, error: json.error };
};
const variants = (control = `${NAME}@1`, treatment = `${NAME}@2`) => [
  { key: 'control', adapter: control, weight: 0.5 },
  { key: 'treatment', adapter: treatment, weight: 0.5 },
];
const create = (more: object = {}) =>
  send('POST', 'experiments', { name: NAME, variants: variants(), ...more });
const must = async (answer: Promise<Answer>): Promise<View> => {
  const { status, view } = await answer;
  expect([200, 201], JSON.stringify(view)).toContain(status);
  return view;
};
const step = (view: View, name: string, body: object = {}) =>
  send('POST', `experiments/${view.id}/${name}`, body);
const read = (view: View) => must(send('GET', `experiments/${view.id}`));
const live = async (more: object = {}) => must(step(await must(create(more)), 'start'));
const put = async (view: View, changes: Record<string, unknown>, more: object = {}) => {
  const document = { ...view.document, version: view.document.version + 1, ...changes };
  return send('PUT', `experiments/${view.id}`, { document, ...more });
};
/** What KV says: of the experiment, and whether the name leads to it. */
const inKv = async ({ id, document: { name } }: View) => {
  graft.clock.advance(LATER_MS);
  const entry = await graft.services.experimentIndex.get(id);
  const pointer = await graft.services.nameIndex.get(name);
  return {
    document: entry.state === 'found' ? entry.value.document : entry.state,
    adapters:
      entry.state === 'found' ? Object.values(entry.value.adapters).map(({ version }) => version) : [],
    version: pointer.state === 'found' && 'version' in pointer.value ? pointer.value.version : null,
    leads: pointer.state === 'found' && 'experiment' in pointer.value ? pointer.value.experiment : null,
  };
};
const history = async (name = NAME) => {
  const rows = await graft.services.registry.history({ name, owner: null, before: null, limit: 99 });
  return rows.filter(({ action }) => action.startsWith('experiment_')).reverse();
};

let batch = 0;
/** `units` in each arm, each with one request of these values. */
async function count(view: View, values: (arm: string, i: number) => Record<string, number>, units: number) {
  const { seed, variants: arms } = view.document;
  const events = arms.flatMap(({ key }) =>
    Array.from({ length: units }, (_, i): ExperimentEvent => {
      const unit = `${key}${batch}-${i}`;
      return { experiment: view.id, seed, variant: key, unit, at: 1, values: values(key, i), shadow: false };
    }),
  );
  await graft.services.tallies.add(view.id, { id: `b${(batch += 1)}`, at: 1, events });
}
const schedule = () => evaluateAll(graft.services);

beforeEach(async () => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  graft = await createAppHarness();
  for (let seed = 1; seed <= 2; seed += 1) {
    expect((await graft.publish(NAME, tinyAdapter({ seed }), { stage: seed > 1 })).status).toBe(201);
    graft.clock.advance(LATER_MS);
  }
});

describe('a draft', () => {
  it('gets what most want where nothing is said, and changes nothing for anybody', async () => {
    const { status, view } = await create({ why: 'to see' });
    expect(status).toBe(201);
    expect(view).toEqual({
      id: expect.stringMatching(/^exp_[a-z0-9]{16}$/) as string,
      owner: 'default',
      document: {
        name: NAME,
        version: 1,
        status: 'draft',
        seed: view.id,
        unit: 'user',
        variants: variants(),
        coverage: 1,
        metrics: [{ key: 'thumbs', kind: 'proportion', better: 'up' }],
        guardrails: DEFAULT_GUARDRAILS,
        overrides: [],
        killed: false,
        winner: null,
      },
      seeds: [view.id],
      created_at: graft.clock.now(),
      created_by: 'bootstrap',
      started_at: null,
      coverage_at: null,
      step_units: 0,
      ended_at: null,
      proposal: null,
      evaluation: null,
    });
    expect(await read(view)).toEqual(view);
    expect(await inKv(view)).toMatchObject({ document: 'absent', leads: null, version: 1 });
    expect(await history()).toMatchObject([{ action: 'experiment_create', target: view.id, why: 'to see' }]);
  });

  it('shares no seed with another one, before or beside it', async () => {
    const first = await must(create());
    await must(step(first, 'archive'));
    const second = await must(create());
    expect(second.document.seed).toBe(second.id);
    expect(second.id).not.toBe(first.id);
  });

  it('has the guardrails that are asked for, none if so, and none against its own metrics', async () => {
    const railsOf = async (more: object) => {
      const view = await must(create(more));
      await must(step(view, 'archive'));
      return view.document.guardrails.map(({ metric }) => metric);
    };
    expect(await railsOf({ guardrails: [] })).toEqual([]);
    const one = { metric: 'cost', max_relative_increase: 0.1, action: 'hold' };
    expect(await railsOf({ guardrails: [one] })).toEqual(['cost']);
    const slow = { key: 'ttft_ms', kind: 'mean', better: 'up' };
    expect(await railsOf({ metrics: [slow] })).toEqual(['error_rate', 'left_rate']);
  });

  it('is refused with what is wrong', async () => {
    const other = tinyAdapter({ seed: 9, rank: 3 });
    expect((await graft.publish('elsewhere', other, { owner: 'somebody' })).status).toBe(201);
    await must(send('POST', 'alias', { name: 'also', target: NAME }) as Promise<Answer>);
    const cases: [body: object, status: number, param: string | null, says: RegExp][] = [
      [{ name: 'nothing/here' }, 404, null, /nothing\/here/],
      [{ name: 'also' }, 409, 'name', /is an alias of 'support\/intent'/],
      [{ variants: variants(`${NAME}@1`, `${NAME}@7`) }, 404, null, /support\/intent@7/],
      [{ shadow: { adapter: 'no/such@1', sample: 0.1 } }, 404, null, /no\/such@1/],
      [{ variants: variants().slice(1) }, 400, 'variants', /./],
      [{ variants: variants().map((one) => ({ ...one, weight: 0.4 })) }, 400, 'variants', /sum to 1/],
      [
        { guardrails: [{ metric: 'nothing', max_absolute_increase: 1, action: 'hold' }] },
        400,
        'guardrails.0.metric',
        /neither/,
      ],
      [
        { guardrails: [{ metric: 'thumbs', max_absolute_increase: 0.1, action: 'rollback' }] },
        400,
        'guardrails.0',
        /more is better: use max_absolute_decrease/,
      ],
      [
        { guardrails: [{ metric: 'cost', max_relative_decrease: 0.1, action: 'rollback' }] },
        400,
        'guardrails.0',
        /less is better: use max_relative_increase/,
      ],
      [{ seed: '__mine' }, 400, 'seed', /__/],
      [{ status: 'running' }, 400, 'status', /./],
    ];
    for (const [body, status, param, says] of cases) {
      const answer = await create(body);
      expect([answer.status, answer.error.param], JSON.stringify([body, answer.error])).toEqual([
        status,
        param,
      ]);
      expect(answer.error.message).toMatch(says);
    }
    await must(create());
    const second = await create();
    expect(second).toMatchObject({ status: 409, error: { code: 'version_conflict', param: 'name' } });
    expect(second.error.message).toMatch(/End it first: `graft experiment archive support\/intent`\.$/);
  });

  it('takes no adapter that its owner may not use, and none that is retired or of another base', async () => {
    const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'acme' } });
    const { key } = (await made.json()) as { key: string };
    expect((await graft.publish('acme', tinyAdapter({ seed: 5 }), { owner: 'acme' })).status).toBe(201);
    const body = { name: 'acme', variants: variants('acme@1') };
    expect((await send('POST', 'experiments', body, key)).status).toBe(404);
    const given = await graft.request('/admin/grants', { body: { scope: 'support/**', tenant: 'acme' } });
    expect(given.status).toBe(201);
    expect((await send('POST', 'experiments', body, key)).status).toBe(201);
    const { registry } = graft.services;
    const row = await registry.version(NAME, 1);
    if (row === null) throw new Error('not there');
    const before = await registry.name('foreign');
    const foreign = { ...row, name: 'foreign', version: 1, base: { id: 'big', digest: 'c'.repeat(64) } };
    await registry.publish({ row: foreign, stage: false, before });
    const mixed = await create({ variants: variants(`${NAME}@1`, 'foreign@1') });
    expect(mixed).toMatchObject({
      status: 422,
      error: { reason: 'base_mismatch', param: 'variants.1.adapter' },
    });
    // The draft of acme names it: so not this one, but a version that nobody names.
    const later = await graft.publish(NAME, tinyAdapter({ seed: 6 }), { stage: true });
    expect(later.status).toBe(201);
    expect((await send('POST', 'retire', { name: NAME, version: 3 })).status).toBe(200);
    const retired = await create({ shadow: { adapter: `${NAME}@3`, sample: 0.1 } });
    expect(retired).toMatchObject({ status: 409, error: { param: 'shadow.adapter' } });
  });

  it('keeps its versions from being retired until it is archived', async () => {
    const view = await must(create());
    const refused = await send('POST', 'retire', { name: NAME, version: 2 });
    expect(refused.status).toBe(409);
    expect(refused.error.message).toContain(view.id);
    await must(step(view, 'archive'));
    expect((await send('POST', 'retire', { name: NAME, version: 2 })).status).toBe(200);
  });
});

describe('a step', () => {
  it('brings the experiment to KV, and again when it is repeated', async () => {
    const draft = await must(create());
    const started = await must(step(draft, 'start', { expect: 1, why: 'now' }));
    expect(started).toMatchObject({
      document: { status: 'running', version: 2, coverage: 1 },
      started_at: graft.clock.now(),
      coverage_at: graft.clock.now(),
    });
    expect(await inKv(started)).toEqual({
      document: started.document,
      adapters: [1, 2],
      version: 1,
      leads: started.id,
    });
    expect(await must(step(draft, 'start', { expect: 1 }))).toEqual(started);
    expect((await step(draft, 'start', { expect: 7 })).status).toBe(409);
    const killed = await must(step(started, 'kill', { killed: true }));
    expect(await inKv(killed)).toMatchObject({ document: { killed: true }, leads: killed.id });
    const back = await must(step(killed, 'kill', { killed: false }));
    expect(await inKv(back)).toMatchObject({ document: { killed: false, version: 4 }, leads: back.id });
    // Whoever looks later sees which of the two it was.
    expect((await history()).map(({ action }) => action)).toEqual([
      'experiment_create',
      'experiment_start',
      'experiment_kill',
      'experiment_resume',
    ]);
  });

  it('ends it: nobody is led to it any more, and who still comes is told', async () => {
    const view = await live();
    const stopped = await must(step(view, 'stop', { why: 'enough' }));
    expect(stopped.document).toMatchObject({ status: 'decided', winner: null });
    expect(await inKv(view)).toMatchObject({ document: { status: 'decided' }, leads: null, version: 1 });
    expect(await must(step(view, 'stop'))).toEqual(stopped);
    for (const name of ['start', 'ramp', 'promote', 'evaluate'])
      expect((await step(view, name)).status, name).toBe(409);
    const archived = await must(step(view, 'archive'));
    expect(archived.document.status).toBe('archived');
    expect(await must(step(view, 'archive'))).toEqual(archived);
    expect((await history()).map(({ action }) => action.slice(11))).toEqual([
      'create',
      'start',
      'stop',
      'archive',
    ]);
  });

  it('is refused where it leads nowhere', async () => {
    const draft = await must(create());
    for (const [name, body] of [
      ['ramp', {}],
      ['stop', {}],
      ['promote', { variant: 'control' }],
      ['kill', { killed: true }],
      ['evaluate', {}],
    ] as const)
      expect((await step(draft, name, body)).status, name).toBe(409);
    const view = await must(step(draft, 'start'));
    for (const [name, body, status, param] of [
      ['archive', {}, 409, 'status'],
      ['ramp', {}, 409, 'coverage'],
      ['ramp', { coverage: 0.5 }, 409, 'coverage'],
      ['promote', {}, 409, 'variant'],
      ['promote', { variant: 'other' }, 400, 'variant'],
      ['kill', {}, 400, 'killed'],
    ] as const)
      expect(await step(view, name, body), name).toMatchObject({ status, error: { param } });
    expect((await send('GET', 'experiments/exp_0000000000000000')).error.code).toBe('not_found');
    expect((await send('GET', 'experiments/nonsense')).status).toBe(404);
  });

  it('is recorded when KV fails, and made up for by the schedule', async () => {
    const view = await live();
    const { pointers } = graft.services;
    const sync = vi
      .spyOn(pointers, 'sync')
      .mockRejectedValueOnce(new StoreUnavailable('KV', new Error('500')));
    const failed = await step(view, 'kill', { killed: true });
    expect(failed).toMatchObject({ status: 503, error: { code: 'registry_unavailable' } });
    sync.mockRestore();
    expect(await inKv(view)).toMatchObject({ document: { killed: false } });
    await schedule();
    expect(await inKv(view)).toMatchObject({ document: { killed: true, version: 3 } });
  });

  it('does not start beside another one in the same range of a namespace', async () => {
    expect((await graft.publish('other', tinyAdapter({ seed: 7 }))).status).toBe(201);
    const one = await live({ namespace: { name: 'space', range: [0, 0.5] } });
    const two = await must(
      send('POST', 'experiments', {
        name: 'other',
        variants: variants('other@1', `${NAME}@2`),
        namespace: { name: 'space', range: [0.4, 1] },
      }),
    );
    const refused = await step(two, 'start');
    expect(refused).toMatchObject({ status: 409, error: { param: 'namespace' } });
    expect(refused.error.message).toContain(one.id);
    const moved = await must(put(two, { namespace: { name: 'space', range: [0.5, 1] } }));
    const both = await must(step(moved, 'start'));
    const back = await put(both, { seed: 'anew', namespace: { name: 'space', range: [0.4, 1] } });
    expect(back).toMatchObject({ status: 409, error: { param: 'namespace' } });
    // A version of another name is no winner here.
    expect(await step(both, 'promote', { variant: 'treatment' })).toMatchObject({
      status: 409,
      error: { param: 'variant' },
    });
  });
});

describe('a change', () => {
  it('replaces the document by its next version, and by no other', async () => {
    const view = await live({ coverage: 0.2 });
    const overrides = [{ unit: 'default/user/me', variant: 'treatment' }];
    const tried = await put(view, { overrides }, { dry_run: true });
    expect(tried).toMatchObject({ status: 200, view: { document: { version: 3, overrides } } });
    expect(await read(view)).toEqual(view);
    graft.clock.advance(5);
    const changed = await must(put(view, { overrides }));
    expect(changed.coverage_at).toBe(view.coverage_at);
    expect(await must(send('PUT', `experiments/${view.id}`, { document: changed.document }))).toEqual(
      changed,
    );
    expect(await put(view, { overrides: [] })).toMatchObject({ status: 409, error: { param: 'version' } });
    const wider = await must(put(changed, { coverage: 0.4 }));
    expect(wider.coverage_at).toBeGreaterThan(view.coverage_at ?? Infinity);
    expect(wider.started_at).toBe(view.started_at);
    expect(await inKv(view)).toMatchObject({ document: wider.document });
  });

  it('is refused when it would move units, or is a step', async () => {
    const view = await live({ coverage: 0.2 });
    const cases: [changes: Record<string, unknown>, status: number, param: string][] = [
      [{ coverage: 0.1 }, 409, 'coverage'],
      [{ unit: 'key' }, 409, 'unit'],
      [{ name: 'other' }, 409, 'name'],
      [{ variants: variants(`${NAME}@2`, `${NAME}@1`) }, 409, 'variants'],
      [{ status: 'decided' }, 409, 'status'],
      [{ status: 'decided', winner: 'control' }, 409, 'status'],
      [{ metrics: [] }, 400, 'document.metrics'],
    ];
    for (const [changes, status, param] of cases)
      expect(await put(view, changes), JSON.stringify(changes)).toMatchObject({ status, error: { param } });
    expect(await read(view)).toEqual(view);
  });

  it('begins anew with a new seed, whose results begin at nothing', async () => {
    const view = await live();
    await count(view, () => ({ thumbs: 1 }), 3);
    const looked = await must(step(view, 'evaluate'));
    expect(looked.evaluation?.units).toEqual({ control: 3, treatment: 3 });
    graft.clock.advance(MINUTE);
    const anew = await must(put(looked, { seed: 'anew', unit: 'key', coverage: 0.1 }));
    expect(anew).toMatchObject({
      seeds: [view.id, 'anew'],
      started_at: graft.clock.now(),
      evaluation: null,
    });
    expect((await must(step(view, 'evaluate'))).evaluation?.units).toEqual({ control: 0, treatment: 0 });
    expect((await put(anew, { seed: view.id })).error.param).toBe('seed');
  });
});

describe('an evaluation', () => {
  const ramp = { steps: [0.1, 0.5, 1], hold_minutes: 10, min_units: 20 };
  const looksOf = async (view: View) =>
    (
      (await (await graft.request(`/admin/experiments/${view.id}/looks`)).json()) as z.infer<
        typeof ExperimentLooks
      >
    ).looks;

  it('takes the ramp step by step, proposes the winner, and promotes it when told to', async () => {
    const view = await live({ ramp });
    expect(view.document).toMatchObject({ status: 'ramping', coverage: 0.1 });
    await schedule();
    expect((await read(view)).evaluation?.decision).toMatchObject({
      action: 'wait',
      reason: 'units',
      needed: 20,
    });
    const kept = { error_rate: 0, left_rate: 0, ttft_ms: 100 };
    await count(view, (_, i) => ({ thumbs: i % 2, ...kept }), 20);
    graft.clock.advance(MINUTE);
    await schedule();
    expect((await read(view)).evaluation?.decision).toMatchObject({ action: 'wait', reason: 'hold_time' });
    for (const [coverage, status, units] of [
      [0.5, 'ramping', 40],
      [1, 'running', 60],
    ] as const) {
      graft.clock.advance(10 * MINUTE);
      await schedule();
      const now = await read(view);
      expect(now.document).toMatchObject({ coverage, status });
      expect(now.coverage_at).toBe(graft.clock.now());
      expect(now.step_units).toBe(units);
      // Ten units in each arm make the next step's twenty.
      await count(view, (_, i) => ({ thumbs: i % 2, ...kept }), 10);
      expect(await inKv(view)).toMatchObject({ document: { coverage } });
    }
    await count(view, (arm, i) => ({ thumbs: arm === 'control' ? i % 2 : 1 }), 400);
    await schedule();
    const proposed = await read(view);
    expect(proposed.evaluation?.decision).toEqual({ action: 'propose_winner', variant: 'treatment' });
    expect(proposed.evaluation?.comparisons[0]).toMatchObject({ metric: 'thumbs', verdict: 'better' });
    expect(proposed.document.status).toBe('running');
    expect((await looksOf(view)).map(({ decision }) => decision.action)).toEqual([
      'wait',
      'wait',
      'advance',
      'advance',
      'propose_winner',
    ]);
    const promoted = await must(step(view, 'promote', { why: 'better' }));
    expect(promoted.document).toMatchObject({ status: 'decided', winner: 'treatment' });
    expect(await inKv(view)).toMatchObject({ version: 2, leads: null, document: { winner: 'treatment' } });
    expect(await must(step(view, 'promote', { variant: 'treatment' }))).toEqual(promoted);
    expect((await step(view, 'promote', { variant: 'control' })).status).toBe(409);
    await must(step(view, 'archive'));
    const rows = await history();
    expect(rows.map(({ action, actor }) => `${action.slice(11)} ${actor}`)).toEqual([
      'create bootstrap',
      'start bootstrap',
      'ramp schedule',
      'ramp schedule',
      'promote bootstrap',
      'archive bootstrap',
    ]);
    expect(rows[2]?.why).toBe('ramp: from 0.1 to 0.5, after 40 units');
    expect(rows[4]).toMatchObject({ from: 1, to: 2, why: 'better' });
    // It went live by this: the way back is the usual one.
    const back = await send('POST', 'rollback', { name: NAME });
    expect(back).toMatchObject({ status: 200, view: { version: 1, from: 2 } });
  });

  it('rolls back by itself, within one evaluation', async () => {
    const guardrails = [{ metric: 'error_rate', max_absolute_increase: 0.02, action: 'rollback' }];
    const view = await live({ guardrails });
    await count(view, (arm) => ({ error_rate: arm === 'control' ? 0 : 1 }), 30);
    await schedule();
    const now = await read(view);
    expect(now.document).toMatchObject({ status: 'decided', winner: null });
    expect(now.evaluation?.decision).toEqual({
      action: 'rollback',
      reason: 'guardrail',
      metric: 'error_rate',
      variant: 'treatment',
    });
    expect(await inKv(view)).toMatchObject({ document: { status: 'decided' }, leads: null, version: 1 });
    expect((await history()).at(-1)).toMatchObject({
      action: 'experiment_rollback',
      actor: 'schedule',
      why: 'guardrail: error_rate of treatment is 1, of control 0',
    });
    await schedule();
    expect(await read(view)).toEqual(now);
  });

  it('shows no results behind the alarm of the sample ratio', async () => {
    const view = await live();
    await count(view, () => ({ thumbs: 1 }), 100);
    const arms = [view.document.variants[0]] as Experiment['variants'];
    await count({ ...view, document: { ...view.document, variants: arms } }, () => ({ thumbs: 0 }), 200);
    const { evaluation } = await must(send('POST', `experiments/${view.id}/evaluate`));
    expect(evaluation).toMatchObject({
      sample_ratio: { state: 'alarm' },
      comparisons: [],
      decision: { action: 'hold', reason: 'sample_ratio' },
    });
  });

  it('leaves alone what somebody changed meanwhile', async () => {
    const view = await live({ ramp: { ...ramp, hold_minutes: 0, min_units: 0 } });
    const { experimentLedger } = graft.services;
    const look = experimentLedger.look.bind(experimentLedger);
    vi.spyOn(experimentLedger, 'look').mockImplementationOnce(async (params) => {
      await must(step(view, 'kill', { killed: true }));
      await look(params);
    });
    await schedule();
    expect((await read(view)).document).toMatchObject({ killed: true, coverage: 0.1 });
  });

  it('of one that fails keeps none of the others from its turn', async () => {
    const names = ['b', 'c'];
    const views: View[] = [await live()];
    for (const [i, name] of names.entries()) {
      expect((await graft.publish(name, tinyAdapter({ seed: 10 + i }))).status).toBe(201);
      const body = { name, variants: variants(`${name}@1`) };
      views.push(await must(step(await must(send('POST', 'experiments', body)), 'start')));
    }
    const [broken, ...rest] = [...views].sort((a, b) => (a.id < b.id ? -1 : 1)) as [View, ...View[]];
    const { tallies } = graft.services;
    const snapshot = tallies.snapshot.bind(tallies);
    vi.spyOn(tallies, 'snapshot').mockImplementation(async (experiment, seed) => {
      if (experiment === broken.id) throw new StoreUnavailable('DO', new Error('away'));
      return snapshot(experiment, seed);
    });
    await expect(schedule()).rejects.toBeInstanceOf(StoreUnavailable);
    for (const view of rest) expect((await read(view)).evaluation?.at).toBe(graft.clock.now());
    expect((await read(broken)).evaluation).toBeNull();
  });
});

describe('a repair', () => {
  it('writes what KV has lost or has otherwise, of an experiment too, and leaves drafts alone', async () => {
    const repaired = async (body: object) => {
      graft.clock.advance(LATER_MS);
      const response = await graft.request('/admin/repair', { body });
      return ((await response.json()) as { mended: { kind: string; id: string; was: string; did: string }[] })
        .mended;
    };
    const draft = await must(create());
    expect(await repaired({})).toEqual([]);
    const view = await must(step(draft, 'start'));
    expect(await repaired({})).toEqual([]);
    const key = `experiment:${view.id}`;
    for (const [was, value] of [
      ['missing', null],
      ['unreadable', 'forged'],
    ] as const) {
      graft.kv.tamper(key, () => value);
      const mended = [{ kind: 'experiment', id: view.id, was, did: 'written' }];
      expect(await repaired({ dry_run: true })).toEqual(mended);
      expect(await repaired({})).toEqual(mended);
      expect(await repaired({})).toEqual([]);
    }
    expect(await inKv(view)).toMatchObject({ document: view.document, leads: view.id });
    let old: string | null = null;
    graft.kv.tamper(key, (value) => (old = value));
    await must(step(view, 'stop'));
    graft.kv.tamper(key, () => old);
    expect(await repaired({})).toEqual([
      { kind: 'experiment', id: view.id, was: 'outdated', did: 'written' },
    ]);
    expect(await inKv(view)).toMatchObject({ document: { status: 'decided' }, leads: null });
  });
});

describe('the list', () => {
  it('has the newest first, by name and status, page by page', async () => {
    const first = await must(create());
    await must(step(first, 'archive'));
    graft.clock.advance(1);
    const second = await live();
    const list = async (query: string) => {
      const response = await graft.request(`/admin/experiments${query}`);
      const { experiments, cursor } = (await response.json()) as { experiments: View[]; cursor: string };
      return { ids: experiments.map(({ id }) => id), cursor };
    };
    expect((await list('')).ids).toEqual([second.id, first.id]);
    expect((await list(`?name=${NAME}&status=archived`)).ids).toEqual([first.id]);
    expect((await list('?name=none')).ids).toEqual([]);
    const page = await list('?limit=1');
    expect(page.ids).toEqual([second.id]);
    expect((await list(`?limit=1&cursor=${page.cursor}`)).ids).toEqual([first.id]);
    expect((await send('GET', 'experiments?status=odd')).error.param).toBe('status');
  });
});
