import { describe, expect, it } from 'vitest';
import type { ExpertSizes } from '../../../gpu-origin/model/experts.ts';
import { trainingMemory } from '../../../gpu-origin/training/training-memory.ts';
import type { BaseModule } from '../../../protocol/origin-wire.ts';
import { TRAINING_DEFAULTS, type TrainingRequest } from '../../../protocol/training.ts';

interface Shape {
  vocab: number;
  heads: number;
  modules: BaseModule[];
  experts?: ExpertSizes;
}

function shape(given: {
  hidden: number;
  kv: number;
  ffn: number;
  layers: number;
  vocab: number;
  heads: number;
}): Shape {
  const { hidden, kv, ffn, layers, vocab, heads } = given;
  const linears: [string, number, number][] = [
    ['self_attn.q_proj', hidden, hidden],
    ['self_attn.k_proj', hidden, kv],
    ['self_attn.v_proj', hidden, kv],
    ['self_attn.o_proj', hidden, hidden],
    ['mlp.gate_proj', hidden, ffn],
    ['mlp.up_proj', hidden, ffn],
    ['mlp.down_proj', ffn, hidden],
  ];
  const modules = Array.from({ length: layers }, (_, layer) =>
    linears.map(([name, from, out]) => ({ name: `model.layers.${layer}.${name}`, in: from, out })),
  ).flat();
  return { vocab, heads, modules };
}

const SMOLLM2 = shape({ hidden: 576, kv: 192, ffn: 1_536, layers: 30, vocab: 49_152, heads: 9 });
const LLAMA_1B = shape({ hidden: 2_048, kv: 512, ffn: 8_192, layers: 16, vocab: 128_256, heads: 32 });

/** A hidden size of 1,024, four layers of 128 experts of 512, eight for each token. */
const OF_EXPERTS: Shape = {
  ...{ vocab: 259, heads: 16 },
  modules: SMOLLM2.modules
    .filter(({ name }) => /layers\.[0-3]\.self_attn/.test(name))
    .map((module) => ({ ...module, in: 1_024, out: /[kv]_proj$/.test(module.name) ? 256 : 1_024 })),
  experts: { layers: 4, count: 128, chosen: 8, ffn: 512 },
};
/** Qwen3.5-0.8B's layers, three of four with linear attention. */
function linearAttention(layers: number, vocab: number): Shape {
  const [hidden, ffn, heads] = [1_024, 3_584, 8];
  const mlp: [string, number, number][] = [
    ['mlp.gate_proj', hidden, ffn],
    ['mlp.up_proj', hidden, ffn],
    ['mlp.down_proj', ffn, hidden],
  ];
  const attention: [string, number, number][] = [
    ['self_attn.q_proj', hidden, 4_096],
    ['self_attn.k_proj', hidden, 512],
    ['self_attn.v_proj', hidden, 512],
    ['self_attn.o_proj', 2_048, hidden],
  ];
  const state: [string, number, number][] = [
    ['linear_attn.in_proj_qkv', hidden, 6_144],
    ['linear_attn.in_proj_z', hidden, 2_048],
    ['linear_attn.in_proj_b', hidden, 16],
    ['linear_attn.in_proj_a', hidden, 16],
    ['linear_attn.out_proj', 2_048, hidden],
  ];
  const modules = Array.from({ length: layers }, (_, layer) =>
    [...(layer % 4 === 3 ? attention : state), ...mlp].map(([name, from, out]) => ({
      name: `model.layers.${layer}.${name}`,
      in: from,
      out,
    })),
  ).flat();
  return { vocab, heads, modules };
}

const estimate = (
  base: Shape,
  weights: 'int8' | 'f32',
  change: Partial<TrainingRequest> = {},
  rowsBytes = 100_000,
): number => trainingMemory({ ...base, weights, request: { ...TRAINING_DEFAULTS, ...change }, rowsBytes });

describe('memory of a training', () => {
  // bench/LOG.md, 30 November and 3 December 2026: largest resident sets.
  it.each([
    ['SmolLM2-135M in float32', SMOLLM2, 'f32', { batch: 8, max_length: 128 }, 1_657e6],
    ['the shape of 1B in int8', LLAMA_1B, 'int8', { batch: 4, max_length: 256 }, 4_193e6],
    // 3 December 2026, two cores.
    ['experts in int8', OF_EXPERTS, 'int8', { batch: 4, max_length: 512 }, 1_856e6],
    ['four layers of Qwen3.5', linearAttention(4, 32_000), 'f32', { batch: 8, max_length: 256 }, 2_338e6],
  ] as const)(
    'of %s is estimated from what was measured to a third more',
    (_what, base, weights, rows, took) => {
      const estimated = estimate(base, weights, rows);
      expect(estimated).toBeGreaterThan(took * 0.97);
      expect(estimated).toBeLessThan(took * 1.35);
    },
  );

  it('has room for all experts of Qwen3-30B-A3B', () => {
    const modules = shape({ hidden: 2_048, kv: 512, ffn: 1, layers: 48, vocab: 151_936, heads: 32 }).modules;
    const attention = modules.filter(({ name }) => name.includes('self_attn'));
    const base = { vocab: 151_936, heads: 32, modules: attention };
    const experts = { layers: 48, count: 128, chosen: 8, ffn: 768 };
    expect(estimate({ ...base, experts }, 'int8') - estimate(base, 'int8')).toBeGreaterThan(29e9);
  });

  it('grows with rank, rows, their length and their file, and not without bound', () => {
    const small = estimate(SMOLLM2, 'f32', { batch: 1, max_length: 128, rank: 1 });
    const larger: [Partial<TrainingRequest>, number?][] = [
      [{ batch: 4, max_length: 128, rank: 1 }],
      [{ batch: 1, max_length: 512, rank: 1 }],
      [{ batch: 1, max_length: 128, rank: 64 }],
      [{ batch: 1, max_length: 128, rank: 1, method: 'dpo' }],
      [{ batch: 1, max_length: 128, rank: 1 }, 10_000_000],
    ];
    for (const [change, bytes] of larger)
      expect(estimate(SMOLLM2, 'f32', change, bytes)).toBeGreaterThan(small);
    expect(estimate(SMOLLM2, 'f32', { batch: 256, max_length: 4_096 })).toBeLessThan(small + 4e9);
    expect(estimate(SMOLLM2, 'f32', { targets: ['q'] })).toBeLessThan(estimate(SMOLLM2, 'f32'));
  });
});
