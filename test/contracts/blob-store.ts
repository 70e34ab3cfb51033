import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { MAX_PART_BYTES } from '../../protocol/limits.ts';
import { StoreUnavailable } from '../../worker/platform/ports.ts';
import type { BlobStore } from '../../worker/blobs/ports.ts';
import { digestOf } from './sample-rows.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const bytesOf = (length: number, seed = 0): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) % 251);
const read = async (stream: ReadableStream<Uint8Array> | null): Promise<Uint8Array | null> =>
  stream === null ? null : new Uint8Array(await new Response(stream).arrayBuffer());

/**
 * @param make.afterWrite lets the time pass that the store wants between writes and until they are seen.
 * @param options.largest false where the suite of what lies below has proved the largest value.
 */
export function blobStoreContract(
  backend: string,
  make: () => Promise<{ store: BlobStore; afterWrite: () => void }>,
  { largest = true } = {},
): void {
  describe(`BlobStore on ${backend}`, () => {
    let store: BlobStore;
    let afterWrite: () => void;
    let digest: string;
    let made = 0;
    const put = (bytes: Uint8Array<ArrayBuffer>) => store.putPart(digest, sha256(bytes), bytes);
    const get = (index: number, bytes: Uint8Array, of = digest) => store.getPart(of, sha256(bytes));
    beforeEach(async () => {
      ({ store, afterWrite } = await make());
      digest = digestOf(`blob ${backend} ${(made += 1)}`);
    });

    it('gives record and parts back', async () => {
      const parts = [bytesOf(1_000), bytesOf(1, 3), bytesOf(70_000, 5)];
      for (const bytes of parts) await put(bytes);
      const record = {
        bytes: 71_001,
        parts: parts.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
      };
      await store.putRecord(digest, record);
      expect(await store.getRecord(digest)).toEqual(record);
      for (const [index, bytes] of parts.entries())
        expect(await read(await get(index, bytes))).toEqual(bytes);
      expect(await get(3, bytesOf(2))).toBeNull();
    });

    it('has null for what is not there', async () => {
      expect(await store.getRecord(digest)).toBeNull();
      expect(await get(0, bytesOf(1))).toBeNull();
    });

    it.runIf(largest)('takes the largest part', async () => {
      const bytes = new Uint8Array(MAX_PART_BYTES).fill(7);
      await put(bytes);
      const part = await read(await get(0, bytes));
      expect([part?.length, sha256(part as Uint8Array)]).toEqual([bytes.length, sha256(bytes)]);
    });

    it('takes a part and a record again, and each part beside others', async () => {
      await put(bytesOf(10));
      await put(bytesOf(10, 1));
      await put(bytesOf(10, 1));
      const record = { bytes: 10, parts: [{ bytes: 10, sha256: sha256(bytesOf(10, 1)) }] };
      await store.putRecord(digest, record);
      await store.putRecord(digest, record);
      for (const seed of [0, 1])
        expect(await read(await get(0, bytesOf(10, seed)))).toEqual(bytesOf(10, seed));
      expect(await store.getRecord(digest)).toEqual(record);
    });

    it('deletes record and parts of one blob, as often as it is told to', async () => {
      const parts = [bytesOf(10), bytesOf(10, 1)];
      for (const bytes of parts) await put(bytes);
      await store.putRecord(digest, { bytes: 10, parts: [{ bytes: 10, sha256: sha256(bytesOf(10)) }] });
      const other = digestOf('another blob');
      await store.putPart(other, sha256(parts[0]!), parts[0]!);
      afterWrite();
      await store.deleteParts(digest, parts.map(sha256));
      await store.delete(digest);
      afterWrite();
      expect(await store.getRecord(digest)).toBeNull();
      for (const [index, bytes] of parts.entries()) expect(await get(index, bytes)).toBeNull();
      expect(await read(await get(0, parts[0]!, other))).toEqual(parts[0]);
      await store.deleteParts(digest, parts.map(sha256));
      await store.deleteParts(digest, []);
      await store.delete(digest);
    });
  });
}

export type BlobTrouble = 'throw' | 'hang' | 'null' | 'garbage' | null;

/** What a store in trouble must say. @param make its backend, holding the given blob, in the trouble that is asked for. */
export function blobTroubleContract(
  backend: string,
  make: () => {
    store: BlobStore;
    trouble: (trouble: BlobTrouble) => void;
    reads: () => number;
    /** Reads until an absence is believed. */
    readsOfAbsence: number;
  },
): void {
  describe(`BlobStore in trouble on ${backend}`, () => {
    const digest = digestOf('troubled');
    const bytes = bytesOf(100);
    const place = { index: 0, sha256: sha256(bytes) };
    const record = { bytes: 100, parts: [{ bytes: 100, sha256: place.sha256 }] };
    let made: ReturnType<typeof make>;
    beforeEach(async () => {
      made = make();
      await made.store.putPart(digest, place.sha256, bytes);
      await made.store.putRecord(digest, record);
    });

    it.each(['throw', 'hang'] as const)('says so when it answers with %s', async (trouble) => {
      made.trouble(trouble);
      await expect(made.store.getPart(digest, place.sha256)).rejects.toBeInstanceOf(StoreUnavailable);
      await expect(made.store.getRecord(digest)).rejects.toBeInstanceOf(StoreUnavailable);
    });

    it('takes a record that is none for trouble, not for absence', async () => {
      made.trouble('garbage');
      await expect(made.store.getRecord(digest)).rejects.toBeInstanceOf(StoreUnavailable);
    });

    it('asks again as often as an absence of the store can be wrong, and then says null', async () => {
      made.trouble('null');
      const before = made.reads();
      expect(await made.store.getPart(digest, place.sha256)).toBeNull();
      expect(made.reads() - before).toBe(made.readsOfAbsence);
      made.trouble(null);
      expect(await read(await made.store.getPart(digest, place.sha256))).toEqual(bytes);
    });
  });
}
