import { inverse, Matrix } from 'ml-matrix';
import { Z_95, type Estimate } from './win-rate.ts';

/** One comparison of two players, by their indexes. */
export interface Comparison {
  readonly a: number;
  readonly b: number;
  /** Of a: 1 won, 0.5 tied, 0 lost. */
  readonly score: number;
  /** Comparisons within a group (the answers to one prompt) are not independent. */
  readonly group: number;
}

/** Newton's method doubles the correct digits each time; from 0 it needs about ten steps. */
const MAX_STEPS = 100;
const PRECISION = 1e-10;

/**
 * Bradley-Terry: a beats b with probability 1/(1 + exp(strength b - strength a)). Ties count as half a win.
 * Each pair has half a win and half a loss more, as one adds to a table with an empty cell (Haldane, Anscombe):
 * a player that never loses has a finite strength, and little data is drawn towards equality. The interval is a
 * sandwich by group (Liang and Zeger 1986): ties make it shorter, prompts that favour one player in all its
 * comparisons longer.
 * @returns natural logs of odds, with 95 % intervals, in the players' order; their mean is 0.
 */
export function bradleyTerry(players: number, comparisons: readonly Comparison[]): Estimate[] {
  const wins = square(players, 0.5);
  for (const { a, b, score } of comparisons) {
    wins[a]![b]! += score;
    wins[b]![a]! += 1 - score;
  }
  const strengths = likeliest(wins);
  const errors = standardErrors(strengths, wins, comparisons);
  return strengths.map((estimate, i) => ({
    estimate,
    low: estimate - Z_95 * errors[i]!,
    high: estimate + Z_95 * errors[i]!,
  }));
}

/** Every cell `value`, the diagonal 0: nobody plays against itself. */
const square = (size: number, value: number): number[][] =>
  Array.from({ length: size }, (_, i) => Array.from({ length: size }, (__, j) => (i === j ? 0 : value)));

const winProbability = (difference: number): number => 1 / (1 + Math.exp(-difference));

function logLikelihood(strengths: readonly number[], wins: readonly number[][]): number {
  let sum = 0;
  for (const [i, row] of wins.entries())
    for (const [j, count] of row.entries())
      if (i !== j) sum -= count * Math.log1p(Math.exp(strengths[j]! - strengths[i]!));
  return sum;
}

/** Newton's method, each step halved until it does not make things worse: the likelihood has one maximum. */
function likeliest(wins: readonly number[][]): number[] {
  let strengths = wins.map(() => 0);
  for (let step = 0; step < MAX_STEPS; step++) {
    const gradient = strengths.map((strength, i) =>
      wins.reduce(
        (sum, row, j) =>
          i === j
            ? sum
            : sum + wins[i]![j]! - (wins[i]![j]! + row[i]!) * winProbability(strength - strengths[j]!),
        0,
      ),
    );
    const move = invertInformation(strengths, wins).mmul(Matrix.columnVector(gradient)).to1DArray();
    const before = logLikelihood(strengths, wins);
    let size = 1;
    const moved = (): number[] => strengths.map((strength, i) => strength + size * move[i]!);
    while (size > PRECISION && logLikelihood(moved(), wins) < before) size /= 2;
    strengths = moved();
    if (Math.max(...move.map(Math.abs)) < PRECISION) break;
  }
  return strengths;
}

/** Pseudo-inverse of the information: only differences are known, so the vector of ones is taken out. */
function invertInformation(strengths: readonly number[], wins: readonly number[][]): Matrix {
  const k = strengths.length;
  const information = Matrix.zeros(k, k);
  for (let i = 0; i < k; i++)
    for (let j = 0; j < i; j++) {
      const p = winProbability(strengths[i]! - strengths[j]!);
      addPair(information, i, j, (wins[i]![j]! + wins[j]![i]!) * p * (1 - p));
    }
  const ones = Matrix.ones(k, k).div(k);
  return inverse(information.add(ones)).sub(ones);
}

/** Adds `weight` times the outer product of (1 at i, -1 at j). */
function addPair(matrix: Matrix, i: number, j: number, weight: number): void {
  for (const [row, column, sign] of [
    [i, i, 1],
    [j, j, 1],
    [i, j, -1],
    [j, i, -1],
  ] as const)
    matrix.set(row, column, matrix.get(row, column) + sign * weight);
}

function standardErrors(
  strengths: readonly number[],
  wins: readonly number[][],
  comparisons: readonly Comparison[],
): number[] {
  const k = strengths.length;
  const groups = new Map<number, number[]>();
  for (const { a, b, score, group } of comparisons) {
    const scores = groups.get(group) ?? strengths.map(() => 0);
    const residual = score - winProbability(strengths[a]! - strengths[b]!);
    scores[a]! += residual;
    scores[b]! -= residual;
    groups.set(group, scores);
  }
  const spread = Matrix.zeros(k, k);
  for (const scores of groups.values()) {
    const column = Matrix.columnVector(scores);
    spread.add(column.mmul(column.transpose()));
  }
  // Includes the half win and half loss of each pair: without them, ten ties out of ten would have no error at
  // all.
  for (let i = 0; i < k; i++)
    for (let j = 0; j < i; j++) {
      const p = winProbability(strengths[i]! - strengths[j]!);
      addPair(spread, i, j, ((1 - p) ** 2 + p ** 2) / 2);
    }
  const inverted = invertInformation(strengths, wins);
  return inverted
    .mmul(spread)
    .mmul(inverted)
    .diagonal()
    .map((variance) => Math.sqrt(Math.max(0, variance)));
}
