/** Uploads whose connections are cut, against the real edge in workerd. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BlobRecord } from '../../../protocol/adapter-manifest.ts';
import { BlobState } from '../../../protocol/admin-api/blobs.ts';
import { createApiClient } from '../../../cli/api-client.ts';
import { uploadBlob } from '../../../cli/publish/upload-blob.ts';
import { startCuttingProxy, type CuttingProxy } from '../../fakes/cutting-proxy.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { startTestEdge, type TestEdge } from '../edge-harness.ts';

const SEED = 20_261_125;
const CUTS = 200;
const PART_BYTES = 8_192;
/** A few parts with their headers, so that most attempts bring something and none brings all. */
const MAX_CUT_BYTES = 4 * PART_BYTES;
/** As many as `tinyAdapter` makes different ones. */
const MAX_FILES = 13;

const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** Mulberry32: the same numbers in [0, 1) everywhere. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

let graft: TestEdge;
let proxy: CuttingProxy;
beforeAll(async () => {
  graft = await startTestEdge();
  proxy = await startCuttingProxy(graft.edge.url);
});
afterAll(async () => {
  await proxy.stop();
  await graft.stop();
});

const stateOf = async (digest: string) =>
  BlobState.parse(await (await graft.admin(`/admin/blobs/${digest}`)).json());

/** What the edge has kept of a file. */
async function stored(digest: string): Promise<Uint8Array> {
  const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
  const record = BlobRecord.parse(await kv.get(`blob:${digest}`, 'json'));
  const parts = record.parts.map((part) => kv.get(`blob:${digest}:${part.sha256}`, 'arrayBuffer'));
  return Buffer.concat((await Promise.all(parts)).map((part) => new Uint8Array(part ?? new ArrayBuffer(0))));
}

/**
 * One attempt through the proxy, as `graft publish` makes it.
 * @returns what the edge said that it had at the beginning, null when it was not heard, and the parts that it
 * acknowledged then.
 */
async function attempt(bytes: Uint8Array<ArrayBuffer>, digest: string) {
  const puts: number[] = [];
  const heard: { told: BlobState | null } = { told: null };
  const fetchFn: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    const part = /\/parts\/(\d+)/.exec(String(input))?.[1];
    if (part === undefined && init?.method === undefined && response.ok)
      heard.told = BlobState.parse(await response.clone().json());
    if (part !== undefined && response.ok) puts.push(Number(part));
    return response;
  };
  const client = createApiClient({ url: proxy.url, key: graft.adminKey, fetchFn });
  const failed = await uploadBlob({
    client,
    digest,
    bytes,
    partBytes: PART_BYTES,
    retrying: { sleep: async () => undefined },
  }).then(
    () => null,
    (error: unknown) => error,
  );
  return { puts, told: heard.told, failed };
}

describe(`an upload cut at random bytes (seed ${SEED})`, () => {
  it(`goes on after each of ${CUTS} cuts, and ends published byte for byte`, async () => {
    const random = seeded(SEED);
    /** `unheard`: parts that the edge took without the client's hearing of it. */
    const seen = { cuts: 0, files: 0, unheard: 0 };
    while (seen.cuts < CUTS) {
      seen.files += 1;
      expect(seen.files).toBeLessThanOrEqual(MAX_FILES);
      const adapter = tinyAdapter({ seed: seen.files, rank: 1, wide: true });
      const { digest } = adapter;
      const bytes = new Uint8Array(adapter.bytes);
      const partOf = (index: number) => bytes.subarray(index * PART_BYTES, (index + 1) * PART_BYTES);
      const count = Math.ceil(bytes.length / PART_BYTES);
      /** Parts that the edge has said it took. */
      let taken = new Set<number>();
      for (let done = false; !done;) {
        const cutAt = seen.cuts < CUTS ? Math.floor(random() * MAX_CUT_BYTES) : null;
        proxy.reset(cutAt);
        const { puts, told, failed } = await attempt(bytes, digest);
        const where = `file ${seen.files}, cut ${seen.cuts} at byte ${cutAt}`;
        if (told !== null) {
          const held = new Set(told.complete ? Array(count).keys() : told.parts.map(({ index }) => index));
          // What was acknowledged is there, what is there is whole and right, and it is not sent again.
          expect(
            [...taken].filter((index) => !held.has(index)),
            where,
          ).toEqual([]);
          for (const part of told.parts)
            expect(part, where).toEqual({
              index: part.index,
              bytes: partOf(part.index).length,
              sha256: sha256(partOf(part.index)),
            });
          expect(
            puts.filter((index) => held.has(index)),
            where,
          ).toEqual([]);
          seen.unheard += [...held].filter((index) => !taken.has(index)).length;
          taken = held;
        }
        for (const index of puts) taken.add(index);
        done = failed === null;
        if (!done) seen.cuts += 1;
        if (cutAt === null) expect(failed, where).toBeNull();
      }
      expect(await stateOf(digest)).toMatchObject({ complete: true, parts: [] });
      const published = await graft.admin('/admin/versions', {
        method: 'POST',
        body: JSON.stringify({ name: `cut/${seen.files}`, digest }),
      });
      expect(published.status, await published.clone().text()).toBe(201);
      expect(sha256(await stored(digest)), `file ${seen.files}`).toBe(digest);
    }
    // The cuts fell everywhere: in files and between them, before and after the edge had a part.
    expect(seen.files).toBeGreaterThan(3);
    expect(seen.unheard).toBeGreaterThan(5);
  });
});
