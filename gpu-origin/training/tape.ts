/**
 * Reverse-mode differentiation over ONNX operators. Each operator is recorded as a node together with its
 * vector-Jacobian product, which records further nodes; `cut` then splits the tape into a forward and a backward model.
 * Only operators that ONNX Runtime has in float32 on processors and in WebAssembly, and all but Softplus on WebGPU.
 */
import type { DataType } from '../model/base-model.ts';
import { type Attribute, GraphBuilder } from '../model/onnx-proto.ts';

/** Sizes, or names of sizes that are known when the model runs. */
export type Dims = readonly (string | number)[];

interface Node {
  op: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Record<string, Attribute>;
}

/** Makes what a value's gradient gets from one of its uses, added to the `sum` of the others if there are any. */
export type Contribution = (sum: string | undefined) => string;
export type Give = (value: string, contribution: Contribution) => void;

interface Rule {
  outputs: readonly string[];
  /** @param gradients of the outputs; at least one is known. */
  backward: (gradients: readonly (string | undefined)[], give: Give) => void;
}

/** An input or output of a model. */
export interface Port {
  type: DataType;
  dims: Dims;
}
export interface Output extends Port {
  value: string;
}

/** A weight that is not trained: float32 values, and a scale for each column; null = 1. */
export interface FrozenMatrix {
  values: string;
  scales: string | null;
}

export interface Model {
  bytes: Uint8Array<ArrayBuffer>;
  inputs: readonly string[];
  outputs: ReadonlyMap<string, Port>;
}

export class Tape {
  private readonly nodes: Node[] = [];
  private readonly inputs = new Map<string, Port>();
  private readonly constants = new Map<string, { type: DataType; dims: number[]; data: ArrayBufferView }>();
  private readonly rules: Rule[] = [];
  /** Values that a gradient flows through. */
  private readonly differentiable = new Set<string>();
  private readonly kept = new Map<string, Dims>();

  input(name: string, type: DataType, dims: Dims): string {
    this.inputs.set(name, { type, dims });
    return name;
  }

  /** An input whose gradient is wanted. */
  variable(name: string, dims: Dims): string {
    this.differentiable.add(name);
    return this.input(name, 'f32', dims);
  }

  /** The gradient is wanted of this value, and goes no further back. */
  leaf(value: string): string {
    this.differentiable.add(value);
    return value;
  }

  floats(name: string, dims: number[], values: ArrayLike<number>): string {
    this.constants.set(name, { type: 'f32', dims, data: Float32Array.from(values) });
    return name;
  }

  /** A constant of whole numbers. */
  sizes(values: readonly number[]): string {
    const name = `sizes.${values.join('_')}`;
    this.constants.set(name, {
      type: 'i64',
      dims: [values.length],
      data: BigInt64Array.from(values, BigInt),
    });
    return name;
  }

  private scalar(value: number): string {
    return this.floats(`scalar.${value}`, [], [value]);
  }

  /** The backward model may take this value from the forward model, instead of computing it again. */
  keep(value: string, dims: Dims): string {
    this.kept.set(value, dims);
    return value;
  }

  /** A node without a gradient. @returns its outputs. */
  emit(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute> = {},
    outputs = 1,
  ): string[] {
    const at = this.nodes.length;
    const names = Array.from({ length: outputs }, (_, i) => `${at}.${op}${i === 0 ? '' : `.${i}`}`);
    this.nodes.push({ op, inputs, outputs: names, attributes });
    return names;
  }

  /** A node of one output without a gradient. */
  one(op: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    return this.emit(op, inputs, attributes)[0]!;
  }

  /** How a gradient flows from outputs to inputs. */
  rule(outputs: readonly string[], inputs: readonly string[], backward: Rule['backward']): void {
    if (!inputs.some((value) => this.differentiable.has(value))) return;
    for (const output of outputs) this.differentiable.add(output);
    this.rules.push({ outputs, backward });
  }

  /** A rule of one output. */
  passes(output: string, inputs: readonly string[], backward: (dy: string, give: Give) => void): string {
    this.rule([output], inputs, ([dy], give) => backward(dy!, give));
    return output;
  }

  /** What `make` gives, added to what other uses gave. */
  added(make: () => string): Contribution {
    return (sum) => (sum === undefined ? make() : this.one('Add', [sum, make()]));
  }

  private product(
    a: string,
    b: string,
    options: { transA?: boolean; transB?: boolean; alpha?: number; c?: string | undefined },
  ): string {
    const { transA, transB, alpha = 1, c } = options;
    return this.one('Gemm', c === undefined ? [a, b] : [a, b, c], {
      ...(transA === true ? { transA: 1 } : {}),
      ...(transB === true ? { transB: 1 } : {}),
      ...(alpha === 1 ? {} : { alpha: { float: alpha } }),
    });
  }

  /** alpha a b + c with a `[M, K]`, c `[M, N]` and b `[K, N]`, or `[N, K]` if it is transposed. */
  gemm(a: string, b: string, options: { transB?: boolean; alpha?: number; c?: string } = {}): string {
    const { transB = false, alpha = 1, c } = options;
    const inputs = c === undefined ? [a, b] : [a, b, c];
    return this.passes(this.product(a, b, options), inputs, (dy, give) => {
      if (c !== undefined) give(c, (sum) => (sum === undefined ? dy : this.one('Add', [sum, dy])));
      give(a, (sum) => this.product(dy, b, { transB: !transB, alpha, c: sum }));
      give(b, (sum) =>
        transB
          ? this.product(dy, a, { transA: true, alpha, c: sum })
          : this.product(a, dy, { transA: true, alpha, c: sum }),
      );
    });
  }

  /** The last two of three axes exchanged, or of four; without a gradient. */
  turned(x: string, axes: 3 | 4 = 3): string {
    return this.one('Transpose', [x], { perm: axes === 3 ? [0, 2, 1] : [0, 1, 3, 2] });
  }

  /**
   * Batched: a `[n, M, K]`, b `[n, K, N]`, or `[n, N, K]` if it is transposed. @param axes 4 if two axes stand in n's place.
   */
  matmul(a: string, b: string, transB = false, axes: 3 | 4 = 3): string {
    const turn = (x: string): string => this.turned(x, axes);
    return this.passes(this.one('MatMul', [a, transB ? turn(b) : b]), [a, b], (dy, give) => {
      give(
        a,
        this.added(() => this.one('MatMul', [dy, transB ? b : turn(b)])),
      );
      give(
        b,
        this.added(() => (transB ? this.one('MatMul', [turn(dy), a]) : this.one('MatMul', [turn(a), dy]))),
      );
    });
  }

  /** b may be broadcast if no gradient flows into it. */
  add(a: string, b: string): string {
    return this.passes(this.one('Add', [a, b]), [a, b], (dy, give) => {
      for (const value of [a, b]) give(value, (sum) => (sum === undefined ? dy : this.one('Add', [sum, dy])));
    });
  }

  /** Elementwise, of one shape. */
  mul(a: string, b: string): string {
    return this.passes(this.one('Mul', [a, b]), [a, b], (dy, give) => {
      give(
        a,
        this.added(() => this.one('Mul', [dy, b])),
      );
      give(
        b,
        this.added(() => this.one('Mul', [dy, a])),
      );
    });
  }

  scale(x: string, factor: number): string {
    if (factor === 1) return x;
    const by = this.scalar(factor);
    return this.passes(this.one('Mul', [x, by]), [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Mul', [dy, by])),
      ),
    );
  }

  /** Times frozen factors that are broadcast: one for each number of the last axis, or each row. @param factors null = 1. */
  columns(x: string, factors: string | null): string {
    if (factors === null) return x;
    return this.passes(this.one('Mul', [x, factors]), [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Mul', [dy, factors])),
      ),
    );
  }

  /** Times a factor of each row `[…, 1]`, into which a gradient flows, too. */
  rows(x: string, factors: string): string {
    return this.passes(this.one('Mul', [x, factors]), [x, factors], (dy, give) => {
      give(
        x,
        this.added(() => this.one('Mul', [dy, factors])),
      );
      give(
        factors,
        this.added(() => this.sum(this.one('Mul', [dy, x]), [-1])),
      );
    });
  }

  /** Over axes, which stay with a size of 1; without a gradient. */
  sum(x: string, axes: readonly number[]): string {
    return this.one('ReduceSum', [x, this.sizes(axes)], { keepdims: 1 });
  }

  /** Zeros before and behind the second of three axes; negative numbers cut off as many, as ONNX has it. */
  pad(x: string, before: number, behind: number): string {
    if (before === 0 && behind === 0) return x;
    const padded = (value: string, pads: readonly [number, number]): string =>
      this.one('Pad', [value, this.sizes([0, pads[0], 0, 0, pads[1], 0])]);
    return this.passes(padded(x, [before, behind]), [x], (dy, give) =>
      give(
        x,
        this.added(() => padded(dy, [-before, -behind])),
      ),
    );
  }

  reshape(x: string, to: readonly number[], from: readonly number[]): string {
    return this.passes(this.one('Reshape', [x, this.sizes(to)]), [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Reshape', [dy, this.sizes(from)])),
      ),
    );
  }

  transpose(x: string, perm: readonly number[]): string {
    const inverse = perm.map((_, axis) => perm.indexOf(axis));
    return this.passes(this.one('Transpose', [x], { perm: [...perm] }), [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Transpose', [dy], { perm: inverse })),
      ),
    );
  }

  /** Parts of the last axis. A gradient must reach each of them. */
  split(x: string, widths: readonly number[]): string[] {
    if (widths.length === 1) return [x];
    const parts = this.emit('Split', [x, this.sizes(widths)], { axis: -1 }, widths.length);
    this.rule(parts, [x], (gradients, give) =>
      give(
        x,
        this.added(() => this.one('Concat', gradients as readonly string[], { axis: -1 })),
      ),
    );
    return parts;
  }

  /** Over the last axis. */
  softmax(x: string): string {
    const p = this.one('Softmax', [x], { axis: -1 });
    return this.passes(p, [x], (dy, give) =>
      give(
        x,
        this.added(() => {
          const sum = this.one('ReduceSum', [this.one('Mul', [dy, p]), this.sizes([-1])], { keepdims: 1 });
          return this.one('Mul', [p, this.one('Sub', [dy, sum])]);
        }),
      ),
    );
  }

  /**
   * x / rms(x) * gain over the last axis, the gain frozen.
   * @param gain null = 1. @param rows dimensions before the last one.
   */
  rmsNorm(x: string, gain: string | null, epsilon: number, rows: Dims): string {
    const scaled = (value: string): string => (gain === null ? value : this.one('Mul', [value, gain]));
    const mean = (value: string): string => this.one('ReduceMean', [value], { axes: [-1], keepdims: 1 });
    const square = mean(this.one('Mul', [x, x]));
    const root = this.one('Sqrt', [this.one('Add', [square, this.scalar(epsilon)])]);
    const inverse = this.keep(this.one('Reciprocal', [root]), [...rows, 1]);
    const unit = this.one('Mul', [x, inverse]);
    return this.passes(scaled(unit), [x], (dy, give) =>
      give(
        x,
        this.added(() => {
          const d = scaled(dy);
          const along = this.one('Mul', [unit, mean(this.one('Mul', [d, unit]))]);
          return this.one('Mul', [this.one('Sub', [d, along]), inverse]);
        }),
      ),
    );
  }

  /**
   * Rotates the first 2 `half` numbers of the last axis, pairs `half` apart.
   * @param cos @param sin broadcast to `[…, half]`. @param rest numbers behind them, which stay.
   */
  rope(x: string, cos: string, sin: string, { half, rest }: { half: number; rest: number }): string {
    const widths = this.sizes(rest === 0 ? [half, half] : [half, half, rest]);
    const turn = (value: string, back: boolean): string => {
      const [a, b, ...others] = this.emit('Split', [value, widths], { axis: -1 }, rest === 0 ? 2 : 3);
      const mul = (part: string, by: string): string => this.one('Mul', [part, by]);
      const [first, second] = back ? ['Add', 'Sub'] : ['Sub', 'Add'];
      const turned = [
        this.one(first!, [mul(a!, cos), mul(b!, sin)]),
        this.one(second!, [mul(b!, cos), mul(a!, sin)]),
      ];
      return this.one('Concat', [...turned, ...others], { axis: -1 });
    };
    return this.passes(turn(x, false), [x], (dy, give) =>
      give(
        x,
        this.added(() => turn(dy, true)),
      ),
    );
  }

  /** Soft cap: limit * tanh(x / limit). */
  cap(x: string, limit: number): string {
    const unit = this.one('Tanh', [this.one('Mul', [x, this.scalar(1 / limit)])]);
    return this.passes(this.one('Mul', [unit, this.scalar(limit)]), [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Mul', [dy, this.capSlope(unit)])),
      ),
    );
  }

  /** 1 - tanh², from tanh. */
  private capSlope(unit: string): string {
    return this.one('Sub', [this.scalar(1), this.one('Mul', [unit, unit])]);
  }

  sigmoid(x: string): string {
    const y = this.one('Sigmoid', [x]);
    return this.passes(y, [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Mul', [dy, this.one('Sub', [y, this.one('Mul', [y, y])])])),
      ),
    );
  }

  /** log(1 + e^x) */
  softplus(x: string): string {
    return this.passes(this.one('Softplus', [x]), [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Mul', [dy, this.one('Sigmoid', [x])])),
      ),
    );
  }

  exp(x: string): string {
    const y = this.one('Exp', [x]);
    return this.passes(y, [x], (dy, give) =>
      give(
        x,
        this.added(() => this.one('Mul', [dy, y])),
      ),
    );
  }

  silu(x: string): string {
    const sigmoid = this.one('Sigmoid', [x]);
    const y = this.one('Mul', [x, sigmoid]);
    return this.passes(y, [x], (dy, give) =>
      give(
        x,
        this.added(() => {
          // silu' = sigmoid + silu (1 - sigmoid)
          const rest = this.one('Sub', [y, this.one('Mul', [y, sigmoid])]);
          return this.one('Mul', [dy, this.one('Add', [sigmoid, rest])]);
        }),
      ),
    );
  }

  /** GELU by its tanh approximation: x (1 + tanh(c (x + 0.044715 x^3))) / 2 with c = sqrt(2 / pi). */
  gelu(x: string): string {
    const c = Math.sqrt(2 / Math.PI);
    const cubic = 0.044715;
    const by = (value: string, factor: number): string => this.one('Mul', [value, this.scalar(factor)]);
    const plus = (value: string, term: number): string => this.one('Add', [value, this.scalar(term)]);
    const square = this.one('Mul', [x, x]);
    const inner = this.one('Mul', [x, plus(by(square, c * cubic), c)]);
    const half = by(plus(this.one('Tanh', [inner]), 1), 0.5);
    return this.passes(this.one('Mul', [x, half]), [x], (dy, give) =>
      give(
        x,
        this.added(() => {
          // With h = (1 + tanh(u)) / 2: gelu' = h + x h', and h' = 2 h (1 - h) u'.
          const slope = plus(by(square, 3 * c * cubic), c);
          const bell = by(this.one('Sub', [half, this.one('Mul', [half, half])]), 2);
          const tail = this.one('Mul', [x, this.one('Mul', [bell, slope])]);
          return this.one('Mul', [dy, this.one('Add', [half, tail])]);
        }),
      ),
    );
  }

  /**
   * -log softmax(h W)[target] of each row, without a one-hot: d h = weight * (softmax(h W) W^T - W[target]). The caller
   * takes the logarithm, gap - log(sure): ONNX Runtime's last bits depend on where in a batch a row is.
   * @param h `[N, hidden]` @param w W, `[hidden, vocab]`, the product of its values and, if there are any, a scale for each
   * column @param target `[N]` int32 @param weight `[N, 1]` of each row's loss @param cap of logits, as {@link cap}; null = none
   * @returns `gap` `[N, 1]`: how far the target's logit is below the largest one; `sure` `[N, 1]`: the largest
   * probability; and `loss`, only for its gradient.
   */
  crossEntropy(
    h: string,
    w: FrozenMatrix,
    target: string,
    weight: string,
    cap: number | null = null,
  ): { gap: string; sure: string; loss: string } {
    const { values, scales } = w;
    const scaled = (x: string, by: string | null): string => (by === null ? x : this.one('Mul', [x, by]));
    const units = (x: string): string | null =>
      cap === null ? null : this.one('Tanh', [this.one('Mul', [x, this.scalar(1 / cap)])]);
    const capped = (x: string, unit: string | null): string =>
      cap === null || unit === null ? x : this.one('Mul', [unit, this.scalar(cap)]);
    const sloped = (x: string, unit: string | null): string =>
      unit === null ? x : this.one('Mul', [x, this.capSlope(unit)]);
    const raw = scaled(this.product(h, values, {}), scales);
    const unit = units(raw);
    const logits = capped(raw, unit);
    const p = this.one('Softmax', [logits], { axis: -1 });
    const most = this.one('ReduceMax', [logits], { axes: [-1], keepdims: 1 });
    const sure = this.one('ReduceMax', [p], { axes: [-1], keepdims: 1 });
    const chosen = this.one('Gather', [values, target], { axis: 1 });
    const scale = scales === null ? null : this.one('Gather', [scales, target], { axis: 0 });
    const wanted = this.one('Transpose', [scaled(chosen, scale)], { perm: [1, 0] });
    const own = this.one('ReduceSum', [this.one('Mul', [h, wanted]), this.sizes([-1])], { keepdims: 1 });
    const ownUnit = units(own);
    const gap = this.one('Sub', [most, capped(own, ownUnit)]);
    const loss = this.one('Mul', [gap, weight]);
    this.passes(loss, [h], (_dy, give) =>
      give(
        h,
        this.added(() => {
          const expected = this.product(scaled(sloped(p, unit), scales), values, { transB: true });
          return this.one('Mul', [this.one('Sub', [expected, sloped(wanted, ownUnit)]), weight]);
        }),
      ),
    );
    return { gap, sure, loss };
  }

  /**
   * Records the backward pass; once.
   * @param seed the output's gradient. @param others what other values' gradients get from elsewhere.
   * @returns the gradients of `wanted`, in order.
   */
  gradients(
    output: string,
    seed: string,
    wanted: readonly string[],
    others: ReadonlyMap<string, string> = new Map<string, string>(),
  ): string[] {
    const found = new Map([...others, [output, seed]]);
    const give: Give = (value, contribution) => {
      if (this.differentiable.has(value)) found.set(value, contribution(found.get(value)));
    };
    for (const { outputs, backward } of this.rules.splice(0).reverse()) {
      const gradients = outputs.map((value) => found.get(value));
      if (gradients.some((gradient) => gradient !== undefined)) backward(gradients, give);
    }
    return wanted.map((value) => {
      const gradient = found.get(value);
      if (gradient === undefined) throw new Error(`no gradient reaches ${value}`);
      return gradient;
    });
  }

  /** A model of outputs, with all that they need. @param given values that become inputs of it. */
  model(
    outputs: ReadonlyMap<string, Output>,
    given: ReadonlyMap<string, Port> = new Map<string, Port>(),
  ): Model {
    const producers = new Map(
      this.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)),
    );
    const needed = new Set<Node>();
    const inputs = new Set<string>();
    const g = new GraphBuilder();
    const visit = (value: string): void => {
      const input = given.get(value) ?? this.inputs.get(value);
      if (input !== undefined) {
        if (!inputs.has(value)) g.input(value, input.type, input.dims);
        inputs.add(value);
        return;
      }
      const constant = this.constants.get(value);
      if (constant !== undefined) return void g.constant(value, constant.type, constant.dims, constant.data);
      const node = producers.get(value);
      if (node === undefined) throw new Error(`nothing makes ${value}`);
      if (needed.has(node)) return;
      needed.add(node);
      node.inputs.forEach(visit);
    };
    for (const { value } of outputs.values()) visit(value);
    for (const { op, inputs: from, outputs: to, attributes } of this.nodes.filter((node) => needed.has(node)))
      g.node(op, from, to, attributes);
    for (const [name, { value, type, dims }] of outputs) {
      if (name !== value) g.node('Identity', [value], name);
      g.output(name, type, dims);
    }
    return { bytes: g.build('train'), inputs: [...inputs], outputs };
  }

  /**
   * The forward and the backward model. Walks back from the gradients: kept values come from the forward model, all else
   * is computed again.
   * @param params.recompute keep nothing. @returns also the kept values, which are outputs of `forward`.
   */
  cut(params: {
    outputs: ReadonlyMap<string, Output>;
    gradients: ReadonlyMap<string, Output>;
    recompute: boolean;
  }): { forward: Model; backward: Model; kept: ReadonlyMap<string, Output> } {
    const { outputs, gradients, recompute } = params;
    const possible = new Map<string, Output>(
      recompute ? [] : [...this.kept].map(([value, dims]) => [value, { value, type: 'f32', dims }]),
    );
    const backward = this.model(gradients, possible);
    const kept = new Map([...possible].filter(([value]) => backward.inputs.includes(value)));
    return { forward: this.model(new Map([...outputs, ...kept])), backward, kept };
  }
}
