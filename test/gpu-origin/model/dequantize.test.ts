import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { blockFormat, dequantize } from '../../../gpu-origin/model/gguf.ts';

const blocks = JSON.parse(
  readFileSync(new URL('../../fixtures/ggml-blocks.json', import.meta.url), 'utf8'),
) as Record<string, { type: number; raw: string; values: string }>;

describe('blocks of ggml, against gguf-py', () => {
  it.each(Object.entries(blocks))('%s', (name, { type, raw, values }) => {
    expect(blockFormat(type)?.name).toBe(name);
    const expected = new Float32Array(new Uint8Array(Buffer.from(values, 'base64')).buffer);
    const got = dequantize(type, new Uint8Array(Buffer.from(raw, 'base64')));
    expect(got.length).toBe(expected.length);
    // gguf-py rounds to float32 between the products.
    expected.forEach((value, at) =>
      expect(Math.abs(got[at]! - value)).toBeLessThanOrEqual(4e-7 * Math.max(1, Math.abs(value) * 4)),
    );
  });
});
