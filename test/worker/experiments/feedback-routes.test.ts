import { answerTextOf } from '../../../protocol/origin-wire.ts';
import { newExposureId } from '../../../worker/experiments/answer-token.ts';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type AnalyticsDataset,
  createAnalyticsPoints,
  createObserver,
} from '../../../worker/http/request.ts';
import type { ExperimentEntry } from '../../../worker/experiments/ports.ts';
import type { FakeTallies } from '../../fakes/fake-tallies.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { askAs, EXPERIMENT, makeKey, ratableId, startExperiment, writeExperiment } from './experiment-rig.ts';
import { experimentOf } from './sample-experiment.ts';

const SEED = 'support-intent-2';
const WEEK_MS = 7 * 86_400_000;

let graft: AppHarness;
let key: string;
let keyId: string;
let entry: ExperimentEntry;
let id: string;
let points: Parameters<AnalyticsDataset['writeDataPoint']>[0][];

const expose = async (user: string): Promise<string> => {
  const answer = await askAs(graft, { key, user });
  const rated = ratableId(await answer.text());
  if (rated === null) throw new Error('the answer has no token');
  return rated;
};
const rate = (body: object, withKey = key) =>
  graft.request('/v1/feedback', { key: withKey, body: { id, metric: 'thumbs', value: 1, ...body } });
const errorOf = async (response: Response) => ({
  status: response.status,
  ...((await response.json()) as { error: { code: string; param: string; message: string } }).error,
});
const thumbs = async () => (await graft.services.tallies.snapshot(EXPERIMENT, SEED)).metrics['thumbs'];

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  points = [];
  const dataset: AnalyticsDataset = { writeDataPoint: (point) => void points.push(point) };
  graft = await createAppHarness({
    observer: createObserver({ points: createAnalyticsPoints(dataset), logSample: 0, pointSample: 1 }),
  });
  ({ key, id: keyId } = await makeKey(graft, { tenant: 'acme' }));
  entry = await startExperiment(graft);
  id = await expose('alice');
});

describe('feedback', () => {
  it('counts once an answer and metric, and says when it had been counted', async () => {
    const first = await rate({});
    expect(first.status).toBe(200);
    expect(await first.json()).toEqual({ object: 'graft.feedback', status: 'counted' });
    const again = await rate({ value: 0 });
    expect(again.status).toBe(200);
    expect(await again.json()).toEqual({ object: 'graft.feedback', status: 'repeated' });
    expect(await thumbs()).toEqual({ treatment: { n: 1, sum: 1, sumSquares: 1 } });
  });

  it('is a data point when it was counted, which names no user and has no token', async () => {
    points.length = 0;
    expect((await rate({ value: 0.25 })).status).toBe(200);
    const opened = await graft.services.answerTokens.open(answerTextOf(id) ?? '', {
      tenant: 'acme',
      now: graft.clock.now(),
    });
    if (!opened.ok) throw new Error(opened.error.kind);
    const { unit } = opened.value;
    expect(points).toEqual([
      {
        indexes: ['acme'],
        blobs: [
          ...[keyId, 'support/intent', '', '/v1/feedback', '', '', expect.any(String) as string],
          ...[EXPERIMENT, 'treatment', 'feedback', 'thumbs', unit],
        ],
        doubles: [0, 0, 0, 0, 0, 0, 0, 0.25, 1, 1],
      },
    ]);
    expect(JSON.stringify(points)).not.toMatch(/alice|chatcmpl/);
    for (const [body, status] of [
      [{}, 200],
      [{ value: 2 }, 400],
      [{ metric: 'stars' }, 400],
      [{ id: 'x' }, 400],
    ] as const)
      expect((await rate(body)).status).toBe(status);
    expect((await rate({}, 'gk_none')).status).toBe(401);
    expect(points).toHaveLength(1);
    (graft.services.tallies as FakeTallies).down = true;
    id = await expose('bob');
    points.length = 0;
    expect((await rate({})).status).toBe(503);
    expect(points).toEqual([]);
  });

  it('averages the answers of a user, and keeps what was before', async () => {
    await rate({ before: 0.25 });
    id = await expose('alice');
    await rate({ value: 0 });
    expect(await thumbs()).toEqual({
      treatment: {
        ...{ n: 1, sum: 0.5, sumSquares: 0.25, paired: 1, pairedSum: 0.5 },
        ...{ preSum: 0.25, preSumSquares: 0.0625, products: 0.125 },
      },
    });
  });

  it('is taken of a decided experiment too, under the seed of the answer', async () => {
    await writeExperiment(graft, { ...entry, document: experimentOf({ status: 'decided', seed: 'later' }) });
    expect((await rate({})).status).toBe(200);
    expect(await thumbs()).toMatchObject({ treatment: { n: 1 } });
    expect((await graft.services.tallies.snapshot(EXPERIMENT, 'later')).units).toEqual({});
  });

  it('needs a key of the tenant that was answered', async () => {
    const { key: other } = await makeKey(graft, { tenant: 'rival' });
    expect(await errorOf(await rate({}, other))).toMatchObject({
      ...{ status: 403, code: 'exposure_of_another_tenant', param: 'id' },
    });
    const { key: sibling } = await makeKey(graft, { tenant: 'acme' });
    expect((await rate({}, sibling)).status).toBe(200);
    expect((await errorOf(await rate({}, 'gk_none'))).status).toBe(401);
  });

  it('refuses tokens that were not made here', async () => {
    const token = Buffer.from(answerTextOf(id) ?? '', 'base64url');
    const other = await graft.services.answerTokens.issue({
      ...{ tenant: 'acme', experiment: 'exp_00000000000000bb', version: 1, variant: 'control' },
      id: newExposureId(),
      unit: 'A'.repeat(22),
      at: graft.clock.now(),
    });
    const idOf = (...parts: Uint8Array[]) => `chatcmpl-${Buffer.concat(parts).toString('base64url')}`;
    const [said, mac] = [token.subarray(0, 60), token.subarray(60)];
    const nextVersion = idOf(Uint8Array.of(2), token.subarray(1));
    for (const wrong of ['x', 'chatcmpl-', `${id}A`, id.slice(1), nextVersion, 'v'.repeat(5_000)])
      expect(await errorOf(await rate({ id: wrong }))).toMatchObject({
        ...{ status: 400, code: 'exposure_malformed', param: 'id' },
      });
    for (const wrong of [
      idOf(said, new Uint8Array(mac.length)),
      idOf(Buffer.from(other ?? '', 'base64url').subarray(0, 60), mac),
    ])
      expect(await errorOf(await rate({ id: wrong }))).toMatchObject({
        ...{ status: 400, code: 'exposure_forged', param: 'id' },
      });
    expect(await thumbs()).toBeUndefined();
  });

  it('is taken for seven days, to the millisecond', async () => {
    // Ids have whole seconds.
    const issued = Math.floor(graft.clock.now() / 1_000) * 1_000;
    graft.clock.advance(issued + WEEK_MS - 1 - graft.clock.now());
    expect((await rate({})).status).toBe(200);
    graft.clock.advance(1);
    expect(await errorOf(await rate({ metric: 'thumbs' }))).toMatchObject({
      ...{ status: 400, code: 'exposure_expired' },
      message: expect.stringContaining(new Date(issued + WEEK_MS).toISOString()) as string,
    });
  });

  it('is about metrics that the experiment has, and names them', async () => {
    expect(await errorOf(await rate({ metric: 'stars' }))).toMatchObject({
      ...{ status: 400, code: 'invalid_request', param: 'metric' },
      message: expect.stringContaining("it has 'thumbs'") as string,
    });
    for (const metric of ['latency_ms', 'error_rate'])
      expect(await errorOf(await rate({ metric }))).toMatchObject({
        ...{ status: 400, param: 'metric' },
        message: expect.stringContaining('recorded by the edge itself') as string,
      });
  });

  it.each([
    [{ value: 1.01 }, 'value'],
    [{ value: -0.01 }, 'value'],
    [{ before: 2 }, 'before'],
    [{ value: 'yes' }, 'value'],
    [{ value: null }, 'value'],
    [{ more: 1 }, 'more'],
    [{ metric: 'Thumbs' }, 'metric'],
    [{ id: '' }, 'id'],
    [{ exposure: 'v1.x.y' }, 'exposure'],
  ])('refuses %j', async (body, param) => {
    expect(await errorOf(await rate(body))).toMatchObject({ status: 400, code: 'invalid_request', param });
    expect(await thumbs()).toBeUndefined();
  });

  it('bounds a mean, so that its squares can be summed', async () => {
    const metrics = [{ key: 'seconds', kind: 'mean', better: 'down' }];
    await writeExperiment(graft, { ...entry, document: experimentOf({ metrics }) });
    expect((await rate({ metric: 'seconds', value: -12.5 })).status).toBe(200);
    expect(await errorOf(await rate({ metric: 'seconds', value: 2e9 }))).toMatchObject({ param: 'value' });
  });

  it('ends when the experiment is put away', async () => {
    await writeExperiment(graft, { ...entry, document: experimentOf({ status: 'archived' }) });
    const refused = await rate({});
    expect(refused.headers.get('x-should-retry')).toBe('false');
    expect(await errorOf(refused)).toMatchObject({ status: 409, code: 'experiment_over' });
  });

  it('says that it can be repeated when it could not be counted', async () => {
    const tallies = graft.services.tallies as FakeTallies;
    tallies.down = true;
    expect(await errorOf(await rate({}))).toMatchObject({ status: 503, code: 'registry_unavailable' });
    tallies.down = false;
    tallies.loseAnswers = 1;
    expect((await rate({})).status).toBe(503);
    expect(await (await rate({})).json()).toMatchObject({ status: 'repeated' });
    expect(await thumbs()).toMatchObject({ treatment: { n: 1, sum: 1 } });
  });

  it('is a small body', async () => {
    expect((await rate({ id: 'v'.repeat(20_000) })).status).toBe(413);
    expect((await graft.request('/v1/feedback', { method: 'GET', key })).status).toBe(405);
  });
});
