/** Makes a failing seed small: fewer operations and fewer kinds of faults, as long as the same invariant fails. */
import { simulate, type Report } from './simulate.ts';
import { FAULT_KINDS, type FaultKind } from './world/faults.ts';
import type { Programs } from './world/programs.ts';

interface Shrunk {
  operations: number;
  faults: readonly FaultKind[];
  report: Report;
}

const invariantOf = (breach: string | null): string | null => breach?.split(':')[0] ?? null;

export async function shrink(given: {
  programs: Programs;
  report: Report;
  options: { operations: number; minutes: number };
}): Promise<Shrunk> {
  const { programs, report, options } = given;
  const wanted = invariantOf(report.breach);
  const attempt = async (stopAfter: number, faults: readonly FaultKind[]): Promise<Report | null> => {
    const again = await simulate({
      programs,
      seed: report.seed,
      operations: options.operations,
      stopAfter,
      minutes: options.minutes,
      faults,
      keepTrace: true,
    });
    return invariantOf(again.breach) === wanted ? again : null;
  };
  let faults: FaultKind[] = FAULT_KINDS.filter((kind) => report.faults.has(kind));
  let operations = options.operations;
  let best = (await attempt(operations, faults)) ?? report;
  if (best === report) return { operations, faults, report };
  for (const kind of [...faults]) {
    const fewer = faults.filter((one) => one !== kind);
    const again = await attempt(operations, fewer);
    if (again !== null) [faults, best] = [fewer, again];
  }
  for (let step = Math.ceil(operations / 2); step >= 1; step = step === 1 ? 0 : Math.ceil(step / 2)) {
    while (operations > step) {
      const again = await attempt(operations - step, faults);
      if (again === null) break;
      [operations, best] = [operations - step, again];
    }
  }
  return { operations, faults, report: best };
}
