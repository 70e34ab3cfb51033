/**
 * Keys and values in a device's own memory, where no tensor begins inside another: per layer `[slots, …]`, and one row
 * beside them that prompts are read into. A row changes its place by a run over the whole of it.
 */
import type { Precision } from '../model/graph-form.ts';
import { GraphBuilder } from '../model/onnx-proto.ts';
import type { Binding, DeviceTensor, HostMemory, OwnMemory, Session } from './device.ts';
import type { RowsCache, RowsShape } from './kv-cache.ts';

/** `put`: a row of its own into a slot. `take`: out of one. `move`: from one slot to another. */
const SLOT_GRAPHS = ['put', 'take', 'move'] as const;
type SlotGraph = (typeof SLOT_GRAPHS)[number];

/** The inputs of slot graphs that are numbers of slots: byte where each lies, and its dimensions. */
const PLACES = { from: { at: 0, dims: [1] }, to: { at: 8, dims: [1, 1] } } as const;
const PLACES_BYTES = 16;

export class SlotCache implements RowsCache {
  private readonly views = new Map<number, DeviceTensor[]>();
  private readonly bindings = new Map<SlotGraph, Binding>();
  /** Whose keys and values the row beside holds. */
  private staged: number | null = null;
  /** The row beside is newer than the slot. */
  private dirty = false;
  /** Moves that the next step makes first. */
  private moves: { from: number; to: number }[] = [];

  private constructor(
    private readonly own: OwnMemory,
    private readonly sessions: Readonly<Record<SlotGraph, Session>>,
    /** By layer, keys at 2 * layer and values at 2 * layer + 1. */
    private readonly slots: readonly DeviceTensor[],
    private readonly row: DeviceTensor[],
    private readonly places: { memory: HostMemory; tensors: Readonly<Record<'from' | 'to', DeviceTensor>> },
  ) {}

  /** @throws OrtError when the device has not as much memory. */
  static async allocate(params: RowsShape & { own: OwnMemory; precision: Precision }): Promise<SlotCache> {
    const { device, own, precision, config, slots, capacity } = params;
    const dims = [config.kvHeads, capacity, config.headDim];
    const shapes = Array.from({ length: 2 * config.layers }, () => dims);
    const allocated = async (rows: number): Promise<DeviceTensor[]> => {
      const tensors = [];
      for (const shape of shapes) tensors.push(await own.allocate(precision, [rows, ...shape]));
      return tensors;
    };
    const sessions: Partial<Record<SlotGraph, Session>> = {};
    for (const which of SLOT_GRAPHS)
      sessions[which] = await device.session(buildSlotGraph(which, precision, shapes), null);
    const memory = await device.host(PLACES_BYTES);
    const tensor = (name: 'from' | 'to'): DeviceTensor =>
      device.tensor('i64', memory, PLACES[name].at, PLACES[name].dims);
    return new SlotCache(
      own,
      sessions as Record<SlotGraph, Session>,
      await allocated(slots),
      await allocated(1),
      { memory, tensors: { from: tensor('from'), to: tensor('to') } },
    );
  }

  async rowOf(slot: number, past: number): Promise<DeviceTensor[]> {
    await this.settle();
    if (this.staged !== slot) {
      await this.putBack();
      if (past > 0) await this.run('take', { from: slot });
      this.staged = slot;
    }
    this.dirty = true;
    return this.row;
  }

  async rowsFrom(_from: number, count: number): Promise<DeviceTensor[]> {
    await this.settle();
    if (this.staged !== null && this.staged < count) {
      await this.putBack();
      // The step appends to the slot.
      this.staged = null;
    }
    const known = this.views.get(count);
    if (known !== undefined) return known;
    const views = this.slots.map((tensor) => this.own.first(tensor, count));
    this.views.set(count, views);
    return views;
  }

  move(from: number, to: number): void {
    if (this.staged === to) this.forgetStaged();
    if (this.staged === from) {
      this.staged = to;
      this.dirty = true;
    } else this.moves.push({ from, to });
  }

  keep(): never {
    throw new Error('there are no blocks in a device’s own memory');
  }

  reuse(): never {
    return this.keep();
  }

  release(slot: number): void {
    if (this.staged === slot) this.forgetStaged();
  }

  private forgetStaged(): void {
    this.staged = null;
    this.dirty = false;
  }

  private async settle(): Promise<void> {
    for (const move of this.moves) await this.run('move', move);
    this.moves = [];
  }

  private async putBack(): Promise<void> {
    if (this.dirty && this.staged !== null) await this.run('put', { to: this.staged });
    this.dirty = false;
  }

  private async run(which: SlotGraph, places: { from?: number; to?: number }): Promise<void> {
    const { buffer, offset } = this.places.memory;
    const numbers = new BigInt64Array(buffer, offset, PLACES_BYTES / BigInt64Array.BYTES_PER_ELEMENT);
    numbers.set([BigInt(places.from ?? 0), BigInt(places.to ?? 0)]);
    const binding = this.bindings.get(which) ?? this.bind(which);
    await binding.run();
  }

  private bind(which: SlotGraph): Binding {
    const binding = this.sessions[which].bind();
    if (which !== 'put') binding.input('from', this.places.tensors.from);
    if (which !== 'take') binding.input('to', this.places.tensors.to);
    this.slots.forEach((slots, index) => {
      const row = this.row[index]!;
      binding.input(`slots.${index}`, slots);
      if (which === 'put') binding.input(`row.${index}`, row);
      if (which === 'take') binding.output(`row.${index}`, row);
      else binding.output(`kept.${index}`, slots);
    });
    this.bindings.set(which, binding);
    return binding;
  }

  close(): void {
    for (const binding of this.bindings.values()) binding.close();
    for (const views of this.views.values()) for (const view of views) view.close();
    for (const tensor of [...this.slots, ...this.row, ...Object.values(this.places.tensors)]) tensor.close();
    this.places.memory.close();
    for (const session of Object.values(this.sessions)) session.close();
  }
}

/**
 * A small graph that copies rows of tensors `[slots, …]` on the device: ScatterND and Gather of ONNX, which WebGPU has.
 * Inputs `slots.<i>` `[S, …dims]`, `row.<i>` `[1, …dims]` (put), `from` `[1]` (take, move) and `to` `[1, 1]` (put, move);
 * outputs `row.<i>` (take) and `kept.<i>`, to be bound where `slots.<i>` is: only the one row is then written.
 * @param tensors dimensions of each behind the first one.
 */
function buildSlotGraph(
  which: SlotGraph,
  type: Precision,
  tensors: readonly (readonly number[])[],
): Uint8Array {
  const g = new GraphBuilder();
  if (which !== 'put') g.input('from', 'i64', [1]);
  if (which !== 'take') g.input('to', 'i64', [1, 1]);
  for (const [index, dims] of tensors.entries()) {
    const slots = g.input(`slots.${index}`, type, ['S', ...dims]);
    const row = `row.${index}`;
    if (which === 'put') g.input(row, type, [1, ...dims]);
    else g.node('Gather', [slots, 'from'], row, { axis: 0 });
    if (which === 'take') g.output(row, type, [1, ...dims]);
    else {
      g.node('ScatterND', [slots, 'to', row], `kept.${index}`);
      g.output(`kept.${index}`, type, ['S', ...dims]);
    }
  }
  return g.build(`slots-${which}`);
}
