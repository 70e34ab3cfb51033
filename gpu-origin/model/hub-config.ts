/**
 * A Hugging Face `config.json` as the graph builder's configuration; stretched rotary frequencies by the
 * formulas of transformers' `modeling_rope_utils.py`. Unsupported settings are refused by name.
 */
import { z } from 'zod';
import {
  BaseModelError,
  checkConfig,
  type Experts,
  GEMMA_2,
  GEMMA_LOCAL_THETA,
  graniteConstants,
  isGemma,
  type DeltaNet,
  isGlm,
  SOFT_CAPS,
  type Family,
  type LayerAttention,
  type LayerSizes,
  type LlamaConfig,
  PLAIN_FAMILY,
  traitsOf,
  type Rope,
  ATTENTION_PATTERN,
} from './base-model.ts';

const fields = z.record(z.string(), z.unknown()).nullish();

/** The relevant fields; the rest is ignored, as in transformers. */
const HubConfig = z.object({
  _name_or_path: z.string().optional(),
  model_type: z.string(),
  hidden_size: z.int(),
  num_hidden_layers: z.int(),
  num_attention_heads: z.int(),
  num_key_value_heads: z.int().nullish(),
  head_dim: z.int().nullish(),
  intermediate_size: z.int(),
  vocab_size: z.int(),
  max_position_embeddings: z.int(),
  original_max_position_embeddings: z.int().nullish(),
  rms_norm_eps: z.number(),
  rope_theta: z.number().nullish(),
  rope_local_base_freq: z.number().nullish(),
  rope_scaling: fields,
  /**
   * transformers 5 stores theta here, with precedence over the field of that name; for Gemma, by kind of layer.
   */
  rope_parameters: fields,
  partial_rotary_factor: z.number().nullish(),
  tie_word_embeddings: z.boolean().optional(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  hidden_act: z.string().nullish(),
  hidden_activation: z.string().nullish(),
  sliding_window: z.int().nullish(),
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.int().nullish(),
  sliding_window_pattern: z.int().nullish(),
  _sliding_window_pattern: z.int().nullish(),
  layer_types: z.array(z.string()).nullish(),
  no_rope_layers: z.array(z.int()).nullish(),
  no_rope_layer_interval: z.int().nullish(),
  query_pre_attn_scalar: z.number().nullish(),
  attn_logit_softcapping: z.number().nullish(),
  final_logit_softcapping: z.number().nullish(),
  use_bidirectional_attention: z.union([z.boolean(), z.string()]).nullish(),
  embedding_multiplier: z.number().nullish(),
  residual_multiplier: z.number().nullish(),
  attention_multiplier: z.number().nullish(),
  logits_scaling: z.number().nullish(),
  num_experts: z.int().nullish(),
  num_local_experts: z.int().nullish(),
  num_experts_per_tok: z.int().nullish(),
  moe_intermediate_size: z.int().nullish(),
  norm_topk_prob: z.boolean().nullish(),
  decoder_sparse_step: z.int().nullish(),
  mlp_only_layers: z.array(z.int()).nullish(),
  quantization_config: fields,
  global_head_dim: z.int().nullish(),
  num_global_key_value_heads: z.int().nullish(),
  per_layer_config: z.record(z.string(), z.record(z.string(), z.unknown())).nullish(),
  attention_k_eq_v: z.boolean().nullish(),
  num_kv_shared_layers: z.int().nullish(),
  hidden_size_per_layer_input: z.int().nullish(),
  enable_moe_block: z.boolean().nullish(),
  full_attention_interval: z.int().min(1).nullish(),
  attn_output_gate: z.boolean().nullish(),
  linear_conv_kernel_dim: z.int().nullish(),
  linear_key_head_dim: z.int().nullish(),
  linear_value_head_dim: z.int().nullish(),
  linear_num_key_heads: z.int().nullish(),
  linear_num_value_heads: z.int().nullish(),
});
type HubConfig = z.infer<typeof HubConfig>;

const FAMILIES: Readonly<Record<string, Family>> = {
  llama: 'llama',
  mistral: 'llama',
  ministral3: 'mistral3',
  granite: 'granite',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  qwen3_moe: 'qwen3moe',
  qwen3_5_text: 'qwen35',
  gemma2: 'gemma2',
  gemma3_text: 'gemma3',
  gemma4_text: 'gemma4',
  olmo2: 'olmo2',
  olmo3: 'olmo2',
  glm: 'chatglm',
  glm4: 'glm4',
  smollm3: 'smollm3',
  phi3: 'phi3',
};

/**
 * Models that also see, of which the text is served: `model_type`, then that of their `text_config`. For text alone,
 * the three positions of a Qwen's token are the same, so its sections of rotary positions make no difference.
 */
const SEEING: Readonly<Record<string, Readonly<Record<string, Family>>>> = {
  qwen3_vl: { qwen3_vl_text: 'qwen3vl' },
  qwen3_5: { qwen3_5_text: 'qwen35' },
  qwen2_5_vl: { qwen2_5_vl_text: 'qwen2vl' },
  gemma3: { gemma3_text: 'gemma3' },
  gemma4: { gemma4_text: 'gemma4' },
  mistral3: { mistral: 'mistral3', ministral3: 'mistral3' },
};

/** Whether a folder has a model that also sees, by its config.json. */
export const sees = (json: unknown): boolean => {
  const type = ModelType.safeParse(json);
  return type.success && Object.hasOwn(SEEING, type.data.model_type);
};

/** Of transformers' configurations: a `text_config` lacks what is equal to them. */
const TEXT_DEFAULTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  qwen3_vl_text: {
    ...{ vocab_size: 151_936, hidden_size: 4_096, intermediate_size: 22_016, num_hidden_layers: 32 },
    ...{ num_attention_heads: 32, num_key_value_heads: 32, head_dim: 128 },
    ...{ max_position_embeddings: 128_000, rms_norm_eps: 1e-6 },
  },
  qwen3_5_text: {
    ...{ vocab_size: 248_320, hidden_size: 4_096, intermediate_size: 12_288, num_hidden_layers: 32 },
    ...{ num_attention_heads: 16, num_key_value_heads: 4, head_dim: 256 },
    ...{ max_position_embeddings: 32_768, rms_norm_eps: 1e-6 },
  },
  qwen2_5_vl_text: {
    ...{ vocab_size: 152_064, hidden_size: 8_192, intermediate_size: 29_568, num_hidden_layers: 80 },
    ...{ num_attention_heads: 64, num_key_value_heads: 8, max_window_layers: 80 },
    ...{ max_position_embeddings: 32_768, rms_norm_eps: 1e-5 },
  },
  gemma3_text: {
    ...{ vocab_size: 262_208, hidden_size: 2_304, intermediate_size: 9_216, num_hidden_layers: 26 },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256 },
    ...{ max_position_embeddings: 131_072, rms_norm_eps: 1e-6 },
  },
  gemma4_text: {
    ...{ vocab_size: 262_144, hidden_size: 2_304, intermediate_size: 9_216, num_hidden_layers: 30 },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256 },
    ...{ max_position_embeddings: 131_072, rms_norm_eps: 1e-6 },
  },
  mistral: {
    ...{ vocab_size: 32_000, hidden_size: 4_096, intermediate_size: 14_336, num_hidden_layers: 32 },
    ...{ num_attention_heads: 32, num_key_value_heads: 8 },
    ...{ max_position_embeddings: 131_072, rms_norm_eps: 1e-6 },
  },
  ministral3: {
    ...{ vocab_size: 131_072, hidden_size: 4_096, intermediate_size: 14_336, num_hidden_layers: 34 },
    ...{ num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128 },
    ...{ max_position_embeddings: 262_144, rms_norm_eps: 1e-5 },
  },
};

const OLMO3_THETA = 500_000;

/** Of a `ministral3` that has neither `rope_parameters` nor `rope_scaling`. */
const MINISTRAL_ROPE: RopeFields = {
  ...{ type: 'yarn', rope_theta: 1_000_000, factor: 16, original_max_position_embeddings: 16_384 },
  ...{ mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1 },
};

/** `default_theta` of transformers' configurations by `model_type`; elsewhere 10,000. */
const DEFAULT_THETA: Readonly<Record<string, number>> = {
  ...{ gemma3_text: 1_000_000, gemma4_text: 1_000_000, smollm3: 2_000_000, olmo3: OLMO3_THETA },
  ...{ qwen2_5_vl_text: 1_000_000, qwen3_vl_text: 500_000 },
};
/**
 * Of layers with a window, where their rotary positions are apart from the other layers'. transformers takes `rope_theta`
 * of an OLMo 3 for the other layers alone.
 */
const LOCAL_THETA: Readonly<Record<string, number>> = {
  gemma3_text: GEMMA_LOCAL_THETA,
  gemma4_text: GEMMA_LOCAL_THETA,
  olmo3: OLMO3_THETA,
};
/** Defaults of transformers' configurations by `model_type`: tokens without the field in config.json. */
const DEFAULT_WINDOW: Readonly<Record<string, number>> = {
  mistral: 4096,
  qwen2: 4096,
  qwen2_5_vl_text: 4096,
  qwen3: 4096,
  qwen3_moe: 4096,
  gemma2: GEMMA_2.window,
  gemma3_text: 4096,
  gemma4_text: 512,
  olmo3: 4096,
};

/** A Llama has no window: an active one is refused. The others' configurations in transformers have no such field. */
const UNWINDOWED: ReadonlySet<string> = new Set([
  'llama',
  'olmo2',
  'glm',
  'glm4',
  'qwen3_vl_text',
  'qwen3_5_text',
]);

const SLIDING = 'sliding_attention';
const FULL = 'full_attention';
/** Of Qwen3.5: Gated DeltaNet. */
const LINEAR = 'linear_attention';

/** Of q, k and v. Qwen2 has them always; elsewhere than in GLM `attention_bias` would add one at o too, which is refused. */
const hasBiases = (hub: HubConfig, family: Family): boolean =>
  family === 'qwen2' || family === 'qwen2vl' || (isGlm(family) && hub.attention_bias !== false);

function refuseUnsupported(hub: HubConfig, family: Family): void {
  if (hub.quantization_config != null)
    throw new BaseModelError(
      'the base is quantized (quantization_config, ' +
        `${String(hub.quantization_config['quant_method'] ?? 'unknown method')}), which is not supported ` +
        'in a Hugging Face folder. Give the original checkpoint, or a GGUF file',
    );
  if (hub.mlp_bias === true || (hub.attention_bias === true && !hasBiases(hub, family)))
    throw new BaseModelError('biases on o_proj or the MLP are not supported');
  const gemma = isGemma(family);
  const activation = (gemma ? hub.hidden_activation : undefined) ?? hub.hidden_act;
  const expected = gemma ? 'gelu_pytorch_tanh' : 'silu';
  // transformers has two names of it.
  if (activation != null && (activation === 'swish' ? 'silu' : activation) !== expected)
    throw new BaseModelError(`activation ${activation} is not supported; use ${expected}`);
  for (const cap of ['attn_logit_softcapping', 'final_logit_softcapping'] as const)
    if (hub[cap] != null && SOFT_CAPS[family]?.includes(cap) !== true)
      throw new BaseModelError(`logit soft caps (${cap}) are not supported for model_type ${hub.model_type}`);
  if (hub.attn_output_gate === false)
    throw new BaseModelError('attention without a gate of its output (attn_output_gate) is not supported');
  // Of Gemma 4: `vision` is for images alone, which are not served.
  if (hub.use_bidirectional_attention === true || hub.use_bidirectional_attention === 'all')
    throw new BaseModelError('bidirectional attention (use_bidirectional_attention) is not supported');
  if (family === 'gemma4') refuseOtherGemma4(hub);
  const window = hub.use_sliding_window !== false && hub.sliding_window != null;
  if (window && hub.model_type === 'llama')
    throw new BaseModelError('sliding-window attention is not supported for model_type llama');
}

/** @throws BaseModelError for parts of Gemma 4 that are not served. */
function refuseOtherGemma4(hub: HubConfig): void {
  if (hub.enable_moe_block === true)
    throw new BaseModelError(
      'mixtures of experts (enable_moe_block) are not supported for model_type gemma4',
    );
  if ((hub.num_kv_shared_layers ?? 0) !== 0)
    throw new BaseModelError(
      'keys and values shared by layers (num_kv_shared_layers) are not supported for model_type gemma4',
    );
  // transformers' default is 256.
  if (hub.hidden_size_per_layer_input !== 0)
    throw new BaseModelError(
      'embeddings of each layer (hidden_size_per_layer_input) are not supported for model_type gemma4',
    );
}

/** Sizes of Gemma 4's layers, as `per_layer_config` has them or follow from older fields. @throws BaseModelError */
function gemma4Sizes(hub: HubConfig, attention: readonly LayerAttention[]): LayerSizes[] {
  const { attention_k_eq_v: keysAreValues } = hub;
  const kvHeads = hub.num_key_value_heads ?? hub.num_attention_heads;
  const headDim = hub.head_dim ?? 256;
  return attention.map(({ window }, layer) => {
    const usual: Readonly<Record<string, unknown>> =
      window !== null
        ? {}
        : {
            head_dim: hub.global_head_dim ?? 512,
            ...(keysAreValues === true && hub.num_global_key_value_heads != null
              ? { num_key_value_heads: hub.num_global_key_value_heads }
              : {}),
          };
    const given = hub.per_layer_config == null ? usual : (hub.per_layer_config[layer] ?? {});
    for (const [key, value] of Object.entries(given))
      if (!(key === 'head_dim' || key === 'num_key_value_heads') || typeof value !== 'number')
        throw new BaseModelError(`per_layer_config with ${key} ${String(value)} is not supported`);
    return {
      kvHeads: Number(given['num_key_value_heads'] ?? kvHeads),
      headDim: Number(given['head_dim'] ?? headDim),
      ffn: hub.intermediate_size,
      keysAreValues: keysAreValues === true && window === null,
    };
  });
}

/** llama.cpp's divisor of pairs that do not turn: over any context their angle is 0 in float32. */
const STILL = 1e30;

/** `_compute_proportional_rope_parameters`: the first pairs of a head turn, the others stay. */
function proportional(fields: RopeFields, theta: number, dim: number): Rope {
  const part = fields['partial_rotary_factor'];
  const turning = Math.floor(((typeof part === 'number' ? part : 1) * dim) / 2);
  const factor = typeof fields['factor'] === 'number' ? fields['factor'] : 1;
  const divisors = Float32Array.from({ length: dim / 2 }, (_, i) => (i < turning ? factor : STILL));
  return { theta, dim, divisors, scale: 1 };
}

/** @throws BaseModelError */
function gemma4Ropes(
  hub: HubConfig,
  attention: readonly LayerAttention[],
  sizes: readonly LayerSizes[],
): Pick<LlamaConfig, 'rope' | 'localRope' | 'context'> {
  const context = hub.max_position_embeddings;
  const ropeOf = (which: 'rope' | 'localRope'): Rope => {
    const own = sizes.filter((_, layer) => attention[layer]!.rope === which);
    const dim = own[0]?.headDim ?? hub.head_dim ?? 256;
    if (own.some(({ headDim }) => headDim !== dim))
      throw new BaseModelError(
        `layers with heads of ${dim} and of other sizes cannot share rotary positions`,
      );
    const kind = which === 'rope' ? FULL : SLIDING;
    const given = hub.rope_parameters?.[kind];
    const usual: RopeFields =
      which === 'rope'
        ? { rope_type: 'proportional', partial_rotary_factor: 0.25 }
        : { rope_type: 'default' };
    const fields = isObject(given) ? given : usual;
    const theta =
      typeof fields['rope_theta'] === 'number'
        ? fields['rope_theta']
        : (which === 'rope' ? DEFAULT_THETA : LOCAL_THETA)[hub.model_type]!;
    if (fields['rope_type'] === 'proportional') return proportional(fields, theta, dim);
    const part = fields['partial_rotary_factor'];
    // transformers turns the whole head there, whatever the part.
    if (part !== undefined && part !== 1)
      throw new BaseModelError('partial rotary positions (partial_rotary_factor) are not supported');
    return hubRope({ fields, theta, dim, context, original: context }).rope;
  };
  return { rope: ropeOf('rope'), localRope: ropeOf('localRope'), context };
}

/** The window of layers of the kind {@link SLIDING}, as in the family's configuration in transformers. */
function windowOf(hub: HubConfig, family: Family): number | null {
  if (UNWINDOWED.has(hub.model_type)) return null;
  // Qwen's configurations contain an inactive window.
  if (family.startsWith('qwen') && hub.use_sliding_window !== true) return null;
  return hub.sliding_window === undefined ? (DEFAULT_WINDOW[hub.model_type] ?? null) : hub.sliding_window;
}

/** Layers with the window, as in the family's configuration in transformers. */
function layerTypes(hub: HubConfig, family: Family, window: number | null): string[] {
  const layers = hub.num_hidden_layers;
  const types = hub.layer_types;
  // For these, transformers applies windows to all layers or none.
  const alike = (UNWINDOWED.has(hub.model_type) && family !== 'qwen35') || family === 'phi3';
  if (types != null) {
    const known = family === 'qwen35' ? [LINEAR, FULL] : [SLIDING, FULL];
    const other = types.find((type) => !known.includes(type));
    if (other !== undefined) throw new BaseModelError(`layers of type ${other} are not supported`);
    if (types.length !== layers)
      throw new BaseModelError(`config.json has ${types.length} layer_types for ${layers} layers`);
    if (!alike && window === null && types.includes(SLIDING))
      throw new BaseModelError(
        `config.json has ${SLIDING} in layer_types, but no active window (sliding_window, ` +
          'use_sliding_window). Correct one of them',
      );
    // transformers makes Gemma 4's last layer one without a window, whatever its configuration says.
    if (family === 'gemma4') return [...types.slice(0, -1), FULL];
    if (!alike) return types;
  }
  const own: Partial<Record<Family, number | null | undefined>> = {
    gemma3: hub.sliding_window_pattern ?? hub._sliding_window_pattern,
    qwen35: hub.full_attention_interval,
  };
  const step = own[family] ?? ATTENTION_PATTERN[family];
  const differs = (layer: number): boolean => {
    switch (family) {
      case 'qwen2':
      case 'qwen2vl':
      case 'qwen3':
        return hub.use_sliding_window === true && layer >= (hub.max_window_layers ?? 28);
      case 'smollm3':
        return hub.use_sliding_window === true && !ropeLayers(hub)[layer];
      case 'gemma4':
        return layer + 1 < layers && (layer + 1) % step! !== 0;
      default:
        return step === undefined || (layer + 1) % step !== 0;
    }
  };
  const other = family === 'qwen35' ? LINEAR : SLIDING;
  return Array.from({ length: layers }, (_, layer) => (differs(layer) ? other : FULL));
}

/** SmolLM3: whether each layer has rotary positions. */
function ropeLayers(hub: HubConfig): boolean[] {
  const interval = hub.no_rope_layer_interval ?? 4;
  return Array.from({ length: hub.num_hidden_layers }, (_, layer) =>
    hub.no_rope_layers == null ? (layer + 1) % interval !== 0 : hub.no_rope_layers[layer] !== 0,
  );
}

/** Qwen3.5's layers without attention. */
function deltaNetOf(hub: HubConfig, types: readonly string[]): DeltaNet {
  return {
    keyHeads: hub.linear_num_key_heads ?? 16,
    valueHeads: hub.linear_num_value_heads ?? 32,
    keyDim: hub.linear_key_head_dim ?? 128,
    valueDim: hub.linear_value_head_dim ?? 128,
    kernel: hub.linear_conv_kernel_dim ?? 4,
    layers: types.map((type) => type === LINEAR),
  };
}

function attentionOf(
  hub: HubConfig,
  family: Family,
  types: readonly string[],
  window: number | null,
): LayerAttention[] {
  const rotary = ropeLayers(hub);
  return types.map((type, layer) => ({
    window: type === SLIDING ? window : null,
    rope:
      type === LINEAR || (family === 'smollm3' && !rotary[layer])
        ? null
        : hasLocalRope(hub) && type === SLIDING
          ? 'localRope'
          : 'rope',
  }));
}

/** Whether layers with a window have rotary positions of their own. */
const hasLocalRope = (hub: HubConfig): boolean => Object.hasOwn(LOCAL_THETA, hub.model_type);

const isObject = (value: unknown): value is RopeFields => typeof value === 'object' && value !== null;

/**
 * Rotary fields of a kind of layer, as transformers 5 finds them (`convert_rope_params_to_dict`): `rope_scaling` comes
 * before `rope_parameters`, and where layers with a window have their own it changes the others' only.
 */
function ropeFields(hub: HubConfig, kind: string): RopeFields {
  const parameters = hub.rope_parameters ?? {};
  const own = parameters[kind];
  const scaling = hub.rope_scaling ?? {};
  if (hasLocalRope(hub)) return { ...(isObject(own) ? own : {}), ...(kind === FULL ? scaling : {}) };
  if (isObject(own)) return own;
  return Object.keys(scaling).length > 0 ? scaling : parameters;
}

/** Part of a head that turns where nothing says it, in families in which it may be a part. */
const ROTARY_PART: Partial<Record<Family, number>> = { phi3: 1, glm4: 0.5, chatglm: 0.5, qwen35: 0.25 };

function ropesOf(
  hub: HubConfig,
  family: Family,
  headDim: number,
): Pick<LlamaConfig, 'rope' | 'localRope' | 'context'> {
  const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);
  const own = ropeFields(hub, FULL);
  const named = hub.model_type === 'ministral3' && Object.keys(own).length === 0 ? MINISTRAL_ROPE : own;
  const isSections = family === 'qwen2vl' && (named['rope_type'] ?? named['type']) === 'mrope';
  const given = isSections ? { ...named, rope_type: 'default' } : named;
  const theta = number(given['rope_theta']) ?? hub.rope_theta ?? DEFAULT_THETA[hub.model_type] ?? 10_000;
  const usualPart = ROTARY_PART[family];
  const part = number(given['partial_rotary_factor']) ?? hub.partial_rotary_factor ?? usualPart ?? 1;
  if (part !== 1 && usualPart === undefined)
    throw new BaseModelError('partial rotary positions (partial_rotary_factor) are not supported');
  const context = hub.max_position_embeddings;
  const { rope, context: right } = hubRope({
    fields: given,
    theta,
    dim: Math.floor(headDim * part),
    context,
    original:
      hub.original_max_position_embeddings ?? number(given['original_max_position_embeddings']) ?? context,
  });
  if (!hasLocalRope(hub)) return { rope, localRope: null, context: right };
  const local = ropeFields(hub, SLIDING);
  const localTheta =
    number(local['rope_theta']) ??
    (family === 'gemma3' ? hub.rope_local_base_freq : undefined) ??
    LOCAL_THETA[hub.model_type]!;
  const localRope = hubRope({
    fields: local,
    theta: localTheta,
    dim: headDim,
    context,
    original: context,
  }).rope;
  return { rope, localRope, context: right };
}

const ModelType = z.object({ model_type: z.string() });
const TextConfig = z.object({ text_config: z.record(z.string(), z.unknown()).nullish() });
const WholeModel = z.object({
  _name_or_path: z.string().optional(),
  tie_word_embeddings: z.boolean().nullish(),
  quantization_config: fields,
});

/** Checked first: other families name their sizes differently (GPT-2: n_embd). @throws BaseModelError */
export function refuseOtherModels(json: unknown): void {
  const type = ModelType.safeParse(json);
  if (!type.success) return;
  const { model_type: model } = type.data;
  if (Object.hasOwn(SEEING, model)) return void textOf(json, model);
  if (!Object.hasOwn(FAMILIES, model))
    throw new BaseModelError(
      `model_type ${model} is not supported; supported are ` +
        `${[...Object.keys(FAMILIES), ...Object.keys(SEEING)].join(', ')}`,
    );
}

/**
 * @param text its `text_config`, without `model_type` if it is of the usual type.
 * @returns the type of a model's text, and its family where the model also sees and the text is served.
 */
function textType(
  model: string,
  text: Readonly<Record<string, unknown>>,
): { type: string; family: Family | undefined } {
  const families = Object.hasOwn(SEEING, model) ? SEEING[model]! : {};
  const [usual = model] = Object.keys(families);
  const type = typeof text['model_type'] === 'string' ? text['model_type'] : usual;
  return { type, family: Object.hasOwn(families, type) ? families[type] : undefined };
}

/** The text of a model that also sees, as a configuration of its own. @throws BaseModelError */
function textOf(json: unknown, model: string): { family: Family; fields: Record<string, unknown> } {
  // Qwen2.5-VL's first files have the fields of the text beside the others.
  const flat = model === 'qwen2_5_vl' ? { ...(json as object), model_type: undefined } : undefined;
  const text = TextConfig.safeParse(json).data?.text_config ?? flat;
  if (text === undefined) throw new BaseModelError(`config.json lacks text_config, which ${model} needs`);
  const { type, family } = textType(model, text);
  if (family === undefined)
    throw new BaseModelError(
      `model_type ${model} with text_config.model_type ${type} is not supported; supported is ` +
        Object.keys(SEEING[model]!).join(', '),
    );
  return { family, fields: { ...TEXT_DEFAULTS[type], ...text, model_type: type } };
}

const LooseModel = z.looseObject({ model_type: z.string() });

/**
 * For bases that another engine runs, of any family.
 * @returns the fields of a model's text beside those of the whole one; `model_type` as llama.cpp calls it where the model
 * also sees and its text is a family of graft's. @throws BaseModelError
 */
export function textFields(json: unknown): Record<string, unknown> {
  const whole = LooseModel.safeParse(json);
  if (!whole.success) throw new BaseModelError(`config.json: ${z.prettifyError(whole.error)}`);
  const { model_type: model } = whole.data;
  const text = TextConfig.safeParse(json).data?.text_config ?? {};
  const { type, family } = textType(model, text);
  return {
    ...(family === undefined ? {} : TEXT_DEFAULTS[type]),
    ...{ ...whole.data, ...text },
    ...{ model_type: family ?? model, _name_or_path: whole.data['_name_or_path'] },
  };
}

/**
 * One configuration of a model's text, wherever its fields are.
 * @throws BaseModelError
 */
function flattened(json: unknown, hasHead: boolean): { family: Family; fields: unknown } {
  const { model_type: model } = ModelType.parse(json);
  if (!Object.hasOwn(SEEING, model)) return { family: FAMILIES[model]!, fields: json };
  const { family, fields: text } = textOf(json, model);
  const whole = WholeModel.parse(json);
  const tied = whole.tie_word_embeddings ?? text['tie_word_embeddings'];
  const quantization = whole.quantization_config ?? text['quantization_config'];
  return {
    family,
    fields: {
      ...text,
      ...(whole._name_or_path === undefined ? {} : { _name_or_path: whole._name_or_path }),
      ...(quantization === undefined ? {} : { quantization_config: quantization }),
      // transformers ties no head that is stored with other values, whatever the configuration says.
      tie_word_embeddings: hasHead ? false : (tied ?? true),
    },
  };
}

/**
 * @param json parsed `config.json`. @param hasHead whether the files contain a head.
 * @returns the configuration, and the repository that it names.
 * @throws BaseModelError
 */
export function readHubConfig(
  json: unknown,
  hasHead: boolean,
): { config: LlamaConfig; name: string | undefined } {
  refuseOtherModels(json);
  const type = ModelType.safeParse(json);
  if (!type.success) throw new BaseModelError(`config.json: ${z.prettifyError(type.error)}`);
  const { family, fields: flat } = flattened(json, hasHead);
  const parsed = HubConfig.safeParse(flat);
  if (!parsed.success) throw new BaseModelError(`config.json: ${z.prettifyError(parsed.error)}`);
  const hub = parsed.data;
  refuseUnsupported(hub, family);
  const headDim = hub.head_dim ?? hub.hidden_size / hub.num_attention_heads;
  const window = windowOf(hub, family);
  const types = layerTypes(hub, family, window);
  const attention = attentionOf(hub, family, types, window);
  const layerSizes = family === 'gemma4' ? gemma4Sizes(hub, attention) : null;
  const config = checkConfig({
    ...PLAIN_FAMILY,
    family,
    hidden: hub.hidden_size,
    layers: hub.num_hidden_layers,
    heads: hub.num_attention_heads,
    kvHeads: hub.num_key_value_heads ?? hub.num_attention_heads,
    headDim,
    ffn: family === 'qwen3moe' ? (hub.moe_intermediate_size ?? QWEN3_MOE.ffn) : hub.intermediate_size,
    experts: family === 'qwen3moe' ? expertsOf(hub) : null,
    vocab: hub.vocab_size,
    rmsEpsilon: hub.rms_norm_eps,
    layerSizes,
    ...(layerSizes === null ? ropesOf(hub, family, headDim) : gemma4Ropes(hub, attention, layerSizes)),
    attention,
    deltaNet: family === 'qwen35' ? deltaNetOf(hub, types) : null,
    attentionScale: attentionScaleOf(hub, family),
    ...(family === 'gemma2'
      ? {
          attentionCap: valueOr(hub.attn_logit_softcapping, GEMMA_2.attentionCap),
          logitCap: valueOr(hub.final_logit_softcapping, GEMMA_2.logitCap),
        }
      : {}),
    ...(family === 'gemma4' ? { logitCap: hub.final_logit_softcapping ?? null, layerScalars: true } : {}),
    tiedHead: hub.tie_word_embeddings ?? !hasHead,
    qkvBias: hasBiases(hub, family),
    ...traitsOf(family),
    embeddingScale: isGemma(family) ? Math.fround(Math.sqrt(hub.hidden_size)) : 1,
    ...(family === 'granite' ? graniteOf(hub) : {}),
  });
  return { config, name: hub._name_or_path };
}

/** Defaults of transformers' configuration. */
const QWEN3_MOE = { count: 128, chosen: 8, ffn: 768 } as const;

/** @throws BaseModelError for a base that also has layers without experts. */
function expertsOf(hub: HubConfig): Experts {
  const step = hub.decoder_sparse_step ?? 1;
  const dense = hub.mlp_only_layers ?? [];
  if (step !== 1 || dense.length > 0)
    throw new BaseModelError(
      'layers without experts among those with experts are not supported ' +
        `(${step !== 1 ? `decoder_sparse_step ${step}` : `mlp_only_layers ${dense.join(', ')}`})`,
    );
  return {
    count: hub.num_experts ?? hub.num_local_experts ?? QWEN3_MOE.count,
    chosen: hub.num_experts_per_tok ?? QWEN3_MOE.chosen,
    normalized: hub.norm_topk_prob ?? false,
    storage: 'each',
  };
}

/** Null = the usual one. */
function attentionScaleOf(hub: HubConfig, family: Family): number | null {
  if (family === 'gemma4') return 1;
  return isGemma(family) ? (hub.query_pre_attn_scalar ?? 256) ** -0.5 : null;
}

/** A field's value, which may be null; the usual one if the field is missing. */
const valueOr = (value: number | null | undefined, usual: number): number | null =>
  value === undefined ? usual : value;

const graniteOf = (hub: HubConfig): ReturnType<typeof graniteConstants> =>
  graniteConstants({
    embedding: hub.embedding_multiplier ?? 1,
    residual: hub.residual_multiplier ?? 1,
    attention: hub.attention_multiplier ?? 1,
    logits: hub.logits_scaling ?? 1,
    rmsEpsilon: hub.rms_norm_eps,
  });

/** Fields of `rope_scaling` or `rope_parameters`. */
type RopeFields = Readonly<Record<string, unknown>>;

function number(fields: RopeFields, key: string): number {
  const value = fields[key];
  if (typeof value !== 'number') throw new BaseModelError(`config.json: rope_scaling lacks ${key}`);
  return value;
}

/** `_compute_llama3_parameters` */
function llama3(fields: RopeFields, theta: number, dim: number): Float32Array {
  const factor = number(fields, 'factor');
  const low = number(fields, 'low_freq_factor');
  const high = number(fields, 'high_freq_factor');
  const original = number(fields, 'original_max_position_embeddings');
  return Float32Array.from({ length: dim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / dim);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Equal divisors: `_compute_linear_scaling_rope_parameters`. */
export const linearDivisors = (factor: number, dim: number): Float32Array =>
  new Float32Array(dim / 2).fill(factor);

/** LongRoPE's factor of cosine and sine, for a context `factor` times the original one. */
export const longRopeScale = (factor: number, original: number): number =>
  factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));

/** `_compute_longrope_parameters` for rows within the original context, the only ones served. */
function longRope(
  fields: RopeFields,
  dim: number,
  context: number,
  original: number,
): Pick<Rope, 'divisors' | 'scale'> {
  const short = fields['short_factor'];
  if (
    !Array.isArray(short) ||
    short.length !== dim / 2 ||
    !short.every((x) => typeof x === 'number' && x > 0)
  )
    throw new BaseModelError(`config.json: rope_scaling needs short_factor with ${dim / 2} numbers`);
  const factor = typeof fields['factor'] === 'number' ? fields['factor'] : context / original;
  const given = fields['attention_factor'];
  return {
    divisors: Float32Array.from(short as number[]),
    scale: typeof given === 'number' ? given : longRopeScale(factor, original),
  };
}

/**
 * YaRN (arXiv:2309.00071), as transformers' `_compute_yarn_parameters` and ggml's `rope_yarn`: frequencies that turn
 * more than `betaFast` times in the original context stay, those below `betaSlow` are divided by the factor.
 * @param given.rounds whether the borders between them are whole numbers.
 */
export function yarnDivisors(given: {
  theta: number;
  dim: number;
  factor: number;
  original: number;
  betaFast?: number | undefined;
  betaSlow?: number | undefined;
  rounds?: boolean;
}): Float32Array {
  const { theta, dim, factor, original, betaFast = 32, betaSlow = 1, rounds = true } = given;
  const turning = (times: number): number =>
    (dim * Math.log(original / (times * 2 * Math.PI))) / (2 * Math.log(theta));
  const [from, to] = [turning(betaFast), turning(betaSlow)];
  const low = Math.max(rounds ? Math.floor(from) : from, 0);
  const high = Math.min(rounds ? Math.ceil(to) : to, dim - 1);
  const width = low === high ? 0.001 : high - low;
  return Float32Array.from({ length: dim / 2 }, (_, i) => {
    const divided = Math.min(1, Math.max(0, (i - low) / width));
    return 1 / (divided / factor + (1 - divided));
  });
}

/** YaRN's factor of cosine and sine. */
export const yarnScale = (factor: number, weight = 1): number =>
  factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;

function yarn(
  fields: RopeFields,
  { theta, dim, context, original }: { theta: number; dim: number; context: number; original: number },
): { rope: Pick<Rope, 'divisors' | 'scale'>; context: number } {
  const given = (key: string): number | undefined =>
    typeof fields[key] === 'number' ? fields[key] : undefined;
  const factor = given('factor') ?? context / original;
  const [own, all] = [given('mscale'), given('mscale_all_dim')];
  // 0 is as good as nothing there.
  const scale = own && all ? yarnScale(factor, own) / yarnScale(factor, all) : yarnScale(factor);
  const divisors = yarnDivisors({
    ...{ theta, dim, factor, original, rounds: fields['truncate'] !== false },
    ...{ betaFast: given('beta_fast') || undefined, betaSlow: given('beta_slow') || undefined },
  });
  return {
    rope: { divisors, scale: given('attention_factor') ?? scale },
    // Ministral 3 multiplies q behind the original context, which is not done here.
    context: given('llama_4_scaling_beta')
      ? Math.min(context, original)
      : Math.max(context, Math.floor(original * factor)),
  };
}

/**
 * @param params.context tokens that the configuration allows. @param params.original those of training before
 * LongRoPE or YaRN.
 * @returns the positions, and the number of tokens for which they are valid.
 * @throws BaseModelError for unsupported kinds of scaling.
 */
function hubRope(params: {
  fields: RopeFields;
  theta: number;
  dim: number;
  context: number;
  original: number;
}): { rope: Rope; context: number } {
  const { fields, theta, dim, context, original } = params;
  const type = fields['rope_type'] ?? fields['type'] ?? 'default';
  const plain: Rope = { theta, dim, divisors: null, scale: 1 };
  switch (type) {
    case 'default':
      return { rope: plain, context };
    case 'llama3':
      return { rope: { ...plain, divisors: llama3(fields, theta, dim) }, context };
    case 'linear':
      return { rope: { ...plain, divisors: linearDivisors(number(fields, 'factor'), dim) }, context };
    case 'longrope':
    case 'su':
      return {
        rope: { ...plain, ...longRope(fields, dim, context, original) },
        context: Math.min(context, original),
      };
    case 'yarn': {
      const stretched = yarn(fields, { theta, dim, context, original });
      return { rope: { ...plain, ...stretched.rope }, context: stretched.context };
    }
    default:
      throw new BaseModelError(
        `the base uses rotary scaling "${String(type)}"; supported are default, linear, llama3, yarn and longrope`,
      );
  }
}
