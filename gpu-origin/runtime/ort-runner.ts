/** ModelRunner on ONNX Runtime, whichever device runs it. */
import type { BaseInfo } from '../../protocol/index.ts';
import type { BatchRows, ChainMember, ModelRunner, ResidentAdapter, RowDelta } from '../engine/ports.ts';
import type { LlamaConfig } from '../model/base-model.ts';
import { undoRotation } from '../model/rotation.ts';
import { bindDeltas, noDelta } from './bind-deltas.ts';
import { DecodeSteps } from './decode-steps.ts';
import { DeltaBatch } from './delta-batch.ts';
import type { Device, DeviceMemory, DeviceTensor, HostMemory } from './device.ts';
import type { GraphSessions } from './graph-sessions.ts';
import { KvCache, type RowsCache, type RowsShape, tokenBytes } from './kv-cache.ts';
import { FasterLately, type LaneChoice } from './lane-choice.ts';
import { loadResidentAdapter, type WeightTransform } from './load-adapter.ts';
import { PlacedDeltas } from './placed-deltas.ts';
import { composeDelta, noRanks, OrtRowDelta } from './row-delta.ts';
import { stepBytes } from './rows-alone.ts';
import { bindStep, stepTensors } from './step-tensors.ts';

/** Prefill chunk, tokens. Borders lie at its multiples whatever the load, so that a row's bits do not depend on it. */
export const PREFILL_CHUNK = 128;

export interface OrtRunnerParams extends WeightTransform {
  base: BaseInfo;
  config: LlamaConfig;
  /** Closed with the runner, as are the sessions. */
  device: Device;
  sessions: GraphSessions;
  /** Of the norm before the head, `[hidden]`. */
  finalGain: Float32Array | null;
  slots: number;
  parking: number;
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
  private readonly config: LlamaConfig;
  private readonly batch: DeltaBatch;
  private readonly rows: (OrtRowDelta | null)[];
  private readonly placed: PlacedDeltas;
  private readonly decodeSteps: DecodeSteps;
  /** What the last prefill gave lies here. */
  private lent: HostMemory[] = [];

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
    this.batch = new DeltaBatch(params.device, params.config, params.slots);
    this.placed = new PlacedDeltas(params.device, params.config, (delta) => this.decodeSteps.dropLone(delta));
    const { batch, placed } = this;
    const { laneChoice = new FasterLately() } = params;
    this.decodeSteps = new DecodeSteps({
      ...{ ...params, kv, batch, placed, nothing, laneChoice },
      stepBytes: stepBytes(params.config, params.base.weights),
    });
    this.rows = new Array<OrtRowDelta | null>(params.slots + params.parking).fill(null);
  }

  static async open(params: OrtRunnerParams): Promise<OrtRunner> {
    const { device, config, slots, parking, blocks = 0, base } = params;
    const cache = { device, config, slots: slots + parking, capacity: base.context };
    const { openCache = () => KvCache.allocate({ ...cache, blocks, chunk: PREFILL_CHUNK }) } = params;
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
    this.release(from);
  }

  keep({ slot, at, block }: { slot: number; at: number; block: number }): void {
    this.kv.keep(slot, at, block);
  }

  reuse({ slot, at, block }: { slot: number; at: number; block: number }): void {
    this.kv.reuse(slot, at, block);
  }

  release(slot: number): void {
    this.rows[slot] = null;
    this.batch.forget(slot);
    this.kv.release(slot);
  }

  private takeBack(): void {
    for (const memory of this.lent) memory.close();
    this.lent = [];
  }

  async prefill(params: {
    slot: number;
    tokens: readonly number[];
    past: number;
    positions: readonly number[];
  }): Promise<Float32Array> {
    const logits = await this.runChunk(params, null);
    return logits.subarray(0, params.positions.length * this.vocabSize);
  }

  async hiddenStates(params: {
    slot: number;
    tokens: readonly number[];
    past: number;
  }): Promise<Float32Array> {
    const { length } = params.tokens;
    const size = this.hiddenSize;
    const memory = await this.params.device.host(length * size * 4);
    await this.runChunk({ ...params, positions: [] }, memory);
    const states = new Float32Array(memory.buffer, memory.offset, length * size);
    const { rotations, finalGain } = this.params;
    if (rotations?.stream) undoRotation(states, rotations.stream);
    if (finalGain !== null) for (let at = 0; at < states.length; at++) states[at]! *= finalGain[at % size]!;
    return states;
  }

  /** @param hidden receives `[tokens.length, hidden]`, valid until the next step; null = not asked for. @returns the logits. */
  private async runChunk(
    params: { slot: number; tokens: readonly number[]; past: number; positions: readonly number[] },
    hidden: HostMemory | null,
  ): Promise<Float32Array> {
    const { slot, tokens, past } = params;
    const { device, config } = this.params;
    this.takeBack();
    if (hidden !== null) this.lent.push(hidden);
    const delta = this.rows[slot] ?? null;
    const graph = this.params.sessions.covering(delta?.graph ?? 'none');
    const cache = await this.kv.rowOf(slot, past);
    // An output of no positions is not asked for: the last one then costs one row of the head.
    const positions = params.positions.length > 0 ? params.positions : [tokens.length - 1];
    const session = await this.params.sessions.get(graph);
    const placed = delta === null ? null : await this.placed.place(delta);
    const shape = { rows: 1, length: tokens.length, positions, vocab: this.vocabSize };
    const step = await stepTensors(device, shape, cache);
    this.lent.push(step.memory);
    tokens.forEach((token, index) => (step.tokens[index] = BigInt(token)));
    step.lastPosition[0] = past + tokens.length - 1;
    step.total[0] = past + tokens.length;
    const binding = session.bind();
    const owned: DeviceTensor[] = Object.values(step.bound);
    try {
      bindStep(binding, step);
      if (hidden !== null) {
        const states = device.tensor('f32', hidden, 0, [1, tokens.length, this.hiddenSize]);
        owned.push(states);
        binding.output('hidden', states);
      }
      owned.push(
        ...bindDeltas({
          ...{ device, config, nothing: this.nothing, binding, graph, slot: 0, rows: 1 },
          ranks: delta?.ranks ?? noRanks(),
          memory: (layer, kind) => placed?.memory(layer, kind),
        }),
      );
      await binding.run();
    } finally {
      binding.close();
      for (const tensor of owned) tensor.close();
    }
    return step.logits;
  }

  async decode(params: { tokens: readonly number[]; lengths: readonly number[] }): Promise<Float32Array> {
    const { tokens, lengths } = params;
    this.takeBack();
    return this.decodeSteps.run(tokens, lengths, this.rows.slice(0, tokens.length));
  }

  async close(): Promise<void> {
    this.placed.clear();
    this.decodeSteps.close();
    this.takeBack();
    this.batch.close();
    this.kv.close();
    this.nothing.close();
    await this.params.sessions.close();
    await this.params.device.close();
  }
}

function own(delta: RowDelta): OrtRowDelta {
  if (!(delta instanceof OrtRowDelta)) throw new Error('the delta was composed by another runner');
  return delta;
}
