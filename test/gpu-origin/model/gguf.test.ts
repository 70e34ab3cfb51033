import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BaseModel } from '../../../gpu-origin/model/base-model.ts';
import {
  blockFormat,
  dequantize,
  halfToNumber,
  GgufError,
  readGguf,
} from '../../../gpu-origin/model/gguf.ts';
import { loadFolderBase, idOfGgufFile, loadGgufBase } from '../../../gpu-origin/model/load-base.ts';
import { prepareWeights } from '../../../gpu-origin/model/prepare-weights.ts';
import {
  TINY_GEMMA4,
  TINY_GLM4,
  TINY_LLAMA,
  TINY_QWEN,
  TINY_SEEING,
  TINY_SHAPES,
  TINY_QWEN3_5,
  TINY_VARIANTS,
  writeTinyBase,
} from '../../fixtures/tiny-base.ts';
import { writeTinyGguf } from '../../fixtures/tiny-gguf.ts';
import { makeTinyRunner, prefillAll } from '../../fixtures/tiny-runner.ts';
import { encodeGguf, type GgufTensorInput } from '../../fixtures/write-gguf.ts';

const f32 = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
/** Long enough for a stretch to be seen. */
const TEXT = Array.from({ length: 64 }, (_, at) => 3 + ((7 * at + 3) % 256));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-gguf-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('block formats', () => {
  it.each([
    [0x3c00, 1],
    [0xc000, -2],
    [0x0001, 2 ** -24],
    [0x7c00, Infinity],
    [0x3555, 0.333251953125],
  ])('half %i is %f', (bits, value) => expect(halfToNumber(bits)).toBe(value));

  /** One block whose scale is 0.5 (0x3800) and, where there is one, minimum -1 (0xbc00); worked out by hand. */
  it.each([
    {
      type: 8,
      bytes: [0, 0x38, ...Array.from({ length: 32 }, (_, i) => (i - 16) & 255)],
      first: [-8, -7.5, -7],
      last: 7.5,
    },
    {
      type: 2,
      bytes: [0, 0x38, ...Array.from({ length: 16 }, () => 0x9f)],
      first: [3.5, 3.5, 3.5],
      last: 0.5,
    },
    {
      type: 3,
      bytes: [0, 0x38, 0, 0xbc, ...Array.from({ length: 16 }, () => 0x21)],
      first: [-0.5, -0.5, -0.5],
      last: 0,
    },
    {
      type: 6,
      bytes: [0, 0x38, 1, 0, 0, 0x80, ...Array.from({ length: 16 }, () => 0x21)],
      first: [0.5, -7.5, -7.5],
      last: 1,
    },
    {
      type: 7,
      bytes: [0, 0x38, 0, 0xbc, 1, 0, 0, 0x80, ...Array.from({ length: 16 }, () => 0x21)],
      first: [7.5, -0.5, -0.5],
      last: 8,
    },
  ])('ggml type $type', ({ type, bytes, first, last }) => {
    expect(bytes.length).toBe(blockFormat(type)!.bytes);
    const values = dequantize(type, Uint8Array.from(bytes));
    expect([...values.subarray(0, 3)]).toEqual(first);
    expect(values.at(-1)).toBe(last);
  });
});

describe('a base in GGUF', () => {
  it.each(Object.entries({ ...TINY_SHAPES, ...TINY_SEEING, ...TINY_VARIANTS }))(
    '%s has the configuration and weights of the Hugging Face folder that it was made from',
    async (name, shape) => {
      const hub = join(folder, name);
      writeTinyBase(hub, shape);
      const source = await loadFolderBase({ path: hub });
      const path = join(folder, 'Tiny-Base.F32.gguf');
      // Llama 3's frequencies lie in the file; Gemma's scale of q and every sixth layer are llama.cpp's own.
      const { divisors } = source.config.rope;
      const frequencies = {
        name: 'rope_freqs.weight',
        shape: [8],
        type: 0,
        data: f32(divisors ?? new Float32Array(8)),
      };
      writeTinyGguf(path, hub, shape, {
        metadata: name.startsWith('gemma3') ? { 'gemma3.attention.sliding_window_pattern': 3 } : {},
        tensors: name === 'llama3' ? [frequencies] : [],
      });
      const { base } = await loadGgufBase({ path });
      expect(base.id).toBe('tiny-base');
      const { rmsEpsilon, attentionScale, ...config } = base.config;
      expect(rmsEpsilon).toBeCloseTo(source.config.rmsEpsilon, 10);
      const { attentionScale: scale } = source.config;
      expect(attentionScale).toBe(/^gemma[23]/.test(name) ? 16 ** -0.5 : scale);
      const windows = source.config.attention.map((layer) => ({
        ...layer,
        // llama.cpp knows none of Mistral's.
        window: name === 'mistral' ? null : layer.window,
      }));
      const { experts } = source.config;
      const asStored = experts === null ? null : { ...experts, storage: 'stacked' };
      expect({ ...source.config, attention: windows, experts: asStored }).toMatchObject(config);
      const shapes = new Map<string, number[]>();
      for (const format of prepareWeights({
        base: {
          ...source,
          tensor(tensor, dims, columns) {
            shapes.set(tensor, [...dims]);
            const values = source.tensor(tensor, dims, columns);
            if (columns !== undefined) expect(base.tensor(tensor, dims, columns)).toEqual(values);
            return values;
          },
        },
        ...{ format: 'f32', context: 16, rotations: null, onLayer: () => undefined },
      }))
        expect(format.type).toBe('f32');
      expect(shapes.size).toBeGreaterThan(12);
      for (const [tensor, dims] of shapes) {
        const [got, wanted] = [base.tensor(tensor, dims), source.tensor(tensor, dims)];
        // Stored as their exponentials.
        if (!tensor.endsWith('A_log')) expect(got).toEqual(wanted);
        else got.forEach((value, head) => expect(value).toBeCloseTo(wanted[head]!, 6));
      }
      expect(() => base.tensor('model.norm.weight', [1])).toThrow(/has shape \[\d+\]; \[1\] is needed/);
      base.close();
      source.close();
    },
  );

  it.each([
    [
      'no kind and a factor',
      TINY_LLAMA,
      { 'llama.rope.scaling.factor': 4 },
      { rope_type: 'linear', factor: 4 },
    ],
    [
      'the older name of the factor',
      TINY_LLAMA,
      { 'llama.rope.scale_linear': 4 },
      { rope_type: 'linear', factor: 4 },
    ],
    [
      'both names of the factor',
      TINY_LLAMA,
      { 'llama.rope.scale_linear': 8, 'llama.rope.scaling.factor': 4 },
      { rope_type: 'linear', factor: 4 },
    ],
    [
      'the kind linear',
      TINY_QWEN,
      { 'qwen2.rope.scaling.type': 'linear', 'qwen2.rope.scaling.factor': 2.5 },
      { rope_type: 'linear', factor: 2.5 },
    ],
    [
      'the kind linear and the older name of the factor',
      TINY_QWEN,
      { 'qwen2.rope.scaling.type': 'linear', 'qwen2.rope.scale_linear': 2.5 },
      { rope_type: 'linear', factor: 2.5 },
    ],
    [
      'the kind none and a factor',
      TINY_LLAMA,
      { 'llama.rope.scaling.type': 'none', 'llama.rope.scaling.factor': 4 },
      undefined,
    ],
    ['a factor of 0', TINY_LLAMA, { 'llama.rope.scaling.factor': 0 }, undefined],
    ['the kind linear alone', TINY_LLAMA, { 'llama.rope.scaling.type': 'linear' }, undefined],
  ])('is stretched by %s, as the Hugging Face folder is', async (_, shape, metadata, rope_scaling) => {
    const stretched = { ...shape, config: { ...shape.config, rope_scaling } };
    const [hub, path] = [join(folder, 'stretched'), join(folder, 'stretched.gguf')];
    writeTinyBase(hub, shape);
    writeTinyGguf(path, hub, shape, { metadata });
    const gguf = await makeTinyRunner({ basePath: path, weights: 'f32' });
    const source = await makeTinyRunner({ shape: stretched, weights: 'f32' });
    const logits = await Promise.all(
      [gguf, source].map(({ runner }) => prefillAll(runner, 0, TEXT, [TEXT.length - 1])),
    );
    const farthest = logits[0]![0]!.reduce(
      (most, value, at) => Math.max(most, Math.abs(value - logits[1]![0]![at]!)),
      0,
    );
    // The norms' epsilon is a float32 in GGUF.
    expect(farthest).toBeLessThan(1e-3);
    await Promise.all([gguf.close(), source.close()]);
  });

  it('is stretched beside stored frequencies, as in llama.cpp', async () => {
    const [hub, path] = [join(folder, 'both'), join(folder, 'both.gguf')];
    writeTinyBase(hub, TINY_LLAMA);
    const tensors = [
      {
        name: 'rope_freqs.weight',
        shape: [8],
        type: 0,
        data: f32(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8)),
      },
    ];
    writeTinyGguf(path, hub, TINY_LLAMA, { metadata: { 'llama.rope.scale_linear': 2 }, tensors });
    const { base } = await loadGgufBase({ path });
    expect([...base.config.rope.divisors!]).toEqual([2, 4, 6, 8, 10, 12, 14, 16]);
    base.close();
  });

  it.each(['llama', 'qwen2', 'qwen3', 'smollm3'] as const)(
    'of %s has no window, which llama.cpp would ignore',
    async (name) => {
      const [hub, path] = [join(folder, 'window'), join(folder, 'window.gguf')];
      writeTinyBase(hub, TINY_SHAPES[name]);
      const metadata = { [`${name}.attention.sliding_window`]: 8 };
      writeTinyGguf(path, hub, TINY_SHAPES[name]!, { metadata });
      const { base } = await loadGgufBase({ path });
      expect(base.config.attention.every(({ window }) => window === null)).toBe(true);
      base.close();
    },
  );

  it('of Gemma has no local layers without a window', async () => {
    const [hub, path] = [join(folder, 'global'), join(folder, 'global.gguf')];
    writeTinyBase(hub, TINY_SHAPES.gemma3);
    writeTinyGguf(path, hub, TINY_SHAPES.gemma3!, { metadata: { 'gemma3.attention.sliding_window': 0 } });
    const { base } = await loadGgufBase({ path });
    expect(base.config.attention.map(({ rope }) => rope)).toEqual(['rope', 'rope', 'rope']);
    base.close();
  });

  it.each([
    [{ 'llama.rope.dimension_count': 8 }, /rope\.dimension_count is 8, a head has 16 numbers/],
    [{ 'llama.rope.scaling.type': 'yarn' }, /lacks llama\.rope\.scaling\.factor/],
    [
      {
        'llama.rope.scaling.type': 'yarn',
        'llama.rope.scaling.factor': 4,
        'llama.rope.scaling.yarn_ext_factor': 0.5,
      },
      /rope\.scaling\.yarn_ext_factor, which is not supported/,
    ],
    [{ 'llama.rope.scaling.type': 'longrope' }, /rotary scaling "longrope"/],
  ])('is refused with %j', async (metadata, message) => {
    const [hub, path] = [join(folder, 'part'), join(folder, 'part.gguf')];
    writeTinyBase(hub, TINY_LLAMA);
    writeTinyGguf(path, hub, TINY_LLAMA, { metadata });
    await expect(loadGgufBase({ path })).rejects.toThrow(message);
  });

  it.each([
    ['a GLM-4 that also sees', { 'glm4.rope.dimension_sections': [8, 12, 12, 0] }],
    ['a GLM-4 that predicts more than one token', { 'glm4.nextn_predict_layers': 1 }],
  ])('is refused as %s', async (_, metadata) => {
    const [hub, path] = [join(folder, 'glm4-part'), join(folder, 'glm4-part.gguf')];
    writeTinyBase(hub, TINY_GLM4);
    writeTinyGguf(path, hub, TINY_GLM4, { metadata });
    const [key] = Object.keys(metadata);
    await expect(loadGgufBase({ path })).rejects.toThrow(`metadata has ${key}, which is not supported`);
  });

  it('leaves out the layers of a Qwen3.5 that predict further tokens', async () => {
    const [hub, path] = [join(folder, 'further'), join(folder, 'further.gguf')];
    writeTinyBase(hub, TINY_QWEN3_5);
    const { layers } = TINY_QWEN3_5;
    writeTinyGguf(path, hub, TINY_QWEN3_5, {
      metadata: { 'qwen35.block_count': layers + 1, 'qwen35.nextn_predict_layers': 1 },
      tensors: [
        {
          name: `blk.${layers}.nextn.eh_proj.weight`,
          shape: [2, 2],
          type: 0,
          data: f32(new Float32Array(4)),
        },
      ],
    });
    const { base } = await loadGgufBase({ path });
    expect(base.config.layers).toBe(layers);
    base.close();
  });

  it.each([
    ['attention.shared_kv_layers', 'layer 2 shares keys and values of no layer of its kind'],
    ['expert_count', 'metadata has gemma4.expert_count, which is not supported'],
  ])('is refused as a Gemma 4 with %s', async (key, reason) => {
    const [hub, path] = [join(folder, 'gemma4-part'), join(folder, 'gemma4-part.gguf')];
    writeTinyBase(hub, TINY_GEMMA4);
    writeTinyGguf(path, hub, TINY_GEMMA4, { metadata: { [`gemma4.${key}`]: 2 } });
    await expect(loadGgufBase({ path })).rejects.toThrow(reason);
  });

  it.each([
    ['SmolLM2-135M-Instruct.Q4_1.gguf', 'smollm2-135m-instruct'],
    ['/x/Llama-3.2-1B-Instruct-Q4_K_M.gguf', 'llama-3.2-1b-instruct'],
    ['tiny.f16.gguf', 'tiny'],
    ['gemma-3-270m-q4_k_m.gguf', 'gemma-3-270m'],
    ['Qwen3-32B-Q8_0-00001-of-00002.gguf', 'qwen3-32b'],
  ])('%s is served as %s', (file, id) => expect(idOfGgufFile(file)).toBe(id));
});

describe('a base in GGUF that cannot be served', () => {
  const write = (metadata: Record<string, string | number>, tensors: GgufTensorInput[] = []): string => {
    const path = join(folder, 'refused.gguf');
    writeFileSync(path, encodeGguf(metadata, tensors));
    return path;
  };

  it('another architecture is called by its name, whatever its quantization', async () => {
    const quantized = { name: 't', shape: [256], type: 16, data: new Uint8Array(66) };
    await expect(
      loadGgufBase({ path: write({ 'general.architecture': 'gpt2' }, [quantized]) }),
    ).rejects.toThrow(
      "the base's architecture gpt2 is not supported; supported are llama, mistral3, granite, qwen2, qwen2vl, qwen3, qwen3vl, qwen3moe, qwen35, gemma2, gemma3, gemma4, olmo2, glm4, chatglm, smollm3, phi3",
    );
  });

  it('a quantization is called by its name', async () => {
    const metadata = {
      'general.architecture': 'llama',
      'llama.block_count': 1,
      'llama.context_length': 64,
      'llama.embedding_length': 256,
      'llama.feed_forward_length': 64,
      'llama.attention.head_count': 2,
      'llama.attention.layer_norm_rms_epsilon': 1e-5,
    };
    const path = write(metadata, [
      { name: 'token_embd.weight', shape: [4, 256], type: 16, data: new Uint8Array(4 * 66) },
    ]);
    await expect(loadGgufBase({ path })).rejects.toThrow(
      /refused\.gguf uses the quantization IQ2_XXS \(tensor token_embd\.weight\).*IQ4_XS/,
    );
  });
});

describe('a base in GGUF of several parts', () => {
  const hub = (): string => join(folder, 'parts');
  const named = (part: number): string => join(folder, `Split.F32-0000${part}-of-00002.gguf`);
  const written = (): Promise<{ base: BaseModel }> => {
    writeTinyBase(hub(), TINY_LLAMA);
    for (const part of [1, 2])
      writeTinyGguf(named(part), hub(), TINY_LLAMA, {
        metadata: { 'split.no': part - 1, 'split.count': 2, 'split.tensors.count': 20 },
        keep: (_name, at) => (part === 1 ? at < 9 : at >= 9),
      });
    return loadGgufBase({ path: named(1) });
  };

  it('is read by its first part', async () => {
    const { base } = await written();
    const source = await loadFolderBase({ path: hub() });
    expect(base.id).toBe('split');
    const [name, shape] = ['model.layers.1.mlp.down_proj.weight', [48, 96]] as const;
    expect(base.tensor(name, shape)).toEqual(source.tensor(name, shape));
    base.close();
    source.close();
  });

  it('is refused with the part that is missing, or by another part with the first one', async () => {
    (await written()).base.close();
    await expect(loadGgufBase({ path: named(2) })).rejects.toThrow(
      /part 2 of 2\. Give .*-00001-of-00002\.gguf/,
    );
    rmSync(named(2));
    await expect(loadGgufBase({ path: named(1) })).rejects.toThrow(/-00002-of-00002\.gguf is missing/);
  });
});

describe('hostile bytes', () => {
  const good = encodeGguf({ 'general.architecture': 'llama', list: ['a', 'b'], number: 3 }, [
    { name: 't', shape: [2, 32], type: 8, data: new Uint8Array(68) },
  ]);
  const open = (bytes: Uint8Array): void => {
    const path = join(folder, 'hostile.gguf');
    writeFileSync(path, bytes);
    readGguf(path).close();
  };
  const patched = (at: number, value: bigint): Uint8Array => {
    const bytes = good.slice();
    new DataView(bytes.buffer).setBigUint64(at, value, true);
    return bytes;
  };

  it('reads the good file', () => expect(() => open(good)).not.toThrow());

  it.each([
    [
      'not GGUF',
      new TextEncoder().encode('PK\x03\x04 this is a zip archive, not a model'),
      /not a GGUF file/,
    ],
    ['too short', good.subarray(0, 10), /too short/],
    ['a cut header', good.subarray(0, 60), /ends inside its header/],
    ['cut tensors', good.subarray(0, good.length - 64), /truncated/],
    ['a tensor count of 2^63', patched(8, 1n << 63n), /not plausible/],
    ['a million tensors', patched(8, 1_000_000n), /exceed the limit/],
    ['2^40 metadata entries', patched(16, 1n << 40n), /exceed the limit/],
    ['a key of 2^52 bytes', patched(24, 1n << 52n), /ends inside its header/],
  ])('%s', (_name, bytes, message) => {
    expect(() => open(bytes)).toThrow(GgufError);
    expect(() => open(bytes)).toThrow(message);
  });

  it('a file that ends early; the message names it', () => {
    expect(() => open(good.subarray(0, 60))).toThrow(/hostile\.gguf: /);
  });

  it('one flipped byte gives a GgufError or a file that can be read', () => {
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = good.slice();
        bytes[at]! ^= flip;
        try {
          open(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(GgufError);
        }
      }),
      { numRuns: 300, seed: 4 },
    );
  });
});
