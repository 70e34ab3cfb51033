/** What is trained in a comparison, as `peers/train_peft.py` and `run-plan.ts` read it. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writePeftAdapter } from '../../adapters/index.ts';
import type { LlamaConfig } from '../../gpu-origin/model/base-model.ts';
import { TRAINABLE, type Trainable, usualRate } from '../../protocol/training.ts';
import { rateOf, CLIP_NORM, BETAS } from '../../gpu-origin/training/adamw.ts';
import { DataOrder, lengthBuckets, makeBatches, rowLength } from '../../gpu-origin/training/batches.ts';
import { trainedLinears } from '../../gpu-origin/training/frozen-base.ts';
import type { TrainingRow } from '../../gpu-origin/training/rows.ts';
import { newParameters, trainedModules } from '../../gpu-origin/training/training-run.ts';
import { seededRandom } from '../seeded-random.ts';

export interface PlannedBatch {
  rows: number;
  /** Tokens of each row, padding on the right included. */
  length: number;
  /** `[rows * length]` */
  tokens: number[];
  /** `[rows * length]`, the token that should follow; -1 = none. The loss is the mean over labels. */
  labels: number[];
}

export interface Plan {
  /** Hugging Face folder of the base in float32, for PEFT. */
  base: string;
  rank: number;
  alpha: number;
  kinds: readonly Trainable[];
  /** `kinds` by PEFT's names. */
  targets: readonly string[];
  /** Of the first A; B is zero. */
  seed: number;
  /** PEFT folder with the first A and B. */
  start: string;
  /** A rate for each step. */
  schedule: readonly number[];
  clip: number;
  betas: readonly [number, number];
  threads: number;
  /** One for each step. */
  batches: readonly PlannedBatch[];
}

const RANK = 8;
const SEED = 1;
/** The first ids are control tokens. */
const FIRST_TOKEN = 3;

/** Rank 8 on all linears with default rates. */
export function makePlan(params: {
  config: LlamaConfig;
  base: string;
  start: string;
  threads: number;
  batches: readonly PlannedBatch[];
}): Plan {
  const { config, base, start, threads, batches } = params;
  const rate = usualRate('sft', config.hidden);
  const linears = config.attention.flatMap((_, layer) => trainedLinears(config, layer, TRAINABLE));
  return {
    base,
    rank: RANK,
    alpha: 2 * RANK,
    kinds: TRAINABLE,
    targets: [...new Set(linears.map(({ name }) => name.split('.').at(-1)!))],
    seed: SEED,
    start,
    schedule: batches.map((_, step) => rateOf(step, batches.length, rate)),
    clip: CLIP_NORM,
    betas: BETAS,
    threads,
    batches,
  };
}

/** Writes the plan's first A and B as a PEFT folder. */
export async function writeStart(
  config: LlamaConfig,
  { start, kinds, rank, alpha, seed }: Plan,
): Promise<void> {
  const modules = trainedModules(newParameters(config, { targets: [...kinds], rank, seed }), alpha);
  const { configJson, safetensors } = writePeftAdapter({ modules, baseModel: null });
  await mkdir(start, { recursive: true });
  await writeFile(path.join(start, 'adapter_config.json'), configJson);
  await writeFile(path.join(start, 'adapter_model.safetensors'), safetensors);
}

/** Random tokens, each labelled with the next one. */
export function randomBatches(params: {
  steps: number;
  rows: number;
  length: number;
  vocab: number;
}): PlannedBatch[] {
  const { steps, rows, length, vocab } = params;
  const random = seededRandom(SEED);
  return Array.from({ length: steps }, () => {
    const tokens = Array.from(
      { length: rows * length },
      () => FIRST_TOKEN + Math.floor(random() * (vocab - FIRST_TOKEN)),
    );
    const labels = tokens.map((_, at) => (at % length === length - 1 ? -1 : tokens[at + 1]!));
    return { rows, length, tokens, labels };
  });
}

/** Rows in the order of a training, each step padded as one batch. */
export function orderedBatches(rows: readonly TrainingRow[], batch: number, steps: number): PlannedBatch[] {
  const lengths = rows.map(rowLength);
  const order = new DataOrder({ lengths, batch, seed: SEED });
  return Array.from({ length: steps }, (_, step) => {
    const own = order.rowsOfStep(step).map((row) => rows[row]!);
    const buckets = lengthBuckets(own.map(rowLength)).slice(-1);
    const [made] = makeBatches(own, { buckets, mostTokens: Infinity, mostScores: Infinity });
    const { rows: count, length, tokens, labels } = made!;
    return { rows: count, length, tokens: [...tokens], labels: [...labels] };
  });
}
