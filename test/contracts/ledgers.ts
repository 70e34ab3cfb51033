import { beforeEach, describe, expect, it } from 'vitest';
import type { BlobLedger, KeyLedger } from '../../worker/stores/types.ts';
import { digestOf, keyRow } from './sample-rows.ts';

export function blobLedgerContract(backend: string, make: () => Promise<BlobLedger>): void {
  describe(`BlobLedger on ${backend}`, () => {
    let ledger: BlobLedger;
    const digest = digestOf('blob');
    const part = (index: number, text: string) => ({ index, bytes: text.length, sha256: digestOf(text) });
    beforeEach(async () => {
      ledger = await make();
    });

    const store = (at: number, ...texts: string[]) =>
      Promise.all(
        texts.map((text) =>
          ledger.storing({ digest, part: { bytes: text.length, sha256: digestOf(text) }, at }),
        ),
      );
    const recordOf = (...texts: string[]) => ({
      bytes: 9,
      parts: texts.map((text) => ({ bytes: 5, sha256: digestOf(text) })),
    });

    it('keeps the parts of each tenant apart, the last word on each counts', async () => {
      await store(1, 'first', 'second');
      await ledger.addPart({ digest, tenant: 'a', part: part(1, 'second'), at: 1 });
      await ledger.addPart({ digest, tenant: 'a', part: part(0, 'wrong'), at: 2 });
      await ledger.addPart({ digest, tenant: 'a', part: part(0, 'first'), at: 3 });
      await ledger.addPart({ digest, tenant: 'b', part: part(0, 'other'), at: 4 });
      expect(await ledger.sent(digest, 'a')).toEqual([
        { ...part(0, 'first'), at: 3, stored: true },
        { ...part(1, 'second'), at: 1, stored: true },
      ]);
      expect(await ledger.sent(digest, 'b')).toEqual([{ ...part(0, 'other'), at: 4, stored: false }]);
      expect(await ledger.sent(digest, 'c')).toEqual([]);
      await ledger.forgetPart({ digest, tenant: 'a', index: 0 });
      expect(await ledger.sent(digest, 'a')).toEqual([{ ...part(1, 'second'), at: 1, stored: true }]);
    });

    it('keeps what is stored, and nothing else', async () => {
      expect(await store(1, 'first', 'second', 'first')).toEqual([true, true, true]);
      const keep = (...texts: string[]) => ledger.keep({ digest, sha256s: texts.map(digestOf), at: 2 });
      expect(await keep('first', 'second', 'first')).toBe(true);
      expect(await keep('first', 'third')).toBe(false);
    });

    it('knows who holds a whole file', async () => {
      expect(await ledger.record(digest)).toBeNull();
      await ledger.hold({ digest, tenant: 'a', at: 1 });
      expect(await ledger.holds(digest, 'a')).toBe(false);
      expect(await ledger.finish({ digest, record: recordOf('first'), at: 1 })).toEqual(recordOf('first'));
      await ledger.hold({ digest, tenant: 'a', at: 2 });
      expect(await ledger.record(digest)).toEqual(recordOf('first'));
      expect([await ledger.holds(digest, 'a'), await ledger.holds(digest, 'b')]).toEqual([true, false]);
    });

    it('keeps the record of the fewest parts, until its bytes are damaged', async () => {
      const finish = (...texts: string[]) => ledger.finish({ digest, record: recordOf(...texts), at: 3 });
      expect(await finish('a', 'b')).toEqual(recordOf('a', 'b'));
      expect(await finish('c', 'd')).toEqual(recordOf('a', 'b'));
      expect(await finish('a', 'b', 'c')).toEqual(recordOf('a', 'b'));
      expect(await finish('e')).toEqual(recordOf('e'));
      await ledger.hold({ digest, tenant: 'a', at: 4 });
      await ledger.markDamaged({ digest, at: 5 });
      expect([await ledger.holds(digest, 'a'), await ledger.record(digest)]).toEqual([false, recordOf('e')]);
      expect(await finish('c', 'd')).toEqual(recordOf('c', 'd'));
      expect(await ledger.holds(digest, 'a')).toBe(true);
      expect(await finish('a', 'b')).toEqual(recordOf('c', 'd'));
    });
  });
}

export function keyLedgerContract(backend: string, make: () => Promise<KeyLedger>): void {
  describe(`KeyLedger on ${backend}`, () => {
    let ledger: KeyLedger;
    beforeEach(async () => {
      ledger = await make();
    });

    it('gives keys back as written, newest first, by tenant', async () => {
      const first = keyRow('key_1');
      const second = keyRow('key_2', { tenant: 'other', createdAt: first.createdAt + 1, scopes: [] });
      await ledger.add(first);
      await ledger.add(second);
      expect(await ledger.get('key_1')).toEqual(first);
      expect(await ledger.get('key_3')).toBeNull();
      expect(await ledger.list(null)).toEqual([second, first]);
      expect(await ledger.list('other')).toEqual([second]);
      await expect(ledger.add(keyRow('key_3', { hash: first.hash }))).rejects.toThrow('UNIQUE');
    });

    it('keeps what limits and ends a key', async () => {
      const limits = { requestsPerMinute: 50, tokensPerDay: 1e9, onOutage: 'refuse' } as const;
      const more = { expiresAt: 9, strict: true, degrade: 'base', limits, counter: 'key_0' } as const;
      const row = keyRow('key_1', { ...more, replacedBy: 'key_2' });
      await ledger.add(row);
      expect(await ledger.get('key_1')).toEqual(row);
      expect(await ledger.list(null)).toEqual([row]);
    });

    it('replaces a key by another, both or nothing', async () => {
      const old = keyRow('key_1', { expiresAt: 1_000 });
      const row = keyRow('key_2', { counter: 'key_1' });
      await ledger.add(old);
      await ledger.rotate({ row, old: 'key_1', expiresAt: 2_000 });
      expect(await ledger.get('key_2')).toEqual(row);
      expect(await ledger.get('key_1')).toEqual({ ...old, replacedBy: 'key_2' });
      await ledger.rotate({ row: keyRow('key_3'), old: 'key_2', expiresAt: 500 });
      expect(await ledger.get('key_2')).toMatchObject({ expiresAt: 500, replacedBy: 'key_3' });
      const taken = keyRow('key_4', { hash: row.hash });
      await expect(ledger.rotate({ row: taken, old: 'key_3', expiresAt: 1 })).rejects.toThrow('UNIQUE');
      expect(await ledger.get('key_3')).toEqual(keyRow('key_3'));
    });

    it('changes what can be changed, until a key is revoked', async () => {
      const row = keyRow('key_1', { expiresAt: 9 });
      await ledger.add(row);
      await ledger.add(keyRow('key_2'));
      const change = {
        id: 'key_1',
        scopes: ['a/**'],
        owners: ['clinic'],
        label: 'new',
        limits: { concurrent: 2 },
        strict: true,
        degrade: 'stale' as const,
      };
      await ledger.change(change);
      expect(await ledger.get('key_1')).toEqual({ ...row, ...change });
      expect(await ledger.get('key_2')).toEqual(keyRow('key_2'));
      await ledger.revoke('key_1', 5);
      await ledger.change({ ...change, label: 'later' });
      expect(await ledger.get('key_1')).toMatchObject({ label: 'new', revokedAt: 5 });
    });

    it('finds admin keys until they are revoked, and never API keys', async () => {
      const admin = keyRow('key_a', { kind: 'admin' });
      const api = keyRow('key_b');
      await ledger.add(admin);
      await ledger.add(api);
      expect(await ledger.admin(admin.hash)).toEqual(admin);
      expect(await ledger.admin(api.hash)).toBeNull();
      await ledger.revoke('key_a', 7);
      await ledger.revoke('key_a', 8);
      expect(await ledger.admin(admin.hash)).toBeNull();
      expect((await ledger.get('key_a'))?.revokedAt).toBe(7);
    });
  });
}
