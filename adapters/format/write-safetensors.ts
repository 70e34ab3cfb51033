/** safetensors as they are written here: sorted, without spaces, the tensors' bytes from a multiple of 8 on. */
import type { Dtype, Tensor } from './dtype.ts';
import { PREFIX_BYTES } from './safetensors.ts';

/** A tensor that is made only where it will lie in the file, so that it is never in memory twice. */
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
