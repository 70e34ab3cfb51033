import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../../../adapters/format/dtype.ts';
import { readGgufAdapter, writeGgufAdapter } from '../../../adapters/format/gguf-adapter.ts';
import { parseGgufHeader } from '../../../adapters/format/gguf.ts';
import { makeLoraModule, type LoraModule } from '../../../adapters/format/lora-module.ts';
import { filled, loraModule, refusal, tensor } from '../make-adapter.ts';

const ATTENTION = { heads: 3, kvHeads: 1 };
const Q = 'model.layers.0.self_attn.q_proj';
const V = 'model.layers.0.self_attn.v_proj';

const header = (bytes: Uint8Array) =>
  parseGgufHeader({ header: bytes, fileBytes: bytes.length, limits: { tensors: 100, values: 100 } })!;
const write = (modules: readonly LoraModule[], more: Partial<Parameters<typeof writeGgufAdapter>[0]> = {}) =>
  writeGgufAdapter({ modules, attention: ATTENTION, baseModel: null, ...more });
const readBack = (bytes: Uint8Array) => readGgufAdapter(bytes, { attention: ATTENTION });

/** scale * B A, row-major, in float64. */
function delta({ scale, rank, a, b }: LoraModule): number[] {
  const [inputs, outputs] = [a.shape[1]!, b.shape[0]!];
  const [x, y] = [toFloat32(a), toFloat32(b)];
  return Array.from({ length: outputs * inputs }, (_, at) => {
    const [row, column] = [Math.floor(at / inputs), at % inputs];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += y[row * rank + k]! * x[k * inputs + column]!;
    return scale * sum;
  });
}

describe('writeGgufAdapter', () => {
  it('writes what llama.cpp needs', () => {
    const { metadata, tensors } = header(
      write([loraModule(Q), loraModule(V, 2, 4, 2)], { baseModel: 'someone/Tiny-1.5' }),
    );
    expect([...metadata]).toEqual([
      ['general.architecture', 'llama'],
      ['general.type', 'adapter'],
      ['adapter.type', 'lora'],
      ['adapter.lora.alpha', 4],
      ['general.file_type', 0],
      ['general.base_model.count', 1],
      ['general.base_model.0.name', 'Tiny-1.5'],
      ['general.base_model.0.organization', 'someone'],
      ['general.base_model.0.repo_url', 'https://huggingface.co/someone/Tiny-1.5'],
    ]);
    expect([...tensors.values()].map(({ name, shape, type }) => [name, shape, type])).toEqual([
      ['blk.0.attn_q.weight.lora_a', [2, 4], 0],
      ['blk.0.attn_q.weight.lora_b', [6, 2], 0],
      ['blk.0.attn_v.weight.lora_a', [2, 4], 0],
      ['blk.0.attn_v.weight.lora_b', [2, 2], 0],
    ]);
  });

  it("lays the embedding's A by tokens, as llama.cpp looks them up, and reads it back", () => {
    const [embedding, head] = [loraModule('model.embed_tokens', 2, 5, 4), loraModule('lm_head', 2, 4, 5)];
    const bytes = write([embedding, head]);
    expect([...header(bytes).tensors.values()].map(({ name, shape }) => [name, shape])).toEqual([
      ['output.weight.lora_a', [2, 4]],
      ['output.weight.lora_b', [5, 2]],
      ['token_embd.weight.lora_a', [5, 2]],
      ['token_embd.weight.lora_b', [4, 2]],
    ]);
    const { modules } = readBack(bytes);
    expect(modules.map(({ name }) => name)).toEqual(['lm_head', 'model.embed_tokens']);
    expect(modules.map(delta)).toEqual([delta(head), delta(embedding)]);
  });

  it("writes Phi-3's fused layers under its names, and reads them back", () => {
    const modules = ['self_attn.qkv_proj', 'self_attn.o_proj', 'mlp.gate_up_proj', 'mlp.down_proj'].map(
      (path) => loraModule(`model.layers.0.${path}`),
    );
    const bytes = write(modules, { architecture: 'phi3', attention: null });
    expect([...header(bytes).tensors.keys()].filter((name) => name.endsWith('lora_a'))).toEqual(
      ['attn_output', 'attn_qkv', 'ffn_down', 'ffn_up'].map((name) => `blk.0.${name}.weight.lora_a`),
    );
    const read = readGgufAdapter(bytes, { attention: null }).modules;
    expect(read.map(({ name }) => name)).toEqual(modules.map(({ name }) => name).sort());
    for (const module of modules)
      expect(delta(read.find(({ name }) => name === module.name)!)).toEqual(delta(module));
    refusal('module_unknown', () => write([loraModule(Q)], { architecture: 'phi3' }));
  });

  it.each([
    ['someone/Tiny', 'someone/Tiny'],
    ['tiny-llama', 'tiny-llama'],
    ['/home/me/models/tiny', '/home/me/models/tiny'],
    [null, null],
  ])('the base %s is read back as %s', (baseModel, expected) => {
    expect(readBack(write([loraModule(Q)], { baseModel })).baseModel).toBe(expected);
  });

  it("writes the rows of q and k in a Llama's order, and Qwen's unchanged", () => {
    const b = tensor([8, 1], [0, 1, 2, 3, 4, 5, 6, 7]);
    const module = makeLoraModule({ name: Q, rank: 1, alpha: 1, a: filled(1, 4), b });
    const rows = (bytes: Uint8Array): number[] => {
      const { offset, bytes: size } = header(bytes).tensors.get('blk.0.attn_q.weight.lora_b')!;
      return [...new Float32Array(bytes.slice(offset, offset + size).buffer)];
    };
    const attention = { heads: 2, kvHeads: 1 };
    expect(rows(write([module], { attention }))).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
    expect(rows(write([module], { attention, architecture: 'qwen2' }))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(rows(write([module], { attention: null, architecture: 'qwen2' }))).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7,
    ]);
  });

  it('uses the alpha of most modules; the others have the quotient in B, exactly for powers of two', () => {
    const modules = [
      loraModule(Q, 2, 4, 6, 8),
      loraModule(V, 4, 4, 2, 2),
      loraModule('model.layers.0.self_attn.o_proj', 2, 4, 4, 8),
    ];
    const bytes = write(modules);
    expect(header(bytes).metadata.get('adapter.lora.alpha')).toBe(8);
    for (const [i, read] of readBack(bytes).modules.entries()) {
      const source = modules.toSorted((x, y) => (x.name < y.name ? -1 : 1))[i]!;
      expect(read.alpha).toBe(8);
      expect(delta(read)).toEqual(delta(source));
    }
  });

  it('is the same function when read back, whatever ranks and alphas the modules have', () => {
    const kinds = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'mlp.down_proj'];
    const shape = fc.record({
      heads: fc.constantFrom(1, 2, 3, 5, 9),
      kvHeads: fc.constantFrom(1, 2, 3),
      half: fc.integer({ min: 1, max: 3 }),
      modules: fc.array(
        fc.record({
          kind: fc.constantFrom(...kinds),
          layer: fc.nat(11),
          rank: fc.integer({ min: 1, max: 5 }),
          alpha: fc.constantFrom(1, 2, 16, 7, 8 * Math.sqrt(3), -3),
          seed: fc.nat(1_000),
        }),
        { minLength: 1, maxLength: 6 },
      ),
    });
    fc.assert(
      fc.property(shape, ({ heads, kvHeads, half, modules: wanted }) => {
        const named = new Map(wanted.map((one) => [`model.layers.${one.layer}.${one.kind}`, one]));
        const modules = [...named].map(([name, { kind, rank, alpha, seed }]) => {
          const rows = kind.endsWith('q_proj') ? heads * half * 2 : kvHeads * half * 2;
          const values = (count: number): number[] =>
            Array.from({ length: count }, (_, i) => Math.sin(seed + i * 1.7) / 3);
          const [a, b] = [tensor([rank, 5], values(rank * 5)), tensor([rows, rank], values(rows * rank))];
          return makeLoraModule({ name, rank, alpha, a, b });
        });
        const attention = { heads, kvHeads };
        const bytes = write(modules, { attention });
        expect(write(modules.toReversed(), { attention })).toEqual(bytes);
        const read = readGgufAdapter(bytes, { attention }).modules;
        expect(read.map(({ name, rank }) => [name, rank])).toEqual(
          modules.map(({ name, rank }) => [name, rank]).sort(([x], [y]) => (x! < y! ? -1 : 1)),
        );
        for (const module of read) {
          const source = modules.find(({ name }) => name === module.name)!;
          const expected = delta(source);
          const largest = Math.abs(source.scale) * source.rank;
          for (const [i, value] of delta(module).entries())
            expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(largest * 2 ** -23);
        }
      }),
      { numRuns: 100, seed: 7 },
    );
  });

  it('writes every type as F32, or as F16 on demand', () => {
    const module = makeLoraModule({
      name: V,
      rank: 2,
      alpha: 4,
      a: filled(2, 4, 'BF16'),
      b: filled(2, 2, 'BF16'),
    });
    for (const [dtype, type] of [
      ['F32', 0],
      ['F16', 1],
    ] as const) {
      const bytes = write([module], { dtype });
      expect([...header(bytes).tensors.values()].map((one) => one.type)).toEqual([type, type]);
      expect(header(bytes).metadata.get('general.file_type')).toBe(type);
      const [read] = readBack(bytes).modules;
      expect(read!.a.dtype).toBe(dtype);
      expect(delta(read!)).toEqual(delta(module));
    }
    const large = { ...module, b: tensor([2, 2], [1, 2, 3, 70_000]) };
    refusal('non_finite', () => write([large], { dtype: 'F16' }));
    expect(() => write([large])).not.toThrow();
  });

  it.each([
    ['embed_out', 'module_unknown'],
    ['model.layers.0.block_sparse_moe.gate', 'module_unknown'],
  ] as const)('%s: %s', (name, code) => {
    expect(refusal(code, () => write([loraModule(name)])).subject).toBe(name);
  });

  it('refuses rows that it cannot reorder', () => {
    refusal('base_needed', () => write([loraModule(Q)], { attention: null }));
    expect(() => write([loraModule(V)], { attention: null })).not.toThrow();
    refusal('shape_mismatch', () => write([loraModule(Q)], { attention: { heads: 4, kvHeads: 1 } }));
    refusal('architecture_unknown', () => write([loraModule(Q)], { architecture: 'phi2' }));
    refusal('empty_adapter', () => write([]));
  });
});
