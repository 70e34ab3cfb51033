import type { WaveResult } from '../load/run-wave.ts';
import type { Target } from '../load/target.ts';
import { median } from '../statistics.ts';

/** One system's figure over the first system's of the same turn. */
export interface Ratio {
  scenario: string;
  system: string;
  what: 'tokens a second' | 'TTFT median';
  /** One a turn. */
  turns: number[];
  median: number;
  lowest: number;
  highest: number;
}

/** Turn by turn, so that what drifts between turns is in neither. @param turns counted waves, as `takeTurns` has them. */
export function ratiosByTurn(
  scenario: string,
  systems: readonly Target[],
  turns: ReadonlyMap<Target, readonly (readonly WaveResult[])[]>,
): Ratio[] {
  const [reference, ...others] = systems;
  if (reference === undefined) return [];
  const figures = {
    'tokens a second': (waves: readonly WaveResult[]) =>
      median(waves.map(({ tokensPerSecond }) => tokensPerSecond)),
    'TTFT median': (waves: readonly WaveResult[]) => median(waves.flatMap(({ ttftMs }) => ttftMs)),
  } as const;
  return others.flatMap((system) =>
    (Object.keys(figures) as (keyof typeof figures)[]).map((what): Ratio => {
      const of = (target: Target) => (turns.get(target) ?? []).map(figures[what]);
      const before = of(reference);
      const ratios = of(system).map((value, turn) => value / (before[turn] as number));
      return {
        ...{ scenario, system: system.label, what, turns: ratios, median: median(ratios) },
        ...{ lowest: Math.min(...ratios), highest: Math.max(...ratios) },
      };
    }),
  );
}
