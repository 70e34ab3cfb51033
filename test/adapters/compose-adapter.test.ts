import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkLineage,
  composeAdapter,
  encodeCanonical,
  parseCanonical,
  toFloat32,
  type LoraModule,
} from '../../adapters/index.ts';
import { chainId } from '../../protocol/identity.ts';
import { BASE_ID, loraModule, Q, refusal, V } from './make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const adapter = (modules: LoraModule[], parent: string | null = null, of = BASE_ID) =>
  parseCanonical(encodeCanonical({ base: of, parent, modules }));

/** scale * B A, row-major [out, in], in float64. */
function delta(
  b: ArrayLike<number>,
  a: ArrayLike<number>,
  rank: number,
  outputs: number,
  inputs: number,
  scale = 1,
): number[] {
  const result = new Array<number>(outputs * inputs).fill(0);
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let r = 0; r < rank; r++) result[o * inputs + i]! += scale * b[o * rank + r]! * a[r * inputs + i]!;
  return result;
}

describe('composeAdapter', () => {
  it('is the sum of the scaled deltas', () => {
    const member = fc.record({
      rank: fc.integer({ min: 1, max: 4 }),
      alpha: fc.integer({ min: 1, max: 32 }),
      scale: fc.constantFrom(1, 0.5, -1, 2, 0),
    });
    fc.assert(
      fc.property(fc.array(member, { minLength: 1, maxLength: 4 }), (chain) => {
        const entries = chain.map(({ rank, alpha, scale }) => ({
          adapter: adapter([loraModule(Q, rank, 4, 6, alpha)]),
          scale,
        }));
        const composed = composeAdapter(entries).get(Q)!;
        expect(composed.rank).toBe(chain.reduce((sum, { rank }) => sum + rank, 0));
        const expected = new Array<number>(24).fill(0);
        for (const {
          adapter: {
            modules: [m],
          },
          scale,
        } of entries)
          delta(toFloat32(m!.b), toFloat32(m!.a), m!.rank, 6, 4, scale * m!.scale).forEach(
            (value, i) => (expected[i]! += value),
          );
        const got = delta(composed.b, composed.a, composed.rank, 6, 4);
        got.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 3));
      }),
    );
  });

  it('puts the root first, and leaves out members without the module', () => {
    const composed = composeAdapter([
      { adapter: adapter([loraModule(Q, 1, 4, 6, 1)]), scale: 1 },
      { adapter: adapter([loraModule(V, 2, 4, 2, 2)]), scale: 1 },
      { adapter: adapter([loraModule(Q, 2, 4, 6, 2)]), scale: 1 },
    ]);
    expect([...composed].map(([name, { rank, in: inputs, out }]) => [name, rank, inputs, out])).toEqual([
      [Q, 3, 4, 6],
      [V, 2, 4, 2],
    ]);
    const { a } = composed.get(Q)!;
    expect(a.slice(0, 4)).toEqual(toFloat32(loraModule(Q, 1).a));
    expect(a.slice(4)).toEqual(toFloat32(loraModule(Q, 2).a));
  });

  it('of nothing is empty', () => {
    expect(composeAdapter([]).size).toBe(0);
  });

  it('refuses members for layers of different sizes', () => {
    const entries = [loraModule(Q, 1, 4, 6), loraModule(Q, 1, 4, 7)].map((m) => ({
      adapter: adapter([m]),
      scale: 1,
    }));
    expect(refusal('shape_mismatch', () => composeAdapter(entries)).subject).toBe(Q);
  });
});

describe('checkLineage', () => {
  const root = { digest: '1'.repeat(64), scale: 1, config: adapter([loraModule(Q)]).config };
  const child = async (scale = 1, parents = [root]) => ({
    digest: '2'.repeat(64),
    scale,
    config: adapter([loraModule(V)], await chainId(parents)).config,
  });

  it('accepts a child on the chain that it was packed for', async () => {
    expect(await checkLineage([])).toBeNull();
    expect(await checkLineage([root, await child()])).toBeNull();
    const middle = await child();
    expect(
      await checkLineage([root, middle, { ...(await child(1, [root, middle])), digest: '3'.repeat(64) }]),
    ).toBeNull();
  });

  it('refuses another parent, another scale of the parent, no parent, and a child as root', async () => {
    const cases = [
      [{ ...root, digest: '9'.repeat(64) }, await child()],
      [{ ...root, scale: 0.5 }, await child()],
      [root, { ...root, digest: '3'.repeat(64) }],
      [await child()],
    ];
    for (const chain of cases) expect((await checkLineage(chain))?.code).toBe('parent_mismatch');
  });

  it('refuses members for different bases', async () => {
    const other = {
      ...(await child()),
      config: adapter([loraModule(V)], await chainId([root]), 'other').config,
    };
    expect((await checkLineage([root, other]))?.code).toBe('base_mismatch');
  });
});
