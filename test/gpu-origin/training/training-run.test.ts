/** Whole trainings on tiny bases: the same bytes again, also after a stop; what is frozen; what is learned. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  encodeCanonical,
  type LoraModule,
  makeLoraModule,
  packAdapter,
  writePeftAdapter,
} from '../../../adapters/index.ts';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { AdamW } from '../../../gpu-origin/training/adamw.ts';
import { makeBatches } from '../../../gpu-origin/training/batches.ts';
import {
  readCheckpoint,
  type TrainingIdentity,
  writeCheckpoint,
} from '../../../gpu-origin/training/checkpoint.ts';
import type { FrozenChain, Parameter } from '../../../gpu-origin/training/frozen-base.ts';
import type { TrainingRow, TrainingSequence } from '../../../gpu-origin/training/rows.ts';
import { Trainer } from '../../../gpu-origin/training/trainer.ts';
import {
  bucketsOf,
  continuedModules,
  mostTokensOf,
  newParameters,
  type RunState,
  settingsOf,
  thinned,
  trainedModules,
  TrainingRun,
} from '../../../gpu-origin/training/training-run.ts';
import {
  MAX_CURVE_POINTS,
  TRAINABLE,
  type TrainingCurve,
  type TrainingMethod,
  type TrainingRequest,
  type TrainingSettings,
} from '../../../protocol/training.ts';
import { seeded, TINY_PHI3, TINY_SHAPES, TINY_VOCAB } from '../../fixtures/tiny-base.ts';
import { logProbabilities, makeTinyRunner, prefillAll } from '../../fixtures/tiny-runner.ts';
import {
  type Form,
  openTinyTrainable,
  type TinyTrainable,
  TRAINED_SHAPES,
} from '../../fixtures/training-references.ts';

const SETTINGS: TrainingSettings = {
  method: 'sft',
  rank: 4,
  alpha: 8,
  targets: [...TRAINABLE],
  epochs: 3,
  least_steps: 1,
  rate: 3e-3,
  batch: 3,
  max_length: 64,
  validation: 0,
  seed: 7,
  beta: 0.1,
};

/** Rows of random tokens, 8 to 30 each; the answer is the last third. */
function randomRows(count: number, method: TrainingMethod, seed = 1): TrainingRow[] {
  const random = seeded(seed);
  const whole = (from: number, to: number): number => from + Math.floor(((random() + 1) / 2) * (to - from));
  const tokens = (length: number): number[] => Array.from({ length }, () => whole(3, TINY_VOCAB));
  return Array.from({ length: count }, (_, line) => {
    const prompt = tokens(whole(5, 20));
    const sequence = (): TrainingSequence => {
      const all = [...prompt, ...tokens(whole(3, 10))];
      const labels = all.map((_, at) => (at >= prompt.length - 1 ? (all[at + 1] ?? 2) : -1));
      return { tokens: Int32Array.from(all), labels: Int32Array.from(labels) };
    };
    const sequences = method === 'sft' ? [sequence()] : [sequence(), sequence()];
    return { line: line + 1, sequences, hash: line };
  });
}

let device: Device;
let folder: string;
const bases = new Map<string, Promise<TinyTrainable>>();
beforeAll(async () => {
  ({ device } = await openDevice({ provider: 'cpu', threads: 2 }));
  folder = mkdtempSync(join(tmpdir(), 'graft-run-'));
});
afterAll(async () => {
  for (const base of bases.values()) (await base).close();
  await device.close();
  rmSync(folder, { recursive: true, force: true });
});

const tinyBase = (family: string, form: Form): Promise<TinyTrainable> => {
  const key = `${family} ${form}`;
  const known = bases.get(key) ?? openTinyTrainable(TRAINED_SHAPES[family]!, form);
  bases.set(key, known);
  return known;
};

interface Options {
  family?: string;
  form?: Form;
  below?: readonly string[];
  settings?: Partial<TrainingSettings>;
  trained?: readonly TrainingRow[];
  heldOut?: readonly TrainingRow[];
  recompute?: boolean;
  /** Continues from this checkpoint. */
  from?: string;
}

interface Training {
  run: TrainingRun;
  trainer: Trainer;
  parameters: readonly Parameter[];
  chain: FrozenChain;
  tiny: TinyTrainable;
  save(path: string): void;
  finish(): Promise<void>;
  /** sha256 of the adapter as it is written. */
  digest(): string;
}

async function withTraining<T>(options: Options, work: (training: Training) => Promise<T>): Promise<T> {
  const { family = 'llama', form = 'f32', below = [], heldOut = [], from } = options;
  const settings = { ...SETTINGS, ...options.settings };
  const rows = { trained: options.trained ?? randomRows(7, settings.method), heldOut };
  const tiny = await tinyBase(family, form);
  const { config } = tiny.base;
  const parameters = newParameters(config, settings);
  const optimizer = new AdamW(parameters);
  const identity: TrainingIdentity = { rows: 'r', base: 'b', weights: form, chain: [], settings };
  let state: RunState | undefined;
  if (from !== undefined) {
    const known = readCheckpoint(from, identity, { parameters, optimizer });
    if (!known.ok) throw new Error(known.problem);
    ({ state } = known);
  }
  const chain = await tiny.chain(below);
  const trainer = await Trainer.open({
    device,
    base: tiny.base,
    parameters,
    scale: settings.alpha / settings.rank,
    chain,
    mostTokens: mostTokensOf(rows, settings.batch),
    ...(options.recompute === undefined ? {} : { recompute: options.recompute }),
  });
  const run = new TrainingRun({
    trainer,
    config,
    parameters,
    optimizer,
    rows,
    settings,
    now: () => 0,
    ...(state === undefined ? {} : { state }),
  });
  try {
    return await work({
      run,
      trainer,
      parameters,
      chain,
      tiny,
      save: (path) => writeCheckpoint(path, { identity, state: run.state, parameters, optimizer }),
      async finish() {
        while (!run.finished) expect(await run.next()).toMatchObject({ ok: true });
      },
      digest() {
        const modules = trainedModules(parameters, settings.alpha);
        return sha256([writePeftAdapter({ modules, baseModel: 'tiny' }).safetensors]);
      },
    });
  } finally {
    trainer.close();
  }
}

function sha256(parts: Iterable<Uint8Array>): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

const trainWhole = (options: Options): Promise<{ digest: string; curve: TrainingCurve }> =>
  withTraining(options, async ({ run, finish, digest }) => {
    await finish();
    return { digest: digest(), curve: run.state.curve };
  });

describe('the same training', () => {
  it.each(['f32', 'int8'] as const)('gives the same bytes again, on a base in %s', async (form) => {
    const first = await trainWhole({ form });
    expect(await trainWhole({ form })).toEqual(first);
    expect((await trainWhole({ form, settings: { seed: 8 } })).digest).not.toBe(first.digest);
  });

  const stops = [
    { method: 'sft', below: [], form: 'f32', steps: [1, 4, 8] },
    { method: 'sft', below: ['attention', 'everything'], form: 'int8', steps: [3, 5] },
    { method: 'dpo', below: [], form: 'f32', steps: [2, 3, 7] },
    { method: 'dpo', below: ['everything'], form: 'int8', steps: [4] },
  ] as const;
  it.each(stops)(
    'gives the same bytes after stops: $method on $below in $form, after steps $steps',
    async ({ steps, below, method, form }) => {
      const options = { form, below, settings: { method, batch: 2 } };
      const whole = await trainWhole(options);
      expect(whole.curve).toHaveLength(12);
      for (const stop of steps) {
        const path = join(folder, `${method}-${form}-${stop}`);
        await withTraining(options, async ({ run, save }) => {
          while (run.state.step < stop) await run.next();
          save(path);
          // What comes after a checkpoint is lost.
          await run.next();
        });
        expect(await trainWhole({ ...options, from: path }), `${stop}`).toEqual(whole);
      }
    },
  );

  it('gives the same bytes whether or not the backward pass computes layers again', async () => {
    const kept = await trainWhole({ recompute: false });
    expect(await trainWhole({ recompute: true })).toEqual(kept);
  });
});

it('leaves the base and the chain below as they are', async () => {
  await withTraining({ below: ['attention'], form: 'int8' }, async ({ chain, tiny, finish, digest }) => {
    const frozen = (): string =>
      sha256([
        ...tiny.base.weights.entries.map((entry) => tiny.base.weights.read(entry)),
        ...[...chain[0]!.delta.modules.values()].flatMap(({ a, b }) =>
          [a, b].map(({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength)),
        ),
      ]);
    const [before, start] = [frozen(), digest()];
    await finish();
    expect(frozen()).toBe(before);
    expect(digest()).not.toBe(start);
  });
});

describe('what is learned', () => {
  it.each(['f32', 'int8'] as const)('learns rows by heart on a base in %s', async (form) => {
    const trained = randomRows(4, 'sft');
    const settings = { batch: 4, epochs: 60, rate: 0.02, rank: 8, alpha: 16 };
    await withTraining({ form, trained, heldOut: trained, settings }, async ({ run, finish }) => {
      const before = await run.evaluate();
      await finish();
      const after = await run.evaluate();
      expect(before.exact).toBe(0);
      expect(after.loss).toBeLessThan(0.05);
      expect(after).toMatchObject({ exact: 4, rows: 4 });
      expect(run.summary(after).scores).toMatchObject({ loss_before: before.loss, exact: 4 });
    });
  });

  it('prefers the chosen answers after DPO, and starts without a preference', async () => {
    const trained = randomRows(4, 'dpo');
    const settings = { method: 'dpo', batch: 4, epochs: 20, rate: 3e-3 } as const;
    await withTraining({ trained, heldOut: trained, settings }, async ({ run, finish }) => {
      expect((await run.evaluate()).loss).toBeCloseTo(Math.LN2, 4);
      await finish();
      const after = await run.evaluate();
      expect(after.exact).toBe(4);
      expect(after.loss).toBeLessThan(0.3);
    });
  });

  it.each([...Object.keys(TINY_SHAPES), 'gemma4_shared', 'gemma4_e2b', 'qwen3moe'])(
    'lowers the loss in one step: %s',
    async (family) => {
      await withTraining({ family, settings: { batch: 7, rate: 1e-3 } }, async ({ run }) => {
        await run.next();
        await run.next();
        const [first, second] = run.state.curve.map(([, loss]) => loss) as [number, number];
        expect(second).toBeLessThan(first);
      });
    },
  );

  it('stops before a step whose loss is not a number, and changes nothing', async () => {
    await withTraining({}, async ({ run, parameters, trainer, digest }) => {
      await run.next();
      const before = { digest: digest(), state: structuredClone(run.state) };
      const broken = parameters[1]!.values;
      const good = broken.slice();
      broken.fill(Infinity);
      trainer.changed();
      expect(await run.next()).toEqual({ ok: false, lines: expect.any(Array) as number[] });
      broken.set(good);
      trainer.changed();
      expect({ digest: digest(), state: run.state }).toEqual(before);
      expect(parameters.every(({ gradient }) => gradient.every((one) => one === 0))).toBe(true);
      expect(await run.next()).toMatchObject({ ok: true });
    });
  });
});

/** A resumed DPO has the same references. */
it.each(['llama', 'qwen3moe'])('scores a row the same to the bit in any batch: %s', async (family) => {
  const trained = randomRows(40, 'sft', 77);
  const batchOf = (rows: readonly TrainingRow[]) =>
    makeBatches(rows, { buckets: [32], mostTokens: Infinity, mostScores: Infinity })[0]!;
  await withTraining({ family, trained }, async ({ trainer }) => {
    const alone = [];
    for (const row of trained) alone.push((await trainer.score(batchOf([row]))).nll);
    // 257 labels: the head takes 256 at a time, and one is left.
    for (const count of [2, 13, 34, 35, 36, 40]) {
      const { nll } = await trainer.score(batchOf(trained.slice(0, count)));
      for (let at = 0; at < count; at++) expect(nll.slice(at * 32, (at + 1) * 32)).toEqual(alone[at]);
    }
  });
});

it.each(['llama', 'qwen3_5', 'gemma4_e2b', 'qwen3moe'])(
  'answers with the probabilities that it was trained to: %s',
  async (family) => {
    const tiny = await makeTinyRunner({ shape: TRAINED_SHAPES[family]!, weights: 'f32' });
    try {
      const [row] = randomRows(1, 'sft', 5) as [TrainingRow];
      const [{ tokens, labels }] = row.sequences as [TrainingSequence];
      await withTraining({ family, settings: { epochs: 4 } }, async ({ trainer, parameters, finish }) => {
        const batch = makeBatches([row], { buckets: [48], mostTokens: 48, mostScores: Infinity })[0]!;
        const before = await trainer.score(batch);
        await finish();
        const { nll } = await trainer.score(batch);
        const { configJson, safetensors } = writePeftAdapter({
          modules: trainedModules(parameters, SETTINGS.alpha),
          baseModel: null,
        });
        const { bytes, digest } = await packAdapter({
          files: { configJson, weights: safetensors },
          baseId: tiny.runner.base.id,
          parentChainId: null,
        });
        const adapter = await tiny.runner.loadAdapter(bytes, digest);
        tiny.runner.assign(0, tiny.runner.compose([{ adapter, scale: 1 }]));
        const served = await prefillAll(tiny.runner, 0, [...tokens], [...tokens.keys()]);
        const wanted = [...labels.keys()].filter((at) => labels[at]! >= 0);
        expect(wanted.length).toBeGreaterThan(0);
        for (const at of wanted) {
          expect(Math.abs(logProbabilities(served[at]!)[labels[at]!]! + nll[at]!)).toBeLessThan(1e-4);
          expect(Math.abs(before.nll[at]! - nll[at]!)).toBeGreaterThan(1e-2);
        }
      });
    } finally {
      await tiny.close();
    }
  },
);

describe.each([
  ['llama', 1e-6],
  ['qwen3_5', 1e-5],
])('gradients of a step on %s', (family, share) => {
  const gradientsOf = (options: Options & { mostTokens: number; buckets?: readonly number[] }) =>
    withTraining({ family, ...options }, async ({ trainer, parameters }) => {
      const { trained = [] } = options;
      // B begins at zero, so that A would have no gradient.
      const random = seeded(3);
      for (const { values } of parameters) values.forEach((_, at) => (values[at] = 0.1 * random()));
      const buckets = options.buckets ?? bucketsOf({ trained, heldOut: [] });
      const batches = makeBatches(trained, { buckets, mostTokens: options.mostTokens, mostScores: Infinity });
      for (const batch of batches) await trainer.accumulate(batch);
      return { batches: batches.length, gradients: parameters.map(({ gradient }) => gradient.slice()) };
    });

  const trained = randomRows(6, 'sft', 5);
  it.each([
    { what: 'in pieces', options: { mostTokens: 32, buckets: [32] }, batches: 6 },
    { what: 'with more padding', options: { mostTokens: 4_096, buckets: [64] }, batches: 1 },
    { what: 'computed again', options: { mostTokens: 4_096, buckets: [32], recompute: true }, batches: 1 },
  ])(`are the same to ${share} $what`, async ({ options, batches }) => {
    const whole = await gradientsOf({ trained, mostTokens: 4_096, buckets: [32] });
    const other = await gradientsOf({ trained, ...options });
    expect([whole.batches, other.batches]).toEqual([1, batches]);
    const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, one) => sum + one * one, 0));
    other.gradients.forEach((own, at) => {
      const wanted = whole.gradients[at]!;
      expect(norm(own.map((value, i) => value - wanted[i]!)) / norm(wanted)).toBeLessThan(share);
    });
  });

  it('come from labelled tokens alone', async () => {
    const [row] = randomRows(1, 'sft', 9) as [TrainingRow];
    const [{ tokens, labels }] = row.sequences as [TrainingSequence];
    const first = labels.findIndex((label) => label >= 0);
    // What a message of weight 0 is: tokens without labels.
    const cut = { ...row, sequences: [{ tokens, labels: labels.map((l, at) => (at > first ? -1 : l)) }] };
    const alone = {
      ...row,
      sequences: [{ tokens: tokens.slice(0, first + 1), labels: labels.slice(0, first + 1) }],
    };
    const [a, b] = [
      await gradientsOf({ trained: [cut], mostTokens: 4_096, buckets: [32] }),
      await gradientsOf({ trained: [alone], mostTokens: 4_096, buckets: [32] }),
    ];
    expect(a.gradients).toEqual(b.gradients);
  });
});

describe('newParameters', () => {
  it('begins as PEFT does: A within 1 / sqrt(in), B zero, by the seed', async () => {
    const { config } = (await tinyBase('llama', 'f32')).base;
    const all = newParameters(config, SETTINGS);
    expect(all).toHaveLength(2 * 7 * config.layers);
    for (const { side, values, width } of all) {
      const most = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      if (side === 'B') expect(most).toBe(0);
      else expect(most * Math.sqrt(width)).toSatisfy((share: number) => share > 0.9 && share <= 1);
    }
    expect(newParameters(config, SETTINGS)).toEqual(all);
    expect(newParameters(config, { ...SETTINGS, seed: 1 })).not.toEqual(all);
  });

  it('has the linears of embeddings by layer', async () => {
    const { config } = (await tinyBase('gemma4_e2b', 'f32')).base;
    const of = (targets: TrainingSettings['targets']): string[] => [
      ...new Set(newParameters(config, { ...SETTINGS, targets }).map(({ linear }) => linear.name)),
    ];
    const all = of([...TRAINABLE]);
    // Its three last layers have no keys and values of their own.
    expect(all).toHaveLength(9 * 3 + 7 * 3);
    expect(all).toContain('model.layers.5.per_layer_input_gate');
    expect(all).toContain('model.layers.5.per_layer_projection');
    expect(of(['k', 'v', 'gate'])).toHaveLength(6 + 6);
    expect(of(['per_layer_projection'])).toHaveLength(6);
  });

  it('is empty where a fused linear would be trained in part', async () => {
    const tiny = await openTinyTrainable(TINY_PHI3, 'f32');
    const of = (targets: TrainingSettings['targets']): string[] => [
      ...new Set(newParameters(tiny.base.config, { ...SETTINGS, targets }).map(({ linear }) => linear.name)),
    ];
    tiny.close();
    expect(of(['q'])).toEqual([]);
    expect(of(['q', 'o']).every((name) => name.endsWith('o_proj'))).toBe(true);
    expect(of(['q', 'k', 'v']).every((name) => name.endsWith('qkv_proj'))).toBe(true);
  });
});

it('trains the linears of attention or linear attention that a layer has, and leaves other targets out', async () => {
  const of = async (family: string, targets: TrainingSettings['targets']) => {
    const { config } = (await tinyBase(family, 'f32')).base;
    const request: TrainingRequest = { ...SETTINGS, targets };
    const settings = settingsOf(request, { rows: 1, config });
    const names = newParameters(config, settings).map(({ linear }) =>
      linear.name.replace(/^model\.layers\./, ''),
    );
    return { targets: settings.targets, linears: [...new Set(names)] };
  };
  expect((await of('llama', [...TRAINABLE])).targets).toEqual(['q', 'k', 'v', 'o', 'gate', 'up', 'down']);
  expect(await of('qwen3_5', ['q', 'in_proj_b', 'out_proj'])).toEqual({
    targets: ['q', 'in_proj_b', 'out_proj'],
    linears: [
      ...['0.linear_attn.in_proj_b', '0.linear_attn.out_proj'],
      ...['1.linear_attn.in_proj_b', '1.linear_attn.out_proj', '2.self_attn.q_proj'],
    ],
  });
  expect((await of('qwen3_5', [...TRAINABLE])).linears).toHaveLength(2 * (5 + 3) + 4 + 3);
  expect(await of('llama', ['out_proj'])).toEqual({ targets: ['out_proj'], linears: [] });
});

describe('continuedModules', () => {
  const adapterOf = (rank: number, seed: number): LoraModule[] => {
    const random = seeded(seed);
    const tensor = (rows: number, columns: number): LoraModule['a'] => ({
      dtype: 'F32',
      shape: [rows, columns],
      data: new Uint8Array(Float32Array.from({ length: rows * columns }, random).buffer),
    });
    const name = 'model.layers.0.self_attn.q_proj';
    return [makeLoraModule({ name, alpha: 2 * rank, rank, a: tensor(rank, 200), b: tensor(160, rank) })];
  };
  it.each([
    { what: 'is exact where ranks have room', known: 8, own: 8, rank: 16, exact: true },
    { what: 'is exact at the limit', known: 56, own: 8, rank: 64, exact: true },
    { what: 'is cut at the limit', known: 60, own: 8, rank: 64, exact: false },
    { what: 'keeps the rank of what had more', known: 100, own: 8, rank: 100, exact: false },
  ])('$what', ({ known, own, rank, exact }) => {
    const modules = adapterOf(known, 1);
    const file = encodeCanonical({ modules, base: 'tiny', parent: null });
    const { modules: sum, continued } = continuedModules(adapterOf(own, 2), { file, scale: 1 });
    expect(sum.map((module) => module.rank)).toEqual([rank]);
    expect(continued).toMatchObject({ sum_rank: known + own, rank });
    expect(continued.relative_error > 0).toBe(!exact);
    // Dense random ranks: the smallest directions that are cut hold little of the norm.
    expect(continued.relative_error).toBeLessThan(0.2);
  });
});

it('estimates the largest micro-batch by the longest row', () => {
  const ofLength = (length: number, sequences: number): TrainingRow => {
    const one = { tokens: new Int32Array(length), labels: new Int32Array(length) };
    return { line: 1, hash: 1, sequences: Array.from({ length: sequences }, () => one) };
  };
  const most = (length: number, sequences: number, batch: number): number =>
    mostTokensOf({ trained: [ofLength(length, sequences)], heldOut: [] }, batch);
  expect(most(16, 1, 4)).toBe(64);
  expect(most(17, 2, 4)).toBe(256);
  expect(most(1_000, 1, 8)).toBe(2_048);
  expect(most(3_000, 2, 8)).toBe(6_016);
});

it('thins a curve of any length for a card, and keeps its end and its scores', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5_000 }),
      fc.array(fc.nat(4_999), { maxLength: 14 }),
      (steps, scored) => {
        const curve = Array.from({ length: steps }, (_, at): TrainingCurve[number] => [
          at + 1,
          1 / (at + 1),
          scored.includes(at) ? 1 : null,
        ]);
        const thin = thinned(curve);
        expect(thin.length).toBeLessThanOrEqual(MAX_CURVE_POINTS);
        const kept = thin.map(([step]) => step);
        expect(kept).toEqual([...new Set(kept)].sort((a, b) => a - b));
        expect([kept[0], kept.at(-1)]).toEqual([1, steps]);
        const scores = curve.filter(([, , score]) => score !== null).map(([step]) => step);
        expect(kept).toEqual(expect.arrayContaining(scores));
      },
    ),
  );
});
