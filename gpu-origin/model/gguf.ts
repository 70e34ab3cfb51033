/**
 * GGUF reader: header, metadata and tensor table of a local file, tensors read on demand.
 * Format: ggml `docs/gguf.md`. Counts and lengths are checked against the file before anything is allocated,
 * because "count x size" overflows are what has broken other readers (CVE-2024-23605, CVE-2026-43629).
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { blockFormat, dequantize } from './dequantize.ts';
import { readFully } from './read-fully.ts';

/** Metadata and tensor table together; SmolLM2's is 1.6 MB, a 256k vocabulary with merges about 15 MB. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;
const MAX_TENSORS = 100_000;
const MAX_METADATA = 100_000;
const MAX_DIMENSIONS = 4;
/** "GGUF", little-endian. */
const MAGIC = 0x46554747;

export class GgufError extends Error {
  override readonly name = 'GgufError';
}

export interface GgufTensor {
  name: string;
  /** Outermost first, as PyTorch prints it (GGUF stores innermost first). */
  shape: number[];
  /** ggml_type. */
  type: number;
  /** Absolute position in the file, bytes. */
  offset: number;
  bytes: number;
}

export interface GgufFile {
  path: string;
  metadata: Map<string, unknown>;
  tensors: Map<string, GgufTensor>;
  /** @returns the tensor's values, dequantized to float32. */
  readTensor(name: string): Float32Array<ArrayBuffer>;
  close(): void;
}

class Cursor {
  private readonly view: DataView;
  position = 0;
  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  private advance(count: number): number {
    if (count > this.bytes.length - this.position) throw new GgufError('the file ends inside its header');
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
  u64(): number {
    const value = this.view.getBigUint64(this.advance(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new GgufError(`a count or offset of ${value} is not plausible`);
    return Number(value);
  }
  i64 = () => Number(this.view.getBigInt64(this.advance(8), true));
  string(): string {
    const length = this.u64();
    const at = this.advance(length);
    return new TextDecoder('utf-8').decode(this.bytes.subarray(at, at + length));
  }
  get remaining(): number {
    return this.bytes.length - this.position;
  }
}

const STRING = 8;
const ARRAY = 9;

function readValue(cursor: Cursor, type: number, depth = 0): unknown {
  switch (type) {
    case 0:
      return cursor.u8();
    case 1:
      return cursor.i8();
    case 2:
      return cursor.u16();
    case 3:
      return cursor.i16();
    case 4:
      return cursor.u32();
    case 5:
      return cursor.i32();
    case 6:
      return cursor.f32();
    case 7:
      return cursor.u8() !== 0;
    case STRING:
      return cursor.string();
    case ARRAY: {
      if (depth > 2) throw new GgufError('metadata arrays are nested too deeply');
      const itemType = cursor.u32();
      const count = cursor.u64();
      // Every item takes at least one byte, so a larger count cannot be true.
      if (count > cursor.remaining) throw new GgufError(`a metadata array claims ${count} items`);
      const items: unknown[] = [];
      for (let i = 0; i < count; i++) items.push(readValue(cursor, itemType, depth + 1));
      return items;
    }
    case 10:
      return cursor.u64();
    case 11:
      return cursor.i64();
    case 12:
      return cursor.f64();
    default:
      throw new GgufError(`metadata type ${type} is unknown`);
  }
}

/** @throws GgufError when the file is not GGUF version 2 or 3, is truncated, or uses a tensor type that is not supported. */
export function readGguf(path: string): GgufFile {
  const fd = openSync(path, 'r');
  try {
    const fileBytes = fstatSync(fd).size;
    return parse(path, fd, fileBytes);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function readHeader(fd: number, fileBytes: number, wanted: number): Uint8Array {
  const header = new Uint8Array(Math.min(wanted, fileBytes));
  if (!readFully(fd, header, 0)) throw new GgufError('the file became shorter while it was read');
  return header;
}

function parse(path: string, fd: number, fileBytes: number): GgufFile {
  if (fileBytes < 24) throw new GgufError(`${path} is too short for a GGUF file`);
  for (let wanted = 16 * 1024 * 1024; ; wanted *= 4) {
    const whole = wanted >= fileBytes || wanted >= MAX_HEADER_BYTES;
    try {
      return parseHeader(path, fd, fileBytes, readHeader(fd, fileBytes, Math.min(wanted, MAX_HEADER_BYTES)));
    } catch (error) {
      if (whole || !(error instanceof GgufError) || !error.message.startsWith('the file ends inside'))
        throw error;
    }
  }
}

function parseHeader(path: string, fd: number, fileBytes: number, header: Uint8Array): GgufFile {
  const cursor = new Cursor(header);
  if (cursor.u32() !== MAGIC)
    throw new GgufError(`${path} is not a GGUF file (its first four bytes are not "GGUF")`);
  const version = cursor.u32();
  if (version !== 2 && version !== 3)
    throw new GgufError(`GGUF version ${version} is not supported (2 and 3 are)`);
  const tensorCount = cursor.u64();
  const metadataCount = cursor.u64();
  if (tensorCount > MAX_TENSORS)
    throw new GgufError(`${tensorCount} tensors exceed the limit of ${MAX_TENSORS}`);
  if (metadataCount > MAX_METADATA)
    throw new GgufError(`${metadataCount} metadata entries exceed the limit of ${MAX_METADATA}`);

  const metadata = new Map<string, unknown>();
  for (let i = 0; i < metadataCount; i++) {
    const key = cursor.string();
    metadata.set(key, readValue(cursor, cursor.u32()));
  }
  const entries: Omit<GgufTensor, 'bytes'>[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.string();
    const dimensions = cursor.u32();
    if (dimensions > MAX_DIMENSIONS) throw new GgufError(`tensor ${name} has ${dimensions} dimensions`);
    const shape = Array.from({ length: dimensions }, () => cursor.u64()).reverse();
    entries.push({ name, shape, type: cursor.u32(), offset: cursor.u64() });
  }
  const alignment = Number(metadata.get('general.alignment') ?? 32);
  if (!Number.isInteger(alignment) || alignment < 1 || alignment > 65_536)
    throw new GgufError('general.alignment is not plausible');
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;

  const tensors = new Map<string, GgufTensor>();
  for (const entry of entries) {
    const format = blockFormat(entry.type);
    if (format === null)
      throw new GgufError(`tensor ${entry.name} has ggml type ${entry.type}, which is not supported`);
    const elements = entry.shape.reduce((product, size) => product * size, 1);
    if (!Number.isSafeInteger(elements) || elements % format.elements !== 0)
      throw new GgufError(`tensor ${entry.name} has an impossible shape [${entry.shape.join(', ')}]`);
    const bytes = (elements / format.elements) * format.bytes;
    const offset = dataStart + entry.offset;
    if (offset + bytes > fileBytes)
      throw new GgufError(`tensor ${entry.name} reaches beyond the end of the file: it is truncated`);
    if (tensors.has(entry.name)) throw new GgufError(`tensor ${entry.name} occurs twice`);
    tensors.set(entry.name, { ...entry, offset, bytes });
  }
  return {
    path,
    metadata,
    tensors,
    readTensor(name) {
      const tensor = tensors.get(name);
      if (tensor === undefined) throw new GgufError(`${path} has no tensor ${name}`);
      const raw = new Uint8Array(tensor.bytes);
      if (!readFully(fd, raw, tensor.offset))
        throw new GgufError('the file became shorter while it was read');
      return dequantize(tensor.type, raw);
    },
    close: () => closeSync(fd),
  };
}
