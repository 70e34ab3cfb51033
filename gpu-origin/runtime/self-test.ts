/** Checks at the start whether kernels are correct and exact on this processor or GPU. */
import { DataType, type Precision } from '../model/base-model.ts';
import { INT8_ATTENTION, Int4Products } from '../model/llama-graph.ts';
import { GraphBuilder, MICROSOFT } from '../model/onnx-proto.ts';
import { BLOCK, quantizeBlocks } from '../model/prepare-weights.ts';
import {
  type Device,
  type DeviceTensor,
  type HostMemory,
  OrtError,
  type OwnMemory,
  type Session,
  type SessionCores,
} from './device.ts';

/** Long enough to reveal saturating 16-bit pairs (255 * 127 * 2 > 32,767). */
const DEPTH = 512;
const COLUMNS = 96;

/**
 * One row, a few, enough to fill every tile of the blocked kernels, and one row more than they take at once.
 */
const ROWS = [1, 3, 16, 33, 128, 129];

/** The ways in which this device can run rows. */
const coresOf = ({ lanes = 1 }: Device): readonly SessionCores[] => (lanes > 1 ? ['all', 'one'] : ['all']);

/** @returns the graph's `y` `[1, rows, COLUMNS]` for its input `x` `[1, rows, DEPTH]`. */
async function product(
  device: Device,
  session: Session,
  x: { type: 'u8' | 'f32'; data: Uint8Array | Float32Array },
): Promise<Float32Array> {
  const rows = x.data.length / DEPTH;
  const input = await device.host(x.data.byteLength);
  const output = await device.host(rows * COLUMNS * Float32Array.BYTES_PER_ELEMENT);
  new Uint8Array(input.buffer, input.offset, x.data.byteLength).set(
    new Uint8Array(x.data.buffer, x.data.byteOffset, x.data.byteLength),
  );
  const tensors = [
    device.tensor(x.type, input, 0, [1, rows, DEPTH]),
    device.tensor('f32', output, 0, [1, rows, COLUMNS]),
  ] as const;
  const binding = session.bind();
  binding.input('x', tensors[0]);
  binding.output('y', tensors[1]);
  await binding.run();
  binding.close();
  for (const tensor of tensors) tensor.close();
  const result = new Float32Array(output.buffer, output.offset, rows * COLUMNS).slice();
  input.close();
  output.close();
  return result;
}

/** Ways to exact int8 products, the fastest first, and of equally fast ones the one with the finer weights. */
const INT8_WAYS = [
  { precise: false, limitsPairs: false },
  { precise: false, limitsPairs: true },
  { precise: true, limitsPairs: false },
] as const;

/**
 * Finds a way to exact int8 products on this processor, the fastest first, and configures the device.
 * @param mayLimit false if weights are given, and not limited.
 * @returns whether weights must be limited in pairs (`quantizeLinear`); null if no product is exact: int8 weights would
 * then be silently wrong.
 */
export async function chooseExactInt8(device: Device, mayLimit = true): Promise<boolean | null> {
  for (const { precise, limitsPairs } of INT8_WAYS) {
    if (limitsPairs && !mayLimit) continue;
    device.preciseInt8 = precise;
    if (await int8IsExact(device, limitsPairs ? LIMITED : UNLIMITED)) return limitsPairs;
  }
  return null;
}

/** The largest weights: four of a column, again and again. */
const UNLIMITED = [[127, 127, 127, 127]] as const;
/** The largest that are limited in pairs. Were other pairs added in 16 bits, some of these would saturate. */
const LIMITED = [
  ...[1, -1].flatMap((sign) =>
    [
      [64, 64, 64, 64],
      [127, 1, 127, 1],
      [127, 1, 1, 127],
      [1, 127, 127, 1],
    ].map((weights) => weights.map((weight) => sign * weight)),
  ),
  [127, -127, 127, -127],
  [127, -127, -127, 127],
] as const;

/**
 * Multiplies rows of 255 by the largest weights in the int8 kernel.
 * @returns whether the sums are exact.
 */
async function int8IsExact(device: Device, columns: readonly (readonly number[])[]): Promise<boolean> {
  const of = (column: number): readonly number[] => columns[column % columns.length]!;
  const weights = Int8Array.from(
    { length: DEPTH * COLUMNS },
    (_, at) => of(at % COLUMNS)[Math.floor(at / COLUMNS) % 4]!,
  );
  const sums = Float32Array.from({ length: COLUMNS }, (_, column) =>
    of(column).reduce((sum, weight) => sum + (255 * weight * DEPTH) / 4, 0),
  );
  const g = new GraphBuilder();
  g.input('x', 'u8', [1, 'M', DEPTH]);
  g.constant('w', 'i8', [DEPTH, COLUMNS], weights);
  g.constant('one', 'f32', [], new Float32Array([1]));
  g.constant('zero', 'u8', [], new Uint8Array([0]));
  g.node('MatMulIntegerToFloat', ['x', 'w', 'one', 'one', 'zero'], 'y', {}, MICROSOFT);
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  for (const cores of coresOf(device)) {
    const session = await device.session(g.build('self-test'), null, cores);
    try {
      for (const rows of ROWS) {
        const data = new Uint8Array(rows * DEPTH).fill(255);
        const result = await product(device, session, { type: 'u8', data });
        if (result.some((value, at) => value !== sums[at % COLUMNS])) return false;
      }
    } finally {
      session.close();
    }
  }
  return true;
}

/**
 * Finds products with 4-bit weights that give a row the same bits alone and in a batch, the fast ones first.
 * @returns whether a lone row needs padding, for `Int4Products`; null if its bits differ either way.
 */
export async function chooseInt4Padding(device: Device): Promise<boolean | null> {
  for (const padsLoneRow of [false, true])
    if (await int4RowsStandAlone(device, padsLoneRow)) return padsLoneRow;
  return null;
}

/**
 * Multiplies rows by 4-bit weights, alone and in batches: ONNX Runtime has different kernels for one row, for
 * tiles and for the remainder, and does not promise that they round alike.
 * @returns whether each row has the same bits in all of them, on all cores and on one.
 */
export async function int4RowsStandAlone(device: Device, padsLoneRow: boolean): Promise<boolean> {
  const weight = Float32Array.from({ length: COLUMNS * DEPTH }, (_, at) =>
    Math.sin(1.3 * at + 0.001 * at * at),
  );
  const { values, scales, zeros } = quantizeBlocks(weight, COLUMNS, DEPTH);
  const g = new GraphBuilder();
  g.input('x', 'f32', [1, 'M', DEPTH]);
  g.constant('w', 'u8', [COLUMNS, DEPTH / BLOCK, BLOCK / 2], values);
  g.constant('s', 'f32', [scales.length], scales);
  g.constant('z', 'u8', [zeros.length], zeros);
  new Int4Products(g, padsLoneRow).multiply(['x', 'w', 's', 'z'], { K: DEPTH, N: COLUMNS }, 'y');
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  const sessions: Session[] = [];
  for (const cores of coresOf(device))
    sessions.push(await device.session(g.build('self-test-int4'), null, cores));
  const all = Float32Array.from({ length: Math.max(...ROWS) * DEPTH }, (_, at) =>
    Math.cos(0.7 * at + 0.0003 * at * at),
  );
  const of = (session: Session, from: number, rows: number): Promise<Float32Array> =>
    product(device, session, { type: 'f32', data: all.subarray(from * DEPTH, (from + rows) * DEPTH) });
  try {
    const alone = new Float32Array(Math.max(...ROWS) * COLUMNS);
    for (let row = 0; row < Math.max(...ROWS); row++)
      alone.set(await of(sessions[0]!, row, 1), row * COLUMNS);
    for (const session of sessions)
      for (const rows of ROWS)
        if ((await of(session, 0, rows)).some((value, at) => value !== alone[at])) return false;
    return true;
  } finally {
    for (const session of sessions) session.close();
  }
}

/**
 * From 32 tokens on ONNX Runtime 1.30 uses a kernel that reads at least eight lanes of a subgroup
 * (FlashAttention in flash_attention.wgsl.template, except on NVIDIA's and Apple's GPUs). SwiftShader's
 * subgroups have four, so its sums are wrong.
 */
const FEW_TOKENS = 31;
/**
 * Tolerance of outputs, whose values are at most 1. Correct kernels were within 1e-6 and 2e-3; a wrong one
 * differed by 0.5.
 */
const TOLERANCE: Record<Precision, number> = { f32: 1e-3, f16: 2e-2 };

/** Of the base model. */
interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
  attentionCap?: number | null;
}

/**
 * Whether a GPU's attention is correct, and for how many tokens at once: drivers and their kernels differ.
 * @param most tokens that a run should read.
 * @param precision of q, k, v and the cache.
 * @returns how many tokens a run may read: `most`, or fewer.
 * @throws OrtError if attention is wrong even for few tokens.
 */
export async function mostTokens(
  device: Device,
  own: OwnMemory,
  heads: Heads,
  most: number,
  precision: Precision,
): Promise<number> {
  for (const tokens of [most, Math.min(most, FEW_TOKENS)])
    if ((await worstError({ device, own, heads, precision }, tokens)) < TOLERANCE[precision]) return tokens;
  throw new OrtError(
    'self-test',
    -1,
    `attention over ${FEW_TOKENS} tokens is wrong on this GPU or in its driver. Use --provider cpu`,
  );
}

/** Deterministic values between -1 and 1 that do not repeat. */
const noise = (count: number, seed: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: count }, (_, at) =>
    Math.sin((at + 1) * 12.9898 + seed * 78.233 + 1e-3 * at * at),
  );

/**
 * Runs two consecutive pieces of a prompt, appending in place.
 * @returns the largest difference from sums computed here.
 */
async function worstError(
  where: { device: Device; own: OwnMemory; heads: Heads; precision: Precision },
  tokens: number,
): Promise<number> {
  const { device, own, heads, precision } = where;
  const widths = { q: heads.heads * heads.headDim, k: heads.kvHeads * heads.headDim };
  const cache = [1, heads.kvHeads, 2 * tokens, heads.headDim];
  const session = await device.session(attentionGraph(heads, precision), null);
  const kept = { k: await own.allocate(precision, cache), v: await own.allocate(precision, cache) };
  const all = {
    q: noise(2 * tokens * widths.q, 1),
    k: noise(2 * tokens * widths.k, 2),
    v: noise(2 * tokens * widths.k, 3),
  };
  const wanted = attention(all, heads, 2 * tokens);
  let worst = 0;
  for (const piece of [0, 1]) {
    const binding = session.bind();
    const made = [];
    for (const name of ['q', 'k', 'v'] as const) {
      const width = name === 'q' ? widths.q : widths.k;
      const memory = await device.memory(tokens * width * Float32Array.BYTES_PER_ELEMENT);
      memory.write(0, all[name].subarray(piece * tokens * width, (piece + 1) * tokens * width));
      const tensor = device.tensor('f32', memory, 0, [1, tokens, width]);
      binding.input(name, tensor);
      made.push(tensor, memory);
    }
    const numbers = await device.host(2 * Int32Array.BYTES_PER_ELEMENT);
    const total = (piece + 1) * tokens;
    new Int32Array(numbers.buffer, numbers.offset, 2).set([total - 1, total]);
    const last = device.tensor('i32', numbers, 0, [1]);
    const length = device.tensor('i32', numbers, Int32Array.BYTES_PER_ELEMENT, [1]);
    const output = await device.host(tokens * widths.q * Float32Array.BYTES_PER_ELEMENT);
    const y = device.tensor('f32', output, 0, [1, tokens, widths.q]);
    binding.input('last_position', last);
    binding.input('total_length', length);
    for (const name of ['k', 'v'] as const) {
      binding.input(`past.${name}`, kept[name]);
      binding.output(`present.${name}`, kept[name]);
    }
    binding.output('y', y);
    await binding.run();
    new Float32Array(output.buffer, output.offset, tokens * widths.q).forEach((value, at) => {
      const error = Math.abs(value - wanted[piece * tokens * widths.q + at]!);
      // NaN must not count as close.
      worst = error <= worst ? worst : Number.isNaN(error) ? Infinity : error;
    });
    binding.close();
    for (const one of [...made, last, length, y, numbers, output]) one.close();
  }
  kept.k.close();
  kept.v.close();
  session.close();
  return worst;
}

/** One step of a key or value in the test. */
const STEP = 1 / 127;
/** Rows of a batch differ in length, as in decode steps. */
const LENGTHS = [5, 130, 48];

/**
 * Whether attention over int8 keys and values is correct for decode steps, and gives a row the same bits alone, in a batch,
 * on all cores and on one.
 * @returns null if so, otherwise why not.
 */
export async function int8AttentionFault(device: Device, heads: Heads): Promise<string | null> {
  try {
    const batches: Float32Array[] = [];
    for (const cores of coresOf(device)) {
      const session = await device.session(attentionGraph(heads, 'f32', STEP), null, cores);
      try {
        batches.push(await decodeInt8(device, session, heads, LENGTHS));
        const alone: number[] = [];
        for (const length of LENGTHS) alone.push(...(await decodeInt8(device, session, heads, [length])));
        batches.push(Float32Array.from(alone));
      } finally {
        session.close();
      }
    }
    const [first, ...others] = batches as [Float32Array, ...Float32Array[]];
    if (others.some((other) => other.some((value, at) => value !== first[at])))
      return 'on this processor, attention over int8 keys and values rounds differently in a batch than alone';
    const width = heads.heads * heads.headDim;
    const wrong = LENGTHS.some((length, row) => {
      const all = roundedPast(heads, length);
      const wanted = attention(all, heads, length).subarray((length - 1) * width);
      return wanted.some((value, at) => !(Math.abs(value - first[row * width + at]!) < TOLERANCE.f32));
    });
    return wrong ? 'attention over int8 keys and values is wrong on this processor' : null;
  } catch (error) {
    if (!(error instanceof OrtError)) throw error;
    return `this ONNX Runtime has no attention over int8 keys and values (${error.reason.split('\n')[0]})`;
  }
}

/** A row's q, k and v, `[length, …]`; k and v are whole steps. Rows of other lengths have others. */
function roundedPast(
  { heads, kvHeads, headDim }: Heads,
  length: number,
): Record<'q' | 'k' | 'v', Float32Array<ArrayBuffer>> {
  const rounded = (seed: number): Float32Array<ArrayBuffer> =>
    noise(length * kvHeads * headDim, seed + length).map((value) =>
      Math.fround(Math.round(value / STEP) * STEP),
    );
  return { q: noise(length * heads * headDim, length), k: rounded(1), v: rounded(2) };
}

/** The last token of rows of these lengths, whose other tokens are in int8. @returns `[rows, heads * headDim]` */
async function decodeInt8(
  device: Device,
  session: Session,
  heads: Heads,
  lengths: readonly number[],
): Promise<Float32Array> {
  const { kvHeads, headDim } = heads;
  const rows = lengths.length;
  const capacity = Math.max(...lengths);
  const widths = { q: heads.heads * headDim, k: kvHeads * headDim, v: kvHeads * headDim };
  const pasts = lengths.map((length) => roundedPast(heads, length));
  const open: { close(): void }[] = [];
  const host = async (bytes: number): Promise<HostMemory> => {
    const memory = await device.host(bytes);
    open.push(memory);
    return memory;
  };
  const tensor = (...args: Parameters<Device['tensor']>): DeviceTensor => {
    const made = device.tensor(...args);
    open.push(made);
    return made;
  };
  const binding = session.bind();
  for (const name of ['q', 'k', 'v'] as const) {
    const memory = await host(rows * widths[name] * Float32Array.BYTES_PER_ELEMENT);
    pasts.forEach((past, row) => {
      const last = past[name].subarray((lengths[row]! - 1) * widths[name]);
      memory.write(row * widths[name] * Float32Array.BYTES_PER_ELEMENT, last);
    });
    binding.input(name, tensor('f32', memory, 0, [rows, 1, widths[name]]));
    if (name === 'q') continue;
    const bytes = new Int8Array(rows * kvHeads * capacity * headDim);
    pasts.forEach((past, row) => {
      for (let token = 0; token < lengths[row]! - 1; token++)
        for (let head = 0; head < kvHeads; head++)
          for (let i = 0; i < headDim; i++) {
            const value = past[name][token * widths[name] + head * headDim + i]!;
            bytes[((row * kvHeads + head) * capacity + token) * headDim + i] = Math.round(value / STEP);
          }
    });
    const cache = await host(bytes.length);
    cache.write(0, bytes);
    const kept = tensor('i8', cache, 0, [rows, kvHeads, capacity, headDim]);
    binding.input(`past.${name}`, kept);
    binding.output(`present.${name}`, kept);
  }
  const numbers = await host((rows + 1) * Int32Array.BYTES_PER_ELEMENT);
  numbers.write(0, Int32Array.from([...lengths.map((length) => length - 1), capacity]));
  binding.input('last_position', tensor('i32', numbers, 0, [rows]));
  binding.input('total_length', tensor('i32', numbers, rows * Int32Array.BYTES_PER_ELEMENT, [1]));
  const output = await host(rows * widths.q * Float32Array.BYTES_PER_ELEMENT);
  binding.output('y', tensor('f32', output, 0, [rows, 1, widths.q]));
  try {
    await binding.run();
    return new Float32Array(output.buffer, output.offset, rows * widths.q).slice();
  } finally {
    binding.close();
    for (const one of open.reverse()) one.close();
  }
}

/** float32 inputs and outputs, whatever the precision between. @param step of int8 keys and values, if they are. */
function attentionGraph(base: Heads, precision: Precision, step?: number): Uint8Array {
  const { heads, kvHeads, headDim, attentionCap = null } = base;
  const g = new GraphBuilder();
  const cast = (from: string, to: string, type: Precision): string =>
    g.node('Cast', [from], to, { to: DataType[type] });
  const inputs = ['q', 'k', 'v'].map((name) => {
    g.input(name, 'f32', ['B', 'T', (name === 'q' ? heads : kvHeads) * headDim]);
    return precision === 'f32' ? name : cast(name, `${name}.half`, precision);
  });
  const kept = step === undefined ? precision : 'i8';
  for (const name of ['k', 'v']) g.input(`past.${name}`, kept, ['B', kvHeads, 'M', headDim]);
  g.input('last_position', 'i32', ['B']);
  g.input('total_length', 'i32', [1]);
  const channels = kvHeads * headDim;
  const steps = (): string =>
    g.constant('step', 'f32', [kvHeads, 1, headDim], new Float32Array(channels).fill(step!));
  g.node(
    'GroupQueryAttention',
    [
      ...[...inputs, 'past.k', 'past.v', 'last_position', 'total_length'],
      ...(step === undefined ? [] : ['', '', '', '', '', steps(), steps()]),
    ],
    [precision === 'f32' ? 'y' : 'y.half', 'present.k', 'present.v'],
    {
      ...{ num_heads: heads, kv_num_heads: kvHeads, do_rotary: 0 },
      ...(attentionCap === null ? {} : { softcap: { float: attentionCap } }),
      ...(step === undefined ? {} : INT8_ATTENTION),
    },
    MICROSOFT,
  );
  if (precision !== 'f32') cast('y.half', 'y', 'f32');
  g.output('y', 'f32', ['B', 'T', heads * headDim]);
  for (const name of ['k', 'v']) g.output(`present.${name}`, kept, ['B', kvHeads, 'M', headDim]);
  return g.build('attention');
}

/** Causal attention of grouped heads, `[tokens, heads * headDim]`. */
function attention(
  { q, k, v }: Record<'q' | 'k' | 'v', Float32Array>,
  { heads, kvHeads, headDim, attentionCap = null }: Heads,
  tokens: number,
): Float64Array {
  const y = new Float64Array(tokens * heads * headDim);
  const weights = new Float64Array(tokens);
  for (let head = 0; head < heads; head++) {
    const from = Math.floor(head / (heads / kvHeads)) * headDim;
    for (let token = 0; token < tokens; token++) {
      const own = (token * heads + head) * headDim;
      let sum = 0;
      for (let other = 0; other <= token; other++) {
        const at = other * kvHeads * headDim + from;
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += q[own + i]! * k[at + i]!;
        const score = dot / Math.sqrt(headDim);
        const capped = attentionCap === null ? score : attentionCap * Math.tanh(score / attentionCap);
        sum += weights[other] = Math.exp(capped);
      }
      for (let other = 0; other <= token; other++) {
        const at = other * kvHeads * headDim + from;
        const weight = weights[other]! / sum;
        for (let i = 0; i < headDim; i++) y[own + i]! += weight * v[at + i]!;
      }
    }
  }
  return y;
}
