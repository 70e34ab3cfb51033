import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readAdapter } from '../../../adapters/index.ts';
import { toFloat32 } from '../../../adapters/format/dtype.ts';
import { makeLoraModule, type LoraModule } from '../../../adapters/format/lora-module.ts';
import { parseSafetensors } from '../../../adapters/format/safetensors.ts';
import { writePeftAdapter } from '../../../adapters/format/peft-adapter.ts';
import { filled, loraModule, refusal, tensor } from '../make-adapter.ts';

const layer = (index: number, kind: string): string => `model.layers.${index}.self_attn.${kind}`;
const write = (modules: readonly LoraModule[], baseModel: string | null = 'someone/Tiny') =>
  writePeftAdapter({ modules, baseModel });
const configOf = (names: readonly string[]) =>
  JSON.parse(write(names.map((name) => loraModule(name))).configJson) as Record<string, unknown>;

describe('the configuration', () => {
  it('has one rank, scale 1 and no patterns', () => {
    const { configJson } = write([loraModule(layer(0, 'q_proj'), 2), loraModule(layer(0, 'v_proj'), 5)]);
    expect(JSON.parse(configJson)).toMatchObject({
      peft_type: 'LORA',
      base_model_name_or_path: 'someone/Tiny',
      r: 5,
      lora_alpha: 5,
      rank_pattern: {},
      alpha_pattern: {},
      use_rslora: false,
      use_dora: false,
      bias: 'none',
      target_modules: ['q_proj', 'v_proj'],
    });
    expect(configJson.endsWith('}\n')).toBe(true);
    expect(JSON.parse(write([loraModule()], null).configJson)).toMatchObject({
      base_model_name_or_path: null,
    });
  });

  it.each([
    [
      'the same in every layer',
      [layer(0, 'v_proj'), layer(0, 'q_proj'), layer(1, 'q_proj'), layer(1, 'v_proj')],
      ['q_proj', 'v_proj'],
    ],
    ['eleven layers', Array.from({ length: 11 }, (_, i) => layer(i, 'q_proj')), ['q_proj']],
    ['one that a layer has not', [layer(0, 'q_proj'), layer(0, 'v_proj'), layer(1, 'q_proj')], null],
    ['others in another layer', [layer(0, 'q_proj'), layer(1, 'v_proj')], null],
    ['a gap', [layer(0, 'q_proj'), layer(2, 'q_proj')], null],
    ['not from the first layer on', [layer(1, 'q_proj'), layer(2, 'q_proj')], null],
    [
      'those outside the layers',
      ['lm_head', 'model.embed_tokens', layer(0, 'q_proj'), layer(1, 'q_proj')],
      ['embed_tokens', 'lm_head', 'q_proj'],
    ],
    ['the head alone', ['lm_head'], null],
    ['another one outside the layers', ['embed_out', layer(0, 'q_proj')], null],
    ['two stacks', ['a.layers.0.q_proj', 'b.layers.1.q_proj'], null],
  ])('target_modules: %s', (_, names, expected) => {
    expect(configOf(names)['target_modules']).toEqual(expected ?? names.toSorted());
  });
});

describe('the tensors', () => {
  it('are named and padded with zeros, the scale in B', () => {
    const wide = loraModule(layer(0, 'q_proj'), 3, 2, 2, 3);
    const narrow = makeLoraModule({
      name: layer(0, 'v_proj'),
      rank: 1,
      alpha: 0.5,
      a: tensor([1, 2], [3, -5]),
      b: tensor([2, 1], [4, 6]),
    });
    const { metadata, tensors } = parseSafetensors(write([narrow, wide]).safetensors);
    expect([...metadata]).toEqual([['format', 'pt']]);
    expect([...tensors.keys()]).toEqual(
      ['q_proj', 'v_proj'].flatMap((kind) =>
        ['A', 'B'].map((side) => `base_model.model.${layer(0, kind)}.lora_${side}.weight`),
      ),
    );
    const [a, b] = ['A', 'B'].map((side) =>
      tensors.get(`base_model.model.${narrow.name}.lora_${side}.weight`)!,
    );
    expect([a!.shape, [...toFloat32(a!)]]).toEqual([
      [3, 2],
      [3, -5, 0, 0, 0, 0],
    ]);
    expect([b!.shape, [...toFloat32(b!)]]).toEqual([
      [2, 3],
      [2, 0, 0, 3, 0, 0],
    ]);
  });

  it('of the embedding have the names that PEFT gives them, and are read back', () => {
    const given = [loraModule('lm_head', 2, 4, 9), loraModule('model.embed_tokens', 3, 9, 4)];
    const { safetensors, configJson } = write(given);
    const shapes = [...parseSafetensors(safetensors).tensors].map(([name, { shape }]) => [name, shape]);
    expect(Object.fromEntries(shapes)).toEqual({
      'base_model.model.lm_head.lora_A.weight': [3, 4],
      'base_model.model.lm_head.lora_B.weight': [9, 3],
      'base_model.model.model.embed_tokens.lora_embedding_A': [3, 9],
      'base_model.model.model.embed_tokens.lora_embedding_B': [4, 3],
    });
    const { modules } = readAdapter({ weights: safetensors, configJson });
    expect(modules.map(({ name, scale }) => [name, scale])).toEqual([
      ['lm_head', 1],
      ['model.embed_tokens', 1],
    ]);
  });

  it('are F32 whatever they were', () => {
    const module = makeLoraModule({
      name: 'm',
      rank: 2,
      alpha: 2,
      a: filled(2, 4, 'BF16'),
      b: filled(3, 2, 'BF16'),
    });
    const { tensors } = parseSafetensors(write([module]).safetensors);
    expect([...tensors.values()].map(({ dtype }) => dtype)).toEqual(['F32', 'F32']);
    expect([...toFloat32([...tensors.values()][0]!)]).toEqual([...toFloat32(module.a)]);
  });
});

it('is the same function when read back, whatever ranks and alphas the modules have', () => {
  const modules = fc.uniqueArray(
    fc.record({
      kind: fc.constantFrom('q_proj', 'k_proj', 'v_proj'),
      layer: fc.nat(2),
      rank: fc.integer({ min: 1, max: 6 }),
      alpha: fc.constantFrom(1, 2, 16, 7, 8 * Math.sqrt(3), -3),
      seed: fc.nat(1_000),
    }),
    { minLength: 1, maxLength: 6, selector: (one) => `${one.layer}.${one.kind}` },
  );
  fc.assert(
    fc.property(modules, (wanted) => {
      const given = wanted.map(({ kind, layer: index, rank, alpha, seed }) => {
        const values = (count: number): number[] =>
          Array.from({ length: count }, (_, i) => Math.sin(seed + i * 1.7));
        const [a, b] = [tensor([rank, 4], values(rank * 4)), tensor([3, rank], values(3 * rank))];
        return makeLoraModule({ name: layer(index, kind), rank, alpha, a, b });
      });
      const files = write(given);
      expect(write(given.toReversed())).toEqual(files);
      const read = readAdapter({ weights: files.safetensors, configJson: files.configJson });
      expect([read.format, read.baseModel, read.modules.length]).toEqual([
        'peft',
        'someone/Tiny',
        given.length,
      ]);
      const largest = Math.max(...given.map(({ rank }) => rank));
      for (const module of read.modules) {
        const source = given.find(({ name }) => name === module.name)!;
        expect([module.rank, module.scale]).toEqual([largest, 1]);
        const [a, b] = [toFloat32(module.a), toFloat32(module.b)];
        const sourceB = toFloat32(source.b);
        expect([...a.subarray(0, source.rank * 4)]).toEqual([...toFloat32(source.a)]);
        expect(a.subarray(source.rank * 4).every((value) => value === 0)).toBe(true);
        for (const [i, value] of b.entries()) {
          const [row, column] = [Math.floor(i / largest), i % largest];
          const exact = column < source.rank ? source.scale * sourceB[row * source.rank + column]! : 0;
          expect(Math.abs(value - exact)).toBeLessThanOrEqual(Math.abs(exact) * 2 ** -24);
        }
      }
    }),
    { numRuns: 100, seed: 8 },
  );
});

it('refuses an adapter without modules, and scales beyond float32', () => {
  refusal('empty_adapter', () => write([]));
  const module = { ...loraModule(), b: filled(6, 2) };
  refusal('non_finite', () => write([{ ...module, b: tensor([6, 2], Array<number>(12).fill(3e38)) }]));
});
