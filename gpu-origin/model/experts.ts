/**
 * Mixtures of experts (Qwen3-MoE): which experts a base has, how their weights are named, and a layer's MLP over them in
 * ONNX Runtime's operators.
 *
 * Each token has its chosen experts. Pairs of a token and an expert are sorted by expert and cut into one part for each
 * expert, whose products follow; a product over no rows returns at once and reads no weights. So a decode step reads the
 * weights of the chosen experts only, and every product is one that is exact by row elsewhere in the graphs. ONNX Runtime
 * 1.30's own `MoE` and `QMoE` are not: on x86 each of 200 rows had other bits alone than in a batch.
 */
import type { GraphBuilder } from './onnx-proto.ts';
import {
  DataType,
  MLP_KINDS,
  type MlpKind,
  type Experts,
  type ExpertStorage,
  type LlamaConfig,
} from './base-model.ts';

const mlp = (layer: number): string => `model.layers.${layer}.mlp`;

/** Hugging Face's names. */
export const routerTensor = (layer: number): string => `${mlp(layer)}.gate.weight`;
export const expertModule = (layer: number, expert: number, kind: MlpKind): string =>
  `${mlp(layer)}.experts.${expert}.${kind}_proj`;
const fusedTensor = (layer: number, kind: MlpKind): string =>
  `${mlp(layer)}.experts.${kind === 'down' ? 'down_proj' : 'gate_up_proj'}`;
/** Not Hugging Face's: the name that a GGUF's tensor of all experts has here. */
const stackedTensor = (layer: number, kind: MlpKind): string => `${mlp(layer)}.experts.${kind}_proj.weight`;

/** The graph's names. */
export const routerName = (layer: number): string => `l${layer}.router`;
export const expertProduct = (group: string, expert: number): string => `${group}.${expert}`;

/** @returns names of a layer's router and experts, as stored. */
export function storedExperts({ count, storage }: Experts, layer: number): string[] {
  const names = [routerTensor(layer)];
  if (storage === 'fused') return [...names, fusedTensor(layer, 'gate'), fusedTensor(layer, 'down')];
  if (storage === 'stacked') return [...names, ...MLP_KINDS.map((kind) => stackedTensor(layer, kind))];
  for (let expert = 0; expert < count; expert++)
    for (const kind of MLP_KINDS) names.push(`${expertModule(layer, expert, kind)}.weight`);
  return names;
}

/** @returns how a Hugging Face folder stores its experts. */
export const hubStorage = (has: (name: string) => boolean): ExpertStorage =>
  has(fusedTensor(0, 'gate')) ? 'fused' : 'each';

/** Of a base whose layers have experts; their linears are no modules that adapters change. */
export interface ExpertSizes {
  readonly layers: number;
  readonly count: number;
  readonly chosen: number;
  readonly ffn: number;
}

export function expertSizes({
  experts,
  layers,
  ffn,
}: Pick<LlamaConfig, 'experts' | 'layers' | 'ffn'>): ExpertSizes | null {
  if (experts === null) return null;
  return { layers, ffn, count: experts.count, chosen: experts.chosen };
}

type ReadTensor = (name: string, shape: readonly number[]) => Float32Array<ArrayBuffer>;

const EXPERT = /^model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight$/;

/**
 * Reads experts one by one, however they are stored. The last tensors of all experts of a layer stay in memory, for the
 * next expert's part of them.
 */
export function expertReader(config: LlamaConfig, read: ReadTensor): ReadTensor {
  const { experts, hidden, ffn } = config;
  if (experts === null || experts.storage === 'each') return read;
  const { count, storage } = experts;
  const kept = new Map<string, Float32Array<ArrayBuffer>>();
  let keptLayer = -1;
  const whole = (layer: number, name: string, shape: readonly number[]): Float32Array<ArrayBuffer> => {
    if (layer !== keptLayer) kept.clear();
    keptLayer = layer;
    const known = kept.get(name);
    if (known !== undefined) return known;
    const values = read(name, shape);
    kept.set(name, values);
    return values;
  };
  return (name, shape) => {
    const found = EXPERT.exec(name);
    if (found === null) return read(name, shape);
    const [layer, expert, kind] = [Number(found[1]), Number(found[2]), found[3] as MlpKind];
    const size = hidden * ffn;
    if (storage === 'stacked') {
      const all = whole(layer, stackedTensor(layer, kind), [count, ...shape]);
      return all.slice(expert * size, (expert + 1) * size);
    }
    if (kind === 'down')
      return whole(layer, fusedTensor(layer, kind), [count, ...shape]).slice(
        expert * size,
        (expert + 1) * size,
      );
    const all = whole(layer, fusedTensor(layer, kind), [count, 2 * ffn, hidden]);
    const begin = (2 * expert + (kind === 'up' ? 1 : 0)) * size;
    return all.slice(begin, begin + size);
  };
}

/** What the MLP of a graph is made of. All streams are `[1, rows, width]`. */
interface ExpertParts {
  g: GraphBuilder;
  config: LlamaConfig & { experts: Experts };
  sizes: (what: 'shape' | 'split', sizes: readonly number[]) => string;
  /** A stream times the router's weight, in float32. */
  router: (x: string, layer: number, output: string) => string;
  /** Parts of a stream, each times its expert's weight; one behind the other again. @param counts rows of each part. */
  products: (x: string, counts: string, layer: number, group: 'gate-up' | 'down', output: string) => string;
  /** Gate and up to what down reads. */
  activated: (gate: string, up: string, layer: number) => string;
  /** Every pair is there twice, because a lone row has other bits than several (see `Int4Products`). */
  doubles: boolean;
}

/** @param x `[B, T, hidden]`. @returns what the experts add to the stream, in the same shape. */
export function expertLayer(x: string, layer: number, parts: ExpertParts): string {
  const { g, config, sizes, doubles } = parts;
  const { hidden, ffn, experts } = config;
  const { chosen } = experts;
  const p = `l${layer}.experts`;
  const flat = g.node('Reshape', [x, sizes('shape', [1, -1, hidden])], `${p}.x`);
  const { indices, weights } = choose(flat, layer, parts);

  const pairs = g.node('Reshape', [indices, sizes('shape', [-1])], `${p}.pairs`);
  const all = doubles ? g.node('Concat', [pairs, pairs], `${p}.twice`, { axis: 0 }) : pairs;
  const count = g.node('Shape', [all], `${p}.count`);
  const ascending = { axis: 0, largest: 0, sorted: 1 };
  g.node('TopK', [all, count], [`${p}.sorted`, `${p}.order`], ascending);
  const counts = countEach(`${p}.sorted`, layer, parts);
  const single = doubles
    ? g.node('Mod', [`${p}.order`, g.node('Shape', [pairs], `${p}.single`)], `${p}.order.single`)
    : `${p}.order`;
  const tokens = g.node('Div', [single, sizes('shape', [chosen])], `${p}.tokens`);
  const rows = g.node('Gather', [flat, tokens], `${p}.rows`, { axis: 1 });

  const wide = parts.products(rows, counts, layer, 'gate-up', `${p}.gate-up`);
  g.node('Split', [wide, sizes('split', [ffn, ffn])], [`${p}.gate`, `${p}.up`], { axis: -1 });
  const gated = parts.activated(`${p}.gate`, `${p}.up`, layer);
  const down = parts.products(gated, counts, layer, 'down', `${p}.down`);

  // Back to the order of tokens: where each pair was sorted to.
  g.node('TopK', [`${p}.order`, count], [`${p}.numbers`, `${p}.places.all`], ascending);
  const places = doubles
    ? g.node('Slice', [`${p}.places.all`, sizes('shape', [0]), `${p}.single`], `${p}.places`)
    : `${p}.places.all`;
  const back = g.node('Gather', [down, places], `${p}.back`, { axis: 1 });
  const each = g.node('Reshape', [back, sizes('shape', [-1, chosen, hidden])], `${p}.each`);
  const weighted = g.node('Mul', [each, weights], `${p}.weighted`);
  // Added one after the other, in the order of their weights: a reduction may add in another order for other sizes.
  const names = Array.from({ length: chosen }, (_, index) => `${p}.weighted.${index}`);
  g.node('Split', [weighted, sizes('split', new Array<number>(chosen).fill(1))], names, { axis: 1 });
  const sum = chosen === 1 ? names[0]! : g.node('Sum', names, `${p}.sum`);
  return g.node('Reshape', [sum, g.node('Shape', [x], `${p}.shape`)], `${p}.y`);
}

/** The experts of each token, and their weights `[tokens, chosen, 1]`. */
function choose(flat: string, layer: number, parts: ExpertParts): { indices: string; weights: string } {
  const { g, config, sizes } = parts;
  const { chosen, normalized } = config.experts;
  const p = `l${layer}.router`;
  const logits = parts.router(flat, layer, `${p}.logits`);
  const softmax = (of: string): string => g.node('Softmax', [of], `${p}.softmax`, { axis: -1 });
  const top = (of: string): string[] => {
    const outputs = [`${p}.top`, `${p}.indices`];
    g.node('TopK', [of, sizes('shape', [chosen])], outputs, { axis: -1, largest: 1, sorted: 1 });
    return outputs;
  };
  // Probabilities of the chosen ones, divided by their sum, are the softmax of their logits.
  const [values, indices] = top(normalized ? logits : softmax(logits));
  const shape = sizes('shape', [-1, chosen, 1]);
  return {
    indices: indices!,
    weights: g.node('Reshape', [normalized ? softmax(values!) : values!, shape], `${p}.weights`),
  };
}

/** How often each expert occurs, `[experts]`. */
function countEach(sorted: string, layer: number, { g, config, sizes }: ExpertParts): string {
  const { count } = config.experts;
  const p = `l${layer}.experts`;
  const column = g.node('Reshape', [sorted, sizes('shape', [-1, 1])], `${p}.column`);
  const numbers = g.constant(
    `experts.${count}`,
    'i64',
    [1, count],
    BigInt64Array.from({ length: count }, (_, expert) => BigInt(expert)),
  );
  const equal = g.node('Equal', [column, numbers], `${p}.equal`);
  const ones = g.node('Cast', [equal], `${p}.ones`, { to: DataType.i64 });
  return g.node('ReduceSum', [ones, sizes('shape', [0])], `${p}.counts`, { keepdims: 0 });
}
