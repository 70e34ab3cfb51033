/**
 * Scales of a base's int8 keys and values, and what these cost in quality: by running its graphs over texts of
 * `calibration-text.ts`, once, when the graphs are built.
 */
import type { GraphKind, LlamaConfig } from '../model/base-model.ts';
import type { BuiltGraphs, KvCalibration } from '../model/build-graphs.ts';
import type { KvScales } from '../model/llama-graph.ts';
import { noRanks } from './adapter-batch.ts';
import { bindDeltas, bindStep, meanDivergence, noDelta, stepTensors } from './bindings.ts';
import type { Device, DeviceMemory, DeviceTensor, HostMemory, Session } from './device.ts';
import { type KvFormat, tokenBytes } from './kv-cache.ts';

/**
 * Room above the largest magnitude that the texts reach, for other texts and for adapters. More of it costs precision: the
 * mean KL grows by its square.
 */
const MARGIN = 1.2;
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
  texts: () => { calibration: number[][]; control: number[][] };
}): KvCalibration {
  const { device, config, built } = params;
  let texts: ReturnType<typeof params.texts> | null = null;
  const all = (): ReturnType<typeof params.texts> => (texts ??= params.texts());
  return {
    async scales() {
      return withSession(device, built, built.graphs[GRAPH], async (session) => {
        const peaks = newPeaks(config);
        for (const tokens of all().calibration) {
          const row = await ProbeRow.open(device, config, 'f32', tokens.length);
          try {
            await row.run(session, tokens, []);
            row.addPeaks(peaks, tokens.length);
          } finally {
            row.close();
          }
        }
        return scalesOf(config, peaks);
      });
    },
    async divergence({ graphs }) {
      const { control } = all();
      const float32 = { ...params, format: 'f32' } as const;
      const { read, decoded } = await withSession(device, built, built.graphs[GRAPH], async (session) => ({
        read: await logitsOf({ ...float32, session, reads: true }, control),
        decoded: await logitsOf({ ...float32, session, reads: false }, control),
      }));
      const int8 = await withSession(device, built, graphs[GRAPH], (session) =>
        logitsOf({ ...params, format: 'int8', session, reads: false }, control),
      );
      const from = (logits: readonly Float32Array[]): number => {
        const sums = read.map((each, text) => meanDivergence(each, logits[text]!, config.vocab));
        return sums.reduce((sum, one) => sum + one, 0) / sums.length;
      };
      // With int8 weights, reading and decoding differ by themselves, since sums of attention are rounded otherwise.
      return from(int8) - from(decoded);
    },
  };
}

/** Logits after each token of texts. @param params.reads each text at once; otherwise token by token, as steps decode. */
async function logitsOf(
  params: { device: Device; config: LlamaConfig; session: Session; format: KvFormat; reads: boolean },
  texts: readonly number[][],
): Promise<Float32Array[]> {
  const { device, config, session, format, reads } = params;
  const all: Float32Array[] = [];
  for (const tokens of texts) {
    const row = await ProbeRow.open(device, config, format, tokens.length);
    try {
      const each = tokens.map((_, at) => at);
      const logits = new Float32Array(tokens.length * config.vocab);
      if (reads) logits.set(await row.run(session, tokens, each));
      else for (const at of each) logits.set(await row.run(session, [tokens[at]!], [0]), at * config.vocab);
      all.push(logits);
    } finally {
      row.close();
    }
  }
  return all;
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
  private past = 0;

  private constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly capacity: number,
    private readonly memories: readonly HostMemory[],
    private readonly cache: DeviceTensor[],
    private readonly nothing: DeviceMemory,
  ) {}

  static async open(
    device: Device,
    config: LlamaConfig,
    format: KvFormat,
    tokens: number,
  ): Promise<ProbeRow> {
    const { layers, kvHeads, headDim } = config;
    const memories: HostMemory[] = [];
    for (let index = 0; index < 2 * layers; index++)
      memories.push(await device.host((tokenBytes(config, format) / (2 * layers)) * tokens));
    const dims = [1, kvHeads, tokens, headDim];
    const type = format === 'int8' ? 'i8' : 'f32';
    const cache = memories.map((memory) => device.tensor(type, memory, 0, dims));
    return new ProbeRow(device, config, tokens, memories, cache, await noDelta(device, config, 1));
  }

  /** Appends tokens. @returns logits at `positions` of them, `[positions.length, vocab]`. */
  async run(
    session: Session,
    tokens: readonly number[],
    positions: readonly number[],
  ): Promise<Float32Array> {
    const { device, config, nothing } = this;
    const wanted = positions.length > 0 ? positions : [tokens.length - 1];
    const shape = { rows: 1, length: tokens.length, positions: wanted, vocab: config.vocab };
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
    const { config, capacity } = this;
    const { kvHeads, headDim } = config;
    this.memories.forEach(({ buffer, offset }, index) => {
      const { k, v } = peaks[index >> 1]!;
      const isKey = (index & 1) === 0;
      const turns = isKey ? turnsOf(config, index >> 1) : [];
      for (let head = 0; head < kvHeads; head++) {
        const into = (isKey ? k : v).subarray(head * headDim, (head + 1) * headDim);
        for (let token = 0; token < tokens; token++) {
          const at = (head * capacity + token) * headDim;
          const values = new Float32Array(buffer, offset + at * Float32Array.BYTES_PER_ELEMENT, headDim);
          for (let i = 0; i < turns.length; i++) {
            const second = i + turns.length;
            const [most, other] = turnedPeaks(values[i]!, values[second]!, token, turns[i]!, config.context);
            if (most > into[i]!) into[i] = most;
            if (other > into[second]!) into[second] = other;
          }
          for (let i = 2 * turns.length; i < headDim; i++) into[i] = Math.max(into[i]!, Math.abs(values[i]!));
        }
      }
    });
  }

  close(): void {
    for (const tensor of this.cache) tensor.close();
    for (const memory of this.memories) memory.close();
    this.nothing.close();
  }
}

const newPeaks = ({ layers, kvHeads, headDim }: LlamaConfig): KvScales =>
  Array.from({ length: layers }, () => ({
    k: new Float32Array(kvHeads * headDim),
    v: new Float32Array(kvHeads * headDim),
  }));

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

export function scalesOf({ headDim }: Pick<LlamaConfig, 'headDim'>, peaks: KvScales): KvScales {
  const scale = (channels: Float32Array): Float32Array<ArrayBuffer> =>
    Float32Array.from(channels, (peak, at) => {
      const head = Math.floor(at / headDim) * headDim;
      const largest = channels.subarray(head, head + headDim).reduce((most, one) => Math.max(most, one), 0);
      // A head of zeros keeps zeros, whatever its scale.
      return largest === 0 ? 1 : (MARGIN * Math.max(peak, LEAST_SHARE * largest)) / MOST_STEPS;
    });
  return peaks.map(({ k, v }) => ({ k: scale(k), v: scale(v) }));
}
