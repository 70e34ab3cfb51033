import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkBase } from '../../../adapters/read-head.ts';
import { wrongOnGpu, type BaseModel } from '../../../gpu-origin/model/base-model.ts';
import { buildGraphs } from '../../../gpu-origin/model/build-graphs.ts';
import { expertReader } from '../../../gpu-origin/model/experts.ts';
import { loadFolderBase } from '../../../gpu-origin/model/load-base.ts';
import { WEIGHT_FORMATS } from '../../../gpu-origin/model/prepare-weights.ts';
import { describeBase } from '../../../gpu-origin/runtime/create-runner.ts';
import { planMemory } from '../../../gpu-origin/runtime/memory-plan.ts';
import { TINY_QWEN3MOE, writeTinyBase } from '../../fixtures/tiny-base.ts';

let folder: string;
let base: BaseModel;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'graft-experts-'));
  writeTinyBase(join(folder, 'base'), TINY_QWEN3MOE);
  base = await loadFolderBase({ path: join(folder, 'base') });
});
afterAll(() => {
  base.close();
  rmSync(folder, { recursive: true, force: true });
});

it('reads experts one by one from a tensor of all, gate before up', () => {
  const { config } = base;
  const size = config.hidden * config.ffn;
  const read = expertReader(
    { ...config, experts: { ...config.experts!, storage: 'fused' } },
    (name, shape) => {
      expect(name).toMatch(/experts\.(gate_up|down)_proj$/);
      const all = new Float32Array(shape.reduce((product, one) => product * one, 1));
      return all.map((_, at) => Math.floor(at / size));
    },
  );
  const of = (expert: number, kind: string): number[] => {
    const shape = kind === 'down' ? [config.hidden, config.ffn] : [config.ffn, config.hidden];
    return [...new Set(read(`model.layers.0.mlp.experts.${expert}.${kind}_proj.weight`, shape))];
  };
  // Gate and up are two parts of an expert's rows; down is one.
  expect([of(0, 'gate'), of(0, 'up'), of(3, 'gate'), of(3, 'up'), of(3, 'down')]).toEqual([
    [0],
    [1],
    [6],
    [7],
    [3],
  ]);
});

it('plans memory for every expert, whatever a token chooses', async () => {
  for (const format of WEIGHT_FORMATS) {
    const built = await buildGraphs({
      ...{ base, format, context: 16, rotate: format !== 'f32', cacheDir: join(folder, format) },
      onProgress: () => {},
    });
    const stored = built.weights
      .filter(({ name }) => /^l\d|^embed|^head/.test(name))
      .reduce((sum, { bytes }) => sum + bytes, 0);
    const { weights } = planMemory(base.config, { format, rows: 1, context: 16 });
    // Blocks of 4 bit that end in padding, and gains, are not counted.
    expect(weights / stored).toBeGreaterThan(0.8);
    expect(weights / stored).toBeLessThan(1.05);
  }
});

it('refuses adapters of experts and routers by name, and WebGPU', () => {
  const info = describeBase(base, { format: 'int8', context: 16, provider: 'cpu', bits: true });
  expect(info.modules.map(({ name }) => name)).not.toContainEqual(expect.stringContaining('mlp'));
  for (const name of ['model.layers.0.mlp.experts.3.gate_proj', 'model.layers.0.mlp.gate']) {
    const module = { name, rank: 2, a: { shape: [2, 64] }, b: { shape: [48, 2] } };
    const [problem] = checkBase({ config: { base: base.id }, modules: [module] }, info);
    expect(problem?.message).toContain('experts and their router cannot be adapted');
  }
  expect(wrongOnGpu(base.config)).toContain('runs mixtures of experts on processors only');
});
