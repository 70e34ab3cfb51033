import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseSafetensors, writeSafetensors, type Tensor } from '../../../adapters/index.ts';
import { readHubConfig } from '../../../gpu-origin/model/hub-config.ts';
import { loadFolderBase, neededTensors } from '../../../gpu-origin/model/load-base.ts';
import { TINY_SEEING, type TinyShape, writeTinyBase } from '../../fixtures/tiny-base.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-seeing-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const path = (file: string): string => join(folder, file);
const readJson = (): Record<string, unknown> =>
  JSON.parse(readFileSync(path('config.json'), 'utf8')) as Record<string, unknown>;
const writeJson = (json: unknown): void => writeFileSync(path('config.json'), JSON.stringify(json));
function changeTensors(change: (tensors: Map<string, Tensor>) => Map<string, Tensor>): void {
  const file = path('model.safetensors');
  const tensors = new Map(parseSafetensors(readFileSync(file)).tensors);
  writeFileSync(file, writeSafetensors({ tensors: change(tensors) }));
}
const renamed = (from: string | RegExp, to: string): void =>
  changeTensors((tensors) => new Map([...tensors].map(([name, tensor]) => [name.replace(from, to), tensor])));

const BASES = Object.entries(TINY_SEEING);
const {
  gemma3_vl: GEMMA,
  mistral3: MISTRAL,
  qwen2_5_vl: QWEN2,
  qwen3_vl: QWEN3,
} = TINY_SEEING as Record<string, TinyShape> &
  Record<'gemma3_vl' | 'mistral3' | 'qwen2_5_vl' | 'qwen3_vl', TinyShape>;

describe('a model that also sees', () => {
  it.each(BASES)('%s is its text, wherever the tensors are stored', async (_, shape) => {
    const plain = { ...shape };
    delete plain.seeing;
    writeTinyBase(folder, plain);
    // Qwen2.5-VL's sections are its own.
    if (shape === QWEN2) writeJson({ ...readJson(), rope_scaling: null });
    const text = await loadFolderBase({ path: folder });
    const values = [...neededTensors(text.config)].map((name) => {
      const [, entry] = [...parseSafetensors(readFileSync(path('model.safetensors'))).tensors].find(
        ([own]) => own === name,
      )!;
      return [name, entry.shape, Buffer.from(text.tensor(name, entry.shape).buffer)] as const;
    });
    text.close();
    writeTinyBase(folder, shape);
    for (const prefix of [shape.seeing!.prefix, 'model.language_model.', 'language_model.model.']) {
      if (prefix !== shape.seeing!.prefix)
        changeTensors(
          (tensors) =>
            new Map(
              [...tensors].map(([name, tensor]) => [
                name.replace(/^(model\.language_model|language_model\.model|model(?!\.visual))\./, prefix),
                tensor,
              ]),
            ),
        );
      const base = await loadFolderBase({ path: folder });
      expect({ ...base.config, family: null }).toEqual({ ...text.config, family: null });
      for (const [name, dims, expected] of values)
        expect(Buffer.from(base.tensor(name, dims).buffer).equals(expected), name).toBe(true);
      base.close();
    }
  });

  it.each(BASES)('%s is refused with a tensor of anything else', async (_, shape) => {
    writeTinyBase(folder, shape);
    changeTensors((tensors) => tensors.set('audio_tower.proj.weight', [...tensors.values()][0]!));
    await expect(loadFolderBase({ path: folder })).rejects.toThrow('audio_tower.proj.weight');
  });

  it('is refused where a tensor of the text is there twice', async () => {
    writeTinyBase(folder, GEMMA);
    changeTensors((tensors) => {
      const [name] = [...tensors.keys()].filter((own) => own.includes('layers.0.mlp.up_proj'));
      return tensors.set(
        name!.replace('language_model.model.', 'model.language_model.'),
        tensors.get(name!)!,
      );
    });
    await expect(loadFolderBase({ path: folder })).rejects.toThrow('model.layers.0.mlp.up_proj.weight twice');
  });

  it('has its own head where one is stored, and the embedding where none is', async () => {
    writeTinyBase(folder, MISTRAL);
    const tied = async (): Promise<boolean> => {
      const base = await loadFolderBase({ path: folder });
      base.close();
      return base.config.tiedHead;
    };
    expect(await tied()).toBe(false);
    // What transformers writes for every Mistral3Config that says nothing.
    writeJson({ ...readJson(), tie_word_embeddings: true });
    expect(await tied()).toBe(false);
    changeTensors((tensors) => new Map([...tensors].filter(([name]) => !name.endsWith('lm_head.weight'))));
    expect(await tied()).toBe(true);
    writeJson({ ...readJson(), tie_word_embeddings: false });
    const base = await loadFolderBase({ path: folder });
    expect(() => base.tensor('lm_head.weight', [259, 48])).toThrow('the base lacks lm_head.weight');
    base.close();
  });

  it.each([
    [QWEN3, {}, 'config.json lacks text_config, which qwen3_vl needs'],
    [QWEN3, { model_type: 'qwen3_vl_moe_text' }, 'qwen3_vl with text_config.model_type qwen3_vl_moe_text'],
    [
      MISTRAL,
      { model_type: 'mistral4' },
      'text_config.model_type mistral4 is not supported; supported is mistral, ministral3',
    ],
    [MISTRAL, { model_type: '__proto__' }, 'text_config.model_type __proto__ is not supported'],
    [GEMMA, { use_bidirectional_attention: true }, 'bidirectional attention'],
    [GEMMA, { final_logit_softcapping: 30 }, 'logit soft caps'],
    [QWEN3, { attention_bias: true }, 'biases on o_proj'],
    [QWEN3, { rope_scaling: { rope_type: 'dynamic', factor: 2 } }, 'rotary scaling "dynamic"'],
  ])('is refused for its text: %#', async (shape, text, message) => {
    writeTinyBase(folder, shape);
    const json = readJson();
    const has = Object.keys(text).length > 0;
    writeJson({ ...json, text_config: has ? { ...(json['text_config'] as object), ...text } : undefined });
    await expect(loadFolderBase({ path: folder })).rejects.toThrow(message);
  });

  it('is refused when it is quantized', async () => {
    writeTinyBase(folder, MISTRAL);
    writeJson({ ...readJson(), quantization_config: { quant_method: 'fp8' } });
    await expect(loadFolderBase({ path: folder })).rejects.toThrow('quantization_config, fp8');
  });

  it('is refused under another name of the text', async () => {
    writeTinyBase(folder, QWEN3);
    renamed('model.language_model.', 'thinker.model.');
    await expect(loadFolderBase({ path: folder })).rejects.toThrow('thinker.model.');
  });
});

describe('a text_config', () => {
  it('lacks what is equal to the defaults (Gemma 3 4B)', () => {
    const text_config = {
      ...{ hidden_size: 2560, intermediate_size: 10_240, model_type: 'gemma3_text', num_hidden_layers: 34 },
      ...{ rope_scaling: { factor: 8, rope_type: 'linear' }, sliding_window: 1024 },
    };
    const { config } = readHubConfig({ model_type: 'gemma3', text_config, vision_config: {} }, false);
    expect(config).toMatchObject({
      ...{ family: 'gemma3', hidden: 2560, layers: 34, heads: 8, kvHeads: 4, headDim: 256, ffn: 10_240 },
      ...{ vocab: 262_208, context: 131_072, rmsEpsilon: 1e-6, attentionScale: 1 / 16, tiedHead: true },
    });
    expect(config.rope).toMatchObject({ theta: 1_000_000, dim: 256 });
    expect(config.rope.divisors?.[0]).toBe(8);
    expect(config.localRope).toMatchObject({ theta: 10_000, divisors: null });
    expect(config.attention.map(({ window }) => window).slice(0, 7)).toEqual([
      ...Array<number>(5).fill(1024),
      null,
      1024,
    ]);
  });

  it('of Qwen2.5-VL may be missing, and its sections of rotary positions make no difference', () => {
    const fields = {
      ...{ hidden_size: 2048, num_hidden_layers: 36, num_attention_heads: 16, num_key_value_heads: 2 },
      ...{
        intermediate_size: 11_008,
        vocab_size: 151_936,
        max_position_embeddings: 128_000,
        rms_norm_eps: 1e-6,
      },
      ...{ rope_theta: 1_000_000, rope_scaling: { type: 'mrope', mrope_section: [16, 24, 24] } },
      ...{ sliding_window: 32_768, use_sliding_window: false, max_window_layers: 70 },
    };
    const flat = { model_type: 'qwen2_5_vl', tie_word_embeddings: true, vision_config: {}, ...fields };
    const { config } = readHubConfig(flat, false);
    expect(config).toMatchObject({ family: 'qwen2vl', qkvBias: true, tiedHead: true, context: 128_000 });
    expect(config.rope).toEqual({ theta: 1_000_000, dim: 128, divisors: null, scale: 1 });
    expect(config.attention.every(({ window }) => window === null)).toBe(true);
    const text_config = { model_type: 'qwen2_5_vl_text', ...fields };
    expect(readHubConfig({ model_type: 'qwen2_5_vl', text_config }, false).config).toEqual(config);
    const sections = { ...fields, model_type: 'qwen2' };
    expect(() => readHubConfig(sections, false)).toThrow('rotary scaling "mrope"');
  });
});
