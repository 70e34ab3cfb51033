import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkApiKey, generateApiKey, hashApiKey } from '../../protocol/identity.ts';

fc.configureGlobal({ seed: 20 });

describe('API keys', () => {
  it('are well-formed, of their kind, and never the same', () => {
    const keys = Array.from({ length: 500 }, () => generateApiKey('gk'));
    for (const key of keys) {
      expect(key).toMatch(/^gk_[0-9A-Za-z]{33}$/);
      expect(checkApiKey(key)).toBe('gk');
    }
    expect(new Set(keys).size).toBe(500);
    expect(checkApiKey(generateApiKey('ga'))).toBe('ga');
  });

  it('use every digit evenly enough', () => {
    const digits = Array.from({ length: 2_000 }, () => generateApiKey('gk').slice(3, 30)).join('');
    const counts = new Map<string, number>();
    for (const digit of digits) counts.set(digit, (counts.get(digit) ?? 0) + 1);
    expect(counts.size).toBe(62);
    // 54,000 digits, 871 of each expected; seven standard deviations are 205.
    for (const count of counts.values()) expect(Math.abs(count - 871)).toBeLessThan(205);
  });

  it('have a checksum that detects typing errors', () => {
    const key = generateApiKey('gk');
    for (let at = 0; at < key.length; at += 1) {
      const typed = key[at] === 'x' ? 'y' : 'x';
      expect(checkApiKey(key.slice(0, at) + typed + key.slice(at + 1)), String(at)).toBeNull();
    }
    expect(checkApiKey(key.replace('gk_', 'ga_'))).toBeNull();
    for (const text of ['', 'gk_', `${key} `, `${key}\n`, key.slice(0, -1), `${key}0`, `sk-${key}`])
      expect(checkApiKey(text)).toBeNull();
    fc.assert(fc.property(fc.string(), (text) => checkApiKey(text) === null));
  });

  it('keep their checksum, so that issued keys stay valid', () => {
    // CRC-32 of "gk_" and 27 zeros, in base62; computed with Python's zlib.crc32.
    expect(checkApiKey(`gk_${'0'.repeat(27)}CHECKS`)).toBeNull();
    expect(checkApiKey(`gk_${'0'.repeat(27)}03YMDO`)).toBe('gk');
  });

  it('are stored as their sha256', async () => {
    expect(await hashApiKey('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });
});
