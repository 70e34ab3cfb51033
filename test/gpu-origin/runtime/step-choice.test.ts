import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rankBytes, noRanks, type RankByKind } from '../../../gpu-origin/runtime/adapter-batch.ts';
import { FasterLately, MOST_ALONE, rowsAlone, stepBytes } from '../../../gpu-origin/runtime/step-choice.ts';

/** @returns for each step whether it ran in groups. */
function steps(choice: FasterLately, count: number, ms: (lanes: boolean, rows: number) => number): boolean[] {
  return Array.from({ length: count }, () => {
    const lanes = choice.takesLanes(16);
    choice.took(ms(lanes, 16));
    return lanes;
  });
}
const share = (lanes: readonly boolean[]): number => lanes.filter(Boolean).length / lanes.length;

describe('whether rows run in groups', () => {
  it('is no if groups are slower or only a little faster, with a trial in one of 32 steps', () => {
    for (const grouped of [22, 18])
      expect(share(steps(new FasterLately(), 640, (lanes) => (lanes ? grouped : 20)))).toBe(1 / 32);
  });

  it('is yes if groups are faster, and no once they no longer are', () => {
    const choice = new FasterLately();
    steps(choice, 640, (lanes) => (lanes ? 40 : 50));
    expect(share(steps(choice, 640, (lanes) => (lanes ? 40 : 50)))).toBe(1 - 1 / 32);
    // A little faster is enough to stay.
    expect(share(steps(choice, 640, (lanes) => (lanes ? 45 : 50)))).toBe(1 - 1 / 32);
    steps(choice, 640, (lanes) => (lanes ? 22 : 20));
    expect(share(steps(choice, 640, (lanes) => (lanes ? 22 : 20)))).toBe(1 / 32);
  });

  it('does not change if both take as long, or no time at all', () => {
    for (const ms of [20, 0]) expect(share(steps(new FasterLately(), 640, () => ms))).toBe(1 / 32);
  });

  it('ignores steps with other numbers of rows', () => {
    const choice = new FasterLately();
    for (let step = 1; step <= 640; step++) {
      // Each trial is smaller than the step before it, and therefore faster.
      const rows = step % 32 === 0 ? 4 : 16;
      expect(choice.takesLanes(rows)).toBe(step % 32 === 0);
      choice.took(rows);
    }
  });
});

const SMOLLM2_CONFIG = {
  ...{ hidden: 576, layers: 30, heads: 9, kvHeads: 3, headDim: 64, ffn: 1_536, vocab: 49_152 },
  ...{ outputGate: false, deltaNet: null, experts: null, layerEmbedding: null },
} as Parameters<typeof rankBytes>[0];
const bytesOfRank = rankBytes(SMOLLM2_CONFIG);
const weights = stepBytes(SMOLLM2_CONFIG, 'int8');
const qv = (rank: number): RankByKind => ({ ...noRanks(), q: rank, v: rank });
const alone = (rows: readonly (RankByKind | null)[], of = weights): number[] =>
  rowsAlone({ rows, bytesOfRank, weights: of });
const many = (count: number, rank: number): RankByKind[] => Array.from({ length: count }, () => qv(rank));

describe('rows that decode separately', () => {
  it('read the weights of SmolLM2-135M once per step', () => {
    expect(weights).toBe(134_479_872);
    expect(stepBytes(SMOLLM2_CONFIG, 'f32')).toBe(4 * weights);
  });

  it.each([
    ['one of rank 256 among 15 of rank 8', [...many(5, 8), qv(256), ...many(10, 8)], [5]],
    ['two of rank 256 among 14 of rank 8', [qv(256), ...many(14, 8), qv(256)], [0, 15]],
    ['one of rank 256 among rows of the base', [null, null, null, null, qv(256)], [4]],
    ['rows of one rank', many(16, 256), []],
    ['one of rank 16 among 15 of rank 8', [...many(15, 8), qv(16)], []],
    ['three of rank 256: the third pads the rest anyway', [...many(13, 8), ...many(3, 256)], []],
    ['two rows, where padding is cheaper than the weights again', [qv(8), qv(256)], []],
    ['one row', [qv(256)], []],
    ['no deltas', [null, null, null], []],
    ['none', [], []],
  ])('%s', (_, rows, expected) => {
    expect(alone(rows)).toEqual(expected);
  });

  it('are never more expensive than padding, and never more than allowed', () => {
    const rank = fc.constantFrom(null, 4, 8, 16, 64, 256, 1_024);
    fc.assert(
      fc.property(fc.array(rank, { maxLength: 20 }), (ranks) => {
        const rows = ranks.map((each) => (each === null ? null : qv(each)));
        const chosen = alone(rows);
        const each = bytesOfRank.q + bytesOfRank.v;
        const largest = (of: readonly number[]) => Math.max(0, ...of.map((row) => ranks[row] ?? 0));
        const everyone = ranks.map((_, row) => row);
        const rest = everyone.filter((row) => !chosen.includes(row));
        const read =
          rows.length * largest(rest) * each +
          chosen.reduce((sum, row) => sum + weights + (ranks[row] ?? 0) * each, 0);
        expect(read).toBeLessThanOrEqual(rows.length * largest(everyone) * each);
        expect(chosen.length).toBeLessThanOrEqual(MOST_ALONE);
      }),
    );
  });
});
