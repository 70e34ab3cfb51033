/** A GGUF file on disk: header, metadata and tensor table at once, tensors read on demand. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import {
  AdapterFormatError,
  GGUF_BASE_LIMITS,
  type GgufHeader,
  type GgufTensor,
  type GgufValue,
  parseGgufHeader,
} from '../../adapters/index.ts';
import { blockFormat, dequantize } from './dequantize.ts';
import { readFully } from './read-fully.ts';

/** Read at first; SmolLM2's header is 1.8 MB, a 256k vocabulary with merges about 15 MB. */
const FIRST_READ = 16 * 1024 * 1024;
/** Metadata and tensor table together. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;

/** The message names the file. */
export class GgufError extends Error {
  override readonly name = 'GgufError';
}

export interface GgufFile {
  readonly path: string;
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** @returns the tensor's values, dequantized to float32. */
  readTensor(name: string): Float32Array<ArrayBuffer>;
  close(): void;
}

/** @throws GgufError when the file is not GGUF version 2 or 3, is damaged, or uses a tensor type that is not supported. */
export function readGguf(path: string): GgufFile {
  const fd = openSync(path, 'r');
  try {
    const { metadata, tensors } = readHeader(path, fd);
    for (const { name, type } of tensors.values())
      if (blockFormat(type) === null)
        throw new GgufError(`${path}: tensor ${name} has ggml type ${type}, which is not supported`);
    return {
      path,
      metadata,
      tensors,
      readTensor(name) {
        const tensor = tensors.get(name);
        if (tensor === undefined) throw new GgufError(`${path} has no tensor ${name}`);
        return dequantize(tensor.type, readExactly(path, fd, tensor.bytes, tensor.offset));
      },
      close: () => closeSync(fd),
    };
  } catch (error) {
    closeSync(fd);
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
