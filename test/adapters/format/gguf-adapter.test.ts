import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AdapterFormatError, type AdapterErrorCode } from '../../../adapters/errors.ts';
import { toFloat32 } from '../../../adapters/format/dtype.ts';
import { readAdapter, type LoraModule } from '../../../adapters/index.ts';
import { readGgufAdapter } from '../../../adapters/format/gguf-adapter.ts';
import { MAX_ADAPTER_TENSORS } from '../../../adapters/format/safetensors.ts';
import { encodeGguf, type GgufTensorInput } from '../../fixtures/write-gguf.ts';
import { ramp, refusal } from '../make-adapter.ts';

/** Heads of the base below: q has 8 rows, k and v 4, so a head has 4. */
const ATTENTION = { heads: 2, kvHeads: 1 };
const INPUTS = 4;
const RANK = 2;
const METADATA = {
  'general.architecture': 'llama',
  'general.type': 'adapter',
  'adapter.type': 'lora',
  'general.name': 'My Adapter',
  'adapter.lora.alpha': 4,
};

type Metadata = Parameters<typeof encodeGguf>[0];
const f32 = (values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const tensor = (name: string, shape: number[], start = 1): GgufTensorInput => ({
  name,
  shape,
  type: 0,
  data: f32(
    ramp(
      shape.reduce((a, b) => a * b, 1),
      start,
    ),
  ),
});
const pair = (layer: string, outputs: number, rank = RANK): GgufTensorInput[] => [
  tensor(`${layer}.lora_a`, [rank, INPUTS]),
  tensor(`${layer}.lora_b`, [outputs, rank], 3),
];
const TENSORS = [
  ...pair('blk.0.attn_v.weight', 4),
  ...pair('blk.0.attn_q.weight', 8),
  ...pair('blk.0.attn_k.weight', 4),
  ...pair('blk.0.ffn_down.weight', 3),
];
const file = (metadata: Metadata = {}, tensors: readonly GgufTensorInput[] = TENSORS): Uint8Array =>
  encodeGguf({ ...METADATA, ...metadata }, tensors);
const without = (key: keyof typeof METADATA): Uint8Array =>
  encodeGguf(Object.fromEntries(Object.entries(METADATA).filter(([name]) => name !== key)), TENSORS);
const read = (bytes: Uint8Array) => readGgufAdapter(bytes, { path: 'x.gguf', attention: ATTENTION });
const floats = (values: readonly number[], rows: number): number[][] =>
  Array.from({ length: rows }, (_, row) => values.slice(row * RANK, (row + 1) * RANK));

/** The head and the embedding among others, saved by PEFT and then converted by llama.cpp (test/fixtures/make-outer-reference.py). */
it("reads llama.cpp's own file of a head and an embedding as PEFT's folder", () => {
  const fixture = (name: string): Uint8Array =>
    new Uint8Array(readFileSync(new URL(`../../fixtures/peft-outer/${name}`, import.meta.url)));
  const peft = readAdapter({
    weights: fixture('untied/adapter_model.safetensors'),
    configJson: new TextDecoder().decode(fixture('untied/adapter_config.json')),
  });
  const { modules } = read(fixture('untied.gguf'));
  const values = ({ name, a, b }: LoraModule) => [name, a, b];
  expect(modules.map(({ name }) => name).slice(0, 2)).toEqual(['lm_head', 'model.embed_tokens']);
  expect(modules.map(values)).toEqual(peft.modules.map(values));
});

describe('reading what llama.cpp writes', () => {
  it('returns modules in Hugging Face names, sorted, scale = alpha / rank', () => {
    const { modules, warnings } = read(file());
    expect(
      modules.map(({ name, rank, alpha, scale, a, b }) => [name, rank, alpha, scale, a.shape, b.shape]),
    ).toEqual([
      ['model.layers.0.mlp.down_proj', 2, 4, 2, [2, 4], [3, 2]],
      ['model.layers.0.self_attn.k_proj', 2, 4, 2, [2, 4], [4, 2]],
      ['model.layers.0.self_attn.q_proj', 2, 4, 2, [2, 4], [8, 2]],
      ['model.layers.0.self_attn.v_proj', 2, 4, 2, [2, 4], [4, 2]],
    ]);
    expect(warnings).toEqual([]);
  });

  it("keeps each pair's own rank", () => {
    const { modules } = read(
      file({}, [...pair('blk.0.attn_v.weight', 4, 1), ...pair('blk.1.attn_v.weight', 4, 3)]),
    );
    expect(modules.map(({ rank, scale }) => [rank, scale])).toEqual([
      [1, 4],
      [3, 4 / 3],
    ]);
  });

  it('restores the order of the rows of q and k, and moves nothing else', () => {
    const b = Object.fromEntries(
      read(file()).modules.map(({ name, b }) => [name.slice(-6), floats([...toFloat32(b)], b.shape[0]!)]),
    );
    const stored = (rows: number): number[][] => floats(ramp(rows * RANK, 3), rows);
    // Stored per head: [row 0, row 2, row 1, row 3].
    const [q, k] = [stored(8), stored(4)];
    expect(b['q_proj']).toEqual([0, 2, 1, 3, 4, 6, 5, 7].map((row) => q[row]));
    expect(b['k_proj']).toEqual([0, 2, 1, 3].map((row) => k[row]));
    expect(b['v_proj']).toEqual(stored(4));
    expect([...toFloat32(read(file()).modules[2]!.a)]).toEqual(ramp(RANK * INPUTS));
  });

  it('keeps the rows of other architectures, without a base', () => {
    for (const architecture of ['qwen2', 'qwen3', 'gemma', 'gemma2', 'gemma3', 'olmo2', 'glm4', 'chatglm']) {
      const bytes = file({ 'general.architecture': architecture });
      const q = readGgufAdapter(bytes, { attention: null }).modules.find(({ name }) =>
        name.endsWith('q_proj'),
      )!;
      expect([...toFloat32(q.b)]).toEqual(ramp(16, 3));
    }
  });

  it('reads a Llama without a base, if neither q nor k is adapted', () => {
    const bytes = file({}, [...pair('blk.0.attn_v.weight', 4), ...pair('blk.0.ffn_up.weight', 5)]);
    expect(readGgufAdapter(bytes, { attention: null }).modules).toHaveLength(2);
    refusal('base_needed', () => readGgufAdapter(file(), { attention: null }));
  });

  it('uses a scale of 1 if alpha is 0 or missing, with a warning', () => {
    for (const bytes of [without('adapter.lora.alpha'), file({ 'adapter.lora.alpha': 0 })]) {
      const { modules, warnings } = read(bytes);
      expect(new Set(modules.map(({ scale }) => scale))).toEqual(new Set([1]));
      expect(warnings).toEqual([expect.stringMatching(/no alpha/)]);
    }
  });

  it.each([
    [{}, null],
    [
      { 'general.base_model.0.repo_url': 'https://huggingface.co/HuggingFaceTB/SmolLM2-135M' },
      'HuggingFaceTB/SmolLM2-135M',
    ],
    [
      { 'general.base_model.0.name': 'Smollm2 135M', 'general.base_model.0.organization': 'HuggingFaceTB' },
      'HuggingFaceTB/Smollm2-135M',
    ],
    [{ 'general.base_model.0.name': 'Smollm2 135M' }, 'Smollm2-135M'],
    [{ 'general.base_model.0.repo_url': 'https://example.com/a/b', 'general.base_model.0.name': 'B' }, 'B'],
    [{ 'general.base_model.0.name': 7 }, null],
  ])('the base of %j is %s', (metadata, expected) => {
    expect(read(file(metadata)).baseModel).toBe(expected);
  });

  it('keeps F16 and BF16; Q8_0 becomes F32', () => {
    const half = Uint8Array.from({ length: 16 }, (_, i) => (i % 2 === 0 ? 0 : 0x3c));
    const typed = (type: number): GgufTensorInput[] => [
      { name: 'blk.0.attn_v.weight.lora_a', shape: [2, 4], type, data: half },
      { name: 'blk.0.attn_v.weight.lora_b', shape: [4, 2], type, data: half },
    ];
    const bytes = file({}, typed(1));
    const [module] = read(bytes).modules;
    expect([module?.a.dtype, [...toFloat32(module!.a)]]).toEqual(['F16', Array(8).fill(1)]);
    expect(module!.a.data.buffer).toBe(bytes.buffer);
    expect(read(file({}, typed(30))).modules[0]!.a.dtype).toBe('BF16');

    // Two blocks a side; scales 0.5 (0x3800) and -2 (0xc000), values -16 … 15.
    const block = (...scale: number[]): number[] => [
      ...scale,
      ...Array.from({ length: 32 }, (_, i) => (i - 16) & 255),
    ];
    const quantized = Uint8Array.from([...block(0, 0x38), ...block(0, 0xc0)]);
    const [q8] = read(
      file({}, [
        { name: 'blk.0.attn_v.weight.lora_a', shape: [1, 64], type: 8, data: quantized },
        tensor('blk.0.attn_v.weight.lora_b', [4, 1]),
      ]),
    ).modules;
    expect(q8!.a.dtype).toBe('F32');
    expect([...toFloat32(q8!.a)]).toEqual(
      [0.5, -2].flatMap((d) => Array.from({ length: 32 }, (_, i) => (i - 16) * d)),
    );
  });

  it('reads A of rank 1 that a writer in C gave one dimension', () => {
    const tensors = [tensor('blk.0.attn_v.weight.lora_a', [4]), tensor('blk.0.attn_v.weight.lora_b', [4, 1])];
    expect(read(file({}, tensors)).modules[0]!.a.shape).toEqual([1, 4]);
  });
});

describe('refusals', () => {
  it.each([
    ['a model that says so', file({ 'general.type': 'model' })],
    [
      'a model of before that, with its vocabulary',
      file({ 'tokenizer.ggml.tokens': Array.from({ length: 70_000 }, (_, i) => `t${i}`) }),
    ],
  ])('%s is distinguished from an adapter', (_name, bytes) => {
    const { message } = refusal('not_lora', () => read(bytes));
    expect(message).toMatch(/a model, not an adapter.*--base/);
  });

  const more = (name: string, shape = [2, 4]): Uint8Array => file({}, [...TENSORS, tensor(name, shape)]);
  const only = (...tensors: GgufTensorInput[]): Uint8Array => file({}, tensors);
  const refused: [string, Uint8Array, AdapterErrorCode][] = [
    ['a model', file({ 'general.type': 'model' }), 'not_lora'],
    ['a file that does not say what it is', without('general.type'), 'not_lora'],
    ['another kind of adapter', file({ 'adapter.type': 'ia3' }), 'not_lora'],
    ['an invocation that is no list', file({ 'adapter.alora.invocation_tokens': 1 }), 'alora'],
    [
      'an architecture with other rows or names',
      file({ 'general.architecture': 'phi2' }),
      'architecture_unknown',
    ],
    ['no architecture', without('general.architecture'), 'architecture_unknown'],
    ['an alpha that is text', file({ 'adapter.lora.alpha': '16' }), 'metadata_invalid'],
    ['an alpha that is no number', file({ 'adapter.lora.alpha': NaN }), 'scale_invalid'],
    ['positions', more('position_embd.weight.lora_a'), 'module_unknown'],
    ['half a pair of the embedding', more('token_embd.weight.lora_a'), 'missing_pair'],
    [
      "an embedding that lies as a linear's",
      only(tensor('token_embd.weight.lora_a', [2, 6]), tensor('token_embd.weight.lora_b', [4, 2])),
      'rank_mismatch',
    ],
    ['q, k and v in one', more('blk.0.attn_qkv.weight.lora_a'), 'module_unknown'],
    ['a layer that is not known', more('blk.0.ssm_in.weight.lora_a'), 'module_unknown'],
    ['experts', more('blk.0.ffn_gate_exps.weight.lora_a'), 'expert_lora'],
    ['a norm', more('blk.0.attn_norm.weight', [4]), 'full_weight'],
    ['a whole weight', more('blk.0.attn_q.weight', [4, 4]), 'full_weight'],
    ['a tensor of something else', more('rope_freqs'), 'unknown_tensor'],
    ['no B', more('blk.1.attn_v.weight.lora_a'), 'missing_pair'],
    ['no A', more('blk.1.attn_v.weight.lora_b'), 'missing_pair'],
    ['no tensors', only(), 'empty_adapter'],
    [
      'another quantized type',
      only(
        { name: 'blk.0.attn_v.weight.lora_a', shape: [1, 32], type: 2, data: new Uint8Array(18) },
        tensor('blk.0.attn_v.weight.lora_b', [4, 1]),
      ),
      'dtype_unsupported',
    ],
    [
      'ranks that differ',
      only(tensor('blk.0.attn_v.weight.lora_a', [2, 4]), tensor('blk.0.attn_v.weight.lora_b', [4, 3])),
      'rank_mismatch',
    ],
    [
      'three dimensions',
      only(tensor('blk.0.attn_v.weight.lora_a', [2, 2, 4]), tensor('blk.0.attn_v.weight.lora_b', [2, 4, 2])),
      'shape_invalid',
    ],
    ['rows that are not whole heads', only(...pair('blk.0.attn_q.weight', 6)), 'shape_mismatch'],
    ['bytes after the last tensor', Uint8Array.from([...file(), 0]), 'trailing_bytes'],
    ['metadata of a whole tokenizer', file({ tokens: Array<number>(70_000).fill(1) }), 'not_lora'],
  ];
  it.each(refused)('%s', (_, bytes, code) => {
    expect(refusal(code, () => read(bytes)).path).toBe('x.gguf');
  });

  it('refuses more tensors than an adapter has', () => {
    const tensors = Array.from({ length: MAX_ADAPTER_TENSORS + 1 }, (_, i) => tensor(`t${i}`, [0]));
    refusal('too_many_tensors', () => read(only(...tensors)));
  });

  it('every truncated or corrupted file gives an AdapterFormatError or an adapter', () => {
    const good = file();
    for (let length = 0; length < good.length - 32; length++)
      refusal('truncated_file', () => read(good.slice(0, length)));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
        try {
          read(good.with(at, byte));
        } catch (error) {
          expect(error).toBeInstanceOf(AdapterFormatError);
        }
      }),
      { numRuns: 1_000, seed: 6 },
    );
  });
});
