import fc from 'fast-check';
import { expect, it } from 'vitest';
import { deltaFactors, productSvd } from '../../../adapters/linear-algebra.ts';
import { inFeatures, outFeatures } from '../../../adapters/index.ts';
import { anyModule, denseDelta, denseSingularValues, distance } from '../dense-delta.ts';
import { Q } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

/** Taller, wider and square layers, with ranks below, at and above their sizes. */
const sizes = fc.constantFrom([3, 8], [8, 3], [5, 5], [1, 4], [4, 1], [1, 1]);
const module = sizes.chain(([inputs, out]) => anyModule({ name: Q, in: inputs!, out: out!, maxRank: 7 }));

it('has the singular values of the product, and vectors that reconstruct it', () => {
  fc.assert(
    fc.property(module, (m) => {
      const [inputs, out] = [inFeatures(m), outFeatures(m)];
      const delta = denseDelta({ ...m, scale: 1 });
      const svd = productSvd(deltaFactors(m));
      const expected = denseSingularValues(delta, out, inputs);
      const count = svd.singularValues.length;
      expect(count).toBe(Math.min(m.rank, inputs, out));
      svd.singularValues.forEach((value, k) =>
        expect(Math.abs(value - expected[k]!)).toBeLessThanOrEqual(1e-12 * (1 + expected[0]!)),
      );
      const [left, right] = [svd.left(count), svd.right(count)];
      const back = delta.map((_, at) => {
        const [o, i] = [Math.floor(at / inputs), at % inputs];
        return svd.singularValues.reduce(
          (sum, s, k) => sum + left[k * out + o]! * s * right[k * inputs + i]!,
          0,
        );
      });
      expect(distance(back, delta)).toBeLessThan(1e-12);
    }),
  );
});

it('recognises rounding', () => {
  // Two equal rows of A and opposite columns of B: the delta is zero.
  const svd = productSvd({
    rank: 2,
    in: 2,
    out: 2,
    a: Float64Array.of(0.3, 0.9, 0.3, 0.9),
    bT: Float64Array.of(0.1, 0.7, -0.1, -0.7),
  });
  for (const value of svd.singularValues) expect(value).toBeLessThanOrEqual(svd.noise);
});
