/** The trainer's loss and gradients on the pinned base against PyTorch and PEFT. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { createOutput } from '../../cli/output.ts';
import { type BaseModel } from '../../gpu-origin/model/base-model.ts';
import { loadBase } from '../../gpu-origin/model/load-base.ts';
import type { Device } from '../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../gpu-origin/runtime/open-device.ts';
import { Trainer } from '../../gpu-origin/training/trainer.ts';
import { seeded } from '../fixtures/tiny-base.ts';
import {
  asBatch,
  gradientDifferences,
  inMemory,
  parametersOf,
  type ReferenceBatch,
  type TrainingCase,
} from '../fixtures/training-references.ts';

const reference = JSON.parse(
  readFileSync(new URL('../fixtures/smollm2-135m-training-reference.json', import.meta.url), 'utf8'),
) as {
  rank: number;
  alpha: number;
  seed: number;
  sizeOfB: number;
  batch: ReferenceBatch;
  loss: number;
  gradients: TrainingCase['gradients'];
};

describe('training SmolLM2-135M in float32', () => {
  let base: BaseModel;
  let device: Device;
  beforeAll(async () => {
    const path = await ensurePinnedBase({
      cache: cacheFolder(process.env),
      output: createOutput({ json: false }),
    });
    ({ base } = await loadBase(path, undefined));
    ({ device } = await openDevice({ provider: 'cpu', threads: undefined }));
  });
  afterAll(async () => {
    await device.close();
    base.close();
  });

  it('has the loss of PEFT to 1e-5 and the gradients of 420 matrices to 1e-4', async () => {
    const { rank, alpha, sizeOfB, batch } = reference;
    let { seed } = reference;
    // As make-real-training-reference.py makes them.
    const parameters = parametersOf(base.config, rank, (_, shape) => {
      const random = seeded(seed++);
      const a = Float32Array.from({ length: rank * shape.in }, () => random() / Math.sqrt(shape.in));
      return { a, b: Float32Array.from({ length: shape.out * rank }, () => random() * sizeOfB) };
    });
    const trainer = await Trainer.open({
      device,
      base: inMemory(base, 'f32'),
      parameters,
      scale: alpha / rank,
      chain: [],
      mostTokens: batch.tokens.length,
    });
    try {
      const { nll } = await trainer.accumulate(asBatch(batch));
      const loss = nll.reduce((sum, one) => sum + one, 0);
      expect(Math.abs(loss - reference.loss) / reference.loss).toBeLessThan(1e-5);
      const differences = gradientDifferences(parameters, reference.gradients);
      expect(differences.size).toBe(420);
      for (const [name, difference] of differences) expect(difference, name).toBeLessThan(1e-4);
    } finally {
      trainer.close();
    }
  });
});
