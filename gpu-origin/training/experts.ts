/**
 * The MLP of each token's experts (Qwen3-MoE) on a tape. Pairs of a token and one of its experts are sorted by expert and
 * cut into one part for each, as the engine does (model/experts.ts). Experts and router are frozen; the gradient flows
 * through both, and through the router's softmax into the stream.
 */
import { DataType, type Experts, type LlamaConfig } from '../model/base-model.ts';
import { expertProduct } from '../model/experts.ts';
import type { FrozenMatrix, Tape } from './tape.ts';

/** The graphs' name of the router, whose weight `[hidden, experts]` is float32 in every form. */
export const ROUTER = 'router';
/** Symbolic number of rows of all experts, see {@link expertRows}. */
const ROWS = 'P';

const ASCENDING = { axis: 0, largest: 0, sorted: 1 } as const;

/**
 * Rows of all experts together: each token's, and one more of each expert. A row alone goes through another kernel, with
 * other bits, and a row's score must not depend on its batch.
 */
export const expertRows = ({ count, chosen }: Pick<Experts, 'count' | 'chosen'>, tokens: number): number =>
  tokens * chosen + count;

/** Pairs of a token and an expert, sorted by expert. */
interface Pairs {
  /** Of each row: its pair, and the pair's token. Those of further rows are any. */
  order: string;
  tokens: string;
  /** Of each pair, token by token: its row. */
  places: string;
  /** Rows of each expert. */
  counts: string;
}

type Group = 'gate-up' | 'down';

export class ExpertTape {
  private readonly experts: Experts;

  /**
   * @param params.weight a frozen weight `[in, out]`.
   * @param params.gated gate and up `[rows, ffn]` to their product. @param params.turned to what down reads.
   */
  constructor(
    private readonly t: Tape,
    private readonly params: {
      config: LlamaConfig & { experts: Experts };
      weight: (name: string, dims: readonly [number, number]) => FrozenMatrix;
      gated: (gate: string, up: string) => string;
      turned: (x: string) => string;
    },
  ) {
    this.experts = params.config.experts;
  }

  /** @param x `[T, hidden]`. @returns what the experts add to the stream. */
  build(x: string): string {
    const { t } = this;
    const { hidden, ffn } = this.params.config;
    const { count } = this.experts;
    const logits = t.keep(t.gemm(x, t.input(`${ROUTER}.w`, 'f32', [hidden, count])), ['T', count]);
    const { weights, indices } = this.choose(logits);
    const pairs = this.sort(indices);
    const rows = this.spread(x, pairs, hidden);
    const wide = this.products(rows, pairs, 'gate-up', [hidden, 2 * ffn]);
    const [gate, up] = t.split(wide, [ffn, ffn]).map((part) => t.keep(part, [ROWS, ffn])) as [string, string];
    // Weighted here and not behind down, whose output is wider.
    const weighted = t.rows(this.params.gated(gate, up), this.sorted(weights, pairs));
    const down = this.products(this.params.turned(weighted), pairs, 'down', [ffn, hidden]);
    return this.collect(down, pairs, hidden);
  }

  /** The experts of each token and their weights, both `[T, chosen]`. */
  private choose(logits: string): { weights: string; indices: string } {
    const { t } = this;
    // Probabilities of the chosen ones, divided by their sum, are the softmax of their logits.
    if (!this.experts.normalized) {
      const [weights, indices] = this.top(t.softmax(logits));
      return { weights, indices };
    }
    const [top, indices] = this.top(logits);
    return { weights: t.softmax(top), indices };
  }

  /** The largest of each row and where they are; a gradient flows into these alone. */
  private top(x: string): [values: string, indices: string] {
    const { t } = this;
    const from = [x, t.sizes([this.experts.chosen])];
    const [values, indices] = t.emit('TopK', from, { axis: -1, largest: 1, sorted: 1 }, 2) as [
      string,
      string,
    ];
    t.passes(values, [x], (dy, give) =>
      give(
        x,
        t.added(() => {
          const zeros = t.one('ConstantOfShape', [t.one('Shape', [x])]);
          return t.one('ScatterElements', [zeros, indices, dy], { axis: -1 });
        }),
      ),
    );
    return [values, indices];
  }

  private sort(indices: string): Pairs {
    const { t } = this;
    const { count, chosen } = this.experts;
    const each = t.sizes(Array.from({ length: count }, (_, expert) => expert));
    const pairs = t.one('Reshape', [indices, t.sizes([-1])]);
    const all = t.one('Concat', [pairs, each], { axis: 0 });
    const rows = t.one('Shape', [all]);
    const own = t.one('Shape', [pairs]);
    const [sorted, order] = t.emit('TopK', [all, rows], ASCENDING, 2) as [string, string];
    const back = t.emit('TopK', [order, rows], ASCENDING, 2)[1]!;
    const isOf = t.one('Equal', [t.one('Reshape', [sorted, t.sizes([-1, 1])]), each]);
    const ones = t.one('Cast', [isOf], { to: DataType.i64 });
    return {
      order,
      tokens: t.one('Div', [t.one('Mod', [order, own]), t.sizes([chosen])]),
      places: t.one('Slice', [back, t.sizes([0]), own]),
      counts: t.one('ReduceSum', [ones, t.sizes([0])], { keepdims: 0 }),
    };
  }

  /** Each token's row as often as it has experts. */
  private spread(x: string, { tokens, places }: Pairs, width: number): string {
    const { t } = this;
    return t.passes(t.one('Gather', [x, tokens], { axis: 0 }), [x], (dy, give) =>
      give(
        x,
        t.added(() => this.sum(dy, places, width)),
      ),
    );
  }

  /** The other way round: the sum of a token's rows. */
  private collect(y: string, { tokens, places }: Pairs, width: number): string {
    const { t } = this;
    return t.passes(this.sum(y, places, width), [y], (dy, give) =>
      give(
        y,
        t.added(() => t.one('Gather', [dy, tokens], { axis: 0 })),
      ),
    );
  }

  private sum(rows: string, places: string, width: number): string {
    const { t } = this;
    const own = t.one('Gather', [rows, places], { axis: 0 });
    const byToken = t.one('Reshape', [own, t.sizes([-1, this.experts.chosen, width])]);
    return t.one('ReduceSum', [byToken, t.sizes([1])], { keepdims: 0 });
  }

  /** `[T, chosen]` as a number of each row; 0 of each expert's further row, so that no gradient comes of it. */
  private sorted(weights: string, { order, places }: Pairs): string {
    const { t } = this;
    const { count, chosen } = this.experts;
    const column = t.reshape(weights, [-1, 1], [-1, chosen]);
    const zeros = t.floats(`zeros.${count}`, [count, 1], new Float32Array(count));
    const all = t.one('Concat', [column, zeros], { axis: 0 });
    return t.passes(t.one('Gather', [all, order], { axis: 0 }), [column], (dy, give) =>
      give(
        column,
        t.added(() => t.one('Gather', [dy, places], { axis: 0 })),
      ),
    );
  }

  /** Each expert's rows times its weight. */
  private products(x: string, { counts }: Pairs, group: Group, dims: readonly [number, number]): string {
    const { t } = this;
    const { count } = this.experts;
    const matrices = Array.from({ length: count }, (_, expert) =>
      this.params.weight(expertProduct(group, expert), dims),
    );
    const apart = (rows: string): string[] => t.emit('Split', [rows, counts], { axis: 0 }, count);
    const scaled = (rows: string, { scales }: FrozenMatrix): string =>
      scales === null ? rows : t.one('Mul', [rows, scales]);
    const forward = apart(x).map((part, expert) => {
      const matrix = matrices[expert]!;
      return scaled(t.one('Gemm', [part, matrix.values]), matrix);
    });
    return t.passes(t.one('Concat', forward, { axis: 0 }), [x], (dy, give) =>
      give(
        x,
        t.added(() => {
          const parts = apart(dy).map((part, expert) => {
            const matrix = matrices[expert]!;
            return t.one('Gemm', [scaled(part, matrix), matrix.values], { transB: 1 });
          });
          return t.one('Concat', parts, { axis: 0 });
        }),
      ),
    );
  }
}
