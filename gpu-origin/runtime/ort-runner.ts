/** ModelRunner on ONNX Runtime, whichever device runs it. */
import type { BaseInfo } from '../../protocol/index.ts';
import type {
  BatchRows,
  ChainMember,
  ChunkParts,
  ModelRunner,
  ResidentAdapter,
  RowDelta,
} from '../engine/ports.ts';
import { LINEAR_KINDS, linearShape, type LlamaConfig } from '../model/base-model.ts';
import type { Precision } from '../model/graph-form.ts';
import { undoRotation } from '../model/rotation.ts';
import { noDelta, PlacedDeltas } from './step-bindings.ts';
import { type Chunk, ChunkReader } from './chunk-reader.ts';
import { DecodeSteps } from './decode-steps.ts';
import { DeltaBatch } from './delta-batch.ts';
import type { Device, DeviceMemory, HostMemory } from './device.ts';
import type { GraphSessions } from './graph-sessions.ts';
import { KvCache, type RowsCache, type RowsShape, tokenBytes } from './kv-cache.ts';
import { FasterLately, type LaneChoice, stepBytes } from './step-choice.ts';
import { composeDelta, loadResidentAdapter, OrtRowDelta, type WeightTransform } from './row-delta.ts';

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
  parking: number;
  /** Of all rows together; room for every row's whole context unless given. */
  kvTokens?: number;
  /** Chunks that are kept beside the rows; none unless given, nor in a device's own memory. */
  blocks?: number;
  /** Where keys and values lie; in what the device's `memory` gives unless given. */
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
  readonly parking: number;
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
    this.parking = params.parking;
    const { device, config, precision = 'f32' } = params;
    this.kvTokens = params.kvTokens ?? (params.slots + params.parking) * params.base.context;
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
    this.rows = new Array<OrtRowDelta | null>(params.slots + params.parking).fill(null);
    this.written = new Array<number>(this.rows.length).fill(0);
  }

  static async open(params: OrtRunnerParams): Promise<OrtRunner> {
    const { device, config, slots, parking, blocks = 0, base } = params;
    const cache = { device, config, slots: slots + parking, capacity: base.context };
    const whole = cache.slots * cache.capacity;
    const kept = Math.floor(((params.kvTokens ?? whole) * IDLE_SHARE) / cache.slots);
    const { openCache = () => KvCache.allocate({ ...cache, blocks, chunk: PREFILL_CHUNK, kept }) } = params;
    const kv = await openCache(cache);
    return new OrtRunner(params, kv, await noDelta(device, config, slots));
  }

  get blocks(): number {
    return this.params.blocks ?? 0;
  }

  get blockBytes(): number {
    return PREFILL_CHUNK * tokenBytes(this.config);
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

  move(from: number, to: number, length: number): void {
    this.kv.move(from, to, length);
    this.rows[to] = this.rows[from] ?? null;
    this.wrote(to, length);
    this.release(from);
  }

  keep({ slot, at, block }: { slot: number; at: number; block: number }): void {
    this.kv.keep(slot, at, block);
  }

  reuse({ slot, at, block }: { slot: number; at: number; block: number }): void {
    this.kv.reuse(slot, at, block);
    this.wrote(slot, at + PREFILL_CHUNK);
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

  get parts(): number {
    return this.chunks.parts;
  }

  async prefill(params: Chunk & { parts?: ChunkParts }): Promise<Float32Array> {
    const logits = await this.read(params, null);
    return logits?.subarray(0, params.positions.length * this.vocabSize) ?? NOTHING;
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

  async decode(params: Parameters<ModelRunner['decode']>[0]): Promise<Float32Array> {
    const { lengths } = params;
    // What a row that sits it out writes behind its tokens is written again when it goes on.
    const tokens = params.tokens.map((token) => token ?? 0);
    this.chunks.takeBack();
    lengths.forEach((length, slot) => this.wrote(slot, length + 1));
    return this.decodeSteps.run(tokens, lengths, this.rows.slice(0, tokens.length));
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

/**
 * A product of int8 is summed so many times as fast as attention in float32: a chunk of 128 tokens of SmolLM2-135M takes
 * 36 ms at a prompt's beginning and 90 behind 1,920 tokens, on two cores of an AMD EPYC.
 */
const PRODUCTS_FASTER = 2.3;

function doublingTokens(config: LlamaConfig): number {
  const weights = LINEAR_KINDS.reduce((sum, kind) => {
    const shape = linearShape(config, kind);
    return sum + shape.in * shape.out;
  }, 0);
  // Two sums a weight; of each token that is looked back at, one for q times k and one for the value.
  return Math.round(weights / (2 * config.heads * config.headDim * PRODUCTS_FASTER));
}

function own(delta: RowDelta): OrtRowDelta {
  if (!(delta instanceof OrtRowDelta)) throw new Error('the delta was composed by another runner');
  return delta;
}
