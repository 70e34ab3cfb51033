import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chainId, ChainEntry, Digest, sha256Hex, toHex } from '../../protocol/index.ts';

fc.configureGlobal({ seed: 1 });

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const [A, B] = ['a'.repeat(64), 'b'.repeat(64)];

describe('chainId', () => {
  it('is the sha256 of one line a member', async () => {
    expect(
      await chainId([
        { digest: A, scale: 1 },
        { digest: B, scale: 0.5 },
      ]),
    ).toBe(sha256(`${A} 1\n${B} 0.5\n`));
    expect(await chainId([{ digest: A, scale: -1e21 }])).toBe(sha256(`${A} -1e+21\n`));
  });
  it('of the base is that of nothing', async () => {
    expect(await chainId([])).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });
  it('depends on order, scale and digest', async () => {
    const chains = [
      [{ digest: A, scale: 1 }],
      [{ digest: A, scale: 2 }],
      [{ digest: B, scale: 1 }],
      [
        { digest: A, scale: 1 },
        { digest: B, scale: 1 },
      ],
      [
        { digest: B, scale: 1 },
        { digest: A, scale: 1 },
      ],
    ];
    expect(new Set(await Promise.all(chains.map(chainId))).size).toBe(chains.length);
  });
});

describe('digests', () => {
  it('hash bytes and text as node does', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        expect(await sha256Hex(text)).toBe(sha256(text));
        expect(await sha256Hex(new TextEncoder().encode(text))).toBe(sha256(text));
      }),
    );
  });
  it('toHex is lower-case, two digits a byte', () => {
    expect(toHex(Uint8Array.of(0, 15, 255))).toBe('000fff');
    expect(toHex(Uint8Array.of(0, 15, 255).buffer)).toBe('000fff');
  });
  it.each(['', 'A'.repeat(64), 'a'.repeat(63), 'a'.repeat(65), `${'a'.repeat(64)}\n`, 'g'.repeat(64)])(
    '%j is none',
    (text) => {
      expect(Digest.safeParse(text).success).toBe(false);
    },
  );
  it.each([NaN, Infinity, '1', null])('a chain entry with the scale %j is refused', (scale) => {
    expect(ChainEntry.safeParse({ digest: A, scale }).success).toBe(false);
  });
});
