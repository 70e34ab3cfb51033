/**
 * Weights of the `cpu` flavour in int8, read as the `gpu` flavour has them: values in blocks of 32, each block with the
 * scale of its whole row. A browser stores one set, and runs it in WebAssembly or on a GPU.
 */
import { z } from 'zod';
import { elementsOf } from '../../adapters/index.ts';
import { GRAPH_FILE_ALIGNMENT, WEIGHT_TYPES, type WeightEntry } from './graph-form.ts';
import { BLOCK } from './quantize.ts';

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
export type ReadBytes = (begin: number, end: number) => Uint8Array;

interface Source {
  entry: WeightEntry;
  /** null = as it is. */
  product: { part: 'values' | 'scales'; rows: number; columns: number } | null;
}

/** A weights file that is nowhere: its tensors are made as they are read. */
export class BlockWeights {
  readonly entries: readonly WeightEntry[];
  readonly byteLength: number;
  private readonly sources = new Map<number, Source>();

  /** @param cpu tensors of the file that there is. */
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

  /** @param begin where a tensor begins. @param end where it ends. @throws Error when none begins there. */
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

/** As `quantizeByteBlocks` lays them out: 128 is zero, and what a last block has too much. */
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
  // A block of columns at a time: what is written then stays in the processor's cache.
  for (let from = 0; from < columns; from += BLOCK)
    for (let row = 0; row < rows; row++) {
      const to = Math.min(columns, from + BLOCK);
      // Of two's complement, 128 more is the highest bit turned.
      for (let column = from; column < to; column++)
        all[row * width + column] = bytes[column * rows + row]! ^ 128;
    }
  return all;
}
