import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blockFormat, dequantize, halfToNumber } from '../../../gpu-origin/model/dequantize.ts';
import { GgufError, readGguf } from '../../../gpu-origin/model/gguf.ts';
import { loadFolderBase } from '../../../gpu-origin/model/load-folder-base.ts';
import { idOfGgufFile, loadGgufBase } from '../../../gpu-origin/model/load-gguf-base.ts';
import { TINY_LLAMA, TINY_VOCAB, tinyModules, writeTinyBase } from '../../fixtures/tiny-base.ts';
import { encodeGguf, type GgufTensorInput, writeGguf } from '../../fixtures/write-gguf.ts';

const f32 = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
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

describe('a llama in GGUF', () => {
  it('has the same weights as the Hugging Face folder that it was made from, rows of q and k un-permuted', async () => {
    const hub = join(folder, 'tiny-base');
    writeTinyBase(hub);
    const source = await loadFolderBase({ path: hub });
    const { hidden, headDim, layers } = TINY_LLAMA;
    const tensors: GgufTensorInput[] = [];
    const add = (
      name: string,
      from: string,
      shape: number[],
      change: (x: Float32Array) => Float32Array = (x) => x,
    ): void => {
      tensors.push({ name, shape, type: 0, data: f32(change(source.tensor(from, shape))) });
    };
    // What llama.cpp's converter does to q and k: per head, [2, headDim/2] rows become [headDim/2, 2].
    const permute =
      (columns: number) =>
      (x: Float32Array): Float32Array => {
        const out = new Float32Array(x.length);
        for (let row = 0; row < x.length / columns; row++) {
          const [head, inner] = [Math.floor(row / headDim), row % headDim];
          const to = head * headDim + (inner % (headDim / 2)) * 2 + Math.floor(inner / (headDim / 2));
          out.set(x.subarray(row * columns, (row + 1) * columns), to * columns);
        }
        return out;
      };
    add('token_embd.weight', 'model.embed_tokens.weight', [TINY_VOCAB, hidden]);
    add('output_norm.weight', 'model.norm.weight', [hidden]);
    const names: Record<string, string> = {
      q_proj: 'attn_q',
      k_proj: 'attn_k',
      v_proj: 'attn_v',
      o_proj: 'attn_output',
      gate_proj: 'ffn_gate',
      up_proj: 'ffn_up',
      down_proj: 'ffn_down',
    };
    for (let layer = 0; layer < layers; layer++) {
      add(`blk.${layer}.attn_norm.weight`, `model.layers.${layer}.input_layernorm.weight`, [hidden]);
      add(`blk.${layer}.ffn_norm.weight`, `model.layers.${layer}.post_attention_layernorm.weight`, [hidden]);
    }
    for (const [module, [inputs, outputs]] of tinyModules(TINY_LLAMA)) {
      const layer = module.split('.')[2];
      const kind = module.split('.').at(-1)!;
      const change = kind === 'q_proj' || kind === 'k_proj' ? permute(inputs) : undefined;
      add(`blk.${layer}.${names[kind]}.weight`, `${module}.weight`, [outputs, inputs], change);
    }
    const path = join(folder, 'Tiny-Base.F32.gguf');
    const key = (name: string): string => `llama.${name}`;
    writeGguf(
      path,
      {
        'general.architecture': 'llama',
        [key('block_count')]: layers,
        [key('context_length')]: TINY_LLAMA.context,
        [key('embedding_length')]: hidden,
        [key('feed_forward_length')]: TINY_LLAMA.ffn,
        [key('attention.head_count')]: TINY_LLAMA.heads,
        [key('attention.head_count_kv')]: TINY_LLAMA.kvHeads,
        [key('attention.layer_norm_rms_epsilon')]: 1e-5,
        [key('rope.freq_base')]: 10_000,
      },
      tensors,
    );
    const { base } = await loadGgufBase({ path });
    expect(base.id).toBe('tiny-base');
    const { rmsEpsilon, ...config } = base.config;
    expect(rmsEpsilon).toBeCloseTo(1e-5, 10);
    expect(source.config).toMatchObject(config);
    for (const [module, [inputs, outputs]] of tinyModules(TINY_LLAMA))
      expect(base.tensor(`${module}.weight`, [outputs, inputs])).toEqual(
        source.tensor(`${module}.weight`, [outputs, inputs]),
      );
    expect(() => base.tensor('model.norm.weight', [hidden + 1])).toThrow(
      /has shape \[48\], \[49\] is needed/,
    );
    base.close();
    source.close();
  });

  it.each([
    ['SmolLM2-135M-Instruct.Q4_1.gguf', 'smollm2-135m-instruct'],
    ['/x/Llama-3.2-1B-Instruct-Q4_K_M.gguf', 'llama-3.2-1b-instruct'],
    ['tiny.f16.gguf', 'tiny'],
  ])('%s is served as %s', (file, id) => expect(idOfGgufFile(file)).toBe(id));
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

  it('a tensor type that ggml has and that is not supported; the message names the file', () => {
    const quantized = { name: 't', shape: [256], type: 10, data: new Uint8Array(84) };
    expect(() => open(encodeGguf({}, [quantized]))).toThrow(/hostile\.gguf: tensor t has ggml type 10/);
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
