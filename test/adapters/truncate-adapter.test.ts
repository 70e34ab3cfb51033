import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeLoraModule, sumAdapters, truncateAdapter, type LoraModule } from '../../adapters/index.ts';
import { add, anyModule, denseDelta, denseSingularValues, distance, norm } from './dense-delta.ts';
import { filled, loraModule, Q, refusal, tensor, V } from './make-adapter.ts';

fc.configureGlobal({ seed: 1 });

/** Layers `[out, in]`; ranks reach beyond both sizes of the smaller one. */
const anyLayer = fc
  .constantFrom([5, 9], [9, 5], [3, 3])
  .chain(([inputs, out]) =>
    anyModule({ name: Q, in: inputs!, out: out!, maxRank: 8 }).map((m) => ({
      m,
      inputs: inputs!,
      out: out!,
    })),
  )
  .filter(({ m }) => norm(denseDelta(m)) > 1e-3);

const zero = (name: string, rank: number): LoraModule =>
  makeLoraModule({
    name,
    rank,
    alpha: 1,
    a: filled(rank, 4),
    b: tensor([6, rank], new Array<number>(6 * rank).fill(0)),
  });

describe('truncateAdapter', () => {
  it('cuts off exactly the tail of the singular values, and reports its size', () => {
    fc.assert(
      fc.property(anyLayer, fc.integer({ min: 1, max: 8 }), ({ m, inputs, out }, rank) => {
        const delta = denseDelta(m);
        const values = denseSingularValues(delta, out, inputs);
        const tail = values.slice(Math.min(rank, m.rank)).reduce((sum, value) => sum + value ** 2, 0);
        const expected = Math.sqrt(tail) / norm(delta);
        const { modules, relativeError, perModule } = truncateAdapter([m], rank);
        const [truncated] = modules;
        expect(truncated!.rank).toBeLessThanOrEqual(rank);
        expect(perModule).toEqual([{ name: Q, rank: truncated!.rank, relativeError }]);
        expect(Math.abs(relativeError - expected)).toBeLessThan(1e-9);
        // What was made is that far away, float32 apart: no matrix of this rank is closer.
        expect(Math.abs(distance(denseDelta(truncated!), delta) - expected)).toBeLessThan(2e-6);
      }),
    );
  });

  it('loses nothing at the true rank, however large the sum of ranks is', () => {
    fc.assert(
      fc.property(anyModule({ name: Q, in: 5, out: 7, maxRank: 2 }), fc.constantFrom(3, 8), (m, copies) => {
        fc.pre(norm(denseDelta(m)) > 1e-3);
        const sum = sumAdapters(Array.from({ length: copies }, () => ({ modules: [m], scale: 0.5 })));
        const { modules, relativeError } = truncateAdapter(sum, m.rank);
        expect(modules[0]!.rank).toBeLessThanOrEqual(m.rank);
        expect(relativeError).toBeLessThan(1e-6);
        expect(distance(denseDelta(modules[0]!), denseDelta(m, 0.5 * copies))).toBeLessThan(1e-6);
      }),
    );
  });

  it('accepts sums above the rank limit', () => {
    const big = makeLoraModule({
      name: Q,
      rank: 400,
      alpha: 1,
      a: filled(400, 3),
      b: filled(4, 400, 'F32', 2),
    });
    const sum = sumAdapters(
      [big, big].map((module) => ({ modules: [module], scale: 1 })),
      { anyRank: true },
    );
    const { modules, relativeError } = truncateAdapter(sum, 512);
    expect(modules[0]!.rank).toBeLessThanOrEqual(3);
    expect(relativeError).toBeLessThan(1e-12);
    expect(distance(denseDelta(modules[0]!), denseDelta(big, 2))).toBeLessThan(1e-6);
  });

  it('leaves modules of no more than the rank exactly as they are', () => {
    const module = { ...loraModule(Q, 2), a: filled(2, 4, 'BF16') };
    for (const rank of [2, 3]) {
      const result = truncateAdapter([module], rank);
      expect(result.modules[0]).toBe(module);
      expect(result).toMatchObject({ relativeError: 0, perModule: [{ name: Q, rank: 2, relativeError: 0 }] });
    }
  });

  it('weighs the modules by what they change', () => {
    const [large, small] = [loraModule(Q, 3, 4, 6, 400), loraModule(V, 3, 4, 2, 1)];
    const { relativeError, perModule } = truncateAdapter([large, small], 1);
    const lost = [large, small].map((module, i) => norm(denseDelta(module)) * perModule[i]!.relativeError);
    const whole = Math.hypot(...[large, small].map((module) => norm(denseDelta(module))));
    expect(relativeError).toBeCloseTo(Math.hypot(...lost) / whole, 9);
    expect(truncateAdapter([large, loraModule(V, 1, 4, 2)], 1).perModule[1]).toEqual({
      name: V,
      rank: 1,
      relativeError: 0,
    });
  });

  it('keeps a negative scale negative, and omits directions that the delta does not have', () => {
    const module = makeLoraModule({ name: Q, rank: 3, alpha: -6, a: filled(3, 2), b: filled(4, 3) });
    const { modules } = truncateAdapter([module], 2);
    expect(modules[0]).toMatchObject({ rank: 2, alpha: 2, scale: 1 });
    expect(distance(denseDelta(modules[0]!), denseDelta(module))).toBeLessThan(1e-6);
    const flat = makeLoraModule({
      name: Q,
      rank: 3,
      alpha: 3,
      a: tensor([3, 2], [1, 2, 1, 2, 1, 2]),
      b: filled(4, 3),
    });
    expect(truncateAdapter([flat], 2).modules[0]!.rank).toBe(1);
  });

  it('leaves zero deltas out, also those whose parts cancel', () => {
    const cancelled = sumAdapters([
      { modules: [loraModule(V, 2, 4, 2)], scale: 1 },
      { modules: [loraModule(V, 2, 4, 2)], scale: -1 },
    ]);
    const { modules, perModule, relativeError } = truncateAdapter(
      [loraModule(Q, 1), ...cancelled, zero('small', 1), zero('large', 5)],
      2,
    );
    expect(modules.map(({ name }) => name)).toEqual([Q]);
    expect(relativeError).toBe(0);
    expect(perModule.slice(1).map(({ rank, relativeError: error }) => [rank, error])).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
    ]);
    refusal('no_op', () => truncateAdapter([zero(Q, 3)], 2));
    refusal('no_op', () => truncateAdapter([], 2));
  });

  it('of a sum is close to the sum of the deltas', () => {
    const [one, two] = [loraModule(Q, 2, 4, 6, 4), loraModule(Q, 3, 4, 6, 3)];
    const sum = sumAdapters([
      { modules: [one], scale: 1 },
      { modules: [two], scale: 0.5 },
    ]);
    const whole = add(denseDelta(one), denseDelta(two, 0.5));
    const { modules, relativeError } = truncateAdapter(sum, 4);
    expect(relativeError).toBeLessThan(1e-6);
    expect(distance(denseDelta(modules[0]!), whole)).toBeLessThan(1e-6);
  });

  it('refuses values that are not finite, and invalid ranks', () => {
    for (const [rank, limit] of [
      [1, 2],
      [3, 2],
    ] as const)
      for (const bad of [NaN, Infinity]) {
        const module = {
          ...loraModule(Q, rank),
          b: tensor([6, rank], [bad, ...new Array<number>(6 * rank - 1).fill(1)]),
        };
        expect(refusal('non_finite', () => truncateAdapter([module], limit)).subject).toBe(Q);
      }
    refusal('rank_too_large', () => truncateAdapter([loraModule()], 513));
    for (const rank of [0, -1, 1.5, NaN])
      expect(() => truncateAdapter([loraModule()], rank)).toThrow(RangeError);
  });
});
