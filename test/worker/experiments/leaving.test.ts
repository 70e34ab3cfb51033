/** Whoever hangs up counts: through the edge, with an origin behind it. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { NAME, startExperimentPath, type ExperimentPath } from './experiment-path.ts';

let path: ExperimentPath;
beforeEach(() => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
});
afterEach(() => path.stop());

const TREATED = 20;
const LEFT = [
  { key: 'left_rate', kind: 'proportion', better: 'down' },
  { key: 'latency_ms', kind: 'mean', better: 'down' },
  { key: 'ttft_ms', kind: 'mean', better: 'down' },
];
const momentsOf = async (metric: string) => {
  const { id, document } = path.view;
  return (await path.edge.services.tallies.snapshot(id, document.seed)).metrics[metric];
};

it('finds a treatment that three of ten users walk out of', async () => {
  path = await startExperimentPath({ metrics: LEFT });
  for (const version of [1, 2]) expect(await path.ask(`${NAME}@${version}`, path.key)).toBe(200);
  const seen: Record<string, number> = { control: 0, treatment: 0 };
  for (let i = 0; seen['treatment']! < TREATED; i += 1) {
    const client = new AbortController();
    const { signal } = client;
    const response = await path.chat({ user: `user-${i}`, more: { stream: true, max_tokens: 4 }, signal });
    const arm = response.headers.get('x-graft-variant') ?? '';
    seen[arm]! += 1;
    if (arm === 'treatment' && seen[arm]! % 10 < 3) {
      path.edge.clock.advance(5_000);
      client.abort();
    } else await response.text();
    await path.edge.settled();
  }
  const { comparisons, units } = await path.look();
  expect(units).toEqual(seen);
  const [left, latency, ttft] = comparisons;
  expect(left).toMatchObject({
    metric: 'left_rate',
    control: { mean: 0, n: seen['control'] },
    treatment: { mean: 0.3, n: TREATED },
  });
  // The clock stands still but for those who wait: until they leave.
  expect(latency).toMatchObject({ control: { mean: 0 }, treatment: { mean: 1_500, n: TREATED } });
  expect(ttft).toMatchObject({ control: { mean: 0 }, treatment: { mean: 1_500, n: TREATED } });
});

it('counts a unit as soon as its answer has begun', async () => {
  path = await startExperimentPath();
  const response = await path.chat({ user: 'alice', more: { stream: true, max_tokens: 4 } });
  const arm = response.headers.get('x-graft-variant') ?? '';
  const early = await path.edge.stores.tallies.snapshot(path.view.id, path.view.document.seed);
  expect([early.units, early.metrics]).toEqual([{ [arm]: 1 }, {}]);
  await response.text();
  expect((await path.look()).units[arm]).toBe(1);
  expect(await momentsOf('left_rate')).toEqual({ [arm]: { n: 1, sum: 0, sumSquares: 0 } });
});

it('counts who leaves before the answer begins, and takes no failure for it', async () => {
  path = await startExperimentPath();
  for (const version of [1, 2]) expect(await path.ask(`${NAME}@${version}`, path.key)).toBe(200);
  const answer = path.edge.origin.answer;
  const client = new AbortController();
  path.edge.origin.answer = (method, at, init, url) =>
    at.startsWith('/v1/')
      ? new Promise((_, reject) => {
          init.signal?.addEventListener('abort', () => reject(new Error('gone')));
          path.edge.clock.advance(9_000);
          client.abort();
        })
      : answer(method, at, init, url);
  await path.chat({ user: 'alice', signal: client.signal });
  await path.edge.settled();
  const [left] = Object.values((await momentsOf('left_rate')) ?? {});
  expect(left).toEqual({ n: 1, sum: 1, sumSquares: 1 });
  expect(Object.values((await momentsOf('error_rate')) ?? {})).toEqual([{ n: 1, sum: 0, sumSquares: 0 }]);
  expect(Object.values((await momentsOf('latency_ms')) ?? {})[0]?.sum).toBe(9_000);
});

it('counts a unit whose request is refused by the origin, and nothing of how it went', async () => {
  path = await startExperimentPath();
  const response = await path.chat({
    user: 'alice',
    more: { max_tokens: 1, messages: [{ role: 'user', content: 'hi '.repeat(2_000) }] },
  });
  expect(response.status).toBe(400);
  await response.text();
  const { units } = await path.look();
  expect(Object.values(units).reduce((sum, n) => sum + n, 0)).toBe(1);
  expect(await momentsOf('error_rate')).toBeUndefined();
});
