import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseSafetensors, writeSafetensors, type Tensor } from '../../../adapters/index.ts';
import type { BaseModel } from '../../../gpu-origin/model/base-model.ts';
import { neededTensors, loadFolderBase, loadGgufBase } from '../../../gpu-origin/model/load-base.ts';
import { prepareWeights } from '../../../gpu-origin/model/prepare-weights.ts';
import { TINY_LLAMA, TINY_SHAPES, writeTinyBase, type TinyShape } from '../../fixtures/tiny-base.ts';
import { writeGguf } from '../../fixtures/write-gguf.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-base-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const floats = (shape: number[], value = 0.25): Tensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(
    new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(value).buffer,
  ),
});

/** A tiny base, changed on disk. */
function changed(
  shape: TinyShape,
  change: { tensors?: (tensors: Map<string, Tensor>) => void; config?: Record<string, unknown> },
): Promise<BaseModel> {
  writeTinyBase(folder, shape);
  const [weights, config] = [join(folder, 'model.safetensors'), join(folder, 'config.json')];
  const tensors = new Map(parseSafetensors(readFileSync(weights)).tensors);
  change.tensors?.(tensors);
  writeFileSync(weights, writeSafetensors({ tensors }));
  writeFileSync(
    config,
    JSON.stringify({ ...(JSON.parse(readFileSync(config, 'utf8')) as object), ...change.config }),
  );
  return loadFolderBase({ path: folder });
}

function toBfloat16(tensors: Map<string, Tensor>): void {
  for (const [name, { shape, data }] of tensors) {
    const halves = Uint16Array.from(
      { length: data.length / 4 },
      (_, at) => data[4 * at + 2]! | (data[4 * at + 3]! << 8),
    );
    tensors.set(name, { dtype: 'BF16', shape, data: new Uint8Array(halves.buffer) });
  }
}

const LAYER = 'model.layers.1';
const { hidden, ffn } = TINY_LLAMA;

it('reads a base in bfloat16 wherever its header ends', async () => {
  // Not every writer pads the header to whole elements.
  (await changed(TINY_LLAMA, { tensors: toBfloat16 })).close();
  const weights = join(folder, 'model.safetensors');
  const file = readFileSync(weights);
  const end = 8 + Number(file.readBigUInt64LE(0));
  const header = file.toString('utf8', 8, end).trimEnd();
  const read = async (): Promise<Float32Array[]> => {
    const base = await loadFolderBase({ path: folder });
    const values = [
      base.tensor('model.norm.weight', [hidden]),
      base.tensor(`${LAYER}.mlp.up_proj.weight`, [ffn, hidden]),
    ];
    base.close();
    return values;
  };
  const expected = await read();
  for (let blanks = 0; blanks < 8; blanks++) {
    const json = Buffer.from(header + ' '.repeat(blanks));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(weights, Buffer.concat([length, json, file.subarray(end)]));
    expect(await read(), `${blanks} blanks`).toEqual(expected);
  }
});

describe('every tensor of a base is used', () => {
  it.each(Object.entries(TINY_SHAPES))(
    '%s: the list is what preparing the weights asks for',
    async (_name, shape) => {
      const base = await changed(shape, {});
      const asked = new Set<string>();
      const { fusedQkv, fusedGateUp, outputGate } = base.config;
      const fused = (name: string): string => {
        const queries = outputGate ? name.replace('.output_gate.', '.q_proj.') : name;
        const attention = fusedQkv ? queries.replace(/\.[qkv]_proj\./, '.qkv_proj.') : queries;
        return fusedGateUp ? attention.replace(/\.(gate|up)_proj\./, '.gate_up_proj.') : attention;
      };
      const recording: BaseModel = {
        ...base,
        tensor: (name, dims) => {
          asked.add(fused(name));
          return base.tensor(name, dims);
        },
      };
      const options = { format: 'f32', context: 16, rotations: null, onLayer: () => undefined } as const;
      for (const tensor of prepareWeights({ base: recording, ...options })) expect(tensor.name).not.toBe('');
      expect([...asked].sort()).toEqual([...neededTensors(base.config)].sort());
      base.close();
    },
  );

  it.each([
    ['a bias at o', `${LAYER}.self_attn.o_proj.bias`, hidden],
    ['a bias in the MLP', `${LAYER}.mlp.down_proj.bias`, hidden],
    ['a bias at q that the configuration does not know', `${LAYER}.self_attn.q_proj.bias`, hidden],
    ['scales of FP8', `${LAYER}.mlp.gate_proj.weight_scale`, ffn],
    ['norms of q', `${LAYER}.self_attn.q_norm.weight`, 16],
    ['one layer more than the configuration says', 'model.layers.2.input_layernorm.weight', hidden],
  ])('%s is refused by its name', async (_what, name, size) => {
    await expect(
      changed(TINY_LLAMA, { tensors: (tensors) => tensors.set(name, floats([size])) }),
    ).rejects.toThrow(name);
  });

  it('rotary frequencies may lie there', async () => {
    const name = `${LAYER}.self_attn.rotary_emb.inv_freq`;
    const base = await changed(TINY_LLAMA, { tensors: (tensors) => tensors.set(name, floats([8])) });
    base.close();
  });

  it('a head that is said to be the embedding is the embedding', async () => {
    const head = 'lm_head.weight';
    const copy = (tensors: Map<string, Tensor>) =>
      tensors.set(head, tensors.get('model.embed_tokens.weight')!);
    const same = await changed(TINY_LLAMA, { tensors: copy });
    expect(same.config.tiedHead).toBe(true);
    same.close();
    const trained = (tensors: Map<string, Tensor>) =>
      tensors.set(head, floats([...tensors.get('model.embed_tokens.weight')!.shape]));
    await expect(changed(TINY_LLAMA, { tensors: trained })).rejects.toThrow(
      /tie_word_embeddings.*lm_head\.weight differs/,
    );
    const own = await changed(TINY_LLAMA, { tensors: trained, config: { tie_word_embeddings: false } });
    expect(own.config.tiedHead).toBe(false);
    own.close();
  });

  it.each([
    [{ quant_method: 'bitsandbytes', load_in_4bit: true }, /quantized \(quantization_config, bitsandbytes\)/],
    [{ quant_method: 'fp8' }, /quantized \(quantization_config, fp8\)/],
  ])('quantization_config %j is refused', async (quantization_config, message) => {
    await expect(changed(TINY_LLAMA, { config: { quantization_config } })).rejects.toThrow(message);
  });

  it('FP8 is refused by the name of a tensor that has it', async () => {
    const name = `${LAYER}.mlp.up_proj.weight`;
    const f8 = { dtype: 'F8_E4M3' as const, shape: [ffn, hidden], data: new Uint8Array(ffn * hidden) };
    await expect(changed(TINY_LLAMA, { tensors: (tensors) => tensors.set(name, f8) })).rejects.toThrow(
      `${name} is F8_E4M3; F32, F16 and BF16 are supported`,
    );
  });

  it('a checkpoint in shards is read by its index, and what it lacks is named', async () => {
    (await changed(TINY_LLAMA, {})).close();
    const all = parseSafetensors(readFileSync(join(folder, 'model.safetensors'))).tensors;
    const shards = [1, 2].map((n) => `model-0000${n}-of-00002.safetensors`);
    const weight_map = Object.fromEntries([...all.keys()].map((name, at) => [name, shards[at % 2]!]));
    for (const shard of shards)
      writeFileSync(
        join(folder, shard),
        writeSafetensors({ tensors: new Map([...all].filter(([name]) => weight_map[name] === shard)) }),
      );
    // In another form beside it, as Mistral's consolidated.safetensors.
    rmSync(join(folder, 'model.safetensors'));
    writeFileSync(
      join(folder, 'consolidated.safetensors'),
      writeSafetensors({ tensors: new Map([['tok_embeddings.weight', floats([2])]]) }),
    );
    writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }));
    const base = await loadFolderBase({ path: folder });
    expect(base.tensor('model.norm.weight', [hidden])).toHaveLength(hidden);
    base.close();
    rmSync(join(folder, shards[1]!));
    await expect(loadFolderBase({ path: folder })).rejects.toThrow(`lacks ${shards[1]}, which`);
  });

  it('another family is called by its name, whatever its configuration lacks', async () => {
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ model_type: 'gpt2', n_embd: 768 }));
    await expect(loadFolderBase({ path: folder })).rejects.toThrow(
      'model_type gpt2 is not supported; supported are llama, mistral, ministral3, granite, qwen2, qwen3, qwen3_moe, qwen3_5_text, gemma2, gemma3_text, gemma4_text, olmo2, olmo3, glm, glm4, smollm3, phi3, qwen3_vl, qwen3_5, qwen2_5_vl, gemma3, gemma4, mistral3',
    );
  });

  it.each(['blk.0.attn_output.bias', 'blk.0.ffn_down.bias', 'blk.0.attn_q_norm.weight'])(
    'GGUF: %s is refused by its name',
    async (name) => {
      const path = join(folder, 'tiny.F32.gguf');
      const metadata = {
        'general.architecture': 'llama',
        'llama.block_count': 1,
        'llama.context_length': 64,
        'llama.embedding_length': 32,
        'llama.feed_forward_length': 64,
        'llama.attention.head_count': 2,
        'llama.attention.layer_norm_rms_epsilon': 1e-5,
      };
      const tensor = (stored: string, shape: number[]) => ({
        name: stored,
        shape,
        type: 0,
        data: floats(shape).data,
      });
      const embedding = tensor('token_embd.weight', [4, 32]);
      const gguf = (more: ReturnType<typeof tensor>[]) => {
        writeGguf(path, metadata, [embedding, ...more]);
        return loadGgufBase({ path });
      };
      const { base } = await gguf([tensor('rope_freqs.weight', [8])]);
      base.close();
      await expect(gguf([tensor(name, [32])])).rejects.toThrow(name);
    },
  );
});
