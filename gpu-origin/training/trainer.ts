/** Gradients of a low-rank delta over a frozen base and chain, layer by layer. */
import {
  convolvedChannels,
  type DeltaNet,
  isDeltaNet,
  keysOf,
  LINEAR_KINDS,
  type LlamaConfig,
  ofLayer,
  type Rope,
} from '../model/base-model.ts';
import { rotationsOf } from '../model/rotation.ts';
import type { Device } from '../runtime/device.ts';
import type { Batch } from './batches.ts';
import { classLoss, type HeadInput } from './classifier.ts';
import { keptOfDeltaNet } from './delta-net.ts';
import { expertRows } from './experts.ts';
import {
  addGradient,
  embed,
  embedInLayer,
  type FrozenChain,
  type FrozenWeights,
  type Parameter,
  placeChain,
  placeWeights,
  rotaryTable,
  type ServedBase,
  toServed,
} from './frozen-base.ts';
import {
  actsInput,
  buildHeadGraphs,
  buildLayerGraphs,
  deltaInput,
  EMBEDDED,
  gradientOf,
  gradientOfLater,
  type GraphParams,
  LAYER_EMBEDDED,
  SHARED,
  type Sharing,
} from './graphs.ts';
import { type OpenModel, type Sizes, type Tensor, TensorRuntime } from './tensors.ts';

/** Rows whose logits lie in memory at once: 50 MB of SmolLM2's, twice. */
export const HEAD_ROWS = 256;
/** Scores of attention in memory at once, bytes; a longer sequence goes alone. */
export const SCORE_BYTES = 256 * 1024 ** 2;
/** Tokens of a micro-batch: enough to keep the cores busy, and few enough that memory stays flat. */
export const MAX_BATCH_TOKENS = 2_048;
/** Above this, kept values are computed again instead, bytes of a micro-batch. */
export const KEPT_BYTES = 1024 ** 3;
/** A target counts as the likeliest token if its logit is at most this far below the largest: sums round differently. */
const TIE = 1e-4;
/** Masked scores: their exponential is zero in float32. */
const MASKED = -1e30;

/** The layers of a length that have the same graphs. */
interface OpenLayers {
  forward: OpenModel;
  backward: OpenModel;
}

export interface TrainerParams {
  device: Device;
  base: ServedBase;
  /** Of all trained linears, both sides, layers in order. */
  parameters: readonly Parameter[];
  /** alpha / rank. */
  scale: number;
  /** The frozen chain below. */
  chain: FrozenChain;
  /** Whether what is trained acts from some token of each row on (`Batch.begins`). Default: no. */
  activated?: boolean;
  /** The head that is trained too, the last of the parameters; labels are then classes. Default: none. */
  classifier?: HeadInput;
  /** Of the largest micro-batch, padding included. */
  mostTokens: number;
  /** Default: whether kept values would take more than 1 GiB. */
  recompute?: boolean;
  onProgress?: (done: number, total: number) => void;
  /** Does a run of a layer or of the head when the machine has time for it. Default: at once. */
  turn?: <T>(run: () => Promise<T>) => Promise<T>;
}

/** Of each position of a batch; 0 without a label. */
export interface Scores {
  /** -log p of the label, nats. */
  nll: Float32Array;
  /** 1 where the label is not the likeliest token. */
  missed: Uint8Array;
}

/** Limits of micro-batches for `makeBatches`. */
export const batchLimits = (heads: number): { mostTokens: number; mostScores: number } => ({
  mostTokens: MAX_BATCH_TOKENS,
  mostScores: Math.floor(SCORE_BYTES / (Float32Array.BYTES_PER_ELEMENT * heads)),
});

const deltaNetOf = (config: LlamaConfig, layer: number): DeltaNet | null =>
  isDeltaNet(config, layer) ? config.deltaNet : null;

/** Bytes that a micro-batch's forward pass would keep for the backward pass. */
export function keptBytes(base: Pick<ServedBase, 'config'>, tokens: number): number {
  const { hidden, heads, layers, qkNorm, valueNorm, postNorms, outputGate, layerEmbedding, experts } =
    base.config;
  let floats = 0;
  for (let layer = 0; layer < layers; layer++) {
    const { kvHeads, headDim, ffn } = ofLayer(base.config, layer);
    const net = deltaNetOf(base.config, layer);
    floats += 2 * hidden + (postNorms ? 2 * hidden : 0);
    floats += experts === null ? 2 * ffn : 2 * ffn * experts.chosen + experts.count;
    floats += layerEmbedding === null ? 0 : 2 * hidden + 2 * layerEmbedding;
    if (net !== null) {
      floats += convolvedChannels(net) + net.valueHeads * (net.valueDim + 2) + keptOfDeltaNet(net);
      continue;
    }
    const attention = (heads + kvHeads) * headDim;
    floats += attention * 2 + (qkNorm === null ? 0 : attention) + (outputGate ? heads * headDim : 0);
    floats += valueNorm ? kvHeads * headDim : 0;
  }
  return tokens * floats * Float32Array.BYTES_PER_ELEMENT;
}

/** What becomes of a layer's keys and values in other layers; null = nothing. */
function sharingOf(config: LlamaConfig, layer: number): Sharing | null {
  if (keysOf(config, layer) !== layer) return 'borrows';
  const isRead = config.layerSizes?.some(({ keysOf: source }) => source === layer) === true;
  return isRead ? 'lends' : null;
}

/** What the gradients of shared keys and values get of later layers, by the layer that lends them. */
type LaterGradients = Map<number, Readonly<Record<string, Tensor>>>;

const isShared = (name: string): boolean => (SHARED as readonly string[]).includes(name);

export class Trainer {
  private readonly layers = new Map<string, OpenLayers>();
  private readonly tables = new Map<string, Tensor>();
  private readonly byLayer: readonly (readonly Parameter[])[];
  /** Trained matrices as the graphs read them, by layer; empty = they have changed. */
  private served: Record<string, Tensor>[] = [];

  private constructor(
    private readonly runtime: TensorRuntime,
    private readonly params: TrainerParams,
    private readonly weights: FrozenWeights,
    private readonly chain: Awaited<ReturnType<typeof placeChain>>,
    private readonly graphs: GraphParams,
    private readonly head: { loss: OpenModel; score: OpenModel },
  ) {
    this.byLayer = params.base.config.attention.map((_, layer) =>
      params.parameters.filter((parameter) => parameter.layer === layer),
    );
  }

  /** @throws OrtError when there is not enough memory. */
  static async open(params: TrainerParams): Promise<Trainer> {
    const { base, device, scale, parameters, mostTokens } = params;
    const { config, rotations } = base;
    const runtime = new TensorRuntime(device, params.turn);
    try {
      const weights = await placeWeights(runtime, base, params.onProgress ?? (() => {}));
      const chain = await placeChain(runtime, config, params.chain);
      const kinds = new Set(parameters.flatMap(({ linear }) => linear.kinds));
      const graphs: GraphParams = {
        config,
        rotations,
        form: weights.form,
        trained: LINEAR_KINDS.filter((kind) => kinds.has(kind)),
        scale,
        activated: params.activated ?? false,
        frozen: chain.deltas,
        recompute: params.recompute ?? keptBytes(base, mostTokens) > KEPT_BYTES,
      };
      const { loss, score } = buildHeadGraphs(graphs);
      const head = { loss: await runtime.open(loss), score: await runtime.open(score) };
      return new Trainer(runtime, params, weights, chain, graphs, head);
    } catch (error) {
      runtime.close();
      throw error;
    }
  }

  get recompute(): boolean {
    return this.graphs.recompute;
  }

  /** Bytes of weights, and of everything else at most so far. */
  get memory(): { weights: number; most: number } {
    return { weights: this.weights.bytes, most: this.runtime.mostBytes };
  }

  /** The parameters' values have changed. */
  changed(): void {
    for (const layer of this.served) for (const value of Object.values(layer)) this.runtime.free(value);
    this.served = [];
  }

  /**
   * Adds a batch's gradients to those of the parameters: of the sum over its labels of weight * -log p.
   * @param weigh given every position's -log p, returns the weights to use instead of the batch's; for losses that are
   * not a sum over tokens.
   * @returns -log p of every label.
   */
  async accumulate(batch: Batch, weigh?: (scores: Scores) => Float32Array): Promise<Scores> {
    const acts = await this.actsOf(batch);
    try {
      return await this.learn(batch, acts, weigh);
    } finally {
      for (const value of Object.values(acts)) this.runtime.free(value);
    }
  }

  private async learn(
    batch: Batch,
    acts: Record<string, Tensor>,
    weigh?: (scores: Scores) => Float32Array,
  ): Promise<Scores> {
    const { runtime } = this;
    const { hidden } = this.params.base.config;
    const { x, kept, sizes } = await this.forward(batch, acts, true);
    let input: Tensor | undefined = x;
    const later: LaterGradients = new Map();
    try {
      const weights = weigh === undefined ? batch.weights : weigh(await this.heads(batch, x, 'score'));
      const gradient = new Float32Array(batch.tokens.length * hidden);
      const scores = await this.heads(batch, x, 'loss', { weights, gradient });
      runtime.free(x);
      input = undefined;
      input = await runtime.upload('f32', [batch.tokens.length, hidden], gradient);
      for (let layer = kept.length - 1; layer >= 0; layer--) {
        const values = { ...this.lentTo(layer, kept), ...kept[layer]!, ...acts };
        const next = await this.backward(layer, input, values, later, batch.length, sizes);
        runtime.free(input);
        input = next;
        this.freeAll(kept.splice(layer));
      }
      return scores;
    } finally {
      runtime.free(input);
      this.freeAll([...later.values()]);
      this.freeAll(kept);
    }
  }

  /** @param options.withDelta false: of the frozen chain alone, without what is trained. */
  async score(batch: Batch, options: { withDelta: boolean } = { withDelta: true }): Promise<Scores> {
    const acts = await this.actsOf(batch);
    let x: Tensor | undefined;
    try {
      ({ x } = await this.forward(batch, acts, false, options.withDelta));
      return await this.heads(batch, x, 'score');
    } finally {
      for (const value of [x, ...Object.values(acts)]) this.runtime.free(value);
    }
  }

  /** Where the activated deltas act, as inputs of the graphs. */
  private async actsOf({ rows, length, begins }: Batch): Promise<Record<string, Tensor>> {
    const { frozen, activated } = this.graphs;
    const all = [
      ...frozen.map((delta, which) => ({ ...delta, which })),
      { activated, which: 'trained' as const },
    ];
    const made: Record<string, Tensor> = {};
    for (const [place, { which }] of all.filter((one) => one.activated).entries()) {
      const acts = new Float32Array(rows * length);
      for (let row = 0; row < rows; row++) {
        const begin = begins?.[place * rows + row];
        if (begin === undefined) throw new Error('the batch does not say where deltas begin to act');
        acts.fill(1, row * length + Math.min(begin, length), (row + 1) * length);
      }
      made[actsInput(which)] = await this.runtime.upload('f32', [rows * length, 1], acts);
    }
    return made;
  }

  close(): void {
    this.changed();
    this.runtime.close();
  }

  private async forward(
    batch: Batch,
    acts: Record<string, Tensor>,
    keeps: boolean,
    withDelta = true,
  ): Promise<{ x: Tensor; kept: Record<string, Tensor>[]; sizes: Sizes }> {
    const { runtime } = this;
    const { base } = this.params;
    const { hidden } = base.config;
    const sizes = {
      T: batch.tokens.length,
      S: batch.rows,
      R: this.params.parameters[0]?.rank ?? 0,
    };
    /** Until it is among the kept values. */
    let stream: Tensor | undefined = await runtime.upload(
      'f32',
      [batch.tokens.length, hidden],
      embed(base, batch.tokens),
    );
    const kept: Record<string, Tensor>[] = [];
    try {
      for (let layer = 0; layer < base.config.layers; layer++) {
        const { forward, backward } = await this.graphsOf(layer, batch.length);
        const inputs = await this.inputs(layer, batch.length, withDelta);
        const before = { ...(await this.ownEmbedding(layer, batch.tokens)), x: stream! };
        kept.push(before);
        stream = undefined;
        // A classification head reads the last layer's output here.
        const isRead = this.params.classifier !== undefined && layer === base.config.layers - 1;
        const { y, ...values } = await runtime.run(
          forward,
          { ...inputs, ...acts, ...before, ...this.lentTo(layer, kept) },
          this.sizesOf(layer, sizes),
          (name) => isRead && name === 'y',
        );
        stream = y!;
        const read = keeps ? backward.model.inputs : [];
        const isKept = (name: string): boolean => read.includes(name) || this.isLent(layer, name);
        kept[layer] = this.keepOnly({ ...values, ...before }, isKept);
      }
      if (!keeps) this.freeAll(kept.splice(0));
      return { x: stream!, kept, sizes };
    } catch (error) {
      runtime.free(stream);
      this.freeAll(kept);
      throw error;
    }
  }

  /** Frees the other values. */
  private keepOnly(
    values: Readonly<Record<string, Tensor>>,
    stays: (name: string) => boolean,
  ): Record<string, Tensor> {
    const kept: Record<string, Tensor> = {};
    for (const [name, value] of Object.entries(values))
      if (stays(name)) kept[name] = value;
      else this.runtime.free(value);
    return kept;
  }

  private freeAll(all: readonly Readonly<Record<string, Tensor>>[]): void {
    for (const values of all) for (const value of Object.values(values)) this.runtime.free(value);
  }

  /** What a layer reads of earlier ones, beside the stream. @param kept of all layers so far, itself included. */
  private lentTo(layer: number, kept: readonly Readonly<Record<string, Tensor>>[]): Record<string, Tensor> {
    const { config } = this.params.base;
    const lent: Record<string, Tensor> = {};
    if (config.layerEmbedding !== null) lent[EMBEDDED] = kept[0]!['x']!;
    const source = keysOf(config, layer);
    if (source !== layer) for (const name of SHARED) lent[name] = kept[source]![name]!;
    return lent;
  }

  /** Whether later layers read a value of the layer. */
  private isLent(layer: number, name: string): boolean {
    const { config } = this.params.base;
    if (sharingOf(config, layer) === 'lends' && isShared(name)) return true;
    return config.layerEmbedding !== null && layer === 0 && name === 'x';
  }

  private async ownEmbedding(layer: number, tokens: Int32Array): Promise<Record<string, Tensor>> {
    const { base } = this.params;
    const { layerEmbedding } = base.config;
    if (layerEmbedding === null) return {};
    const rows = embedInLayer(base, layer, tokens);
    return { [LAYER_EMBEDDED]: await this.runtime.upload('f32', [tokens.length, layerEmbedding], rows) };
  }

  /** @param later changes by what the layer makes and uses up. @returns the gradient of the layer's input. */
  private async backward(
    layer: number,
    dy: Tensor,
    kept: Record<string, Tensor>,
    later: LaterGradients,
    length: number,
    sizes: Sizes,
  ): Promise<Tensor> {
    const { runtime } = this;
    const { backward } = await this.graphsOf(layer, length);
    const ofLater = await this.gradientsOfLater(layer, kept, later);
    const inputs = { ...(await this.inputs(layer, length, true)), ...kept, ...ofLater, dy };
    const dx = gradientOf('x');
    const flows = [dx, ...SHARED.map(gradientOf)];
    const isRead = (name: string): boolean => !flows.includes(name);
    const made = await runtime.run(backward, inputs, this.sizesOf(layer, sizes), isRead);
    for (const parameter of this.byLayer[layer]!)
      for (const kind of parameter.linear.kinds) {
        const value = made[gradientOf(deltaInput(kind, parameter.side, 'trained'))]!;
        addGradient(this.params.base, parameter, kind, runtime.read(value));
      }
    for (const [name, value] of Object.entries(made)) if (isRead(name)) runtime.free(value);
    this.passOn(layer, made, later);
    return made[dx]!;
  }

  /** What the gradients of the keys and values that the layer shares get of later layers: zeros before the first. */
  private async gradientsOfLater(
    layer: number,
    kept: Readonly<Record<string, Tensor>>,
    later: LaterGradients,
  ): Promise<Readonly<Record<string, Tensor>>> {
    const { config } = this.params.base;
    if (sharingOf(config, layer) === null) return {};
    const source = keysOf(config, layer);
    const known = later.get(source);
    if (known !== undefined) return known;
    const zeros: Record<string, Tensor> = {};
    later.set(source, zeros);
    for (const name of SHARED) {
      const { dims } = kept[name]!;
      const count = dims.reduce((product, size) => product * size, 1);
      zeros[gradientOfLater(name)] = await this.runtime.upload('f32', dims, new Float32Array(count));
    }
    return zeros;
  }

  /** The same with what the layer adds, for the layers before it. */
  private passOn(layer: number, made: Readonly<Record<string, Tensor>>, later: LaterGradients): void {
    const { config } = this.params.base;
    const sharing = sharingOf(config, layer);
    if (sharing === null) return;
    const source = keysOf(config, layer);
    this.freeAll([later.get(source) ?? {}]);
    later.delete(source);
    if (sharing === 'lends') return;
    const sums: Record<string, Tensor> = {};
    for (const name of SHARED) sums[gradientOfLater(name)] = made[gradientOf(name)]!;
    later.set(source, sums);
  }

  /** Labelled positions through the head, some at a time. */
  private async heads(
    batch: Batch,
    x: Tensor,
    which: 'score' | 'loss',
    wanted?: { weights: Float32Array; gradient: Float32Array },
  ): Promise<Scores> {
    const { runtime, weights } = this;
    const { hidden } = this.params.base.config;
    if (this.params.classifier !== undefined) return this.classify(batch, x, this.params.classifier, wanted);
    const scores: Scores = {
      nll: new Float32Array(batch.tokens.length),
      missed: new Uint8Array(batch.tokens.length),
    };
    const all: number[] = [];
    batch.labels.forEach((label, at) => {
      if (label >= 0) all.push(at);
    });
    for (let from = 0; from < all.length; from += HEAD_ROWS) {
      const next = all.slice(from, from + HEAD_ROWS);
      // A row alone may go through another kernel, with other bits: a row's score must not depend on its batch.
      const some = next.length === 1 ? [...next, ...next] : next;
      const N = some.length;
      const own = {
        rows: await runtime.upload('i32', [N], Int32Array.from(some)),
        target: await runtime.upload(
          'i32',
          [N],
          Int32Array.from(some, (at) => batch.labels[at]!),
        ),
        weight: await runtime.upload(
          'f32',
          [N, 1],
          Float32Array.from(some, (at) => wanted?.weights[at] ?? 0),
        ),
      };
      const made = await runtime.run(
        this.head[which],
        { ...weights.head, ...own, x },
        { N, T: batch.tokens.length },
        () => true,
      );
      const read = (name: string): Float32Array => runtime.read(made[name]!);
      const [gaps, sure] = [read('gap'), read('sure')];
      some.forEach((at, index) => {
        scores.nll[at] = gaps[index]! - Math.log(sure[index]!);
        scores.missed[at] = gaps[index]! > TIE ? 1 : 0;
      });
      if (wanted !== undefined) {
        const d = read('d');
        some.forEach((at, index) =>
          wanted.gradient.set(d.subarray(index * hidden, (index + 1) * hidden), at * hidden),
        );
      }
      for (const value of [...Object.values(own), ...Object.values(made)]) runtime.free(value);
    }
    return scores;
  }

  /** Labelled positions through the classification head. */
  private classify(
    batch: Batch,
    x: Tensor,
    input: HeadInput,
    wanted?: { weights: Float32Array; gradient: Float32Array },
  ): Scores {
    const { hidden } = this.params.base.config;
    const head = this.params.parameters.at(-1)!;
    const scores: Scores = {
      nll: new Float32Array(batch.tokens.length),
      missed: new Uint8Array(batch.tokens.length),
    };
    const states = this.runtime.read(x);
    batch.labels.forEach((label, at) => {
      if (label < 0) return;
      const state = states.slice(at * hidden, (at + 1) * hidden);
      const weight = wanted?.weights[at] ?? 0;
      const target = batch.targets?.[Math.floor(at / batch.length)] ?? label;
      const { nll, missed, gradient } = classLoss(head, input, { x: state, wanted: target, weight });
      scores.nll[at] = nll;
      scores.missed[at] = missed ? 1 : 0;
      wanted?.gradient.set(gradient, at * hidden);
    });
    return scores;
  }

  private ropeOf(layer: number): { name: 'rope' | 'localRope' | null; rope: Rope | null } {
    const { config } = this.params.base;
    const name = config.attention[layer]!.rope;
    return { name, rope: name === null ? null : config[name] };
  }

  /** Groups of heads are each layer's own. */
  private sizesOf(layer: number, sizes: Sizes): Sizes {
    const { config } = this.params.base;
    const net = deltaNetOf(config, layer);
    const P = config.experts === null ? 0 : expertRows(config.experts, sizes['T']!);
    return { ...sizes, P, N: sizes['S']! * (net?.valueHeads ?? ofLayer(config, layer).kvHeads) };
  }

  private async graphsOf(layer: number, length: number): Promise<OpenLayers> {
    const { name, rope } = this.ropeOf(layer);
    const { config } = this.params.base;
    const own = ofLayer(config, layer);
    const deltaNet = deltaNetOf(config, layer);
    const kinds = new Set(this.byLayer[layer]!.flatMap(({ linear }) => linear.kinds));
    const trained = LINEAR_KINDS.filter((kind) => kinds.has(kind));
    const sharing = sharingOf(config, layer);
    const sizes = [own.kvHeads, own.headDim, own.ffn, sharing, ...trained].join();
    const key = `${length}.${deltaNet === null ? name : 'delta'}.${sizes}`;
    const known = this.layers.get(key);
    if (known !== undefined) return known;
    const rotations = rotationsOf(this.graphs.rotations, layer);
    const params = { ...this.graphs, config: { ...own, deltaNet }, rotations, trained, sharing };
    const { forward, backward } = buildLayerGraphs(params, length, rope);
    const opened = {
      forward: await this.runtime.open(forward),
      backward: await this.runtime.open(backward),
    };
    this.layers.set(key, opened);
    return opened;
  }

  private async inputs(layer: number, length: number, withDelta: boolean): Promise<Record<string, Tensor>> {
    const { config } = this.params.base;
    const { name } = this.ropeOf(layer);
    const { window } = config.attention[layer]!;
    const group = config.heads / ofLayer(config, layer).kvHeads;
    const tables =
      name === null
        ? {}
        : { cos: await this.rotary(name, 'cos', length), sin: await this.rotary(name, 'sin', length) };
    return {
      ...tables,
      mask: await this.table(`mask.${window}.${group}.${length}`, [group * length, length], () =>
        causalMask(group, length, window ?? length),
      ),
      // Some layers read a gain that lies there: LAYER_PROJECTION_NORM.
      ...this.weights.head,
      ...this.weights.layers[layer],
      ...this.chain.layers[layer],
      ...(withDelta ? await this.servedOf(layer) : await this.nothingOf(layer)),
    };
  }

  private rotary(which: 'rope' | 'localRope', side: 'cos' | 'sin', length: number): Promise<Tensor> {
    const half = this.params.base.config[which]!.dim / 2;
    return this.table(`${which}.${side}.${length}`, [length, half], () =>
      rotaryTable(this.params.base, which, side, length),
    );
  }

  private async table(
    key: string,
    dims: readonly number[],
    make: () => Float32Array<ArrayBuffer>,
  ): Promise<Tensor> {
    const known = this.tables.get(key) ?? (await this.runtime.place('f32', dims, make()));
    this.tables.set(key, known);
    return known;
  }

  private async servedOf(layer: number): Promise<Record<string, Tensor>> {
    const known = this.served[layer];
    if (known !== undefined) return known;
    const made: Record<string, Tensor> = {};
    for (const parameter of this.byLayer[layer]!)
      for (const kind of parameter.linear.kinds) {
        const values = toServed(this.params.base, parameter, kind);
        const dims = [parameter.rank, values.length / parameter.rank];
        made[deltaInput(kind, parameter.side, 'trained')] = await this.runtime.upload('f32', dims, values);
      }
    this.served[layer] = made;
    return made;
  }

  /** Zeros instead of the trained matrices: the frozen chain alone. */
  private async nothingOf(layer: number): Promise<Record<string, Tensor>> {
    const made: Record<string, Tensor> = {};
    for (const [name, { dims }] of Object.entries(await this.servedOf(layer)))
      made[name] = await this.table(
        `zeros.${dims.join()}`,
        dims,
        () => new Float32Array(dims[0]! * dims[1]!),
      );
    return made;
  }
}

/** @returns `[group * length, length]`: 0 where a query sees a key, otherwise far below any score. */
function causalMask(group: number, length: number, window: number): Float32Array<ArrayBuffer> {
  const mask = new Float32Array(group * length * length).fill(MASKED);
  for (let row = 0; row < group * length; row++) {
    const at = row % length;
    mask.fill(0, row * length + Math.max(0, at - window + 1), row * length + at + 1);
  }
  return mask;
}
