import type { OrtRunner } from '../../../gpu-origin/runtime/ort-runner.ts';
import { TINY_ADAPTERS } from '../../fixtures/tiny-base.ts';
import { divergence, prefillAll, type TinyRunner } from '../../fixtures/tiny-runner.ts';

/** Quantized weights, each against float32. */
export const COARSE = ['int8', 'int4'] as const;

/** @returns logits behind each token. */
export const every = (runner: OrtRunner, tokens: readonly number[]): Promise<Float32Array[]> =>
  prefillAll(
    runner,
    0,
    tokens,
    tokens.map((_, at) => at),
  );

/** @returns logits behind each token of a row with these adapters. */
export async function logitsOf(
  tiny: TinyRunner,
  chain: readonly string[],
  prompt: readonly number[],
): Promise<Float32Array[]> {
  const members = await Promise.all(
    chain.map(async (name) => ({ adapter: await tiny.adapter(name, TINY_ADAPTERS[name]), scale: 1 })),
  );
  tiny.runner.assign(0, members.length === 0 ? null : tiny.runner.compose(members));
  const logits = await every(tiny.runner, prompt);
  tiny.runner.release(0);
  return logits;
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** @returns mean KL(exact || coarse), in nats. */
export const klOf = (exact: readonly Float32Array[], coarse: readonly Float32Array[]): number =>
  mean(exact.map((row, at) => divergence(row, coarse[at]!)));
