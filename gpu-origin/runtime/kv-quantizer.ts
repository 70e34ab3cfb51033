/**
 * float32 keys and values <-> int8, by a small WebAssembly module: plain JavaScript takes five times as long, and its
 * part of reading a short prompt would show.
 */
import { headsOf, type LlamaConfig } from '../model/base-model.ts';
import type { KvScales } from '../model/llama-graph.ts';

const F32 = Float32Array.BYTES_PER_ELEMENT;
const PAGE_BYTES = 65_536;
/** Tokens of a head that are converted at once: they stay in the processor's cache. */
const TOKENS_AT_ONCE = 128;

/** A head's keys or values of some tokens, `[tokens, headDim]`, in both forms. */
export interface Piece {
  /** Key and value of each layer alternate, as in a `RowsCache`. */
  readonly index: number;
  readonly head: number;
  readonly floats: Float32Array;
  readonly bytes: Int8Array;
}

/** Converts by fixed scales, one for each channel of a head: byte = round(value / scale), between -128 and 127. */
export class KvQuantizer {
  private readonly run: Converters;
  private readonly floats: Float32Array;
  private readonly bytes: Int8Array;
  /** Byte of the first scale of keys or values, among the inverse ones. */
  private readonly starts: readonly number[];
  /** Byte where scales begin; the inverse ones come first. */
  private readonly scalesAt: number;

  constructor(
    private readonly shape: Pick<LlamaConfig, 'kvHeads' | 'headDim'> &
      Partial<Pick<LlamaConfig, 'layerSizes'>>,
    scales: KvScales,
  ) {
    const values = scales.flatMap(({ k, v }) => [k, v]);
    const most = Math.max(...scales.map((_, layer) => headsOf(shape, layer).headDim));
    const starts: number[] = [];
    let scaleBytes = 0;
    for (const index of values.keys()) {
      const { kvHeads, headDim } = headsOf(shape, index >> 1);
      starts.push(scaleBytes);
      scaleBytes += kvHeads * headDim * F32;
    }
    this.starts = starts;
    const pieceAt = 2 * scaleBytes;
    const bytesAt = pieceAt + TOKENS_AT_ONCE * most * F32;
    this.scalesAt = scaleBytes;
    this.run = instantiate(Math.ceil((bytesAt + TOKENS_AT_ONCE * most) / PAGE_BYTES));
    const { buffer } = this.run.memory;
    const all = new Float32Array(buffer, 0, pieceAt / F32);
    values.forEach((channels, index) => {
      const at = starts[index]! / F32;
      all.set(
        channels.map((scale) => 1 / scale),
        at,
      );
      all.set(channels, scaleBytes / F32 + at);
    });
    this.floats = new Float32Array(buffer, pieceAt, TOKENS_AT_ONCE * most);
    this.bytes = new Int8Array(buffer, bytesAt, TOKENS_AT_ONCE * most);
  }

  /** @param writeBack the floats become what their bytes stand for. */
  quantize(piece: Piece, writeBack: boolean): void {
    this.inBlocks(piece, (floats, bytes, scale, row) => {
      this.floats.set(floats);
      this.run.quantize(this.floats.byteOffset, this.bytes.byteOffset, floats.length, scale, row);
      bytes.set(this.bytes.subarray(0, bytes.length));
      if (writeBack) this.widen(floats, scale, row);
    });
  }

  dequantize(piece: Piece): void {
    this.inBlocks(piece, (floats, bytes, scale, row) => {
      this.bytes.set(bytes);
      this.widen(floats, scale, row);
    });
  }

  /** From the bytes in the module's memory. */
  private widen(floats: Float32Array, scale: number, row: number): void {
    const { byteOffset: from } = this.bytes;
    this.run.dequantize(from, this.floats.byteOffset, floats.length, this.scalesAt + scale, row);
    floats.set(this.floats.subarray(0, floats.length));
  }

  /** @param convert is given the byte of the head's scales, and the bytes that they take. */
  private inBlocks(
    { index, head, floats, bytes }: Piece,
    convert: (floats: Float32Array, bytes: Int8Array, scale: number, row: number) => void,
  ): void {
    const { headDim } = headsOf(this.shape, index >> 1);
    const row = headDim * F32;
    const scale = this.starts[index]! + head * row;
    const most = TOKENS_AT_ONCE * headDim;
    for (let at = 0; at < floats.length; at += most)
      convert(floats.subarray(at, at + most), bytes.subarray(at, at + most), scale, row);
  }
}

/** Addresses and sizes in bytes; `count` values, a multiple of 8, with one scale for each of `row / 4` channels. */
type Convert = (from: number, to: number, count: number, scales: number, row: number) => void;

interface Converters {
  memory: { readonly buffer: ArrayBuffer };
  quantize: Convert;
  dequantize: Convert;
}

/** Every host has it; TypeScript knows it only with the types of browsers. */
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: {
    Memory: new (pages: { initial: number; maximum: number }) => Converters['memory'];
    Module: new (bytes: Uint8Array) => object;
    Instance: new (
      module: object,
      imports: object,
    ) => { exports: Pick<Converters, 'quantize' | 'dequantize'> };
  };
};

function instantiate(pages: number): Converters {
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const module = new WebAssembly.Module(converterModule());
  const { quantize, dequantize } = new WebAssembly.Instance(module, { kv: { memory } }).exports;
  return { memory, quantize, dequantize };
}

// The module, in WebAssembly's binary format (webassembly.github.io/spec/core/binary).

const FROM = 0;
const TO = 1;
const COUNT = 2;
const SCALES = 3;
const ROW = 4;
/** Local variables: the next channel's scale, and eight values. */
const CHANNEL = 5;
const EIGHT = 6;

const I32 = 0x7f;
const V128 = 0x7b;

const unsigned = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
const sized = (bytes: readonly number[]): number[] => [...unsigned(bytes.length), ...bytes];
const section = (id: number, bytes: readonly number[]): number[] => [id, ...sized(bytes)];
const name = (text: string): number[] => sized([...text].map((letter) => letter.charCodeAt(0)));

const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const tee = (local: number): number[] => [0x22, local];
const constant = (value: number): number[] => [0x41, value];
const ADD = [0x6a];
const SHIFT_LEFT = [0x74];
const LESS = [0x49];
const AT_LEAST = [0x4f];
const vector = (operation: number, ...immediates: number[]): number[] => [
  0xfd,
  ...unsigned(operation),
  ...immediates,
];
const load = (at: number): number[] => vector(0x00, 0, at);
const loadEightBytes = vector(0x01, 0, 0);
const store = (at: number): number[] => vector(0x0b, 0, at);
const storeEightBytes = vector(0x5b, 0, 0, 0);
const multiply = vector(0xe6);
const nearest = vector(0x6a);
const toIntegers = vector(0xf8);
const toFloats = vector(0xfa);
const narrowTo16 = vector(0x85);
const narrowTo8 = vector(0x65);
const widenLow = vector(0xa7);
const widenHigh = vector(0xa8);

const advance = (local: number, bytes: number): number[] => [
  ...get(local),
  ...constant(bytes),
  ...ADD,
  ...set(local),
];

/** A function that runs `eight` for each eight values. @param bytes of a value at FROM and TO. */
function converter(bytes: { from: 1 | 4; to: 1 | 4 }, eight: readonly number[]): number[] {
  const shift = bytes.from === 4 ? 2 : 0;
  return sized([
    ...[2, 1, I32, 1, V128],
    // ROW becomes the end of the scales, COUNT the end of what is read.
    ...[...get(SCALES), ...tee(CHANNEL), ...get(ROW), ...ADD, ...set(ROW)],
    ...[...get(FROM), ...get(COUNT), ...constant(shift), ...SHIFT_LEFT, ...ADD, ...set(COUNT)],
    ...[0x03, 0x40],
    ...eight,
    ...[...advance(FROM, 8 * bytes.from), ...advance(TO, 8 * bytes.to), ...advance(CHANNEL, 8 * F32)],
    ...[...get(CHANNEL), ...get(ROW), ...AT_LEAST, 0x04, 0x40, ...get(SCALES), ...set(CHANNEL), 0x0b],
    ...[...get(FROM), ...get(COUNT), ...LESS, 0x0d, 0],
    ...[0x0b, 0x0b],
  ]);
}

function converterModule(): Uint8Array<ArrayBuffer> {
  const four = (at: number): number[] => [
    ...[...get(FROM), ...load(at), ...get(CHANNEL), ...load(at)],
    ...[...multiply, ...nearest, ...toIntegers],
  ];
  // Both narrow steps saturate.
  const quantize = converter({ from: 4, to: 1 }, [
    ...[...get(TO), ...four(0), ...four(16), ...narrowTo16],
    ...[...tee(EIGHT), ...get(EIGHT), ...narrowTo8, ...storeEightBytes],
  ]);
  const half = (widen: readonly number[], at: number): number[] => [
    ...[...get(TO), ...get(EIGHT), ...widen, ...toFloats],
    ...[...get(CHANNEL), ...load(at), ...multiply, ...store(at)],
  ];
  const dequantize = converter({ from: 1, to: 4 }, [
    ...[...get(FROM), ...loadEightBytes, ...set(EIGHT)],
    ...[...half(widenLow, 0), ...half(widenHigh, 16)],
  ]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 5, I32, I32, I32, I32, I32, 0]),
    ...section(2, [1, ...name('kv'), ...name('memory'), 0x02, 0x00, 1]),
    ...section(3, [2, 0, 0]),
    ...section(7, [2, ...name('quantize'), 0x00, 0, ...name('dequantize'), 0x00, 1]),
    ...section(10, [2, ...quantize, ...dequantize]),
  ]);
}
