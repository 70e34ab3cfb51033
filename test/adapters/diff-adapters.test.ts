import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffAdapters, makeLoraModule, type LoraModule } from '../../adapters/index.ts';
import { anyModule, denseDelta, dot, norm } from './dense-delta.ts';
import { filled, loraModule, Q, refusal, tensor, V } from './make-adapter.ts';

fc.configureGlobal({ seed: 1 });

/** Rank one: the outer product of two vectors. */
const outer = (b: number[], a: number[], name = Q): LoraModule =>
  makeLoraModule({ name, rank: 1, alpha: 1, a: tensor([1, a.length], a), b: tensor([b.length, 1], b) });

describe('diffAdapters', () => {
  it('returns the norms and cosines of the dense deltas', () => {
    const module = (name: string) =>
      anyModule({ name, in: 4, out: 3, maxRank: 5 }).filter((m) => norm(denseDelta(m)) > 1e-2);
    fc.assert(
      fc.property(module(Q), module(Q), module(V), module('x'), (a, b, extraA, extraB) => {
        const [one, two] = [denseDelta(a), denseDelta(b)];
        const diff = diffAdapters([extraA, a], [b, extraB]);
        expect(diff).toMatchObject({ onlyA: [V], onlyB: ['x'] });
        const [shared] = diff.modules;
        expect(shared!.name).toBe(Q);
        expect(shared!.normA).toBeCloseTo(norm(one), 6);
        expect(shared!.normB).toBeCloseTo(norm(two), 6);
        expect(shared!.cosine).toBeCloseTo(dot(one, two) / (norm(one) * norm(two)), 6);
        const [normA, normB] = [
          Math.hypot(norm(one), norm(denseDelta(extraA))),
          Math.hypot(norm(two), norm(denseDelta(extraB))),
        ];
        expect(diff.normA).toBeCloseTo(normA, 6);
        expect(diff.normB).toBeCloseTo(normB, 6);
        expect(diff.cosine).toBeCloseTo(dot(one, two) / (normA * normB), 6);
      }),
    );
  });

  it('finds equal and opposite deltas whatever their factors are, and warns', () => {
    const a = outer([1, 2], [3, 4]);
    const same = makeLoraModule({
      name: Q,
      rank: 1,
      alpha: 4,
      a: tensor([1, 2], [6, 8]),
      b: tensor([2, 1], [0.5, 1]),
    });
    const equal = diffAdapters([a], [same]);
    expect(equal.cosine).toBeCloseTo(1, 12);
    expect(equal.warnings).toHaveLength(2);
    expect(equal.warnings[0]).toContain('applies it twice');
    const opposite = diffAdapters([a], [{ ...same, alpha: -4, scale: -4 }]);
    expect(opposite.cosine).toBeCloseTo(-1, 12);
    expect(opposite.warnings[0]).toContain('oppose each other');
  });

  it('warns from a cosine of 0.5 on, not below', () => {
    const at = (cosine: number) =>
      diffAdapters([outer([1, 0], [1])], [outer([cosine, Math.sqrt(1 - cosine ** 2)], [1])]);
    expect(at(0.49).warnings).toEqual([]);
    expect(at(-0.49).warnings).toEqual([]);
    expect(at(0.51).warnings).toHaveLength(2);
    expect(at(-0.51).warnings).toHaveLength(2);
  });

  it('names the modules that interfere most', () => {
    const names = ['a', 'b', 'c', 'd'];
    const one = names.map((name) => outer([1, 0], [1], name)).concat(outer([100, 0], [1], 'quiet'));
    const cosines = [0.6, -0.9, 0.7, 0.8];
    const two = names
      .map((name, i) => outer([cosines[i]!, Math.sqrt(1 - cosines[i]! ** 2)], [1], name))
      .concat(outer([0, 100], [1], 'quiet'));
    const { warnings, cosine } = diffAdapters(one, two);
    expect(Math.abs(cosine!)).toBeLessThan(0.01);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('4 of 5');
    expect(warnings[0]).toContain('b (-0.90), d (0.80), c (0.70), …');
  });

  it('returns no cosine if a delta is zero or nothing is shared', () => {
    const none = outer([0, 0], [1, 1]);
    expect(diffAdapters([none], [outer([1, 1], [1, 1])])).toMatchObject({
      modules: [{ name: Q, cosine: null, normA: 0 }],
      cosine: null,
      normA: 0,
      warnings: [],
    });
    expect(diffAdapters([loraModule(Q)], [loraModule(V, 1, 4, 2)])).toMatchObject({ modules: [], cosine: 0 });
    expect(diffAdapters([], [])).toEqual({
      modules: [],
      cosine: null,
      normA: 0,
      normB: 0,
      onlyA: [],
      onlyB: [],
      warnings: [],
    });
  });

  it('sorts by name, and refuses layers of different sizes', () => {
    const both = ['z', 'b', 'a'].map((name) => loraModule(name));
    expect(diffAdapters(both, both).modules.map(({ name }) => name)).toEqual(['a', 'b', 'z']);
    expect(diffAdapters(both, []).onlyA).toEqual(['a', 'b', 'z']);
    expect(diffAdapters([], both).onlyB).toEqual(['a', 'b', 'z']);
    const wider = { ...loraModule(), a: filled(2, 5) };
    expect(refusal('shape_mismatch', () => diffAdapters([loraModule()], [wider])).message).toContain(
      '[6, 5]',
    );
  });
});
