/** The edge in workerd with a bucket for adapters' bytes. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { chainOf, chat, startTestEdge, type TestEdge } from '../edge-harness.ts';

const adapter = tinyAdapter({ seed: 4, rank: 1, wide: true });
const PART_BYTES = 100_000;

let graft: TestEdge;
beforeAll(async () => {
  graft = await startTestEdge({ r2Bucket: 'graft-blobs' });
});
afterAll(() => graft.stop());

it("keeps adapters' bytes in R2 alone, and brings them to an origin from there", async () => {
  const published = await graft.publish({
    name: 'alice/notes',
    adapter,
    owner: 'alice',
    partBytes: PART_BYTES,
  });
  expect(published.status).toBe(201);
  const { miniflare } = graft.edge;
  const bucket = await miniflare.getR2Bucket('BLOBS');
  const { objects } = await bucket.list();
  const { digest } = adapter;
  const parts = [0, 1, 2].map((i) => adapter.bytes.subarray(i * PART_BYTES, (i + 1) * PART_BYTES));
  const sha256 = (part: Uint8Array) => createHash('sha256').update(part).digest('hex');
  const db = await miniflare.getD1Database('DB');
  const proof = (await db.prepare('SELECT proof FROM versions').first<string>('proof')) ?? '';
  expect(objects.map((object) => object.key)).toEqual(
    ['', ...[...parts.map(sha256), proof].sort().map((part) => `/${part}`)].map(
      (part) => `blob/${digest}${part}`,
    ),
  );
  const kv = await miniflare.getKVNamespace('ADAPTERS');
  expect((await kv.list({ prefix: 'blob' })).keys).toEqual([]);

  graft.origin.forget(digest);
  const before = graft.origin.log.parts.length;
  const answer = await graft.request('/v1/chat/completions', {
    method: 'POST',
    key: await graft.makeKey({ tenant: 'alice' }),
    body: chat('alice/notes'),
  });
  expect(await chainOf(answer)).toEqual([digest.slice(0, 8)]);
  expect(graft.origin.log.parts.slice(before)).toEqual([0, 1, 2].map((i) => `${digest.slice(0, 8)}:${i}`));
});
