import { beforeEach, describe, expect, it } from 'vitest';
import type { BlobLedger, GarbageLedger, Registry } from '../../worker/stores/types.ts';
import { digestOf, versionRow } from './sample-rows.ts';

interface Rig {
  files: BlobLedger & GarbageLedger;
  /** Whose versions keep files in use. */
  registry: Registry;
}

/** Marking and collecting files, beside the uploads and publications that they must never hurt. */
export function garbageContract(backend: string, make: () => Promise<Rig>): void {
  describe(`GarbageLedger on ${backend}`, () => {
    let files: Rig['files'];
    let registry: Registry;
    beforeEach(async () => {
      ({ files, registry } = await make());
    });
    const digests = [digestOf('1'), digestOf('2'), digestOf('3')].sort() as [string, string, string];
    const [digest, other] = digests;
    const unused = async (touchedBefore: number) =>
      (await files.unused({ touchedBefore, cursor: null, limit: 9 })).items;
    const record = { bytes: 10, parts: [{ bytes: 10, sha256: digestOf('part') }] };
    const upload = async (at: number, what = digest) => {
      await files.touch({ digest: what, parts: 1, at });
      await files.addPart({ digest: what, tenant: 'me', part: { index: 0, ...record.parts[0]! }, at });
      await files.complete({ digest: what, tenant: 'me', record, at });
    };
    const publish = async (what: string) => {
      const row = versionRow('a', 1, { digest: what });
      row.chain = [{ digest: what, scale: 1, name: 'a', owner: 'default' }];
      await registry.publish({ row, stage: true, before: null });
    };

    it('finds what was not touched lately, in pages', async () => {
      for (const [i, one] of digests.entries()) await files.touch({ digest: one, parts: i + 1, at: 10 * i });
      expect(await unused(0)).toEqual([]);
      expect((await unused(20)).map((file) => [file.digest, file.parts])).toEqual([
        [digests[0], 1],
        [digests[1], 2],
      ]);
      const first = await files.unused({ touchedBefore: 99, cursor: null, limit: 2 });
      const rest = await files.unused({ touchedBefore: 99, cursor: first.cursor, limit: 2 });
      expect([...first.items, ...rest.items].map((file) => file.digest)).toEqual(digests);
      expect(rest.cursor).toBeNull();
    });

    it('knows the size of a file, finished or not', async () => {
      await upload(1);
      await files.touch({ digest: other, parts: 2, at: 1 });
      await files.addPart({
        digest: other,
        tenant: 'me',
        part: { index: 0, bytes: 7, sha256: other },
        at: 1,
      });
      const found = await unused(2);
      expect(found.map(({ bytes }) => bytes)).toEqual([10, 7]);
      expect(found[0]).toEqual({
        digest,
        parts: 1,
        bytes: 10,
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

    it('marks what was not touched since, once; a touch takes the mark away', async () => {
      await upload(5);
      expect(await files.mark({ digest, touchedBefore: 5, at: 50 })).toBe(false);
      expect(await files.mark({ digest, touchedBefore: 6, at: 50 })).toBe(true);
      expect(await files.mark({ digest, touchedBefore: 6, at: 60 })).toBe(false);
      expect(await unused(6)).toMatchObject([{ deletingAt: 50 }]);
      expect(await files.touch({ digest, parts: 0, at: 70 })).toBe(true);
      expect(await unused(99)).toMatchObject([{ deletingAt: null, touchedAt: 70, parts: 1 }]);
      expect(await files.beginCollecting({ digest, markedBefore: 99, at: 100 })).toBe(false);
      expect(await files.holds(digest, 'me')).toBe(true);
    });

    it('collects what has been marked for long: nobody can use it, and all has to be sent again', async () => {
      await upload(5);
      await upload(5, other);
      await files.mark({ digest, touchedBefore: 6, at: 50 });
      expect(await files.beginCollecting({ digest, markedBefore: 50, at: 60 })).toBe(false);
      expect(await files.beginCollecting({ digest, markedBefore: 51, at: 60 })).toBe(true);
      expect(await files.touch({ digest, parts: 1, at: 61 })).toBe(false);
      expect(await files.beginCollecting({ digest, markedBefore: 51, at: 62 })).toBe(false);
      expect([await files.record(digest), await files.holds(digest, 'me')]).toEqual([null, false]);
      expect(await files.parts(digest, 'me')).toEqual([]);
      // Cut off here, it is found again.
      expect(await unused(0)).toMatchObject([{ digest, parts: 1, collectingAt: 60 }]);
      await files.collected(digest);
      expect(await unused(5)).toEqual([]);
      await upload(70);
      expect(await files.holds(digest, 'me')).toBe(true);
      expect(await files.record(other)).toEqual(record);
      await files.collected(digest);
      expect(await files.holds(digest, 'me')).toBe(true);
    });
  });
}
