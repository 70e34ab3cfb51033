import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openAdapterStore, type AdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';
import type { DiskRefusal } from '../../../gpu-origin/adapter-files/disk-room.ts';
import type { BlobRecord } from '../../../protocol/adapter-manifest.ts';

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A file of `length` bytes in parts of `partBytes`. */
function makeFile(length: number, partBytes: number, seed = 1) {
  const file = Uint8Array.from({ length }, (_value, i) => (i * 31 + seed * 17) % 251);
  const parts = Array.from({ length: Math.ceil(length / partBytes) }, (_v, i) =>
    file.slice(i * partBytes, (i + 1) * partBytes),
  );
  const record: BlobRecord = {
    bytes: length,
    parts: parts.map((part) => ({ bytes: part.length, sha256: sha(part) })),
  };
  return { file, parts, record, digest: sha(file) };
}

async function* chunks(bytes: Uint8Array, size = 7): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}
async function* cutOff(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
  throw new Error('the client is gone');
}

describe('openAdapterStore', () => {
  let folder: string;
  let now = 1_000_000;
  let inUse: Set<string>;
  let store: AdapterStore;
  const open = (budgetBytes = 10_000) =>
    openAdapterStore({ folder, budgetBytes, now: () => now, isInUse: (digest) => inUse.has(digest) });

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'graft-store-'));
    now = Date.now();
    inUse = new Set();
    store = await open();
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  async function upload(made: ReturnType<typeof makeFile>, target = store): Promise<void> {
    expect((await target.declare(made.digest, made.record)).ok).toBe(true);
    for (const [i, part] of made.parts.entries())
      expect(await target.putPart(made.digest, i, chunks(part))).toEqual({ ok: true, value: 'stored' });
  }
  /** Of an upload; null = there is none. */
  const folderOf = (digest: string): string | null => {
    const [name] = readdirSync(join(folder, 'incoming')).filter((one) => one.startsWith(digest));
    return name === undefined ? null : join(folder, 'incoming', name);
  };
  /** Every file below the folder. */
  const files = () => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());

  it('accepts parts in any order and has the file when the last one is there', async () => {
    const made = makeFile(100, 30);
    expect(await store.status(made.digest)).toBe('missing');
    expect(await store.declare(made.digest, made.record)).toEqual({
      ok: true,
      value: { digest: made.digest, held: false, missingParts: [0, 1, 2, 3] },
    });
    for (const i of [3, 0, 2]) await store.putPart(made.digest, i, chunks(made.parts[i]!));
    expect(await store.read(made.digest)).toBeNull();
    await store.putPart(made.digest, 1, chunks(made.parts[1]!));
    expect(await store.status(made.digest)).toBe('held');
    expect(await store.read(made.digest)).toEqual(made.file);
    expect(files().map((entry) => entry.name)).toEqual([made.digest]);
    expect(await store.putPart(made.digest, 1, chunks(made.parts[1]!))).toEqual({ ok: true, value: 'held' });
    expect(await store.declare(made.digest, made.record)).toMatchObject({ ok: true, value: { held: true } });
  });

  it.each([
    [
      'tampered',
      (part: Uint8Array) => chunks(part.map((byte, i) => (i === 5 ? byte ^ 1 : byte))),
      /Part 1 does not have the announced sha256/,
    ],
    ['truncated', (part: Uint8Array) => chunks(part.slice(0, -1)), /Part 1 ended after 29 of 30/],
    ['longer', (part: Uint8Array) => chunks(Uint8Array.from([...part, 0])), /Part 1 is longer than the 30/],
    ['cut off', (part: Uint8Array) => cutOff(part.slice(0, 12)), /Part 1 was cut off after 12 of 30/],
    ['empty', () => chunks(new Uint8Array(0)), /Part 1 ended after 0 of 30/],
  ])(
    'refuses a part that is %s, names it, and accepts the right one afterwards',
    async (_what, body, message) => {
      const made = makeFile(60, 30);
      await store.declare(made.digest, made.record);
      await store.putPart(made.digest, 0, chunks(made.parts[0]!));
      const bad = await store.putPart(made.digest, 1, body(made.parts[1]!));
      expect(bad).toMatchObject({
        ok: false,
        error: { code: 'adapter_invalid', param: '1', message: expect.stringMatching(message) },
      });
      expect(files().some((entry) => entry.name.endsWith('.tmp'))).toBe(false);
      expect(await store.read(made.digest)).toBeNull();
      expect(await store.putPart(made.digest, 1, chunks(made.parts[1]!))).toEqual({
        ok: true,
        value: 'stored',
      });
      expect(await store.read(made.digest)).toEqual(made.file);
    },
  );

  it('refuses a whole with another digest, and forgets its parts', async () => {
    const made = makeFile(60, 30);
    const digest = 'a'.repeat(64);
    await store.declare(digest, made.record);
    await store.putPart(digest, 0, chunks(made.parts[0]!));
    const last = await store.putPart(digest, 1, chunks(made.parts[1]!));
    expect(last).toMatchObject({ ok: false, error: { code: 'adapter_invalid', reason: 'digest_mismatch' } });
    expect(files()).toEqual([]);
    expect(await store.putPart(digest, 0, chunks(made.parts[0]!))).toMatchObject({
      ok: false,
      error: { code: 'not_found' },
    });
  });

  it('resumes, even after a restart', async () => {
    const made = makeFile(90, 30);
    await store.declare(made.digest, made.record);
    await store.putPart(made.digest, 1, chunks(made.parts[1]!));
    expect(await store.declare(made.digest, made.record)).toMatchObject({ value: { missingParts: [0, 2] } });
    writeFileSync(join(folderOf(made.digest)!, '0.0123456789abcdef.tmp'), 'half');
    const reopened = await open();
    expect(await reopened.declare(made.digest, made.record)).toMatchObject({
      value: { missingParts: [0, 2] },
    });
    for (const i of [0, 2]) await reopened.putPart(made.digest, i, chunks(made.parts[i]!));
    expect(await reopened.read(made.digest)).toEqual(made.file);
    expect(await (await open()).read(made.digest)).toEqual(made.file);
  });

  it('starts over when the same digest is announced in other parts', async () => {
    const made = makeFile(90, 30);
    const other = makeFile(90, 45);
    await store.declare(made.digest, made.record);
    await store.putPart(made.digest, 0, chunks(made.parts[0]!));
    expect(await store.declare(made.digest, other.record)).toMatchObject({ value: { missingParts: [0, 1] } });
    await upload(other);
    expect(await store.read(made.digest)).toEqual(made.file);
  });

  it('reports another sender of the part, until that one stalls', async () => {
    const made = makeFile(60, 30);
    await store.declare(made.digest, made.record);
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield made.parts[0]!.slice(0, 10);
      await held;
      yield made.parts[0]!.slice(10);
    }
    const first = store.putPart(made.digest, 0, slow());
    expect(await store.status(made.digest)).toBe('receiving');
    expect(await store.putPart(made.digest, 0, chunks(made.parts[0]!))).toEqual({
      ok: true,
      value: 'receiving',
    });
    now += 60_000;
    expect(await store.status(made.digest)).toBe('missing');
    release();
    expect(await first).toEqual({ ok: true, value: 'stored' });
  });

  it('evicts the least recently used files, but none in use', async () => {
    store = await open(300);
    const [a, b, c, d] = [1, 2, 3, 4].map((seed) => makeFile(100, 50, seed));
    for (const made of [a!, b!, c!]) await upload(made);
    await store.read(a!.digest);
    inUse.add(b!.digest);
    await upload(d!);
    expect(await store.status(c!.digest)).toBe('missing');
    for (const made of [a!, b!, d!]) expect(await store.status(made.digest)).toBe('held');
    expect(await store.declare('e'.repeat(64), makeFile(301, 100).record)).toMatchObject({
      error: { code: 'request_too_large' },
    });
  });

  it('keeps a file that has just arrived while all others are in use, until others come', async () => {
    store = await open(150);
    const [a, b, c] = [1, 2, 3].map((seed) => makeFile(100, 50, seed));
    inUse.add(a!.digest);
    for (const made of [a!, b!]) await upload(made);
    expect(await store.status(b!.digest)).toBe('held');
    await upload(c!);
    const states = [a!, b!, c!].map(({ digest }) => store.status(digest));
    expect(await Promise.all(states)).toEqual(['held', 'missing', 'held']);
  });

  it("keeps a file that comes into use during another's eviction", async () => {
    const [a, b, c] = [makeFile(100, 50, 1), makeFile(100, 50, 2), makeFile(200, 50, 3)];
    const rest = { isInUse: (one: string) => inUse.has(one), freeBytes: () => Promise.resolve(1e12) };
    store = await openAdapterStore({ folder, budgetBytes: 200, now: () => now, ...rest });
    for (const made of [a, b]) await upload(made);
    const declared = store.declare(c.digest, c.record); // The disk has no turn before this one ends.
    while ((await store.status(a.digest)) === 'held');
    inUse.add(b.digest);
    expect([(await declared).ok, await store.status(b.digest)]).toEqual([true, 'held']);
  });

  it('does not serve a file that was corrupted on disk', async () => {
    const made = makeFile(60, 30);
    await upload(made);
    writeFileSync(join(folder, made.digest), 'damaged');
    expect(await store.read(made.digest)).toBeNull();
    expect(await store.status(made.digest)).toBe('missing');
    await upload(made);
    expect(await store.read(made.digest)).toEqual(made.file);
  });

  it('forgets abandoned uploads', async () => {
    const [old, fresh] = [makeFile(60, 30, 1), makeFile(60, 30, 2)];
    await store.declare(old.digest, old.record);
    now += 2 * 60 * 60 * 1000;
    await upload(fresh);
    expect(folderOf(old.digest)).toBeNull();
    expect(await store.status(old.digest)).toBe('missing');
    expect(files().map(({ name }) => name)).toEqual([fresh.digest]);
  });

  describe('on a disk that others fill too', () => {
    const SPARE = 64 * 1024 ** 2;
    let others = 0;
    const used = () =>
      files().reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
    const refusals: DiskRefusal[] = [];
    /** 1,000 bytes beside the spare ones. */
    const openFull = () =>
      openAdapterStore({
        folder,
        budgetBytes: 10_000,
        now: () => now,
        isInUse: (digest) => inUse.has(digest),
        freeBytes: () => Promise.resolve(SPARE + 1_000 - others - used()),
        onDiskRefusal: (refusal) => refusals.push(refusal),
      });
    beforeEach(async () => {
      others = 0;
      refusals.length = 0;
      store = await openFull();
    });

    it('evicts for new adapters by free space, not by its budget only', async () => {
      const held = [1, 2, 3].map((seed) => makeFile(100, 50, seed));
      for (const made of held) await upload(made);
      expect(store.disk()).toMatchObject({ usedBytes: 300, refusing: false });
      others = 650;
      // 50 bytes are free; an upload of 100 writes its parts and the joined file.
      const fresh = makeFile(100, 50, 4);
      inUse.add(held[0]!.digest);
      await upload(fresh);
      expect(await store.status(fresh.digest)).toBe('held');
      expect(await store.status(held[0]!.digest)).toBe('held');
      expect(await store.status(held[1]!.digest)).toBe('missing');
    });

    it('reports that the disk refused, and accepts the file when it is sent again', async () => {
      const made = makeFile(60, 30);
      await store.declare(made.digest, made.record);
      const room = folderOf(made.digest)!;
      rmSync(room, { recursive: true });
      writeFileSync(room, 'not a folder');
      expect(await store.putPart(made.digest, 0, chunks(made.parts[0]!))).toMatchObject({
        error: { code: 'adapter_unavailable', retryAfterMs: 10_000 },
      });
      expect(store.disk()).toMatchObject({ refusing: true, refusals: 1 });
      expect(refusals).toMatchObject([{ code: 'ENOTDIR', usedBytes: 0 }]);
      rmSync(room);
      store = await openFull();
      await upload(made);
      expect(store.disk()).toMatchObject({ usedBytes: 60, refusing: false });
    });

    it('makes room again for a sender of an announced file', async () => {
      const held = makeFile(100, 50);
      await upload(held);
      const fresh = makeFile(100, 50, 2);
      await store.declare(fresh.digest, fresh.record);
      others = 900;
      expect(await store.declare(fresh.digest, fresh.record)).toMatchObject({ ok: true });
      expect(await store.status(held.digest)).toBe('missing');
    });
  });

  it('validates the record, and builds paths from digests only', async () => {
    const made = makeFile(60, 30);
    expect(await store.declare(made.digest, { ...made.record, bytes: 61 })).toMatchObject({
      error: { code: 'invalid_request' },
    });
    await expect(store.declare('../../evil', made.record)).rejects.toThrow();
    await expect(store.put('..', made.file)).rejects.toThrow();
    expect(files()).toEqual([]);
  });
});
