import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Detokenizer, type TokenBytes } from '../../../gpu-origin/generation/answer-text.ts';

/** One token a byte, 256 = a control token, the rest unknown. */
const byteTokens: TokenBytes = {
  bytes: (id) => (id < 256 ? Uint8Array.of(id) : new Uint8Array(0)),
  isSpecial: (id) => id === 256,
};

const idsOf = (text: string): number[] => [...new TextEncoder().encode(text)];

describe('Detokenizer', () => {
  it('waits for the last byte of a character', () => {
    const detokenizer = new Detokenizer(byteTokens);
    expect(idsOf('aé€😀').map((id) => detokenizer.push(id))).toEqual([
      ...['a', '', 'é', '', '', '€', '', '', '', '😀'],
    ]);
  });

  it('gives back any text, byte by byte, and never half a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const detokenizer = new Detokenizer(byteTokens);
        const pieces = idsOf(text).map((id) => detokenizer.push(id));
        expect(pieces.join('')).toBe(
          new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(idsOf(text))),
        );
        for (const piece of pieces) expect(/\p{Surrogate}/u.test(piece)).toBe(false);
      }),
    );
  });

  it('leaves control and unknown tokens out, keeps a BOM, replaces what is no UTF-8', () => {
    const detokenizer = new Detokenizer(byteTokens);
    const push = (ids: number[]) => ids.map((id) => detokenizer.push(id)).join('');
    expect(push([...idsOf('\ufeffa'), 256, 999, ...idsOf('b')])).toBe('\ufeffab');
    // A control token inside a character does not break it.
    expect(push([0xc3, 256, 0xa9])).toBe('é');
    expect(push([0xff, 0x61])).toBe('\ufffda');
  });
});
