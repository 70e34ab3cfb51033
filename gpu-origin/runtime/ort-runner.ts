/** ModelRunner on ONNX Runtime, whichever device runs it. */
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import {
  type BatchRows,
  type ChainMember,
  type ChunkParts,
  type Clipped,
  type DecodeRows,
  type ModelRunner,
  NONE_CLIPPED,
  type ResidentAdapter,
  type RowDelta,
} from '../engine/ports.ts';
import {
  DECODING_INPUTS,
  GRAPH_KINDS,
  type GraphKind,
  linearShapes,
  shapesByLayer,
  type LlamaConfig,
  type LinearKind,
  type Precision,
  streamNames,
} from '../model/base-model.ts';
import type { KvScales } from '../model/llama-graph.ts';
import { undoRotation } from '../model/rotation.ts';
import {
  noDelta,
  PlacedDeltas,
  bindDecoding,
  bindDeltas,
  bindStep,
  stepTensors,
  type StepTensors,
  type GraphSessions,
} from './bindings.ts';
import {
  DeltaBatch,
  type DeltaMemory,
  rankBytes,
  widestRanks,
  composeDelta,
  loadResidentAdapter,
  OrtRowDelta,
  type WeightTransform,
  noRanks,
  graphFor,
  type RankByKind,
} from './adapter-batch.ts';
import type {
  Device,
  DeviceMemory,
  HostMemory,
  DeviceTensor,
  Session,
  Binding,
  SessionCores,
} from './device.ts';
import { Int8Cache, KvCache, type RowsCache, type RowsShape, tokenBytes } from './kv-cache.ts';
import { RowStates, stateBytes, StatefulCache, withKeys } from './row-states.ts';
import { FasterLately, type LaneChoice, stepBytes, rowsAlone } from './step-choice.ts';

/** Prefill chunk, tokens. Borders lie at its multiples whatever the load, so that a row's bits do not depend on it. */
export const PREFILL_CHUNK = 128;

/** Of the memory for keys and values, what slots without a row may keep. */
const IDLE_SHARE = 1 / 4;

const NOTHING = new Float32Array(0);

export interface OrtRunnerParams extends WeightTransform {
  base: BaseInfo;
  config: LlamaConfig;
  /** Of the sessions' graphs, and of what `openCache` gives; float32 unless given. */
  precision?: Precision;
  /** Closed with the runner, as are the sessions. */
  device: Device;
  sessions: GraphSessions;
  /** Of the norm before the head, `[hidden]`. */
  finalGain: Float32Array | null;
  slots: number;
  swapSlots: number;
  /** Of all rows together; room for every row's whole context unless given. */
  kvTokens?: number;
  /** Chunks that are kept beside the rows; none unless given, nor in a device's own memory. */
  blocks?: number;
  /** Of keys and values in int8, as the sessions that decode take them; null (default): in the precision. */
  kvScales?: KvScales | null;
  /** Where keys and values lie; in memory of the device unless given. */
  openCache?: (rows: RowsShape) => Promise<RowsCache>;
  /** Where the device has lanes; what was faster lately unless given. */
  laneChoice?: LaneChoice;
  /** Tokens of a prompt's chunk; as on processors unless given. */
  chunk?: number;
}

export class OrtRunner implements ModelRunner {
  readonly chunk: number;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly slots: number;
  readonly swapSlots: number;
  readonly kvTokens: number;
  readonly doublingTokens: number;
  private readonly config: LlamaConfig;
  private readonly batch: DeltaBatch;
  private readonly rows: (OrtRowDelta | null)[];
  /** Tokens that each slot's memory has had since its last release, at most. */
  private readonly written: number[];
  private readonly placed: PlacedDeltas;
  private readonly decodeSteps: DecodeSteps;
  private readonly chunks: ChunkReader;

  private constructor(
    private readonly params: OrtRunnerParams,
    private readonly kv: RowsCache,
    /** What tensors of the least rank lie in. */
    private readonly nothing: DeviceMemory,
  ) {
    this.config = params.config;
    this.chunk = params.chunk ?? PREFILL_CHUNK;
    this.vocabSize = params.config.vocab;
    this.hiddenSize = params.config.hidden;
    this.slots = params.slots;
    this.swapSlots = params.swapSlots;
    const { device, config, precision = 'f32' } = params;
    this.kvTokens = params.kvTokens ?? (params.slots + params.swapSlots) * params.base.context;
    this.batch = new DeltaBatch(device, config, params.slots, precision);
    this.placed = new PlacedDeltas(device, config, precision, (delta) => this.decodeSteps.dropLone(delta));
    const { batch, placed } = this;
    const { laneChoice = new FasterLately() } = params;
    this.decodeSteps = new DecodeSteps({
      ...{ ...params, precision, kv, batch, placed, nothing, laneChoice },
      stepBytes: stepBytes(params.config, params.base.weights),
    });
    this.chunks = new ChunkReader({ ...params, precision, kv, placed, nothing });
    this.doublingTokens = doublingTokens(params.config);
    this.rows = new Array<OrtRowDelta | null>(params.slots + params.swapSlots).fill(null);
    this.written = new Array<number>(this.rows.length).fill(0);
  }

  static async open(params: OrtRunnerParams): Promise<OrtRunner> {
    const { device, config, slots, swapSlots, blocks = 0, base } = params;
    const cache = { device, config, slots: slots + swapSlots, capacity: base.context };
    const whole = cache.slots * cache.capacity;
    const kept = Math.floor(((params.kvTokens ?? whole) * IDLE_SHARE) / cache.slots);
    const shape = { ...cache, blocks, chunk: PREFILL_CHUNK, kept };
    const { kvScales: scales = null } = params;
    const { openCache = () => openRows(shape, scales) } = params;
    const kv = await openCache(cache);
    return new OrtRunner(params, kv, await noDelta(device, config, slots));
  }

  get blocks(): number {
    return this.params.blocks ?? 0;
  }

  get blockBytes(): number {
    return PREFILL_CHUNK * tokenBytes(this.config, this.params.base.kv ?? 'f32') + stateBytes(this.config);
  }

  get base(): BaseInfo {
    return this.params.base;
  }

  loadAdapter(file: Uint8Array<ArrayBuffer>, digest: string): Promise<ResidentAdapter> {
    return loadResidentAdapter({ file, digest, ...this.params });
  }

  /** Its memory is the garbage collector's once no row and no composed delta refers to it. */
  unloadAdapter(): void {
    this.placed.clear();
  }

  compose(chain: readonly ChainMember[]): RowDelta {
    return composeDelta(this.config, chain);
  }

  batchBytes({ rows, deltas }: BatchRows): number {
    return this.batch.bytesFor(rows, deltas.map(own));
  }

  get batchHeldBytes(): number {
    return this.batch.bytes;
  }

  trimBatch({ rows, deltas }: BatchRows): void {
    this.batch.trim(rows, deltas.map(own));
    this.decodeSteps.dropStale();
  }

  assign(slot: number, delta: RowDelta | null): void {
    this.rows[slot] = delta === null ? null : own(delta);
  }

  changeDelta(slot: number, delta: RowDelta | null): void {
    this.assign(slot, delta);
  }

  move(from: number, to: number, length: number): void {
    this.kv.move(from, to, length);
    this.rows[to] = this.rows[from] ?? null;
    this.wrote(to, length);
    this.release(from);
  }

  keep(params: Parameters<ModelRunner['keep']>[0]): void {
    this.kv.keep(params);
  }

  reuse(params: Parameters<ModelRunner['reuse']>[0]): void {
    this.kv.reuse(params);
    this.wrote(params.slot, params.at + params.tokens);
  }

  private wrote(slot: number, length: number): void {
    this.written[slot] = Math.max(this.written[slot]!, length);
  }

  release(slot: number): void {
    this.rows[slot] = null;
    this.batch.forget(slot);
    this.kv.release(slot, this.written[slot]!);
    this.written[slot] = 0;
    this.chunks.release(slot);
  }

  clipped(slot: number): Clipped {
    return this.kv.clipped?.(slot) ?? NONE_CLIPPED;
  }

  get parts(): number {
    return this.chunks.parts;
  }

  get mixes(): boolean {
    return this.params.sessions.mixes;
  }

  async prefill(params: Chunk & { parts?: ChunkParts; beside?: DecodeRows }): Promise<Float32Array> {
    if (params.beside !== undefined) return this.mixed(params, params.beside);
    const logits = await this.read(params, null);
    return logits?.subarray(0, params.positions.length * this.vocabSize) ?? NOTHING;
  }

  /** @param parts all of the chunk. */
  private async mixed(
    { beside: _, parts: __, ...chunk }: Parameters<OrtRunner['prefill']>[0],
    beside: DecodeRows,
  ): Promise<Float32Array> {
    const rows = this.rows.slice(0, beside.tokens.length);
    if (!this.decodeSteps.runTogether(rows)) {
      const read = (await this.prefill(chunk)).slice();
      const decoded = await this.decode(beside);
      const logits = new Float32Array(read.length + decoded.length);
      logits.set(read);
      logits.set(decoded, read.length);
      return logits;
    }
    this.wrote(chunk.slot, chunk.past + chunk.tokens.length);
    const delta = this.rows[chunk.slot] ?? null;
    const decoding = await this.decodeSteps.decoding(this.fed(beside), beside.lengths, rows);
    return this.chunks.readBeside(chunk, delta, decoding);
  }

  /** @returns each row's token. */
  private fed({ tokens, lengths }: DecodeRows): DecodeRows['tokens'] {
    lengths.forEach((length, slot) => this.wrote(slot, length + 1));
    return tokens;
  }

  async hiddenStates(params: Omit<Chunk, 'positions'> & { parts?: ChunkParts }): Promise<Float32Array> {
    const { length } = params.tokens;
    const size = this.hiddenSize;
    const last = params.parts === undefined || params.parts.to === this.parts;
    const memory = last ? await this.params.device.host(length * size * 4) : null;
    await this.read({ ...params, positions: [] }, memory);
    if (memory === null) return NOTHING;
    const states = new Float32Array(memory.buffer, memory.offset, length * size);
    const { rotations, finalGain } = this.params;
    if (rotations?.stream) undoRotation(states, rotations.stream);
    if (finalGain !== null) for (let at = 0; at < states.length; at++) states[at]! *= finalGain[at % size]!;
    return states;
  }

  private read(
    chunk: Chunk & { parts?: ChunkParts },
    hidden: HostMemory | null,
  ): Promise<Float32Array | null> {
    const { parts = { from: 0, to: this.parts } } = chunk;
    this.wrote(chunk.slot, chunk.past + chunk.tokens.length);
    return this.chunks.read(chunk, { delta: this.rows[chunk.slot] ?? null, parts, hidden });
  }

  async decode(params: DecodeRows): Promise<Float32Array> {
    const tokens = this.fed(params);
    this.chunks.takeBack();
    return this.decodeSteps.run(tokens, params.lengths, this.rows.slice(0, tokens.length));
  }

  async close(): Promise<void> {
    this.placed.clear();
    this.decodeSteps.close();
    this.chunks.close();
    this.batch.close();
    this.kv.close();
    this.nothing.close();
    await this.params.sessions.close();
    await this.params.device.close();
  }
}

/** Rows in memory in which a tensor may begin anywhere. */
async function openRows(
  shape: Parameters<typeof KvCache.allocate>[0],
  scales: KvScales | null,
): Promise<RowsCache> {
  const { config } = shape;
  const ofKeys = { ...shape, config: withKeys(config) };
  const kv = await (scales === null ? KvCache.allocate(ofKeys) : Int8Cache.allocate({ ...ofKeys, scales }));
  return config.deltaNet === null ? kv : new StatefulCache(config, kv, await RowStates.allocate(shape));
}

/**
 * A product of int8 is summed so many times as fast as attention in float32: a chunk of 128 tokens of SmolLM2-135M takes
 * 36 ms at a prompt's beginning and 90 behind 1,920 tokens, on two cores of an AMD EPYC.
 */
const PRODUCTS_FASTER = 2.3;

function doublingTokens(config: LlamaConfig): number {
  const weights = linearShapes(config, 'chosen').reduce((sum, shape) => sum + shape.in * shape.out, 0);
  const heads = shapesByLayer(config, 'q').reduce((sum, { out }) => sum + out, 0);
  // Two sums a weight; of each token that is looked back at, one for q times k and one for the value.
  return Math.round(weights / (2 * heads * PRODUCTS_FASTER));
}

function own(delta: RowDelta): OrtRowDelta {
  if (!(delta instanceof OrtRowDelta)) throw new Error('the delta was composed by another runner');
  return delta;
}

interface Chunk {
  slot: number;
  tokens: readonly number[];
  past: number;
  positions: readonly number[];
}

/** A chunk of which some parts were read. */
interface Begun {
  slot: number;
  step: StepTensors;
  /** The stream between two parts, normed and as it is: of the last part, and for the next. */
  streams: { memory: HostMemory; tensors: [DeviceTensor, DeviceTensor] }[];
}

/** Reads chunks of prompts: whole, or in parts of the base's layers with steps over other rows between them. */
class ChunkReader {
  private begun: Begun | null = null;
  /** What the last chunk gave lies here. */
  private lent: HostMemory[] = [];

  constructor(
    private readonly params: {
      device: Device;
      config: LlamaConfig;
      precision: Precision;
      sessions: GraphSessions;
      kv: RowsCache;
      placed: PlacedDeltas;
      /** What tensors of the least rank lie in. */
      nothing: DeviceMemory;
    },
  ) {}

  get parts(): number {
    return Math.max(1, this.params.sessions.parts.length);
  }

  /**
   * @param hidden receives `[tokens.length, hidden]` with the last part; null = not asked for.
   * @returns the logits, valid until the next step; null before the last part.
   */
  async read(
    chunk: Chunk,
    { delta, parts, hidden }: { delta: OrtRowDelta | null; parts: ChunkParts; hidden: HostMemory | null },
  ): Promise<Float32Array | null> {
    const { sessions } = this.params;
    this.takeBack();
    if (hidden !== null) this.lent.push(hidden);
    if (parts.from === 0) this.drop();
    else if (this.begun?.slot !== chunk.slot) throw new Error('the chunk was not begun');
    const graph = sessions.covering(delta?.graph ?? 'none');
    this.begun ??= await this.begin(chunk);
    const run = { begun: this.begun, chunk, delta, graph, hidden };
    // The same bits, and fewer calls.
    if (parts.from === 0 && parts.to === this.parts) await this.run(run, await sessions.get(graph));
    else
      for (let part = parts.from; part < parts.to; part++)
        await this.run(run, await sessions.part(graph, part), part);
    if (parts.to < this.parts) return null;
    const { step } = this.begun;
    this.drop({ lend: true });
    return step.logits;
  }

  /**
   * The whole chunk, and one token of each decoding row in the same run.
   * @returns the chunk's logits and then the rows', valid until the next step.
   */
  async readBeside(chunk: Chunk, delta: OrtRowDelta | null, decoding: Decoding): Promise<Float32Array> {
    const { device, config, precision, sessions, nothing, kv } = this.params;
    const { slot, past, positions } = chunk;
    this.takeBack();
    this.drop();
    const [read, rows] = [chunk.tokens.length, decoding.tokens.length];
    const graph = sessions.covering(wider(delta?.graph ?? 'none', decoding.graph));
    const session = await sessions.mixed(graph);
    const placed = delta === null ? null : await this.params.placed.place(delta);
    const wanted = [...positions, ...decoding.tokens.map((_, row) => read + row)];
    const shape = { rows: 1, length: read + rows, positions: wanted, config };
    const step = await stepTensors(device, shape, await kv.rowOf(slot, past, read));
    [...chunk.tokens, ...decoding.tokens].forEach(
      (token, index) => (step.tokens[index] = BigInt(token ?? 0)),
    );
    step.lastPosition[0] = past + read - 1;
    step.total[0] = past + read;
    const sizes = await device.host(2 * BigInt64Array.BYTES_PER_ELEMENT);
    new BigInt64Array(sizes.buffer, sizes.offset, 2).set([BigInt(read), BigInt(rows)]);
    const made = [device.tensor('i64', sizes, 0, [2])];
    const binding = session.bind();
    const bound = { device, config, precision, nothing, binding, graph, slot: 0 };
    try {
      bindStep(binding, step);
      bindDecoding(binding, decoding.step);
      binding.input('stream_parts', made[0]!);
      made.push(
        ...bindDeltas({
          ...{ ...bound, rows: 1, ranks: delta?.ranks ?? noRanks() },
          memory: (layer, kind) => placed?.memory(layer, kind),
        }),
        ...bindDeltas({
          ...{ ...bound, rows, ranks: decoding.ranks, memory: decoding.memory },
          prefix: DECODING_INPUTS,
        }),
      );
      await binding.run();
      this.lent.push(step.memory);
      return step.logits;
    } catch (error) {
      step.memory.close();
      throw error;
    } finally {
      binding.close();
      for (const tensor of [...made, ...Object.values(step.bound)]) tensor.close();
      sizes.close();
    }
  }

  private async begin({ slot, tokens, past, positions }: Chunk): Promise<Begun> {
    const { device, config, kv } = this.params;
    const cache = await kv.rowOf(slot, past, tokens.length);
    // An output of no positions is not asked for: the last one then costs one row of the head.
    const wanted = positions.length > 0 ? positions : [tokens.length - 1];
    const shape = { rows: 1, length: tokens.length, positions: wanted, config };
    const step = await stepTensors(device, shape, cache);
    tokens.forEach((token, index) => (step.tokens[index] = BigInt(token)));
    step.lastPosition[0] = past + tokens.length - 1;
    step.total[0] = past + tokens.length;
    return { slot, step, streams: [] };
  }

  /** @param part all layers unless given. */
  private async run(
    params: {
      begun: Begun;
      chunk: Chunk;
      delta: OrtRowDelta | null;
      graph: Parameters<GraphSessions['part']>[0];
      hidden: HostMemory | null;
    },
    session: Session,
    part?: number,
  ): Promise<void> {
    const { begun, chunk, delta, graph, hidden } = params;
    const { device, config, precision, sessions, nothing } = this.params;
    const layers = part === undefined ? undefined : sessions.parts[part]!;
    const placed = delta === null ? null : await this.params.placed.place(delta);
    const made: DeviceTensor[] = [];
    const binding = session.bind();
    try {
      bindStep(binding, begun.step, layers);
      if (layers !== undefined && layers.from > 0) {
        const { normed, stream } = streamNames(layers.from - 1);
        const [h, x] = begun.streams[(part! - 1) % 2]!.tensors;
        binding.input(normed, h);
        binding.input(stream, x);
      }
      if (layers !== undefined && layers.to < config.layers) {
        const { normed, stream } = streamNames(layers.to - 1);
        begun.streams[part! % 2] ??= await this.stream(chunk.tokens.length);
        const [h, x] = begun.streams[part! % 2]!.tensors;
        binding.output(normed, h);
        binding.output(stream, x);
      } else if (hidden !== null) {
        const states = device.tensor('f32', hidden, 0, [1, chunk.tokens.length, config.hidden]);
        made.push(states);
        binding.output('hidden', states);
      }
      made.push(
        ...bindDeltas({
          ...{ device, config, precision, nothing, binding, graph, layers, slot: 0, rows: 1 },
          ranks: delta?.ranks ?? noRanks(),
          memory: (layer, kind) => placed?.memory(layer, kind),
        }),
      );
      await binding.run();
    } finally {
      binding.close();
      for (const tensor of made) tensor.close();
    }
  }

  private async stream(tokens: number): Promise<Begun['streams'][number]> {
    const { device, config } = this.params;
    const bytes = tokens * config.hidden * Float32Array.BYTES_PER_ELEMENT;
    const memory = await device.host(2 * bytes);
    const tensor = (at: number): DeviceTensor => device.tensor('f32', memory, at, [1, tokens, config.hidden]);
    return { memory, tensors: [tensor(0), tensor(bytes)] };
  }

  /** The row is gone, in the middle of a chunk maybe. */
  release(slot: number): void {
    if (this.begun?.slot === slot) this.drop();
  }

  /** @param params.lend the logits are read until the next step. */
  private drop({ lend = false } = {}): void {
    if (this.begun === null) return;
    const { step, streams } = this.begun;
    this.begun = null;
    for (const tensor of Object.values(step.bound)) tensor.close();
    for (const { memory, tensors } of streams) {
      for (const tensor of tensors) tensor.close();
      memory.close();
    }
    if (lend) this.lent.push(step.memory);
    else step.memory.close();
  }

  /** Nobody reads what the last chunk gave any more. */
  takeBack(): void {
    for (const memory of this.lent) memory.close();
    this.lent = [];
  }

  close(): void {
    this.drop();
    this.takeBack();
  }
}

type Rows = readonly (OrtRowDelta | null)[];

/** Rows that decode beside a chunk: their tokens, and what their attention and deltas are bound to. */
interface Decoding {
  tokens: DecodeRows['tokens'];
  step: StepTensors;
  /** Of the batch's deltas. */
  ranks: RankByKind;
  graph: GraphKind;
  memory: (layer: number, kind: LinearKind) => DeltaMemory | undefined;
}

/** @returns the one of both that covers the other. */
const wider = (a: GraphKind, b: GraphKind): GraphKind =>
  GRAPH_KINDS.indexOf(a) > GRAPH_KINDS.indexOf(b) ? a : b;

/** Rows of slots that lie side by side and run together. Its binding is kept as long as it fits. */
interface Group {
  readonly from: number;
  readonly step: StepTensors;
  bound: {
    key: string;
    /** The delta whose own memory is bound, when a row is alone. */
    lone: OrtRowDelta | null;
    binding: Binding;
    owned: DeviceTensor[];
  } | null;
}

/** Decode steps over slots 0 … n-1: their tensors and bindings, and which rows run beside which. */
class DecodeSteps {
  /** By first slot and number of rows. */
  private readonly groups = new Map<string, Group>();
  /** Of the batch's buffers, when the bindings were made. */
  private version = 0;
  /** `[slots, vocab]` */
  private logits: HostMemory | null = null;
  private readonly bytesOfRank: RankByKind;

  constructor(
    private readonly params: {
      device: Device;
      config: LlamaConfig;
      precision: Precision;
      sessions: GraphSessions;
      kv: RowsCache;
      batch: DeltaBatch;
      placed: PlacedDeltas;
      /** What tensors of the least rank lie in. */
      nothing: DeviceMemory;
      slots: number;
      laneChoice: LaneChoice;
      /** Of weights, that a step reads. */
      stepBytes: number;
    },
  ) {
    this.bytesOfRank = rankBytes(params.config);
  }

  /**
   * Where the device has lanes, rows may share the cores in groups, each on a core of its own. A row that is alone has all
   * cores. It has the same bits either way: no product of a single position is split between threads along what it sums.
   * @returns `[rows.length, vocab]`
   */
  async run(tokens: DecodeRows['tokens'], lengths: readonly number[], rows: Rows): Promise<Float32Array> {
    const { device, config, batch, slots } = this.params;
    const count = rows.length;
    this.logits ??= await device.host(slots * config.vocab * Float32Array.BYTES_PER_ELEMENT);
    const alone = count === 1 ? [0] : this.wide(rows);
    if (count > 1) {
      // A row that runs by itself afterwards is padding here: what it writes, its keys and values too, is written again.
      const others = rows.map((row, slot) => (alone.includes(slot) ? null : row));
      const fed = tokens.map((token, slot) => (alone.includes(slot) ? null : token));
      await this.together(fed, lengths, others);
    }
    for (const slot of alone) {
      const delta = rows[slot]!;
      const group = await this.group(slot, 1);
      feed(group.step, [tokens[slot]!], [lengths[slot]!]);
      const ranks = delta?.ranks ?? (await batch.prepare([null]));
      this.dropStale();
      const binding = await this.binding(group, { rows: [delta], ranks, lone: delta, cores: 'all' });
      await binding.run();
    }
    const { buffer, offset } = this.logits;
    return new Float32Array(buffer, offset, count * config.vocab);
  }

  /** Whether none of the rows runs by itself. */
  runTogether(rows: Rows): boolean {
    return this.wide(rows).length === 0;
  }

  /** What a chunk's run needs to decode such rows too. */
  async decoding(tokens: DecodeRows['tokens'], lengths: readonly number[], rows: Rows): Promise<Decoding> {
    const { device, config, batch, slots } = this.params;
    this.logits ??= await device.host(slots * config.vocab * Float32Array.BYTES_PER_ELEMENT);
    const lone = rows.length === 1 ? rows[0]! : null;
    const ranks = lone?.ranks ?? (await batch.prepare(rows));
    this.dropStale();
    const { step } = await this.group(0, rows.length);
    feed(step, tokens, lengths);
    const placed = lone === null ? null : await this.params.placed.place(lone);
    const graph = graphFor(widestRanks(rows.flatMap((row) => row?.ranks ?? [])));
    const memory = (layer: number, kind: LinearKind): DeltaMemory | undefined =>
      placed === null ? batch.memory(layer, kind) : placed.memory(layer, kind);
    return { tokens, step, ranks, graph, memory };
  }

  /** Rows of a step that run by themselves; none where no tensor begins inside the device's memory. */
  private wide(rows: Rows): number[] {
    const { device, stepBytes } = this.params;
    if (device.own !== null) return [];
    const ranks = rows.map((row) => row?.ranks ?? null);
    return rowsAlone({ rows: ranks, bytesOfRank: this.bytesOfRank, weights: stepBytes });
  }

  private async together(
    tokens: DecodeRows['tokens'],
    lengths: readonly number[],
    rows: Rows,
  ): Promise<void> {
    const { device, batch, laneChoice } = this.params;
    const count = rows.length;
    const ranks = await batch.prepare(rows);
    this.dropStale();
    // Fewer rows than cores would leave some of them idle.
    const mayGroup = (device.lanes ?? 1) > 1 && count >= device.lanes!;
    const lanes = mayGroup && laneChoice.takesLanes(count) ? device.lanes! : 1;
    const bindings: Binding[] = [];
    for (let lane = 0, from = 0; lane < lanes; lane++) {
      const to = from + Math.ceil((count - from) / (lanes - lane));
      const group = await this.group(from, to - from);
      feed(group.step, tokens.slice(from, to), lengths.slice(from, to));
      const cores = lanes > 1 ? 'one' : 'all';
      bindings.push(await this.binding(group, { rows: rows.slice(from, to), ranks, lone: null, cores }));
      from = to;
    }
    const startedAt = performance.now();
    // All of them end before anything else touches their memory, whichever fails.
    const ended = await Promise.allSettled(bindings.map((binding) => binding.run()));
    if (mayGroup) laneChoice.took(performance.now() - startedAt);
    for (const run of ended) if (run.status === 'rejected') throw run.reason;
  }

  private async group(from: number, rows: number): Promise<Group> {
    const { device, kv, config } = this.params;
    // At each step: what rows did since lies elsewhere until it is asked for.
    const cache = await kv.rowsFrom(from, rows);
    const key = `${from} ${rows}`;
    const known = this.groups.get(key);
    if (known !== undefined) return known;
    const at = from * config.vocab * Float32Array.BYTES_PER_ELEMENT;
    const shape = { rows, length: 1, positions: [0], config };
    const step = await stepTensors(device, shape, cache, { memory: this.logits!, at });
    const group = { from, step, bound: null };
    this.groups.set(key, group);
    return group;
  }

  /** The group's last binding where it still fits, else a new one. */
  private async binding(
    group: Group,
    params: { rows: Rows; ranks: RankByKind; lone: OrtRowDelta | null; cores: SessionCores },
  ): Promise<Binding> {
    const { rows, ranks, lone, cores } = params;
    const { device, config, precision, sessions, batch, nothing } = this.params;
    const needed = widestRanks(rows.flatMap((row) => row?.ranks ?? []));
    const graph = sessions.covering(graphFor(needed));
    const key = `${graph} ${cores} ${Object.values(ranks).join(',')}`;
    if (group.bound !== null && group.bound.key === key && group.bound.lone === lone)
      return group.bound.binding;
    unbind(group);
    const session = await sessions.decoding(graph, cores);
    const placed = lone === null ? null : await this.params.placed.place(lone);
    const binding = session.bind();
    bindStep(binding, group.step);
    const memory = (layer: number, kind: LinearKind): DeltaMemory | undefined =>
      placed === null ? batch.memory(layer, kind) : placed.memory(layer, kind);
    const owned = bindDeltas({
      ...{ device, config, precision, nothing, binding, graph, ranks, memory },
      ...{ slot: placed === null ? group.from : 0, rows: rows.length },
    });
    group.bound = { key, lone, binding, owned };
    return binding;
  }

  /** Bindings keep the batch's buffers reachable: none outlives them. */
  dropStale(): void {
    const { version } = this.params.batch;
    if (version === this.version) return;
    this.version = version;
    for (const group of this.groups.values()) if (group.bound?.lone === null) unbind(group);
  }

  /** The delta's own memory is about to be given back. */
  dropLone(delta: OrtRowDelta): void {
    for (const group of this.groups.values()) if (group.bound?.lone === delta) unbind(group);
  }

  close(): void {
    for (const group of this.groups.values()) {
      unbind(group);
      const { bound, memory } = group.step;
      for (const tensor of Object.values(bound)) tensor.close();
      memory.close();
    }
    this.logits?.close();
  }
}

/** What a row that sits it out writes behind its tokens is written again when it goes on; its states stay. */
function feed(step: StepTensors, tokens: DecodeRows['tokens'], lengths: readonly number[]): void {
  tokens.forEach((token, row) => (step.tokens[row] = BigInt(token ?? 0)));
  step.advances?.set(tokens.map((token) => (token === null ? 0 : 1)));
  step.lastPosition.set(lengths);
  step.total[0] = Math.max(...lengths) + 1;
}

function unbind(group: Group): void {
  group.bound?.binding.close();
  for (const tensor of group.bound?.owned ?? []) tensor.close();
  group.bound = null;
}
