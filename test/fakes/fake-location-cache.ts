import type { ResponseCache } from '../../worker/platform/location-cache.ts';

export type CacheTrouble = 'throw' | 'hang' | null;

/** One location's cache as the Cache API has it: it keeps what says how long (`max-age`), and may drop it earlier. */
export class FakeLocationCache implements ResponseCache {
  trouble: CacheTrouble = null;
  /** Done so far. */
  puts = 0;
  readonly #now: () => number;
  readonly #held = new Map<string, { body: string; headers: [string, string][]; until: number }>();

  /** @param now unix ms; the test moves it. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get urls(): string[] {
    return [...this.#held.keys()];
  }

  async match(url: string): Promise<Response | undefined> {
    await this.#meet(url);
    const held = this.#held.get(url);
    if (held === undefined || this.#now() >= held.until) return undefined;
    return new Response(held.body, { headers: held.headers });
  }

  async put(url: string, response: Response): Promise<void> {
    await this.#meet(url);
    const maxAge = /(?:^|,\s*)max-age=(\d+)/.exec(response.headers.get('cache-control') ?? '')?.[1];
    const body = await response.text();
    this.puts += 1;
    if (maxAge === undefined) return;
    const until = this.#now() + Number(maxAge) * 1_000;
    this.#held.set(url, { body, headers: [...response.headers], until });
  }

  async delete(url: string): Promise<boolean> {
    await this.#meet(url);
    return this.#held.delete(url);
  }

  async #meet(url: string): Promise<void> {
    if (new URL(url).protocol !== 'https:' && new URL(url).protocol !== 'http:')
      throw new TypeError(`Invalid URL scheme of ${url}`);
    if (this.trouble === 'hang') await new Promise(() => undefined);
    if (this.trouble === 'throw') throw new Error('Internal error in the cache');
  }
}
