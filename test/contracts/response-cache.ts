import { describe, expect, it } from 'vitest';
import type { ResponseCache } from '../../worker/platform/location-cache.ts';

/** What Cloudflare's Cache API and its fake do alike. */
export function responseCacheContract(
  name: string,
  open: () => Promise<ResponseCache>,
  { later }: { later?: (ms: number) => void } = {},
): void {
  let next = 0;
  const freshUrl = (): string => `https://edge.example.com/.kv/${(next += 1)}`;
  const response = (text: string, maxAge = 60): Response =>
    new Response(text, { headers: { 'cache-control': `max-age=${maxAge}`, 'x-graft-until': '123' } });

  describe(`response cache: ${name}`, () => {
    it('has nothing before something is put', async () => {
      expect(await (await open()).match(freshUrl())).toBeUndefined();
    });

    it('returns what was put, with its headers, again and again', async () => {
      const [cache, url] = [await open(), freshUrl()];
      await cache.put(url, response('a\nß'));
      for (let time = 0; time < 2; time += 1) {
        const found = await cache.match(url);
        expect(await found?.text()).toBe('a\nß');
        expect(found?.headers.get('x-graft-until')).toBe('123');
      }
    });

    it('replaces, and forgets', async () => {
      const [cache, url] = [await open(), freshUrl()];
      await cache.put(url, response('old'));
      await cache.put(url, response('new'));
      expect(await (await cache.match(url))?.text()).toBe('new');
      expect(await cache.delete(url)).toBe(true);
      expect(await cache.match(url)).toBeUndefined();
      expect(await cache.delete(url)).toBe(false);
    });

    it.runIf(later)('has nothing after max-age', async () => {
      const [cache, url] = [await open(), freshUrl()];
      await cache.put(url, response('old', 20));
      later?.(19_999);
      expect(await (await cache.match(url))?.text()).toBe('old');
      later?.(1);
      expect(await cache.match(url)).toBeUndefined();
    });
  });
}
