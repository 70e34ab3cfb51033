/** How values are spread, from requests and ratings through the edge to a look. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { startExperimentPath, type ExperimentPath } from './experiment-path.ts';

let path: ExperimentPath;
beforeEach(async () => {
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  path = await startExperimentPath({
    metrics: [
      { key: 'minutes', kind: 'mean', better: 'down' },
      { key: 'thumbs', kind: 'proportion', better: 'up' },
    ],
  });
});
afterEach(() => path.stop());

const rate = (id: string, metric: string, value: number) =>
  path.edge.request('/v1/feedback', { key: path.key, body: { id, metric, value } });

it('tells p50 and p95 of the answers beside the mean of the units', async () => {
  const told: Record<string, number[]> = { control: [], treatment: [] };
  const byUnit: Record<string, number[]> = {};
  let answers = 0;
  for (let i = 0; i < 48; i += 1) {
    // Sixteen users of three answers each: all in one variant is a chance of one in 32,768.
    const user = `user-${i % 16}`;
    const { id, variant } = await path.answer({ user });
    answers += 1;
    const minutes = 1.7 ** (i % 12);
    expect((await rate(id, 'minutes', minutes)).status).toBe(200);
    expect((await rate(id, 'thumbs', 1)).status).toBe(200);
    told[variant!]!.push(minutes);
    (byUnit[`${variant} ${user}`] ??= []).push(minutes);
  }
  const { spread = {}, comparisons } = await path.look();
  // Rates are none; the edge's times are told although the experiment lists none of them.
  expect(Object.keys(spread)).toEqual(['minutes', 'ttft_ms', 'latency_ms']);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  for (const variant of ['control', 'treatment']) {
    const sorted = told[variant]!.sort((a, b) => a - b);
    const { values, p50, p95, mean: ofUnits } = spread['minutes']![variant]!;
    expect(values).toBe(sorted.length);
    for (const [shown, at] of [
      [p50, 0.5],
      [p95, 0.95],
    ] as const)
      expect(Math.abs(shown / sorted[Math.ceil(at * sorted.length) - 1]! - 1)).toBeLessThanOrEqual(0.0201);
    const units = Object.entries(byUnit).filter(([unit]) => unit.startsWith(`${variant} `));
    expect(ofUnits).toBeCloseTo(mean(units.map(([, own]) => mean(own))), 6);
  }
  expect(comparisons[0]?.control.mean).toBeCloseTo(spread['minutes']!['control']!.mean, 9);
  const times = Object.values(spread['latency_ms']!).map(({ values }) => values);
  expect(times.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(answers);
});
