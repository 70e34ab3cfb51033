/** Reads chunks of prompts: whole, or in parts of the base's layers with steps over other rows between them. */
import type { ChunkParts } from '../engine/ports.ts';
import type { LlamaConfig } from '../model/base-model.ts';
import { type Precision, streamNames } from '../model/graph-form.ts';
import { bindDeltas, bindStep, type PlacedDeltas, stepTensors, type StepTensors } from './step-bindings.ts';
import type { Device, DeviceMemory, DeviceTensor, HostMemory, Session } from './device.ts';
import type { GraphSessions } from './graph-sessions.ts';
import type { RowsCache } from './kv-cache.ts';
import { noRanks, type OrtRowDelta } from './row-delta.ts';

export interface Chunk {
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

export class ChunkReader {
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

  private async begin({ slot, tokens, past, positions }: Chunk): Promise<Begun> {
    const { device, config, kv } = this.params;
    const cache = await kv.rowOf(slot, past);
    // An output of no positions is not asked for: the last one then costs one row of the head.
    const wanted = positions.length > 0 ? positions : [tokens.length - 1];
    const shape = { rows: 1, length: tokens.length, positions: wanted, vocab: config.vocab };
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
