/** A GGUF file on disk, or one in parts: header, metadata and tensor table at once, tensors read on demand. */
import { closeSync, existsSync, fstatSync, openSync } from 'node:fs';
import {
  AdapterFormatError,
  GGUF_BASE_LIMITS,
  type GgufHeader,
  type GgufTensor,
  type GgufValue,
  parseGgufHeader,
} from '../../adapters/index.ts';
import { dequantize } from './dequantize.ts';
import { readFully } from './read-file.ts';

/** Read at first; SmolLM2's header is 1.8 MB, a 256k vocabulary with merges about 15 MB. */
const FIRST_READ = 16 * 1024 * 1024;
/** Metadata and tensor table together. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;

/** The message names the file. */
export class GgufError extends Error {
  override readonly name = 'GgufError';
}

export interface GgufFile {
  /** As it was given; the first of several parts. */
  readonly path: string;
  /** All parts, in order. */
  readonly parts: readonly string[];
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** @returns the tensor's values, dequantized to float32. */
  readTensor(name: string): Float32Array<ArrayBuffer>;
  close(): void;
}

/** As llama.cpp's `gguf-split` names parts. */
const PART = /-(\d{5})-of-(\d{5})\.gguf$/;

/** @returns the paths of all parts, of which `path` is the first; itself where the metadata knows of no others. */
function partsOf(path: string, metadata: ReadonlyMap<string, GgufValue>): string[] {
  const count = metadata.get('split.count');
  if (typeof count !== 'number' || count <= 1) return [path];
  const [, number, of] = PART.exec(path) ?? [];
  if (Number(of) !== count)
    throw new GgufError(
      `${path} is one of ${count} parts; their names must end in -00001-of-${String(count).padStart(5, '0')}.gguf and so on`,
    );
  const named = (index: number): string =>
    path.replace(PART, `-${String(index).padStart(5, '0')}-of-${of}.gguf`);
  if (Number(number) !== 1)
    throw new GgufError(`${path} is part ${Number(number)} of ${count}: give ${named(1)}`);
  const parts = Array.from({ length: count }, (_, index) => named(index + 1));
  const missing = parts.find((part) => !existsSync(part));
  if (missing !== undefined)
    throw new GgufError(`${path} is one of ${count} parts, and ${missing} is missing`);
  return parts;
}

/** @throws GgufError when a file is not GGUF version 2 or 3 or is damaged, or a part is missing. */
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
        if (tensors.has(name)) throw new GgufError(`${part.path}: tensor ${name} is in another part too`);
        tensors.set(name, tensor);
        places.set(name, part);
      }
    const expected = metadata.get('split.tensors.count');
    if (parts.length > 1 && typeof expected === 'number' && tensors.size !== expected)
      throw new GgufError(`${path} and its other parts have ${tensors.size} of ${expected} tensors`);
    return {
      path,
      parts,
      metadata,
      tensors,
      readTensor(name) {
        const [tensor, place] = [tensors.get(name), places.get(name)];
        if (tensor === undefined || place === undefined) throw new GgufError(`${path} has no tensor ${name}`);
        return dequantize(tensor.type, readExactly(place.path, place.fd, tensor.bytes, tensor.offset));
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
  if (!readFully(fd, data, position)) throw new GgufError(`${path} became shorter while it was read`);
  return data;
}
