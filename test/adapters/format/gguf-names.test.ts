import { describe, expect, it } from 'vitest';
import { ggufOfModule, moduleOfGguf, rotaryHeads } from '../../../adapters/format/gguf-adapter.ts';

describe('names of linear layers', () => {
  it.each([
    ['blk.0.attn_q.weight', 'model.layers.0.self_attn.q_proj'],
    ['blk.29.attn_k.weight', 'model.layers.29.self_attn.k_proj'],
    ['blk.1.attn_v.weight', 'model.layers.1.self_attn.v_proj'],
    ['blk.1.attn_output.weight', 'model.layers.1.self_attn.o_proj'],
    ['blk.125.ffn_gate.weight', 'model.layers.125.mlp.gate_proj'],
    ['blk.1.ffn_up.weight', 'model.layers.1.mlp.up_proj'],
    ['blk.1.ffn_down.weight', 'model.layers.1.mlp.down_proj'],
    ['token_embd.weight', 'model.embed_tokens'],
    ['output.weight', 'lm_head'],
  ])('%s is %s', (gguf, module) => {
    expect(moduleOfGguf(gguf, 'llama')).toBe(module);
    expect(ggufOfModule(module, 'llama')).toBe(gguf);
  });

  it.each(['qwen2vl', 'qwen3vl', 'mistral3'])('of %s are those of its text', (architecture) => {
    const module = 'model.language_model.layers.3.mlp.up_proj';
    expect(moduleOfGguf('blk.3.ffn_up.weight', architecture)).toBe(module);
    for (const name of [module, 'language_model.model.layers.3.mlp.up_proj', 'model.layers.3.mlp.up_proj'])
      expect(ggufOfModule(name, architecture)).toBe('blk.3.ffn_up.weight');
    expect(moduleOfGguf('token_embd.weight', architecture)).toBe('model.language_model.embed_tokens');
    expect(moduleOfGguf('output.weight', architecture)).toBe('lm_head');
  });

  it.each([
    'token_embd.bias',
    'output_norm.weight',
    'blk.0.attn_q.bias',
    'blk.0.attn_qkv.weight',
    'blk.0.ffn_gate_exps.weight',
    'blk.00.attn_q.weight',
    'blk.x.attn_q.weight',
    'blk.123456.attn_q.weight',
    'blk.0.__proto__.weight',
    'blk.0.constructor.weight',
    'xblk.0.attn_q.weight',
    '',
  ])('"%s" is unknown in GGUF', (name) => expect(moduleOfGguf(name, 'llama')).toBeNull());

  it.each([
    'transformer.wte',
    'model.lm_head',
    'model.layers.0.self_attn.qkv_proj',
    'model.layers.0.mlp.q_proj',
    'model.layers.01.self_attn.q_proj',
    'model.vision_tower.layers.0.self_attn.q_proj',
    'model.layers.0.constructor.constructor',
  ])('"%s" has no name in GGUF', (name) => expect(ggufOfModule(name, 'llama')).toBeNull());

  it.each([
    ['blk.0.attn_qkv.weight', 'model.layers.0.self_attn.qkv_proj'],
    ['blk.1.attn_output.weight', 'model.layers.1.self_attn.o_proj'],
    ['blk.1.ffn_up.weight', 'model.layers.1.mlp.gate_up_proj'],
    ['blk.1.ffn_down.weight', 'model.layers.1.mlp.down_proj'],
  ])('%s is %s in Phi-3', (gguf, module) => {
    expect(moduleOfGguf(gguf, 'phi3')).toBe(module);
    expect(ggufOfModule(module, 'phi3')).toBe(gguf);
  });

  it.each(['glm4', 'chatglm'])('gate and up are one layer in %s, and q, k and v are not', (architecture) => {
    for (const [gguf, module] of [
      ['blk.1.attn_q.weight', 'model.layers.1.self_attn.q_proj'],
      ['blk.1.ffn_up.weight', 'model.layers.1.mlp.gate_up_proj'],
    ] as const) {
      expect(moduleOfGguf(gguf, architecture)).toBe(module);
      expect(ggufOfModule(module, architecture)).toBe(gguf);
    }
    for (const gguf of ['blk.1.attn_qkv.weight', 'blk.1.ffn_gate.weight'])
      expect(moduleOfGguf(gguf, architecture)).toBeNull();
  });

  it('Phi-3 has no q, and no gate of its own', () => {
    for (const name of ['attn_q', 'ffn_gate'])
      expect(moduleOfGguf(`blk.0.${name}.weight`, 'phi3')).toBeNull();
  });

  it('q has all heads, k those of k and v, others stay', () => {
    const attention = { heads: 9, kvHeads: 3 };
    expect(rotaryHeads('model.layers.0.self_attn.q_proj', attention)).toBe(9);
    expect(rotaryHeads('model.layers.0.self_attn.k_proj', attention)).toBe(3);
    for (const kind of ['self_attn.v_proj', 'self_attn.o_proj', 'mlp.up_proj'])
      expect(rotaryHeads(`model.layers.0.${kind}`, attention)).toBeNull();
  });
});
