/**
 * Trains a plan with graft, as `peers/train_peft.py` does with PEFT, in a process of its own, so that the peak of its
 * memory is the training's. Prints the same JSON lines. Usage: run-plan.ts JOB.json
 */
import { openSync, readFileSync } from 'node:fs';
import type { LlamaConfig, WeightEntry } from '../../gpu-origin/model/base-model.ts';
import { buildGraphs } from '../../gpu-origin/model/build-graphs.ts';
import { loadBase } from '../../gpu-origin/model/load-base.ts';
import { readFully } from '../../gpu-origin/model/read-file.ts';
import { readGains, type WeightTransform } from '../../gpu-origin/runtime/adapter-batch.ts';
import { openDevice } from '../../gpu-origin/runtime/open-device.ts';
import { AdamW } from '../../gpu-origin/training/adamw.ts';
import type { Batch } from '../../gpu-origin/training/batches.ts';
import { type ServedBase, unpackedBase } from '../../gpu-origin/training/frozen-base.ts';
import { Trainer } from '../../gpu-origin/training/trainer.ts';
import { newParameters } from '../../gpu-origin/training/training-run.ts';
import type { Plan, PlannedBatch } from './plan.ts';
import { SHAPES, transformOf } from './random-base.ts';
import { type Parts, profiled, timedDevice } from './timed-device.ts';

export type JobBase =
  | { kind: 'file'; path: string; weights: 'int8' | 'f32'; cache: string }
  /** By `writeRandomWeights`. */
  | { kind: 'random'; shape: string; file: string; entries: readonly WeightEntry[] };

export interface Job {
  /** null = only prepare the base's weights in the cache. */
  plan: string | null;
  base: JobBase;
  recompute: boolean;
  /** The first ones alone, for a quick look; null = all. */
  layers: number | null;
  /** Another step at the end is taken apart. */
  profile: boolean;
}

export type PlanLine =
  | { step: number; loss: number; seconds: number }
  | { peakBytes: number; weightBytes: number; valueBytes: number }
  /** Milliseconds, of a step of `total`. */
  | { parts: Parts; total: number };

const tell = (line: PlanLine): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

async function openBase(base: JobBase, layers: number | null): Promise<ServedBase> {
  const found = await findWeights(base);
  const fd = openSync(found.path, 'r');
  const { config, gains, rotations } = found;
  return {
    config: layers === null ? config : { ...config, layers, attention: config.attention.slice(0, layers) },
    gains,
    rotations,
    weights: {
      entries: found.entries.filter(({ name }) => {
        const [, layer] = /^l(\d+)\./.exec(name) ?? [];
        return layer === undefined || Number(layer) < (layers ?? Infinity);
      }),
      read({ offset, bytes: all }, begin = 0, bytes = all) {
        const content = new Uint8Array(bytes);
        if (!readFully(fd, content, offset + begin)) throw new Error(`${found.path} is truncated`);
        return content;
      },
    },
  };
}

async function findWeights(
  wanted: JobBase,
): Promise<WeightTransform & { config: LlamaConfig; path: string; entries: readonly WeightEntry[] }> {
  if (wanted.kind === 'random') {
    const config = SHAPES[wanted.shape]!;
    return { config, ...transformOf(config), path: wanted.file, entries: wanted.entries };
  }
  const { base } = await loadBase(wanted.path, undefined);
  const built = await buildGraphs({
    base,
    format: wanted.weights,
    context: base.config.context,
    rotate: wanted.weights !== 'f32',
    cacheDir: wanted.cache,
    onProgress: () => {},
  });
  const gains = readGains(base);
  base.close();
  return {
    config: base.config,
    gains,
    rotations: built.rotations,
    path: built.weightsPath,
    entries: built.weights,
  };
}

function batchOf({ rows, length, tokens, labels }: PlannedBatch): Batch {
  const count = labels.reduce((sum, label) => sum + (label < 0 ? 0 : 1), 0);
  return {
    rows,
    length,
    tokens: Int32Array.from(tokens),
    labels: Int32Array.from(labels),
    weights: Float32Array.from(labels, (label) => (label < 0 ? 0 : 1 / count)),
    source: Int32Array.from({ length: rows }, (_, row) => row),
  };
}

const job = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as Job;
const base = await openBase(job.base, job.layers);
if (job.plan !== null) await runPlan(base, JSON.parse(readFileSync(job.plan, 'utf8')) as Plan);
process.exit(0);

async function runPlan(onDisk: ServedBase, plan: Plan): Promise<void> {
  const served = unpackedBase(onDisk);
  const { device } = await openDevice({ provider: 'cpu', threads: plan.threads });
  const runs: Parts = {};
  const parameters = newParameters(served.config, {
    targets: [...plan.kinds],
    rank: plan.rank,
    seed: plan.seed,
  });
  const optimizer = new AdamW(parameters);
  const trainer = await Trainer.open({
    device: timedDevice(device, runs),
    base: served,
    parameters,
    scale: plan.alpha / plan.rank,
    chain: [],
    mostTokens: Math.max(...plan.batches.map(({ rows, length }) => rows * length)),
    recompute: job.recompute,
  });
  const train = async (batch: Batch, rate: number): Promise<number> => {
    const { nll } = await trainer.accumulate(batch);
    optimizer.update(rate);
    trainer.changed();
    return nll.reduce((sum, one, at) => sum + one * batch.weights[at]!, 0);
  };
  for (const [step, planned] of plan.batches.entries()) {
    const begin = performance.now();
    const loss = await train(batchOf(planned), plan.schedule[step]!);
    tell({ step, loss, seconds: (performance.now() - begin) / 1_000 });
  }
  const { weights, most } = trainer.memory;
  tell({ peakBytes: process.resourceUsage().maxRSS * 1_024, weightBytes: weights, valueBytes: most });
  if (!job.profile) return;
  const batch = batchOf(plan.batches.at(-1)!);
  for (const name of Object.keys(runs)) runs[name] = 0;
  let total = 0;
  const functions = await profiled(async () => {
    const begin = performance.now();
    await train(batch, plan.schedule.at(-1)!);
    total = performance.now() - begin;
  });
  tell({ parts: { ...runs, ...functions }, total });
}
