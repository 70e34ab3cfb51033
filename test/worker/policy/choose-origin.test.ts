import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rankOrigins } from '../../../worker/policy/choose-origin.ts';

fc.configureGlobal({ seed: 20 });

const origins = Array.from({ length: 4 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}` }));
const names = Array.from({ length: 4_000 }, (_, i) => `tenant-${i}/notes`);

describe('rankOrigins', () => {
  it('ranks all, in an order that does not depend on the order given', () => {
    fc.assert(
      fc.property(fc.string(), fc.shuffledSubarray(origins, { minLength: 4 }), (name, shuffled) => {
        const ranked = rankOrigins(name, shuffled);
        expect(ranked).toEqual(rankOrigins(name, origins));
        expect(ranked).toHaveLength(4);
      }),
    );
  });

  it('moves only the names of an origin that leaves', () => {
    const [gone, ...rest] = origins;
    for (const name of names.slice(0, 500)) {
      const before = rankOrigins(name, origins)[0];
      if (before !== gone) expect(rankOrigins(name, rest)[0]).toBe(before);
    }
  });

  it('spreads names evenly', () => {
    const counts = new Map<string, number>();
    for (const name of names) {
      const id = rankOrigins(name, origins)[0]?.id ?? '';
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    // 1,000 expected; five standard deviations of a binomial are 137.
    for (const { id } of origins) expect(Math.abs((counts.get(id) ?? 0) - 1_000)).toBeLessThan(137);
  });
});
