/** What an experiment lacks is said: each line through the edge, with an origin behind it. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ExperimentEvent } from '../../../worker/experiments/ports.ts';
import { MIN_ANSWERS } from '../../../worker/experiments/health.ts';
import { startExperimentPath, type ExperimentPath } from './experiment-path.ts';

const thumbs = { key: 'thumbs', kind: 'proportion', better: 'up' };
const DAY_MS = 86_400_000;

let path: ExperimentPath;
beforeEach(() => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
});
afterEach(() => path.stop());

const rate = (id: string | null, body: object = {}) =>
  path.edge.request('/v1/feedback', {
    key: path.key,
    body: { id, metric: 'thumbs', value: 1, ...body },
  });
const answers = async (n: number, userOf = (i: number): string | null => `user-${i}`) => {
  const all = [];
  for (let i = 0; i < n; i += 1) all.push(await path.answer({ user: userOf(i) }));
  return all;
};
const issues = async () => (await path.look()).health.map(({ issue, metric }) => [issue, metric ?? '']);

describe('an experiment says', () => {
  it('that nobody rates, until somebody does', async () => {
    path = await startExperimentPath();
    const [first] = await answers(MIN_ANSWERS - 1);
    expect(await issues()).toEqual([]);
    await path.answer({ user: 'last' });
    const { health, decision } = await path.look();
    expect(health).toEqual([
      {
        issue: 'no_feedback',
        message: expect.stringMatching(
          /^100 answers without feedback: .* 'thumbs' to POST \/v1\/feedback/,
        ) as string,
      },
    ]);
    expect(decision).toMatchObject({ action: 'wait', reason: 'units' });
    await rate(first!.id);
    expect(await issues()).toEqual([]);
  });

  it('that one metric never comes', async () => {
    const resolved = { key: 'resolved', kind: 'proportion', better: 'up' };
    path = await startExperimentPath({ metrics: [thumbs, resolved] });
    const [first] = await answers(MIN_ANSWERS);
    expect(await issues()).toEqual([['no_feedback', '']]);
    await rate(first!.id);
    expect(await issues()).toEqual([['metric_missing', 'resolved']]);
  });

  it('that feedback is refused because of its metric, for a day', async () => {
    path = await startExperimentPath();
    const [first] = await answers(1);
    for (const metric of ['thumb', 'thumb', 'latency_ms'])
      expect((await rate(first!.id, { metric })).status).toBe(400);
    const { health } = await path.look();
    expect(health.map(({ message }) => message)).toEqual([
      "2 ratings with 'thumb' refused in the last day: the experiment has 'thumbs'.",
      "1 rating with 'latency_ms' refused in the last day: the experiment records that itself.",
    ]);
    path.edge.clock.advance(DAY_MS);
    expect(await issues()).toEqual([]);
  });

  it('that all answers are of one unit', async () => {
    path = await startExperimentPath({ metrics: [{ key: 'cost', kind: 'mean', better: 'down' }] });
    await answers(MIN_ANSWERS, () => 'alice');
    expect(await issues()).toEqual([['one_unit', '']]);
  });

  it('that requests name no user, unless the unit is the key', async () => {
    const metrics = [{ key: 'cost', kind: 'mean', better: 'down' }];
    path = await startExperimentPath({ metrics, guardrails: [] });
    await answers(30, (i) => (i % 5 === 0 ? null : `user-${i}`));
    const { health } = await path.look();
    expect(health).toEqual([
      {
        issue: 'no_user',
        message:
          "20 % of the answers name no user, and 1 unit of 25 (4 %) are API keys. Send 'user', or create the experiment with unit 'key'.",
      },
    ]);
    await path.stop();
    path = await startExperimentPath({ metrics, unit: 'key' });
    await answers(10, () => null);
    expect(await issues()).toEqual([]);
  });

  it('that one variant is rated by more of its units than the other', async () => {
    path = await startExperimentPath();
    for (const { variant, id } of await answers(96)) if (variant === 'treatment') await rate(id);
    const { health, arms } = await path.look();
    expect(health).toMatchObject([{ issue: 'raters_unequal', metric: 'thumbs' }]);
    expect(health[0]?.message).toContain('(control 0 %, treatment 100 %)');
    expect(arms['treatment']).toMatchObject({
      answers: arms['treatment']?.rated,
      rated: arms['treatment']?.answers,
    });
    expect(arms['control']?.rated).toBe(0);
  });

  it('that it has units of a variant which is not one of its own', async () => {
    path = await startExperimentPath();
    const { document } = path.view;
    const variants = document.variants.map((one) => ({ ...one, key: `new-${one.key}` }));
    const changed = await path.edge.request(`/admin/experiments/${path.view.id}`, {
      method: 'PUT',
      body: { document: { ...document, version: document.version + 1, seed: 'anew', variants } },
    });
    expect(changed.status, await changed.text()).toBe(200);
    // An isolate that has not seen the new document yet.
    const late = { ...lost, experiment: path.view.id, seed: 'anew', unit: 'u1', at: path.edge.clock.now() };
    path.edge.services.experimentSink.record(late, () => undefined);
    path.edge.clock.advance(61_000);
    expect((await path.look()).health).toMatchObject([{ issue: 'unknown_variant' }]);
  });
});

const lost: ExperimentEvent = {
  ...{ experiment: '', seed: 'gone', variant: 'control', unit: '', at: 0, values: {}, shadow: false },
};

describe('a winner', () => {
  const count = async (marks: ExperimentEvent['marks']) => {
    const { id, document } = path.view;
    const events = document.variants.flatMap(({ key }) =>
      Array.from({ length: 400 }, (_, i): ExperimentEvent => {
        const values = { length_rate: i % 10 < (key === 'control' ? 8 : 3) ? 1 : 0 };
        const unit = `${key}${i}`;
        return {
          ...lost,
          experiment: id,
          seed: document.seed,
          variant: key,
          unit,
          values,
          marks: marks ?? [],
        };
      }),
    );
    await path.edge.services.tallies.add(id, { id: 'b', at: 1, events });
  };
  const metrics = [{ key: 'length_rate', kind: 'proportion', better: 'down' }];

  it('is proposed of a healthy experiment', async () => {
    path = await startExperimentPath({ metrics, guardrails: [] });
    await count(['answered']);
    expect(await path.look()).toMatchObject({
      health: [],
      decision: { action: 'propose_winner', variant: 'treatment' },
    });
  });

  it('is not proposed while something is lacking', async () => {
    path = await startExperimentPath({ metrics, guardrails: [] });
    await count(['answered', 'nameless']);
    expect(await path.look()).toMatchObject({
      health: [{ issue: 'no_user' }],
      comparisons: [{ verdict: 'better' }],
      decision: { action: 'hold', reason: 'health' },
    });
  });
});
