/**
 * Gated DeltaNet (arXiv:2412.06464) on a tape, as transformers' `Qwen3_5GatedDeltaNet` computes it. Each head has a state
 * `[keyDim, valueDim]`, zeros before a sequence. Each token decays it by e^g, then moves what it returns for the token's key
 * towards the token's value, by beta of the difference. The tokens of a chunk do this at once, by the inverse of a
 * triangular matrix (arXiv:2406.06484); chunks follow one another.
 *
 * Shapes are `[chunks, N, C, …]`: C tokens of a chunk, N sequences times heads of v.
 */
import { convolved, convolvedChannels, type DeltaNet } from '../model/base-model.ts';
import type { Tape } from './tape.ts';

/** Tokens of a chunk: a power of two. */
const CHUNK = 32;

/** transformers' `l2norm`: x / sqrt(sum(x^2) + this). */
const UNIT_EPSILON = 1e-6;

/** Masked logarithms of decays: their exponential is zero in float32. */
const MASKED = -1e30;

/** Outputs of the layer's linears, `[T, …]`. */
export interface DeltaNetInputs {
  /** All heads' q, k and v, before the convolution. */
  qkv: string;
  /** By head of v. */
  beta: string;
  decay: string;
}

/** Frozen parameters besides the linears: names of inputs. */
export interface DeltaNetWeights {
  /** `[channels, 1, kernel]` */
  kernel: string;
  /** `[valueHeads]`: -e^A_log, which is the factor of decays, and their bias. */
  factor: string;
  bias: string;
}

/** Numbers of a token that forward keeps, without the linears' outputs. */
export const keptOfDeltaNet = ({ valueHeads, valueDim }: DeltaNet): number => valueHeads * (CHUNK + valueDim);

export class DeltaNetTape {
  private readonly chunk: number;
  private readonly chunks: number;

  /** @param length of sequences, tokens. */
  constructor(
    private readonly t: Tape,
    private readonly net: DeltaNet,
    private readonly length: number,
  ) {
    this.chunk = Math.min(CHUNK, 2 ** Math.ceil(Math.log2(length)));
    this.chunks = Math.ceil(length / this.chunk);
  }

  /** @returns what the heads read of their states, `[T, valueHeads, valueDim]`. */
  build({ qkv, beta, decay }: DeltaNetInputs, { kernel, factor, bias }: DeltaNetWeights): string {
    const { t, net, chunk, chunks } = this;
    const { keyHeads, valueHeads, keyDim, valueDim } = net;
    const parts = t.split(t.silu(this.convolution(qkv, kernel)), convolved(net));
    const [queries, keys, values] = parts as [string, string, string];
    const unit = (x: string, scale: number): string => {
      const rows = ['S', chunks, chunk, keyHeads];
      const normed = t.rmsNorm(this.apart(x, keyHeads, keyDim), null, UNIT_EPSILON / keyDim, rows);
      return this.ofEachValue(this.byChunk(t.scale(normed, scale * keyDim ** -0.5), keyHeads, keyDim));
    };
    const q = unit(queries, keyDim ** -0.5);
    const k = unit(keys, 1);
    const v = this.byChunk(this.apart(values, valueHeads, valueDim), valueHeads, valueDim);
    // Padding has a strength of 0, and nothing reads it.
    const strength = t.reshape(this.byHead(t.sigmoid(beta)), [chunks, -1, chunk, 1], [-1, chunk]);
    const g = this.byHead(t.columns(t.softplus(t.add(decay, bias)), factor));
    const { since, until, whole, pairs } = this.decays(g);

    const kb = t.rows(k, strength);
    const solved = this.inverse(t.mul(this.matmul(kb, k, true), pairs));
    const u = this.matmul(solved, t.rows(v, strength));
    const within = t.mul(this.matmul(q, k, true), pairs);
    if (chunks === 1) return this.byToken(this.matmul(within, u));
    const w = this.matmul(solved, t.rows(kb, since));
    const { corrections, states } = this.recurrence(u, w, t.rows(k, until), whole);
    const before = this.matmul(t.rows(q, since), states);
    return this.byToken(t.add(before, this.matmul(within, corrections)));
  }

  private matmul(a: string, b: string, transB = false): string {
    return this.t.matmul(a, b, transB, 4);
  }

  /** The same without a gradient. */
  private product(a: string, b: string): string {
    return this.t.one('MatMul', [a, b]);
  }

  /** A constant of ones and zeros. */
  private ones(
    name: string,
    [rows, columns]: readonly [number, number],
    has: (row: number, column: number) => boolean,
  ): string {
    const values = Array.from({ length: rows * columns }, (_, at) =>
      has(Math.floor(at / columns), at % columns) ? 1 : 0,
    );
    return this.t.floats(`delta.${name}`, [rows, columns], values);
  }

  /** Tokens of a sequence, whole chunks. */
  private get padded(): number {
    return this.chunks * this.chunk;
  }

  /** Each channel over the last tokens of its sequence: `[T, channels]` to `[S, padded, channels]`. */
  private convolution(x: string, kernel: string): string {
    const { t, length, padded } = this;
    const channels = convolvedChannels(this.net);
    const size = this.net.kernel;
    const behind = padded - length;
    const sequences = t.reshape(x, [-1, length, channels], [-1, channels]);
    const weights = t.one('Transpose', [t.one('Reshape', [kernel, t.sizes([channels, size])])], {
      perm: [1, 0],
    });
    const taps = size === 1 ? [weights] : t.emit('Split', [weights], { axis: 0 }, size);
    return taps
      .map((tap, at) => t.columns(t.pad(sequences, size - 1 - at, behind - (size - 1 - at)), tap))
      .reduce((sum, one) => t.add(sum, one));
  }

  /** `[S, padded, heads * dim]` to `[S, chunks, C, heads, dim]` */
  private apart(x: string, heads: number, dim: number): string {
    const { t, chunk, chunks } = this;
    return t.reshape(x, [-1, chunks, chunk, heads, dim], [-1, this.padded, heads * dim]);
  }

  /** … to `[chunks, S * heads, C, dim]` */
  private byChunk(x: string, heads: number, dim: number): string {
    const { t, chunk, chunks } = this;
    return t.reshape(
      t.transpose(x, [1, 0, 3, 2, 4]),
      [chunks, -1, chunk, dim],
      [chunks, -1, heads, chunk, dim],
    );
  }

  /** Numbers of each head `[T, heads]` to `[chunks * N, C]`, with zeros as padding. */
  private byHead(x: string): string {
    const { t, length, chunk, chunks } = this;
    const { valueHeads } = this.net;
    const whole = t.pad(t.reshape(x, [-1, length, valueHeads], [-1, valueHeads]), 0, this.padded - length);
    const apart = t.reshape(whole, [-1, chunks, chunk, valueHeads], [-1, this.padded, valueHeads]);
    return t.reshape(t.transpose(apart, [1, 0, 3, 2]), [-1, chunk], [chunks, -1, valueHeads, chunk]);
  }

  /** `[chunks, N, C, valueDim]` to `[T, valueHeads, valueDim]` */
  private byToken(x: string): string {
    const { t, length, chunk, chunks } = this;
    const { valueHeads, valueDim } = this.net;
    const heads = t.reshape(x, [chunks, -1, valueHeads, chunk, valueDim], [chunks, -1, chunk, valueDim]);
    const apart = [-1, chunks, chunk, valueHeads, valueDim];
    const whole = t.reshape(
      t.transpose(heads, [1, 0, 3, 2, 4]),
      [-1, this.padded, valueHeads * valueDim],
      apart,
    );
    return t.reshape(
      t.pad(whole, 0, length - this.padded),
      [-1, valueHeads, valueDim],
      [-1, length, valueHeads * valueDim],
    );
  }

  /** Heads of q or k, each repeated for the heads of v that share it. */
  private ofEachValue(x: string): string {
    const { t, chunk, chunks } = this;
    const { keyHeads, valueHeads, keyDim } = this.net;
    const times = valueHeads / keyHeads;
    if (times === 1) return x;
    const one = t.reshape(x, [chunks, -1, 1, chunk * keyDim], [chunks, -1, chunk, keyDim]);
    const copies = Array.from({ length: times }, () => one);
    const all = t.passes(t.one('Concat', copies, { axis: 2 }), [one], (dy, give) =>
      give(
        one,
        t.added(() => t.sum(dy, [2])),
      ),
    );
    return t.reshape(all, [chunks, -1, chunk, keyDim], [chunks, -1, times, chunk * keyDim]);
  }

  /**
   * Products of decays from their logarithms g `[chunks * N, C]`. Each is the exponential of its own sum: differences of
   * cumulative sums would lose small decays behind large ones.
   * @returns `since` the chunk's first token and `until` its last, `[chunks, N, C, 1]`; of the `whole` chunk,
   * `[chunks, N, 1, 1]`; `pairs` `[chunks, N, C, C]`, from a token (column) to itself or a later one (row), otherwise 0.
   */
  private decays(g: string): Record<'since' | 'until' | 'whole' | 'pairs', string> {
    const { t, chunk, chunks } = this;
    /** @param has whether a column sums up a token's logarithm. */
    const products = (
      name: string,
      columns: number,
      has: (token: number, column: number) => boolean,
    ): string =>
      t.reshape(
        t.exp(t.gemm(g, this.ones(name, [chunk, columns], has))),
        [chunks, -1, columns, 1],
        [-1, columns],
      );
    const square = chunk * chunk;
    const between = this.ones('between', [chunk, square], (token, column) => {
      const [to, from] = [Math.floor(column / chunk), column % chunk];
      return from < token && token <= to;
    });
    const mask = Array.from({ length: square }, (_, at) =>
      Math.floor(at / chunk) < at % chunk ? MASKED : 0,
    );
    const logarithms = t.reshape(t.gemm(g, between), [chunks, -1, chunk, chunk], [-1, square]);
    return {
      since: products('since', chunk, (token, column) => token <= column),
      until: products('until', chunk, (token, column) => token > column),
      whole: products('whole', 1, () => true),
      pairs: t.exp(t.add(logarithms, t.floats('delta.mask', [chunk, chunk], mask))),
    };
  }

  /**
   * The inverse of I + the part of x below its diagonal, `[chunks, N, C, C]`. That of [A 0; B D] is [A' 0; -D'BA' D'],
   * computed for all blocks of a size at once. A product of powers, (I - L)(I + L^2)(I + L^4)…, costs as much, but loses all
   * digits where keys are alike: its terms grow like binomial coefficients.
   */
  private inverse(x: string): string {
    const { t, chunk, chunks } = this;
    const square = [chunk, chunk] as const;
    /** B of all blocks of twice the size. */
    const below = (size: number): string => {
      const mask = this.ones(`below.${size}`, square, (row, column) => {
        const [ofRow, ofColumn] = [Math.floor(row / size), Math.floor(column / size)];
        return ofRow % 2 === 1 && ofColumn === ofRow - 1;
      });
      return t.one('Mul', [x, mask]);
    };
    const unit = this.ones('unit', square, (row, column) => row === column);
    let inverse = t.one('Sub', [unit, below(1)]);
    for (let size = 2; size < chunk; size *= 2)
      inverse = t.one('Sub', [inverse, this.product(this.product(inverse, below(size)), inverse)]);
    t.keep(inverse, [chunks, 'N', chunk, chunk]);
    return t.passes(inverse, [x], (dy, give) =>
      give(
        x,
        t.added(() => {
          const turned = t.turned(inverse, 4);
          const whole = t.one('Neg', [this.product(this.product(turned, dy), turned)]);
          return t.one('Mul', [whole, this.ones('lower', square, (row, column) => row > column)]);
        }),
      ),
    );
  }

  /**
   * From chunk to chunk, with s the state before one: corrections = u - w s, next state = decay s + k^T corrections.
   * @param u corrections without a state. @param k keys, decayed until the chunk's last token. @param decay of a whole chunk.
   * @returns `corrections` `[chunks, N, C, valueDim]`, `states` `[chunks, N, keyDim, valueDim]`.
   */
  private recurrence(
    u: string,
    w: string,
    k: string,
    decay: string,
  ): { corrections: string; states: string } {
    const { t, chunks } = this;
    const split = (x: string): string[] => t.emit('Split', [x], { axis: 0 }, chunks);
    const joined = (parts: readonly string[]): string => t.one('Concat', parts, { axis: 0 });
    /** Parts of all chunks but one, with zeros in its place. */
    const withZeros = (parts: readonly string[], at: 'first' | 'last'): string => {
      const pads = [0, 0, 0, 0, 0, 0, 0, 0];
      pads[at === 'first' ? 0 : 4] = 1;
      return t.one('Pad', [joined(parts), t.sizes(pads)]);
    };
    const sum = (a: string, b: string | undefined): string => (b === undefined ? a : t.one('Add', [a, b]));

    const [us, ws, ks, decays] = [split(u), split(w), split(t.turned(k, 4)), split(decay)];
    const corrected: string[] = [];
    const reached: string[] = [];
    for (let at = 0; at < chunks; at += 1) {
      const state = reached.at(-1);
      corrected.push(state === undefined ? us[at]! : t.one('Sub', [us[at]!, this.product(ws[at]!, state)]));
      if (at === chunks - 1) break;
      const kept = state === undefined ? undefined : t.one('Mul', [state, decays[at]!]);
      reached.push(sum(this.product(ks[at]!, corrected[at]!), kept));
    }
    const corrections = joined(corrected);
    const states = withZeros(reached, 'first');
    t.rule([corrections, states], [u, w, k, decay], ([ofCorrections, ofStates], give) => {
      const [ofC, ofS] = [split(ofCorrections!), split(ofStates!)];
      const [keys, shares] = [split(k), split(t.turned(w, 4))];
      /** Gradients of u and of the states before chunks, last chunk first. */
      const dus: string[] = [];
      const dstates: string[] = [];
      for (let at = chunks - 1; at >= 0; at -= 1) {
        const next = dstates.at(-1);
        const du = sum(ofC[at]!, next === undefined ? undefined : this.product(keys[at]!, next));
        dus.push(du);
        if (at === 0) break;
        const own = t.one('Sub', [ofS[at]!, this.product(shares[at]!, du)]);
        dstates.push(sum(own, next === undefined ? undefined : t.one('Mul', [next, decays[at]!])));
      }
      const du = joined(dus.reverse());
      const next = withZeros(dstates.reverse(), 'last');
      give(u, (known) => (known === undefined ? du : t.one('Add', [known, du])));
      give(
        w,
        t.added(() => t.one('Neg', [this.product(du, t.turned(states, 4))])),
      );
      give(
        k,
        t.added(() => this.product(corrections, t.turned(next, 4))),
      );
      give(
        decay,
        t.added(() => t.sum(t.one('Mul', [states, next]), [2, 3])),
      );
    });
    return { corrections, states };
  }
}
