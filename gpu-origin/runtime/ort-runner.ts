/** ModelRunner on ONNX Runtime, whichever device runs it. */
import type { BaseInfo } from '../../protocol/index.ts';
import type { BatchRows, ChainMember, ModelRunner, ResidentAdapter, RowDelta } from '../engine/ports.ts';
import { LINEAR_KINDS, type LinearKind, type LlamaConfig } from '../model/base-model.ts';
import type { GraphKind } from '../model/graph-names.ts';
import { undoRotation } from '../model/rotation.ts';
import { bindDeltas } from './bind-deltas.ts';
import { DeltaBatch, type DeltaMemory } from './delta-batch.ts';
import type { Binding, Device, DeviceMemory, DeviceTensor, HostMemory } from './device.ts';
import type { GraphSessions } from './graph-sessions.ts';
import { KvCache } from './kv-cache.ts';
import { loadResidentAdapter, type WeightTransform } from './load-adapter.ts';
import { PlacedDeltas } from './placed-deltas.ts';
import { composeDelta, graphFor, noRanks, OrtRowDelta, type RankByKind } from './row-delta.ts';
import { bindStep, stepTensors, type StepTensors } from './step-tensors.ts';

/** Prefill chunk, tokens. Borders lie at its multiples whatever the load, so that a row's bits do not depend on it. */
export const PREFILL_CHUNK = 128;

interface DecodeBinding {
  key: string;
  /** The delta whose own memory is bound, when a row is alone. */
  lone: OrtRowDelta | null;
  binding: Binding;
  owned: DeviceTensor[];
}

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
}

export class OrtRunner implements ModelRunner {
  readonly chunk = PREFILL_CHUNK;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly slots: number;
  readonly parking: number;
  private readonly config: LlamaConfig;
  private readonly batch: DeltaBatch;
  private readonly rows: (OrtRowDelta | null)[];
  private readonly decodeTensors = new Map<number, StepTensors>();
  private readonly slotCache = new Map<number, DeviceTensor[]>();
  private current: DecodeBinding | null = null;
  private readonly placed: PlacedDeltas;
  /** What the last prefill gave lies here. */
  private lent: HostMemory[] = [];

  private constructor(
    private readonly params: OrtRunnerParams,
    private readonly kv: KvCache,
    /** What tensors of rank 0 lie in. */
    private readonly nothing: DeviceMemory,
  ) {
    this.config = params.config;
    this.vocabSize = params.config.vocab;
    this.hiddenSize = params.config.hidden;
    this.slots = params.slots;
    this.parking = params.parking;
    this.batch = new DeltaBatch(params.device, params.config, params.slots);
    this.placed = new PlacedDeltas(params.device, params.config, (delta) => {
      if (this.current?.lone === delta) this.dropDecodeBinding();
    });
    this.rows = new Array<OrtRowDelta | null>(params.slots + params.parking).fill(null);
  }

  static async open(params: OrtRunnerParams): Promise<OrtRunner> {
    const { device, config, slots, parking, base } = params;
    const kv = await KvCache.allocate({ device, config, slots: slots + parking, capacity: base.context });
    return new OrtRunner(params, kv, await device.memory(0));
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
    const { version } = this.batch;
    this.batch.trim(rows, deltas.map(own));
    // It keeps the old buffers reachable.
    if (this.batch.version !== version) this.dropDecodeBinding();
  }

  assign(slot: number, delta: RowDelta | null): void {
    this.rows[slot] = delta === null ? null : own(delta);
  }

  move(from: number, to: number, length: number): void {
    this.kv.move(from, to, length);
    this.rows[to] = this.rows[from] ?? null;
    this.release(from);
  }

  release(slot: number): void {
    this.rows[slot] = null;
    this.batch.forget(slot);
  }

  private bindDeltas(
    binding: Binding,
    shape: { graph: GraphKind; rows: number; ranks: RankByKind },
    memory: (layer: number, kind: LinearKind) => DeltaMemory | undefined,
  ): DeviceTensor[] {
    const { device, config } = this.params;
    return bindDeltas({ device, config, binding, nothing: this.nothing, memory, ...shape });
  }

  private stepTensors(
    rows: number,
    length: number,
    positions: readonly number[],
    cache: DeviceTensor[],
  ): Promise<StepTensors> {
    return stepTensors(this.params.device, { rows, length, positions, vocab: this.vocabSize }, cache);
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
    const { device } = this.params;
    this.takeBack();
    if (hidden !== null) this.lent.push(hidden);
    const delta = this.rows[slot] ?? null;
    const graph = this.params.sessions.covering(delta?.graph ?? 'none');
    let cache = this.slotCache.get(slot);
    if (cache === undefined) this.slotCache.set(slot, (cache = this.kv.tensors(slot, 1)));
    // An output of no positions is not asked for: the last one then costs one row of the head.
    const positions = params.positions.length > 0 ? params.positions : [tokens.length - 1];
    const session = await this.params.sessions.get(graph);
    const placed = delta === null ? null : await this.placed.place(delta);
    const step = await this.stepTensors(1, tokens.length, positions, cache);
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
        ...this.bindDeltas(binding, { graph, rows: 1, ranks: delta?.ranks ?? noRanks() }, (layer, kind) =>
          placed?.memory(layer, kind),
        ),
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
    const count = tokens.length;
    this.takeBack();
    let step = this.decodeTensors.get(count);
    if (step === undefined) {
      step = await this.stepTensors(count, 1, [0], this.kv.tensors(0, count));
      this.decodeTensors.set(count, step);
    }
    let longest = 0;
    for (let row = 0; row < count; row++) {
      step.tokens[row] = BigInt(tokens[row]!);
      step.lastPosition[row] = lengths[row]!;
      longest = Math.max(longest, lengths[row]!);
    }
    step.total[0] = longest + 1;
    const binding = await this.decodeBinding(step, this.rows.slice(0, count));
    await binding.run();
    return step.logits;
  }

  /** The binding of the last step where nothing changed since, else a new one. */
  private async decodeBinding(step: StepTensors, rows: readonly (OrtRowDelta | null)[]): Promise<Binding> {
    const needed = noRanks();
    for (const row of rows)
      if (row !== null)
        for (const kind of LINEAR_KINDS) needed[kind] = Math.max(needed[kind], row.ranks[kind]);
    const { sessions } = this.params;
    const graph = sessions.covering(graphFor(needed));
    const lone = rows.length === 1 ? (rows[0] ?? null) : null;
    const ranks = lone?.ranks ?? (await this.batch.prepare(rows));
    const key = `${graph} ${rows.length} ${lone === null ? this.batch.version : 'lone'} ${Object.values(ranks).join(',')}`;
    if (this.current !== null && this.current.key === key && this.current.lone === lone)
      return this.current.binding;
    this.dropDecodeBinding();
    const session = await sessions.get(graph);
    const placed = lone === null ? null : await this.placed.place(lone);
    const binding = session.bind();
    bindStep(binding, step);
    const memory = (layer: number, kind: LinearKind): DeltaMemory | undefined =>
      placed === null ? this.batch.memory(layer, kind) : placed.memory(layer, kind);
    const owned = this.bindDeltas(binding, { graph, rows: rows.length, ranks }, memory);
    this.current = { key, lone, binding, owned };
    return binding;
  }

  private dropDecodeBinding(): void {
    this.current?.binding.close();
    for (const tensor of this.current?.owned ?? []) tensor.close();
    this.current = null;
  }

  async close(): Promise<void> {
    this.placed.clear();
    this.dropDecodeBinding();
    this.takeBack();
    for (const step of this.decodeTensors.values()) {
      for (const tensor of [...Object.values(step.bound), ...step.cache]) tensor.close();
      step.memory.close();
    }
    for (const cache of this.slotCache.values()) for (const tensor of cache) tensor.close();
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
