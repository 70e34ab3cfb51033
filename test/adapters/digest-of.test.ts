import { createHash } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import { digestOf, type Runtime } from '../../adapters/pack-adapter.ts';

describe('digestOf', () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251).subarray(1);
  const digest = createHash('sha256').update(bytes).digest('hex');

  it.each<[string, Runtime | undefined, number]>([
    ['Node', undefined, 0],
    ['a browser', {}, 1],
    ['a runtime that lends no modules', { process: {} }, 1],
    ['one that has no such module', { process: { getBuiltinModule: () => undefined } }, 1],
  ])('is the sha256 in %s', async (_, runtime, copies) => {
    const web = vi.spyOn(crypto.subtle, 'digest');
    expect(await digestOf(bytes, runtime)).toBe(digest);
    // Web Crypto copies what it hashes.
    expect(web).toHaveBeenCalledTimes(copies);
    web.mockRestore();
  });
});
