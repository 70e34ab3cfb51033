/** Gradients of the tape's operators against finite differences of what ONNX Runtime itself computes. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { type Model, type Output, Tape } from '../../../gpu-origin/training/tape.ts';
import { TensorRuntime, type Tensor } from '../../../gpu-origin/training/tensors.ts';
import { seeded } from '../../fixtures/tiny-base.ts';

/** Of differences: large ones suffer from curvature, small ones from float32's rounding. A wrong rule fits none. */
const STEPS = [1e-2, 3e-3, 1e-3];
/** Of a gradient's norm, and of 1 where that is smaller. */
const TOLERANCE = 5e-3;
const RUNS = 10;

let device: Device;
beforeAll(async () => {
  ({ device } = await openDevice({ provider: 'cpu', threads: 1 }));
});
afterAll(() => device.close());

/** A value on a tape with its shape. */
interface Value {
  name: string;
  dims: readonly number[];
}

const count = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** Random numbers from -1 to 1. */
const numbers = (random: () => number, dims: readonly number[]): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: count(dims) }, () => random());

/** A tape under construction, with its inputs' values. */
class Sketch {
  readonly t = new Tape();
  readonly inputs = new Map<string, { dims: readonly number[]; values: Float32Array<ArrayBuffer> }>();
  readonly variables: string[] = [];
  readonly random: () => number;
  constructor(seed: number) {
    this.random = seeded(seed);
  }
  private add(name: string, dims: readonly number[], values = numbers(this.random, dims)): Value {
    this.inputs.set(name, { dims, values });
    return { name, dims };
  }
  variable(dims: readonly number[]): Value {
    const name = `x${this.inputs.size}`;
    this.variables.push(name);
    this.t.variable(name, dims);
    return this.add(name, dims);
  }
  frozen(dims: readonly number[], values?: Float32Array<ArrayBuffer>): Value {
    const name = `c${this.inputs.size}`;
    this.t.input(name, 'f32', dims);
    return this.add(name, dims, values);
  }
}

/** Appends one operator to a `[4, width]` value of even width. */
type Operator = (s: Sketch, x: Value) => Value;

const of = (name: string, dims: readonly number[]): Value => ({ name, dims });

const OPERATORS: Record<string, Operator> = {
  'gemm of a variable': (s, x) => {
    const b = s.variable([x.dims[1]!, 8]);
    return of(s.t.gemm(x.name, b.name), [x.dims[0]!, 8]);
  },
  'gemm, transposed, with alpha and c': (s, x) => {
    const [b, c] = [s.variable([4, x.dims[1]!]), s.variable([x.dims[0]!, 4])];
    return of(s.t.gemm(x.name, b.name, { transB: true, alpha: 0.5, c: c.name }), [x.dims[0]!, 4]);
  },
  'gemm of a frozen matrix with alpha, added to itself': (s, x) => {
    const b = s.frozen([x.dims[1]!, x.dims[1]!]);
    return of(s.t.gemm(x.name, b.name, { alpha: -1.5, c: x.name }), x.dims);
  },
  matmul: (s, x) => {
    const [rows, width] = x.dims as [number, number];
    const [a, b] = [s.t.reshape(x.name, [2, rows / 2, width], x.dims), s.variable([2, width, 4])];
    return of(s.t.reshape(s.t.matmul(a, b.name), [rows, 4], [2, rows / 2, 4]), [rows, 4]);
  },
  'matmul, transposed': (s, x) => {
    const [rows, width] = x.dims as [number, number];
    const [a, b] = [s.t.reshape(x.name, [2, rows / 2, width], x.dims), s.variable([2, 8, width])];
    return of(s.t.reshape(s.t.matmul(a, b.name, true), [rows, 8], [2, rows / 2, 8]), [rows, 8]);
  },
  'add of a variable': (s, x) => of(s.t.add(x.name, s.variable(x.dims).name), x.dims),
  'add of a frozen row, broadcast': (s, x) => of(s.t.add(x.name, s.frozen([x.dims[1]!]).name), x.dims),
  'add of itself': (s, x) => of(s.t.add(x.name, x.name), x.dims),
  'mul of a variable': (s, x) => of(s.t.mul(x.name, s.variable(x.dims).name), x.dims),
  square: (s, x) => of(s.t.mul(x.name, x.name), x.dims),
  scale: (s, x) => of(s.t.scale(x.name, -0.7), x.dims),
  columns: (s, x) => of(s.t.columns(x.name, s.frozen([x.dims.at(-1)!]).name), x.dims),
  'reshape and transpose': (s, x) => {
    const [rows, width] = x.dims as [number, number];
    const turned = s.t.transpose(s.t.reshape(x.name, [rows, width / 2, 2], x.dims), [2, 0, 1]);
    return of(s.t.reshape(turned, x.dims, [2, rows, width / 2]), x.dims);
  },
  'split into unequal parts': (s, x) => {
    const width = x.dims[1]!;
    const [a, b] = s.t.split(x.name, [1, width - 1]) as [string, string];
    const w = [s.frozen([1, 4]), s.frozen([width - 1, 4])] as const;
    return of(s.t.gemm(b, w[1].name, { c: s.t.gemm(a, w[0].name) }), [x.dims[0]!, 4]);
  },
  softmax: (s, x) => of(s.t.softmax(x.name), x.dims),
  'rmsNorm without a gain': (s, x) => of(s.t.rmsNorm(x.name, null, 1e-2, [x.dims[0]!]), x.dims),
  'rmsNorm with a gain': (s, x) =>
    of(s.t.rmsNorm(x.name, s.frozen([x.dims[1]!]).name, 1e-2, [x.dims[0]!]), x.dims),
  rope: (s, x) => {
    const half = x.dims[1]! / 2;
    return of(s.t.rope(x.name, ...angles(s, x.dims[0]!, half), { half, rest: 0 }), x.dims);
  },
  'rope with a rest': (s, x) => {
    const rest = x.dims[1]! - 2;
    if (rest === 0) return x;
    return of(s.t.rope(x.name, ...angles(s, x.dims[0]!, 1), { half: 1, rest }), x.dims);
  },
  'rows by factors of a variable': (s, x) => of(s.t.rows(x.name, s.variable([x.dims[0]!, 1]).name), x.dims),
  'pad, and cut off': (s, x) => {
    const [rows, width] = x.dims as [number, number];
    const apart = s.t.reshape(x.name, [2, rows / 2, width], x.dims);
    const shifted = s.t.pad(s.t.pad(apart, 2, -1), 0, -1);
    return of(s.t.reshape(shifted, x.dims, [2, rows / 2, width]), x.dims);
  },
  'matmul of four axes, transposed': (s, x) => {
    const [rows, width] = x.dims as [number, number];
    const a = s.t.reshape(x.name, [1, 2, rows / 2, width], x.dims);
    const y = s.t.matmul(a, s.variable([1, 2, 8, width]).name, true, 4);
    return of(s.t.reshape(y, [rows, 8], [1, 2, rows / 2, 8]), [rows, 8]);
  },
  sigmoid: (s, x) => of(s.t.sigmoid(x.name), x.dims),
  softplus: (s, x) => of(s.t.softplus(x.name), x.dims),
  exp: (s, x) => of(s.t.exp(x.name), x.dims),
  silu: (s, x) => of(s.t.silu(x.name), x.dims),
  gelu: (s, x) => of(s.t.gelu(x.name), x.dims),
};

function angles(s: Sketch, rows: number, half: number): [cos: string, sin: string] {
  const all = numbers(s.random, [rows, half]);
  return [s.frozen([rows, half], all.map(Math.cos)).name, s.frozen([rows, half], all.map(Math.sin)).name];
}

/** The forward and the backward model of a sketch's value, and what they give. */
class Cut {
  private readonly runtime = new TensorRuntime(device);
  private constructor(
    private readonly sketch: Sketch,
    private readonly y: Value,
    private readonly models: ReturnType<Tape['cut']>,
    private readonly forward: Awaited<ReturnType<TensorRuntime['open']>>,
    private readonly backward: Awaited<ReturnType<TensorRuntime['open']>>,
    readonly seed: Float32Array<ArrayBuffer>,
  ) {}

  static async open(sketch: Sketch, y: Value, recompute: boolean): Promise<Cut> {
    const { t, variables, inputs } = sketch;
    const d = t.gradients(y.name, t.input('dy', 'f32', y.dims), variables);
    const output = (value: string, dims: readonly number[]): Output => ({ value, type: 'f32', dims });
    const models = t.cut({
      outputs: new Map([['y', output(y.name, y.dims)]]),
      gradients: new Map(variables.map((x, at) => [`d.${x}`, output(d[at]!, inputs.get(x)!.dims)])),
      recompute,
    });
    const opener = new TensorRuntime(device);
    const open = (model: Model) => opener.open(model);
    const [forward, backward] = [await open(models.forward), await open(models.backward)];
    const cut = new Cut(sketch, y, models, forward, backward, numbers(sketch.random, y.dims));
    cut.closers.push(() => opener.close());
    return cut;
  }
  private readonly closers: (() => void)[] = [];

  get kept(): number {
    return this.models.kept.size;
  }

  private async inputs(): Promise<Record<string, Tensor>> {
    const all: Record<string, Tensor> = {};
    for (const [name, { dims, values }] of this.sketch.inputs)
      all[name] = await this.runtime.upload('f32', dims, values);
    return all;
  }

  /** Sum of the output times the seed. */
  async loss(): Promise<number> {
    const inputs = await this.inputs();
    const made = await this.runtime.run(this.forward, inputs, {}, () => true);
    const y = this.runtime.read(made['y']!);
    const sum = y.reduce((all, value, at) => all + value * this.seed[at]!, 0);
    for (const value of [...Object.values(inputs), ...Object.values(made)]) this.runtime.free(value);
    return sum;
  }

  async gradients(): Promise<Map<string, Float32Array>> {
    const inputs = await this.inputs();
    const { y: _y, ...kept } = await this.runtime.run(this.forward, inputs, {}, () => true);
    const dy = await this.runtime.upload('f32', this.y.dims, this.seed);
    const made = await this.runtime.run(this.backward, { ...inputs, ...kept, dy }, {}, () => true);
    return new Map(
      this.sketch.variables.map((x) => [x, this.runtime.read(made[`d.${x}`]!).slice()] as const),
    );
  }

  close(): void {
    this.runtime.close();
    for (const close of this.closers) close();
  }
}

/** A chain of operators over a variable. */
function compose(names: readonly string[], seed: number, keeps: boolean): { sketch: Sketch; y: Value } {
  const sketch = new Sketch(seed);
  let x = sketch.variable([4, 4]);
  for (const name of names) {
    x = OPERATORS[name]!(sketch, x);
    if (keeps) sketch.t.keep(x.name, x.dims);
  }
  return { sketch, y: x };
}

/** Along a random direction of all variables together: one number for the whole gradient. */
async function expectSlope({ sketch, y }: { sketch: Sketch; y: Value }): Promise<void> {
  const cut = await Cut.open(sketch, y, false);
  try {
    const gradients = await cut.gradients();
    for (let trial = 0; trial < 2; trial++) {
      let [slope, norm] = [0, 0];
      const direction = new Map(
        [...gradients].map(([x, gradient]) => {
          const own = numbers(sketch.random, [gradient.length]);
          gradient.forEach((g, at) => {
            slope += g * own[at]!;
            norm += g * g;
          });
          return [x, own] as const;
        }),
      );
      const at = async (step: number): Promise<number> => {
        const before = [...direction].map(([x, own]) => {
          const { values } = sketch.inputs.get(x)!;
          const old = values.slice();
          own.forEach((value, i) => (values[i]! += step * value));
          return () => values.set(old);
        });
        const loss = await cut.loss();
        for (const undo of before) undo();
        return loss;
      };
      // Richardson: the error falls with the fourth power of the step.
      const central = async (h: number): Promise<number> => ((await at(h)) - (await at(-h))) / (2 * h);
      const errors = [];
      for (const step of STEPS)
        errors.push(Math.abs((4 * (await central(step)) - (await central(2 * step))) / 3 - slope));
      expect(Math.min(...errors)).toBeLessThan(TOLERANCE * Math.max(1, Math.sqrt(norm)));
    }
  } finally {
    cut.close();
  }
}

describe('gradients match finite differences', () => {
  it.each(Object.keys(OPERATORS))('of %s', async (name) => {
    for (let seed = 1; seed <= 3; seed++) await expectSlope(compose([name], seed, false));
  });

  it('of compositions of any of them', async () => {
    const chain = fc.array(fc.constantFrom(...Object.keys(OPERATORS)), { minLength: 2, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(chain, fc.nat(1_000), async (names, seed) => {
        // Squares and sums grow, and differences with them; a norm brings values back.
        const normed = names.flatMap((name) => [name, 'rmsNorm without a gain']);
        await expectSlope(compose(normed, seed, true));
      }),
      { numRuns: RUNS },
    );
  });

  it('of the loss of a head, in all rows and weights', async () => {
    const [rows, hidden, vocab] = [5, 6, 9];
    const s = new Sketch(11);
    const h = s.variable([rows, hidden]);
    const [w, scales, weight] = [s.frozen([hidden, vocab]), s.frozen([vocab]), s.frozen([rows, 1])];
    const target = Int32Array.from({ length: rows }, (_, row) => (row * 4) % vocab);
    s.t.input('target', 'i32', [rows]);
    const head = { values: w.name, scales: scales.name };
    const { gap, sure, loss } = s.t.crossEntropy(h.name, head, 'target', weight.name);
    const [d] = s.t.gradients(loss, loss, [h.name]) as [string];
    const output = (value: string, dims: readonly number[]): Output => ({ value, type: 'f32', dims });
    const each = [rows, 1];
    const runtime = new TensorRuntime(device);
    const model = await runtime.open(
      s.t.model(
        new Map([
          ['gap', output(gap, each)],
          ['sure', output(sure, each)],
          ['d', output(d, h.dims)],
        ]),
      ),
    );
    const values = (name: string): Float32Array<ArrayBuffer> => s.inputs.get(name)!.values;
    const lossOf = async (): Promise<{ loss: number; d: Float32Array }> => {
      const inputs: Record<string, Tensor> = { target: await runtime.upload('i32', [rows], target) };
      for (const [name, { dims, values: own }] of s.inputs)
        inputs[name] = await runtime.upload('f32', dims, own);
      const made = await runtime.run(model, inputs, {}, () => true);
      const [gaps, sures] = [runtime.read(made['gap']!), runtime.read(made['sure']!)];
      let sum = 0;
      gaps.forEach((one, row) => (sum += values(weight.name)[row]! * (one - Math.log(sures[row]!))));
      return { loss: sum, d: runtime.read(made['d']!).slice() };
    };
    // The loss itself, in double precision.
    const { loss: found, d: gradient } = await lossOf();
    let wanted = 0;
    for (let row = 0; row < rows; row++) {
      const logits = Array.from({ length: vocab }, (_, token) => {
        let sum = 0;
        for (let i = 0; i < hidden; i++)
          sum += values(h.name)[row * hidden + i]! * values(w.name)[i * vocab + token]!;
        return sum * values(scales.name)[token]!;
      });
      const all = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
      wanted += values(weight.name)[row]! * (all - logits[target[row]!]!);
    }
    expect(found).toBeCloseTo(wanted, 5);
    for (let at = 0; at < gradient.length; at++) {
      const own = values(h.name);
      const old = own[at]!;
      const shifted = async (by: number): Promise<number> => {
        own[at] = old + by;
        const { loss: there } = await lossOf();
        own[at] = old;
        return there;
      };
      const slope = ((await shifted(1e-2)) - (await shifted(-1e-2))) / 2e-2;
      expect(Math.abs(slope - gradient[at]!)).toBeLessThan(TOLERANCE);
    }
    runtime.close();
  });
});

it('gives the same gradients to the bit from kept values and from those computed again', async () => {
  const chain = fc.array(fc.constantFrom(...Object.keys(OPERATORS)), { minLength: 2, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(chain, fc.nat(1_000), async (names, seed) => {
      const gradientsOf = async (recompute: boolean) => {
        const { sketch, y } = compose(names, seed, true);
        const cut = await Cut.open(sketch, y, recompute);
        try {
          if (recompute) expect(cut.kept).toBe(0);
          return await cut.gradients();
        } finally {
          cut.close();
        }
      };
      expect(await gradientsOf(true)).toEqual(await gradientsOf(false));
    }),
    { numRuns: RUNS },
  );
});

it('refuses a gradient that nothing reaches', () => {
  const t = new Tape();
  const [x, other] = [t.variable('x', [2]), t.variable('other', [2])];
  expect(() => t.gradients(t.scale(x, 2), 'dy', [other])).toThrow('no gradient reaches other');
});
