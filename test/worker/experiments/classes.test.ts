/** Experiments between classifiers: a metric that is the share of a class. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { CLASSES_HEADER, answerTextOf } from '../../../protocol/origin-wire.ts';
import { answerTexts } from '../../../worker/experiments/run-shadow.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { askAs, EXPERIMENT, makeKey, NAME, startExperiment } from './experiment-rig.ts';

const URGENT = { key: 'urgent', kind: 'proportion', better: 'up', class: 'very urgent, now' };
/** Of docs/internals/statistics.md: alice gets the treatment. */
const ALICE = 'alice';

let graft: AppHarness;
let key: string;
/** What the origin says of an answer. */
let told: string | null;
let status: number;

beforeEach(async () => {
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const { answer } = graft.origin;
  told = null;
  status = 200;
  graft.origin.answer = async (method, path, init, url) => {
    const response = await answer(method, path, init, url);
    if (!path.startsWith('/v1/')) return response;
    const headers = {
      'x-graft-usage': 'prompt=7,completion=0',
      ...(told === null ? {} : { [CLASSES_HEADER]: told }),
    };
    return Response.json(await response.json(), { status, headers });
  };
  ({ key } = await makeKey(graft, { tenant: 'acme' }));
  await startExperiment(graft, { metrics: [URGENT, { key: 'thumbs', kind: 'proportion', better: 'up' }] });
});

const classify = (path = '/v1/classify', more: object = { input: ['a', 'b'] }) =>
  graft.request(path, { key, body: { model: NAME, user: ALICE, ...more } });
const metrics = async () => {
  await graft.settled();
  return (await graft.services.tallies.snapshot(EXPERIMENT, 'support-intent-2')).metrics;
};

describe('a class as a metric', () => {
  it('is the share of the texts that get it, the mean over a unit’s requests', async () => {
    told = 'very%20urgent%2C%20now=3,later=1';
    const answer = await classify();
    expect([answer.status, answer.headers.get('x-graft-variant')]).toEqual([200, 'treatment']);
    expect(answer.headers.get(CLASSES_HEADER)).toBeNull();
    expect((await metrics())['urgent']?.['treatment']).toMatchObject({ n: 1, sum: 0.75 });
    told = 'later=1';
    await classify();
    expect((await metrics())['urgent']?.['treatment']).toMatchObject({ n: 1, sum: 0.375 });
  });

  it.each([
    ['the origin does not say', null, 200],
    ['it is malformed', 'later=x', 200],
    ['there is no text', '', 200],
    ['the answer failed', 'later=1', 500],
  ])('has no value where %s', async (_, header, code) => {
    told = header;
    status = code;
    await classify();
    const all = await metrics();
    expect(all['urgent']).toBeUndefined();
    expect(all['error_rate']?.['treatment']).toMatchObject({ n: 1, sum: code === 200 ? 0 : 1 });
  });

  it('is not told by applications, unlike others', async () => {
    told = 'later=1';
    const response = await askAs(graft, { key, user: ALICE });
    const { id } = (await response.json()) as { id: string };
    expect(answerTextOf(id)).not.toBeNull();
    const feedback = (metric: string) =>
      graft.request('/v1/feedback', { key, body: { id, metric, value: 1 } });
    const refused = await feedback('urgent');
    expect([refused.status, await refused.json()]).toEqual([
      400,
      {
        error: expect.objectContaining({
          message: expect.stringContaining("recorded by the edge itself; the experiment has 'thumbs'"),
        }),
      },
    ]);
    expect((await feedback('thumbs')).status).toBe(200);
  });
});

it.each([
  ['/v1/score', { text_1: 'a', text_2: 'b' }],
  ['/v1/rerank', { query: 'a', documents: ['b'] }],
])('%s takes part in experiments', async (path, body) => {
  const answer = await classify(path, body);
  expect([answer.status, answer.headers.get('x-graft-variant')]).toEqual([200, 'treatment']);
  expect((await metrics())['latency_ms']?.['treatment']).toMatchObject({ n: 1 });
});

it('compares a shadow’s classes by their labels', () => {
  const data = [
    { index: 1, label: 'b', probs: [0.1, 0.9], num_classes: 2 },
    { index: 0, label: 'a', probs: [0.9, 0.1], num_classes: 2 },
  ];
  expect(answerTexts(JSON.stringify({ object: 'list', data }), false)).toEqual(['a', 'b']);
});
