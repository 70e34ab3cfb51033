import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { topDivergence } from '../../../gpu-origin/trials/verify-adapter.ts';

const scored = (shares: readonly number[], firstId = 0) =>
  shares.map((share, i) => ({ id: firstId + i, logprob: Math.log(share) }));

describe('the divergence of the likeliest tokens', () => {
  it('is what the formula says, the rest in one bucket', () => {
    const now = [
      { id: 1, logprob: Math.log(0.5) },
      { id: 0, logprob: Math.log(0.3) },
      { id: 2, logprob: Math.log(0.1) },
    ];
    const expected = 0.6 * Math.log(0.6 / 0.3) + 0.2 * Math.log(0.2 / 0.5) + 0.2 * Math.log(0.2 / 0.2);
    expect(topDivergence(scored([0.6, 0.2]), now)).toBeCloseTo(expected, 12);
  });

  it('is 0 for the same, never negative, and finite whatever comes', () => {
    const list = fc.array(
      fc.record({ id: fc.nat(50), logprob: fc.double({ min: -200, max: 5, noNaN: true }) }),
      { minLength: 1, maxLength: 20 },
    );
    fc.assert(
      fc.property(list, list, (expected, now) => {
        const divergence = topDivergence(expected, now);
        expect(divergence).toBeGreaterThanOrEqual(0);
        expect(Number.isFinite(divergence)).toBe(true);
      }),
    );
    expect(topDivergence(scored([0.7, 0.2, 0.05]), scored([0.7, 0.2, 0.05, 0.01]))).toBe(0);
  });

  it('takes a token that is not among the likeliest for at most as likely as the last of them', () => {
    const now = scored([0.9, 0.05, 0.001]);
    expect(topDivergence(scored([0.9], 40), now)).toBeGreaterThan(5);
    expect(topDivergence(scored([0.0005], 40), now)).toBeLessThan(0.01);
  });

  it('sees forged numbers that do not add up', () => {
    const now = scored([0.6, 0.3, 0.05]);
    expect(topDivergence(scored([1, 1, 1]), now)).toBeGreaterThan(0.05);
    expect(topDivergence(scored([0.3, 0.6]), now)).toBeGreaterThan(0.05);
  });
});
