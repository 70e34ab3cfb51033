import { expect, it } from 'vitest';
import { describeAdapter, encodeCanonical, inspectAdapter, type ReadAdapter } from '../../adapters/index.ts';
import { denseDelta, norm } from './dense-delta.ts';
import { BASE_ID, filled, loraModule, Q, V } from './make-adapter.ts';

it('summarises an adapter', () => {
  const deeper = Q.replace('.0.', '.11.');
  const bytes = encodeCanonical({
    base: BASE_ID,
    parent: null,
    modules: [
      loraModule(Q, 2),
      loraModule(deeper, 3),
      loraModule(V, 1, 4, 2),
      loraModule('lm_head', 1, 4, 9),
    ],
  });
  expect(inspectAdapter(bytes)).toEqual({
    base: BASE_ID,
    parent: null,
    bytes: bytes.length,
    rank: 3,
    modules: 4,
    parameters: 2 * 10 + 3 * 10 + 1 * 6 + 1 * 13,
    dtypes: ['F32'],
    targets: [
      { target: 'lm_head', modules: 1, minRank: 1, maxRank: 1 },
      { target: 'self_attn.q_proj', modules: 2, minRank: 2, maxRank: 3 },
      { target: 'self_attn.v_proj', modules: 1, minRank: 1, maxRank: 1 },
    ],
  });
});

it('describes an adapter, module by module', () => {
  const mixed = { ...loraModule(V, 1, 4, 2, 3), a: filled(1, 4, 'BF16') };
  const read: ReadAdapter = {
    format: 'peft',
    baseModel: 'someone/Tiny-Llama',
    parent: null,
    modules: [loraModule(Q), mixed],
    warnings: ['Odd.'],
  };
  const description = describeAdapter({ read, bytes: 1234 });
  expect(description).toEqual({
    format: 'peft',
    base: 'someone/Tiny-Llama',
    parent: null,
    bytes: 1234,
    parameters: 26,
    rank: 2,
    dtypes: ['BF16', 'F32'],
    modules: [
      {
        name: Q,
        rank: 2,
        alpha: 4,
        scale: 2,
        dtype: 'F32',
        in: 4,
        out: 6,
        norm: expect.closeTo(norm(denseDelta(loraModule(Q))), 6),
      },
      {
        name: V,
        rank: 1,
        alpha: 3,
        scale: 3,
        dtype: 'BF16/F32',
        in: 4,
        out: 2,
        norm: expect.closeTo(norm(denseDelta(mixed)), 6),
      },
    ],
    targets: [
      { target: 'self_attn.q_proj', modules: 1, minRank: 2, maxRank: 2 },
      { target: 'self_attn.v_proj', modules: 1, minRank: 1, maxRank: 1 },
    ],
    warnings: ['Odd.'],
  });
});
