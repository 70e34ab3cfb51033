import { describe, expect, it } from 'vitest';
import type { LlamaConfig } from '../../../gpu-origin/model/base-model.ts';
import { readHubConfig } from '../../../gpu-origin/model/hub-config.ts';

/** Every expectation is what transformers 5.24 computes from the same file. */
const LAYERS = 4;
const config = (model_type: string, more: Record<string, unknown>): LlamaConfig =>
  readHubConfig(
    {
      model_type,
      hidden_size: 64,
      num_hidden_layers: LAYERS,
      num_attention_heads: 4,
      intermediate_size: 96,
      vocab_size: 32,
      max_position_embeddings: 512,
      rms_norm_eps: 1e-5,
      ...more,
    },
    true,
  ).config;
const windows = (model_type: string, more: Record<string, unknown>): (number | null)[] =>
  config(model_type, more).attention.map(({ window }) => window);
const all = (window: number | null): (number | null)[] => Array<number | null>(LAYERS).fill(window);

const SLIDING = Array<string>(LAYERS).fill('sliding_attention');
const FULL = Array<string>(LAYERS).fill('full_attention');
const linear = { rope_type: 'linear', factor: 2 };
const plain = { rope_type: 'default' };

describe('the rotary base', () => {
  it.each([
    ['of the field alone', { rope_theta: 500 }, 500],
    ['of rope_parameters before the field', { rope_theta: 500, rope_parameters: { rope_theta: 900 } }, 900],
    ['of the field where rope_parameters have none', { rope_theta: 500, rope_parameters: plain }, 500],
    [
      'of rope_scaling before the field',
      { rope_theta: 500, rope_scaling: { ...linear, rope_theta: 900 } },
      900,
    ],
    [
      'of the field where rope_scaling stands for rope_parameters',
      { rope_theta: 500, rope_scaling: linear, rope_parameters: { rope_theta: 900 } },
      500,
    ],
    [
      'of rope_parameters beside an empty rope_scaling',
      { rope_theta: 500, rope_scaling: {}, rope_parameters: { rope_theta: 900 } },
      900,
    ],
    ['that a Llama has where nothing says it', {}, 10_000],
  ])('is that %s', (_, fields, theta) => {
    expect(config('llama', fields).rope.theta).toBe(theta);
  });

  it.each([
    ['the fields', { rope_theta: 500, rope_local_base_freq: 20 }, 500, 20, 1],
    [
      'rope_parameters before the fields',
      {
        rope_theta: 500,
        rope_local_base_freq: 20,
        rope_parameters: { full_attention: { rope_theta: 900 }, sliding_attention: { rope_theta: 30 } },
      },
      900,
      30,
      1,
    ],
    [
      'the fields where rope_parameters have none',
      {
        rope_theta: 500,
        rope_local_base_freq: 20,
        rope_parameters: { full_attention: plain, sliding_attention: plain },
      },
      500,
      20,
      1,
    ],
    [
      'rope_parameters that rope_scaling changes',
      {
        rope_theta: 500,
        rope_scaling: linear,
        rope_parameters: { full_attention: { rope_theta: 900 }, sliding_attention: { rope_theta: 30 } },
      },
      900,
      30,
      2,
    ],
    ['none of rope_parameters for all layers', { rope_theta: 500, rope_parameters: linear }, 500, 10_000, 1],
  ])('of Gemma follows %s', (_, fields, theta, local, stretch) => {
    const read = config('gemma3_text', { ...fields, head_dim: 16 });
    expect([read.rope.theta, read.localRope?.theta]).toEqual([theta, local]);
    expect(read.rope.divisors?.[0] ?? 1).toBe(stretch);
    expect(read.localRope?.divisors).toBeNull();
  });

  it.each([
    ['the field but in layers with a window', { rope_theta: 900 }, 900, 500_000, 1],
    ['the default where nothing says it', {}, 500_000, 500_000, 1],
    ['rope_scaling but in layers with a window', { rope_theta: 900, rope_scaling: linear }, 900, 500_000, 2],
    [
      'rope_parameters of both kinds of layers',
      {
        rope_parameters: {
          full_attention: { ...linear, rope_theta: 900 },
          sliding_attention: { rope_theta: 30 },
        },
      },
      900,
      30,
      2,
    ],
    [
      'none of rope_parameters for all layers',
      { rope_parameters: { ...linear, rope_theta: 900 } },
      500_000,
      500_000,
      1,
    ],
  ])('of OLMo 3 follows %s', (_, fields, theta, local, stretch) => {
    const read = config('olmo3', fields);
    expect([read.rope.theta, read.localRope?.theta]).toEqual([theta, local]);
    expect(read.rope.divisors?.[0] ?? 1).toBe(stretch);
    expect(read.localRope?.divisors).toBeNull();
  });

  it.each([
    ['half of each head', {}, 16],
    ['the part that the field says', { partial_rotary_factor: 1 }, 32],
    ['the part that rope_parameters say', { rope_parameters: { ...plain, partial_rotary_factor: 1 } }, 32],
    ['half of each head also beside rope_scaling', { rope_scaling: linear }, 16],
  ])('of GLM turns neighbours in %s', (_, fields, dim) => {
    for (const type of ['glm', 'glm4'])
      expect(config(type, { ...fields, head_dim: 32 })).toMatchObject({
        interleavedRope: true,
        rope: { dim },
      });
  });

  it('of Phi-3 turns the part of each head that rope_parameters say', () => {
    const parts = { partial_rotary_factor: 1, rope_parameters: { ...plain, partial_rotary_factor: 0.5 } };
    expect(config('phi3', { ...parts, head_dim: 32 }).rope.dim).toBe(16);
  });
});

describe('biases', () => {
  it('are at q, k and v of GLM unless its configuration says otherwise', () => {
    const biases = (more: object): boolean => config('glm4', { ...more, head_dim: 32 }).qkvBias;
    expect([biases({}), biases({ attention_bias: true }), biases({ attention_bias: false })]).toEqual([
      true,
      true,
      false,
    ]);
  });
});

describe('YaRN', () => {
  const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 128 };
  const early = [1, 1.33333, 2, 4, 4, 4, 4, 4];
  const plainScale = 1.138629;
  it.each([
    ['by factor and original context', {}, early, plainScale],
    [
      'with borders that are not rounded',
      { truncate: false },
      [1, 1.40149, 2.34161, 4, 4, 4, 4, 4],
      plainScale,
    ],
    ['with its own factor of cosine and sine', { attention_factor: 0.7 }, early, 0.7],
    ['with mscale', { mscale: 0.5, mscale_all_dim: 1 }, early, 0.939124],
    ['with one mscale alone, which counts for nothing', { mscale: 1 }, early, plainScale],
    [
      'over the context where the original one is missing',
      { original_max_position_embeddings: undefined },
      [1, 1.23077, 1.6, 2.28571, 4, 4, 4, 4],
      plainScale,
    ],
  ])('stretches %s', (_, more, divisors, scale) => {
    const { rope } = config('llama', { rope_theta: 10_000, rope_scaling: { ...yarn, ...more } });
    divisors.forEach((value, at) => expect(rope.divisors![at]).toBeCloseTo(value, 5));
    expect(rope.scale).toBeCloseTo(scale, 6);
  });

  it('serves the longer of both contexts', () => {
    const context = (more: object): number =>
      config('qwen2', { max_position_embeddings: 128, rope_scaling: { ...yarn, ...more } }).context;
    expect([context({}), context({ factor: 0.5 })]).toEqual([512, 128]);
  });

  it('of Ministral 3 is served up to the original context, behind which q has other factors', () => {
    const fields = { rope_parameters: { ...yarn, llama_4_scaling_beta: 0.1 } };
    expect(config('ministral3', fields).context).toBe(128);
    const none = config('ministral3', { max_position_embeddings: 262_144 });
    expect(none).toMatchObject({ family: 'mistral3', context: 16_384 });
    expect(none.rope).toMatchObject({ theta: 1_000_000, scale: 1 });
  });
});

describe('constants', () => {
  it('of Granite become those of a stream that is divided by the factor of what layers add', () => {
    const granite = {
      ...{ embedding_multiplier: 12, residual_multiplier: 0.25, attention_multiplier: 0.0625 },
      ...{ logits_scaling: 8 },
    };
    expect(config('granite', granite)).toMatchObject({
      ...{ family: 'granite', embeddingScale: 48, attentionScale: 0.0625, logitScale: 0.125 },
      rmsEpsilon: 1e-5 / 0.0625,
    });
    const plain = { embeddingScale: 1, attentionScale: 1, logitScale: 1, rmsEpsilon: 1e-5 };
    expect(config('granite', {})).toMatchObject(plain);
  });

  it.each([{ residual_multiplier: 0 }, { logits_scaling: 0 }, { embedding_multiplier: -1 }])(
    'of Granite are refused: %j',
    (fields) => expect(() => config('granite', fields)).toThrow(/the base's \w+ is/),
  );

  it("knows SiLU's other name", () => {
    expect(config('llama', { hidden_act: 'swish' }).activation).toBe('silu');
    expect(() => config('llama', { hidden_act: 'gelu' })).toThrow('activation gelu is not supported');
  });
});

describe('soft caps', () => {
  const caps = (fields: object): (number | null)[] => {
    const { attentionCap, logitCap } = config('gemma2', { ...fields, head_dim: 16 });
    return [attentionCap, logitCap];
  };

  it('are those of Gemma 2 where its configuration names none, and may be null', () => {
    expect(caps({})).toEqual([50, 30]);
    expect(caps({ attn_logit_softcapping: 8.5, final_logit_softcapping: null })).toEqual([8.5, null]);
  });

  it.each([
    ['gemma2', { attn_logit_softcapping: 0 }, "the base's attentionCap is 0"],
    ['gemma2', { final_logit_softcapping: -30 }, "the base's logitCap is -30"],
    ['llama', { attn_logit_softcapping: 50 }, 'logit soft caps (attn_logit_softcapping) are not supported'],
    ['gemma3_text', { final_logit_softcapping: 30 }, 'logit soft caps (final_logit_softcapping)'],
  ])('of %s are refused: %j', (type, fields, message) => {
    expect(() => config(type, { ...fields, head_dim: 16 })).toThrow(message);
  });
});

describe('norms', () => {
  it('of OLMo 2 stand behind attention and MLP, and over all heads of q and k', () => {
    expect(config('olmo2', {})).toMatchObject({
      ...{ family: 'olmo2', preNorms: false, postNorms: true, qkNorm: 'width' },
      rope: { theta: 10_000 },
    });
  });

  it('of OLMo 2 leave biases unsupported', () => {
    expect(() => config('olmo2', { attention_bias: true })).toThrow('biases on o_proj');
  });

  it('of GLM-4 stand before and behind attention and MLP, of GLM before them', () => {
    expect(config('glm4', { head_dim: 32 })).toMatchObject({
      family: 'glm4',
      preNorms: true,
      postNorms: true,
    });
    expect(config('glm', { head_dim: 32 })).toMatchObject({
      family: 'chatglm',
      preNorms: true,
      postNorms: false,
    });
  });

  it.each(['olmo', 'olmoe', 'olmo_hybrid', 'flex_olmo', 'chatglm', 'glm4_moe', 'glm4v', 'glm_ocr'])(
    'of %s are others: it is refused',
    (type) => expect(() => config(type, {})).toThrow(`model_type ${type} is not supported`),
  );
});

describe('the window', () => {
  it('of every second layer is that of Gemma 2, which has one theta', () => {
    const read = config('gemma2', { head_dim: 16, rope_theta: 500 });
    expect(read.attention.map(({ window }) => window)).toEqual([4096, null, 4096, null]);
    expect(read.attention.every(({ rope }) => rope === 'rope')).toBe(true);
    expect(read).toMatchObject({ rope: { theta: 500 }, localRope: null, attentionScale: 1 / 16 });
  });

  it('of three layers of four is that of OLMo 3, whose positions are those of its own theta', () => {
    const read = config('olmo3', {});
    expect(read.attention).toEqual([
      ...Array<unknown>(3).fill({ window: 4096, rope: 'localRope' }),
      { window: null, rope: 'rope' },
    ]);
  });

  it.each([
    ['of OLMo 3 follows layer_types', 'olmo3', { sliding_window: 8, layer_types: FULL }, all(null)],
    ['of a Llama that is off is none', 'llama', { sliding_window: 8, use_sliding_window: false }, all(null)],
    [
      'of a Llama that is off is none, whatever its layers are called',
      'llama',
      { sliding_window: 8, use_sliding_window: false, layer_types: SLIDING },
      all(null),
    ],
    ['of Mistral has no switch', 'mistral', { sliding_window: 8, use_sliding_window: false }, all(8)],
    ['of Mistral is left out by layer_types', 'mistral', { sliding_window: 8, layer_types: FULL }, all(null)],
    ['of Mistral is none by null', 'mistral', { sliding_window: null }, all(null)],
    ['of Mistral is 4,096 tokens where the field is missing', 'mistral', {}, all(4096)],
    [
      'of Qwen follows layer_types when it is on',
      'qwen2',
      { sliding_window: 8, use_sliding_window: true, layer_types: SLIDING },
      all(8),
    ],
    ['of Qwen is off', 'qwen3', { sliding_window: 8, layer_types: FULL }, all(null)],
    [
      'of OLMo 2 is none, whatever its fields say',
      'olmo2',
      { sliding_window: 8, layer_types: SLIDING },
      all(null),
    ],
    ['of GLM-4 is none', 'glm4', { head_dim: 32, sliding_window: 8 }, all(null)],
    ['of Phi-3 knows no layer_types', 'phi3', { sliding_window: 8, layer_types: FULL }, all(8)],
    [
      'of SmolLM3 follows layer_types also when it is off',
      'smollm3',
      { sliding_window: 8, use_sliding_window: false, layer_types: SLIDING },
      all(8),
    ],
  ])('%s', (_, type, fields, expected) => {
    expect(windows(type, fields)).toEqual(expected);
  });

  it.each([
    ['qwen2', { sliding_window: 8, layer_types: SLIDING }],
    ['mistral', { sliding_window: null, layer_types: SLIDING }],
    ['olmo3', { sliding_window: null, layer_types: SLIDING }],
  ])('of %s is refused where layer_types need one and none is on', (type, fields) => {
    expect(() => config(type, fields)).toThrow('sliding_attention in layer_types, but no active window');
  });

  it('of a Llama that is on is refused', () => {
    expect(() => config('llama', { sliding_window: 8 })).toThrow('not supported for model_type llama');
  });
});

describe('a mixture of experts', () => {
  const fields = { num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 48 };

  it('has its experts, their width and whether their weights add up to 1', () => {
    const read = config('qwen3_moe', { ...fields, norm_topk_prob: true });
    expect(read.experts).toMatchObject({ count: 6, chosen: 2, normalized: true });
    expect(read.ffn).toBe(48);
    // transformers 5 writes the number of experts under this name.
    const { num_experts: count, ...rest } = fields;
    const renamed = config('qwen3_moe', { ...rest, num_local_experts: count });
    expect(renamed.experts).toMatchObject({ count: 6, chosen: 2, normalized: false });
  });

  it.each([
    ['decoder_sparse_step 2', { decoder_sparse_step: 2 }],
    ['mlp_only_layers 1', { mlp_only_layers: [1] }],
    ['chooses 7 of 6 experts', { num_experts_per_tok: 7 }],
  ])('with %s is refused', (reason, more) => {
    expect(() => config('qwen3_moe', { ...fields, ...more })).toThrow(reason);
  });

  it.each(['qwen2_moe', 'mixtral', 'gpt_oss', 'deepseek_v3', 'granitemoe', 'qwen3_next', 'qwen3_5_moe'])(
    'of model_type %s is refused by name',
    (type) => {
      expect(() => config(type, fields)).toThrow(`model_type ${type} is not supported`);
    },
  );
});

describe('Gemma 4', () => {
  const of = (more: Record<string, unknown>): LlamaConfig =>
    config('gemma4_text', { head_dim: 16, hidden_size_per_layer_input: 0, num_key_value_heads: 2, ...more });
  const KINDS = { layer_types: [...SLIDING.slice(1), 'full_attention'] };
  const sizes = (kvHeads: number, headDim: number, keysAreValues = false): object => ({
    ...{ kvHeads, headDim, keysAreValues },
    ffn: 96,
  });

  it('has heads of two sizes, from older fields or from those of each layer', () => {
    const local = Array.from({ length: 3 }, () => sizes(2, 16));
    const fields = { ...KINDS, attention_k_eq_v: true, global_head_dim: 32, num_global_key_value_heads: 1 };
    expect(of(fields).layerSizes).toEqual([...local, sizes(1, 32, true)]);
    const { attention_k_eq_v } = fields;
    const own = {
      ...KINDS,
      attention_k_eq_v,
      per_layer_config: { 3: { head_dim: 32, num_key_value_heads: 1 } },
    };
    expect(of(own).layerSizes).toEqual([...local, sizes(1, 32, true)]);
    // transformers' default of the size; without shared keys and values, the number of heads is ignored.
    expect(of({ ...fields, attention_k_eq_v: false, global_head_dim: undefined }).layerSizes).toEqual([
      ...local,
      sizes(2, 512),
    ]);
  });

  it('turns the first quarter of the pairs of global layers', () => {
    const { rope, localRope, attention } = of({ ...KINDS, global_head_dim: 32 });
    expect([rope.theta, rope.dim, localRope?.theta, localRope?.dim]).toEqual([1_000_000, 32, 10_000, 16]);
    expect([...rope.divisors!].map((divisor) => divisor === 1)).toEqual(
      Array.from({ length: 16 }, (_, pair) => pair < 4),
    );
    expect(attention[3]).toEqual({ window: null, rope: 'rope' });
    expect(attention[0]).toEqual({ window: 512, rope: 'localRope' });
  });

  it('has a last layer without a window, whatever layer_types say', () => {
    expect(windows('gemma4_text', { hidden_size_per_layer_input: 0, layer_types: SLIDING })).toEqual([
      ...Array<number>(3).fill(512),
      null,
    ]);
  });

  it('may see images in both directions: text is the same', () => {
    expect(of({ use_bidirectional_attention: 'vision' }).family).toBe('gemma4');
  });

  it.each([
    [{ enable_moe_block: true }, 'mixtures of experts (enable_moe_block)'],
    [{ num_kv_shared_layers: 2 }, 'keys and values shared by layers (num_kv_shared_layers)'],
    [{ hidden_size_per_layer_input: 256 }, 'embeddings of each layer (hidden_size_per_layer_input)'],
    [{ hidden_size_per_layer_input: undefined }, 'embeddings of each layer (hidden_size_per_layer_input)'],
    [{ use_bidirectional_attention: 'all' }, 'bidirectional attention'],
    [{ hidden_activation: 'relu' }, 'activation relu is not supported'],
    [{ attention_bias: true }, 'biases on o_proj'],
    [{ attn_logit_softcapping: 50 }, 'logit soft caps (attn_logit_softcapping)'],
    [{ per_layer_config: { 0: { intermediate_size: 8 } } }, 'per_layer_config with intermediate_size 8'],
  ])('with %j is refused', (fields, message) => {
    expect(() => of(fields)).toThrow(message);
  });

  it.each(['gemma4_unified', 'gemma4_assistant', 'gemma3n'])('is not %s, which is refused', (type) => {
    expect(() => config(type, {})).toThrow(`model_type ${type} is not supported`);
  });
});

describe('linear attention', () => {
  const sizes = {
    ...{
      linear_num_key_heads: 2,
      linear_num_value_heads: 4,
      linear_key_head_dim: 16,
      linear_value_head_dim: 24,
    },
    ...{ head_dim: 64, num_key_value_heads: 2 },
  };

  it('of Qwen3.5 is in three layers of four, and a quarter of each head turns in the others', () => {
    expect(config('qwen3_5_text', sizes)).toMatchObject({
      ...{ family: 'qwen35', outputGate: true, qkNorm: 'head' },
      deltaNet: {
        ...{ keyHeads: 2, valueHeads: 4, keyDim: 16, valueDim: 24, kernel: 4 },
        layers: [true, true, true, false],
      },
      rope: { dim: 16, theta: 10_000 },
    });
  });

  it('is where layer_types say', () => {
    const layer_types = ['full_attention', 'linear_attention', 'full_attention', 'linear_attention'];
    expect(config('qwen3_5_text', { ...sizes, layer_types }).deltaNet?.layers).toEqual([
      false,
      true,
      false,
      true,
    ]);
  });

  it.each([
    [{ layer_types: SLIDING }, 'layers of type sliding_attention are not supported'],
    [{ layer_types: Array<string>(LAYERS).fill('linear_attention') }, 'a layer with attention'],
    [{ attn_output_gate: false }, 'attn_output_gate'],
    [{ linear_num_value_heads: 3 }, '3 value heads of linear attention cannot share 2 key heads'],
  ])('is refused as %o', (more, message) => {
    expect(() => config('qwen3_5_text', { ...sizes, ...more })).toThrow(message);
  });

  it.each(['qwen3_next', 'qwen3_5_moe', 'qwen3_5_moe_text'])('of %s is refused by its name', (type) => {
    expect(() => config(type, sizes)).toThrow(`model_type ${type} is not supported`);
  });
});
