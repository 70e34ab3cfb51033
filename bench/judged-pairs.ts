/**
 * How well judged pairs keep their promise: `node --import tsx bench/judged-pairs.ts [--runs N] [--pairs N]`, about a
 * minute. The seed is fixed, so the figures are too; docs/guides/judge.md has those of 2,000 runs.
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { PAIR_TUNING } from '../worker/experiments/limits.ts';
import { winRate } from '../worker/experiments/statistics/sequential.ts';
import { seededRandom } from './seeded-random.ts';
import { quantile } from './statistics.ts';

const ALPHA = 0.05;
const { values } = parseArgs({
  options: { runs: { type: 'string', default: '2000' }, pairs: { type: 'string', default: '5000' } },
});
const [runs, most] = [Number(values.runs), Number(values.pairs)];
if (!(runs > 0 && runs <= 10_000 && most > 0 && most <= 20_000))
  throw new Error('at most 10,000 runs of 20,000 pairs');

/** @returns after how many pairs each run was called, looked at after every one; Infinity = not at all. */
function calledAfter(wins: number, ties: number): number[] {
  const random = seededRandom(2_103);
  return Array.from({ length: runs }, () => {
    const counts = { wins: 0, ties: 0, losses: 0 };
    for (let pair = 1; pair <= most; pair += 1) {
      counts[random() < ties ? 'ties' : random() < wins ? 'wins' : 'losses'] += 1;
      const rate = winRate(counts, ALPHA, PAIR_TUNING);
      if (rate !== null && (rate.interval.low > 0.5 || rate.interval.high < 0.5)) return pair;
    }
    return Infinity;
  });
}

const table = new Table({ head: ['wins of those decided', 'ties', 'called', 'median, pairs', '90 %'] });
for (const [wins, ties] of [
  [0.5, 0],
  [0.5, 0.5],
  [0.5, 0.9],
  [0.55, 0],
  [0.6, 0],
  [0.6, 0.3],
  [0.65, 0],
] as const) {
  const called = calledAfter(wins, ties);
  const found = called.filter(Number.isFinite);
  const shown = (share: number): string => {
    const pairs = quantile(called, share);
    return Number.isFinite(pairs) ? String(Math.round(pairs)) : '-';
  };
  table.push([
    `${(100 * wins).toFixed(0)} %`,
    `${(100 * ties).toFixed(0)} %`,
    `${((100 * found.length) / runs).toFixed(1)} %`,
    shown(0.5),
    shown(0.9),
  ]);
}
console.log(`${runs} runs of up to ${most} pairs, looked at after every pair`);
console.log(table.toString());
