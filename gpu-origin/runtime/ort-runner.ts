/** ModelRunner on ONNX Runtime's CPU library. */
import type { BaseInfo } from '../../protocol/index.ts';
import type { BatchRows, ChainMember, ModelRunner, ResidentAdapter, RowDelta } from '../engine/ports.ts';
import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { DELTA_KINDS, deltaNames, GRAPH_KINDS, type GraphKind } from '../model/llama-graph.ts';
import { undoRotation } from '../model/rotation.ts';
import { DeltaBatch } from './delta-batch.ts';
import { KvCache } from './kv-cache.ts';
import { loadResidentAdapter, type WeightTransform } from './load-adapter.ts';
import {
  allocate,
  type OrtBinding,
  type OrtEnvironment,
  type OrtSession,
  type OrtTensor,
} from './ort-session.ts';
import { bindStep, stepTensors, type StepTensors } from './step-tensors.ts';
import { composeDelta, graphFor, moduleKey, noRanks, OrtRowDelta, type RankByKind } from './row-delta.ts';

/** Prefill chunk, tokens. Borders lie at its multiples whatever the load, so that a row's bits do not depend on it. */
export const PREFILL_CHUNK = 128;

interface DecodeBinding {
  key: string;
  /** The delta whose own memory is bound, when a row is alone. */
  lone: OrtRowDelta | null;
  binding: OrtBinding;
  owned: OrtTensor[];
}

export class OrtRunner implements ModelRunner {
  readonly chunk = PREFILL_CHUNK;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly slots: number;
  readonly parking: number;
  private readonly config: LlamaConfig;
  private readonly kv: KvCache;
  private readonly batch: DeltaBatch;
  private readonly rows: (OrtRowDelta | null)[];
  private readonly decodeTensors = new Map<number, StepTensors>();
  private readonly slotCache = new Map<number, OrtTensor[]>();
  private current: DecodeBinding | null = null;

  constructor(
    private readonly params: {
      base: BaseInfo;
      config: LlamaConfig;
      env: OrtEnvironment;
      sessions: Record<GraphKind, OrtSession>;
      /** Shared by the sessions, released with the runner. */
      weights: ReadonlyMap<string, OrtTensor>;
      /** Of the norm before the head, `[hidden]`. */
      finalGain: Float32Array | null;
      slots: number;
      parking: number;
    } & WeightTransform,
  ) {
    this.config = params.config;
    this.vocabSize = params.config.vocab;
    this.hiddenSize = params.config.hidden;
    this.slots = params.slots;
    this.parking = params.parking;
    this.kv = new KvCache(params.config, params.slots + params.parking, params.base.context);
    this.batch = new DeltaBatch(params.config, params.slots);
    this.rows = new Array<OrtRowDelta | null>(params.slots + params.parking).fill(null);
  }

  get base(): BaseInfo {
    return this.params.base;
  }

  loadAdapter(file: Uint8Array<ArrayBuffer>, digest: string): Promise<ResidentAdapter> {
    return loadResidentAdapter({ file, digest, ...this.params });
  }

  /** Its memory is the garbage collector's once no row and no composed delta refers to it. */
  unloadAdapter(): void {
    if (this.current?.lone !== null) this.dropDecodeBinding();
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

  private tensor(type: 'f32' | 'i32' | 'i64', data: ArrayBufferView, dims: readonly number[]): OrtTensor {
    return this.params.env.tensor(type, data, dims);
  }

  /** @returns tensors made for it, to be closed with the binding. */
  private bindDeltas(
    binding: OrtBinding,
    graph: GraphKind,
    rows: number,
    ranks: RankByKind,
    memory: (layer: number, kind: LinearKind) => { a: Float32Array; b: Float32Array } | undefined,
  ): OrtTensor[] {
    const made: OrtTensor[] = [];
    for (const kind of DELTA_KINDS[graph]) {
      const shape = linearShape(this.config, kind);
      for (let layer = 0; layer < this.config.layers; layer++) {
        const source = ranks[kind] === 0 ? undefined : memory(layer, kind);
        const rank = source === undefined ? 0 : ranks[kind];
        const nothing = (): Float32Array => new Float32Array(allocate(0));
        const a = this.tensor('f32', source?.a ?? nothing(), [rows, rank, shape.in]);
        const b = this.tensor('f32', source?.b ?? nothing(), [rows, rank, shape.out]);
        const names = deltaNames(layer, kind);
        binding.input(names.a, a);
        binding.input(names.b, b);
        made.push(a, b);
      }
    }
    return made;
  }

  private stepTensors(
    rows: number,
    length: number,
    positions: readonly number[],
    cache: OrtTensor[],
  ): StepTensors {
    return stepTensors(this.params.env, { rows, length, positions, vocab: this.vocabSize }, cache);
  }

  private cacheTensors(slot: number, rows: number): OrtTensor[] {
    return this.kv.buffers.map((_, index) =>
      this.tensor('f32', this.kv.from(index, slot), this.kv.dims(rows)),
    );
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
    const states = new Float32Array(allocate(length * size * 4));
    await this.runChunk({ ...params, positions: [] }, states);
    const { rotations, finalGain } = this.params;
    if (rotations?.stream) undoRotation(states, rotations.stream);
    if (finalGain !== null) for (let at = 0; at < states.length; at++) states[at]! *= finalGain[at % size]!;
    return states;
  }

  /** @param hidden receives `[tokens.length, hidden]`; null = not asked for. @returns the logits. */
  private async runChunk(
    params: { slot: number; tokens: readonly number[]; past: number; positions: readonly number[] },
    hidden: Float32Array<ArrayBuffer> | null,
  ): Promise<Float32Array> {
    const { slot, tokens, past } = params;
    const delta = this.rows[slot] ?? null;
    const graph = delta?.graph ?? 'none';
    let cache = this.slotCache.get(slot);
    if (cache === undefined) this.slotCache.set(slot, (cache = this.cacheTensors(slot, 1)));
    // An output of no positions is not asked for: the last one then costs one row of the head.
    const positions = params.positions.length > 0 ? params.positions : [tokens.length - 1];
    const step = this.stepTensors(1, tokens.length, positions, cache);
    tokens.forEach((token, index) => (step.tokens[index] = BigInt(token)));
    step.lastPosition[0] = past + tokens.length - 1;
    step.total[0] = past + tokens.length;
    const binding = this.params.sessions[graph].bind();
    const owned: OrtTensor[] = Object.values(step.bound);
    try {
      bindStep(binding, step);
      if (hidden !== null) {
        const states = this.tensor('f32', hidden, [1, tokens.length, this.hiddenSize]);
        owned.push(states);
        binding.output('hidden', states);
      }
      owned.push(
        ...this.bindDeltas(binding, graph, 1, delta?.ranks ?? noRanks(), (layer, kind) =>
          delta?.modules.get(moduleKey(layer, kind)),
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
    let step = this.decodeTensors.get(count);
    if (step === undefined)
      this.decodeTensors.set(count, (step = this.stepTensors(count, 1, [0], this.cacheTensors(0, count))));
    let longest = 0;
    for (let row = 0; row < count; row++) {
      step.tokens[row] = BigInt(tokens[row]!);
      step.lastPosition[row] = lengths[row]!;
      longest = Math.max(longest, lengths[row]!);
    }
    step.total[0] = longest + 1;
    await this.decodeBinding(step, this.rows.slice(0, count)).run();
    return step.logits.subarray(0, count * this.vocabSize);
  }

  /** The binding of the last step where nothing changed since, else a new one. */
  private decodeBinding(step: StepTensors, rows: readonly (OrtRowDelta | null)[]): OrtBinding {
    const needed = noRanks();
    for (const row of rows)
      if (row !== null)
        for (const kind of LINEAR_KINDS) needed[kind] = Math.max(needed[kind], row.ranks[kind]);
    const graph = graphFor(needed);
    const lone = rows.length === 1 ? (rows[0] ?? null) : null;
    const ranks = lone?.ranks ?? this.batch.prepare(rows);
    const key = `${graph} ${rows.length} ${lone === null ? this.batch.version : 'lone'} ${Object.values(ranks).join(',')}`;
    if (this.current !== null && this.current.key === key && this.current.lone === lone)
      return this.current.binding;
    this.dropDecodeBinding();
    const binding = this.params.sessions[graph].bind();
    bindStep(binding, step);
    const memory = (layer: number, kind: LinearKind): { a: Float32Array; b: Float32Array } | undefined =>
      lone === null ? this.batch.tensors(layer, kind) : lone.modules.get(moduleKey(layer, kind));
    this.current = { key, lone, binding, owned: this.bindDeltas(binding, graph, rows.length, ranks, memory) };
    return binding;
  }

  private dropDecodeBinding(): void {
    this.current?.binding.close();
    for (const tensor of this.current?.owned ?? []) tensor.close();
    this.current = null;
  }

  async close(): Promise<void> {
    this.dropDecodeBinding();
    for (const step of this.decodeTensors.values())
      for (const tensor of [...Object.values(step.bound), ...step.cache]) tensor.close();
    for (const cache of this.slotCache.values()) for (const tensor of cache) tensor.close();
    for (const kind of GRAPH_KINDS) this.params.sessions[kind].close();
    for (const tensor of this.params.weights.values()) tensor.close();
    this.params.env.close();
  }
}

function own(delta: RowDelta): OrtRowDelta {
  if (!(delta instanceof OrtRowDelta)) throw new Error('the delta was composed by another runner');
  return delta;
}
