/** GGUF's primitive reads: numbers, strings, metadata values. */
import { printable, type AdapterErrorCode } from '../errors.ts';

/** Arrays of arrays of arrays; no known key nests at all. */
const MAX_DEPTH = 3;

/** All numbers are below 2^53; larger ones are refused. */
export type GgufValue = number | boolean | string | readonly GgufValue[];

/** Thrown where the bytes at hand end and the file goes on. */
export const MORE_BYTES = Symbol('more bytes of the file are needed');

/** Throws the error of one file. */
export type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

/** Little-endian reads that never leave the bytes. */
export class GgufCursor {
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
      this.refuse('truncated_file', 'The file ends inside its header: it is cut off.');
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
      : this.refuse('header_invalid', `A count or value of ${value} is not plausible: the file is damaged.`);
  }

  /** @param maxBytes refused above; Infinity = as long as the file allows. */
  string(maxBytes: number): string {
    const length = this.u64();
    const at = this.advance(length);
    if (length > maxBytes)
      this.refuse('header_invalid', `A name has ${length} bytes, at most ${maxBytes} are allowed.`);
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
export class GgufValueReader {
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
        `"${printable(key)}" claims ${count} items, more than the file can hold: it is cut off or damaged.`,
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
