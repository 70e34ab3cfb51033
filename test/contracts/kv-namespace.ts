import { beforeEach, describe, expect, it } from 'vitest';
import type { KvNamespace } from '../../worker/stores/kv-namespace.ts';

/** What graft counts on in Workers KV. */
export function kvNamespaceContract(backend: string, make: () => Promise<KvNamespace>): void {
  describe(`KvNamespace on ${backend}`, () => {
    let kv: KvNamespace;
    const text = { type: 'text', cacheTtl: 30 } as const;
    beforeEach(async () => {
      kv = await make();
    });

    it('gives text back, and null for what was never written', async () => {
      expect(await kv.get('kv-absent', text)).toBeNull();
      await kv.put('kv-text', 'grüße');
      expect(await kv.get('kv-text', text)).toBe('grüße');
    });

    it('streams bytes', async () => {
      const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
      await kv.put('kv-bytes', bytes);
      const stream = await kv.get('kv-bytes', { type: 'stream', cacheTtl: 30 });
      const read = new Uint8Array(await new Response(stream).arrayBuffer());
      expect(Buffer.from(read).equals(Buffer.from(bytes))).toBe(true);
    });

    it('takes 25 MiB and not a byte more', async () => {
      const limit = 25 * 1024 * 1024;
      await kv.put('kv-large', new Uint8Array(limit));
      await expect(kv.put('kv-larger', new Uint8Array(limit + 1))).rejects.toThrow('413');
    });

    it('takes keys of 512 bytes and not a byte more', async () => {
      await kv.put('k'.repeat(512), 'x');
      await expect(kv.put('k'.repeat(513), 'x')).rejects.toThrow('414');
      await expect(kv.get('k'.repeat(513), text)).rejects.toThrow('414');
    });

    it('caches for 30 s at least', async () => {
      await expect(kv.get('kv-absent', { type: 'text', cacheTtl: 29 })).rejects.toThrow('400');
    });
  });
}
