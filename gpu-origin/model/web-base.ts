/**
 * Exports of a base for running its graphs elsewhere, in a browser: its configuration as text, and the gains
 * folded into its weights, which adapters need.
 */
import { z } from 'zod';
import { parseSafetensors, toFloat32, writeSafetensors, elementsOf } from '../../adapters/index.ts';
import {
  type BaseModel,
  BaseModelError,
  checkConfig,
  EXPERT_STORAGES,
  FAMILIES,
  type LlamaConfig,
  GRAPH_FILE_ALIGNMENT,
  WEIGHT_TYPES,
  type WeightEntry,
} from './base-model.ts';
import { FINAL_NORM, foldsGains, normsBefore, BLOCK } from './prepare-weights.ts';

const Rope = z.strictObject({
  theta: z.number(),
  dim: z.int(),
  divisors: z
    .array(z.number())
    .transform((values) => Float32Array.from(values))
    .nullable(),
  scale: z.number(),
});

const ConfigJson = z.strictObject({
  family: z.enum(FAMILIES),
  hidden: z.int(),
  layers: z.int(),
  heads: z.int(),
  kvHeads: z.int(),
  headDim: z.int(),
  ffn: z.int(),
  layerSizes: z
    .array(z.strictObject({ kvHeads: z.int(), headDim: z.int(), ffn: z.int(), keysAreValues: z.boolean() }))
    .nullable(),
  vocab: z.int(),
  context: z.int(),
  rmsEpsilon: z.number(),
  rope: Rope,
  localRope: Rope.nullable(),
  attention: z.array(
    z.strictObject({ window: z.int().nullable(), rope: z.enum(['rope', 'localRope']).nullable() }),
  ),
  attentionScale: z.number().nullable(),
  attentionCap: z.number().nullable(),
  logitCap: z.number().nullable(),
  outputGate: z.boolean(),
  deltaNet: z
    .strictObject({
      keyHeads: z.int(),
      valueHeads: z.int(),
      keyDim: z.int(),
      valueDim: z.int(),
      kernel: z.int(),
      layers: z.array(z.boolean()),
    })
    .nullable(),
  tiedHead: z.boolean(),
  qkvBias: z.boolean(),
  qkNorm: z.enum(['head', 'width']).nullable(),
  valueNorm: z.boolean(),
  layerScalars: z.boolean(),
  preNorms: z.boolean(),
  postNorms: z.boolean(),
  activation: z.enum(['silu', 'gelu_tanh']),
  embeddingScale: z.number(),
  logitScale: z.number(),
  fusedQkv: z.boolean(),
  fusedGateUp: z.boolean(),
  interleavedRope: z.boolean(),
  experts: z
    .strictObject({
      count: z.int(),
      chosen: z.int(),
      normalized: z.boolean(),
      storage: z.enum(EXPERT_STORAGES),
    })
    .nullable(),
}) satisfies z.ZodType<LlamaConfig>;

export const writeConfigJson = (config: LlamaConfig): string =>
  JSON.stringify(config, (_, value: unknown) => (value instanceof Float32Array ? [...value] : value));

/** @throws BaseModelError */
export function readConfigJson(text: string): LlamaConfig {
  const parsed = ConfigJson.safeParse(JSON.parse(text));
  if (!parsed.success)
    throw new BaseModelError(`the base's configuration: ${parsed.error.issues[0]?.message}`);
  return checkConfig(parsed.data);
}

/** @returns a safetensors file of norms under Hugging Face's names; empty if none is folded. */
export function writeFoldedGains(base: BaseModel): Uint8Array<ArrayBuffer> {
  const { config } = base;
  const paths = Object.values(normsBefore(config) ?? {});
  const names = Array.from({ length: config.layers }, (_, layer) =>
    paths.map((path) => `model.layers.${layer}.${path}.weight`),
  );
  const shape = [config.hidden];
  const tensors = (foldsGains(config) ? [...names.flat(), FINAL_NORM] : []).map((name) => {
    const data = new Uint8Array(base.tensor(name, shape).buffer);
    return [name, { dtype: 'F32' as const, shape, data }] as const;
  });
  return writeSafetensors({ tensors: new Map(tensors), metadata: new Map() });
}

/** @returns the base with its norms only. @throws BaseModelError for any other tensor. */
export function readFoldedGains(
  file: Uint8Array<ArrayBuffer>,
  base: Pick<BaseModel, 'id' | 'digest' | 'config'>,
): BaseModel {
  const { tensors } = parseSafetensors(file);
  return {
    ...base,
    tensor(name, shape) {
      const tensor = tensors.get(name);
      if (tensor === undefined || tensor.shape.join() !== shape.join())
        throw new BaseModelError(`${name} is not among the base's gains`);
      return toFloat32(tensor);
    },
    close: () => {},
  };
}

/** The list of a weights file's tensors. */
export const WeightEntries = z.array(
  z.strictObject({
    name: z.string(),
    type: z.enum(WEIGHT_TYPES),
    dims: z.array(z.int()),
    offset: z.int().min(0),
    bytes: z.int().min(0),
  }),
);

/** Of a file: bytes from `begin` to `end`. */
type ReadBytes = (begin: number, end: number) => Uint8Array;

interface Source {
  entry: WeightEntry;
  /** null = unchanged. */
  product: { part: 'values' | 'scales'; rows: number; columns: number } | null;
}

/**
 * Weights of the `cpu` flavour in int8, read in the `gpu` flavour's layout: values in blocks of 32, each block
 * with the scale of its whole row. A browser stores one set, and runs it in WebAssembly or on a GPU. The file
 * is virtual: its tensors are built as they are read.
 */
export class BlockWeights {
  readonly entries: readonly WeightEntry[];
  readonly byteLength: number;
  private readonly sources = new Map<number, Source>();

  /** @param cpu tensors of the existing file. */
  constructor(cpu: readonly WeightEntry[]) {
    const values = new Map(cpu.filter(isProduct).map((entry) => [entry.name.slice(0, -2), entry]));
    const entries: WeightEntry[] = [];
    let offset = 0;
    for (const entry of cpu) {
      const product = productOf(entry, values);
      const own = product === null ? entry : { ...entry, ...blocked(product) };
      entries.push({ ...own, offset });
      this.sources.set(offset, { entry, product });
      offset += Math.ceil(own.bytes / GRAPH_FILE_ALIGNMENT) * GRAPH_FILE_ALIGNMENT;
    }
    this.entries = entries;
    this.byteLength = offset;
  }

  /** @param begin start of a tensor. @param end its end. @throws Error when none begins there. */
  read(begin: number, end: number, file: ReadBytes): Uint8Array {
    const source = this.sources.get(begin);
    if (source === undefined) throw new Error(`no tensor begins at byte ${begin}`);
    const { entry, product } = source;
    const bytes = file(entry.offset, entry.offset + entry.bytes);
    const made = product === null ? bytes : inBlocks(bytes, product);
    if (made.length !== end - begin)
      throw new Error(`${entry.name} has ${made.length} bytes, not ${end - begin}`);
    return made;
  }
}

type Product = NonNullable<Source['product']>;

/** `[in, out]` in int8; rows of the embedding in int8 are looked up, not multiplied, and have another name. */
const isProduct = ({ name, type }: WeightEntry): boolean => type === 'i8' && name.endsWith('.w');

function productOf(entry: WeightEntry, values: ReadonlyMap<string, WeightEntry>): Product | null {
  const part = isProduct(entry) ? 'values' : entry.name.endsWith('.s') ? 'scales' : null;
  const [columns, rows] = values.get(entry.name.slice(0, -2))?.dims ?? [];
  if (part === null || columns === undefined || rows === undefined) return null;
  return { part, rows, columns };
}

function blocked({ part, rows, columns }: Product): Pick<WeightEntry, 'type' | 'dims' | 'bytes'> {
  const blocks = Math.ceil(columns / BLOCK);
  return part === 'values'
    ? { type: 'u8', dims: [rows, blocks, BLOCK], bytes: rows * blocks * BLOCK }
    : { type: 'f32', dims: [rows * blocks], bytes: rows * blocks * Float32Array.BYTES_PER_ELEMENT };
}

/** The layout of `quantizeByteBlocks`: 128 is zero, also as padding of a last block. */
function inBlocks(bytes: Uint8Array, { part, rows, columns }: Product): Uint8Array {
  const blocks = Math.ceil(columns / BLOCK);
  if (part === 'scales') {
    const scales = elementsOf(bytes, Float32Array);
    const all = new Float32Array(rows * blocks);
    scales.forEach((scale, row) => all.fill(scale, row * blocks, (row + 1) * blocks));
    return new Uint8Array(all.buffer);
  }
  const width = blocks * BLOCK;
  const all = new Uint8Array(rows * width).fill(128);
  // Block by block of columns: writes then stay in the processor's cache.
  for (let from = 0; from < columns; from += BLOCK)
    for (let row = 0; row < rows; row++) {
      const to = Math.min(columns, from + BLOCK);
      // In two's complement, adding 128 flips the highest bit.
      for (let column = from; column < to; column++)
        all[row * width + column] = bytes[column * rows + row]! ^ 128;
    }
  return all;
}
