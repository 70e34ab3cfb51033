import fc from 'fast-check';
import { expect, it } from 'vitest';
import { deltaNorm, makeLoraModule, type LoraModule } from '../../adapters/index.ts';
import { anyModule, denseDelta, norm } from './dense-delta.ts';
import { filled, loraModule, Q, tensor } from './make-adapter.ts';

fc.configureGlobal({ seed: 1 });

it('is the Frobenius norm of the dense delta', () => {
  fc.assert(
    fc.property(anyModule({ name: Q, in: 5, out: 7, maxRank: 6 }), (module) => {
      const expected = norm(denseDelta(module));
      expect(Math.abs(deltaNorm(module) - expected)).toBeLessThanOrEqual(1e-6 * (1 + expected));
    }),
  );
});

const withB = (values: number[]): LoraModule =>
  makeLoraModule({ name: Q, rank: 1, alpha: 2, a: filled(1, 2), b: tensor([2, 1], values) });

it('is zero for a zero delta, never NaN because parts cancel', () => {
  expect(deltaNorm(withB([0, 0]))).toBe(0);
  const cancels = makeLoraModule({
    name: Q,
    rank: 2,
    alpha: 2,
    a: tensor([2, 2], [0.1, 0.7, 0.1, 0.7]),
    b: tensor([2, 2], [0.3, -0.3, 0.9, -0.9]),
  });
  expect(deltaNorm(cancels)).toBeLessThan(1e-8);
});

it('reads BF16, and reports non-finite values', () => {
  const module = loraModule();
  const half = { ...module, a: filled(2, 4, 'BF16'), b: filled(6, 2, 'BF16', 3) };
  expect(deltaNorm(half)).toBe(deltaNorm(module));
  expect(deltaNorm(withB([NaN, 1]))).toBeNaN();
  expect(deltaNorm(withB([Infinity, 1]))).toBe(Infinity);
});
