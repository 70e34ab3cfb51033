/**
 * A GGUF file on disk, or one in parts: header, metadata and tensor table at once, tensors read on demand; ggml's block
 * formats to float32 (layouts: ggml `src/ggml-common.h`).
 */
import { closeSync, existsSync, fstatSync, openSync } from 'node:fs';
import {
  AdapterFormatError,
  GGUF_BASE_LIMITS,
  type GgufHeader,
  type GgufTensor,
  type GgufValue,
  parseGgufHeader,
  GGML_TYPES,
  type GgmlType,
} from '../../adapters/index.ts';
import { readFully, readStrips } from './read-file.ts';

/** First read; SmolLM2's header is 1.8 MB, a 256k vocabulary with merges about 15 MB. */
const FIRST_READ = 16 * 1024 * 1024;
/** Metadata and tensor table together. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;

/** The message names the file. */
export class GgufError extends Error {
  override readonly name = 'GgufError';
}

export interface GgufFile {
  /** As given; the first of several parts. */
  readonly path: string;
  /** All parts, in order. */
  readonly parts: readonly string[];
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** @returns the tensor's values, dequantized to float32. */
  readTensor(name: string): Float32Array<ArrayBuffer>;
  /** Of a table, some columns of each row, which begin and end at blocks. @throws GgufError otherwise. */
  readColumns(name: string, columns: { from: number; count: number }): Float32Array<ArrayBuffer>;
  close(): void;
}

/** As llama.cpp's `gguf-split` names parts. */
const PART = /-(\d{5})-of-(\d{5})\.gguf$/;

/** @returns the paths of all parts, of which `path` is the first; only itself if the metadata names no others. */
function partsOf(path: string, metadata: ReadonlyMap<string, GgufValue>): string[] {
  const count = metadata.get('split.count');
  if (typeof count !== 'number' || count <= 1) return [path];
  const [, number, of] = PART.exec(path) ?? [];
  if (Number(of) !== count)
    throw new GgufError(
      `${path} is one of ${count} parts. Rename them so that they end in ` +
        `-00001-of-${String(count).padStart(5, '0')}.gguf and so on`,
    );
  const named = (index: number): string =>
    path.replace(PART, `-${String(index).padStart(5, '0')}-of-${of}.gguf`);
  if (Number(number) !== 1)
    throw new GgufError(`${path} is part ${Number(number)} of ${count}. Give ${named(1)}`);
  const parts = Array.from({ length: count }, (_, index) => named(index + 1));
  const missing = parts.find((part) => !existsSync(part));
  if (missing !== undefined)
    throw new GgufError(`${path} is one of ${count} parts, but ${missing} is missing`);
  return parts;
}

/** @throws GgufError when a file is not GGUF version 2 or 3 or is corrupted, or a part is missing. */
export function readGguf(path: string): GgufFile {
  const opened: { path: string; fd: number; header: GgufHeader }[] = [];
  const open = (part: string): GgufHeader => {
    const fd = openSync(part, 'r');
    try {
      const header = readHeader(part, fd);
      opened.push({ path: part, fd, header });
      return header;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
  const close = (): void => opened.forEach(({ fd }) => closeSync(fd));
  try {
    const { metadata } = open(path);
    const parts = partsOf(path, metadata);
    parts.slice(1).forEach(open);
    const tensors = new Map<string, GgufTensor>();
    const places = new Map<string, { path: string; fd: number }>();
    for (const part of opened)
      for (const [name, tensor] of part.header.tensors) {
        if (tensors.has(name)) throw new GgufError(`${part.path}: tensor ${name} occurs in two parts`);
        tensors.set(name, tensor);
        places.set(name, part);
      }
    const find = (name: string): { tensor: GgufTensor; place: { path: string; fd: number } } => {
      const [tensor, place] = [tensors.get(name), places.get(name)];
      if (tensor === undefined || place === undefined) throw new GgufError(`${path} has no tensor ${name}`);
      return { tensor, place };
    };
    const expected = metadata.get('split.tensors.count');
    if (parts.length > 1 && typeof expected === 'number' && tensors.size !== expected)
      throw new GgufError(`${path} and its other parts have ${tensors.size} of ${expected} tensors`);
    return {
      path,
      parts,
      metadata,
      tensors,
      readTensor(name) {
        const { tensor, place } = find(name);
        return dequantize(tensor.type, readExactly(place.path, place.fd, tensor.bytes, tensor.offset));
      },
      readColumns(name, { from, count }) {
        const { tensor, place } = find(name);
        const [rows, width] = tensor.shape as [number, number];
        const { elements, bytes } = blockFormat(tensor.type)!;
        if (from % elements !== 0 || count % elements !== 0)
          throw new GgufError(`${path}: ${name} has no blocks of its own for ${count} of ${width} columns`);
        const bytesOf = (values: number): number => (values / elements) * bytes;
        const table = { position: tensor.offset, rows, rowBytes: bytesOf(width) };
        const strips = readStrips(place.fd, table, { from: bytesOf(from), bytes: bytesOf(count) });
        return dequantize(tensor.type, strips ?? refuseTruncated(place.path));
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function readHeader(path: string, fd: number): GgufHeader {
  const fileBytes = fstatSync(fd).size;
  for (let wanted = FIRST_READ; wanted <= MAX_HEADER_BYTES; wanted *= 4) {
    const header = readExactly(path, fd, Math.min(wanted, fileBytes), 0);
    const parsed = parseHeader(path, header, fileBytes);
    if (parsed !== null) return parsed;
  }
  throw new GgufError(`${path}: its header has more than ${MAX_HEADER_BYTES} bytes`);
}

/** @returns null when more of the file is needed. */
function parseHeader(path: string, header: Uint8Array, fileBytes: number): GgufHeader | null {
  try {
    return parseGgufHeader({ header, fileBytes, limits: GGUF_BASE_LIMITS });
  } catch (error) {
    if (error instanceof AdapterFormatError) throw new GgufError(`${path}: ${error.message}`);
    throw error;
  }
}

function readExactly(path: string, fd: number, bytes: number, position: number): Uint8Array {
  const data = new Uint8Array(bytes);
  return readFully(fd, data, position) ? data : refuseTruncated(path);
}

function refuseTruncated(path: string): never {
  throw new GgufError(`${path} was truncated while it was being read`);
}

/** Types without blocks; {@link DECODE} has the others. */
const PLAIN: ReadonlySet<string> = new Set(['F32', 'F16', 'BF16']);

/** @returns names of the supported types. */
export const knownBlockFormats = (): string[] => [...PLAIN, ...Object.keys(DECODE)];

/** @returns null for a ggml type that is not supported. */
export function blockFormat(type: number): GgmlType | null {
  const format = GGML_TYPES.get(type);
  return format !== undefined && (PLAIN.has(format.name) || format.name in DECODE) ? format : null;
}

const scratch = new DataView(new ArrayBuffer(4));

/** IEEE binary16 bits to a number. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function bfloatToNumber(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

type Decode = (raw: Uint8Array, view: DataView, at: number, out: Float32Array, to: number) => void;

const half = (view: DataView, at: number): number => halfToNumber(view.getUint16(at, true));

/** Eight 6-bit scales and eight 6-bit minima in 12 bytes (`get_scale_min_k4` in ggml-quants.c). */
function scaleAndMin(raw: Uint8Array, scales: number, j: number): { scale: number; min: number } {
  const low = raw[scales + j]!;
  const high = raw[scales + j + 4]!;
  if (j < 4) return { scale: low & 63, min: high & 63 };
  return { scale: (high & 15) | ((raw[scales + j - 4]! >> 6) << 4), min: (high >> 4) | ((low >> 6) << 4) };
}

/** `kvalues_iq4nl` */
const IQ4_VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113] as const;

function iq4(raw: Uint8Array, at: number, scale: number, out: Float32Array, to: number): void {
  for (let i = 0; i < 16; i++) {
    out[to + i] = scale * IQ4_VALUES[raw[at + i]! & 15]!;
    out[to + 16 + i] = scale * IQ4_VALUES[raw[at + i]! >> 4]!;
  }
}

const DECODE: Record<string, Decode> = {
  Q4_0(raw, view, at, out, to) {
    const d = half(view, at);
    for (let i = 0; i < 16; i++) {
      const byte = raw[at + 2 + i]!;
      out[to + i] = ((byte & 15) - 8) * d;
      out[to + 16 + i] = ((byte >> 4) - 8) * d;
    }
  },
  Q4_1(raw, view, at, out, to) {
    const d = half(view, at);
    const min = half(view, at + 2);
    for (let i = 0; i < 16; i++) {
      const byte = raw[at + 4 + i]!;
      out[to + i] = (byte & 15) * d + min;
      out[to + 16 + i] = (byte >> 4) * d + min;
    }
  },
  Q5_0(raw, view, at, out, to) {
    const d = half(view, at);
    const high = view.getUint32(at + 2, true);
    for (let i = 0; i < 16; i++) {
      const byte = raw[at + 6 + i]!;
      out[to + i] = (((byte & 15) | (((high >>> i) & 1) << 4)) - 16) * d;
      out[to + 16 + i] = (((byte >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16) * d;
    }
  },
  Q5_1(raw, view, at, out, to) {
    const d = half(view, at);
    const min = half(view, at + 2);
    const high = view.getUint32(at + 4, true);
    for (let i = 0; i < 16; i++) {
      const byte = raw[at + 8 + i]!;
      out[to + i] = ((byte & 15) | (((high >>> i) & 1) << 4)) * d + min;
      out[to + 16 + i] = ((byte >> 4) | (((high >>> (i + 16)) & 1) << 4)) * d + min;
    }
  },
  Q8_0(_raw, view, at, out, to) {
    const d = half(view, at);
    for (let i = 0; i < 32; i++) out[to + i] = view.getInt8(at + 2 + i) * d;
  },
  Q2_K(raw, view, at, out, to) {
    const d = half(view, at + 80);
    const dmin = half(view, at + 82);
    for (let group = 0; group < 16; group++) {
      const scales = raw[at + group]!;
      const shift = 2 * ((group >> 1) & 3);
      const values = at + 16 + (group >> 3) * 32 + (group & 1) * 16;
      for (let i = 0; i < 16; i++)
        out[to + group * 16 + i] =
          d * (scales & 15) * ((raw[values + i]! >> shift) & 3) - dmin * (scales >> 4);
    }
  },
  Q3_K(raw, view, at, out, to) {
    const d = half(view, at + 108);
    const scales = at + 96;
    for (let group = 0; group < 16; group++) {
      // Sixteen 6-bit scales: eight bytes of low halves, four of high pairs of bits.
      const low = (raw[scales + (group & 7)]! >> (group < 8 ? 0 : 4)) & 15;
      const scale = (low | (((raw[scales + 8 + (group & 3)]! >> (2 * (group >> 2))) & 3) << 4)) - 32;
      const shift = 2 * ((group >> 1) & 3);
      const bit = 1 << (group >> 1);
      const values = at + 32 + (group >> 3) * 32 + (group & 1) * 16;
      const high = at + (group & 1) * 16;
      for (let i = 0; i < 16; i++)
        out[to + group * 16 + i] =
          d * scale * (((raw[values + i]! >> shift) & 3) - (raw[high + i]! & bit ? 0 : 4));
    }
  },
  Q4_K(raw, view, at, out, to) {
    const d = half(view, at);
    const dmin = half(view, at + 2);
    for (let j = 0; j < 8; j++) {
      const { scale, min } = scaleAndMin(raw, at + 4, j);
      const values = at + 16 + (j >> 1) * 32;
      const shift = j & 1 ? 4 : 0;
      for (let i = 0; i < 32; i++)
        out[to + j * 32 + i] = d * scale * ((raw[values + i]! >> shift) & 15) - dmin * min;
    }
  },
  Q5_K(raw, view, at, out, to) {
    const d = half(view, at);
    const dmin = half(view, at + 2);
    for (let j = 0; j < 8; j++) {
      const { scale, min } = scaleAndMin(raw, at + 4, j);
      const values = at + 48 + (j >> 1) * 32;
      const shift = j & 1 ? 4 : 0;
      for (let i = 0; i < 32; i++) {
        const high = (raw[at + 16 + i]! >> j) & 1;
        out[to + j * 32 + i] = d * scale * (((raw[values + i]! >> shift) & 15) | (high << 4)) - dmin * min;
      }
    }
  },
  Q6_K(raw, view, at, out, to) {
    const d = half(view, at + 208);
    for (let n = 0; n < 2; n++) {
      const low = at + n * 64;
      const high = at + 128 + n * 32;
      const scales = at + 192 + n * 8;
      for (let i = 0; i < 32; i++) {
        const s = i >> 4;
        const bits = raw[high + i]!;
        const a = raw[low + i]!;
        const b = raw[low + 32 + i]!;
        const base = to + n * 128 + i;
        out[base] = d * view.getInt8(scales + s) * (((a & 15) | ((bits & 3) << 4)) - 32);
        out[base + 32] = d * view.getInt8(scales + s + 2) * (((b & 15) | (((bits >> 2) & 3) << 4)) - 32);
        out[base + 64] = d * view.getInt8(scales + s + 4) * (((a >> 4) | (((bits >> 4) & 3) << 4)) - 32);
        out[base + 96] = d * view.getInt8(scales + s + 6) * (((b >> 4) | ((bits >> 6) << 4)) - 32);
      }
    }
  },
  IQ4_NL(raw, view, at, out, to) {
    iq4(raw, at + 2, half(view, at), out, to);
  },
  IQ4_XS(raw, view, at, out, to) {
    const d = half(view, at);
    const high = view.getUint16(at + 2, true);
    for (let j = 0; j < 8; j++) {
      const low = (raw[at + 4 + (j >> 1)]! >> (4 * (j & 1))) & 15;
      const scale = (low | (((high >> (2 * j)) & 3) << 4)) - 32;
      iq4(raw, at + 8 + j * 16, d * scale, out, to + j * 32);
    }
  },
};

/**
 * @param type ggml_type, one that `blockFormat` knows.
 * @param raw whole blocks, little-endian.
 */
export function dequantize(type: number, raw: Uint8Array): Float32Array<ArrayBuffer> {
  const format = blockFormat(type);
  if (format === null) throw new Error(`ggml type ${type} is not supported`);
  const blocks = raw.length / format.bytes;
  const out = new Float32Array(blocks * format.elements);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  if (format.name === 'F32') for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(i * 4, true);
  else if (format.name === 'F16')
    for (let i = 0; i < out.length; i++) out[i] = halfToNumber(view.getUint16(i * 2, true));
  else if (format.name === 'BF16')
    for (let i = 0; i < out.length; i++) out[i] = bfloatToNumber(view.getUint16(i * 2, true));
  else {
    const decode = DECODE[format.name] as Decode;
    for (let block = 0; block < blocks; block++)
      decode(raw, view, block * format.bytes, out, block * format.elements);
  }
  return out;
}
