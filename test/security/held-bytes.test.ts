/** What one tenant's uploads and publications hold of an isolate's memory, and how long another's wait for it. */
import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { UploadMemoryLimit } from '../../worker/blobs/upload-memory-limit.ts';
import type { BlobStore } from '../../worker/blobs/ports.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const MiB = 1024 * 1024;
const PART_BYTES = 24 * MiB;
const CHUNK = new Uint8Array(64 * 1024);
/** An isolate has 128 MB, and the app takes some of it. */
const BOUND = 72 * MiB;

let graft: AppHarness;
/** What is told of the work of the isolate. */
const seen = { held: 0, most: 0, read: 0, checks: [] as string[] };

/** A file of zeros that is as large as can be and no adapter, which nobody needs to have in memory. */
async function bigFile(): Promise<string> {
  const part = createHash('sha256');
  for (let at = 0; at < PART_BYTES; at += CHUNK.length) part.update(CHUNK);
  const sha256 = part.digest('hex');
  const digest = 'b'.repeat(64);
  const record = { bytes: 3 * PART_BYTES, parts: [1, 2, 3].map(() => ({ bytes: PART_BYTES, sha256 })) };
  const { blobLedger, blobs } = graft.services;
  const at = graft.clock.now();
  await blobLedger.touch({ digest, at });
  await blobLedger.storing({ digest, part: { bytes: PART_BYTES, sha256 }, at });
  await blobLedger.finish({ digest, record, since: at, at });
  await blobLedger.hold({ digest, tenant: 'eve', at });
  await blobs.putRecord(digest, record);
  return digest;
}

const keyOf = async (tenant: string) => {
  const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant } });
  return ((await made.json()) as { key: string }).key;
};

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  Object.assign(seen, { held: 0, most: 0, read: 0, checks: [] });
  graft = await createAppHarness();
  const intake = graft.services;
  const { getPart } = intake.blobs;
  const lazily: BlobStore['getPart'] = async (digest, part, reading) => {
    if (!digest.startsWith('bbb')) return getPart(digest, part, reading);
    let left = PART_BYTES;
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          // Others get their turn, as with a store that is elsewhere.
          await new Promise((resolve) => setImmediate(resolve));
          seen.read += CHUNK.length;
          controller.enqueue(CHUNK);
          if ((left -= CHUNK.length) === 0) controller.close();
        },
      },
      { highWaterMark: 0 },
    );
  };
  intake.blobs.getPart = lazily;
  const { hold } = intake.uploadMemory;
  const counted: UploadMemoryLimit['hold'] = (holding, work) =>
    hold(holding, async (alive) => {
      seen.most = Math.max(seen.most, (seen.held += holding.bytes));
      seen.checks.push(`${holding.kind} ${holding.tenant}`);
      try {
        return await work(alive);
      } finally {
        seen.held -= holding.bytes;
      }
    });
  intake.uploadMemory.hold = counted;
});

describe('an isolate', () => {
  it('is not filled by ten publications of a large file that is no adapter, and another tenant goes on', async () => {
    const digest = await bigFile();
    // It is read whole again: what was just closed is not.
    graft.clock.advance(61_000);
    const [eve, bob] = [await keyOf('eve'), await keyOf('bob')];
    const small = tinyAdapter({ seed: 1 });
    const bytes = new Uint8Array(small.bytes);
    const path = `/admin/blobs/${small.digest}`;
    const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: small.digest }] };
    await graft.request(`${path}/parts/0`, { method: 'PUT', key: bob, body: bytes });
    await graft.request(path, { key: bob, body: record });
    seen.checks.length = 0;
    const big = Array.from({ length: 10 }, (_, i) =>
      graft.request('/admin/versions', { key: eve, body: { name: `eve/${i}`, digest } }),
    );
    while (seen.read === 0) await new Promise((resolve) => setImmediate(resolve));
    const published = await graft.request('/admin/versions', {
      key: bob,
      body: { name: 'bob', digest: small.digest },
    });
    expect(published.status).toBe(201);
    // After the one that was being checked, at most.
    expect([0, 1]).toContain(seen.checks.indexOf('check bob'));
    const answers = await Promise.all(big);
    expect(answers.every(({ status }) => status === 422 || status === 503)).toBe(true);
    expect(answers.filter(({ status }) => status === 422).length).toBeGreaterThan(0);
    for (const answer of answers.filter(({ status }) => status === 503))
      expect([answer.headers.get('retry-after'), await answer.json()]).toMatchObject([
        '2',
        { error: { code: 'edge_busy' } },
      ]);
    // The header is refused before the rest is read: of three parts, one.
    expect(seen.read).toBeLessThanOrEqual(10 * PART_BYTES);
    expect(seen.most).toBeLessThanOrEqual(BOUND);
  });

  it('holds a part once, and not more parts than it has room for', async () => {
    const [eve, bob] = [await keyOf('eve'), await keyOf('bob')];
    let go = (): void => undefined;
    const started = new Promise<void>((resolve) => (go = resolve));
    const { putPart } = graft.services.blobs;
    graft.services.blobs.putPart = async (...args) => {
      await started;
      return putPart(...args);
    };
    const body = new Uint8Array(20 * MiB);
    const put = (key: string, index: number) =>
      graft.request(`/admin/blobs/${'c'.repeat(64)}/parts/${index}`, {
        method: 'PUT',
        key,
        body,
        headers: { 'content-length': `${body.length}` },
      });
    const sent = [put(eve, 0), put(eve, 1), put(eve, 2), put(bob, 0)];
    while (seen.checks.length < 3) await new Promise((resolve) => setImmediate(resolve));
    expect(seen.checks).toEqual(['part eve', 'part eve', 'part bob']);
    expect(seen.held).toBe(3 * body.length);
    go();
    const statuses = (await Promise.all(sent)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(3);
    expect(seen.most).toBeLessThanOrEqual(BOUND);
    expect(seen.held).toBe(0);
  });

  it('has no room for parts of which nothing arrives', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const { fetch } = (await import('../../worker/app.ts')).createApp(graft.services);
      const silent = new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(CHUNK) });
      const request = new Request(`http://edge/admin/blobs/${'c'.repeat(64)}/parts/0`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${graft.adminKey}` },
        body: silent,
        duplex: 'half',
      } as RequestInit);
      const answer = Promise.resolve(fetch(request));
      while (seen.held === 0) await new Promise((resolve) => setImmediate(resolve));
      await vi.advanceTimersByTimeAsync(20_000);
      expect(await (await answer).json()).toMatchObject({ error: { code: 'deadline_exceeded' } });
      expect(seen.held).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});
