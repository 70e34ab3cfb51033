/** What an edge reads of a file that comes by in chunks says what the whole toolkit says, but of its values. */
import { describe, expect, it } from 'vitest';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { encodeCanonical, makeLoraModule, validateAdapter } from '../../adapters/index.ts';
import { AdapterFormatError, checkBase, createHeadReader } from '../../adapters/read-head.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';

const MODULE = TINY_BASE.modules[0]!.name;
const good = new Uint8Array(tinyAdapter({ seed: 1 }).bytes);

function half(values: number[], rows: number): { dtype: 'F16'; shape: number[]; data: Uint8Array } {
  return {
    dtype: 'F16',
    shape: [rows, values.length / rows],
    data: new Uint8Array(Uint16Array.from(values).buffer),
  };
}
/** Odd counts of 16-bit values: chunks cut through them, and through pairs. */
const packed = (a: number[], b: number[]): Uint8Array =>
  encodeCanonical({
    base: TINY_BASE.id,
    parent: null,
    modules: [makeLoraModule({ name: MODULE, rank: 1, alpha: 1, a: half(a, 1), b: half(b, b.length) })],
  });
const ODD = { ...TINY_BASE, modules: [{ name: MODULE, in: 3, out: 5 }] };

const FILES: [string, BaseInfo, Uint8Array][] = [
  ['a good one', TINY_BASE, good],
  ['for another base', ODD, good],
  ['odd, good', ODD, packed([0x3c00, 0, 0], [0, 0, 0, 0, 0x3c00])],
  ['NaN at the end', ODD, packed([0x3c00, 0, 0], [0, 0, 0, 0, 0x7e00])],
  ['infinite at the beginning', ODD, packed([0x7c00, 0, 0], [0, 0, 0, 0x3c00, 0])],
  ['nothing but zeros', ODD, packed([0, 0, 0], [0, 0, 0, 0, 0])],
  ['cut in its header', TINY_BASE, good.subarray(0, 100)],
  ['cut in its values', TINY_BASE, good.subarray(0, -3)],
  ['longer', TINY_BASE, Uint8Array.from([...good, 0])],
  ['of five bytes', TINY_BASE, good.subarray(0, 5)],
  ['of spaces', TINY_BASE, new Uint8Array(400).fill(0x20)],
  ['of zeros', TINY_BASE, new Uint8Array(400)],
  ['with a space in its header', TINY_BASE, Uint8Array.from(good, (byte, i) => (i === 9 ? 0x20 : byte))],
];

/** Of the values, which are the origin's to look at. */
const OF_VALUES = new Set(['non_finite', 'no_op']);

function codesOf(file: Uint8Array, base: BaseInfo, chunkBytes: number): string[] {
  const reader = createHeadReader({ fileBytes: file.length, maxHeaderBytes: 10_000 });
  for (let at = 0; at < file.length; at += chunkBytes)
    if (reader.push(file.subarray(at, at + chunkBytes))) break;
  try {
    return checkBase(reader.head(), base).map(({ code }) => code);
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    return [error.code];
  }
}

describe('the reader of heads', () => {
  it.each(FILES)('says what validateAdapter says, in chunks of any size: %s', (_, base, file) => {
    const codes = validateAdapter({ adapter: file, base }).map(({ code }) => code);
    for (const size of [1, 2, 3, 7, 64, 1_000])
      expect(codesOf(file, base, size), `${size}`).toEqual(codes.filter((code) => !OF_VALUES.has(code)));
  });

  it('needs nothing after the header', () => {
    const reader = createHeadReader({ fileBytes: good.length, maxHeaderBytes: 10_000 });
    const header = 8 + new DataView(good.buffer, good.byteOffset).getUint32(0, true);
    expect(reader.push(good.subarray(0, header - 1))).toBe(false);
    expect(reader.push(good.subarray(header - 1, header))).toBe(true);
    expect(reader.head().config.base).toBe(TINY_BASE.id);
  });

  it('refuses a header above its limit after eight bytes', () => {
    const file = new Uint8Array(40_000);
    new DataView(file.buffer).setUint32(0, 20_000, true);
    const reader = createHeadReader({ fileBytes: file.length, maxHeaderBytes: 10_000 });
    expect(reader.push(file.subarray(0, 8))).toBe(true);
    expect(() => reader.head()).toThrow(expect.objectContaining({ code: 'header_too_large' }) as Error);
  });
});
