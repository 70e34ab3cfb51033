import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rankBytes } from '../../../gpu-origin/runtime/batch-layout.ts';
import { noRanks, type RankByKind } from '../../../gpu-origin/runtime/row-delta.ts';
import { MOST_ALONE, rowsAlone, stepBytes } from '../../../gpu-origin/runtime/rows-alone.ts';

const SMOLLM2_CONFIG = {
  ...{ hidden: 576, layers: 30, heads: 9, kvHeads: 3, headDim: 64, ffn: 1_536, vocab: 49_152 },
} as Parameters<typeof rankBytes>[0];
const bytesOfRank = rankBytes(SMOLLM2_CONFIG);
const weights = stepBytes(SMOLLM2_CONFIG, 'int8');
const qv = (rank: number): RankByKind => ({ ...noRanks(), q: rank, v: rank });
const alone = (rows: readonly (RankByKind | null)[], of = weights): number[] =>
  rowsAlone({ rows, bytesOfRank, weights: of });
const many = (count: number, rank: number): RankByKind[] => Array.from({ length: count }, () => qv(rank));

describe('rows that decode by themselves', () => {
  it('reads the weights of SmolLM2-135M once a step', () => {
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

  it('is never dearer than padding, and never more than is allowed', () => {
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
