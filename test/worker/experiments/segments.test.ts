/** Results by one dimension: from requests through the edge to a look, and what a look shows of many. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SegmentTally } from '../../../worker/experiments/ports.ts';
import { segmentOf, segmentsAtLook } from '../../../worker/experiments/segments.ts';
import { startExperimentPath, type ExperimentPath } from './experiment-path.ts';
import { experimentOf } from './sample-experiment.ts';

let path: ExperimentPath | null = null;
afterEach(async () => {
  await path?.stop();
  path = null;
});

it('tells results by a request header, each user in the first that was sent', async () => {
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  path = await startExperimentPath({ segment_by: 'header:x-plan' });
  const plans: Record<string, number> = {};
  for (let i = 0; i < 12; i += 1) {
    const user = `user-${i}`;
    const plan = ['pro', 'free', null][i % 3]!;
    const headers = (value: string | null) => (value === null ? {} : { 'x-plan': value });
    const { id } = await path.answer({ user, headers: headers(plan) });
    await path.answer({ user, headers: headers('pro') });
    // Feedback needs no header: the unit is known.
    const body = { id, metric: 'thumbs', value: plan === 'pro' ? 1 : 0 };
    await path.edge.settled();
    expect((await path.edge.request('/v1/feedback', { key: path.key, body })).status).toBe(200);
    plans[String(plan)] = (plans[String(plan)] ?? 0) + 1;
  }
  const { segments } = await path.look();
  expect(segments?.by).toBe('header:x-plan');
  const units = (row: { units: Record<string, number> }) =>
    Object.values(row.units).reduce((a, b) => a + b, 0);
  expect(Object.fromEntries(segments!.rows.map((row) => [String(row.segment), units(row)]))).toEqual(plans);
  for (const { segment, means } of segments!.rows)
    for (const { n, mean } of Object.values(means['thumbs']!))
      if (n > 0) expect(mean).toBe(segment === 'pro' ? 1 : 0);
  // A change would mix two kinds.
  const document = { ...path.view.document, version: path.view.document.version + 1, segment_by: 'tenant' };
  const changed = await path.edge.request(`/admin/experiments/${path.view.id}`, {
    method: 'PUT',
    body: { document },
  });
  expect([changed.status, await changed.text()]).toEqual([409, expect.stringContaining('segment_by')]);
  const looks = await path.edge.request(`/admin/experiments/${path.view.id}/looks`);
  expect(await looks.text()).not.toContain('"segments"');
});

describe('what is told by', () => {
  const asked = (name: string, header: string | null = null) => ({
    tenant: 'acme',
    name,
    header: () => header,
  });
  it.each([
    ['tenant', 'support/intent', 'acme'],
    ['name', 'support/intent', null],
    ['name', 'support/intent/anna', 'anna'],
    ['header:x-plan', 'support/intent', 'pro'],
  ])('%s, of %s', (by, name, expected) => {
    const experiment = experimentOf({ segment_by: by });
    expect(segmentOf(experiment, asked(name, ' pro '))).toBe(expected);
    expect(segmentOf(experiment, asked(name, ' '))).toBe(by.startsWith('header') ? null : expected);
  });

  it.each(['header:Authorization', 'header:authorization', 'header:cookie', 'user', ''])('is not %j', (by) =>
    expect(() => experimentOf({ segment_by: by })).toThrow(),
  );
});

describe('a look', () => {
  const tally = (control: number, treatment: number, liked = 0.5): SegmentTally => ({
    units: { control, treatment },
    metrics: {
      thumbs: {
        control: { n: control, sum: control / 2, sumSquares: control / 2 },
        treatment: { n: treatment, sum: treatment * liked, sumSquares: treatment * liked },
      },
    },
  });

  it('shows twenty segments, the largest first, and the others together', () => {
    const segments = Object.fromEntries([
      ['other', tally(3, 4)],
      ...Array.from({ length: 30 }, (_, i) => [i === 7 ? 'none' : `=s${i}`, tally(100 + i, 100)]),
    ]) as Record<string, SegmentTally>;
    const { rows } = segmentsAtLook(experimentOf({ segment_by: 'tenant' }), { segments })!;
    expect(rows).toHaveLength(21);
    expect(rows[0]).toMatchObject({ segment: 's29', units: { control: 129, treatment: 100 } });
    const small = Array.from({ length: 10 }, (_, i) => 100 + i).reduce((a, b) => a + b, 0);
    expect(rows[20]).toMatchObject({
      ...{ segment: null, other: true, units: { control: small + 3, treatment: 1_004 } },
      means: { thumbs: { treatment: { n: 1_004, mean: 0.5 } } },
    });
  });

  it('tells a lift where there are values enough, wider the more segments there are', () => {
    const experiment = experimentOf({ segment_by: 'tenant' });
    const lifts = (segments: Record<string, SegmentTally>) =>
      segmentsAtLook(experiment, { segments })!.rows.map(({ lifts: { treatment } }) => treatment);
    const [alone] = lifts({ '=a': tally(900, 900, 0.7) });
    const [first, few] = lifts({ '=a': tally(900, 900, 0.7), '=b': tally(49, 49) });
    expect(alone!.estimate).toBeCloseTo(0.4, 9);
    expect(first!.low).toBeLessThan(alone!.low);
    expect(few).toBeNull();
    expect(segmentsAtLook(experimentOf(), { segments: {} })).toBeNull();
  });
});
