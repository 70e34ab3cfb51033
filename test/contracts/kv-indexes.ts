import { beforeEach, describe, expect, it } from 'vitest';
import { manifestOf } from '../../worker/intake/write-pointer.ts';
import type { BlobStore, KeyIndex, NameIndex } from '../../worker/stores/types.ts';
import { digestOf, versionRow } from './sample-rows.ts';

/** @param afterWrite lets the time pass that KV wants between writes and until they are seen. */
export function nameIndexContract(
  backend: string,
  make: () => Promise<{ index: NameIndex; afterWrite: () => void }>,
): void {
  describe(`NameIndex on ${backend}`, () => {
    it('gives the manifest back that was put last', async () => {
      const { index, afterWrite } = await make();
      const first = manifestOf(versionRow('alice/notes', 1));
      await index.put(first);
      afterWrite();
      expect(await index.get('alice/notes')).toEqual({ state: 'found', value: first, stale: false });
      const second = manifestOf(versionRow('alice/notes', 2));
      await index.put(second);
      afterWrite();
      expect(await index.get('alice/notes')).toEqual({ state: 'found', value: second, stale: false });
      expect(await index.get('alice/absent')).toEqual({ state: 'absent' });
    });

    it('takes the longest name', async () => {
      const { index } = await make();
      const name = Array.from({ length: 4 }, () => 'x'.repeat(63)).join('/');
      await index.put(manifestOf(versionRow(name, 1)));
      expect((await index.get(name)).state).toBe('found');
    });
  });
}

export function keyIndexContract(
  backend: string,
  make: () => Promise<{ index: KeyIndex; afterWrite: () => void }>,
): void {
  describe(`KeyIndex on ${backend}`, () => {
    it('finds a key until it is revoked, and then says so', async () => {
      const { index, afterWrite } = await make();
      const record = { id: 'key_1', tenant: 'default', scopes: ['**'] };
      const hash = digestOf('key 1');
      await index.put(hash, record);
      afterWrite();
      expect(await index.get(hash)).toEqual({ state: 'found', value: record, stale: false });
      await index.revoke(hash);
      afterWrite();
      expect(await index.get(hash)).toEqual({ state: 'gone' });
      expect(await index.get(digestOf('key 2'))).toEqual({ state: 'absent' });
    });
  });
}

export function blobStoreContract(backend: string, make: () => Promise<BlobStore>): void {
  describe(`BlobStore on ${backend}`, () => {
    let store: BlobStore;
    const digest = digestOf('blob');
    beforeEach(async () => {
      store = await make();
    });

    it('gives record and parts back', async () => {
      const bytes = Uint8Array.from({ length: 1_000 }, (_, i) => i % 256);
      const record = { bytes: 1_000, parts: [{ bytes: 1_000, sha256: digestOf('part') }] };
      await store.putPart(digest, 0, bytes);
      await store.putRecord(digest, record);
      expect(await store.getRecord(digest)).toEqual(record);
      const part = new Uint8Array(await new Response(await store.getPart(digest, 0)).arrayBuffer());
      expect(part).toEqual(bytes);
    });

    it('has null for what is not there', async () => {
      expect(await store.getRecord(digestOf('none'))).toBeNull();
      expect(await store.getPart(digestOf('none'), 0)).toBeNull();
    });
  });
}
