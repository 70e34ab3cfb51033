/**
 * GGUF, versions 2 and 3: header, metadata, tensor table, then the tensors' bytes (ggml `docs/gguf.md`). Counts
 * and lengths are checked against the file before anything is allocated, because "count x size" overflows have
 * broken other readers (CVE-2024-23605, CVE-2026-43629). As strict as llama.cpp's own reader (`gguf.cpp`): no
 * key or name twice, tensors follow each other in the table's order with nothing but padding between. Version 3
 * is written.
 */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';

/** Arrays of arrays of arrays; no known key nests at all. */
const MAX_DEPTH = 3;

/** All numbers are below 2^53; larger ones are refused. */
export type GgufValue = number | boolean | string | readonly GgufValue[];

/** Thrown when the available bytes end before the file. */
const MORE_BYTES = Symbol('more of the file is needed');

/** Throws an error for one file. */
type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

/** Little-endian reads that never leave the bytes. */
class GgufCursor {
  private readonly view: DataView;
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  position = 0;
  constructor(
    private readonly bytes: Uint8Array,
    private readonly fileBytes: number,
    readonly refuse: Refuse,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  private advance(count: number): number {
    if (count > this.fileBytes - this.position)
      this.refuse('truncated_file', 'The file ends inside its header: it is truncated.');
    if (count > this.bytes.length - this.position) throw MORE_BYTES;
    const at = this.position;
    this.position += count;
    return at;
  }
  u8 = () => this.view.getUint8(this.advance(1));
  i8 = () => this.view.getInt8(this.advance(1));
  u16 = () => this.view.getUint16(this.advance(2), true);
  i16 = () => this.view.getInt16(this.advance(2), true);
  u32 = () => this.view.getUint32(this.advance(4), true);
  i32 = () => this.view.getInt32(this.advance(4), true);
  f32 = () => this.view.getFloat32(this.advance(4), true);
  f64 = () => this.view.getFloat64(this.advance(8), true);
  u64 = () => this.exact(this.view.getBigUint64(this.advance(8), true));
  i64 = () => this.exact(this.view.getBigInt64(this.advance(8), true));
  private exact(value: bigint): number {
    const number = Number(value);
    return Number.isSafeInteger(number)
      ? number
      : this.refuse(
          'header_invalid',
          `A count or value of ${value} is not plausible: the file is corrupted.`,
        );
  }

  /** @param maxBytes limit; Infinity = only the file's size. */
  string(maxBytes: number): string {
    const length = this.u64();
    const at = this.advance(length);
    if (length > maxBytes)
      this.refuse('header_invalid', `A name has ${length} bytes; at most ${maxBytes} are allowed.`);
    try {
      return this.decoder.decode(this.bytes.subarray(at, at + length));
    } catch {
      return this.refuse('header_invalid', 'A text in the header is not UTF-8.');
    }
  }
  /** Whether `count` items of at least `bytes` each can follow in the file. */
  holds = (count: number, bytes: number): boolean => count <= (this.fileBytes - this.position) / bytes;
}

const STRING = 8;
const ARRAY = 9;
/** Reader of each value type that has a fixed size, and that size in bytes. */
const SCALARS: ReadonlyMap<number, readonly [read: (cursor: GgufCursor) => number | boolean, bytes: number]> =
  new Map([
    [0, [(cursor: GgufCursor) => cursor.u8(), 1]],
    [1, [(cursor: GgufCursor) => cursor.i8(), 1]],
    [2, [(cursor: GgufCursor) => cursor.u16(), 2]],
    [3, [(cursor: GgufCursor) => cursor.i16(), 2]],
    [4, [(cursor: GgufCursor) => cursor.u32(), 4]],
    [5, [(cursor: GgufCursor) => cursor.i32(), 4]],
    [6, [(cursor: GgufCursor) => cursor.f32(), 4]],
    [7, [(cursor: GgufCursor) => cursor.u8() !== 0, 1]],
    [10, [(cursor: GgufCursor) => cursor.u64(), 8]],
    [11, [(cursor: GgufCursor) => cursor.i64(), 8]],
    [12, [(cursor: GgufCursor) => cursor.f64(), 8]],
  ] as const);
/** Shortest string: its length. Shortest array: its item type and count. */
const smallest = (type: number): number =>
  type === STRING ? 8 : type === ARRAY ? 12 : (SCALARS.get(type)?.[1] ?? 1);

/** Reads values and counts them down from the limit. */
class GgufValueReader {
  constructor(
    private readonly cursor: GgufCursor,
    private left: number,
  ) {}

  read(key: string, type: number, depth = 0): GgufValue {
    if (type === STRING) return this.cursor.string(Infinity);
    if (type === ARRAY) return this.array(key, depth);
    const scalar = SCALARS.get(type);
    if (scalar === undefined)
      return this.cursor.refuse('metadata_invalid', `"${printable(key)}" has the unknown type ${type}.`, key);
    return scalar[0](this.cursor);
  }

  private array(key: string, depth: number): GgufValue[] {
    if (depth >= MAX_DEPTH)
      return this.cursor.refuse(
        'metadata_invalid',
        `"${printable(key)}": arrays are nested too deeply.`,
        key,
      );
    const type = this.cursor.u32();
    const count = this.cursor.u64();
    if (!this.cursor.holds(count, smallest(type)))
      return this.cursor.refuse(
        'truncated_file',
        `"${printable(key)}" claims ${count} items, more than the file can contain: it is truncated or ` +
          'corrupted.',
        key,
      );
    this.left -= count;
    if (this.left < 0)
      return this.cursor.refuse(
        'header_too_large',
        `"${printable(key)}": the metadata's arrays exceed the limit.`,
        key,
      );
    const items: GgufValue[] = [];
    for (let i = 0; i < count; i++) items.push(this.read(key, type, depth + 1));
    return items;
  }
}

/** ggml's tensor types: id -> name, elements and bytes of a block (gguf-py `constants.py`, `GGML_QUANT_SIZES`). */
export interface GgmlType {
  readonly name: string;
  /** Elements in a block; a tensor's innermost size is a multiple of it. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

const type = (id: number, name: string, elements: number, bytes: number): [number, GgmlType] => [
  id,
  { name, elements, bytes },
];

export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  type(0, 'F32', 1, 4),
  type(1, 'F16', 1, 2),
  type(2, 'Q4_0', 32, 18),
  type(3, 'Q4_1', 32, 20),
  type(6, 'Q5_0', 32, 22),
  type(7, 'Q5_1', 32, 24),
  type(8, 'Q8_0', 32, 34),
  type(9, 'Q8_1', 32, 36),
  type(10, 'Q2_K', 256, 84),
  type(11, 'Q3_K', 256, 110),
  type(12, 'Q4_K', 256, 144),
  type(13, 'Q5_K', 256, 176),
  type(14, 'Q6_K', 256, 210),
  type(15, 'Q8_K', 256, 292),
  type(16, 'IQ2_XXS', 256, 66),
  type(17, 'IQ2_XS', 256, 74),
  type(18, 'IQ3_XXS', 256, 98),
  type(19, 'IQ1_S', 256, 50),
  type(20, 'IQ4_NL', 32, 18),
  type(21, 'IQ3_S', 256, 110),
  type(22, 'IQ2_S', 256, 82),
  type(23, 'IQ4_XS', 256, 136),
  type(24, 'I8', 1, 1),
  type(25, 'I16', 1, 2),
  type(26, 'I32', 1, 4),
  type(27, 'I64', 1, 8),
  type(28, 'F64', 1, 8),
  type(29, 'IQ1_M', 256, 56),
  type(30, 'BF16', 1, 2),
  type(34, 'TQ1_0', 256, 54),
  type(35, 'TQ2_0', 256, 66),
  type(39, 'MXFP4', 32, 17),
  type(40, 'NVFP4', 64, 36),
  type(41, 'Q1_0', 128, 18),
  type(42, 'Q2_0', 64, 18),
]);

/** "GGUF", little-endian. */
export const GGUF_MAGIC = 0x46554747;
export const DEFAULT_ALIGNMENT = 32;
/** Magic, version and the two counts. */
const PREFIX_BYTES = 24;
const MAX_DIMENSIONS = 4;
/** The format's own limit for keys; names of tensors are shorter still. */
const MAX_NAME_BYTES = 65_535;
const MAX_ALIGNMENT = 65_536;

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
  /** End of the last tensor's padding, bytes; the file may end before it, but not before the tensor does. */
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
      `${shown} has ${dimensions} dimensions; at most ${MAX_DIMENSIONS} are allowed.`,
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
      refuse('shape_invalid', `${shown} has too many elements to count.`, name);
  }
  if ((shape.at(-1) ?? 1) % format.elements !== 0)
    refuse(
      'shape_invalid',
      `${shown}: rows of [${shape.join(', ')}] are not whole ${format.name} blocks of ${format.elements}.`,
      name,
    );
  const bytes = (elements / format.elements) * format.bytes;
  if (!Number.isSafeInteger(bytes)) refuse('shape_invalid', `${shown} has too many bytes to count.`, name);
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

/** @param start of the first tensor, bytes. */
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
        `${shown} begins at ${tensor.offset}, but ${at - start} was expected: tensors must follow each ` +
          `other, aligned to ${alignment} bytes, without gaps or overlap.`,
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

/** A format that is written, and read by llama.cpp. */
const VERSION = 3;
/** gguf_metadata_value_type */
const VALUE_TYPES = { u32: 4, f32: 6, string: 8, u32s: ARRAY } as const;

export type GgufField =
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'u32s'; readonly value: readonly number[] };

export interface GgufTensorData {
  readonly name: string;
  /** Outermost first; stored innermost first. */
  readonly shape: readonly number[];
  /** ggml_type */
  readonly type: number;
  readonly data: Uint8Array;
}

/** Little-endian fields, one after the other. */
class FieldWriter {
  private readonly parts: Uint8Array[] = [];
  length = 0;
  push(bytes: Uint8Array): void {
    this.parts.push(bytes);
    this.length += bytes.byteLength;
  }
  private number(bytes: 4 | 8, set: (view: DataView) => void): void {
    const part = new Uint8Array(bytes);
    set(new DataView(part.buffer));
    this.push(part);
  }
  u32 = (value: number): void => this.number(4, (view) => view.setUint32(0, value, true));
  f32 = (value: number): void => this.number(4, (view) => view.setFloat32(0, value, true));
  u64 = (value: number): void => this.number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.byteLength);
    this.push(bytes);
  }
  u32s(values: readonly number[]): void {
    this.u32(VALUE_TYPES.u32);
    this.u64(values.length);
    for (const value of values) this.u32(value);
  }
  pad(alignment: number): void {
    this.push(new Uint8Array((alignment - (this.length % alignment)) % alignment));
  }
  concat(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.parts) {
      out.set(part, at);
      at += part.byteLength;
    }
    return out;
  }
}

/** Metadata and tensors in the order given; each tensor is padded to 32 bytes, the last one too. */
export function writeGguf(params: {
  metadata: ReadonlyMap<string, GgufField>;
  tensors: readonly GgufTensorData[];
}): Uint8Array<ArrayBuffer> {
  const out = new FieldWriter();
  out.u32(GGUF_MAGIC);
  out.u32(VERSION);
  out.u64(params.tensors.length);
  out.u64(params.metadata.size);
  for (const [key, field] of params.metadata) {
    out.string(key);
    out.u32(VALUE_TYPES[field.type]);
    if (field.type === 'string') out.string(field.value);
    else if (field.type === 'u32s') out.u32s(field.value);
    else out[field.type](field.value);
  }
  let offset = 0;
  for (const { name, shape, type, data } of params.tensors) {
    out.string(name);
    out.u32(shape.length);
    for (const size of shape.toReversed()) out.u64(size);
    out.u32(type);
    out.u64(offset);
    offset += Math.ceil(data.byteLength / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT;
  }
  out.pad(DEFAULT_ALIGNMENT);
  for (const { data } of params.tensors) {
    out.push(data);
    out.pad(DEFAULT_ALIGNMENT);
  }
  return out.concat();
}
