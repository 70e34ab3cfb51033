import http from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { benchPrompt } from '../load/prompts.ts';
import { runRequest } from '../load/run-request.ts';
import type { Target } from '../load/target.ts';
import { median, quantile } from '../statistics.ts';

export interface AddedFirstToken {
  system: string;
  requests: number;
  ttftMs: { median: number; p95: number };
  /** Median of the differences to the first system's request of the same round, ms; 0 for itself. */
  addedMs: number;
  problems: string[];
}

const TOKENS = 8;
/** As in {@link measureEdgeOverhead}: a request behind another one's heels finds warmer caches. */
const PAUSE_MS = 20;

/**
 * Time to the first token of one request at a time, its adapter in memory everywhere, over connections that are kept.
 * In each round every system is asked once, beginning with the next one. Prompts all differ.
 * @param params.systems what the others are compared with comes first.
 */
export async function measureAddedFirstToken(params: {
  systems: readonly Target[];
  rounds: number;
  signal?: AbortSignal;
}): Promise<AddedFirstToken[]> {
  const { systems, rounds, signal } = params;
  const agents = systems.map(() => new http.Agent({ keepAlive: true, maxSockets: 1 }));
  const firsts = systems.map((): number[] => []);
  const problems = systems.map(() => new Set<string>());
  try {
    // The round before the first opens the connections.
    for (let round = -1; round < rounds; round++) {
      signal?.throwIfAborted();
      for (let turn = 0; turn < systems.length; turn++) {
        const at = (round + 1 + turn) % systems.length;
        const index = (round + 1) * systems.length + turn;
        await setTimeout(PAUSE_MS);
        const ask = { prompt: benchPrompt(index, 7), tokens: TOKENS, adapter: 0 };
        const result = await runRequest(systems[at] as Target, ask, agents[at]);
        if (result.problem !== null) problems[at]?.add(result.problem);
        if (round >= 0) firsts[at]?.push(result.problem === null ? result.firstMs : NaN);
      }
    }
  } finally {
    for (const agent of agents) agent.destroy();
  }
  const known = (values: readonly number[]) => values.filter((value) => !Number.isNaN(value));
  const reference = firsts[0] ?? [];
  return systems.map(({ label }, at) => {
    const own = firsts[at] ?? [];
    const good = known(own);
    return {
      system: label,
      requests: good.length,
      ttftMs: { median: median(good), p95: quantile(good, 0.95) },
      addedMs: median(known(own.map((ms, round) => ms - (reference[round] as number)))),
      problems: [...(problems[at] ?? [])],
    };
  });
}
