/** ggml's block formats to float32. Layouts: ggml `src/ggml-common.h`. */
import { GGML_TYPES, type GgmlType } from '../../adapters/index.ts';

/** Types without blocks; {@link DECODE} has the others. */
const PLAIN: ReadonlySet<string> = new Set(['F32', 'F16', 'BF16']);

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
  Q4_K(raw, view, at, out, to) {
    const d = half(view, at);
    const dmin = half(view, at + 2);
    const scales = at + 4;
    const values = at + 16;
    for (let j = 0; j < 8; j++) {
      // Eight 6-bit scales and eight 6-bit minima in 12 bytes (get_scale_min_k4 in ggml-quants.c).
      const low = raw[scales + j]!;
      const scale = j < 4 ? low & 63 : (raw[scales + j + 4]! & 15) | ((raw[scales + j - 4]! >> 6) << 4);
      const min = j < 4 ? raw[scales + j + 4]! & 63 : (raw[scales + j + 4]! >> 4) | ((low >> 6) << 4);
      const shift = j & 1 ? 4 : 0;
      for (let i = 0; i < 32; i++)
        out[to + j * 32 + i] = d * scale * ((raw[values + (j >> 1) * 32 + i]! >> shift) & 15) - dmin * min;
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
