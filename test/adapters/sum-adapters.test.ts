import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  composeAdapter,
  diffAdapters,
  encodeCanonical,
  makeLoraModule,
  parseCanonical,
  sumAdapters,
  toFloat32,
} from '../../adapters/index.ts';
import { add, anyModule, denseDelta } from './dense-delta.ts';
import { BASE_ID, filled, loraModule, Q, refusal, tensor, V } from './make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const scales = fc.constantFrom(1, 0.5, -1, 2, 0.1);
const members = fc.array(
  fc.record({ module: anyModule({ name: Q, in: 4, out: 6, maxRank: 4 }), scale: scales }),
  { minLength: 1, maxLength: 4 },
);

describe('sumAdapters', () => {
  it('is the sum of the scaled deltas, as a plain float32 module', () => {
    fc.assert(
      fc.property(members, (list) => {
        const [sum, ...rest] = sumAdapters(list.map(({ module, scale }) => ({ modules: [module], scale })));
        expect(rest).toEqual([]);
        const rank = list.reduce((total, { module }) => total + module.rank, 0);
        expect(sum).toMatchObject({ name: Q, rank, alpha: rank, scale: 1 });
        expect([sum!.a.dtype, sum!.a.shape, sum!.b.dtype, sum!.b.shape]).toEqual([
          'F32',
          [rank, 4],
          'F32',
          [6, rank],
        ]);
        const expected = list
          .map(({ module, scale }) => denseDelta(module, scale))
          .reduce((total, delta) => add(total, delta), new Float64Array(24));
        // Members can cancel, so rounding is measured against the parts, not the whole.
        const size = list.reduce((total, { module, scale }) => total + Math.abs(scale * module.scale), 0);
        denseDelta(sum!).forEach((value, i) =>
          expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(1e-6 * (1 + 16 * size)),
        );
      }),
    );
  });

  it('takes the same layer of a model that also sees, whatever each member calls it', () => {
    const seeing = loraModule(Q.replace('model.', 'model.language_model.'), 1, 4, 6, 1);
    const [sum, ...rest] = sumAdapters([
      { modules: [seeing], scale: 1 },
      { modules: [loraModule(Q, 2, 4, 6, 8)], scale: 1 },
    ]);
    expect(rest).toEqual([]);
    expect(sum).toMatchObject({ name: seeing.name, rank: 3 });
    expect(diffAdapters([seeing], [loraModule(Q, 1, 4, 6, 1)]).cosine).toBeCloseTo(1, 12);
  });

  it('is what an origin computes from the chain', () => {
    const chain = [loraModule(Q, 1, 4, 6, 1), loraModule(Q, 2, 4, 6, 8)];
    const composed = composeAdapter(
      chain.map((module) => ({
        adapter: parseCanonical(encodeCanonical({ base: BASE_ID, parent: null, modules: [module] })),
        scale: 1,
      })),
    ).get(Q)!;
    const [sum] = sumAdapters(chain.map((module) => ({ modules: [module], scale: 1 })));
    expect([toFloat32(sum!.a), toFloat32(sum!.b)]).toEqual([composed.a, composed.b]);
  });

  it('sorts the modules, and leaves out members without the module or with the scale 0', () => {
    const sum = sumAdapters([
      { modules: [loraModule(V, 2, 4, 2), loraModule(Q, 1)], scale: 1 },
      { modules: [loraModule(Q, 3)], scale: 0 },
      { modules: [loraModule(Q, 2)], scale: -1 },
    ]);
    expect(sum.map(({ name, rank }) => [name, rank])).toEqual([
      [Q, 3],
      [V, 2],
    ]);
  });

  it('can be written and read back', () => {
    const sum = sumAdapters([
      { modules: [loraModule(Q, 1)], scale: 1 },
      { modules: [loraModule(Q, 2)], scale: 2 },
    ]);
    const { modules } = parseCanonical(encodeCanonical({ base: BASE_ID, parent: null, modules: sum }));
    expect(denseDelta(modules[0]!)).toEqual(denseDelta(sum[0]!));
  });

  it('refuses a sum above the rank limit, and says how to truncate it', () => {
    const big = makeLoraModule({ name: Q, rank: 512, alpha: 1, a: filled(512, 2), b: filled(2, 512) });
    expect(sumAdapters([{ modules: [big], scale: 1 }])[0]!.rank).toBe(512);
    const two = [
      { modules: [big], scale: 1 },
      { modules: [loraModule(Q, 1, 2, 2)], scale: 1 },
    ];
    const { message, subject } = refusal('rank_too_large', () => sumAdapters(two));
    expect(message).toContain('513');
    expect(message).toContain('--rank 512');
    expect(subject).toBe(Q);
    expect(sumAdapters(two, { anyRank: true })[0]!.rank).toBe(513);
  });

  it('refuses layers of different sizes, invalid scales, overflow, and nothing', () => {
    const of = (out: number, scale = 1) => ({ modules: [loraModule(Q, 1, 4, out)], scale });
    expect(refusal('shape_mismatch', () => sumAdapters([of(6), of(7)])).message).toContain('[7, 4]');
    for (const scale of [NaN, Infinity]) refusal('scale_invalid', () => sumAdapters([of(6, scale)]));
    refusal('no_op', () => sumAdapters([]));
    refusal('no_op', () => sumAdapters([of(6, 0)]));
    const large = makeLoraModule({ name: Q, rank: 1, alpha: 1, a: filled(1, 1), b: tensor([1, 1], [3e38]) });
    expect(refusal('non_finite', () => sumAdapters([{ modules: [large], scale: 2 }])).subject).toBe(Q);
  });
});
