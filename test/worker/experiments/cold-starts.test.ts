/** The first load of an adapter is no speed of it: through the edge, with an origin that lacks it, then has it on disk. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FAKE_RANK_BYTES } from '../../gpu-origin/fake-runner.ts';
import { startExperimentPath, type ExperimentPath } from './experiment-path.ts';

const RANK = 8;
let path: ExperimentPath;
let loads = 0;
beforeEach(async () => {
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  loads = 0;
  // Memory for one adapter: whoever is asked for after the other one is read from disk again.
  path = await startExperimentPath(
    { metrics: [{ key: 'latency_ms', kind: 'mean', better: 'down' }] },
    {
      adapterBytes: RANK * FAKE_RANK_BYTES,
      runner: { rank: () => RANK, duringLoad: async () => void (loads += 1) },
    },
  );
});
afterEach(() => path.stop());

it('leaves the times of cold starts out, and says how many there were in each arm', async () => {
  const seen: Record<string, { answers: number; cold: number }> = {};
  // Enough that each arm surely comes twice in turn, however the seed deals.
  for (let i = 0; i < 60; i += 1) {
    const before = loads;
    const { variant } = await path.answer({ user: `user-${i}`, more: { stream: i % 2 === 0 } });
    const arm = (seen[variant ?? ''] ??= { answers: 0, cold: 0 });
    arm.answers += 1;
    arm.cold += loads > before ? 1 : 0;
  }
  const { arms, comparisons } = await path.look();
  for (const key of ['control', 'treatment']) {
    const { answers, cold } = seen[key]!;
    expect(cold).toBeGreaterThan(0);
    expect(cold).toBeLessThan(answers);
    expect(arms[key]).toMatchObject({ answers, cold_starts: cold });
    const of = key === 'control' ? comparisons[0]?.control : comparisons[0]?.treatment;
    expect(of?.n).toBe(answers - cold);
  }
});
