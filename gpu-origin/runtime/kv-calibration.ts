/**
 * Scales of a base's int8 keys and values, and what these cost in quality: by running its graphs over texts of
 * `calibration-text.ts`, once, when the graphs are built.
 */
import { type GraphKind, headsOf, type LlamaConfig } from '../model/base-model.ts';
import type { BuiltGraphs, KvCalibration } from '../model/build-graphs.ts';
import type { calibrationTokens, ControlText } from '../model/calibration-text.ts';
import type { KvScales } from '../model/llama-graph.ts';
import { noRanks } from './adapter-batch.ts';
import { bindDeltas, bindStep, meanDivergence, noDelta, stepTensors } from './bindings.ts';
import type { Device, DeviceMemory, DeviceTensor, HostMemory, Session } from './device.ts';
import { type KvFormat, tokenBytes } from './kv-cache.ts';
import { RowStates, tensorsInOrder, withKeys } from './row-states.ts';
import { KvQuantizer } from './kv-quantizer.ts';

/**
 * Room above the largest magnitude that the texts reach, for other texts and for adapters. More of it costs precision: the
 * mean KL grows by its square.
 */
const ROOM = { least: 1, usual: 1.2, most: 1.35 } as const;
/** Least share of a head's largest scale: an adapter may move a channel that the base hardly uses. */
const LEAST_SHARE = 1 / 64;
/** Largest magnitude of a byte. */
const MOST_STEPS = 127;

/** The graph that takes no deltas has the same bits as the others without any. */
const GRAPH: GraphKind = 'none';

/** @param params.texts called once, if there is anything to measure. */
export function kvCalibration(params: {
  device: Device;
  config: LlamaConfig;
  built: BuiltGraphs;
  texts: () => ReturnType<typeof calibrationTokens>;
}): KvCalibration {
  const { device, config, built } = params;
  const ofKeys = withKeys(config);
  let texts: ReturnType<typeof params.texts> | null = null;
  const all = (): ReturnType<typeof params.texts> => (texts ??= params.texts());
  return {
    async scales() {
      return withSession(device, built, built.graphs[GRAPH], async (session) => {
        const { calibration } = all();
        const peaks = newChannels(ofKeys);
        const first = newChannels(ofKeys);
        const usual = mostCommon(calibration.map((tokens) => tokens[0]!));
        for (const tokens of calibration) {
          const row = await ProbeRow.open(device, config, 'f32', tokens.length);
          try {
            await row.run(session, tokens, []);
            row.addPeaks(peaks, tokens.length);
            if (tokens[0] === usual) row.copyFirst(first);
          } finally {
            row.close();
          }
        }
        return scalesOf(ofKeys, peaks, first);
      });
    },
    async divergence({ graphs, scales }) {
      const { control } = all();
      const read: Read[] = [];
      const float32: Float32Array[][] = [];
      await withSession(device, built, built.graphs[GRAPH], async (session) => {
        for (const text of control) {
          const row = await ProbeRow.open(device, config, 'f32', lengthOf(text));
          try {
            const whole = await readText(row, session, text);
            read.push(whole);
            float32.push(await decodeAnswer(row, session, text, whole.states));
          } finally {
            row.close();
          }
        }
      });
      const int8: Float32Array[][] = [];
      await withSession(device, built, graphs[GRAPH], async (session) => {
        for (const [index, text] of control.entries()) {
          const row = await ProbeRow.open(device, config, 'int8', lengthOf(text));
          try {
            const { keysAndValues, states } = read[index]!;
            row.write(new KvQuantizer(ofKeys, scales), keysAndValues, text.prompt.length);
            int8.push(await decodeAnswer(row, session, text, states));
          } finally {
            row.close();
          }
        }
      });
      // With int8 weights, reading and decoding differ by themselves, since sums of attention are rounded otherwise.
      const added = read.flatMap(({ logits }, text) =>
        logits.map((exact, at) => {
          const from = (decoded: readonly Float32Array[][]): number =>
            meanDivergence(exact, decoded[text]![at]!, config.vocab);
          return from(int8) - from(float32);
        }),
      );
      return added.reduce((sum, one) => sum + one, 0) / added.length;
    },
  };
}

const lengthOf = ({ prompt, answer }: ControlText): number => prompt.length + answer.length;

interface Read {
  /** Behind each token of the answer, `[vocab]`. */
  logits: Float32Array[];
  /** Of the prompt, as a row has them; key and value of each layer alternate. */
  keysAndValues: Float32Array[];
  /** Behind the prompt. */
  states: Float32Array<ArrayBuffer>[];
}

/** Reads all of the text into an empty row, at once unless states are needed from between. */
async function readText(row: ProbeRow, session: Session, { prompt, answer }: ControlText): Promise<Read> {
  const first = row.hasStates ? prompt.length : 0;
  if (first > 0) await row.run(session, prompt, []);
  const states = row.states.read(0);
  const positions = answer.map((_, at) => prompt.length - first + at);
  const logits = await row.run(session, [...prompt, ...answer].slice(first), positions);
  const vocab = logits.length / answer.length;
  return {
    states,
    logits: answer.map((_, at) => logits.subarray(at * vocab, (at + 1) * vocab)),
    keysAndValues: row.floats(),
  };
}

/**
 * @param states behind the prompt.
 * @returns logits behind each token of the answer. The row has the prompt; what is behind it is overwritten.
 */
async function decodeAnswer(
  row: ProbeRow,
  session: Session,
  { prompt, answer }: ControlText,
  states: readonly Float32Array<ArrayBuffer>[],
): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  row.past = prompt.length;
  row.states.write(0, states);
  for (const token of answer) logits.push(await row.run(session, [token], [0]));
  return logits;
}

async function withSession<T>(
  device: Device,
  built: BuiltGraphs,
  graph: string,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  const weights = await device.weights(built.weightsPath, built.weights);
  try {
    const session = await device.session(graph, weights);
    try {
      return await use(session);
    } finally {
      session.close();
    }
  } finally {
    weights.close();
  }
}

/** A row of its own, outside any cache. */
class ProbeRow {
  /** Tokens that the next run appends to. */
  past = 0;

  private constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    /** See `withKeys`. */
    private readonly ofKeys: LlamaConfig,
    private readonly capacity: number,
    /** Of layers with attention, key and value by turns. */
    private readonly memories: readonly HostMemory[],
    /** Their tensors. */
    private readonly keys: readonly DeviceTensor[],
    private readonly cache: DeviceTensor[],
    readonly states: RowStates,
    private readonly nothing: DeviceMemory,
  ) {}

  static async open(
    device: Device,
    config: LlamaConfig,
    format: KvFormat,
    tokens: number,
  ): Promise<ProbeRow> {
    const ofKeys = withKeys(config);
    const memories: HostMemory[] = [];
    const keys: DeviceTensor[] = [];
    const type = format === 'int8' ? 'i8' : 'f32';
    for (let index = 0; index < 2 * ofKeys.layers; index++) {
      const { kvHeads, headDim } = headsOf(ofKeys, index >> 1);
      const memory = await device.host(
        (tokenBytes({ layers: 1, kvHeads, headDim, deltaNet: null }, format) / 2) * tokens,
      );
      memories.push(memory);
      keys.push(device.tensor(type, memory, 0, [1, kvHeads, tokens, headDim]));
    }
    const states = await RowStates.allocate({ device, config, slots: 1, blocks: 0 });
    states.begin(0);
    const cache = tensorsInOrder(config, keys, states.tensors(0, 1));
    const nothing = await noDelta(device, config, 1);
    return new ProbeRow(device, config, ofKeys, tokens, memories, keys, cache, states, nothing);
  }

  get hasStates(): boolean {
    return this.config.deltaNet !== null;
  }

  /** Appends tokens. @returns logits at `positions` of them, `[positions.length, vocab]`. */
  async run(
    session: Session,
    tokens: readonly number[],
    positions: readonly number[],
  ): Promise<Float32Array> {
    const { device, config, nothing } = this;
    const wanted = positions.length > 0 ? positions : [tokens.length - 1];
    const shape = { rows: 1, length: tokens.length, positions: wanted, config };
    const step = await stepTensors(device, shape, this.cache);
    tokens.forEach((token, at) => (step.tokens[at] = BigInt(token)));
    this.past += tokens.length;
    step.lastPosition[0] = this.past - 1;
    step.total[0] = this.past;
    const binding = session.bind();
    bindStep(binding, step);
    const owned = bindDeltas({
      ...{ device, config, precision: 'f32', binding, graph: GRAPH, nothing, slot: 0, rows: 1 },
      ...{ ranks: noRanks(), memory: () => undefined },
    });
    try {
      await binding.run();
      return step.logits.slice(0, positions.length * config.vocab);
    } finally {
      binding.close();
      for (const tensor of [...owned, ...Object.values(step.bound)]) tensor.close();
      step.memory.close();
    }
  }

  /** In float32: the largest magnitudes that the first `tokens` reach, at this or any other position. */
  addPeaks(peaks: KvScales, tokens: number): void {
    const { capacity, ofKeys } = this;
    this.memories.forEach(({ buffer, offset }, index) => {
      const { kvHeads, headDim } = headsOf(ofKeys, index >> 1);
      const { k, v } = peaks[index >> 1]!;
      const isKey = (index & 1) === 0;
      const turns = isKey ? turnsOf(ofKeys, index >> 1) : [];
      for (let head = 0; head < kvHeads; head++) {
        const into = (isKey ? k : v).subarray(head * headDim, (head + 1) * headDim);
        for (let token = 0; token < tokens; token++) {
          const at = (head * capacity + token) * headDim;
          const values = new Float32Array(buffer, offset + at * Float32Array.BYTES_PER_ELEMENT, headDim);
          for (let i = 0; i < turns.length; i++) {
            const second = i + turns.length;
            const [most, other] = turnedPeaks(values[i]!, values[second]!, token, turns[i]!, ofKeys.context);
            if (most > into[i]!) into[i] = most;
            if (other > into[second]!) into[second] = other;
          }
          for (let i = 2 * turns.length; i < headDim; i++) into[i] = Math.max(into[i]!, Math.abs(values[i]!));
        }
      }
    });
  }

  /** In float32: a copy of all keys and values. */
  floats(): Float32Array[] {
    return this.memories.map(({ buffer, offset }, index) => {
      const { kvHeads, headDim } = headsOf(this.ofKeys, index >> 1);
      return new Float32Array(buffer, offset, kvHeads * this.capacity * headDim).slice();
    });
  }

  /** In int8: the first `tokens` of a row of the same length in float32. */
  write(quantizer: KvQuantizer, floats: readonly Float32Array[], tokens: number): void {
    this.memories.forEach(({ buffer, offset }, index) => {
      const { kvHeads, headDim } = headsOf(this.ofKeys, index >> 1);
      for (let head = 0; head < kvHeads; head++) {
        const [from, count] = [head * this.capacity * headDim, tokens * headDim];
        const piece = {
          floats: floats[index]!.subarray(from, from + count),
          bytes: new Int8Array(buffer, offset + from, count),
        };
        quantizer.quantize({ index, head, ...piece }, false);
      }
    });
  }

  /** In float32: keys and values of the first token. */
  copyFirst(into: KvScales): void {
    this.memories.forEach(({ buffer, offset }, index) => {
      const { kvHeads, headDim } = headsOf(this.ofKeys, index >> 1);
      const { k, v } = into[index >> 1]!;
      for (let head = 0; head < kvHeads; head++) {
        const at = offset + head * this.capacity * headDim * Float32Array.BYTES_PER_ELEMENT;
        (index & 1 ? v : k).set(new Float32Array(buffer, at, headDim), head * headDim);
      }
    });
  }

  close(): void {
    // Those of states are closed with them.
    for (const tensor of this.keys) tensor.close();
    this.states.close();
    for (const memory of this.memories) memory.close();
    this.nothing.close();
  }
}

/** The one that occurs most often; of several, the first. */
function mostCommon(ids: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
}

const newChannels = (config: LlamaConfig): KvScales =>
  Array.from({ length: config.layers }, (_, layer) => {
    const { kvHeads, headDim } = headsOf(config, layer);
    return { k: new Float32Array(kvHeads * headDim), v: new Float32Array(kvHeads * headDim) };
  });

/** Radians that each pair of channels turns by with a position, `[dim / 2]`; [] without rotary positions. */
function turnsOf(config: LlamaConfig, layer: number): number[] {
  const { rope } = config.attention[layer]!;
  const tables = rope === null ? null : config[rope];
  if (tables === null) return [];
  const { theta, dim, divisors } = tables;
  return Array.from({ length: dim / 2 }, (_, i) => theta ** ((-2 * i) / dim) / (divisors?.[i] ?? 1));
}

/**
 * Two channels of a key, turned by its position, would be others at another one. Most pairs turn all the way round within
 * a context; the slow ones do not, and get finer scales for it.
 * @param turn radians a position. @param context positions that the key might have.
 * @returns the largest magnitudes of both channels at any position.
 */
export function turnedPeaks(
  first: number,
  second: number,
  position: number,
  turn: number,
  context: number,
): [number, number] {
  const length = Math.sqrt(first * first + second * second);
  const range = turn * (context - 1);
  if (range >= Math.PI) return [length, length];
  const from = Math.atan2(second, first) - turn * position;
  const reaches = (angle: number): boolean =>
    Math.ceil((from - angle) / Math.PI) * Math.PI + angle <= from + range;
  const most = (peak: number, of: (angle: number) => number): number =>
    length * (reaches(peak) ? 1 : Math.max(Math.abs(of(from)), Math.abs(of(from + range))));
  return [most(0, Math.cos), most(Math.PI / 2, Math.sin)];
}

/**
 * Scales with room above the peaks. Where there is room, one step divides the key or value of the first token, which is then
 * exact: most of each head's attention goes to it, so its rounding would shift every answer.
 * @param first its keys and values; the same token begins nearly all prompts, and nothing is before it.
 */
export function scalesOf(
  config: Pick<LlamaConfig, 'headDim'> & Partial<Pick<LlamaConfig, 'layerSizes'>>,
  peaks: KvScales,
  first: KvScales,
): KvScales {
  const scale = (
    channels: Float32Array,
    ofFirst: Float32Array,
    { headDim }: { headDim: number },
  ): Float32Array<ArrayBuffer> =>
    Float32Array.from(channels, (peak, at) => {
      const head = Math.floor(at / headDim) * headDim;
      const largest = channels.subarray(head, head + headDim).reduce((most, one) => Math.max(most, one), 0);
      // A head of zeros keeps zeros, whatever its scale.
      if (largest === 0) return 1;
      return dividing(Math.abs(ofFirst[at]!), Math.max(peak, LEAST_SHARE * largest) / MOST_STEPS);
    });
  return peaks.map(({ k, v }, layer) => {
    const own = headsOf(config, layer);
    return { k: scale(k, first[layer]!.k, own), v: scale(v, first[layer]!.v, own) };
  });
}

/** @returns the step with room above `least` that divides the value; the usual one where none does. */
function dividing(value: number, least: number): number {
  const usual = ROOM.usual * least;
  const steps = value / usual;
  const fits = [Math.floor(steps), Math.ceil(steps)]
    .filter((count) => count > 0)
    .map((count) => value / count)
    .filter((step) => step >= ROOM.least * least && step <= ROOM.most * least);
  return fits.sort((a, b) => Math.abs(a - usual) - Math.abs(b - usual))[0] ?? usual;
}
