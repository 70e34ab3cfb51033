/** Losses and gradients of every family against PyTorch and PEFT (test/fixtures/make-training-reference.py). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Provider } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import type { Parameter } from '../../../gpu-origin/training/frozen-base.ts';
import { type Scores, Trainer } from '../../../gpu-origin/training/trainer.ts';
import { TINY_SHAPES } from '../../fixtures/tiny-base.ts';
import {
  asBatch,
  gradientDifferences,
  openTinyTrainable,
  type Form,
  type TrainingCase,
  trainingReference,
} from '../../fixtures/training-references.ts';

const { adapter, alpha, beta, batch, pairs, cases } = trainingReference;

/** Share of a tensor's norm by which its gradient may differ. */
const GRADIENT = 1e-4;
/** Share of a loss. */
const LOSS = 1e-5;

const named = (kind: TrainingCase['kind']): (TrainingCase & { chain: string })[] =>
  cases
    .filter((one) => one.kind === kind)
    .map((one) => ({ ...one, chain: one.below.length === 0 ? 'the base' : one.below.join('/') }));

/** The rotation is the same arithmetic in WebAssembly, and int8 has it there. */
const formsOf = ({ base }: TrainingCase, provider: Provider): Form[] => {
  if (base === 'int8') return ['int8'];
  return provider === 'cpu' ? ['f32', 'rotated'] : ['f32'];
};
const weighted = (provider: Provider): (TrainingCase & { chain: string; form: Form })[] =>
  named('weighted').flatMap((one) => formsOf(one, provider).map((form) => ({ ...one, form })));

const withTrainer = async (
  { family, below }: TrainingCase,
  { form, device, recompute = false }: { form: Form; device: Device; recompute?: boolean },
  work: (trainer: Trainer, parameters: Parameter[]) => Promise<void>,
): Promise<void> => {
  const tiny = await openTinyTrainable(TINY_SHAPES[family]!, form);
  try {
    const parameters = tiny.parameters(adapter);
    const trainer = await Trainer.open({
      device,
      base: tiny.base,
      parameters,
      scale: alpha / parameters[0]!.rank,
      chain: await tiny.chain(below),
      mostTokens: batch.tokens.length,
      recompute,
    });
    try {
      await work(trainer, parameters);
    } finally {
      trainer.close();
    }
  } finally {
    tiny.close();
  }
};

/** Weighted sum, and the sum of its magnitudes, which is what rounding is a share of. */
function lossOf({ nll }: Scores): [sum: number, magnitude: number] {
  let [sum, magnitude] = [0, 0];
  batch.weights.forEach((weight, at) => {
    sum += weight * nll[at]!;
    magnitude += Math.abs(weight) * nll[at]!;
  });
  return [sum, magnitude];
}

describe.each(['cpu', 'web'] as const satisfies Provider[])('gradients by provider %s', (provider) => {
  let device: Device;
  beforeAll(async () => {
    ({ device } = await openDevice({ provider, threads: 2 }));
  });
  afterAll(() => device.close());

  const expectGradients = (parameters: Parameter[], { gradients }: TrainingCase): void => {
    const differences = gradientDifferences(parameters, gradients);
    expect(differences.size).toBe(2 * Object.keys(gradients).length);
    for (const [name, difference] of differences) expect(difference, name).toBeLessThan(GRADIENT);
  };

  it.each(weighted(provider))('match PEFT: $family in $form on $chain', async ({ form, ...wanted }) => {
    await withTrainer(wanted, { form, device }, async (trainer, parameters) => {
      const scores = await trainer.accumulate(asBatch(batch));
      const [loss, magnitude] = lossOf(scores);
      expect(Math.abs(loss - wanted.loss) / magnitude).toBeLessThan(LOSS);
      const labelled = [...scores.nll].filter((_, at) => batch.labels[at]! >= 0);
      expect(labelled.length).toBe(wanted.nll!.length);
      labelled.forEach((nll, at) => expect(Math.abs(nll - wanted.nll![at]!)).toBeLessThan(LOSS * (1 + nll)));
      expectGradients(parameters, wanted);
    });
  });

  it('are far from those of another chain: the comparison sees the difference', async () => {
    const [wanted, other] = named('weighted').filter(
      ({ family, base }) => family === 'llama' && base === 'base',
    );
    await withTrainer(wanted!, { form: 'f32', device }, async (trainer, parameters) => {
      await trainer.accumulate(asBatch(batch));
      const differences = [...gradientDifferences(parameters, other!.gradients).values()];
      expect(Math.min(...differences)).toBeGreaterThan(100 * GRADIENT);
    });
  });

  it('match PEFT when the backward pass computes the forward pass again', async () => {
    const wanted = named('weighted').find(({ family, below }) => family === 'gemma3' && below.length > 0)!;
    await withTrainer(wanted, { form: 'f32', device, recompute: true }, async (trainer, parameters) => {
      await trainer.accumulate(asBatch(batch));
      expectGradients(parameters, wanted);
    });
  });

  it.each(named('dpo'))('match DPO in PyTorch: $family on $chain', async (wanted) => {
    await withTrainer(wanted, { form: 'f32', device }, async (trainer, parameters) => {
      const own = asBatch(pairs);
      const reference = await trainer.score(own, { withDelta: false });
      let loss = 0;
      await trainer.accumulate(own, (policy) => {
        const weights = new Float32Array(own.tokens.length);
        for (let pair = 0; pair < own.rows; pair += 2) {
          const [chosen, rejected] = [pair, pair + 1].map((row) => {
            const [from, to] = [row * own.length, (row + 1) * own.length];
            return sumOf(reference.nll.subarray(from, to)) - sumOf(policy.nll.subarray(from, to));
          }) as [number, number];
          const margin = beta * (chosen - rejected);
          const share = 2 / own.rows;
          loss += share * Math.log1p(Math.exp(-margin));
          for (const [row, sign] of [
            [pair, 1],
            [pair + 1, -1],
          ] as const)
            for (let at = row * own.length; at < (row + 1) * own.length; at++)
              weights[at] = own.labels[at]! < 0 ? 0 : (sign * share * beta) / (1 + Math.exp(margin));
        }
        return weights;
      });
      expect(Math.abs(loss - wanted.loss)).toBeLessThan(LOSS * wanted.loss);
      expectGradients(parameters, wanted);
    });
  });
});

const sumOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0);
