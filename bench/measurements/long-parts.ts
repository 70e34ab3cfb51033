import type { RequestResult } from '../load/run-request.ts';
import { askWave, type Wave } from '../load/run-wave.ts';
import type { Target } from '../load/target.ts';
import { median } from '../statistics.ts';

/** A wave of long prompts beside what it consists of; medians over the rounds, ms. */
export interface LongParts {
  rounds: number;
  /** From the first request to the last token. */
  wholeMs: number;
  /** The same of prompts as long, with one new token each. */
  promptsMs: number;
  /** Its decode steps over all rows, with nothing read between them. */
  stepsMs: number;
  /** The whole over the sum of both, round by round. */
  times: { median: number; best: number; worst: number };
  problems: string[];
}

/**
 * Round by round: a wave of new prompts, as many others with one new token each, and these once more, which the server
 * must have kept: soon all rows decode and none is read.
 * @param target a server that keeps the prompts of a wave.
 */
export async function measureLongParts(params: {
  target: Target;
  wave: Wave;
  rounds: number;
}): Promise<LongParts> {
  const { target, wave, rounds } = params;
  const problems = new Set<string>();
  const ask = async (tokens: number, round: number): Promise<RequestResult[]> => {
    const results = await askWave(target, { ...wave, tokens }, round);
    for (const { problem } of results) if (problem !== null) problems.add(problem);
    return results;
  };
  const longest = (results: readonly RequestResult[]) => Math.max(...results.map(({ totalMs }) => totalMs));
  const measured = { whole: [] as number[], prompts: [] as number[], steps: [] as number[] };
  await ask(1, 0);
  for (let round = 0; round < rounds; round++) {
    measured.whole.push(longest(await ask(wave.tokens, 2 * round + 1)));
    measured.prompts.push(longest(await ask(1, 2 * round + 2)));
    measured.steps.push(stepMs(await ask(wave.tokens, 2 * round + 2)) * (wave.tokens - 1));
  }
  const times = measured.whole.map((whole, i) => whole / (measured.prompts[i]! + measured.steps[i]!));
  return {
    rounds,
    wholeMs: median(measured.whole),
    promptsMs: median(measured.prompts),
    stepsMs: median(measured.steps),
    times: { median: median(times), best: Math.min(...times), worst: Math.max(...times) },
    problems: [...problems],
  };
}

/** @returns the median time between two tokens of a row, ms, while all rows decode; NaN if they never do. */
export function stepMs(rows: readonly Pick<RequestResult, 'firstMs' | 'lastMs' | 'tokenMs'>[]): number {
  const from = Math.max(...rows.map(({ firstMs }) => firstMs));
  const to = Math.min(...rows.map(({ lastMs }) => lastMs));
  return median(
    rows.flatMap(({ tokenMs }) => {
      const within = tokenMs.filter((ms) => ms >= from && ms <= to);
      return within.slice(1).map((ms, i) => ms - within[i]!);
    }),
  );
}
