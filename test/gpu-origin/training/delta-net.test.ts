/** Gated DeltaNet in chunks, and its gradients, against the same token by token in double precision. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeltaNet } from '../../../gpu-origin/model/base-model.ts';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { DeltaNetTape } from '../../../gpu-origin/training/delta-net.ts';
import { type Output, Tape } from '../../../gpu-origin/training/tape.ts';
import { TensorRuntime } from '../../../gpu-origin/training/tensors.ts';
import { seeded } from '../../fixtures/tiny-base.ts';

const NET: DeltaNet = { keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 16, kernel: 4, layers: [true] };
const CHANNELS = 2 * 2 * 8 + 4 * 16;
const SEQUENCES = 2;

/** Of what was found, as a share of the largest number. */
const VALUE = 2e-6;
/** Of a slope along a random direction, as a share of the gradient's norm, or of 0.1 if that is more. */
const SLOPE = 2e-5;

interface Values {
  /** `[T, channels]`, `[T, heads]` twice. */
  qkv: Float64Array;
  beta: Float64Array;
  decay: Float64Array;
}
interface Frozen {
  /** `[channels, kernel]` */
  kernel: Float32Array<ArrayBuffer>;
  factor: Float32Array<ArrayBuffer>;
  bias: Float32Array<ArrayBuffer>;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** What each head reads of its state, `[T, valueHeads, valueDim]`. */
function tokenByToken(
  { qkv, beta, decay }: Values,
  { kernel, factor, bias }: Frozen,
  length: number,
): Float64Array {
  const { keyHeads, valueHeads, keyDim, valueDim } = NET;
  const mixed = qkv.map((_, at) => {
    const [row, channel] = [Math.floor(at / CHANNELS), at % CHANNELS];
    let sum = 0;
    for (let tap = 0; tap < NET.kernel; tap += 1) {
      const back = NET.kernel - 1 - tap;
      if (row % length >= back) sum += kernel[channel * NET.kernel + tap]! * qkv[at - back * CHANNELS]!;
    }
    return sum * sigmoid(sum);
  });
  const unit = (row: number, from: number): Float64Array => {
    const x = mixed.slice(row * CHANNELS + from, row * CHANNELS + from + keyDim);
    const norm = Math.sqrt(x.reduce((sum, one) => sum + one * one, 1e-6));
    return x.map((one) => one / norm);
  };
  const out = new Float64Array(beta.length * valueDim);
  for (let head = 0; head < valueHeads; head += 1) {
    const keyHead = Math.floor((head * keyHeads) / valueHeads);
    const state = new Float64Array(keyDim * valueDim);
    for (let row = 0; row < beta.length / valueHeads; row += 1) {
      if (row % length === 0) state.fill(0);
      const [q, k] = [unit(row, keyHead * keyDim), unit(row, (keyHeads + keyHead) * keyDim)];
      const at = row * valueHeads + head;
      const kept = Math.exp(factor[head]! * Math.log1p(Math.exp(decay[at]! + bias[head]!)));
      for (let i = 0; i < state.length; i += 1) state[i]! *= kept;
      for (let j = 0; j < valueDim; j += 1) {
        const known = k.reduce((sum, one, i) => sum + one * state[i * valueDim + j]!, 0);
        const value = mixed[row * CHANNELS + 2 * keyHeads * keyDim + head * valueDim + j]!;
        const correction = sigmoid(beta[at]!) * (value - known);
        k.forEach((one, i) => (state[i * valueDim + j]! += one * correction));
        const read = q.reduce((sum, one, i) => sum + one * state[i * valueDim + j]!, 0);
        out[at * valueDim + j] = read * keyDim ** -0.5;
      }
    }
  }
  return out;
}

let device: Device;
beforeAll(async () => {
  ({ device } = await openDevice({ provider: 'cpu', threads: 1 }));
});
afterAll(() => device.close());

/** The same by the graphs, with gradients for an output's gradient of `dy`. */
async function byGraphs(
  values: Values,
  frozen: Frozen,
  { length, dy }: { length: number; dy: Float32Array<ArrayBuffer> },
): Promise<{ y: Float32Array; gradients: Record<keyof Values, Float32Array> }> {
  const { valueHeads, valueDim, kernel } = NET;
  const t = new Tape();
  const heads = ['T', valueHeads];
  const shapes = { qkv: ['T', CHANNELS], beta: heads, decay: heads };
  const wanted = Object.keys(shapes) as (keyof Values)[];
  for (const name of wanted) t.variable(name, shapes[name]);
  const y = new DeltaNetTape(t, NET, length).build(
    { qkv: 'qkv', beta: 'beta', decay: 'decay' },
    {
      kernel: t.input('kernel', 'f32', [CHANNELS, 1, kernel]),
      factor: t.input('factor', 'f32', [valueHeads]),
      bias: t.input('bias', 'f32', [valueHeads]),
    },
  );
  const read = ['T', valueHeads, valueDim];
  const found = t.gradients(y, t.input('dy', 'f32', read), wanted);
  const output = (value: string, dims: Output['dims']): Output => ({ value, type: 'f32', dims });
  const { forward, backward } = t.cut({
    outputs: new Map([['y', output(y, read)]]),
    gradients: new Map(wanted.map((name, at) => [`d.${name}`, output(found[at]!, shapes[name])])),
    recompute: false,
  });
  const runtime = new TensorRuntime(device);
  const T = values.beta.length / valueHeads;
  const upload = (dims: number[], of: ArrayLike<number>) =>
    runtime.upload('f32', dims, Float32Array.from(of));
  const inputs = {
    qkv: await upload([T, CHANNELS], values.qkv),
    beta: await upload([T, valueHeads], values.beta),
    decay: await upload([T, valueHeads], values.decay),
    kernel: await upload([CHANNELS, 1, kernel], frozen.kernel),
    factor: await upload([valueHeads], frozen.factor),
    bias: await upload([valueHeads], frozen.bias),
    dy: await upload([T, valueHeads, valueDim], dy),
  };
  const sizes = { T, S: T / length, N: (T / length) * valueHeads };
  const { y: made, ...kept } = await runtime.run(await runtime.open(forward), inputs, sizes, () => true);
  const back = await runtime.run(await runtime.open(backward), { ...inputs, ...kept }, sizes, () => true);
  const gradient = (name: keyof Values): Float32Array => runtime.read(back[`d.${name}`]!).slice();
  const result = {
    y: runtime.read(made!).slice(),
    gradients: { qkv: gradient('qkv'), beta: gradient('beta'), decay: gradient('decay') },
  };
  runtime.close();
  return result;
}

interface Case {
  what: string;
  length: number;
  /** Of decays: the smaller, the longer states last. */
  bias: number;
  /** Added to beta, before its sigmoid. */
  beta?: number;
  /** All tokens of a sequence are the same. */
  alike?: boolean;
}

const CASES: Case[] = [
  { what: 'a chunk that is not full', length: 5, bias: -2 },
  { what: 'one chunk', length: 32, bias: -2 },
  { what: 'two chunks, the last not full', length: 48, bias: -3 },
  { what: 'four chunks, through which states last', length: 100, bias: -6 },
  { what: 'decays that leave nothing', length: 70, bias: 6 },
  { what: 'the same token again and again', length: 70, bias: -8, beta: 6, alike: true },
];

function valuesOf({ length, bias, beta: shift = 0, alike = false }: Case): {
  values: Values;
  frozen: Frozen;
} {
  const random = seeded(length);
  const numbers = (count: number, size: number): Float64Array =>
    Float64Array.from({ length: count }, () => Math.fround(size * random()));
  const [rows, heads] = [SEQUENCES * length, NET.valueHeads];
  const qkv = numbers(rows * CHANNELS, 1);
  if (alike) for (let at = CHANNELS; at < qkv.length; at += 1) qkv[at] = qkv[at % CHANNELS]!;
  const f32 = (values: Float64Array): Float32Array<ArrayBuffer> => Float32Array.from(values);
  return {
    values: {
      qkv,
      beta: numbers(rows * heads, 2).map((one) => one + shift),
      decay: numbers(rows * heads, 1),
    },
    frozen: {
      kernel: f32(numbers(CHANNELS * NET.kernel, 1)),
      factor: f32(numbers(heads, 1)).map((one) => -Math.exp(one)),
      bias: f32(numbers(heads, 0.5)).map((one) => one + bias),
    },
  };
}

describe.each(CASES)('over $what', (one) => {
  const { length } = one;
  const { values, frozen } = valuesOf(one);
  const random = seeded(3);
  const dy = Float32Array.from({ length: values.beta.length * NET.valueDim }, () => random());
  const largest = (of: Float64Array): number =>
    of.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  it('heads read what they read token by token', async () => {
    const { y } = await byGraphs(values, frozen, { length, dy });
    const wanted = tokenByToken(values, frozen, length);
    expect(largest(wanted.map((value, at) => value - y[at]!))).toBeLessThan(VALUE * largest(wanted));
  });

  it('a sequence alone reads the same to the bit, and has the same gradients', async () => {
    const share = <T extends Float32Array | Float64Array>(of: T): T =>
      of.subarray(of.length / SEQUENCES) as T;
    const last = { qkv: share(values.qkv), beta: share(values.beta), decay: share(values.decay) };
    const all = await byGraphs(values, frozen, { length, dy });
    const alone = await byGraphs(last, frozen, { length, dy: share(dy) });
    expect(alone.y).toEqual(share(all.y));
    for (const name of ['qkv', 'beta', 'decay'] as const)
      expect(alone.gradients[name]).toEqual(share(all.gradients[name]));
  });

  it.each(['qkv', 'beta', 'decay'] as const)('the gradient of %s is the slope of that', async (name) => {
    const gradient = (await byGraphs(values, frozen, { length, dy })).gradients[name];
    const norm = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));
    for (let trial = 0; trial < 3; trial += 1) {
      const direction = values[name].map(() => random());
      const at = (step: number): number => {
        const moved = values[name].map((value, i) => value + step * direction[i]!);
        const y = tokenByToken({ ...values, [name]: moved }, frozen, length);
        return y.reduce((sum, value, i) => sum + value * dy[i]!, 0);
      };
      const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
      const found = gradient.reduce((sum, value, i) => sum + value * direction[i]!, 0);
      expect(Math.abs(slope - found)).toBeLessThan(SLOPE * Math.max(0.1, norm));
    }
  });
});
