import { describe, expect, it } from 'vitest';
import { readAdapter, writeSafetensors, type Tensor } from '../../../adapters/index.ts';
import {
  filled,
  mlxConfig,
  mlxFiles,
  mlxTensors,
  peftFiles,
  peftTensors,
  Q,
  refusal,
  tensor,
} from '../make-adapter.ts';

const read = (configJson: string, tensors: ReadonlyMap<string, Tensor> = mlxTensors()) =>
  readAdapter({ configJson, weights: writeSafetensors({ tensors }) });

describe('an adapter of mlx-lm', () => {
  it.each(['F32', 'F16', 'BF16'] as const)('%s: A and B are transposed, the scale is literal', (dtype) => {
    const { modules } = read(mlxConfig({}, { scale: 20 }), mlxTensors(2, dtype));
    const [first] = modules;
    expect(first).toMatchObject({ name: Q, rank: 2, alpha: 40, scale: 20 });
    expect(first!.a).toEqual(peftTensors(2, dtype).get(`base_model.model.${Q}.lora_A.weight`));
    expect(first!.b).toEqual(peftTensors(2, dtype).get(`base_model.model.${Q}.lora_B.weight`));
  });

  it('equals the same adapter of PEFT', () => {
    expect(readAdapter(mlxFiles()).modules).toEqual(readAdapter(peftFiles()).modules);
  });

  it('names its base, or none', () => {
    expect(read(mlxConfig({ model: 'mlx-community/X-4bit' })).baseModel).toBe('mlx-community/X-4bit');
    expect(read(mlxConfig({ model: null })).baseModel).toBeNull();
  });

  it('ignores an alpha, like mlx-lm', () => {
    expect(read(mlxConfig({}, { alpha: 16, scale: 10 })).modules[0]?.scale).toBe(10);
    const before = { num_layers: undefined, fine_tune_type: undefined, lora_layers: 4 };
    // The same with and without the factor.
    expect(read(mlxConfig(before, { alpha: 2, scale: 10 })).modules[0]?.scale).toBe(10);
    expect(read(mlxConfig(before, { scale: 10 })).modules[0]?.scale).toBe(10);
    const { message, subject } = refusal('scale_ambiguous', () =>
      read(mlxConfig(before, { alpha: 16, scale: 10 })),
    );
    expect(message).toContain('set scale to 80');
    expect(subject).toBe('lora_parameters.alpha');
  });

  it.each([
    [{ fine_tune_type: 'dora' }, 'dora'],
    [{ fine_tune_type: undefined, use_dora: true }, 'dora'],
    [{ fine_tune_type: 'full' }, 'full_weight'],
    [{ fine_tune_type: 'prefix' }, 'not_lora'],
    [{ lora_parameters: undefined }, 'config_invalid'],
    [{ lora_parameters: 3 }, 'config_invalid'],
    [{ lora_parameters: { rank: 2 } }, 'config_invalid'],
    [{ lora_parameters: { scale: 2 } }, 'config_invalid'],
    [{ lora_parameters: { rank: 2.5, scale: 2 } }, 'config_invalid'],
    [{ lora_parameters: { rank: 2, scale: '2' } }, 'config_invalid'],
    [{ lora_parameters: { rank: 3, scale: 2 } }, 'rank_mismatch'],
    [{ lora_parameters: { rank: 2, scale: 0 } }, 'scale_invalid'],
    [{ model: 4 }, 'config_invalid'],
  ] as const)('%j: %s', (overrides, code) => {
    const error = refusal(code, () => read(mlxConfig(overrides)));
    expect(error.message.length).toBeGreaterThan(20);
    expect(error.subject).toBeTruthy();
  });

  it.each([
    [`${Q}.m`, 'dora', filled(6, 1)],
    [`${Q}.linear.weight`, 'full_weight', filled(6, 4)],
    [`${Q}.linear.scales`, 'full_weight', filled(6, 4)],
    ['model.norm.weight', 'full_weight', filled(1, 4)],
    ['model.embed_tokens.lora_a', 'embedding_lora', filled(9, 2)],
    [
      'model.layers.0.mlp.switch_mlp.up_proj.lora_a',
      'expert_lora',
      tensor([1, 2, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
    [`${Q}.lora_a.0`, 'unknown_tensor', filled(4, 2)],
    [`${Q}.A`, 'unknown_tensor', filled(4, 2)],
    ['other.lora_A.weight', 'unknown_tensor', filled(2, 4)],
    ['other.lora_a', 'missing_pair', filled(4, 2)],
    ['other.lora_b', 'missing_pair', filled(2, 6)],
    [`${Q}.lora_a`, 'shape_invalid', tensor([8], [1, 1, 1, 1, 1, 1, 1, 1])],
    [`${Q}.lora_a`, 'dtype_unsupported', { dtype: 'U32', shape: [4, 2], data: new Uint8Array(32) }],
    [`${Q}.lora_a`, 'rank_mismatch', filled(2, 4)],
  ] as const)('the tensor %s: %s', (name, code, value) => {
    const error = refusal(code, () => read(mlxConfig(), mlxTensors().set(name, value)));
    expect(error.subject).toBeTruthy();
  });

  it('refuses a configuration without tensors', () => {
    refusal('empty_adapter', () => read(mlxConfig(), new Map()));
  });
});
