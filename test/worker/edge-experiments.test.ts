/** An experiment from its draft to its archive in real workerd: KV, D1, the tallies' Durable Objects, `waitUntil`. */
import { ratableId } from './experiments/experiment-rig.ts';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ExperimentLooks, ExperimentView, FeedbackAnswer } from '../../protocol/admin-api/experiments.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { startTestEdge, type TestEdge } from './edge-harness.ts';

const NAME = 'support/intent';
const USERS = 300;
const AT_ONCE = 20;

let graft: TestEdge;
let key: string;
beforeAll(async () => {
  graft = await startTestEdge();
  const first = tinyAdapter({ seed: 1 });
  const second = tinyAdapter({ seed: 2 });
  expect((await graft.publish({ name: NAME, adapter: first, owner: 'acme' })).status).toBe(201);
  expect((await graft.publish({ name: NAME, adapter: second, owner: 'acme', stage: true })).status).toBe(201);
  key = await graft.makeKey({ tenant: 'acme' });
});
afterAll(() => graft.stop());

const json = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});
const experiment = async (path: string, body: unknown = {}) => {
  const response = await graft.admin(`/admin/experiments${path}`, json(body));
  return ExperimentView.parse(await response.json());
};
const ask = async (user: string) => {
  const body = { model: NAME, messages: [{ role: 'user', content: 'hi' }], user };
  const response = await graft.request('/v1/chat/completions', { ...json(body), key });
  const id = ratableId(await response.text());
  expect(response.status).toBe(200);
  const { headers } = response;
  return {
    adapter: headers.get('x-graft-adapter'),
    variant: headers.get('x-graft-variant'),
    id,
  };
};
const rate = async (id: string | null, value: number) => {
  const body = { id, metric: 'thumbs', value };
  return FeedbackAnswer.parse(await (await graft.request('/v1/feedback', { ...json(body), key })).json());
};
async function eachUser<T>(work: (i: number) => Promise<T>): Promise<T[]> {
  const done: T[] = [];
  for (let i = 0; i < USERS; i += AT_ONCE)
    done.push(...(await Promise.all(Array.from({ length: AT_ONCE }, (_, k) => work(i + k)))));
  return done;
}

describe('an experiment', () => {
  it('is made, deals its users, counts what they say, finds the better variant, and makes it the name', async () => {
    const draft = await experiment('', {
      name: NAME,
      variants: [
        { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
        { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
      ],
      seed: 'support-intent-1',
    });
    expect(draft.document).toMatchObject({
      status: 'draft',
      coverage: 1,
      guardrails: [{ metric: 'error_rate' }, { metric: 'left_rate' }, { metric: 'ttft_ms' }],
    });
    const path = `/${draft.id}`;
    expect(await ask('before')).toEqual({ adapter: `${NAME}@1`, variant: null, id: null });
    expect((await experiment(`${path}/start`)).document.status).toBe('running');

    const answers = await eachUser((i) => ask(`user-${i}`));
    const again = await eachUser((i) => ask(`user-${i}`));
    expect(again.map(({ variant }) => variant)).toEqual(answers.map(({ variant }) => variant));
    for (const { adapter, variant } of answers)
      expect(adapter).toBe(`${NAME}@${variant === 'control' ? 1 : 2}`);
    const treated = answers.filter(({ variant }) => variant === 'treatment').length;
    const units = { control: USERS - treated, treatment: treated };
    // Dealt by a hash, so the same each time; a fair deal is within three deviations, 26.
    expect(Math.abs(treated - USERS / 2)).toBeLessThan(26);

    // Three of ten like control's answers, eight of ten treatment's.
    const liked = ({ variant }: { variant: string | null }, i: number) =>
      i % 10 < (variant === 'control' ? 3 : 8) ? 1 : 0;
    const said = await eachUser((i) => rate(answers[i]!.id, liked(answers[i]!, i)));
    expect(said.every(({ status }) => status === 'counted')).toBe(true);
    expect((await rate(answers[0]!.id, 1)).status).toBe('repeated');

    // What the isolate has noted is sent within a second.
    const looked = await vi.waitFor(
      async () => {
        const view = await experiment(`${path}/evaluate`);
        expect(view.evaluation?.units).toEqual(units);
        return view;
      },
      { interval: 250 },
    );
    const { comparisons, decision, sample_ratio: ratio } = looked.evaluation!;
    expect(ratio.state).toBe('ok');
    expect(comparisons).toHaveLength(1);
    const sumOf = (variant: string) =>
      answers.reduce((sum, answer, i) => sum + (answer.variant === variant ? liked(answer, i) : 0), 0);
    for (const [arm, variant] of [
      ['control', 'control'],
      ['treatment', 'treatment'],
    ] as const) {
      expect(comparisons[0]![arm].n).toBe(units[variant]);
      expect(comparisons[0]![arm].mean).toBeCloseTo(sumOf(variant) / units[variant], 12);
    }
    expect(comparisons[0]).toMatchObject({ metric: 'thumbs', verdict: 'better' });
    expect(decision).toEqual({ action: 'propose_winner', variant: 'treatment' });
    const looks = await graft.admin(`/admin/experiments${path}/looks`);
    expect(ExperimentLooks.parse(await looks.json()).looks.at(-1)).toEqual(looked.evaluation);

    const promoted = await experiment(`${path}/promote`, { why: 'better' });
    expect(promoted.document).toMatchObject({ status: 'decided', winner: 'treatment' });
    expect(await ask('user-0')).toEqual({ adapter: `${NAME}@2`, variant: null, id: null });
    expect((await experiment(`${path}/archive`)).document.status).toBe('archived');
    const refused = await graft.request('/v1/feedback', {
      ...json({ id: answers[1]!.id, metric: 'thumbs', value: 1 }),
      key,
    });
    expect([refused.status, await refused.json()]).toMatchObject([
      409,
      { error: { code: 'experiment_over' } },
    ]);
  });

  it('rolls back by the schedule when its treatment fails, within one look', async () => {
    const draft = await experiment('', {
      name: NAME,
      variants: [
        { key: 'control', adapter: `${NAME}@2`, weight: 0.5 },
        { key: 'treatment', adapter: `${NAME}@1`, weight: 0.5 },
      ],
      seed: 'support-intent-2',
      guardrails: [{ metric: 'thumbs', max_absolute_decrease: 0.05, action: 'rollback' }],
    });
    await experiment(`/${draft.id}/start`);
    const answers = await eachUser((i) => ask(`user-${i}`));
    await eachUser((i) => rate(answers[i]!.id, answers[i]!.variant === 'treatment' ? 0 : 1));
    await graft.edge.runSchedule();
    const after = ExperimentView.parse(await (await graft.admin(`/admin/experiments/${draft.id}`)).json());
    expect(after.document).toMatchObject({ status: 'decided', winner: null });
    expect(after.evaluation?.decision).toMatchObject({
      action: 'rollback',
      reason: 'guardrail',
      metric: 'thumbs',
    });
    expect(await ask('user-1')).toEqual({ adapter: `${NAME}@2`, variant: null, id: null });
    const history = await graft.admin(`/admin/history?name=${encodeURIComponent(NAME)}&limit=1`);
    expect(await history.json()).toMatchObject({
      changes: [{ action: 'experiment_rollback', actor: 'schedule' }],
    });
  });
});
