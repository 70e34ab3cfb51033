/**
 * safetensors: u64 little-endian N, N bytes of JSON, then the tensors' bytes. Stricter than the reference
 * parser where no valid file is affected: the header begins with `{` (as the format's own description says), no
 * key twice, no unknown field. Checked in the order caps, offsets, values. Written sorted, without spaces, the
 * tensors' bytes from a multiple of 8 on.
 */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import { DTYPE_BITS, type Dtype, type Tensor } from './dtype.ts';
import { parseStrictJson, StrictJsonError, type JsonObject, type JsonValue } from './strict-json.ts';

/** Header of a safetensors file. */
// The format allows 100,000,000 bytes; at about 132 bytes a tensor this is far above any model.
export const MAX_HEADER_BYTES = 16 * 1024 * 1024;
/** More than any checkpoint shard has. */
export const MAX_TENSORS = 100_000;
/** Tensors of an adapter. */
// 126 layers with seven linears have 1,764. Parsing this many takes a few megabytes, which an edge isolate can spare.
export const MAX_ADAPTER_TENSORS = 16_384;
/** JSON values per tensor: its entry, dtype, shape, offsets and their numbers are eight for a matrix. */
const VALUES_PER_TENSOR = 16;
/** Dimensions of one tensor; models use at most five. */
const MAX_DIMENSIONS = 8;
/** The length field in front of the header. */
export const PREFIX_BYTES = 8;

export interface SafetensorsFile {
  readonly metadata: Map<string, string>;
  /** In the order of their bytes. */
  readonly tensors: Map<string, Tensor>;
}

/** A tensor's place; offsets in bytes from the header's end. */
export interface TensorEntry {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: Map<string, string>;
  /** In the order of their bytes. */
  readonly tensors: Map<string, TensorEntry>;
}

/** Throws an error for one file. */
type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

const CHECK = 'Check that the file is safetensors.';
const SAVE_AGAIN = 'Save it again with the safetensors library.';
/** The remedy by code, appended to the error. */
const REMEDY: ReadonlyMap<AdapterErrorCode, string> = new Map([
  ['truncated_file', 'Copy or download it again.'],
  ['header_too_large', CHECK],
  ['header_invalid', CHECK],
  ['too_many_tensors', 'Save the adapter alone, without the base.'],
]);

const refuser =
  (path: string | undefined): Refuse =>
  (code, message, subject) => {
    const remedy = REMEDY.get(code) ?? SAVE_AGAIN;
    throw new AdapterFormatError({ code, message: `${message} ${remedy}`, path, subject });
  };

const isCount = (value: JsonValue | undefined): value is number => Number.isSafeInteger(value);

/** @returns the product of the dimensions; refuses products that a double cannot represent exactly. */
function elementCount(shape: readonly number[], name: string, refuse: Refuse): number {
  let count = 1;
  for (const dimension of shape) {
    count *= dimension;
    if (!Number.isSafeInteger(count))
      refuse('shape_invalid', `Tensor "${printable(name)}" has too many elements to count.`, name);
  }
  return count;
}

function parseEntry(name: string, value: JsonValue, refuse: Refuse): TensorEntry {
  const shown = `Tensor "${printable(name)}"`;
  if (!(value instanceof Map) || value.size !== 3)
    return refuse('tensor_invalid', `${shown} must have exactly dtype, shape and data_offsets.`, name);
  const dtype = value.get('dtype');
  const shape = value.get('shape');
  const offsets = value.get('data_offsets');
  const bits = typeof dtype === 'string' ? DTYPE_BITS.get(dtype) : undefined;
  if (typeof dtype !== 'string')
    return refuse('tensor_invalid', `${shown} must have a string as dtype.`, name);
  if (bits === undefined)
    return refuse('dtype_unknown', `${shown} has the unknown dtype "${printable(dtype)}".`, name);
  if (!Array.isArray(shape) || !shape.every(isCount) || shape.length > MAX_DIMENSIONS)
    return refuse(
      'shape_invalid',
      `${shown} must have a shape of at most ${MAX_DIMENSIONS} sizes below 2^53.`,
      name,
    );
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    return refuse('offsets_invalid', `${shown} must have two data_offsets below 2^53.`, name);
  const [begin, end] = offsets as [number, number];
  if (begin > end)
    return refuse('offsets_invalid', `${shown} ends (${end}) before it begins (${begin}).`, name);
  const size = elementCount(shape, name, refuse) * bits;
  if (!Number.isSafeInteger(size) || size % 8 !== 0 || size / 8 !== end - begin)
    return refuse(
      'size_mismatch',
      `${shown}: ${dtype} [${shape.join(', ')}] needs ${size / 8} bytes, but its offsets span ` +
        `${end - begin}.`,
      name,
    );
  return { dtype: dtype as Dtype, shape, begin, end };
}

/** MLX writes `null` for missing metadata (`mx.save_safetensors`). */
function parseMetadata(value: JsonValue | undefined, refuse: Refuse): Map<string, string> {
  if (value === undefined || value === null) return new Map();
  if (!(value instanceof Map))
    return refuse('metadata_invalid', '__metadata__ must be an object of strings.');
  for (const [key, text] of value)
    if (typeof text !== 'string')
      refuse('metadata_invalid', `__metadata__ "${printable(key)}" is not a string.`, key);
  return value as Map<string, string>;
}

function parseHeaderJson(header: Uint8Array, maxTensors: number, refuse: Refuse): JsonObject {
  if (header[0] !== 0x7b) return refuse('header_invalid', 'The header does not begin with "{".');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
  } catch {
    return refuse('header_invalid', 'The header is not UTF-8.');
  }
  try {
    return parseStrictJson(text, {
      unsignedOnly: true,
      maxValues: maxTensors * VALUES_PER_TENSOR,
    }) as JsonObject;
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    if (error.kind === 'duplicate_key')
      return refuse(
        'duplicate_key',
        `"${printable(error.key ?? '')}" occurs twice in the header.`,
        error.key,
      );
    return refuse(
      error.kind === 'too_many_values' ? 'too_many_tensors' : 'header_invalid',
      `The header is ${error.message}.`,
    );
  }
}

/**
 * @param params.header the N bytes of JSON.
 * @param params.dataBytes bytes that follow it; the tensors must fill them exactly, without gaps or overlap.
 * @throws AdapterFormatError
 */
export function parseSafetensorsHeader(params: {
  header: Uint8Array;
  dataBytes: number;
  path?: string;
  maxTensors?: number;
}): SafetensorsHeader {
  const refuse = refuser(params.path);
  const maxTensors = params.maxTensors ?? MAX_TENSORS;
  if (params.header.byteLength > MAX_HEADER_BYTES)
    refuse(
      'header_too_large',
      `The header has ${params.header.byteLength} bytes; at most ${MAX_HEADER_BYTES} are allowed.`,
    );
  const json = parseHeaderJson(params.header, maxTensors, refuse);
  const metadata = parseMetadata(json.get('__metadata__'), refuse);
  json.delete('__metadata__');
  if (json.size > maxTensors)
    refuse('too_many_tensors', `The file has ${json.size} tensors; at most ${maxTensors} are allowed.`);

  const entries: [string, TensorEntry][] = [];
  for (const [name, value] of json) entries.push([name, parseEntry(name, value, refuse)]);
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, entry] of entries) {
    if (entry.begin !== at)
      refuse(
        'offsets_invalid',
        `Tensor "${printable(name)}" begins at ${entry.begin}, but the one before it ends at ${at}: ` +
          'tensors must follow each other without gaps or overlap.',
        name,
      );
    at = entry.end;
  }
  if (at > params.dataBytes)
    refuse(
      'truncated_file',
      `The tensors need ${at} bytes, but the file has ${params.dataBytes}: it is truncated.`,
    );
  if (at < params.dataBytes)
    refuse('trailing_bytes', `${params.dataBytes - at} unexplained bytes follow the last tensor.`);
  return { metadata, tensors: new Map(entries) };
}

/**
 * @returns N, the length of the header, bytes. @throws AdapterFormatError when the first 8 bytes are not a
 * valid length.
 */
export function readHeaderLength(bytes: Uint8Array, path?: string): number {
  const refuse = refuser(path);
  if (bytes.byteLength < PREFIX_BYTES)
    return refuse('truncated_file', `The file has ${bytes.byteLength} bytes: too short for safetensors.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREFIX_BYTES);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER_BYTES)
    return refuse(
      'header_too_large',
      `The header would have ${length} bytes; at most ${MAX_HEADER_BYTES} are allowed.`,
    );
  if (length < 2) return refuse('header_invalid', `A header of ${length} bytes cannot be JSON.`);
  return length;
}

/**
 * Reads a whole file. Nothing is copied: the tensors' `data` are views into `bytes`.
 * @throws AdapterFormatError
 */
export function parseSafetensors(
  bytes: Uint8Array,
  options: { path?: string; maxTensors?: number } = {},
): SafetensorsFile {
  const length = readHeaderLength(bytes, options.path);
  const start = PREFIX_BYTES + length;
  if (start > bytes.byteLength)
    return refuser(options.path)(
      'truncated_file',
      `The header needs ${start} bytes, but the file has ${bytes.byteLength}: it is truncated.`,
    );
  const { metadata, tensors } = parseSafetensorsHeader({
    header: bytes.subarray(PREFIX_BYTES, start),
    dataBytes: bytes.byteLength - start,
    ...options,
  });
  const read = new Map<string, Tensor>();
  for (const [name, { dtype, shape, begin, end }] of tensors)
    read.set(name, { dtype, shape, data: bytes.subarray(start + begin, start + end) });
  return { metadata, tensors: read };
}

/** A tensor that is built in its final place in the file, so that it is never in memory twice. */
export interface TensorToMake {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Fills `target`, `byteLength` zeros at any alignment. */
  readonly make: (target: Uint8Array) => void;
}
type TensorsToWrite = ReadonlyMap<string, Tensor | TensorToMake>;

const sizeOf = (tensor: Tensor | TensorToMake): number =>
  'data' in tensor ? tensor.data.byteLength : tensor.byteLength;

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number =>
  a < b ? -1 : a > b ? 1 : 0;

/**
 * The 8 length bytes and the header that {@link writeSafetensors} writes: metadata and tensors sorted by name (UTF-16
 * units), no spaces but those at the end that make the length a multiple of 8.
 */
export function encodeSafetensorsPrefix(params: {
  metadata?: ReadonlyMap<string, string>;
  tensors: TensorsToWrite;
}): Uint8Array<ArrayBuffer> {
  const parts: string[] = [];
  const metadata = [...(params.metadata ?? [])].sort(byName);
  if (metadata.length > 0)
    parts.push(
      `"__metadata__":{${metadata.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`).join(',')}}`,
    );
  let at = 0;
  for (const [name, tensor] of [...params.tensors].sort(byName)) {
    const { dtype, shape } = tensor;
    const end = at + sizeOf(tensor);
    parts.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${at},${end}]}`,
    );
    at = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const prefix = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(length), true);
  prefix.set(json, PREFIX_BYTES);
  return prefix;
}

/** Deterministic: the same tensors and metadata give the same bytes, in whatever order the maps hold them. */
export function writeSafetensors(params: {
  metadata?: ReadonlyMap<string, string>;
  tensors: TensorsToWrite;
}): Uint8Array<ArrayBuffer> {
  const prefix = encodeSafetensorsPrefix(params);
  let size = prefix.byteLength;
  for (const tensor of params.tensors.values()) size += sizeOf(tensor);
  const file = new Uint8Array(size);
  file.set(prefix);
  let at = prefix.byteLength;
  for (const [, tensor] of [...params.tensors].sort(byName)) {
    const end = at + sizeOf(tensor);
    if ('data' in tensor) file.set(tensor.data, at);
    else tensor.make(file.subarray(at, end));
    at = end;
  }
  return file;
}
