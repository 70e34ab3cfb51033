import { benchPrompt } from '../load/prompts.ts';
import { runRequest } from '../load/run-request.ts';
import type { Target } from '../load/target.ts';
import { residentBytes } from '../resident-memory.ts';
import { median, quantile } from '../statistics.ts';

/** Memory is compared with that after this many: caches and pools have filled by then. */
const SETTLED = 200;

export interface SwapSummary {
  swaps: number;
  /** Time to the first token of a request whose adapter had to be loaded, ms. */
  ttftMs: { median: number; p95: number };
  rssAfterSettledBytes: number;
  rssAtEndBytes: number;
  /** Growth from the settled state to the end, share: 0.05 = 5 %. */
  growth: number;
  problems: string[];
}

/**
 * One request after another, each for the adapter that was used longest ago: with a budget for fewer adapters than
 * there are, every request evicts one and loads one.
 */
export async function swapAdapters(params: {
  target: Target;
  pid: number;
  adapters: number;
  swaps: number;
  tokens: number;
}): Promise<SwapSummary> {
  const { target, pid, adapters, swaps, tokens } = params;
  const problems = new Set<string>();
  const firsts: number[] = [];
  let settled = NaN;
  for (let i = 0; i < swaps; i++) {
    const result = await runRequest(target, { prompt: benchPrompt(i, 0, 8), tokens, adapter: i % adapters });
    if (result.problem !== null) problems.add(result.problem);
    else firsts.push(result.firstMs);
    if (i + 1 === Math.min(SETTLED, swaps)) settled = await residentBytes(pid);
  }
  const end = await residentBytes(pid);
  return {
    swaps,
    ttftMs: { median: median(firsts), p95: quantile(firsts, 0.95) },
    rssAfterSettledBytes: settled,
    rssAtEndBytes: end,
    growth: end / settled - 1,
    problems: [...problems],
  };
}
