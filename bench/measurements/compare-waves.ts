import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
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
  const { scenario, systems } = params;
  const turns = await takeTurns({ ...params, turns: 2, warm: 'first' });
  return systems.map((system) => summarize(scenario, system.label, (turns.get(system) ?? []).flat()));
}

/**
 * Waves against every system in turn, the order reversed from turn to turn.
 * @param params.warm which turns of a system begin with a wave that does not count: its first, or each, where the
 * systems push each other's adapters out of one server.
 * @returns the counted waves of each turn, in the turns' order.
 */
export async function takeTurns(params: {
  systems: readonly Target[];
  wave: Wave;
  /** Counted waves a turn. */
  waves: number;
  turns: number;
  warm: 'first' | 'each';
  /** A turn begins when the machine is idle. */
  whenIdle?: boolean;
  signal?: AbortSignal;
  onWave?: (system: string, result: WaveResult) => void;
}): Promise<Map<Target, WaveResult[][]>> {
  const { systems, wave, waves, turns, warm, signal } = params;
  const results = new Map<Target, WaveResult[][]>(systems.map((system) => [system, []]));
  let round = 0;
  for (let turn = 0; turn < turns; turn++) {
    for (const system of turn % 2 === 0 ? systems : [...systems].reverse()) {
      if (params.whenIdle === true) await untilIdle(signal);
      if (turn === 0 || warm === 'each') await runWave(system, wave, round++);
      const counted: WaveResult[] = [];
      for (let i = 0; i < waves; i++) {
        signal?.throwIfAborted();
        const result = await runWave(system, wave, round++);
        params.onWave?.(system.label, result);
        counted.push(result);
      }
      results.get(system)?.push(counted);
    }
  }
  return results;
}

const LOOK_MS = 250;
/** Of all cores. */
const IDLE_SHARE = 0.1;
const MOST_WAITING_MS = 15_000;

/** What ran before computes on after its last answer: after vLLM's, waves of others took 0.6 to 0.9 s longer. */
async function untilIdle(signal?: AbortSignal): Promise<void> {
  const until = performance.now() + MOST_WAITING_MS;
  let before = await processorTicks();
  for (let quiet = 0; quiet < 2 && before !== null && performance.now() < until;) {
    await sleep(LOOK_MS, undefined, signal === undefined ? {} : { signal });
    const now = await processorTicks();
    if (now === null) return;
    quiet = now.busy - before.busy < IDLE_SHARE * (now.all - before.all) ? quiet + 1 : 0;
    before = now;
  }
}

/** @returns null where there is no /proc/stat. */
async function processorTicks(): Promise<{ busy: number; all: number } | null> {
  const text = await readFile('/proc/stat', 'utf8').catch(() => null);
  if (text === null) return null;
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, ...others] = (
    /^cpu +(.*)$/m.exec(text)?.[1] ?? ''
  )
    .split(' ')
    .map(Number);
  // The last two, guests, are in user and nice already.
  const busy = user + nice + system + others.slice(0, 3).reduce((sum, ticks) => sum + ticks, 0);
  return { busy, all: busy + idle + waiting };
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
