import { describe, expect, it } from 'vitest';
import { readAdapter, writeSafetensors, type Tensor } from '../../../adapters/index.ts';
import { kohyaModuleName } from '../../../adapters/format/kohya-adapter.ts';
import { filled, kohyaTensors, peftFiles, Q, refusal, tensor } from '../make-adapter.ts';

const STEM = 'lora_model_layers_0_self_attn_q_proj';
const read = (tensors: ReadonlyMap<string, Tensor>) =>
  readAdapter({ configJson: null, weights: writeSafetensors({ tensors }) });
const renamed = (rename: (name: string) => string) =>
  new Map([...kohyaTensors()].map(([name, t]) => [rename(name), t]));

describe('an adapter in kohya style', () => {
  it.each([
    ['lora_ and underscores', (name: string) => name],
    ['lycoris_', (name: string) => name.replace('lora_', 'lycoris_')],
    ['no prefix', (name: string) => name.replace('lora_', '')],
    ['the decoder alone', (name: string) => name.replace('lora_model_', 'lora_')],
    ['dots', (name: string) => name.replace('lora_model_layers_0_self_attn_', 'model.layers.0.self_attn.')],
    [
      'dots below PEFT',
      (name: string) =>
        name.replace('lora_model_layers_0_self_attn_', 'base_model.model.model.layers.0.self_attn.'),
    ],
  ])('%s: equals the same adapter of PEFT', (_, rename) => {
    expect(read(renamed(rename)).modules).toEqual(readAdapter(peftFiles()).modules);
  });

  it.each([
    ['F32', tensor([], [8]), 8],
    ['BF16', tensor([1], [8], 'BF16'), 8],
    ['F16', tensor([], [8], 'F16'), 8],
    ['F64', tensor([], [0.1], 'F64'), 0.1],
    ['I64', { dtype: 'I64' as const, shape: [], data: new Uint8Array(BigInt64Array.of(16n).buffer) }, 16],
    ['I32', { dtype: 'I32' as const, shape: [], data: new Uint8Array(Int32Array.of(-3).buffer) }, -3],
  ])('alpha as %s', (_, alpha, expected) => {
    expect(read(kohyaTensors().set(`${STEM}.alpha`, alpha)).modules[0]?.alpha).toBe(expected);
  });

  it('uses the rank for a missing alpha, with a warning', () => {
    const tensors = kohyaTensors();
    tensors.delete(`${STEM}.alpha`);
    const { modules, warnings } = read(tensors);
    expect(modules.map(({ scale }) => scale)).toEqual([1, 2]);
    expect(warnings).toEqual(['1 of 2 modules have no alpha; using their rank, which is a scale of 1.']);
  });

  it('float64 becomes float32', () => {
    expect(read(kohyaTensors(2, 'F64')).modules).toEqual(readAdapter(peftFiles()).modules);
  });

  it.each([
    ['lora_unet_down_blocks_0_attn.lora_down.weight', 'image_lora', filled(2, 4)],
    ['lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight', 'image_lora', filled(2, 4)],
    ['lora_te2_x.alpha', 'image_lora', tensor([], [1])],
    ['text_encoder.model.layers.0.q_proj.lora_up.weight', 'image_lora', filled(2, 4)],
    ['diffusion_model.blocks.0.lora_up.weight', 'image_lora', filled(2, 4)],
    [`${STEM}.lora_down.weight`, 'image_lora', tensor([2, 4, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8])],
    [`${STEM}.lora_mid.weight`, 'lycoris', filled(2, 2)],
    [`${STEM}.hada_w1_a`, 'lycoris', filled(2, 2)],
    [`${STEM}.lokr_w2`, 'lycoris', filled(2, 2)],
    [`${STEM}.dora_scale`, 'dora', filled(6, 1)],
    ['lora_model_layers_0_moe_experts_1_w1.lora_up.weight', 'name_ambiguous', filled(2, 4)],
    ['lora_model_layers_00_self_attn_q_proj.lora_up.weight', 'name_ambiguous', filled(2, 4)],
    ['lora_vision_model_layers_0_self_attn_q_proj.lora_up.weight', 'name_ambiguous', filled(2, 4)],
    ['model.layers.0.self_attn.q_proj.lora_down.weight', 'duplicate_module', filled(2, 4)],
    [`model.layers.1.mlp.up_proj.lora_up.weight`, 'missing_pair', filled(2, 4)],
    [`model.layers.1.mlp.up_proj.lora_down.weight`, 'missing_pair', filled(2, 4)],
    [`model.layers.1.mlp.up_proj.alpha`, 'missing_pair', tensor([], [1])],
    [`base_model.model.${Q}.lora_A.weight`, 'unknown_tensor', filled(2, 4)],
    [`${STEM}.alpha`, 'shape_invalid', filled(2, 2)],
    [`${STEM}.alpha`, 'dtype_unsupported', { dtype: 'U8', shape: [], data: Uint8Array.of(1) }],
    [`${STEM}.alpha`, 'scale_invalid', tensor([], [0])],
    [`${STEM}.alpha`, 'scale_invalid', tensor([], [NaN])],
    [`${STEM}.lora_up.weight`, 'rank_mismatch', filled(6, 3)],
    [`${STEM}.lora_up.weight`, 'shape_invalid', tensor([12], new Array<number>(12).fill(1))],
  ] as const)('the tensor %s: %s', (name, code, value) => {
    const error = refusal(code, () => read(kohyaTensors().set(name, value)));
    expect(error.subject).toBeTruthy();
    expect(error.path).toBe('adapter_model.safetensors');
  });

  it('refuses a file of LyCORIS without a plain pair', () => {
    refusal('lycoris', () => read(new Map([['lycoris_model_layers_0_mlp_up_proj.lokr_w1', filled(2, 2)]])));
  });
});

describe('kohyaModuleName', () => {
  it.each([
    ['lora_model_layers_17_mlp_down_proj', 'model.layers.17.mlp.down_proj'],
    ['layers_0_self_attn_o_proj', 'model.layers.0.self_attn.o_proj'],
    ['transformer.h.0.attn.c_attn', 'transformer.h.0.attn.c_attn'],
    ['lora_lm_head', null],
    ['lora_model_layers_0_self_attn_qkv_proj', null],
    ['', null],
  ])('%s: %s', (stem, name) => {
    expect(kohyaModuleName(stem)).toBe(name);
  });
});
