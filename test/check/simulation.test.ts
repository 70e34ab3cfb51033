/** A hundred seeds of the whole of graft, some of them twice; and every planted bug is found by its seed. */
import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { PLANTED } from '../sim/planted-bugs.ts';
import { createRunner, RunOptions, runSeeds } from '../sim/run-seeds.ts';
import type { Report } from '../sim/simulate.ts';
import { countsOf } from '../sim/simulation.ts';
import { mergeInto, noSums, shortOf, type Sums } from '../sim/sums.ts';

const SEEDS = 100;
/** So many of them again, in other processes, to compare the traces. */
const TWICE = 15;
/** What one seed must have, so that it explores something. */
const LEAST = { operations: 200, virtualMinutes: 30, faults: 5 };

async function runMany(many: number): Promise<{ sums: Sums; reports: Report[] }> {
  const sums = noSums();
  const reports: Report[] = [];
  let next = 1;
  await runSeeds({
    options: RunOptions.parse({}),
    processes: Math.min(2, availableParallelism()),
    more() {
      next += 1;
      return next > many + 1 ? null : String(next - 1);
    },
    take(report) {
      mergeInto(sums, report);
      reports.push(report);
    },
  });
  return { sums, reports };
}

let all: ReturnType<typeof runMany> | undefined;
const runAll = (): ReturnType<typeof runMany> => (all ??= runMany(SEEDS));

it(`holds every invariant in ${SEEDS} seeds`, async () => {
  const { sums, reports } = await runAll();
  expect(
    reports.filter(({ breach }) => breach !== null).map(({ seed, breach }) => `${seed}: ${breach}`),
  ).toEqual([]);
  expect(reports).toHaveLength(SEEDS);
  const poor = reports.filter(
    (report) =>
      countsOf(report.operations) < LEAST.operations ||
      report.virtualMinutes < LEAST.virtualMinutes ||
      [...report.faults.values()].reduce((sum, times) => sum + times, 0) < LEAST.faults,
  );
  expect(poor.map(({ seed }) => seed)).toEqual([]);
  expect(shortOf(sums)).toEqual([]);
});

it('does the same each time', async () => {
  const first = new Map((await runAll()).reports.map(({ seed, hash }) => [seed, hash]));
  const { reports } = await runMany(TWICE);
  expect(reports).toHaveLength(TWICE);
  for (const { seed, hash } of reports) expect([seed, hash]).toEqual([seed, first.get(seed)]);
});

describe('a planted bug is found', () => {
  it.each(PLANTED)('$id', async ({ id, seed }) => {
    const { breach } = await (await createRunner(RunOptions.parse({ plant: id })))(String(seed));
    expect(breach).not.toBeNull();
  });
});
