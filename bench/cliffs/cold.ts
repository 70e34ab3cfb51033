import path from 'node:path';
import { QV, writeRandomAdapter } from '../adapters/write-random-adapter.ts';
import { benchPrompt } from '../load/prompts.ts';
import { runRequest } from '../load/run-request.ts';
import { startPublishedStack } from '../published-stack.ts';
import { median, quantile } from '../statistics.ts';
import type { CliffRun } from './cliff.ts';

/** Rank 44 on q and v of SmolLM2-135M in float32: 10.1 MB. */
const RANK = 44;
const ADAPTERS = 8;
/** Three of them, on the disk and in memory: the fourth since is gone from both, and comes from KV again. */
const BUDGET_BYTES = 3 * 10_500_000;
const ROUNDS = 3;
const TOKENS = 2;

export interface ColdRow {
  requests: number;
  coldMs: { median: number; p95: number };
  residentMs: { median: number; p95: number };
  /** Median of the differences of a cold request and the same asked again. */
  addedMs: number;
  problems: string[];
}

/** 10 MB adapters in turn through the edge, each asked for twice: from KV by way of the edge, then from memory. */
export async function measureCold({ base, work, signal }: CliffRun): Promise<ColdRow> {
  const budget = String(BUDGET_BYTES);
  const running = await startPublishedStack({
    ...{ base, work: path.join(work, 'cold'), signal },
    originArgs: ['--adapter-ram-bytes', budget, '--adapter-disk-bytes', budget],
  });
  try {
    for (let i = 0; i < ADAPTERS; i++) {
      const folder = path.join(work, `cold-${i}`);
      await writeRandomAdapter({ folder, seed: i, rank: RANK, modules: QV });
      await running.publish(`bench/cold-${i}`, folder);
    }
    const edge = running.edge('edge', 'bench/cold-');
    const problems = new Set<string>();
    const [colds, residents]: [number[], number[]] = [[], []];
    for (let i = 0; i < ROUNDS * ADAPTERS; i++) {
      signal.throwIfAborted();
      const ask = (index: number) =>
        runRequest(edge, { prompt: benchPrompt(index, 0, 8), tokens: TOKENS, adapter: i % ADAPTERS });
      const [cold, resident] = [await ask(2 * i), await ask(2 * i + 1)];
      for (const { problem } of [cold, resident]) if (problem !== null) problems.add(problem);
      // The first round finds what publication left in memory.
      if (i < ADAPTERS || cold.problem !== null || resident.problem !== null) continue;
      colds.push(cold.firstMs);
      residents.push(resident.firstMs);
    }
    const of = (values: readonly number[]) => ({ median: median(values), p95: quantile(values, 0.95) });
    return {
      ...{ requests: colds.length, coldMs: of(colds), residentMs: of(residents), problems: [...problems] },
      addedMs: median(colds.map((ms, i) => ms - (residents[i] as number))),
    };
  } finally {
    await running.stop();
  }
}
