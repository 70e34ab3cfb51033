/** Losses and gradients of every family against PyTorch and PEFT (test/fixtures/make-training-reference.py). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TRAINABLE, type TrainingSettings } from '../../../protocol/training.ts';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { ortLibrary } from '../../../gpu-origin/runtime/native/native-device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { AdamW } from '../../../gpu-origin/training/adamw.ts';
import type { Parameter } from '../../../gpu-origin/training/frozen-base.ts';
import type { TrainingRow } from '../../../gpu-origin/training/rows.ts';
import type { Scores } from '../../../gpu-origin/training/trainer.ts';
import { TrainingRun } from '../../../gpu-origin/training/training-run.ts';
import { gpuOnProcessor } from '../../fixtures/gpu-on-processor.ts';
import {
  asBatch,
  gradientDifferences,
  type Form,
  type TrainingCase,
  trainingReference,
  withTinyTrainer,
} from '../../fixtures/training-references.ts';

const { alpha, beta, batch, pairs, steps, cases } = trainingReference;

/** Share of a tensor's norm by which its gradient may differ. */
const GRADIENT = 1e-4;
/** Share of a loss. */
const LOSS = 1e-5;
/** Share of a loss after some updates: AdamW makes large steps of small gradients, and of their rounding. */
const STEPS = 1e-4;

const named = (kind: TrainingCase['kind']): (TrainingCase & { chain: string })[] =>
  cases
    .filter((one) => one.kind === kind)
    .map((one) => ({ ...one, chain: one.below.length === 0 ? 'the base' : one.below.join('/') }));

/** Where gradients are computed. `gpu`: as on one, by the processor; weights in int8 become float32 or float16 there. */
const PLACES = {
  cpu: () => openDevice({ provider: 'cpu', threads: 2 }),
  web: () => openDevice({ provider: 'web', threads: 2 }),
  gpu: () => openDevice({ provider: 'webgpu', threads: 2, open: gpuOnProcessor({ fp16: false }) }),
  'gpu with float16': () => openDevice({ provider: 'webgpu', threads: 2, open: gpuOnProcessor() }),
};
type Place = keyof typeof PLACES;

/** Forms of the base that are something else there. */
const FORMS: Record<Place, readonly Form[]> = {
  cpu: ['f32', 'rotated', 'int8'],
  web: ['f32', 'int8'],
  gpu: ['f32', 'int8'],
  'gpu with float16': ['int8'],
};
const weighted = (place: Place): (TrainingCase & { chain: string; form: Form; unpack: boolean })[] =>
  FORMS[place].flatMap((form) =>
    (form === 'int8' && place === 'cpu' ? [false, true] : [false]).flatMap((unpack) =>
      named('weighted')
        .filter(({ base }) => (base === 'int8') === (form === 'int8'))
        .map((one) => ({ ...one, form, unpack })),
    ),
  );

/** Of families whose backward models need different things of the forward ones. */
const isRecomputed = ({ family, base, below }: TrainingCase): boolean =>
  ['gemma3', 'gemma4_e2b', 'qwen3moe', 'qwen3_5'].includes(family) && base === 'base' && below.length > 0;

/** Weighted sum, and the sum of its magnitudes, which is what rounding is a share of. */
function lossOf({ nll }: Scores): [sum: number, magnitude: number] {
  let [sum, magnitude] = [0, 0];
  batch.weights.forEach((weight, at) => {
    sum += weight * nll[at]!;
    magnitude += Math.abs(weight) * nll[at]!;
  });
  return [sum, magnitude];
}

describe.each(Object.keys(PLACES) as Place[])('gradients by %s', (place) => {
  let device: Device;
  beforeAll(async () => {
    ({ device } = await PLACES[place]());
  });
  afterAll(() => device.close());

  const expectGradients = (parameters: Parameter[], { gradients }: TrainingCase): void => {
    const differences = gradientDifferences(parameters, gradients);
    expect(differences.size).toBe(2 * Object.keys(gradients).length);
    for (const [name, difference] of differences) expect(difference, name).toBeLessThan(GRADIENT);
  };

  it.each(weighted(place))('match PEFT: $family in $form (unpacked: $unpack) on $chain', async (one) => {
    const { form, unpack, ...wanted } = one;
    await withTinyTrainer(wanted, { form, device, unpack }, async (trainer, parameters) => {
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
    await withTinyTrainer(wanted!, { form: 'f32', device }, async (trainer, parameters) => {
      await trainer.accumulate(asBatch(batch));
      const differences = [...gradientDifferences(parameters, other!.gradients).values()];
      expect(Math.min(...differences)).toBeGreaterThan(100 * GRADIENT);
    });
  });

  it.each(named('weighted').filter(isRecomputed))(
    'match PEFT when the backward pass computes the forward pass again: $family',
    async (wanted) => {
      await withTinyTrainer(wanted, { form: 'f32', device, recompute: true }, async (trainer, parameters) => {
        await trainer.accumulate(asBatch(batch));
        expectGradients(parameters, wanted);
      });
    },
  );

  it.each(named('dpo'))('match DPO in PyTorch: $family on $chain', async (wanted) => {
    await withTinyTrainer(wanted, { form: 'f32', device }, async (trainer, parameters, config) => {
      const optimizer = new KeepingAdamW(parameters);
      const rows = { trained: pairsAsRows(), heldOut: [] };
      const run = new TrainingRun({
        trainer,
        config,
        parameters,
        optimizer,
        rows,
        settings: DPO,
        now: () => 0,
      });
      const result = await run.next();
      expect(result.ok && Math.abs(result.report.loss - wanted.loss)).toBeLessThan(LOSS * wanted.loss);
      expectGradients(optimizer.kept, wanted);
    });
  });

  it('lower the loss as AdamW in PyTorch does, step by step', async () => {
    const llama = named('weighted').find(({ family, below }) => family === 'llama' && below.length === 0)!;
    await withTinyTrainer(llama, { form: 'f32', device }, async (trainer, parameters) => {
      const own = asBatch(pairs);
      const labels = sumOf(own.weights);
      own.weights = own.weights.map((weight) => weight / labels);
      const optimizer = new AdamW(parameters);
      for (const [step, wanted] of steps.losses.entries()) {
        const { nll } = await trainer.accumulate(own);
        const loss = nll.reduce((sum, one, at) => sum + one * own.weights[at]!, 0);
        expect(Math.abs(loss - wanted), `step ${step}`).toBeLessThan(STEPS * wanted);
        optimizer.update(steps.rates[step] ?? 0);
        trainer.changed();
      }
    });
  });
});

it.each(['llama', 'gemma4_e2b', 'qwen3moe'])(
  'gives back everything that a trainer took of its device: %s',
  async (family) => {
    const { device } = await PLACES.cpu();
    const { alive } = ortLibrary();
    const before = Object.fromEntries(alive);
    await withTinyTrainer({ family, below: ['attention'] }, { form: 'int8', device }, async (trainer) => {
      await trainer.accumulate(asBatch(batch));
      await trainer.score(asBatch(pairs), { withDelta: false });
      expect(alive.get('session')).toBeGreaterThan(before['session'] ?? 0);
    });
    for (const [kind, count] of alive) expect(`${kind}: ${count}`).toBe(`${kind}: ${before[kind] ?? 0}`);
    await device.close();
  },
);

/** Every pair in one step. */
const DPO: TrainingSettings = {
  method: 'dpo',
  rank: 4,
  alpha,
  targets: [...TRAINABLE],
  epochs: 1,
  least_steps: 1,
  rate: 0.001,
  batch: pairs.rows / 2,
  max_length: pairs.length,
  validation: 0,
  seed: 1,
  beta,
};

function pairsAsRows(): TrainingRow[] {
  const { rows, length, tokens, labels } = pairs;
  const sequence = (row: number): TrainingRow['sequences'][number] => {
    const own = labels.slice(row * length, (row + 1) * length);
    const end = own.findLastIndex((label) => label >= 0) + 2;
    return {
      tokens: Int32Array.from(tokens.slice(row * length, row * length + end)),
      labels: Int32Array.from(own.slice(0, end)),
    };
  };
  return Array.from({ length: rows / 2 }, (_, pair) => ({
    line: pair + 1,
    sequences: [sequence(2 * pair), sequence(2 * pair + 1)],
    hash: pair,
  }));
}

/** Keeps the gradients, which an update uses up. */
class KeepingAdamW extends AdamW {
  kept: Parameter[] = [];
  readonly #own: readonly Parameter[];

  constructor(parameters: readonly Parameter[]) {
    super(parameters);
    this.#own = parameters;
  }

  override update(rate: number): number {
    this.kept = this.#own.map((parameter) => ({ ...parameter, gradient: parameter.gradient.slice() }));
    return super.update(rate);
  }
}

const sumOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0);
