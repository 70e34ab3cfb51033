/**
 * GGUF, versions 2 and 3: header, metadata, tensor table, then the tensors' bytes (ggml `docs/gguf.md`).
 * Counts and lengths are checked against the file before anything is allocated, because "count x size" overflows are
 * what has broken other readers (CVE-2024-23605, CVE-2026-43629). As strict as llama.cpp's own reader (`gguf.cpp`):
 * no key or name twice, tensors follow each other in the table's order with nothing but padding between.
 */
import { AdapterFormatError, printable } from '../errors.ts';
import { GgufCursor, GgufValueReader, MORE_BYTES, type GgufValue, type Refuse } from './gguf-cursor.ts';
import { GGML_TYPES } from './gguf-types.ts';

/** "GGUF", little-endian. */
export const GGUF_MAGIC = 0x46554747;
export const DEFAULT_ALIGNMENT = 32;
/** Magic, version and the two counts. */
const PREFIX_BYTES = 24;
const MAX_DIMENSIONS = 4;
/** The format's own limit for keys; names of tensors are shorter still. */
const MAX_NAME_BYTES = 65_535;
const MAX_ALIGNMENT = 65_536;

export type { GgufValue } from './gguf-cursor.ts';

export interface GgufLimits {
  readonly tensors: number;
  /** Metadata values, items of arrays counted one by one. */
  readonly values: number;
}

export interface GgufTensor {
  readonly name: string;
  /** Outermost first, as PyTorch prints it (GGUF stores innermost first). */
  readonly shape: readonly number[];
  /** ggml_type, one of `GGML_TYPES`. */
  readonly type: number;
  /** Absolute position in the file, bytes. */
  readonly offset: number;
  readonly bytes: number;
}

export interface GgufHeader {
  readonly metadata: Map<string, GgufValue>;
  /** In the order of their bytes. */
  readonly tensors: Map<string, GgufTensor>;
  /** Where the last tensor's padding ends, bytes; the file may end before it, but not before the tensor does. */
  readonly end: number;
}

function readMetadata(cursor: GgufCursor, count: number, limits: GgufLimits): Map<string, GgufValue> {
  const { refuse } = cursor;
  const metadata = new Map<string, GgufValue>();
  const values = new GgufValueReader(cursor, limits.values);
  for (let i = 0; i < count; i++) {
    const key = cursor.string(MAX_NAME_BYTES);
    if (metadata.has(key)) refuse('duplicate_key', `"${printable(key)}" occurs twice in the metadata.`, key);
    metadata.set(key, values.read(key, cursor.u32()));
  }
  return metadata;
}

/** `offset` still relative to the first tensor. */
function readTensor(cursor: GgufCursor): GgufTensor {
  const { refuse } = cursor;
  const name = cursor.string(MAX_NAME_BYTES);
  const shown = `Tensor "${printable(name)}"`;
  const dimensions = cursor.u32();
  if (dimensions > MAX_DIMENSIONS)
    refuse(
      'shape_invalid',
      `${shown} has ${dimensions} dimensions, at most ${MAX_DIMENSIONS} are possible.`,
      name,
    );
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) shape.unshift(cursor.u64());
  const type = cursor.u32();
  const offset = cursor.u64();
  const format = GGML_TYPES.get(type);
  if (format === undefined)
    return refuse('dtype_unknown', `${shown} has the unknown ggml type ${type}.`, name);
  let elements = 1;
  for (const size of shape) {
    elements *= size;
    if (!Number.isSafeInteger(elements))
      refuse('shape_invalid', `${shown} has more elements than can be counted.`, name);
  }
  if ((shape.at(-1) ?? 1) % format.elements !== 0)
    refuse(
      'shape_invalid',
      `${shown}: rows of [${shape.join(', ')}] are not whole ${format.name} blocks of ${format.elements}.`,
      name,
    );
  const bytes = (elements / format.elements) * format.bytes;
  if (!Number.isSafeInteger(bytes))
    refuse('shape_invalid', `${shown} has more bytes than can be counted.`, name);
  return { name, shape, type, offset, bytes };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, refuse: Refuse): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (typeof alignment !== 'number' || alignment > MAX_ALIGNMENT || !Number.isInteger(Math.log2(alignment)))
    return refuse(
      'metadata_invalid',
      'general.alignment is not a plausible power of two.',
      'general.alignment',
    );
  return alignment;
}

const alignUp = (position: number, alignment: number): number => Math.ceil(position / alignment) * alignment;

/** @param start where the first tensor begins, bytes. */
function placeTensors(
  table: readonly GgufTensor[],
  start: number,
  alignment: number,
  fileBytes: number,
  refuse: Refuse,
): Pick<GgufHeader, 'tensors' | 'end'> {
  const tensors = new Map<string, GgufTensor>();
  let at = start;
  for (const tensor of table) {
    const { name } = tensor;
    const shown = `Tensor "${printable(name)}"`;
    if (tensors.has(name)) refuse('duplicate_key', `${shown} occurs twice.`, name);
    const offset = start + tensor.offset;
    if (offset !== at)
      refuse(
        'offsets_invalid',
        `${shown} begins at ${tensor.offset}, expected is ${at - start}: tensors must follow each other, ` +
          `aligned to ${alignment} bytes, without holes or overlap.`,
        name,
      );
    if (offset + tensor.bytes > fileBytes)
      refuse('truncated_file', `${shown} reaches beyond the end of the file: it is truncated.`, name);
    tensors.set(name, { ...tensor, offset });
    at = alignUp(offset + tensor.bytes, alignment);
  }
  return { tensors, end: at };
}

function parse(cursor: GgufCursor, fileBytes: number, limits: GgufLimits): GgufHeader {
  const { refuse } = cursor;
  if (cursor.u32() !== GGUF_MAGIC)
    refuse('header_invalid', 'This is not a GGUF file: its first four bytes are not "GGUF".');
  const version = cursor.u32();
  if (version !== 2 && version !== 3)
    refuse(
      'header_invalid',
      version === 0x02000000 || version === 0x03000000
        ? 'The file is big-endian GGUF, which is not supported. Write it without --bigendian.'
        : `GGUF version ${version} is not supported (2 and 3 are).`,
    );
  const tensorCount = cursor.u64();
  const metadataCount = cursor.u64();
  if (tensorCount > limits.tensors)
    refuse('too_many_tensors', `${tensorCount} tensors exceed the limit of ${limits.tensors}.`);
  if (metadataCount > limits.values)
    refuse('header_too_large', `${metadataCount} metadata entries exceed the limit of ${limits.values}.`);
  const metadata = readMetadata(cursor, metadataCount, limits);
  const table: GgufTensor[] = [];
  for (let i = 0; i < tensorCount; i++) table.push(readTensor(cursor));
  const alignment = alignmentOf(metadata, refuse);
  const start = alignUp(cursor.position, alignment);
  return { metadata, ...placeTensors(table, start, alignment, fileBytes, refuse) };
}

/**
 * @param params.header the file's first bytes, at least up to the end of its tensor table.
 * @param params.fileBytes the whole file's length, bytes.
 * @returns null when `header` ends before the table does and the file goes on: call again with more of it.
 * @throws AdapterFormatError
 */
export function parseGgufHeader(params: {
  header: Uint8Array;
  fileBytes: number;
  limits: GgufLimits;
  path?: string | undefined;
}): GgufHeader | null {
  const { header, fileBytes, limits, path } = params;
  const refuse: Refuse = (code, message, subject) => {
    throw new AdapterFormatError({ code, message, path, subject });
  };
  if (fileBytes < PREFIX_BYTES)
    refuse('truncated_file', `The file has ${fileBytes} bytes: too short for GGUF.`);
  try {
    return parse(new GgufCursor(header, fileBytes, refuse), fileBytes, limits);
  } catch (error) {
    if (error === MORE_BYTES) return null;
    throw error;
  }
}
