import { beforeEach, describe, expect, it } from 'vitest';
import type { KvInbox } from '../../worker/kv-inbox/take-drops.ts';
import type { Page } from '../../worker/platform/ports.ts';

/** @param make an empty box; `drop` and `error` are what a person does with `wrangler kv key`. */
export function dropBoxContract(
  backend: string,
  make: () => Promise<{
    box: KvInbox;
    drop: (name: string, bytes: Uint8Array<ArrayBuffer>) => Promise<void>;
    error: (name: string) => Promise<string | null>;
    afterWrite: () => void;
  }>,
): void {
  describe(`KvInbox on ${backend}`, () => {
    let made: Awaited<ReturnType<typeof make>>;
    beforeEach(async () => {
      made = await make();
    });
    const all = async () => {
      const names: string[] = [];
      let cursor: string | null = null;
      do {
        const page: Page<string> = await made.box.list(cursor);
        names.push(...page.items);
        cursor = page.cursor;
      } while (cursor !== null);
      return names;
    };

    it('lists what was put there, parents before children, and nothing else', async () => {
      const { box, drop } = made;
      for (const name of ['b', 'a/b', 'a', 'Ä', '']) await drop(name, new Uint8Array(3));
      await box.putError('a', { code: 'x', message: 'y', at: 1, retrying: false });
      expect(await all()).toEqual(['', 'a', 'a/b', 'b', 'Ä']);
    });

    it('reads and removes', async () => {
      const { box, drop, afterWrite } = made;
      expect(await box.read('none')).toBeNull();
      const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
      await drop('a', bytes);
      expect(await box.read('a')).toEqual(bytes);
      afterWrite();
      await box.remove('a');
      await box.remove('none');
      afterWrite();
      expect([await box.read('a'), await all()]).toEqual([null, []]);
    });

    it('tells why, also for the longest key, and takes it back', async () => {
      const { box, error, afterWrite } = made;
      const why = { code: 'adapter_invalid', reason: 'no_op', message: 'Grüße', at: 5, retrying: true };
      for (const name of ['a/b', 'é'.repeat(253)]) {
        await box.putError(name, why);
        expect(JSON.parse((await error(name)) as string)).toEqual(why);
        afterWrite();
        await box.clearError(name);
        afterWrite();
        expect(await error(name)).toBeNull();
      }
    });
  });
}
