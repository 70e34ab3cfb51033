/** A step's bindings: its own tensors, and its rows' deltas in memory that the device reads. */
import {
  ADVANCES,
  LINEAR_KINDS,
  type LinearKind,
  hasLinear,
  cachedLayers,
  cacheParts,
  keysOf,
  linearShape,
  ofLayer,
  shapesByLayer,
  type LlamaConfig,
  blockOfA,
  DECODING_INPUTS,
  DELTA_KINDS,
  deltaNames,
  deltaShapeOfA,
  type GraphKind,
  inPrecision,
  type Layers,
  LEAST_RANK,
  NUMBER_BYTES,
  type Numbers,
  type Precision,
  GRAPH_KINDS,
} from '../model/base-model.ts';
import { type DeltaMemory, moduleKey, type OrtRowDelta, type RankByKind, noRanks } from './adapter-batch.ts';
import {
  type Binding,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type HostMemory,
  type SharedArrays,
  OrtError,
  type OwnMemory,
  type Session,
  type SessionCores,
  type Weights,
} from './device.ts';
import { SlotCache } from './kv-cache.ts';
import { MOST_ALONE } from './step-choice.ts';
import type { BuiltGraphs, DecodingGraphs, Progress } from '../model/build-graphs.ts';

/** Tensors of one batch size that are the same in every step. */
export interface StepTensors {
  tokens: BigInt64Array;
  lastPosition: Int32Array;
  total: Int32Array;
  /** Of bases with states: 1 for each row, 0 for one that sits the step out. */
  advances: Float32Array | null;
  logits: Float32Array;
  bound: Record<'tokens' | 'last_position' | 'total_length' | 'positions' | 'logits', DeviceTensor> & {
    advances?: DeviceTensor;
  };
  cache: DeviceTensor[];
  config: LlamaConfig;
  /**
   * Memory of everything but the cache, and of logits without a place of their own; outlives the tensors while
   * the logits are read.
   */
  memory: HostMemory;
}

/** Alignment of parts of the memory, bytes: the largest vectors of a processor. */
const ALIGNMENT = 64;

/**
 * @param shape.positions of each row, whose logits are wanted. @param cache of the rows, key and value by turns.
 * @param into where the logits are to lie, from byte `at` on; in memory of their own unless given.
 */
export async function stepTensors(
  device: Device,
  shape: { rows: number; length: number; positions: readonly number[]; config: LlamaConfig },
  cache: DeviceTensor[],
  into?: { memory: HostMemory; at: number },
): Promise<StepTensors> {
  const { rows, length, positions, config } = shape;
  const { vocab } = config;
  const wanted = positions.length;
  const sizes = [rows * length * 8, rows * 4, 4, rows * wanted * 8, config.deltaNet === null ? 0 : rows * 4];
  const logitBytes = rows * wanted * vocab * 4;
  if (into === undefined) sizes.push(logitBytes);
  const starts: number[] = [];
  let end = 0;
  for (const size of sizes) {
    starts.push(end);
    end += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
  }
  const [tokens, last, total, places, advancing] = starts as [number, number, number, number, number];
  const memory = await device.host(end);
  const logits = into ?? { memory, at: starts[5]! };
  const { buffer, offset } = memory;
  const positionsView = new BigInt64Array(buffer, offset + places, rows * wanted);
  for (let row = 0; row < rows; row++) positionsView.set(positions.map(BigInt), row * wanted);
  const advances =
    config.deltaNet === null ? null : new Float32Array(buffer, offset + advancing, rows).fill(1);
  return {
    advances,
    config,
    tokens: new BigInt64Array(buffer, offset + tokens, rows * length),
    lastPosition: new Int32Array(buffer, offset + last, rows),
    total: new Int32Array(buffer, offset + total, 1),
    logits: new Float32Array(logits.memory.buffer, logits.memory.offset + logits.at, rows * wanted * vocab),
    bound: {
      tokens: device.tensor('i64', memory, tokens, [rows, length]),
      last_position: device.tensor('i32', memory, last, [rows]),
      total_length: device.tensor('i32', memory, total, [1]),
      positions: device.tensor('i64', memory, places, [rows, wanted, 1]),
      logits: device.tensor('f32', logits.memory, logits.at, [rows, wanted, vocab]),
      ...(advances === null ? {} : { advances: device.tensor('f32', memory, advancing, [rows, 1, 1]) }),
    },
    cache,
    memory,
  };
}

/** Binds the rows of a mixed graph that decode; their tokens and logits are in the chunk's stream. */
export function bindDecoding(binding: Binding, step: StepTensors): void {
  for (const name of ['last_position', 'total_length'] as const)
    binding.input(`${DECODING_INPUTS}${name}`, step.bound[name]);
  if (step.bound.advances !== undefined) binding.input(`${DECODING_INPUTS}${ADVANCES}`, step.bound.advances);
  bindCache(binding, step, { from: 0, to: step.config.layers }, DECODING_INPUTS);
}

/** @param layers of the part that runs; all unless given. */
export function bindStep(binding: Binding, step: StepTensors, layers?: Layers): void {
  const all = step.config.layers;
  const { from, to } = layers ?? { from: 0, to: all };
  for (const name of ['last_position', 'total_length'] as const) binding.input(name, step.bound[name]);
  if (step.bound.advances !== undefined) binding.input(ADVANCES, step.bound.advances);
  if (from === 0 || step.config.layerEmbedding !== null) binding.input('tokens', step.bound.tokens);
  if (to === all) {
    binding.input('positions', step.bound.positions);
    binding.output('logits', step.bound.logits);
  }
  bindCache(binding, step, { from, to }, '');
}

function bindCache(
  binding: Binding,
  { cache, config }: StepTensors,
  { from, to }: Layers,
  prefix: string,
): void {
  const places = new Map(cachedLayers(config).map((layer, at) => [layer, 2 * at]));
  for (let layer = from; layer < to; layer++) {
    const source = keysOf(config, layer);
    cacheParts(config, layer).forEach((part, index) => {
      const tensor = cache[places.get(source)! + index]!;
      // Of a layer in the same part, its graph has them.
      if (source === layer || source < from) binding.input(`${prefix}past.${source}.${part}`, tensor);
      // The same memory in and out: GroupQueryAttention then appends in place.
      binding.output(`${prefix}present.${layer}.${part}`, tensor);
    });
  }
}

/**
 * Binds A, `[rows, R, in]` or turned, and B `[rows, R, out]` of every linear that the graph takes a delta for.
 * @param params.slot whose blocks are the first row's.
 * @param params.memory undefined where there is no delta: R is the least there.
 * @param params.nothing what tensors of the least rank lie in.
 * @returns tensors made for it, to be closed with the binding.
 */
export function bindDeltas(params: {
  device: Device;
  config: LlamaConfig;
  precision: Precision;
  binding: Binding;
  graph: GraphKind;
  /** Of the part that runs; all unless given. */
  layers?: Layers | undefined;
  /** Before the inputs' names; none unless given. */
  prefix?: typeof DECODING_INPUTS;
  slot: number;
  rows: number;
  ranks: RankByKind;
  memory: (layer: number, kind: LinearKind) => DeltaMemory | undefined;
  nothing: DeviceMemory;
}): DeviceTensor[] {
  const { device, config, precision, binding, slot, rows, nothing, prefix = '' } = params;
  const { from, to } = params.layers ?? { from: 0, to: config.layers };
  const { flavour } = device;
  const made: DeviceTensor[] = [];
  for (const kind of DELTA_KINDS[params.graph]) {
    for (let layer = from; layer < to; layer++) {
      if (!hasLinear(config, layer, kind)) continue;
      const shape = linearShape(ofLayer(config, layer), kind);
      const source = params.ranks[kind] === 0 ? undefined : params.memory(layer, kind);
      const rank = source === undefined ? LEAST_RANK[flavour] : params.ranks[kind];
      const at = source === undefined ? 0 : slot * rank * NUMBER_BYTES[precision];
      const shapeOfA = deltaShapeOfA(flavour, rows, rank, shape.in);
      const a = device.tensor(precision, source?.a ?? nothing, at * shape.in, shapeOfA);
      const b = device.tensor(precision, source?.b ?? nothing, at * shape.out, [rows, rank, shape.out]);
      const names = deltaNames(layer, kind);
      binding.input(`${prefix}${names.a}`, a);
      binding.input(`${prefix}${names.b}`, b);
      made.push(a, b);
    }
  }
  return made;
}

/** Zeros for the maximum number of rows, of the least rank: a delta without effect. */
export async function noDelta(device: Device, config: LlamaConfig, slots: number): Promise<DeviceMemory> {
  const shapes = LINEAR_KINDS.flatMap((kind) => shapesByLayer(config, kind));
  const widths = shapes.flatMap(({ in: from, out }) => [from, out]);
  const floats = slots * Math.max(...widths) * LEAST_RANK[device.flavour];
  const memory = await device.memory(floats * Float32Array.BYTES_PER_ELEMENT);
  memory.clear(0, memory.bytes);
  return memory;
}

/**
 * A delta in memory that the device reads, for a row that runs separately: its own memory if possible,
 * otherwise one copy.
 */
class PlacedDelta {
  private constructor(
    readonly delta: OrtRowDelta,
    private readonly shared: SharedArrays,
    private readonly modules: ReadonlyMap<string, DeltaMemory>,
  ) {}

  static async place(
    device: Device,
    config: LlamaConfig,
    precision: Precision,
    delta: OrtRowDelta,
  ): Promise<PlacedDelta> {
    const keys: string[] = [];
    const arrays: Numbers[] = [];
    for (const kind of LINEAR_KINDS)
      for (let layer = 0; layer < config.layers; layer++) {
        const module = delta.modules.get(moduleKey(layer, kind));
        if (module === undefined) continue;
        keys.push(moduleKey(layer, kind));
        const { in: width } = linearShape(ofLayer(config, layer), kind);
        const a = blockOfA(device.flavour, module.a, delta.ranks[kind], width);
        arrays.push(inPrecision(precision, a), inPrecision(precision, module.b));
      }
    const shared = await device.share(arrays);
    const modules = new Map(
      keys.map((key, index) => [key, { a: shared.memories[2 * index]!, b: shared.memories[2 * index + 1]! }]),
    );
    return new PlacedDelta(delta, shared, modules);
  }

  /** undefined if the delta does not change the linear. */
  memory(layer: number, kind: LinearKind): DeltaMemory | undefined {
    return this.modules.get(moduleKey(layer, kind));
  }

  close(): void {
    this.shared.close();
  }
}

/** Bindings of a prompt being read, and of rows that decode separately between its chunks. */
const KEPT = 1 + MOST_ALONE;

/** Deltas of rows that ran separately; recent ones stay in place. */
export class PlacedDeltas {
  /** Most recent first. */
  private placed: readonly PlacedDelta[] = [];

  constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly precision: Precision,
    /** Called before the delta's memory is freed. */
    private readonly onDrop: (delta: OrtRowDelta) => void,
  ) {}

  async place(delta: OrtRowDelta): Promise<PlacedDelta> {
    const known = this.placed.find((placed) => placed.delta === delta);
    if (known !== undefined) return known;
    this.keep(KEPT - 1);
    const placed = await PlacedDelta.place(this.device, this.config, this.precision, delta);
    this.placed = [placed, ...this.placed];
    return placed;
  }

  clear(): void {
    this.keep(0);
  }

  private keep(count: number): void {
    for (const placed of this.placed.slice(count)) {
      this.onDrop(placed.delta);
      placed.close();
    }
    this.placed = this.placed.slice(0, count);
  }
}

type Int8Graphs = Pick<DecodingGraphs, 'graphs' | 'mixed'>;

/** Graphs whose rows may adapt the embedding: for whole chunks, for their first part, and for steps that decode. */
export type AdaptingGraph = 'whole' | 'first' | 'decoding';
/** Writes one, with deltas of all linears. @returns its path. */
export type WriteAdapting = (which: AdaptingGraph) => string;

/**
 * The sessions of a base's graphs. If they share their weights all are opened at once, because the second and
 * third cost little; otherwise the first, and each of the others when a step needs it.
 */
export class GraphSessions {
  private readonly opened = new Map<string, Promise<Session>>();

  private constructor(
    private readonly device: Device,
    private readonly built: BuiltGraphs,
    private readonly int8: Int8Graphs | null,
    private readonly weights: Weights,
    /** Smallest first. */
    private readonly kinds: readonly GraphKind[],
    private readonly writeAdapting: WriteAdapting | null,
  ) {}

  /**
   * @param params.kinds that may be opened, including the largest.
   * @param params.writeAdapting where rows may adapt the embedding; null (default): they may not.
   * @param params.decoding where rows decode over int8 keys and values; null (default): over those that prompts are read into.
   */
  static async open(params: {
    device: Device;
    built: BuiltGraphs;
    decoding?: Int8Graphs | null;
    kinds: readonly GraphKind[];
    writeAdapting?: WriteAdapting | null;
    onProgress: Progress;
  }): Promise<GraphSessions> {
    const { device, built, decoding = null, writeAdapting = null, onProgress } = params;
    const kinds = GRAPH_KINDS.filter((kind) => params.kinds.includes(kind));
    const weights = await device.weights(built.weightsPath, built.weights);
    const sessions = new GraphSessions(device, built, decoding, weights, kinds, writeAdapting);
    const cores: readonly SessionCores[] = (device.lanes ?? 1) > 1 ? ['all', 'one'] : ['all'];
    const now = (device.sharesWeights ? kinds : kinds.slice(0, 1)).flatMap((kind) => [
      ...(decoding === null ? [] : [() => sessions.get(kind)]),
      ...cores.map((each) => () => sessions.decoding(kind, each)),
      ...sessions.parts.map((_, part) => () => sessions.part(kind, part)),
      ...(sessions.mixes ? [() => sessions.mixed(kind)] : []),
    ]);
    for (const [index, open] of now.entries()) {
      await open();
      onProgress('Loading the graphs', index + 1, now.length);
    }
    return sessions;
  }

  /** Parts in which a prompt's chunk may be read; [] if each session would hold its own weights. */
  get parts(): BuiltGraphs['parts'] {
    return this.device.sharesWeights ? this.built.parts : [];
  }

  /** Whether there are mixed graphs: not if each session would hold its own weights. */
  get mixes(): boolean {
    return this.device.sharesWeights && this.built.mixed !== null;
  }

  /** @returns the smallest allowed graph that takes all deltas of `kind`. */
  covering(kind: GraphKind): GraphKind {
    const least = GRAPH_KINDS.indexOf(kind);
    return this.kinds.find((each) => GRAPH_KINDS.indexOf(each) >= least) ?? kind;
  }

  /** For prompts. A failed one is retried at the next call. @throws OrtError */
  get(kind: GraphKind, cores: SessionCores = 'all'): Promise<Session> {
    return this.session(`${kind} ${cores}`, this.built.graphs[kind], cores);
  }

  /** For decode steps. @throws OrtError */
  decoding(kind: GraphKind, cores: SessionCores): Promise<Session> {
    if (this.int8 === null) return this.get(kind, cores);
    return this.session(`${kind} decoding ${cores}`, this.int8.graphs[kind], cores);
  }

  /** @throws OrtError */
  part(kind: GraphKind, part: number): Promise<Session> {
    return this.session(`${kind} part ${part}`, this.built.parts[part]!.graphs[kind], 'all');
  }

  /** @throws OrtError */
  mixed(kind: GraphKind): Promise<Session> {
    return this.session(`${kind} mixed`, (this.int8 ?? this.built).mixed![kind], 'all');
  }

  /** Written and opened when the first row needs it, so that others pay nothing. @throws OrtError */
  adapting(which: AdaptingGraph): Promise<Session> {
    const { writeAdapting: write } = this;
    if (write === null) throw new Error('no row may adapt the embedding');
    const graph = which === 'decoding' && this.int8 === null ? 'whole' : which;
    return this.session(`adapting ${graph}`, () => write(graph), 'all');
  }

  private session(key: string, path: string | (() => string), cores: SessionCores): Promise<Session> {
    const known = this.opened.get(key);
    if (known !== undefined) return known;
    const model = typeof path === 'string' ? path : path();
    const opening = this.device.session(model, this.weights, cores);
    this.opened.set(key, opening);
    opening.catch(() => this.opened.delete(key));
    return opening;
  }

  async close(): Promise<void> {
    const sessions = await Promise.all(this.opened.values());
    for (const session of sessions) session.close();
    this.weights.close();
  }
}

/** Of a prompt, and one that is decoded behind it: their kernels are others. */
const TOKENS = 24;
/** Mean KL to float32, nats: the same bound that is promised of a GPU compared with the processor. */
const MOST_DIVERGENCE = 0.02;

interface Where {
  device: Device;
  own: OwnMemory;
  config: LlamaConfig;
}

/**
 * A base's graphs in float16, if they match those in float32 on this GPU: kernels and their sums differ.
 * @param params.kinds that may be opened. @param params.chunk tokens that a run may read.
 * @returns sessions in float16, or why there are none, for the operator.
 */
export async function openFp16(
  params: Where & {
    built: BuiltGraphs;
    kinds: readonly GraphKind[];
    chunk: number;
    writeAdapting?: WriteAdapting | null;
    onProgress: Progress;
  },
): Promise<GraphSessions | string> {
  const { device, built, kinds, writeAdapting = null, onProgress } = params;
  const { fp16Graphs } = built;
  if (fp16Graphs === null) throw new Error('graphs of a processor have no float16');
  const first = kinds[0]!;
  const tokens = Math.min(TOKENS, params.chunk);
  let sessions: GraphSessions | null = null;
  try {
    const wanted = await floats(params, first, tokens);
    sessions = await GraphSessions.open({
      device,
      built: { ...built, graphs: fp16Graphs },
      kinds,
      writeAdapting,
      onProgress,
    });
    const logits = await logitsOf(params, await sessions.get(first), first, 'f16', tokens);
    const divergence = meanDivergence(wanted, logits, params.config.vocab);
    if (divergence <= MOST_DIVERGENCE) return sessions;
    await sessions.close();
    return Number.isNaN(divergence)
      ? 'some numbers exceed the range of float16'
      : `its float16 answers differ too much from float32 (mean KL ${divergence.toPrecision(2)})`;
  } catch (error) {
    await sessions?.close();
    if (!(error instanceof OrtError)) throw error;
    return `it does not run in float16 (${error.reason.split('\n')[0]})`;
  }
}

/** … of the same graph in float32, which is closed before the other one is opened. */
async function floats(
  params: Where & { built: BuiltGraphs },
  kind: GraphKind,
  tokens: number,
): Promise<Float32Array> {
  const { device, built } = params;
  const weights = await device.weights(built.weightsPath, built.weights);
  const session = await device.session(built.graphs[kind], weights);
  try {
    return await logitsOf(params, session, kind, 'f32', tokens);
  } finally {
    session.close();
    weights.close();
  }
}

/** @returns logits after each token of a made-up prompt, and after one more. */
async function logitsOf(
  { device, own, config }: Where,
  session: Session,
  graph: GraphKind,
  precision: Precision,
  tokens: number,
): Promise<Float32Array> {
  const { vocab } = config;
  const rows = await SlotCache.allocate({
    ...{ device, own, config, precision, slots: 1, capacity: tokens + 1 },
  });
  const nothing = await noDelta(device, config, 1);
  const all = new Float32Array((tokens + 1) * vocab);
  try {
    for (const { past, length } of [
      { past: 0, length: tokens },
      { past: tokens, length: 1 },
    ]) {
      const positions = Array.from({ length }, (_, at) => at);
      const shape = { rows: 1, length, positions, config };
      const step = await stepTensors(device, shape, await rows.rowOf(0, past));
      // Spread over the vocabulary.
      positions.forEach((at) => (step.tokens[at] = BigInt((7 + 7_919 * (past + at)) % vocab)));
      step.lastPosition[0] = past + length - 1;
      step.total[0] = past + length;
      const binding = session.bind();
      bindStep(binding, step);
      const owned = bindDeltas({
        ...{ device, config, precision, binding, graph, nothing, slot: 0, rows: 1 },
        ...{ ranks: noRanks(), memory: () => undefined },
      });
      try {
        await binding.run();
        all.set(step.logits, past * vocab);
      } finally {
        binding.close();
        for (const tensor of [...owned, ...Object.values(step.bound)]) tensor.close();
        step.memory.close();
      }
    }
  } finally {
    rows.close();
    nothing.close();
  }
  return all;
}

/** Mean KL(wanted || logits) of rows, nats. NaN if a logit is NaN. */
export function meanDivergence(wanted: Float32Array, logits: Float32Array, vocab: number): number {
  let sum = 0;
  for (let from = 0; from < wanted.length; from += vocab) {
    const p = wanted.subarray(from, from + vocab);
    const q = logits.subarray(from, from + vocab);
    const [ofP, ofQ] = [logNormalizer(p), logNormalizer(q)];
    p.forEach((logit, id) => (sum += Math.exp(logit - ofP) * (logit - ofP - (q[id]! - ofQ))));
  }
  return sum / (wanted.length / vocab);
}

function logNormalizer(logits: Float32Array): number {
  const most = logits.reduce((most, logit) => Math.max(most, logit), -Infinity);
  return most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
}
