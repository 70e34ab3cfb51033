/**
 * A training from its first step to its last, and its state between them. A function of rows, settings and seed alone:
 * the same ones give the same bytes on one machine with the same threads, also after a resume.
 */
import {
  type LoraModule,
  makeLoraModule,
  parseCanonical,
  sumAdapters,
  type Tensor as AdapterTensor,
  truncateAdapter,
} from '../../adapters/index.ts';
import {
  checkpointSteps,
  MAX_CONTINUED_RANK,
  targetsOf,
  type TrainingCard,
  type TrainingCurve,
  type TrainingRequest,
  type TrainingSettings,
  usualBatch,
  usualRate,
} from '../../protocol/training.ts';
import { type LlamaConfig, ofLayer, storedLinears, storedShape } from '../model/base-model.ts';
import { transpose } from '../model/prepare-weights.ts';
import { mulberry32 } from '../model/rotation.ts';
import { type AdamW, rateOf } from './adamw.ts';
import { type Batch, DataOrder, lengthBuckets, makeBatches, planSteps, rowLength } from './batches.ts';
import { emptyParameter, type Parameter, trainedLinears } from './frozen-base.ts';
import type { TrainingRow } from './rows.ts';
import { batchLimits, MAX_BATCH_TOKENS, type Scores, type Trainer } from './trainer.ts';

/** Times that the held-out rows are scored, evenly over the steps. */
const EVALUATIONS = 10;
/** Points of the curve that a card keeps. */
const CURVE_POINTS = 200;

/**
 * Chooses what the request leaves open; targets that the base does not have are left out, unless there are no others.
 * @param params.rows that are trained on. @param params.activated of `activationOf`.
 */
export function settingsOf(
  { activated_by: _, ...request }: TrainingRequest,
  params: { rows: number; config: LlamaConfig; activated?: TrainingSettings['activated'] },
): TrainingSettings {
  const { rows, config, activated } = params;
  const known = new Set(
    config.attention.flatMap((_, layer) =>
      storedLinears(config, layer).flatMap(({ name }) => targetsOf(name)),
    ),
  );
  const targets = request.targets.filter((target) => known.has(target));
  return {
    ...request,
    ...(activated === undefined ? {} : { activated }),
    targets: targets.length === 0 ? request.targets : targets,
    batch: request.batch ?? usualBatch(rows),
    rate: request.rate ?? usualRate(request.method, config.hidden),
  };
}

/** Parameters in the order of layers, linears and sides; none if no linear is trained by these targets. */
export function newParameters(
  config: LlamaConfig,
  { targets, rank, seed }: Pick<TrainingSettings, 'targets' | 'rank' | 'seed'>,
): Parameter[] {
  const random = mulberry32(seed);
  const all: Parameter[] = [];
  for (let layer = 0; layer < config.layers; layer++)
    for (const linear of trainedLinears(config, layer, targets)) {
      const shape = storedShape(ofLayer(config, layer), linear);
      const a = emptyParameter({ layer, linear, side: 'A', rank, width: shape.in });
      // As PEFT begins: A uniform within 1 / sqrt(in), B zero.
      const bound = 1 / Math.sqrt(shape.in);
      for (let i = 0; i < a.values.length; i++) a.values[i] = (2 * random() - 1) * bound;
      all.push(a, emptyParameter({ layer, linear, side: 'B', rank, width: shape.out }));
    }
  return all;
}

/** The trained delta as an adapter's modules, float32. */
export function trainedModules(parameters: readonly Parameter[], alpha: number): LoraModule[] {
  const modules: LoraModule[] = [];
  for (const [index, a] of parameters.entries()) {
    const b = parameters[index + 1];
    if (a.side !== 'A' || b === undefined) continue;
    const tensor = (values: Float32Array<ArrayBuffer>, shape: number[]): AdapterTensor => ({
      dtype: 'F32',
      shape,
      data: new Uint8Array(values.slice().buffer),
    });
    modules.push(
      makeLoraModule({
        name: a.linear.name,
        alpha,
        rank: a.rank,
        a: tensor(a.values, [a.rank, a.width]),
        b: tensor(transpose(b.values, b.rank, b.width), [b.width, b.rank]),
      }),
    );
  }
  return modules;
}

/**
 * The trained delta and the adapter that it was trained on as one, exact up to a rank of {@link MAX_CONTINUED_RANK} or
 * that of the adapter. @param last of the chain, with its canonical file.
 */
export function continuedModules(
  trained: readonly LoraModule[],
  last: { file: Uint8Array<ArrayBuffer>; scale: number },
): { modules: LoraModule[]; continued: NonNullable<TrainingCard['continued']> } {
  const { modules: known } = parseCanonical(last.file);
  const largest = (modules: readonly LoraModule[]): number => Math.max(...modules.map(({ rank }) => rank));
  const sum = sumAdapters(
    [
      { modules: known, scale: last.scale },
      { modules: trained, scale: 1 },
    ],
    { anyRank: true },
  );
  const most = Math.max(MAX_CONTINUED_RANK, largest(known));
  const [sumRank, cut] = [largest(sum), truncateAdapter(sum, most)];
  return {
    modules: cut.modules,
    continued: { sum_rank: sumRank, rank: largest(cut.modules), relative_error: cut.relativeError },
  };
}

export interface HeldOutScore {
  /** Mean over labels of -log p in nats; of pairs and scores the mean loss. */
  loss: number;
  /** Rows of which each token is the likeliest; of pairs those whose chosen answer gained more; null of a `regression`. */
  exact: number | null;
  rows: number;
}

/** What a training needs to go on, apart from its parameters and settings. */
export interface RunState {
  /** Finished steps. */
  step: number;
  /** Labelled tokens of them. */
  tokens: number;
  /** Of them. */
  seconds: number;
  curve: TrainingCurve;
  before: HeldOutScore | null;
}

export interface StepReport {
  /** Finished steps, this one included. */
  step: number;
  loss: number;
  rate: number;
  /** Of the gradients, before they are clipped. */
  norm: number;
  /** Tokens of its rows, without padding. */
  tokens: number;
}

export type StepResult =
  | { ok: true; report: StepReport }
  /** Nothing has changed. @property lines of the step's rows. */
  | { ok: false; lines: readonly number[] };

export interface RunParams {
  trainer: Trainer;
  config: LlamaConfig;
  parameters: readonly Parameter[];
  optimizer: AdamW;
  rows: { trained: readonly TrainingRow[]; heldOut: readonly TrainingRow[] };
  settings: TrainingSettings;
  /** Whether adapters of earlier steps are kept. The held-out rows are scored after those steps, too. */
  checkpoints?: boolean;
  /** Of an earlier part of the same training, with its parameters and optimizer. */
  state?: RunState;
  /** Milliseconds. */
  now: () => number;
}

/** Padded lengths for all rows. */
export const bucketsOf = (rows: RunParams['rows']): number[] =>
  lengthBuckets([...rows.trained, ...rows.heldOut].map(rowLength));

/** Padded tokens of a step's largest micro-batch. */
export function mostTokensOf(rows: RunParams['rows'], batch: number): number {
  const longest = bucketsOf(rows).at(-1) ?? 0;
  const sequences = Math.max(1, ...rows.trained.map((row) => row.sequences.length));
  return Math.max(longest * sequences, Math.min(MAX_BATCH_TOKENS, longest * sequences * batch));
}

/** Time that a step takes, of all but the first, which also builds the graphs. */
export class StepPace {
  #from: number;
  #steps = 0;

  constructor(private readonly now: () => number) {
    this.#from = now();
  }

  /** Call it after each step. @returns milliseconds a step. */
  next(): number {
    const now = this.now();
    const each = (now - this.#from) / Math.max(1, this.#steps);
    if (this.#steps === 0) this.#from = now;
    this.#steps += 1;
    return each;
  }
}

const isLabelled = (label: number): boolean => label >= 0;
const labelsOf = (rows: readonly TrainingRow[]): number =>
  rows.reduce(
    (sum, { sequences }) =>
      sum + sequences.reduce((n, { labels }) => n + labels.filter(isLabelled).length, 0),
    0,
  );
const tokensOf = (rows: readonly TrainingRow[]): number =>
  rows.reduce((sum, { sequences }) => sum + sequences.reduce((n, { tokens }) => n + tokens.length, 0), 0);

export class TrainingRun {
  readonly steps: number;
  /** Steps after which the adapter is kept, ascending. */
  readonly checkpoints: readonly number[];
  readonly state: RunState;
  private readonly order: DataOrder;
  private readonly limits: Parameters<typeof makeBatches>[1];
  /** Of pairs: log-probabilities of the chosen and the rejected answer by the frozen chain. */
  private readonly references = new Map<TrainingRow, readonly [number, number]>();

  constructor(private readonly params: RunParams) {
    const { rows, settings, config } = params;
    this.steps = planSteps({
      rows: rows.trained.length,
      batch: settings.batch,
      epochs: settings.epochs,
      leastSteps: settings.least_steps,
    });
    this.checkpoints =
      params.checkpoints === true ? checkpointSteps({ steps: this.steps, epochs: settings.epochs }) : [];
    this.order = new DataOrder({
      lengths: rows.trained.map(rowLength),
      batch: settings.batch,
      seed: settings.seed,
    });
    this.limits = { buckets: bucketsOf(rows), ...batchLimits(config.heads) };
    this.state = params.state ?? { step: 0, tokens: 0, seconds: 0, curve: [], before: null };
  }

  get finished(): boolean {
    return this.state.step >= this.steps;
  }

  get hasHeldOut(): boolean {
    return this.params.rows.heldOut.length > 0;
  }

  /** Whether the held-out rows are due, after a step. */
  get scoresNow(): boolean {
    const every = Math.max(1, Math.round(this.steps / EVALUATIONS));
    return this.hasHeldOut && (this.finished || this.isCheckpoint || this.state.step % every === 0);
  }

  /** Whether the adapter is kept as it is now. */
  get isCheckpoint(): boolean {
    return this.checkpoints.includes(this.state.step);
  }

  /** Whether the state lacks a score: before the first step, or because an earlier run ended before it. */
  get owesScore(): boolean {
    const { step, curve, before } = this.state;
    if (step === 0) return this.hasHeldOut && before === null;
    return this.scoresNow && (this.finished || curve.at(-1)?.[2] === null);
  }

  private batches(rows: readonly TrainingRow[]): Batch[] {
    return makeBatches(rows, this.limits);
  }

  /** Trains on the next step's rows. @throws OrtError when memory ends. */
  async next(): Promise<StepResult> {
    const { trainer, rows, settings, optimizer, now } = this.params;
    const { state } = this;
    const begin = now();
    const own = this.order.rowsOfStep(state.step).map((row) => rows.trained[row]!);
    const labels = labelsOf(own);
    const share = settings.method === 'sft' ? 1 / labels : 1 / own.length;
    const loss = await this.losses(own, share, true);
    const rate = rateOf(state.step, this.steps, settings.rate);
    // Not finite gradients leave everything as it was.
    const norm = Number.isFinite(loss) ? optimizer.update(rate) : NaN;
    if (!Number.isFinite(norm)) {
      for (const { gradient } of this.params.parameters) gradient.fill(0);
      return { ok: false, lines: own.map(({ line }) => line) };
    }
    trainer.changed();
    state.step += 1;
    state.tokens += labels;
    state.seconds += (now() - begin) / 1_000;
    state.curve.push([state.step, loss, null]);
    return { ok: true, report: { step: state.step, loss, rate, norm, tokens: tokensOf(own) } };
  }

  /**
   * Sum over rows of `share` times their loss: of -log p over labels, or of DPO's -log sigmoid(beta * margin).
   * @param learns adds the gradients.
   */
  private async losses(rows: readonly TrainingRow[], share: number, learns: boolean): Promise<number> {
    const { trainer, settings } = this.params;
    let loss = 0;
    for (const batch of this.batches(rows)) {
      if (settings.method === 'sft') {
        for (let i = 0; i < batch.weights.length; i++) batch.weights[i]! *= share;
        const { nll } = learns ? await trainer.accumulate(batch) : await trainer.score(batch);
        nll.forEach((one, at) => (loss += one * batch.weights[at]!));
        continue;
      }
      await this.refer(rows, batch);
      const weigh = (scores: Scores): Float32Array => {
        const weights = new Float32Array(batch.weights.length);
        for (const { at, margin } of this.margins(rows, batch, scores)) {
          loss += share * softplus(-settings.beta * margin);
          const slope = (share * settings.beta) / (1 + Math.exp(settings.beta * margin));
          for (const [sequence, sign] of [1, -1].entries())
            for (let i = 0; i < batch.length; i++) {
              const position = (at + sequence) * batch.length + i;
              weights[position] = sign * slope * batch.weights[position]!;
            }
        }
        return weights;
      };
      if (learns) await trainer.accumulate(batch, weigh);
      else weigh(await trainer.score(batch));
    }
    return loss;
  }

  /** Pairs of a batch: where their sequences are, and by how much the delta prefers the chosen one. */
  private margins(
    rows: readonly TrainingRow[],
    batch: Batch,
    { nll }: Scores,
  ): { at: number; margin: number; row: TrainingRow }[] {
    const pairs: { at: number; margin: number; row: TrainingRow }[] = [];
    for (let at = 0; at < batch.rows; at += 2) {
      const row = rows[batch.source[at]!]!;
      const [chosen, rejected] = this.references.get(row) ?? [0, 0];
      pairs.push({
        at,
        row,
        margin: logOf(nll, batch, at) - chosen - (logOf(nll, batch, at + 1) - rejected),
      });
    }
    return pairs;
  }

  /** The frozen chain's log-probabilities of a batch's pairs, once. */
  private async refer(rows: readonly TrainingRow[], batch: Batch): Promise<void> {
    if ([...batch.source].every((row) => this.references.has(rows[row]!))) return;
    const { nll } = await this.params.trainer.score(batch, { withDelta: false });
    for (let at = 0; at < batch.rows; at += 2)
      this.references.set(rows[batch.source[at]!]!, [logOf(nll, batch, at), logOf(nll, batch, at + 1)]);
  }

  /** Scores the held-out rows; before the first step it is what the training began with. */
  async evaluate(): Promise<HeldOutScore> {
    const { trainer, settings } = this.params;
    const { heldOut } = this.params.rows;
    let loss = 0;
    let exact = 0;
    for (const batch of this.batches(heldOut)) {
      if (settings.method === 'dpo') await this.refer(heldOut, batch);
      const scores = await trainer.score(batch);
      if (settings.method === 'dpo') {
        const margins = this.margins(heldOut, batch, scores);
        exact += margins.filter(({ margin }) => margin > 0).length;
        for (const { margin } of margins) loss += softplus(-settings.beta * margin);
        continue;
      }
      for (const one of scores.nll) loss += one;
      for (let row = 0; row < batch.rows; row++) {
        const missed = scores.missed.subarray(row * batch.length, (row + 1) * batch.length);
        if (missed.every((miss) => miss === 0)) exact += 1;
      }
    }
    const count = settings.method === 'dpo' ? heldOut.length : labelsOf(heldOut);
    const isExact = settings.problem_type !== 'regression';
    const score = { loss: loss / count, exact: isExact ? exact : null, rows: heldOut.length };
    const { state } = this;
    if (state.step === 0) state.before = score;
    const last = state.curve.at(-1);
    if (last !== undefined) last[2] = score.loss;
    return score;
  }

  /** What a card says of the training itself. */
  summary(
    heldOut: HeldOutScore | null,
  ): Pick<TrainingCard, 'settings' | 'steps' | 'tokens' | 'curve' | 'scores' | 'seconds'> {
    const { state } = this;
    const { before } = state;
    return {
      settings: this.params.settings,
      steps: state.step,
      tokens: state.tokens,
      curve: thinned(state.curve),
      scores:
        heldOut === null || before === null
          ? null
          : { loss_before: before.loss, loss: heldOut.loss, exact: heldOut.exact, rows: heldOut.rows },
      seconds: Math.round(state.seconds * 10) / 10,
    };
  }
}

/** Log-probability of a sequence's labels. */
function logOf(nll: Float32Array, batch: Batch, sequence: number): number {
  let sum = 0;
  for (let i = sequence * batch.length; i < (sequence + 1) * batch.length; i++)
    sum -= nll[i]! * batch.weights[i]!;
  return sum;
}

/** log(1 + e^x) */
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** Points with a held-out loss, and others evenly, the last one included. */
export function thinned(curve: TrainingCurve): TrainingCurve {
  const every = Math.ceil(curve.length / (CURVE_POINTS - EVALUATIONS - 2));
  const last = curve.length - 1;
  return curve
    .filter(([, , heldOut], at) => heldOut !== null || at % Math.max(1, every) === 0 || at === last)
    .map(([step, loss, heldOut]) => [step, rounded(loss), heldOut === null ? null : rounded(heldOut)]);
}

const rounded = (loss: number): number => Number(loss.toPrecision(6));
