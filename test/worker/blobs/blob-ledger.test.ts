import { beforeEach, describe, expect, it } from 'vitest';
import { createD1BlobLedger } from '../../../worker/blobs/d1-blob-ledger.ts';
import { openDatabase } from '../platform/database.ts';
import type { BlobLedger } from '../../../worker/blobs/d1-blob-ledger.ts';
import { digestOf } from '../../contracts/sample-rows.ts';

const make = async () => createD1BlobLedger(await openDatabase());

describe('BlobLedger', () => {
  let ledger: BlobLedger;
  const digest = digestOf('blob');
  const part = (index: number, text: string) => ({ index, bytes: text.length, sha256: digestOf(text) });
  beforeEach(async () => {
    ledger = await make();
  });

  const store = async (at: number, ...texts: string[]) => {
    await ledger.touch({ digest, at });
    return Promise.all(
      texts.map((text) =>
        ledger.storing({ digest, part: { bytes: text.length, sha256: digestOf(text) }, at }),
      ),
    );
  };
  const recordOf = (...texts: string[]) => ({
    bytes: 9,
    parts: texts.map((text) => ({ bytes: 5, sha256: digestOf(text) })),
  });

  it('keeps the parts of each tenant apart, the last word on each counts', async () => {
    await store(1, 'first', 'second');
    await ledger.addPart({ digest, tenant: 'a', part: part(1, 'second'), since: 1, at: 1 });
    await ledger.addPart({ digest, tenant: 'a', part: part(0, 'wrong'), since: 1, at: 2 });
    await ledger.addPart({ digest, tenant: 'a', part: part(0, 'first'), since: 1, at: 3 });
    await ledger.addPart({ digest, tenant: 'b', part: part(0, 'other'), since: 1, at: 4 });
    expect(await ledger.sent(digest, 'a')).toEqual([
      { ...part(0, 'first'), at: 3, stored: true },
      { ...part(1, 'second'), at: 1, stored: true },
    ]);
    expect(await ledger.sent(digest, 'b')).toEqual([{ ...part(0, 'other'), at: 4, stored: true }]);
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
    expect(await ledger.hold({ digest, tenant: 'a', at: 1 })).toBe(false);
    const finish = () => ledger.finish({ digest, record: recordOf('first'), since: 1, at: 1 });
    expect(await finish()).toBeNull();
    await store(1, 'first');
    expect(await finish()).toEqual(recordOf('first'));
    expect(await ledger.holds(digest, 'a')).toBe(false);
    for (const at of [2, 3]) expect(await ledger.hold({ digest, tenant: 'a', at })).toBe(true);
    expect(await ledger.record(digest)).toEqual(recordOf('first'));
    expect([await ledger.holds(digest, 'a'), await ledger.holds(digest, 'b')]).toEqual([true, false]);
  });

  it('keeps the record of the fewest parts, until its bytes are damaged', async () => {
    const finish = async (...texts: string[]) => {
      await store(3, ...texts);
      return ledger.finish({ digest, record: recordOf(...texts), since: 3, at: 3 });
    };
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

  it('counts what was sent of a damaged file as not sent, of its record alone', async () => {
    await store(1, 'a', 'b', 'other');
    for (const [index, text] of ['a', 'b', 'other'].entries()) {
      const part = { index, ...(recordOf(text).parts[0] as { bytes: number; sha256: string }) };
      await ledger.addPart({ digest, tenant: 'a', part, since: 1, at: 1 });
    }
    await ledger.finish({ digest, record: recordOf('a', 'b'), since: 1, at: 2 });
    await ledger.markDamaged({ digest, at: 3 });
    expect((await ledger.sent(digest, 'a')).map(({ index }) => index)).toEqual([2]);
  });

  it('says of a file whose bytes are there again that it is whole, and not of one that is gone', async () => {
    expect(await ledger.mended({ digest, at: 1 })).toBe(false);
    expect(await ledger.record(digest)).toBeNull();
    await store(2, 'a');
    await ledger.finish({ digest, record: recordOf('a'), since: 2, at: 2 });
    await ledger.hold({ digest, tenant: 'a', at: 2 });
    await ledger.markDamaged({ digest, at: 3 });
    expect(await ledger.mended({ digest, at: 4 })).toBe(true);
    expect([await ledger.holds(digest, 'a'), await ledger.readBackAt(digest)]).toEqual([true, 4]);
  });
});
