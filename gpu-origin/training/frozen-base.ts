/** The base that is trained on, as the origin has it on disk: weights as tensors, tables, the embedding, the basis. */
import { AdapterFormatError, elementsOf, EMBEDDING_MODULE, HEAD_MODULE } from '../../adapters/index.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import { isTrained, type Trainable } from '../../protocol/training.ts';
import {
  hasLinear,
  LINEAR_KINDS,
  type LinearKind,
  linearShape,
  type LlamaConfig,
  ofLayer,
  type Precision,
  type Span,
  spansOfKind,
  type StoredLinear,
  storedLinears,
  type WeightEntry,
} from '../model/base-model.ts';
import {
  HEAD_PRODUCT,
  LAYER_PROJECTION,
  layerEmbeddingNames,
  ROTATED,
  rotaryNames,
  transformDelta,
  transformGradient,
} from '../model/prepare-weights.ts';
import { rotationsOf, undoRotation, undoRows } from '../model/rotation.ts';
import {
  composeDelta,
  loadResidentAdapter,
  moduleKey,
  type OrtRowDelta,
  linearTransform,
  type WeightTransform,
} from '../runtime/adapter-batch.ts';
import { bytesOf } from '../runtime/device.ts';
import { ROUTER } from './experts.ts';
import { deltaInput, type FrozenDelta, type FrozenForm } from './graphs.ts';
import type { Tensor, TensorRuntime } from './tensors.ts';

/** The file of a base's weights (`buildGraphs` of the `cpu` flavour, or a browser's base). */
export interface WeightFile {
  readonly entries: readonly WeightEntry[];
  /** Whole tensors, or a part: bytes from `begin` on. */
  read(entry: WeightEntry, begin?: number, bytes?: number): Uint8Array<ArrayBuffer>;
}

export interface ServedBase extends WeightTransform {
  readonly config: LlamaConfig;
  readonly weights: WeightFile;
}

/** Weights as inputs of the graphs. */
export interface FrozenWeights {
  readonly form: FrozenForm;
  readonly layers: readonly Readonly<Record<string, Tensor>>[];
  readonly head: Readonly<Record<string, Tensor>>;
  /** Bytes that they take. */
  readonly bytes: number;
}

const LAYER = /^l(\d+)\.(.+)$/;

/** Tensors of the file that no product reads: they are looked up here. */
const isLookedUp = (name: string): boolean => /^(embed|cos|sin)(\.|$)/.test(name) || isLayerTable(name);
/** `l3.layerEmbedding` and its scales. */
const isLayerTable = (name: string): boolean => /^l\d+\.layerEmbedding(\.|$)/.test(name);

const float32 = (bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> =>
  elementsOf(bytes, Float32Array);

/** Above this, int8 weights are cast to float32 a layer at a time, bytes of all in float32. */
export const UNPACKED_BYTES = 1024 ** 3;

interface StoredTensor extends Pick<WeightEntry, 'name' | 'type' | 'dims'> {
  content: Uint8Array<ArrayBuffer>;
}

const read = ({ weights }: ServedBase, entry: WeightEntry): StoredTensor => ({
  ...entry,
  content: weights.read(entry),
});

/** `l3.q-k-v.w`, `l3.q-k-v.b`, `head.w`, and of an expert `l3.down.7.w`. */
const PRODUCT = /^(?:l(\d+)\.)?([a-zA-Z-]+)(?:\.\d+)?\.(w|b)$/;
/** Products that are no linears of layers. They read what q reads. */
const OTHER_PRODUCTS: readonly string[] = [HEAD_PRODUCT, LAYER_PROJECTION, ROUTER];
/** Rows of an embedding that are kept as read. */
const MOST_ROWS = 8_192;

/**
 * The base with int8 weights as float32 that nothing rotates, where there is room for them on processors. It saves two
 * casts of each weight a step, the rotations of activations, and those of each delta and its gradient.
 * @returns `base` itself if its weights are float32, or take more than `UNPACKED_BYTES` so.
 */
export function unpackedBase(base: ServedBase): ServedBase {
  const { weights } = base;
  const isPacked = ({ name, type }: WeightEntry): boolean => type === 'i8' && !isLookedUp(name);
  const bytes = weights.entries
    .filter(({ name }) => !isLookedUp(name))
    .reduce((sum, { dims }) => sum + bytesOf('f32', dims), 0);
  if (bytes > UNPACKED_BYTES || !weights.entries.some(isPacked)) return base;
  const changes = ({ name, type }: WeightEntry): boolean =>
    !isLayerTable(name) && (type === 'i8' || name === 'embed' || PRODUCT.test(name));
  const entries = weights.entries
    .filter(({ name }) => !name.endsWith('.s') || isLayerTable(name))
    .map((entry) =>
      changes(entry) ? { ...entry, type: 'f32' as const, bytes: bytesOf('f32', entry.dims) } : entry,
    );
  const rows = new Map<number, Float32Array<ArrayBuffer>>();
  return {
    ...base,
    rotations: null,
    weights: {
      entries,
      read(entry, begin = 0, bytes = entry.bytes) {
        const stored = find(base, entry.name);
        if (!changes(stored)) return weights.read(stored, begin, bytes);
        if (entry.name === 'embed') return embeddingRows(base, rows, begin, bytes);
        const values = unrotated(base, stored);
        return new Uint8Array(values.buffer, values.byteOffset + begin, bytes);
      },
    },
  };
}

/** Rows of the embedding that nothing rotates, float32. @param known rows by their token */
function embeddingRows(
  base: ServedBase,
  known: Map<number, Float32Array<ArrayBuffer>>,
  begin: number,
  bytes: number,
): Uint8Array<ArrayBuffer> {
  const { hidden } = base.config;
  const size = hidden * Float32Array.BYTES_PER_ELEMENT;
  const out = new Float32Array(bytes / Float32Array.BYTES_PER_ELEMENT);
  for (let at = 0, token = begin / size; at < out.length; at += hidden, token++) {
    let row = known.get(token);
    if (row === undefined) {
      row = embed(base, Int32Array.of(token));
      const stream = base.rotations?.stream ?? null;
      if (stream !== null) undoRotation(row, stream);
      if (known.size === MOST_ROWS) known.clear();
      known.set(token, row);
    }
    out.set(row, at);
  }
  return new Uint8Array(out.buffer);
}

/** A product's weights `[in, out]` or bias, float32, that nothing rotates. */
function unrotated(base: ServedBase, entry: WeightEntry): Float32Array<ArrayBuffer> {
  const values = entry.type === 'i8' ? unpacked(base, entry) : float32(base.weights.read(entry));
  const [, layer, product, side] = PRODUCT.exec(entry.name) ?? [];
  const at = Number(layer ?? 0);
  const rotations = rotationsOf(base.rotations, at);
  const config = ofLayer(base.config, at);
  if (rotations === null || product === undefined) return values;
  const kinds = OTHER_PRODUCTS.includes(product) ? [] : (product.split('-') as LinearKind[]);
  const columns = entry.dims.at(-1)!;
  if (side === 'w') {
    const input = kinds.length === 0 ? 'input' : ROTATED[kinds[0]!].columns;
    if (input !== null) undoRows(values, columns, rotations[input]);
  }
  let from = 0;
  for (const kind of kinds) {
    const { out } = linearShape(config, kind);
    const which = ROTATED[kind].rows;
    const rotation = which === null ? null : rotations[which];
    for (let at = from; rotation !== null && at < values.length; at += columns)
      undoRotation(values.subarray(at, at + out), rotation);
    from += out;
  }
  return values;
}

/** int8 `[in, out]` times a scale for each output. */
function unpacked(base: ServedBase, entry: WeightEntry): Float32Array<ArrayBuffer> {
  const scales = float32(base.weights.read(find(base, entry.name.replace(/\.w$/, '.s'))));
  const values = elementsOf(base.weights.read(entry), Int8Array);
  const out = new Float32Array(values.length);
  for (let at = 0; at < out.length; at += scales.length)
    for (let i = 0; i < scales.length; i++) out[at + i] = values[at + i]! * scales[i]!;
  return out;
}

/** As the graphs take it: gate and up lie apart there. */
function partsOf(whole: StoredTensor): StoredTensor[] {
  const [, layer, side] = /^(l\d+)\.gate-up\.(w|s)$/.exec(whole.name) ?? [];
  if (layer === undefined) return [whole];
  const { type, dims, content } = whole;
  const half = dims.at(-1)! / 2;
  const row = bytesOf(type, [half]);
  return ['gate', 'up'].map((kind, index) => {
    const part = new Uint8Array(content.length / 2);
    for (let at = 0; at < part.length; at += row)
      part.set(content.subarray(2 * at + index * row, 2 * at + (index + 1) * row), at);
    return { name: `${layer}.${kind}.${side}`, type, dims: [...dims.slice(0, -1), half], content: part };
  });
}

/**
 * Places all weights, one after the other.
 * @throws OrtError when there is not enough memory. @throws Error when the base is in another format than int8 or f32.
 */
export async function placeWeights(
  runtime: TensorRuntime,
  base: ServedBase,
  onProgress: (done: number, total: number) => void,
): Promise<FrozenWeights> {
  const { own } = runtime.device;
  const isInt8 = base.weights.entries.some(({ name, type }) => name.endsWith('.w') && type === 'i8');
  if (base.weights.entries.some(({ type }) => type === 'u8'))
    throw new Error('a base in 4 bit cannot be trained on');
  const halves = own !== null && isInt8 && (await own.hasFp16());
  const precision: Precision = halves ? 'f16' : 'f32';
  const layers: Record<string, Tensor>[] = Array.from({ length: base.config.layers }, () => ({}));
  const head: Record<string, Tensor> = {};
  let bytes = 0;
  const wanted = base.weights.entries.filter(({ name }) => !isLookedUp(name));
  for (const [index, stored] of wanted.entries()) {
    for (const { name, type, dims, content } of partsOf(read(base, stored))) {
      bytes += content.length;
      const placed =
        type === 'i8' && own !== null
          ? await runtime.place('f32', dims, Float32Array.from(elementsOf(content, Int8Array)), precision)
          : await runtime.place(type, dims, content);
      const [, layer, rest] = LAYER.exec(name) ?? [];
      if (layer === undefined) head[name] = placed;
      else layers[Number(layer)]![rest!] = placed;
    }
    onProgress(index + 1, wanted.length);
  }
  const form = !isInt8 ? 'f32' : own === null ? 'int8' : halves ? 'scaled-f16' : 'scaled-f32';
  return { form, layers, head, bytes };
}

/** Rows of the embedding, `[tokens, hidden]`, float32. */
export const embed = (base: ServedBase, tokens: Int32Array): Float32Array<ArrayBuffer> =>
  lookedUp(base, 'embed', tokens);

/** Rows of a layer's own embedding, `[tokens, config.layerEmbedding]`, float32. */
export const embedInLayer = (
  base: ServedBase,
  layer: number,
  tokens: Int32Array,
): Float32Array<ArrayBuffer> => lookedUp(base, layerEmbeddingNames(layer).table, tokens);

/** Rows of a table of all tokens, float32. */
function lookedUp(base: ServedBase, table: string, tokens: Int32Array): Float32Array<ArrayBuffer> {
  const entry = find(base, table);
  const width = entry.dims.at(-1)!;
  const out = new Float32Array(tokens.length * width);
  const scales = base.weights.entries.find(({ name }) => name === `${table}.s`);
  const size = entry.bytes / base.config.vocab;
  tokens.forEach((token, at) => {
    const bytes = base.weights.read(entry, token * size, size);
    if (entry.type !== 'i8') return void out.set(float32(bytes), at * width);
    const [scale] = float32(base.weights.read(scales!, token * 4, 4));
    const values = elementsOf(bytes, Int8Array);
    for (let i = 0; i < width; i++) out[at * width + i] = values[i]! * scale!;
  });
  return out;
}

function find(base: ServedBase, name: string): WeightEntry {
  const entry = base.weights.entries.find((one) => one.name === name);
  if (entry === undefined) throw new Error(`the base's weights have no ${name}`);
  return entry;
}

/** The first `length` rows of a rotary table. */
export function rotaryTable(
  base: ServedBase,
  which: 'rope' | 'localRope',
  side: 'cos' | 'sin',
  length: number,
): Float32Array<ArrayBuffer> {
  const entry = find(base, rotaryNames(which)[side]);
  return float32(base.weights.read(entry, 0, (entry.bytes / entry.dims[0]!) * length));
}

/** The chain below what is trained: its plain members as one delta, then the activated ones, root first. */
export type FrozenChain = readonly { readonly delta: OrtRowDelta; readonly activated: boolean }[];

/**
 * A chain of canonical files, root first.
 * @throws AdapterFormatError when one does not fit the base.
 */
export async function loadChain(
  base: Omit<Parameters<typeof loadResidentAdapter>[0], 'file' | 'digest' | 'finalGain'>,
  chain: readonly (ChainEntry & { file: Uint8Array<ArrayBuffer> })[],
): Promise<FrozenChain> {
  const loaded = [];
  for (const { file, digest, scale } of chain)
    loaded.push({ adapter: await loadResidentAdapter({ ...base, file, digest, finalGain: null }), scale });
  return freezeChain(base.config, loaded);
}

/**
 * @param chain members that `loadResidentAdapter` made, root first.
 * @throws AdapterFormatError `module_unknown` when one adapts the head or the embedding.
 */
export function freezeChain(
  config: LlamaConfig,
  chain: readonly { adapter: Awaited<ReturnType<typeof loadResidentAdapter>>; scale: number }[],
): FrozenChain {
  for (const { adapter } of chain) {
    const outer = adapter.head !== null ? HEAD_MODULE : adapter.embedding !== null ? EMBEDDING_MODULE : null;
    if (outer !== null)
      throw new AdapterFormatError({
        code: 'module_unknown',
        message:
          `Adapter ${adapter.digest.slice(0, 12)} adapts ${outer}, and adapters on top of such a one cannot be ` +
          'trained here. Train it with PEFT.',
        subject: outer,
      });
  }
  const plain = chain.filter(({ adapter }) => adapter.invocation === null);
  const activated = chain.filter(({ adapter }) => adapter.invocation !== null);
  return [
    ...(plain.length === 0 ? [] : [{ delta: composeDelta(config, plain), activated: false }]),
    ...activated.map((member) => ({ delta: composeDelta(config, [member]), activated: true })),
  ];
}

/** The chain below, as inputs of the graphs by layer, and the kinds that each delta has. */
export async function placeChain(
  runtime: TensorRuntime,
  config: LlamaConfig,
  chain: FrozenChain,
): Promise<{ deltas: readonly FrozenDelta[]; layers: readonly Record<string, Tensor>[] }> {
  const placed = chain.map(({ delta, activated }) => ({
    kinds: LINEAR_KINDS.filter((kind) => delta.ranks[kind] > 0),
    activated,
  }));
  const layers: Record<string, Tensor>[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const inputs: Record<string, Tensor> = {};
    for (const [which, { delta }] of chain.entries())
      for (const kind of placed[which]!.kinds) {
        if (!hasLinear(config, layer, kind)) continue;
        const shape = linearShape(ofLayer(config, layer), kind);
        const rank = delta.ranks[kind];
        const module = delta.modules.get(moduleKey(layer, kind))!;
        inputs[deltaInput(kind, 'A', which)] = await runtime.place('f32', [rank, shape.in], module.a);
        inputs[deltaInput(kind, 'B', which)] = await runtime.place('f32', [rank, shape.out], module.b);
      }
    layers.push(inputs);
  }
  return { deltas: placed, layers };
}

/** One trained matrix of a stored linear, in the basis of PEFT: A `[rank, in]`; B transposed, `[rank, out]`. */
export interface Parameter {
  readonly layer: number;
  readonly linear: StoredLinear;
  readonly side: 'A' | 'B';
  readonly rank: number;
  readonly width: number;
  readonly values: Float32Array<ArrayBuffer>;
  /** Sum of what the batches gave; the same shape. */
  readonly gradient: Float32Array<ArrayBuffer>;
}

export const emptyParameter = (parameter: Omit<Parameter, 'values' | 'gradient'>): Parameter => ({
  ...parameter,
  values: new Float32Array(parameter.rank * parameter.width),
  gradient: new Float32Array(parameter.rank * parameter.width),
});

/** A layer's linears that are trained, by {@link isTrained}. */
export const trainedLinears = (
  config: LlamaConfig,
  layer: number,
  targets: readonly Trainable[],
): StoredLinear[] => storedLinears(config, layer).filter(({ name }) => isTrained(name, targets));

/** A parameter as an input of the graphs, for one kind. */
export function toServed(
  base: WeightTransform & Pick<ServedBase, 'config'>,
  parameter: Parameter,
  kind: LinearKind,
): Float32Array<ArrayBuffer> {
  const { layer, side, rank, width, values } = parameter;
  const spans = columnsOf(base.config, parameter, kind);
  const own = spans.reduce((sum, { count }) => sum + count, 0);
  const served = new Float32Array(rank * own);
  let at = 0;
  for (let row = 0; row < values.length; row += width)
    for (const { from, count } of spans) {
      served.set(values.subarray(row + from, row + from + count), at);
      at += count;
    }
  transformDelta(served, own, side, linearTransform(base, layer, kind));
  return served;
}

/** Adds the gradient of what `toServed` gives to the parameter's own. @param gradient overwritten */
export function addGradient(
  base: WeightTransform & Pick<ServedBase, 'config'>,
  parameter: Parameter,
  kind: LinearKind,
  gradient: Float32Array,
): void {
  const { layer, side, rank, width, gradient: sum } = parameter;
  transformGradient(gradient, side, linearTransform(base, layer, kind));
  const spans = columnsOf(base.config, parameter, kind);
  let at = 0;
  for (let row = 0; row < rank * width; row += width)
    for (const { from, count } of spans)
      for (let i = 0; i < count; i++, at++) sum[row + from + i]! += gradient[at]!;
}

/** Where the columns of a kind lie among a parameter's. Kinds of a fused linear share A, and each has its own of B. */
function columnsOf(
  config: LlamaConfig,
  { layer, linear, side, width }: Parameter,
  kind: LinearKind,
): readonly Span[] {
  return side === 'A' ? [{ from: 0, count: width }] : spansOfKind(ofLayer(config, layer), linear, kind);
}
