import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { foldIntoB } from '../../../adapters/format/lora-module.ts';
import { loraModule, refusal, tensor } from '../make-adapter.ts';

const withB = (values: number[]) => ({ ...loraModule(), b: tensor([values.length / 2, 2], values) });

describe('foldIntoB', () => {
  it('is exact for powers of two', () => {
    expect([...foldIntoB(withB([1.5, -2, 3, 0]), 0.25)]).toEqual([0.375, -0.5, 0.75, 0]);
    expect([...foldIntoB(withB([1.5, -2]), 1)]).toEqual([1.5, -2]);
  });

  it('rounds once: at most 2^-24 of each entry', () => {
    const value = fc.float({ min: 2 ** -20, max: 2 ** 20, noNaN: true });
    fc.assert(
      fc.property(
        fc.tuple(value, value),
        fc.double({ min: 1e-3, max: 1e3, noNaN: true }),
        (values, factor) => {
          const folded = foldIntoB(withB(values), factor);
          for (const [i, b] of values.entries())
            expect(Math.abs(folded[i]! - b * factor)).toBeLessThanOrEqual(Math.abs(b * factor) * 2 ** -24);
        },
      ),
      { seed: 3 },
    );
  });

  it('refuses products beyond float32', () => {
    const error = refusal('non_finite', () => foldIntoB(withB([1, 3e38]), 2));
    expect(error.subject).toBe(loraModule().name);
  });
});
