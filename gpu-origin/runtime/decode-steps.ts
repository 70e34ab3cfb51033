/** Decode steps over slots 0 … n-1: their tensors and bindings, and which rows run beside which. */
import type { LinearKind, LlamaConfig } from '../model/base-model.ts';
import type { Precision } from '../model/graph-form.ts';
import { bindDeltas, bindStep, type PlacedDeltas, stepTensors, type StepTensors } from './step-bindings.ts';
import { type DeltaBatch, type DeltaMemory, rankBytes, widestRanks } from './delta-batch.ts';
import type { Binding, Device, DeviceMemory, DeviceTensor, HostMemory, SessionCores } from './device.ts';
import type { GraphSessions } from './graph-sessions.ts';
import type { RowsCache } from './kv-cache.ts';
import { type LaneChoice, rowsAlone } from './step-choice.ts';
import { graphFor, type OrtRowDelta, type RankByKind } from './row-delta.ts';

type Rows = readonly (OrtRowDelta | null)[];

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

export class DecodeSteps {
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
  async run(tokens: readonly number[], lengths: readonly number[], rows: Rows): Promise<Float32Array> {
    const { device, config, batch, slots } = this.params;
    const count = rows.length;
    this.logits ??= await device.host(slots * config.vocab * Float32Array.BYTES_PER_ELEMENT);
    const alone = count === 1 ? [0] : this.wide(rows);
    if (count > 1) {
      // A row that runs by itself afterwards is padding here: what it writes, its keys and values too, is written again.
      const others = rows.map((row, slot) => (alone.includes(slot) ? null : row));
      await this.together(tokens, lengths, others);
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

  /** Rows of a step that run by themselves; none where no tensor begins inside the device's memory. */
  private wide(rows: Rows): number[] {
    const { device, stepBytes } = this.params;
    if (device.own !== null) return [];
    const ranks = rows.map((row) => row?.ranks ?? null);
    return rowsAlone({ rows: ranks, bytesOfRank: this.bytesOfRank, weights: stepBytes });
  }

  private async together(tokens: readonly number[], lengths: readonly number[], rows: Rows): Promise<void> {
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
    const shape = { rows, length: 1, positions: [0], vocab: config.vocab };
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
    const session = await sessions.get(graph, cores);
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

function feed(step: StepTensors, tokens: readonly number[], lengths: readonly number[]): void {
  tokens.forEach((token, row) => (step.tokens[row] = BigInt(token)));
  step.lastPosition.set(lengths);
  step.total[0] = Math.max(...lengths) + 1;
}

function unbind(group: Group): void {
  group.bound?.binding.close();
  for (const tensor of group.bound?.owned ?? []) tensor.close();
  group.bound = null;
}
