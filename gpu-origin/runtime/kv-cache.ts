/**
 * Keys and values of all rows: per layer, in its own sizes, `[slots, kvHeads, capacity, headDim]`, in place for the whole
 * life of a row; and behind them those of chunks that are kept, `[blocks, kvHeads, chunk, headDim]`.
 */
import { type Clipped, NONE_CLIPPED } from '../engine/ports.ts';
import {
  attentionLayers,
  cachedLayers,
  headsOf,
  isDeltaNet,
  type LlamaConfig,
  type Precision,
  STATES,
  stateShapes,
} from '../model/base-model.ts';
import type { KvScales } from '../model/llama-graph.ts';
import type {
  Device,
  DeviceMemory,
  DeviceTensor,
  Binding,
  HostMemory,
  OwnMemory,
  Session,
} from './device.ts';
import { GraphBuilder } from '../model/onnx-proto.ts';
import { KvQuantizer, type Piece } from './kv-quantizer.ts';

/** How a processor keeps keys and values of rows. */
export const KV_FORMATS = ['int8', 'f32'] as const;
export type KvFormat = (typeof KV_FORMATS)[number];

const VALUE_BYTES: Record<KvFormat, number> = { int8: 1, f32: 4 };

/** Keys and values of one token, bytes. */
export const tokenBytes = (
  config: Pick<LlamaConfig, 'layers' | 'kvHeads' | 'headDim' | 'deltaNet'> &
    Partial<Pick<LlamaConfig, 'layerSizes'>>,
  format: KvFormat = 'f32',
): number => {
  let values = 0;
  for (const layer of attentionLayers(config)) {
    const { kvHeads, headDim } = headsOf(config, layer);
    values += kvHeads * headDim;
  }
  return 2 * values * VALUE_BYTES[format];
};

export interface RowsShape {
  device: Device;
  config: LlamaConfig;
  slots: number;
  /** Tokens of a slot. */
  capacity: number;
}

/** `tokens` tokens from token `at` of a slot on, and the block that they are kept in. */
interface ChunkPlace {
  slot: number;
  at: number;
  block: number;
  tokens: number;
}

/**
 * Keys and values of rows as tensors: key and value of each layer alternate, or the two states of one without attention.
 * The cache closes them.
 */
export interface RowsCache {
  /** Of the row in `slot`, for a chunk of `length` tokens that is read behind its `past` ones. */
  rowOf(slot: number, past: number, length: number): Promise<DeviceTensor[]>;
  /** Of `count` slots from `from` on, for a step that appends to each; in device memory from slot 0 on only. */
  rowsFrom(from: number, count: number): Promise<DeviceTensor[]>;
  /** At least the first `length` tokens of a row move to another slot before the next step. */
  move(from: number, to: number, length: number): void;
  /** Copies a chunk's tokens into a block; never called without blocks. */
  keep(chunk: ChunkPlace): void;
  /** … and back, into any slot. */
  reuse(chunk: ChunkPlace): void;
  /** As `ModelRunner` has it. Absent: values of any magnitude are kept. */
  clipped?(slot: number): Clipped;
  /** The slot's row, with at most `length` tokens, is gone. */
  release(slot: number, length: number): void;
  /** Close it after the bindings of its tensors. */
  close(): void;
}

/** For memory in which a tensor may begin anywhere. */
export class KvCache implements RowsCache {
  /** By first slot and count. */
  private readonly made = new Map<string, DeviceTensor[]>();

  private constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly slots: number,
    private readonly capacity: number,
    private readonly chunk: number,
    private readonly kept: number,
    private readonly format: KvFormat,
    /** By layer, keys at 2 * layer and values at 2 * layer + 1. Never filled: pages become resident when written. */
    private readonly memories: readonly HostMemory[],
  ) {}

  /**
   * @param params.chunk tokens of a block.
   * @param params.kept tokens of a slot whose memory stays resident when the row ends. Freeing and reallocating
   * 1,000 takes 25 ms of SmolLM2-135M, a twentieth of reading them: too much for every row.
   */
  static async allocate(
    params: RowsShape & { blocks: number; chunk: number; kept: number; format?: KvFormat },
  ): Promise<KvCache> {
    const { device, config, slots, capacity, blocks, chunk, kept, format = 'f32' } = params;
    const tokens = slots * capacity + blocks * chunk;
    const memories = [];
    for (let index = 0; index < config.layers * 2; index++) {
      const { kvHeads, headDim } = headsOf(config, index >> 1);
      memories.push(await device.host(tokens * kvHeads * headDim * VALUE_BYTES[format], true));
    }
    return new KvCache(device, config, slots, capacity, chunk, kept, format, memories);
  }

  private heads(index: number): number {
    return headsOf(this.config, index >> 1).kvHeads;
  }

  /** Of a token of a head in keys or values `index`. */
  private valuesBytes(index: number): number {
    return headsOf(this.config, index >> 1).headDim * VALUE_BYTES[this.format];
  }

  private headBytes(index: number): number {
    return this.capacity * this.valuesBytes(index);
  }

  /** Where token `at` of a slot's head lies in keys or values `index`, in its buffer. */
  place(index: number, slot: number, head: number, at: number): { buffer: ArrayBufferLike; byte: number } {
    const { buffer, offset } = this.memories[index]!;
    const byte = slot * this.slotBytes(index) + head * this.headBytes(index) + at * this.valuesBytes(index);
    return { buffer, byte: offset + byte };
  }

  private slotBytes(index: number): number {
    return this.heads(index) * this.headBytes(index);
  }

  async rowOf(slot: number): Promise<DeviceTensor[]> {
    return this.tensors(slot, 1);
  }

  async rowsFrom(from: number, count: number): Promise<DeviceTensor[]> {
    return this.tensors(from, count);
  }

  private tensors(slot: number, rows: number): DeviceTensor[] {
    const key = `${slot} ${rows}`;
    const known = this.made.get(key);
    if (known !== undefined) return known;
    const type = this.format === 'int8' ? 'i8' : 'f32';
    const tensors = this.memories.map((memory, index) => {
      const { kvHeads, headDim } = headsOf(this.config, index >> 1);
      const dims = [rows, kvHeads, this.capacity, headDim];
      return this.device.tensor(type, memory, slot * this.slotBytes(index), dims);
    });
    this.made.set(key, tensors);
    return tensors;
  }

  move(from: number, to: number, length: number): void {
    for (const [index, memory] of this.memories.entries()) {
      const bytes = length * this.valuesBytes(index);
      const slotBytes = this.slotBytes(index);
      for (let head = 0; head < this.heads(index); head++) {
        const at = head * this.headBytes(index);
        memory.copy(from * slotBytes + at, to * slotBytes + at, bytes);
      }
    }
  }

  /** The next row overwrites a slot; memory of a long one, which may not come soon, is freed. */
  release(slot: number, length: number): void {
    if (length <= this.kept) return;
    for (const [index, memory] of this.memories.entries()) {
      const [kept, written] = [this.kept * this.valuesBytes(index), length * this.valuesBytes(index)];
      for (let head = 0; head < this.heads(index); head++) {
        const at = slot * this.slotBytes(index) + head * this.headBytes(index);
        memory.giveBack?.(at + kept, written - kept);
      }
    }
  }

  keep(chunk: ChunkPlace): void {
    this.copyChunk(chunk, (memory, inSlot, inBlock, bytes) => memory.copy(inSlot, inBlock, bytes));
  }

  reuse(chunk: ChunkPlace): void {
    this.copyChunk(chunk, (memory, inSlot, inBlock, bytes) => memory.copy(inBlock, inSlot, bytes));
  }

  private copyChunk(
    { slot, at, block, tokens }: ChunkPlace,
    copy: (memory: DeviceMemory, inSlot: number, inBlock: number, bytes: number) => void,
  ): void {
    for (const [index, memory] of this.memories.entries()) {
      const [heads, values, slotBytes] = [this.heads(index), this.valuesBytes(index), this.slotBytes(index)];
      const bytes = this.chunk * values;
      const blockAt = this.slots * slotBytes + block * heads * bytes;
      for (let head = 0; head < heads; head++) {
        const inSlot = slot * slotBytes + head * this.headBytes(index) + at * values;
        copy(memory, inSlot, blockAt + head * bytes, tokens * values);
      }
    }
  }

  close(): void {
    for (const tensors of this.made.values()) for (const tensor of tensors) tensor.close();
    for (const memory of this.memories) memory.close();
  }
}

/** Tokens in float32 whose memory stays resident when their row is read. */
const KEPT_FLOATS = 1_024;

/**
 * Keys and values in int8. Steps that decode append to them; prompts are read in float32, into one row beside the slots,
 * because ONNX Runtime's int8 attention takes five times as long over several positions. A chunk is attended to as it is
 * while it is read, and rounded afterwards, so that later chunks see the same whether it was read or reused.
 */
export class Int8Cache implements RowsCache {
  /** The row in float32: `rounded` of its tokens are as the slot has them, those up to `read` are exact. */
  private staged: { slot: number; rounded: number; read: number } | null = null;

  private constructor(
    private readonly config: LlamaConfig,
    private readonly slots: KvCache,
    private readonly row: KvCache,
    private readonly scales: KvScales,
    private readonly quantizer: KvQuantizer,
  ) {}

  /** @param params as `KvCache.allocate` takes them. */
  static async allocate(
    params: Parameters<typeof KvCache.allocate>[0] & { scales: KvScales },
  ): Promise<Int8Cache> {
    const { config, scales } = params;
    const slots = await KvCache.allocate({ ...params, format: 'int8' });
    const row = await KvCache.allocate({ ...params, format: 'f32', slots: 1, blocks: 0, kept: KEPT_FLOATS });
    return new Int8Cache(config, slots, row, scales, new KvQuantizer(config, scales));
  }

  rowOf(slot: number, past: number, length: number): Promise<DeviceTensor[]> {
    if (this.staged?.slot !== slot) {
      this.leave();
      for (const piece of this.pieces(slot, 0, past)) this.quantizer.dequantize(piece);
    } else this.round(past);
    this.staged = { slot, rounded: past, read: past + length };
    return this.row.rowOf(0);
  }

  rowsFrom(from: number, count: number): Promise<DeviceTensor[]> {
    const { staged } = this;
    // The step appends to the slot.
    if (staged !== null && staged.slot >= from && staged.slot < from + count) this.leave();
    return this.slots.rowsFrom(from, count);
  }

  move(from: number, to: number, length: number): void {
    if (this.staged?.slot === to) this.forget();
    this.slots.move(from, to, length);
    if (this.staged?.slot === from) this.staged.slot = to;
  }

  keep(chunk: ChunkPlace): void {
    if (this.staged?.slot === chunk.slot) this.round(this.staged.read);
    this.slots.keep(chunk);
  }

  reuse(chunk: ChunkPlace): void {
    if (this.staged?.slot === chunk.slot) this.leave();
    this.slots.reuse(chunk);
  }

  release(slot: number, length: number): void {
    if (this.staged?.slot === slot) this.forget();
    this.slots.release(slot, length);
  }

  /**
   * Of the row in `slot`, whose last chunk was just read: how many of the chunk's keys and values int8 cannot hold.
   * @returns zeros when the chunk was kept or other rows ran since.
   */
  clipped(slot: number): Clipped {
    const { staged } = this;
    if (staged?.slot !== slot) return NONE_CLIPPED;
    let [clipped, values, lost] = [0, 0, 0];
    for (const { index, head, floats } of this.pieces(slot, staged.rounded, staged.read)) {
      const { headDim } = headsOf(this.config, index >> 1);
      const { k, v } = this.scales[index >> 1]!;
      const steps = (index & 1 ? v : k).subarray(head * headDim, (head + 1) * headDim);
      values += floats.length;
      floats.forEach((value, at) => {
        const beyond = Math.abs(value) / steps[at % headDim]! - MOST_STEPS;
        if (!(beyond > 0)) return;
        clipped += 1;
        lost += beyond * beyond;
      });
    }
    return { clipped, values, lost };
  }

  close(): void {
    this.slots.close();
    this.row.close();
  }

  /** Exact tokens before token `to` are rounded, here and in the slot. */
  private round(to: number): void {
    const { staged } = this;
    if (staged === null) return;
    const until = Math.min(staged.read, to);
    for (const piece of this.pieces(staged.slot, staged.rounded, until)) this.quantizer.quantize(piece, true);
    staged.rounded = Math.max(staged.rounded, until);
  }

  /** All tokens get into the slot; the row in float32 is free. */
  private leave(): void {
    const { staged } = this;
    if (staged === null) return;
    for (const piece of this.pieces(staged.slot, staged.rounded, staged.read))
      this.quantizer.quantize(piece, false);
    this.forget();
  }

  private forget(): void {
    if (this.staged !== null) this.row.release(0, this.staged.read);
    this.staged = null;
  }

  /** Tokens `from` … `to`-1 of the row in float32 and of its slot. */
  private *pieces(slot: number, from: number, to: number): Generator<Piece> {
    if (to <= from) return;
    for (let index = 0; index < 2 * this.config.layers; index++) {
      const { kvHeads, headDim } = headsOf(this.config, index >> 1);
      const count = (to - from) * headDim;
      for (let head = 0; head < kvHeads; head++) {
        const exact = this.row.place(index, 0, head, from);
        const rounded = this.slots.place(index, slot, head, from);
        yield {
          ...{ index, head },
          floats: new Float32Array(exact.buffer, exact.byte, count),
          bytes: new Int8Array(rounded.buffer, rounded.byte, count),
        };
      }
    }
  }
}

/** Beyond it a value is rounded to less. */
const MOST_STEPS = 127.5;

/** One of the tensors that a row consists of. */
interface RowPart {
  type: Precision;
  /** Of one row. */
  dims: readonly number[];
  /** It has seen all tokens of the row, so that a row begins with zeros. */
  isState: boolean;
}

/** Two of each layer that keeps something: keys and values in a precision, or states in float32. */
function partsOfRow(config: LlamaConfig, capacity: number, precision: Precision): RowPart[] {
  return cachedLayers(config).flatMap((layer): RowPart[] => {
    if (config.deltaNet !== null && isDeltaNet(config, layer)) {
      const shapes = stateShapes(config.deltaNet);
      return STATES.map((part) => ({ type: 'f32', dims: shapes[part], isState: true }));
    }
    const { kvHeads, headDim } = headsOf(config, layer);
    const part: RowPart = { type: precision, dims: [kvHeads, capacity, headDim], isState: false };
    return [part, part];
  });
}

/** `put`: a row of its own into a slot. `take`: out of one. `move`: from one slot to another. `begin`: states of a new row. */
const SLOT_GRAPHS = ['put', 'take', 'move', 'begin'] as const;
type SlotGraph = (typeof SLOT_GRAPHS)[number];

/** The inputs of slot graphs that are numbers, of slots or the one that states begin with. */
const PLACES = {
  from: { type: 'i64', at: 0, dims: [1] },
  to: { type: 'i64', at: 8, dims: [1, 1] },
  zero: { type: 'f32', at: 16, dims: [1] },
} as const;
type Place = keyof typeof PLACES;
const PLACES_BYTES = 24;
const PLACES_OF: Readonly<Record<SlotGraph, readonly Place[]>> = {
  put: ['to'],
  take: ['from'],
  move: ['from', 'to'],
  begin: ['zero'],
};

/**
 * What rows keep in device memory, where no tensor begins inside another: keys and values, and states of layers without
 * attention, `[slots, …]` each; and one extra row that prompts are read into. A row moves by a run over the whole of it.
 */
export class SlotCache implements RowsCache {
  private readonly views = new Map<number, DeviceTensor[]>();
  private readonly bindings = new Map<SlotGraph, Binding>();
  /** The row whose keys and values are in the extra row. */
  private staged: number | null = null;
  /** The extra row is newer than the slot. */
  private dirty = false;
  /** Moves that the next step makes first. */
  private moves: { from: number; to: number }[] = [];

  private constructor(
    private readonly own: OwnMemory,
    private readonly sessions: ReadonlyMap<SlotGraph, Session>,
    private readonly parts: readonly RowPart[],
    /** Of each part. */
    private readonly slots: readonly DeviceTensor[],
    private readonly row: DeviceTensor[],
    private readonly places: { memory: HostMemory; tensors: ReadonlyMap<Place, DeviceTensor> },
  ) {}

  /** @throws OrtError when the device does not have enough memory. */
  static async allocate(params: RowsShape & { own: OwnMemory; precision: Precision }): Promise<SlotCache> {
    const { device, own, precision, config, slots, capacity } = params;
    const parts = partsOfRow(config, capacity, precision);
    const allocated = async (rows: number): Promise<DeviceTensor[]> => {
      const tensors = [];
      for (const { type, dims } of parts) tensors.push(await own.allocate(type, [rows, ...dims]));
      return tensors;
    };
    const sessions = new Map<SlotGraph, Session>();
    for (const which of SLOT_GRAPHS)
      if (which !== 'begin' || parts.some(({ isState }) => isState))
        sessions.set(which, await device.session(buildSlotGraph(which, parts), null));
    const memory = await device.host(PLACES_BYTES);
    const tensors = new Map(
      Object.entries(PLACES).map(([name, { type, at, dims }]) => [
        name as Place,
        device.tensor(type, memory, at, dims),
      ]),
    );
    return new SlotCache(own, sessions, parts, await allocated(slots), await allocated(1), {
      memory,
      tensors,
    });
  }

  async rowOf(slot: number, past: number): Promise<DeviceTensor[]> {
    await this.settle();
    if (this.staged !== slot) {
      await this.putBack();
      if (past > 0) await this.run('take', { from: slot });
      this.staged = slot;
    }
    if (past === 0 && this.sessions.has('begin')) await this.run('begin', {});
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
    // The last one is also the zero in float32.
    numbers.set([BigInt(places.from ?? 0), BigInt(places.to ?? 0), 0n]);
    const binding = this.bindings.get(which) ?? this.bind(which);
    await binding.run();
  }

  private bind(which: SlotGraph): Binding {
    const binding = this.sessions.get(which)!.bind();
    for (const place of PLACES_OF[which]) binding.input(place, this.places.tensors.get(place)!);
    this.parts.forEach(({ isState }, index) => {
      const [slots, row] = [this.slots[index]!, this.row[index]!];
      if (which === 'begin') {
        if (isState) binding.output(`row.${index}`, row);
        return;
      }
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
    for (const tensor of [...this.slots, ...this.row, ...this.places.tensors.values()]) tensor.close();
    this.places.memory.close();
    for (const session of this.sessions.values()) session.close();
  }
}

/**
 * A small graph that copies rows of tensors `[slots, …]` on the device, or begins one: ScatterND, Gather and Expand of
 * ONNX, which WebGPU has. Inputs `slots.<i>` `[S, …dims]`, `row.<i>` `[1, …dims]` (put), and those of {@link PLACES_OF};
 * outputs `row.<i>` (take, and of states begin) and `kept.<i>`, which must be bound to the same memory as `slots.<i>`, so
 * that only the one row is written.
 */
function buildSlotGraph(which: SlotGraph, parts: readonly RowPart[]): Uint8Array {
  const g = new GraphBuilder();
  for (const place of PLACES_OF[which]) g.input(place, PLACES[place].type, PLACES[place].dims);
  for (const [index, { type, dims, isState }] of parts.entries()) {
    const row = `row.${index}`;
    if (which === 'begin') {
      if (!isState) continue;
      const shape = BigInt64Array.from([1, ...dims], BigInt);
      g.node('Expand', ['zero', g.constant(`${row}.shape`, 'i64', [shape.length], shape)], row);
      g.output(row, type, [1, ...dims]);
      continue;
    }
    const slots = g.input(`slots.${index}`, type, ['S', ...dims]);
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
