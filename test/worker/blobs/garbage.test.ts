/** Collecting garbage, by an operator and by the schedule, through the admin API on the fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { collectSomeGarbage } from '../../../worker/blobs/collect-garbage.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Longer than what KV may be behind. */
const LATER_MS = 61_000;
const DAY_MS = 86_400_000;
const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });

let graft: AppHarness;
const post = async (path: string, body: object) => graft.request(path, { body });
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
});

describe('collecting garbage', () => {
  interface File {
    digest: string;
    action: string;
    bytes: number;
    deletable_at: number | null;
  }
  const collect = async (body: object = {}) => {
    const response = await post('/admin/gc', body);
    expect(response.status).toBe(200);
    const { files } = (await response.json()) as { files: File[] };
    return files.map(({ digest, action }) => `${action} ${digest === first.digest ? 1 : 2}`);
  };
  /** One run of the schedule. */
  const schedule = (deletions = 100) => collectSomeGarbage(graft.services, deletions);
  const stored = async (digest: string) => {
    graft.clock.advance(31 * DAY_MS);
    return (await graft.services.blobs.getRecord(digest)) !== null;
  };

  it('marks an upload that nobody used for a day, and deletes it a month later', async () => {
    await graft.publish('notes', first);
    await graft.upload(second);
    graft.clock.advance(DAY_MS);
    expect(await collect()).toEqual([]);
    graft.clock.advance(1);
    expect(await collect({ dry_run: true })).toEqual(['marked 2']);
    expect(await collect()).toEqual(['marked 2']);
    expect(await collect()).toEqual(['waits 2']);
    graft.clock.advance(30 * DAY_MS);
    expect(await collect()).toEqual(['waits 2']);
    graft.clock.advance(1);
    expect(await collect({ dry_run: true })).toEqual(['deleted 2']);
    expect(await stored(second.digest)).toBe(true);
    expect(await collect()).toEqual(['deleted 2']);
    expect(await collect()).toEqual([]);
    expect(await stored(second.digest)).toBe(false);
    expect(await stored(first.digest)).toBe(true);
    // Who wants to publish it now uploads it again.
    const body = { name: 'notes', digest: second.digest };
    const missing = await post('/admin/versions', body);
    expect(await missing.json()).toMatchObject({ error: { reason: 'blob_missing' } });
    expect((await graft.publish('notes', second)).status).toBe(201);
  });

  it.each([
    ['a look at what is there', () => graft.request(`/admin/blobs/${second.digest}`)],
    ['a part', () => graft.upload(second)],
    [
      'an evaluation',
      () => post('/admin/evaluate', { digest: second.digest, rows: [{ prompt: 'a', expected: 'b' }] }),
    ],
  ])('is put off by %s', async (_, touch) => {
    await graft.upload(second);
    graft.clock.advance(2 * DAY_MS);
    expect(await collect()).toEqual(['marked 2']);
    graft.clock.advance(29 * DAY_MS);
    await touch();
    graft.clock.advance(DAY_MS - 1);
    expect(await collect()).toEqual([]);
    expect((await graft.publish('notes', second)).status).toBe(201);
    graft.clock.advance(100 * DAY_MS);
    expect(await collect()).toEqual([]);
  });

  it('deletes what was never finished a day after it was sent, whoever looks at it', async () => {
    const path = `/admin/blobs/${second.digest}`;
    const put = async (index: number, from: number, to: number) => {
      const body = new Uint8Array(second.bytes.subarray(from, to));
      await graft.request(`${path}/parts/${index}`, { method: 'PUT', body });
    };
    const there = async () =>
      ((await (await graft.request(path)).json()) as { parts: unknown[] }).parts.length;
    await put(0, 0, 100);
    graft.clock.advance(DAY_MS / 2);
    await put(1, 100, 200);
    graft.clock.advance(DAY_MS / 2 - 1);
    expect(await there()).toBe(2);
    graft.clock.advance(1);
    expect(await there()).toBe(1);
    expect(await collect()).toEqual([]);
    graft.clock.advance(DAY_MS / 24 + 1);
    const dry = (await (await post('/admin/gc', { dry_run: true })).json()) as object;
    expect(dry).toMatchObject({ files: [], parts: { deleted: 1, bytes: 100 } });
    await schedule();
    expect((await graft.kv.list({ prefix: 'blob:', cursor: null })).keys).toHaveLength(1);
    expect(await there()).toBe(1);
    graft.clock.advance(DAY_MS);
    expect(await there()).toBe(0);
    await schedule();
    expect((await graft.kv.list({ prefix: 'blob:', cursor: null })).keys).toEqual([]);
    expect((await graft.publish('notes', second)).status).toBe(201);
  });

  it('deletes parts that the finished file is not made of, and keeps those that it is', async () => {
    const path = `/admin/blobs/${first.digest}`;
    await graft.publish('notes', first);
    for (const index of [0, 1])
      await graft.request(`${path}/parts/${index}`, { method: 'PUT', body: new Uint8Array(10).fill(index) });
    graft.clock.advance(2 * DAY_MS);
    // As if two had closed it at once: the parts stay for as long as the record that names them may be read.
    const others = { bytes: 10, parts: [{ bytes: 10, sha256: 'a'.repeat(64) }] };
    graft.kv.tamper(`blob:${first.digest}`, () => JSON.stringify(others));
    expect(await (await post('/admin/gc', {})).json()).toMatchObject({ parts: { deleted: 0 } });
    graft.clock.advance(2 * DAY_MS);
    expect(await graft.services.blobs.getRecord(first.digest)).toMatchObject({
      bytes: first.bytes.length,
    });
    expect(await (await post('/admin/gc', {})).json()).toMatchObject({ parts: { deleted: 2, bytes: 20 } });
    // Its record, its part and the version's proof.
    expect((await graft.kv.list({ prefix: 'blob:', cursor: null })).keys).toHaveLength(3);
    expect((await graft.publish('again', first)).status).toBe(201);
  });

  it('is done by the schedule too, a little each time, from where it stopped', async () => {
    await graft.publish('notes', first);
    const left = Array.from({ length: 13 }, (_, i) => tinyAdapter({ seed: i, rank: 3 }));
    for (const one of left) await graft.upload(one);
    // Beside the proof of the version.
    const kept = async () => (await graft.kv.list({ prefix: 'blob:', cursor: null })).keys.length - 1;
    expect(await kept()).toBe(2 * 14);
    graft.clock.advance(2 * DAY_MS);
    await schedule(6);
    expect(await collect()).toEqual(left.map(() => expect.stringContaining('waits') as string));
    graft.clock.advance(31 * DAY_MS);
    const counts = [];
    for (let run = 0; run < 8; run += 1) {
      await schedule(6);
      counts.push((await kept()) / 2);
      graft.clock.advance(2_000);
    }
    expect(counts).toEqual([11, 8, 5, 2, 1, 1, 1, 1]);
  });

  it('keeps the files of staged and of retired versions', async () => {
    await graft.publish('notes', first);
    await graft.publish('notes', second, { stage: true });
    await post('/admin/promote', { name: 'notes' });
    await post('/admin/retire', { name: 'notes', version: 1 });
    graft.clock.advance(100 * DAY_MS);
    expect(await collect()).toEqual([]);
  });

  it('cut off in the middle of deleting: nobody relies on the rest, and the next collection ends it', async () => {
    await graft.upload(second);
    graft.clock.advance(2 * DAY_MS);
    await collect();
    graft.clock.advance(31 * DAY_MS);
    const cut = vi.spyOn(graft.services.blobs, 'delete').mockRejectedValueOnce(new Error('cut'));
    expect((await post('/admin/gc', {})).status).toBe(500);
    cut.mockRestore();
    const upload = await graft.upload(second);
    expect([upload.status, upload.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await (await graft.request(`/admin/blobs/${second.digest}`)).json()).toMatchObject({
      complete: false,
      parts: [],
    });
    expect(await collect()).toEqual(['deleted 2']);
    graft.clock.advance(LATER_MS);
    expect((await graft.publish('notes', second)).status).toBe(201);
  });
});
