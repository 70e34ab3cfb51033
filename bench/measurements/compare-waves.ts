import { runWave, type Wave, type WaveResult } from '../load/run-wave.ts';
import type { Target } from '../load/target.ts';
import { median, quantile } from '../statistics.ts';

/** One system's row of a scenario. */
export interface WaveSummary {
  scenario: string;
  system: string;
  waves: number;
  tokensPerSecond: { median: number; best: number; worst: number };
  /** Over the requests of all waves. */
  ttftMs: { median: number; worst: number };
  /** Tokens a second of one request after its first, median over the waves. */
  decodePerSecond: number;
  problems: string[];
}

/**
 * The same waves against every system in turn, then in the reverse order, so that whatever drifts (heat, a neighbour's
 * load) meets the first and the last alike. The first wave of each system's first turn warms it up and does not count.
 */
export async function compareWaves(params: {
  scenario: string;
  systems: readonly Target[];
  wave: Wave;
  /** Counted waves in each of the two turns. */
  waves: number;
  onWave?: (system: string, result: WaveResult) => void;
}): Promise<WaveSummary[]> {
  const { scenario, systems, wave, waves } = params;
  const results = new Map<Target, WaveResult[]>(systems.map((system) => [system, []]));
  let round = 0;
  for (const [turn, order] of [systems, [...systems].reverse()].entries()) {
    for (const system of order) {
      if (turn === 0) await runWave(system, wave, round++);
      for (let i = 0; i < waves; i++) {
        const result = await runWave(system, wave, round++);
        params.onWave?.(system.label, result);
        results.get(system)?.push(result);
      }
    }
  }
  return systems.map((system) => summarize(scenario, system.label, results.get(system) ?? []));
}

export function summarize(scenario: string, system: string, results: readonly WaveResult[]): WaveSummary {
  const rates = results.map((result) => result.tokensPerSecond);
  const firsts = results.flatMap((result) => result.ttftMs);
  return {
    scenario,
    system,
    waves: results.length,
    tokensPerSecond: { median: median(rates), best: Math.max(...rates), worst: Math.min(...rates) },
    ttftMs: { median: median(firsts), worst: quantile(firsts, 1) },
    decodePerSecond: median(results.map((result) => result.decodePerSecond)),
    problems: [...new Set(results.flatMap((result) => result.problems))],
  };
}
