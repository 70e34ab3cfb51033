import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { packAdapter, parseCanonical, type AdapterFiles } from '../../adapters/index.ts';
import {
  BASE_ID,
  kohyaFiles,
  mlxFiles,
  peftFiles,
  peftTensors,
  Q,
  refusalOf,
  tensor,
} from './make-adapter.ts';

const pack = (
  files: AdapterFiles = peftFiles(),
  parentChainId: string | null = null,
  dtype: 'keep' | 'BF16' = 'keep',
) => packAdapter({ files, baseId: BASE_ID, parentChainId, dtype });
const weights = (name: string) => `base_model.model.${Q}.lora_${name}.weight`;

describe('packAdapter', () => {
  it('returns the canonical file and its sha256', async () => {
    const packed = await pack();
    expect(packed.digest).toBe(createHash('sha256').update(packed.bytes).digest('hex'));
    expect(parseCanonical(packed.bytes)).toEqual({ config: packed.config, modules: packed.modules });
    expect(packed).toMatchObject({ rank: 2, warnings: [], config: { base: BASE_ID, parent: null } });
  });

  it('does not depend on what varies between two saves of one adapter', async () => {
    const { digest } = await pack();
    const shuffled = new Map(
      [...peftTensors()].reverse().map(([name, t]) => [name.replace('.weight', '.default.weight'), t]),
    );
    const other = {
      inference_mode: false,
      lora_dropout: 0.1,
      target_modules: ['v_proj', 'q_proj'],
      peft_version: '0.18',
    };
    expect((await pack(peftFiles(other, shuffled))).digest).toBe(digest);
    const patterns = { r: 64, lora_alpha: 1, rank_pattern: { '.*': 2 }, alpha_pattern: { '.*': 4 } };
    expect((await pack(peftFiles(patterns))).digest).toBe(digest);
  });

  it('depends on the parent, the scale and every value', async () => {
    const changed = peftTensors();
    changed.set(weights('A'), tensor([2, 4], [9, 1, 1, 1, 1, 1, 1, 1]));
    const all = [
      await pack(),
      await pack(peftFiles(), 'c'.repeat(64)),
      await pack(peftFiles({ lora_alpha: 5 })),
      await pack(peftFiles({}, changed)),
    ];
    expect(new Set(all.map(({ digest }) => digest)).size).toBe(4);
  });

  it('returns one file for one adapter, whatever its format', async () => {
    const packed = await pack();
    const mlx = await pack(mlxFiles());
    const kohya = await pack(kohyaFiles());
    expect([packed.format, mlx.format, kohya.format]).toEqual(['peft', 'mlx', 'kohya']);
    expect([mlx.digest, kohya.digest]).toEqual([packed.digest, packed.digest]);
    expect(kohya.warnings).toHaveLength(1);
  });

  describe('a canonical file', () => {
    const parent = 'c'.repeat(64);
    const again = async (dtype: 'keep' | 'BF16' = 'keep') => ({
      weights: (await pack(peftFiles(), parent, dtype)).bytes,
      configJson: null,
    });

    it('packs again to the same bytes', async () => {
      for (const dtype of ['keep', 'BF16'] as const) {
        const files = await again(dtype);
        const packed = await pack(files, parent, dtype);
        expect(packed.bytes).toEqual(files.weights);
        expect(packed).toMatchObject({ format: 'canonical', warnings: [] });
      }
    });

    it('is refused for another parent and another base', async () => {
      const files = await again();
      for (const other of [null, 'd'.repeat(64)]) {
        const { message } = await refusalOf('parent_mismatch', pack(files, other));
        expect(message).toContain(parent);
      }
      const error = await refusalOf(
        'base_mismatch',
        packAdapter({ files, baseId: 'gpt2', parentChainId: parent }),
      );
      expect(error).toMatchObject({ path: undefined, subject: 'base' });
    });
  });

  describe('dtype BF16', () => {
    it('rounds every tensor and keeps the rest', async () => {
      const [kept, half] = [await pack(), await pack(peftFiles(), null, 'BF16')];
      expect(half.config).toEqual(kept.config);
      expect(half.modules.flatMap(({ a, b }) => [a.dtype, b.dtype])).toEqual([
        'BF16',
        'BF16',
        'BF16',
        'BF16',
      ]);
      expect((await pack(peftFiles({}, peftTensors(2, 'BF16')))).digest).toBe(half.digest);
    });

    it('reports NaN as such, and refuses values lost by rounding', async () => {
      const nan = peftTensors().set(weights('A'), tensor([2, 4], [NaN, 1, 1, 1, 1, 1, 1, 1]));
      expect((await refusalOf('non_finite', pack(peftFiles({}, nan), null, 'BF16'))).message).toContain(
        'A contains',
      );
      const tiny = new Map(
        [...peftTensors()].map(([name, t]) => [
          name,
          { ...t, data: t.data.map((_, i) => (i % 4 === 0 ? 1 : 0)) },
        ]),
      );
      expect((await pack(peftFiles({}, tiny))).modules).toHaveLength(2);
      await refusalOf('no_op', pack(peftFiles({}, tiny), null, 'BF16'));
    });
  });

  it('names the configuration as the caller does', async () => {
    const files = { ...peftFiles({ base_model_name_or_path: 'gpt2' }), configPath: 'a/adapter_config.json' };
    expect((await refusalOf('base_mismatch', pack(files))).path).toBe('a/adapter_config.json');
  });

  describe('the base', () => {
    it.each(['tiny-llama', 'Tiny-Llama', 'a/tiny-llama', '/home/me/models/Tiny-Llama'])(
      '%s is the same',
      async (name) => {
        expect((await pack(peftFiles({ base_model_name_or_path: name }))).warnings).toEqual([]);
      },
    );
    it.each([null, '', '/home/me/checkpoint-50', './out', '../x/y', 'C:\\models\\x', 'a/b/c', '~/x'])(
      '%s gives a warning',
      async (name) => {
        expect((await pack(peftFiles({ base_model_name_or_path: name }))).warnings).toHaveLength(1);
      },
    );
    it.each(['tiny-llama-2', 'someone/else', 'gpt2'])('%s is refused', async (name) => {
      const error = await refusalOf('base_mismatch', pack(peftFiles({ base_model_name_or_path: name })));
      expect(error.message).toContain(name);
      expect(error.message).toContain(BASE_ID);
    });
  });

  it.each([NaN, Infinity, -Infinity])('refuses %s in A or B', async (value) => {
    const inA = peftTensors().set(weights('A'), tensor([2, 4], [1, 1, 1, value, 1, 1, 1, 1]));
    const inB = peftTensors().set(weights('B'), tensor([6, 2], [1, 1, 1, value, 1, 1, 1, 1, 1, 1, 1, 1]));
    expect((await refusalOf('non_finite', pack(peftFiles({}, inA)))).message).toContain('A contains');
    expect((await refusalOf('non_finite', pack(peftFiles({}, inB)))).message).toContain('B contains');
  });

  it('refuses values whose product leaves float32', async () => {
    const huge = peftTensors()
      .set(weights('A'), tensor([2, 4], new Array<number>(8).fill(1e20)))
      .set(weights('B'), tensor([6, 2], new Array<number>(12).fill(1e20)));
    await refusalOf('non_finite', pack(peftFiles({}, huge)));
  });

  it('refuses an adapter that changes nothing, but not one with a zero module', async () => {
    const zeros = (side: 'A' | 'B') =>
      new Map(
        [...peftTensors()].map(([name, t]) => [
          name,
          name.includes(`lora_${side}`) ? { ...t, data: new Uint8Array(t.data.length) } : t,
        ]),
      );
    await refusalOf('no_op', pack(peftFiles({}, zeros('B'))));
    await refusalOf('no_op', pack(peftFiles({}, zeros('A'))));
    const one = peftTensors().set(weights('B'), zeros('B').get(weights('B'))!);
    expect((await pack(peftFiles({}, one))).modules).toHaveLength(2);
  });
});
