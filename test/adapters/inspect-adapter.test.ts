import { expect, it } from 'vitest';
import { encodeCanonical, inspectAdapter } from '../../adapters/index.ts';
import { BASE_ID, loraModule, Q, V } from './make-adapter.ts';

it('sums an adapter up', () => {
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
