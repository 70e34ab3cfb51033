/** Marking and collecting files, beside the uploads and publications that they must never hurt. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createD1BlobLedger } from '../../../worker/blobs/d1-blob-ledger.ts';
import { createD1Garbage } from '../../../worker/blobs/d1-blob-ledger.ts';
import { DELETER_GONE_MS } from '../../../worker/blobs/limits.ts';
import { createD1PageUploads } from '../../../worker/publications/d1-page-uploads.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import type { BlobLedger, GarbageLedger } from '../../../worker/blobs/d1-blob-ledger.ts';
import type { NameRow, Registry } from '../../../worker/registry/ports.ts';
import { digestOf, versionRow } from '../../contracts/sample-rows.ts';

interface Rig {
  files: BlobLedger & GarbageLedger;
  /** Whose versions keep files in use. */
  registry: Registry;
  pageUploads: ReturnType<typeof createD1PageUploads>;
}

const make = async (): Promise<Rig> => {
  const db = await openDatabase();
  return {
    registry: createD1Registry(db),
    files: { ...createD1BlobLedger(db), ...createD1Garbage(db) },
    pageUploads: createD1PageUploads(db),
  };
};

describe('GarbageLedger', () => {
  let files: Rig['files'];
  let registry: Registry;
  let pageUploads: Rig['pageUploads'];
  beforeEach(async () => {
    ({ files, registry, pageUploads } = await make());
  });
  const digests = [digestOf('1'), digestOf('2'), digestOf('3')].sort() as [string, string, string];
  const [digest, other] = digests;
  const unused = async (touchedBefore: number) =>
    (await files.unused({ touchedBefore, cursor: null, scan: 9, limit: 9 })).items;
  const record = { bytes: 10, parts: [{ bytes: 10, sha256: digestOf('part') }] };
  const send = async (at: number, what: string, tenant: string, text: string, bytes = 10) => {
    const sha256 = digestOf(text);
    const since = await files.touch({ digest: what, at });
    if (since === null || !(await files.storing({ digest: what, part: { bytes, sha256 }, at }))) return false;
    return files.addPart({ digest: what, tenant, part: { index: 0, bytes, sha256 }, since, at });
  };
  const upload = async (at: number, what = digest) => {
    await send(at, what, 'me', 'part');
    const since = await files.touch({ digest: what, at });
    await files.finish({ digest: what, record, since: since ?? NaN, at });
    await files.hold({ digest: what, tenant: 'me', at });
  };
  const publish = async (what: string) => {
    const row = versionRow('a', 1, { digest: what });
    row.chain = [{ digest: what, scale: 1, name: 'a', owner: 'default' }];
    await registry.publish({ row, stage: true, before: null });
  };

  it('finds what was not touched lately, in pages', async () => {
    for (const [i, one] of digests.entries()) await files.touch({ digest: one, at: 10 * i });
    expect(await unused(0)).toEqual([]);
    expect((await unused(20)).map((file) => file.digest)).toEqual(digests.slice(0, 2));
    const page = (cursor: string | null, scan: number) =>
      files.unused({ touchedBefore: 99, cursor, scan, limit: 2 });
    const first = await page(null, 9);
    const rest = await page(first.cursor, 9);
    expect([...first.items, ...rest.items].map((file) => file.digest)).toEqual(digests);
    expect(rest.cursor).toBeNull();
  });

  it('looks at so many files in a page, whether or not it finds some', async () => {
    for (const one of digests) await files.touch({ digest: one, at: 1 });
    await publish(digest);
    const page = (cursor: string | null) => files.unused({ touchedBefore: 99, cursor, scan: 1, limit: 9 });
    expect(await page(null)).toEqual({ items: [], cursor: digests[0] });
    expect(await page(digests[1])).toMatchObject({ items: [{ digest: digests[2] }], cursor: digests[2] });
    expect(await page(digests[2])).toEqual({ items: [], cursor: null });
  });

  it('knows the size of a file, finished or not', async () => {
    await upload(1);
    await send(1, other, 'me', 'other', 7);
    const found = await unused(2);
    expect(found.map(({ bytes, finished }) => [bytes, finished])).toEqual([
      [10, true],
      [7, false],
    ]);
    expect(found[0]).toEqual({
      digest,
      bytes: 10,
      finished: true,
      touchedAt: 1,
      deletingAt: null,
      collectingAt: null,
    });
  });

  it('never counts a file of any version, staged ones included', async () => {
    await upload(1);
    await files.mark({ digest, touchedBefore: 2, at: 3 });
    await publish(digest);
    expect(await unused(99)).toEqual([]);
    expect(await files.mark({ digest, touchedBefore: 2, at: 3 })).toBe(false);
    expect(await files.beginCollecting({ digest, markedBefore: 99, at: 100 })).toBe(false);
  });

  it('counts the file of a version that was removed until that is forgotten, and no longer', async () => {
    await upload(1);
    await publish(digest);
    const before = (await registry.name('a')) as NameRow;
    const items = [{ name: 'a', version: null, before }];
    const note = { actor: 'key_1', at: 5 };
    expect((await registry.remove({ items, owner: before.owner, cascade: false, ...note })).ok).toBe(true);
    expect(await unused(Number.MAX_SAFE_INTEGER)).toEqual([]);
    expect(await registry.forgetRemoved({ before: 6, limit: 9, at: 1 })).toBe(1);
    expect(await unused(Number.MAX_SAFE_INTEGER)).toMatchObject([{ digest }]);
  });

  it('marks what was not touched since, once; a touch takes the mark away', async () => {
    await upload(5);
    expect(await files.mark({ digest, touchedBefore: 5, at: 50 })).toBe(false);
    expect(await files.mark({ digest, touchedBefore: 6, at: 50 })).toBe(true);
    expect(await files.mark({ digest, touchedBefore: 6, at: 60 })).toBe(false);
    expect(await unused(6)).toMatchObject([{ deletingAt: 50 }]);
    expect(await files.touch({ digest, at: 70 })).toBe(5);
    expect(await unused(99)).toMatchObject([{ deletingAt: null, touchedAt: 70 }]);
    expect(await files.beginCollecting({ digest, markedBefore: 99, at: 100 })).toBe(false);
    expect(await files.holds(digest, 'me')).toBe(true);
  });

  it('collects what has been marked for long: nobody can use it, and all has to be sent again', async () => {
    await upload(5);
    await upload(5, other);
    await files.mark({ digest, touchedBefore: 6, at: 50 });
    expect(await files.beginCollecting({ digest, markedBefore: 50, at: 60 })).toBe(false);
    expect(await files.beginCollecting({ digest, markedBefore: 51, at: 60 })).toBe(true);
    expect(await files.touch({ digest, at: 61 })).toBeNull();
    expect(await files.beginCollecting({ digest, markedBefore: 51, at: 62 })).toBe(false);
    expect([await files.record(digest), await files.holds(digest, 'me')]).toEqual([null, false]);
    expect(await files.sent(digest, 'me')).toEqual([]);
    // Cut off here, it is found again.
    expect(await unused(0)).toMatchObject([{ digest, collectingAt: 60 }]);
    const goOn = (claim: number, at: number) => files.goOn({ digest, claim, at, limit: 9 });
    expect(await goOn(60, 63)).toEqual({ claim: 63, parts: [digestOf('part')], others: false });
    const gone = { digest, sha256s: [digestOf('part')] };
    await files.partsCollected({ ...gone, claim: 60 });
    expect((await goOn(63, 63))?.parts).toEqual(gone.sha256s);
    await files.partsCollected({ ...gone, claim: 63 });
    expect((await goOn(63, 63))?.parts).toEqual([]);
    expect(await files.collected({ digest, claim: 60 })).toBe(false);
    expect(await files.collected({ digest, claim: 63 })).toBe(true);
    expect(await unused(5)).toEqual([]);
    await upload(70);
    expect(await files.holds(digest, 'me')).toBe(true);
    expect(await files.record(other)).toEqual(record);
    expect(await files.collected({ digest, claim: 63 })).toBe(false);
    expect(await files.holds(digest, 'me')).toBe(true);
  });

  it('is deleted by one at a time; another takes over what was let go of, or when the first has gone', async () => {
    await send(5, digest, 'me', 'part');
    const at = 10 * DELETER_GONE_MS;
    expect(await files.beginDropping({ digest, touchedBefore: 6, at })).toBe(true);
    const takeOver = (when: number) => files.takeOver({ digest, at: when });
    expect(await takeOver(at + DELETER_GONE_MS)).toBe(false);
    await files.letGo({ digest, claim: at - 1 });
    expect(await takeOver(at + 1)).toBe(false);
    await files.letGo({ digest, claim: at });
    expect([await takeOver(at + 2), await takeOver(at + 3)]).toEqual([true, false]);
    expect(await takeOver(at + DELETER_GONE_MS + 3)).toBe(true);
    expect(await files.goOn({ digest, claim: at + 2, at: at + 4, limit: 9 })).toBeNull();
  });

  it('is not finished by who read it before it was deleted', async () => {
    await send(5, digest, 'me', 'part');
    const upload = { token: 'token', tenant: 'me', digest, bytes: 10, most: 99, files: 1, expiresAt: 999 };
    expect(await pageUploads.claim(upload)).toBe('taken');
    const page = pageUploads.sentWith(upload);
    const sent = { index: 0, bytes: 10, sha256: digestOf('part') };
    expect(await page.add(sent, { since: 5, at: 6 })).toBe(true);
    expect(await page.sent()).toEqual([{ ...sent, at: 6, stored: true }]);
    await files.beginDropping({ digest, touchedBefore: 6, at: 50 });
    const finish = (since: number) => files.finish({ digest, record, since, at: 60 });
    expect(await finish(5)).toBeNull();
    await files.partsCollected({ digest, sha256s: [digestOf('part')], claim: 50 });
    expect(await files.collected({ digest, claim: 50 })).toBe(true);
    expect(await finish(5)).toBeNull();
    // Nobody would delete it with its file.
    const { index, ...part } = sent;
    expect(await files.storing({ digest, part, at: 54 })).toBe(false);
    expect(await files.surplus({ keptBefore: 60, limit: 9 })).toEqual([]);
    await files.leave({ digest, part });
    expect(await files.surplus({ keptBefore: 1, limit: 9 })).toEqual([{ digest, ...part }]);
    // Nor what was stored before.
    const addLate = async () => [
      await files.addPart({ digest, tenant: 'me', part: { index, ...part }, since: 5, at: 56 }),
      await page.add(sent, { since: 5, at: 56 }),
    ];
    expect(await addLate()).toEqual([false, false]);
    await send(55, digest, 'you', 'part');
    expect(await addLate()).toEqual([false, false]);
    expect(await files.sent(digest, 'me')).toEqual([]);
    expect(await page.sent()).toEqual([{ ...sent, at: 6, stored: false }]);
    expect([await finish(5), await finish(55)]).toEqual([null, record]);
  });

  it('drops a file that was never finished, unmarked; not one that is finished or was touched', async () => {
    await send(5, digest, 'me', 'part');
    await upload(5, other);
    const drop = (what: string) => files.beginDropping({ digest: what, touchedBefore: 6, at: 50 });
    expect(await files.beginDropping({ digest, touchedBefore: 5, at: 50 })).toBe(false);
    expect([await drop(digest), await drop(other)]).toEqual([true, false]);
    expect(await send(51, digest, 'me', 'part')).toBe(false);
    await files.partsCollected({ digest, sha256s: [digestOf('part')], claim: 50 });
    expect(await files.collected({ digest, claim: 50 })).toBe(true);
    expect(await files.sent(digest, 'me')).toEqual([]);
    expect(await send(52, digest, 'me', 'part')).toBe(true);
  });

  it('finds parts beside the record, the oldest first, and deletes each under its senders', async () => {
    await send(3, digest, 'you', 'junk', 7);
    await upload(4);
    await send(5, digest, 'other', 'part');
    await send(9, other, 'me', 'left', 8);
    const surplus = async (keptBefore: number) =>
      (await files.surplus({ keptBefore, limit: 9 })).map(({ sha256, bytes }) => [sha256, bytes]);
    expect(await surplus(3)).toEqual([]);
    expect(await surplus(99)).toEqual([
      [digestOf('junk'), 7],
      [digestOf('left'), 8],
    ]);
    const begin = (text: string, keptBefore: number) =>
      files.beginPart({ digest, sha256: digestOf(text), keptBefore, at: 50 });
    expect([await begin('part', 99), await begin('junk', 3)]).toEqual([false, false]);
    expect([await begin('junk', 4), await begin('junk', 4)]).toEqual([true, false]);
    expect(await send(51, digest, 'you', 'junk', 7)).toBe(false);
    expect(await files.keep({ digest, sha256s: [digestOf('junk')], at: 51 })).toBe(false);
    expect(await files.sent(digest, 'you')).toMatchObject([{ stored: false }]);
    await files.partsCollected({ digest, sha256s: [digestOf('junk')], claim: 50 });
    expect(await files.sent(digest, 'you')).toEqual([]);
    expect(await files.sent(digest, 'other')).toMatchObject([{ stored: true }]);
    expect(await files.sent(digest, 'me')).toEqual([]);
    expect(await send(52, digest, 'you', 'junk', 7)).toBe(true);
    await files.postpone({ digest, at: 70 });
    expect(await surplus(60)).toEqual([[digestOf('left'), 8]]);
  });

  it('keeps what was of the record for another while', async () => {
    await send(1, digest, 'me', 'a', 6);
    await send(1, digest, 'me', 'b', 4);
    const parts = ['a', 'b'].map((text) => ({ bytes: 5, sha256: digestOf(text) }));
    await files.finish({ digest, record: { bytes: 10, parts }, since: 1, at: 1 });
    expect(await files.surplus({ keptBefore: 99, limit: 9 })).toEqual([]);
    await send(60, digest, 'me', 'part');
    await files.finish({ digest, record, since: 1, at: 60 });
    expect(await files.surplus({ keptBefore: 60, limit: 9 })).toEqual([]);
    expect(await files.surplus({ keptBefore: 61, limit: 9 })).toHaveLength(2);
  });

  it('remembers where the schedule stopped', async () => {
    expect(await files.position()).toBeNull();
    await files.setPosition(digest);
    await files.setPosition(other);
    expect(await files.position()).toBe(other);
    await files.setPosition(null);
    expect(await files.position()).toBeNull();
  });
});
