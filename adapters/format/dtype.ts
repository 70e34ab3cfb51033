/** Element types of safetensors, and their conversion to float32. Little-endian, as the format and every host here. */
import { AdapterFormatError } from '../errors.ts';

export type Dtype =
  | 'BOOL'
  | 'F4'
  | 'F6_E2M3'
  | 'F6_E3M2'
  | 'U8'
  | 'I8'
  | 'F8_E5M2'
  | 'F8_E4M3'
  | 'F8_E8M0'
  | 'F8_E4M3FNUZ'
  | 'F8_E5M2FNUZ'
  | 'I16'
  | 'U16'
  | 'F16'
  | 'BF16'
  | 'I32'
  | 'U32'
  | 'F32'
  | 'C64'
  | 'F64'
  | 'I64'
  | 'U64';

/** Bits of one element. */
export const DTYPE_BITS: ReadonlyMap<string, number> = new Map<Dtype, number>([
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['BOOL', 8],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
]);

export interface Tensor {
  readonly dtype: Dtype;
  /** Row-major. */
  readonly shape: readonly number[];
  /** Raw little-endian elements; a view into the file, at any alignment. */
  readonly data: Uint8Array;
}

interface TypedArrayOf<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
}

/**
 * Little-endian elements, at any alignment.
 * @param data a whole number of elements.
 * @returns a view of them; a copy if JavaScript allows no view. Read-only.
 */
export function elementsOf<T>(data: Uint8Array, type: TypedArrayOf<T>): T {
  const width = type.BYTES_PER_ELEMENT;
  // Not `slice`: for Node's Buffer that is a view at the same place.
  const { buffer, byteOffset } = data.byteOffset % width === 0 ? data : new Uint8Array(data);
  return new type(buffer, byteOffset, data.byteLength / width);
}

/** Float32 bits of each of the 65,536 float16 values; a table look-up is several times faster than the arithmetic. */
let halfTable: Uint32Array | undefined;
function halfToFloatBits(): Uint32Array {
  if (halfTable) return halfTable;
  const table = new Uint32Array(65_536);
  for (let half = 0; half < 65_536; half++) {
    const sign = (half & 0x8000) << 16;
    let exponent = (half >> 10) & 0x1f;
    let fraction = half & 0x3ff;
    let bits = 0;
    if (exponent === 0x1f) bits = 0x7f800000 | (fraction << 13);
    else if (exponent > 0) bits = ((exponent + 112) << 23) | (fraction << 13);
    else if (fraction > 0) {
      // A subnormal half is a normal float: shift until the leading one is where the hidden bit belongs.
      exponent = 113;
      while ((fraction & 0x400) === 0) {
        fraction <<= 1;
        exponent--;
      }
      bits = (exponent << 23) | ((fraction & 0x3ff) << 13);
    }
    table[half] = (sign | bits) >>> 0;
  }
  halfTable = table;
  return table;
}

/**
 * The tensor's elements as float32, in order, written to `out`. float64 is rounded.
 * @param out has as many elements as the tensor.
 * @throws AdapterFormatError `dtype_unsupported` for anything but F32, F16, BF16 and F64.
 */
export function readFloat32({ dtype, data }: Pick<Tensor, 'dtype' | 'data'>, out: Float32Array): void {
  const bits = () => new Uint32Array(out.buffer, out.byteOffset, out.length);
  switch (dtype) {
    case 'F32':
      new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(data);
      return;
    case 'BF16': {
      const [source, to] = [elementsOf(data, Uint16Array), bits()];
      for (let i = 0; i < source.length; i++) to[i] = (source[i] as number) << 16;
      return;
    }
    case 'F16': {
      const [source, to, table] = [elementsOf(data, Uint16Array), bits(), halfToFloatBits()];
      for (let i = 0; i < source.length; i++) to[i] = table[source[i] as number] as number;
      return;
    }
    case 'F64':
      out.set(elementsOf(data, Float64Array));
      return;
    default:
      throw new AdapterFormatError({
        code: 'dtype_unsupported',
        message: `A tensor of type ${dtype} cannot be used. Save it as F32, F16 or BF16.`,
      });
  }
}

/**
 * @returns a new array, row-major; never shares memory with the tensor. float64 is rounded.
 * @throws AdapterFormatError `dtype_unsupported` as {@link readFloat32}.
 */
export function toFloat32(tensor: Tensor): Float32Array<ArrayBuffer> {
  const out = new Float32Array((tensor.data.byteLength * 8) / (DTYPE_BITS.get(tensor.dtype) as number));
  readFloat32(tensor, out);
  return out;
}

/** Chunk size for unaligned tensors: a copy of this size, not of the tensor. */
const SCAN_BYTES = 1 << 16;

/**
 * Largest float32 magnitude, as bits. Four at a time takes half as long as one. Signed words: before
 * compilation, larger numbers would each be an object.
 */
function maxBits32(words: Int32Array): number {
  let max = 0;
  const fours = words.length & ~3;
  for (let i = 0; i < fours; i += 4) {
    const a = (words[i] as number) & 0x7fffffff;
    const b = (words[i + 1] as number) & 0x7fffffff;
    const c = (words[i + 2] as number) & 0x7fffffff;
    const d = (words[i + 3] as number) & 0x7fffffff;
    // Negative as soon as one is larger.
    if (((max - a) | (max - b) | (max - c) | (max - d)) < 0) max = Math.max(max, a, b, c, d);
  }
  for (let i = fours; i < words.length; i++) max = Math.max(max, (words[i] as number) & 0x7fffffff);
  return max;
}

/** Largest magnitude of paired 16-bit elements, as bits; half the loads of one by one. */
function maxBits16(words: Int32Array): number {
  let low = 0;
  let high = 0;
  const twos = words.length & ~1;
  for (let i = 0; i < twos; i += 2) {
    const a = words[i] as number;
    const b = words[i + 1] as number;
    const lowA = a & 0x7fff;
    const lowB = b & 0x7fff;
    const highA = a & 0x7fff0000;
    const highB = b & 0x7fff0000;
    if (((low - lowA) | (low - lowB) | (high - highA) | (high - highB)) < 0) {
      low = Math.max(low, lowA, lowB);
      high = Math.max(high, highA, highB);
    }
  }
  if (twos < words.length) {
    low = Math.max(low, (words[twos] as number) & 0x7fff);
    high = Math.max(high, (words[twos] as number) & 0x7fff0000);
  }
  return Math.max(low, high >>> 16);
}

/**
 * Largest absolute value of the elements; Infinity or NaN as soon as one element is. 0 for an empty tensor.
 * IEEE 754 bits without the sign order like the values, so no element needs to be converted.
 * @throws AdapterFormatError `dtype_unsupported` as {@link toFloat32}.
 */
export function maxMagnitude(tensor: Tensor): number {
  const { dtype, data } = tensor;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    let max = 0;
    for (const value of toFloat32(tensor)) {
      if (Number.isNaN(value)) return NaN;
      max = Math.max(max, Math.abs(value));
    }
    return max;
  }
  const scan = dtype === 'F32' ? maxBits32 : maxBits16;
  const whole = data.byteLength & ~3;
  let max = 0;
  if (data.byteOffset % 4 === 0) max = scan(new Int32Array(data.buffer, data.byteOffset, whole / 4));
  else {
    const copy = new Int32Array(Math.min(whole, SCAN_BYTES) / 4);
    for (let at = 0; at < whole; at += SCAN_BYTES) {
      const part = data.subarray(at, Math.min(at + SCAN_BYTES, whole));
      new Uint8Array(copy.buffer).set(part);
      max = Math.max(max, scan(copy.subarray(0, part.byteLength / 4)));
    }
  }
  // An odd number of 16-bit elements leaves one.
  if (whole < data.byteLength)
    max = Math.max(max, (((data[whole + 1] as number) << 8) & 0x7f00) | (data[whole] as number));
  const one = dtype === 'F32' ? new Uint32Array([max]) : new Uint16Array([max]);
  return toFloat32({ dtype, shape: [1], data: new Uint8Array(one.buffer) })[0] as number;
}
