import fc from 'fast-check';
import { expect, it } from 'vitest';
import { deltaFactors, innerProduct } from '../../../adapters/linear-algebra.ts';
import { anyModule, denseDelta, dot, norm } from '../dense-delta.ts';
import { loraModule, Q } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

it('is that of the dense deltas, for every remainder of the blocks', () => {
  const module = anyModule({ name: Q, in: 5, out: 7, maxRank: 9 });
  fc.assert(
    fc.property(module, module, (x, y) => {
      const [one, two] = [denseDelta(x), denseDelta(y)];
      const got = x.scale * y.scale * innerProduct(deltaFactors(x), deltaFactors(y));
      expect(Math.abs(got - dot(one, two))).toBeLessThanOrEqual(1e-9 * (1 + norm(one) * norm(two)));
    }),
  );
});

it('has the factors with the rank as rows', () => {
  const module = loraModule(Q, 2, 4, 6);
  const { a, bT, ...sizes } = deltaFactors(module);
  expect(sizes).toEqual({ rank: 2, in: 4, out: 6 });
  expect([...a]).toEqual([2, 3, 4, 5, 6, 7, 1, 2]);
  expect([...bT]).toEqual([4, 6, 1, 3, 5, 7, 5, 7, 2, 4, 6, 1]);
});
