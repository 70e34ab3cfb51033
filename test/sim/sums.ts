/** What many seeds did together, and the floors below which a run explores nothing. */
import type { Report } from './simulate.ts';
import { type Counts, countsOf } from './simulation.ts';
import { OPERATIONS, type OperationName } from './operations/index.ts';
import { FAULT_KINDS, type FaultKind } from './world/faults.ts';

export interface Sums {
  seeds: number;
  operations: Map<string, Counts>;
  faults: Map<FaultKind, number>;
  marks: Map<string, number>;
  events: number;
}

export const noSums = (): Sums => ({
  seeds: 0,
  operations: new Map(),
  faults: new Map(),
  marks: new Map(),
  events: 0,
});

export const operationsOf = (sums: Sums): number => countsOf(sums.operations);

/** In `of` operations, each kind must succeed, and each kind of fault bite, at least `times` times. */
const FLOOR = { of: 100_000, times: 50 };

export function mergeInto(sums: Sums, report: Report): void {
  sums.seeds += 1;
  sums.events += report.events;
  for (const [name, counts] of report.operations) {
    const sum = sums.operations.get(name) ?? { done: 0, refused: 0, lost: 0 };
    sum.done += counts.done;
    sum.refused += counts.refused;
    sum.lost += counts.lost;
    sums.operations.set(name, sum);
  }
  for (const [mark, times] of report.marks) sums.marks.set(mark, (sums.marks.get(mark) ?? 0) + times);
  for (const [kind, times] of report.faults) sums.faults.set(kind, (sums.faults.get(kind) ?? 0) + times);
}

/** @returns what is below its floor; nothing while too little ran to tell. */
export function shortOf(sums: Sums): string[] {
  const share = operationsOf(sums) / FLOOR.of;
  const mean = FLOOR.times * share;
  // What is just often enough comes less often in a fifth of the operations, by chance: two standard deviations.
  const floor = Math.floor(share < 1 ? mean - 2 * Math.sqrt(mean) : mean);
  if (floor <= 0) return [];
  return [
    ...(Object.keys(OPERATIONS) as OperationName[]).flatMap((name) => {
      const done = sums.operations.get(name)?.done ?? 0;
      return done < floor ? `floor: "${name}" succeeded ${done} times of ${floor} at least` : [];
    }),
    ...FAULT_KINDS.flatMap((kind) => {
      const bites = sums.faults.get(kind) ?? 0;
      return bites < floor ? `floor: ${kind} bit ${bites} times of ${floor} at least` : [];
    }),
  ];
}
