/** What the edge reads of a file: its bytes once, hashed as they come, and of its tensors nothing. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { MAX_PART_BYTES } from '../../../protocol/limits.ts';
import { createSha256 } from '../../fakes/node-sha256.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, verification, type AppHarness } from '../app-harness.ts';

const MiB = 1024 * 1024;
/** A file whose bytes were read back so lately is not read again. */
const FRESH_MS = 60_000;
/** Three parts. */
const large = tinyAdapter({ seed: 1, wide: true, rank: 200 });

let graft: AppHarness;
/** Bytes of parts that the store gave, those of them that were not hashed yet, and the most of these. */
const seen = { read: 0, waiting: 0, most: 0 };

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  Object.assign(seen, { read: 0, waiting: 0, most: 0 });
  const intake = graft.services;
  const { getPart } = intake.blobs;
  const unhashed = new Set<Uint8Array>();
  intake.blobs.getPart = async (digest, part, reading) => {
    const stream = await getPart(digest, part, reading);
    if (stream === null) return null;
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    // The runtime may have all of a value in memory before the first of it is asked for.
    seen.most = Math.max(seen.most, (seen.waiting += bytes.length));
    let at = 0;
    return new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          const chunk = bytes.subarray(at, (at += 64 * 1024));
          if (chunk.length === 0) return controller.close();
          seen.read += chunk.length;
          unhashed.add(chunk);
          controller.enqueue(chunk);
        },
        cancel: () => void (seen.waiting -= bytes.length - at),
      },
      { highWaterMark: 0 },
    );
  };
  intake.createSha256 = () => {
    const hash = createSha256();
    return {
      ...hash,
      update(chunk) {
        if (unhashed.delete(chunk)) seen.waiting -= chunk.length;
        return hash.update(chunk);
      },
    };
  };
});

const send = async () => {
  const path = `/admin/blobs/${large.digest}`;
  const parts: { bytes: number; sha256: string }[] = [];
  for (let at = 0; at < large.bytes.length; at += MAX_PART_BYTES) {
    const body = new Uint8Array(large.bytes.subarray(at, at + MAX_PART_BYTES));
    const sent = await graft.request(`${path}/parts/${parts.length}`, { method: 'PUT', body });
    const { bytes, sha256 } = (await sent.json()) as { bytes: number; sha256: string };
    parts.push({ bytes, sha256 });
  }
  expect(parts).toHaveLength(3);
  return graft.request(path, { body: { bytes: large.bytes.length, parts } });
};
const publish = (name: string) => graft.request('/admin/versions', { body: { name, digest: large.digest } });

describe('a large file', () => {
  it('is read once to be closed and published, and hashed as it is read', async () => {
    expect((await send()).status).toBe(201);
    expect(seen.read).toBe(large.bytes.length);
    expect(seen.most).toBeLessThanOrEqual(32 * MiB);
    expect((await publish('large')).status).toBe(201);
    // The header lies in the first chunk.
    expect(seen.read - large.bytes.length).toBe(64 * 1024);
  });

  it('is read once more when it is published later, and then for a while not again', async () => {
    await send();
    graft.clock.advance(FRESH_MS + 1);
    seen.read = 0;
    expect((await publish('large')).status).toBe(201);
    expect(seen.read).toBe(large.bytes.length);
    expect(seen.most).toBeLessThanOrEqual(32 * MiB);
    expect((await publish('same')).status).toBe(201);
    // The header again, and the proof of the same chain.
    expect(seen.read).toBeLessThan(large.bytes.length + 64 * 1024 + 1_000);
  });

  it('is not published when the origin that tries it refuses what its tensors hold', async () => {
    const message =
      'model.layers.0.mlp.up_proj: A contains NaN or infinity. The training diverged; use an earlier checkpoint.';
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init) =>
      path.endsWith('/verify')
        ? Response.json({
            ...verification(init),
            ok: false,
            reason: message,
            code: 'non_finite',
            adapter: [],
          })
        : answer(method, path, init);
    await send();
    const refused = await publish('large');
    expect([refused.status, await refused.json()]).toMatchObject([
      422,
      { error: { code: 'adapter_invalid', reason: 'non_finite', message } },
    ]);
    expect((await graft.request('/admin/versions?name=large')).status).toBe(404);
  });
});
