import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { buildGraphs } from '../../../gpu-origin/model/build-graphs.ts';
import { loadFolderBase } from '../../../gpu-origin/model/load-base.ts';
import { fittingRows, planMemory, sayGpuMemory, sayMemory } from '../../../gpu-origin/runtime/memory-plan.ts';
import { WEIGHT_FORMATS } from '../../../gpu-origin/model/prepare-weights.ts';
import { createRunner } from '../../../gpu-origin/runtime/create-runner.ts';
import { TINY_LLAMA, writeTinyBase } from '../../fixtures/tiny-base.ts';

/** SmolLM2-135M; its weights.bin has 250,755,328 bytes, of which the rotary tables take 4,194,304. */
const SMOLLM2 = {
  ...{ hidden: 576, layers: 30, heads: 9, kvHeads: 3, headDim: 64, ffn: 1_536, vocab: 49_152 },
  ...{ outputGate: false, deltaNet: null, experts: null, layerEmbedding: null },
} as Parameters<typeof planMemory>[0];
const GIB = 2 ** 30;

it('estimates what SmolLM2 takes', () => {
  const plan = planMemory(SMOLLM2, { format: 'int8', rows: 32, context: 8_192 });
  expect(plan.weights).toBeGreaterThan(0.99 * (250_755_328 - 4_194_304));
  expect(plan.weights).toBeLessThan(1.01 * (250_755_328 - 4_194_304));
  // 2 x 32 rows x 30 layers x 3 heads x 64 x 8,192 tokens x 4 bytes.
  expect(plan.keysAndValues).toBe(12_079_595_520);
  const given = {
    format: 'int8' as const,
    precision: 'f32' as const,
    slots: 16,
    swapSlots: 16,
    context: 8_192,
    kvTokens: 32 * 8_192,
    adapterBytes: GIB,
    prefixBytes: 0,
  };
  const said = sayMemory(plan, { ...given, available: 24e9 });
  expect(said).toBe(
    'memory: 1.0 GB for the base (int8), up to 12.1 GB for keys and values (16 rows of 8,192 tokens, and as many preempted), up to 1.1 GB for adapters; 24.0 GB available',
  );
  expect(sayMemory(plan, { ...given, prefixBytes: GIB / 4, available: 24e9 })).toContain(
    ', up to 1.1 GB for adapters, up to 0.3 GB for prompts that are reused; ',
  );
  expect(sayMemory(plan, { ...given, available: 8e9 })).toMatch(
    /8\.0 GB available\. This is more than is available: .* --slots/,
  );
  // Rows are let in as there is memory for their tokens.
  expect(sayMemory(plan, { ...given, kvTokens: 100_000, available: 8e9 })).toBe(
    'memory: 1.0 GB for the base (int8), up to 4.6 GB for keys and values (16 rows of up to 8,192 tokens, and as many preempted, 100,000 tokens in total), up to 1.1 GB for adapters; 8.0 GB available',
  );
});

it('keeps 64 rows of 2,000 tokens in at most 0.3 of the memory with int8 keys and values', () => {
  const of = (kv: 'int8' | 'f32') =>
    planMemory(SMOLLM2, { format: 'int8', kv, rows: 64, context: 2_000 }).keysAndValues;
  // A quarter, and one row in float32 that is read.
  expect(of('int8')).toBe(of('f32') / 4 + of('f32') / 64);
  expect(of('int8')).toBeLessThan(0.3 * of('f32'));
});

it('estimates 4 bit: the layers at 0.64 bytes a weight and 0.75 in the packed copy, the head in int8', () => {
  const of = (format: 'int8' | 'int4') => planMemory(SMOLLM2, { format, rows: 1, context: 8_192 });
  // 106,168,320 weights in the layers, each layer with 5,184 outputs that int8 has a scale for.
  const [layers, scales] = [106_168_320, 30 * 5_184 * 4];
  expect(of('int8').weights - of('int4').weights).toBe(layers * (1 - 0.640625) + scales);
  // Measured: 640 and 572 MB resident.
  expect(of('int8').serving - of('int4').serving).toBe(layers * (2 - 1.390625) + scales);
});

it('estimates what a GPU holds: no second copy, a scale for each 32 weights, keys and values of every row', () => {
  const plan = planMemory(SMOLLM2, { format: 'int8', flavour: 'gpu', rows: 21, context: 2_304, sessions: 3 });
  // 134,479,872 weights in products, the embedding in float32.
  expect(plan.session).toBe(134_479_872 * 1.125 + 49_152 * 576 * 4);
  expect(plan.session).toBe(plan.weights);
  const halves = planMemory(SMOLLM2, {
    ...{ format: 'int8', flavour: 'gpu', precision: 'f16', rows: 21, context: 2_304 },
  });
  expect(halves.keysAndValues).toBe(plan.keysAndValues / 2);
  // The head's scales stay in float32.
  expect(halves.session).toBe(106_168_320 * 1.0625 + 28_311_552 * 1.125 + 49_152 * 576 * 2);
  expect(halves.weights).toBe(plan.weights);
  const given = {
    format: 'int8' as const,
    precision: 'f32' as const,
    slots: 16,
    swapSlots: 4,
    context: 2_304,
    sessions: 3,
    available: 8e9,
  };
  expect(sayGpuMemory(plan, given)).toBe(
    'GPU memory: 0.3 GB for the base (int8, once for each of 3 graphs), 2.2 GB for keys and values in float32 (16 rows of 2,304 tokens, 4 preempted, and one that is read), and the adapters of the rows. If the GPU has less, use fewer --slots or a shorter --context',
  );
  expect(sayGpuMemory({ ...plan, states: 4e8 }, given)).toContain(
    ', 0.4 GB for states of linear attention, and the adapters of the rows. ',
  );
  expect(() => sayGpuMemory(plan, { ...given, available: 5e8 })).toThrow(
    /Use a smaller base, --weights int4/,
  );
});

it('estimates embeddings of each layer: beside the GPU in bytes, but for their scales', () => {
  const own = 30 * 64;
  const of = (format: 'int8' | 'f32') => {
    const given = { format, flavour: 'gpu', rows: 1, context: 1 } as const;
    const [plan, without] = [
      planMemory({ ...SMOLLM2, layerEmbedding: 64 }, given),
      planMemory(SMOLLM2, given),
    ];
    // Their linears: a projection of all layers, and two of each.
    const linears = 3 * 576 * own * (format === 'int8' ? 1.125 : 4);
    return [plan.session - without.session - linears, plan.serving - without.serving];
  };
  expect(of('int8')).toEqual([49_152 * 30 * 4, 49_152 * own]);
  expect(of('f32')).toEqual([49_152 * own * 4, 0]);
});

it('estimates what is written, and refuses a base that does not fit before anything is built', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-memory-'));
  try {
    const basePath = path.join(folder, 'base');
    writeTinyBase(basePath, TINY_LLAMA);
    for (const [format, flavour] of WEIGHT_FORMATS.flatMap((each) => [
      [each, 'cpu'] as const,
      [each, 'gpu'] as const,
    ])) {
      const base = await loadFolderBase({ path: basePath, id: undefined });
      const cacheDir = path.join(folder, `${format}-${flavour}`);
      const { context } = base.config;
      const built = await buildGraphs({
        ...{ base, format, flavour, context, rotate: format !== 'f32', cacheDir },
        onProgress: () => undefined,
      });
      const { weights } = planMemory(base.config, { format, flavour, rows: 1, context });
      const written = built.weights.reduce((sum, { bytes }) => sum + bytes, 0);
      base.close();
      // Rotations, rotary tables and gains are small, but not beside a tiny base.
      expect(weights).toBeLessThanOrEqual(written);
      expect(weights).toBeGreaterThan(written / 3);
      expect(statSync(built.weightsPath).size).toBeGreaterThanOrEqual(written);
    }
    const cacheDir = path.join(folder, 'refused');
    const refused = createRunner({
      ...{ basePath, baseId: 'tiny', weights: 'f32', slots: 1, threads: 1, cacheDir, memoryBytes: 1e6 },
      onProgress: () => expect.unreachable('it was prepared'),
      onNotice: () => undefined,
    });
    await expect(refused).rejects.toThrow(
      /this base takes 0\.5 GB of memory with f32 weights, but only 0\.0 GB are available. Use a smaller base, --weights int8 or a larger machine/,
    );
    expect(statSync(cacheDir, { throwIfNoEntry: false })).toBeUndefined();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

it('counts embeddings of each layer, and keys and values only of layers that keep their own', () => {
  // Gemma 4 E2B: 35 layers, of which the last 20 read keys and values of others.
  const layerSizes = Array.from({ length: 35 }, (_, layer) => ({
    ...{ kvHeads: 1, headDim: layer % 5 === 4 ? 512 : 256, ffn: layer < 15 ? 6_144 : 12_288 },
    ...{ keysAreValues: false, keysOf: layer < 15 ? null : 13 + Number(layer % 5 === 4) },
  }));
  const base = {
    ...{ hidden: 1_536, layers: 35, heads: 8, kvHeads: 1, headDim: 256, ffn: 6_144, vocab: 262_144 },
    ...{ outputGate: false, deltaNet: null, experts: null, layerSizes, layerEmbedding: 256 },
  } as unknown as typeof SMOLLM2;
  const plan = planMemory(base, { format: 'int8', rows: 8, context: 1_024 });
  const without = planMemory({ ...base, layerEmbedding: null }, { format: 'int8', rows: 8, context: 1_024 });
  // 262,144 rows of 35 times 256 bytes and a scale; and three small products in each layer.
  const tables = 262_144 * 35 * (256 + 4);
  expect(plan.weights - without.weights).toBeGreaterThan(tables);
  expect(plan.weights - without.weights).toBeLessThan(tables * 1.03);
  // Twelve layers with heads of 256 numbers, three with heads of 512.
  expect(plan.keysAndValues).toBe(8 * 1_024 * 2 * (12 * 256 + 3 * 512) * 4);
});

it('counts states of linear attention by row, and keys and values only where there is attention', () => {
  const deltaNet = {
    ...{ keyHeads: 16, valueHeads: 16, keyDim: 128, valueDim: 128, kernel: 4 },
    layers: Array.from({ length: 24 }, (_, layer) => layer % 4 !== 3),
  };
  // Qwen3.5's 0.8B.
  const base = {
    ...{ hidden: 1_024, layers: 24, heads: 8, kvHeads: 2, headDim: 256, ffn: 3_584, vocab: 248_320 },
    ...{ outputGate: true, deltaNet, experts: null, layerEmbedding: null },
  } as unknown as typeof SMOLLM2;
  const plan = planMemory(base, { format: 'int8', rows: 32, context: 1_024 });
  // 18 layers of 16 heads of 128 x 128, and three tokens of 3 x 2,048 channels.
  expect(plan.states).toBe(32 * 18 * 4 * (16 * 128 * 128 + 3 * 6_144));
  // Six layers, keys and values of two heads of 256.
  expect(plan.keysAndValues).toBe(32 * 1_024 * 6 * 2 * 2 * 256 * 4);
  const fits = { available: 8e9, taken: 2e9, tokenBytes: 24_576, context: 2_048, mostRows: 1_000 };
  expect(fittingRows({ ...fits, rowBytes: plan.states / 32 }).slots).toBeLessThan(fittingRows(fits).slots);
});
