/** Other providers than the native library against it, on a tiny base of each family. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { RowDelta } from '../../../gpu-origin/engine/ports.ts';
import type { Provider } from '../../../gpu-origin/runtime/device.ts';
import { TINY_SHAPES, type TinyShape } from '../../fixtures/tiny-base.ts';
import {
  divergence,
  logProbabilities,
  makeTinyRunner,
  prefillAll,
  type TinyRunner,
} from '../../fixtures/tiny-runner.ts';

/** Longer than a chunk. */
const PROMPT = Array.from({ length: 140 }, (_, at) => (at * at * 31 + at) % 259);

const open = new Set<TinyRunner>();
afterEach(async () => {
  for (const tiny of open) await tiny.close();
  open.clear();
});

/** Logits of the base, of q and v, of everything and of a chain: behind the prompt, and after a step of all four. */
async function logitsOf(
  shape: TinyShape,
  provider: Provider,
  weights: 'int8' | 'f32',
): Promise<Float32Array[]> {
  const tiny = await makeTinyRunner({ provider, weights, shape, slots: 4, threads: 1 });
  open.add(tiny);
  const { runner } = tiny;
  expect(runner.base).toMatchObject({ provider, weights });
  const [some, all] = [await tiny.adapter('attention'), await tiny.adapter('everything')];
  const deltas: (RowDelta | null)[] = [
    null,
    runner.compose([{ adapter: some, scale: 1 }]),
    runner.compose([{ adapter: all, scale: 1 }]),
    runner.compose([
      { adapter: all, scale: 0.5 },
      { adapter: some, scale: 1 },
    ]),
  ];
  const logits: Float32Array[] = [];
  for (const [slot, delta] of deltas.entries()) {
    runner.assign(slot, delta);
    logits.push(...(await prefillAll(runner, slot, PROMPT)));
  }
  const step = await runner.decode({ tokens: [1, 2, 3, 4], lengths: deltas.map(() => PROMPT.length) });
  deltas.forEach((_, row) => logits.push(step.slice(row * runner.vocabSize, (row + 1) * runner.vocabSize)));
  return logits;
}

describe.each(Object.entries(TINY_SHAPES))('WebAssembly beside the native library, %s', (_name, shape) => {
  let wanted: Float32Array[];
  beforeAll(async () => {
    wanted = await logitsOf(shape, 'cpu', 'f32');
    // Deltas make a difference: nothing here compares the base with itself.
    expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
  });

  it('has its log-probabilities within 1e-4 in float32', async () => {
    const logits = await logitsOf(shape, 'web', 'f32');
    for (const [at, row] of logits.entries()) {
      const expected = logProbabilities(wanted[at]!);
      logProbabilities(row).forEach((value, id) =>
        expect(Math.abs(value - expected[id]!)).toBeLessThan(1e-4),
      );
    }
  });

  it('is within 0.01 nats of float32 in int8', async () => {
    const logits = await logitsOf(shape, 'web', 'int8');
    const mean = logits.reduce((sum, row, at) => sum + divergence(wanted[at]!, row), 0) / logits.length;
    expect(mean).toBeLessThan(0.01);
  });
});
