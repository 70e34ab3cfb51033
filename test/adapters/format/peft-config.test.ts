import { describe, expect, it } from 'vitest';
import { MAX_CONFIG_CHARACTERS, readConfigObject } from '../../../adapters/read-adapter.ts';
import { parsePeftConfig as parse } from '../../../adapters/format/peft-config.ts';
import { peftConfig, Q, refusal, V } from '../make-adapter.ts';

const parsePeftConfig = (json: string, options: { path?: string } = {}) =>
  parse(readConfigObject(json, options), options);

describe('what is not a plain delta', () => {
  it('LoftQ has no conversion, unlike other initialisations', () => {
    const refused = (init: string) =>
      refusal('init_mutates_base', () => parsePeftConfig(peftConfig({ init_lora_weights: init }))).message;
    expect(refused('loftq')).toContain('Train on the plain base');
    expect(refused('loftq')).not.toContain('path_initial_model_for_weight_conversion');
    expect(refused('pissa')).toContain('path_initial_model_for_weight_conversion');
  });

  it.each([
    ['peft_type', 'VERA', 'not_lora'],
    ['peft_type', 'XLORA', 'not_lora'],
    ['peft_type', null, 'not_lora'],
    ['use_dora', true, 'dora'],
    ['alora_invocation_tokens', [1, -2], 'alora'],
    ['use_qalora', true, 'qalora'],
    ['use_bdlora', { target_modules_bd_a: ['q'] }, 'bdlora'],
    ['kasa_config', { beta: 1 }, 'kasa'],
    ['arrow_config', { top_k: 3 }, 'arrow'],
    ['monteclora_config', { n: 1 }, 'monteclora'],
    ['megatron_config', { tp: 2 }, 'megatron'],
    ['layer_replication', [[0, 4]], 'layer_replication'],
    ['modules_to_save', ['lm_head'], 'modules_to_save'],
    ['trainable_token_indices', [3], 'trainable_tokens'],
    ['target_parameters', ['mlp.experts.gate'], 'target_parameters'],
    ['lora_bias', true, 'lora_bias'],
    ['bias', 'lora_only', 'bias'],
    ['bias', 'all', 'bias'],
    ['init_lora_weights', 'pissa', 'init_mutates_base'],
    ['init_lora_weights', 'pissa_niter_16', 'init_mutates_base'],
    ['init_lora_weights', 'olora', 'init_mutates_base'],
    ['init_lora_weights', 'corda', 'init_mutates_base'],
    ['init_lora_weights', 'loftq', 'init_mutates_base'],
    ['init_lora_weights', 'lora_ga', 'init_mutates_base'],
    ['init_lora_weights', 'something new', 'init_mutates_base'],
    ['use_something_new', true, 'config_key_unknown'],
    ['r', 0, 'config_invalid'],
    ['r', null, 'config_invalid'],
    ['r', -8, 'config_invalid'],
    ['r', 1e400, 'config_invalid'],
    ['r', 2.5, 'config_invalid'],
    ['r', '8', 'config_invalid'],
    ['lora_alpha', '8', 'config_invalid'],
    ['lora_alpha', null, 'config_invalid'],
    ['use_rslora', 'yes', 'config_invalid'],
    ['rank_pattern', [1], 'config_invalid'],
    ['rank_pattern', { q_proj: 0 }, 'config_invalid'],
    ['rank_pattern', { q_proj: 2.5 }, 'config_invalid'],
    ['rank_pattern', { q_proj: null }, 'config_invalid'],
    ['rank_pattern', { q_proj: [8] }, 'config_invalid'],
    ['alpha_pattern', 'q_proj', 'config_invalid'],
    ['alpha_pattern', { q_proj: { v: 1 } }, 'config_invalid'],
    ['alpha_pattern', { q_proj: '1' }, 'config_invalid'],
    ['rank_pattern', { '(?=q)': 4 }, 'pattern_unsupported'],
    ['base_model_name_or_path', 7, 'config_invalid'],
  ] as const)('%s = %j: %s', (key, value, code) => {
    const error = refusal(code, () => parsePeftConfig(peftConfig({ [key]: value }), { path: 'c.json' }));
    expect(error.path).toBe('c.json');
    expect(error.message.length).toBeGreaterThan(20);
    if (code !== 'pattern_unsupported') expect(error.subject?.startsWith(key)).toBe(true);
  });

  it.each([
    ['text', 'config_invalid'],
    ['[]', 'config_invalid'],
    ['null', 'config_invalid'],
    ['{"peft_type":"LORA","r":NaN}', 'config_invalid'],
    ['{"peft_type":"LORA","use_dora":true,"use_dora":false}', 'duplicate_key'],
    ['{"peft_type":"LORA","rank_pattern":{"q":1,"q":2}}', 'duplicate_key'],
    ['{"peft_type":"LORA","__proto__":{"use_dora":true}}', 'config_key_unknown'],
    [' '.repeat(MAX_CONFIG_CHARACTERS + 1), 'config_invalid'],
  ] as const)('%.60j: %s', (json, code) => {
    refusal(code, () => parsePeftConfig(json));
  });

  it('prints untrusted text as printable ASCII of bounded length', () => {
    const { message, subject } = refusal('config_key_unknown', () =>
      parsePeftConfig(peftConfig({ ['\u001b[31m\u202e\n' + 'x'.repeat(10_000)]: 1 })),
    );
    expect(message).toMatch(/^[\x20-\x7e…]{1,500}$/);
    expect(subject).toMatch(/^[\x20-\x7e…]{1,200}$/);
  });
});

describe('accepted settings', () => {
  it('accepts features that are off in any way that PEFT writes', () => {
    const off = {
      use_dora: false,
      modules_to_save: null,
      layer_replication: [],
      loftq_config: {},
      use_bdlora: null,
    };
    const training = {
      lora_dropout: 0.1,
      target_modules: 'all-linear',
      velora_config: { a: 1 },
      // Only merging looks at it.
      fan_in_fan_out: true,
      a_new_key: null,
    };
    const config = parsePeftConfig(peftConfig({ ...off, ...training, init_lora_weights: 'gaussian' }));
    expect([config.rankOf(Q), config.alphaOf(Q), config.baseModel]).toEqual([2, 4, 'someone/Tiny-Llama']);
  });

  it('accepts every field of LoraConfig in PEFT 0.20 that is off, null or for training only', () => {
    // peft `tuners/lora/config.py` and `config.py`, as save_pretrained writes an adapter without extras.
    const saved = {
      ...{ alora_invocation_tokens: null, alpha_pattern: {}, arrow_config: null, auto_mapping: null },
      ...{ bias: 'none', corda_config: null, ensure_weight_tying: false, eva_config: { rho: 2 } },
      ...{ exclude_modules: null, fan_in_fan_out: false, inference_mode: true, init_lora_weights: 'eva' },
      ...{ kasa_config: null, layer_replication: null, layers_pattern: null, layers_to_transform: [0] },
      ...{ loftq_config: {}, lora_bias: false, lora_dropout: 0.05, lora_ga_config: null },
      ...{ megatron_config: null, megatron_core: 'megatron.core', modules_to_save: null },
      ...{ monteclora_config: null, peft_version: '0.20.1', qalora_group_size: 16, rank_pattern: {} },
      ...{ revision: null, runtime_config: { ephemeral_gpu_offload: false }, target_modules: ['q_proj'] },
      ...{ target_parameters: null, task_type: 'CAUSAL_LM', trainable_token_indices: null },
      ...{ use_bdlora: null, use_dora: false, use_qalora: false, use_rslora: false, velora_config: null },
    };
    expect(parsePeftConfig(peftConfig(saved)).rankOf(Q)).toBe(2);
  });

  it("accepts PEFT's defaults", () => {
    const config = parsePeftConfig('{"peft_type":"LORA"}');
    expect([config.rankOf(Q), config.alphaOf(Q), config.baseModel, config.useRslora]).toEqual([
      8,
      8,
      null,
      false,
    ]);
  });
});

describe('rank_pattern and alpha_pattern', () => {
  it('the first key in the file decides, even if it looks like an integer', () => {
    const config = parsePeftConfig(
      '{"peft_type":"LORA","rank_pattern":{".*q_proj":3,"layers.0.self_attn.q_proj":5,"1":7},"alpha_pattern":{"v_proj":9,"1":1}}',
    );
    expect([Q, V, 'model.1'].map(config.rankOf)).toEqual([3, 8, 7]);
    expect([Q, V, 'model.1'].map(config.alphaOf)).toEqual([8, 9, 1]);
    const swapped = parsePeftConfig(
      '{"peft_type":"LORA","rank_pattern":{"b.1":7,"1":6},"alpha_pattern":null}',
    );
    expect(['b.1', 'a.1'].map(swapped.rankOf)).toEqual([7, 6]);
  });

  it('stops when matching would take too long', () => {
    const patterns = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`(.*a){50}${i}`, 1]));
    const config = parsePeftConfig(peftConfig({ rank_pattern: patterns }));
    refusal('pattern_unsupported', () => config.rankOf('a'.repeat(256)));
  });
});
