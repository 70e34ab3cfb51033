import { beforeEach, describe, expect, it } from 'vitest';
import type { KvNamespace } from '../../worker/platform/store-calls.ts';

interface KvRig {
  /** Lets the time pass that KV wants between two writes of a key. */
  settled?: () => Promise<void>;
  /** Keys that are listed: Miniflare takes 14 ms to write one. */
  listed?: number;
}

/** What graft counts on in Workers KV. */
export function kvNamespaceContract(
  backend: string,
  make: () => Promise<KvNamespace>,
  { settled = async () => undefined, listed = 1_003 }: KvRig = {},
): void {
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

    it('reads several keys at once, at most 100', async () => {
      await kv.put('kv-bulk-a', '1');
      await kv.put('kv-bulk-b', '2');
      const found = await kv.get(['kv-bulk-b', 'kv-bulk-none', 'kv-bulk-a'], text);
      expect(Object.fromEntries(found)).toEqual({ 'kv-bulk-a': '1', 'kv-bulk-b': '2', 'kv-bulk-none': null });
      const many = Array.from({ length: 101 }, (_, i) => `kv-bulk-${i}`);
      expect((await kv.get(many.slice(1), text)).size).toBe(100);
      await expect(kv.get(many, text)).rejects.toThrow('400');
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

    it('deletes, also what is not there', async () => {
      await kv.put('kv-deleted', 'x');
      await kv.delete('kv-never');
      const names = async () =>
        (await kv.list({ prefix: 'kv-deleted', cursor: null })).keys.map((key) => key.name);
      expect(await names()).toEqual(['kv-deleted']);
      await settled();
      await kv.delete('kv-deleted');
      expect(await names()).toEqual([]);
    });

    it('lists by prefix, in the order of the bytes, 1,000 at a time', async () => {
      const all = Array.from({ length: listed - 1 }, (_, i) => `kv-list:${String(i).padStart(4, '0')}`);
      all.push('kv-list:ä');
      await Promise.all([...all].reverse().map((key) => kv.put(key, 'x')));
      await kv.put('kv-list', 'x');
      const found: string[] = [];
      for (let cursor: string | null = null; ;) {
        const page = await kv.list({ prefix: 'kv-list:', cursor });
        found.push(...page.keys.map((key) => key.name));
        if (page.list_complete) break;
        expect(page.keys).toHaveLength(1_000);
        cursor = page.cursor as string;
      }
      expect(found).toEqual(all);
    });

    it('caches for 30 s at least', async () => {
      await expect(kv.get('kv-absent', { type: 'text', cacheTtl: 29 })).rejects.toThrow('400');
    });
  });
}
