import { expect, it } from 'vitest';
import { readGgufAttention } from '../../../adapters/format/gguf-adapter.ts';
import { encodeGguf } from '../../fixtures/write-gguf.ts';
import { refusal } from '../make-adapter.ts';

const base = (metadata: Parameters<typeof encodeGguf>[0]): Uint8Array =>
  encodeGguf({ 'general.architecture': 'llama', ...metadata }, []);
const read = (bytes: Uint8Array) =>
  readGgufAttention({ header: bytes, fileBytes: bytes.length, path: 'base.gguf' });

it('returns the heads of a base, and its architecture', () => {
  const heads = { 'llama.attention.head_count': 9, 'llama.attention.head_count_kv': 3 };
  expect(read(base(heads))).toEqual({ architecture: 'llama', attention: { heads: 9, kvHeads: 3 } });
});

it('assumes as many key and value heads as query heads when the file names none', () => {
  expect(read(base({ 'llama.attention.head_count': 9 }))?.attention).toEqual({ heads: 9, kvHeads: 9 });
});

it('returns null when more of the file is needed', () => {
  const bytes = base({ 'llama.attention.head_count': 9 });
  expect(readGgufAttention({ header: bytes.subarray(0, 30), fileBytes: bytes.length })).toBeNull();
});

it.each([
  ['no heads', {}],
  ['heads of another architecture', { 'qwen2.attention.head_count': 9 }],
  ['heads of each layer', { 'llama.attention.head_count': [9, 9] }],
  ['no architecture', { 'general.architecture': 7, '7.attention.head_count': 9 }],
])('%s: refused', (_, metadata) => {
  expect(refusal('metadata_invalid', () => read(base(metadata))).path).toBe('base.gguf');
});
