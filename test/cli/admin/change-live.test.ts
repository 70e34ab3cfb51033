import { describe, expect, it } from 'vitest';
import { flippedText } from '../../../cli/admin/operation-command.ts';
import { collectedText, repairedText } from '../../../cli/commands/upkeep.ts';

describe('texts of admin commands', () => {
  it.each([
    [1, false, 'a@2 is live (before: a@1)'],
    [null, false, 'a@2 is live (nothing was live before)'],
    [2, false, 'a@2 is live already; nothing changed'],
    [1, true, 'dry run: a@2 would be live (now: a@1)'],
    [null, true, 'dry run: a@2 would be live (now: nothing)'],
    [2, true, 'a@2 is live already; nothing would change'],
  ])('describes a change from %s (dry run: %s)', (from, dryRun, expected) => {
    expect(flippedText({ name: 'a', version: 2, from }, dryRun)).toBe(expected);
  });

  it('describes a repair', () => {
    const checked = { names: 2, keys: 1, grants: 0, 'unknown-names': 2 };
    expect(repairedText({ checked, mended: [], damaged: [] }, false)).toBe(
      '2 names, 1 key, 0 grants: KV matches D1',
    );
    const mended = [{ kind: 'name', id: 'a', was: 'missing', did: 'written' }] as const;
    expect(repairedText({ checked, mended, damaged: [] }, true)).toMatch(
      /name +a +missing +written\ndry run: .* 1 would be repaired$/,
    );
    const damaged = [{ table: 'versions', id: 'a@1', column: 'chain' }];
    expect(repairedText({ checked, mended: [], damaged }, true)).toMatch(
      /KV matches D1\n.*\nversions +a@1 +chain\n1 row of D1 is corrupted/,
    );
  });

  it('describes a garbage collection', () => {
    const files = [
      { digest: 'a'.repeat(64), bytes: 5_000_000, action: 'deleted', deletable_at: null },
      { digest: 'b'.repeat(64), bytes: 10, action: 'waits', deletable_at: 0 },
    ] as const;
    expect(
      collectedText({ files, parts: { deleted: 0, bytes: 0 } }, false)
        .split('\n')
        .slice(1),
    ).toEqual([
      expect.stringMatching(/^a{12} +5\.0 MB +deleted +-$/),
      expect.stringMatching(/^b{12} +1 kB +marked already +1970-01-01 00:00Z$/),
      '1 of 2 files, 5.0 MB, deleted',
    ]);
    expect(collectedText({ files: [], parts: { deleted: 0, bytes: 0 } }, true)).toBe('no garbage');
    expect(collectedText({ files: [], parts: { deleted: 2, bytes: 3_000_000 } }, true)).toBe(
      'dry run: 2 parts beside files, 3.0 MB, would be deleted',
    );
  });
});
