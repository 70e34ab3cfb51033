import { describe, expect, it } from 'vitest';
import { createD1DropLedger } from '../../../worker/kv-inbox/d1-drop-ledger.ts';
import { DROPS_REMEMBERED } from '../../../worker/kv-inbox/limits.ts';
import type { DropRow } from '../../../worker/kv-inbox/d1-drop-ledger.ts';
import { digestOf } from '../../contracts/sample-rows.ts';
import { openDatabase } from '../platform/database.ts';

const make = async () => createD1DropLedger(await openDatabase());

describe('DropLedger', () => {
  const row = (file: string, at: number, more: Partial<DropRow> = {}): DropRow => ({
    name: 'a',
    sha256: digestOf(file),
    version: null,
    at,
    removedAt: null,
    ...more,
  });

  it('keeps the last word on each file of each name, newest first', async () => {
    const ledger = await make();
    expect(await ledger.recent('a')).toEqual([]);
    await ledger.put(row('1', 1));
    await ledger.put(row('1', 1, { name: 'b' }));
    await ledger.put(row('2', 2, { version: 3, removedAt: 9 }));
    expect(await ledger.recent('a')).toEqual([row('2', 2, { version: 3, removedAt: 9 }), row('1', 1)]);
    await ledger.put(row('1', 5, { version: 4 }));
    expect((await ledger.recent('a')).map(({ at, version }) => [at, version])).toEqual([
      [5, 4],
      [2, 3],
    ]);
    expect(await ledger.recent('b')).toEqual([row('1', 1, { name: 'b' })]);
  });

  it('notes that a file was removed, and nothing of one that it has forgotten', async () => {
    const ledger = await make();
    await ledger.put(row('1', 1, { version: 4 }));
    await ledger.removed(row('1', 1), 7);
    await ledger.removed(row('2', 2), 7);
    expect(await ledger.recent('a')).toEqual([row('1', 1, { version: 4, removedAt: 7 })]);
  });

  it('notes no refusal of a name that has been erased, but what was made of it', async () => {
    const db = await openDatabase();
    const ledger = createD1DropLedger(db);
    const erasing = async (step: string) => {
      await db
        .prepare(
          `INSERT OR REPLACE INTO erasures (id, kind, target, owner, cascade, usage, step, place, touched_at)
           VALUES (1, 'name', 'a', 'acme', 0, 0, ?, '', 0)`,
        )
        .bind(step)
        .run();
      await db
        .prepare("INSERT OR IGNORE INTO erasure_items (erasure, name, version) VALUES (1, 'a', 0)")
        .run();
    };
    await erasing('planned');
    expect(await ledger.put(row('1', 1))).toBe(true);
    await erasing('settling');
    expect(await ledger.put(row('2', 2))).toBe(false);
    expect(await ledger.put(row('3', 3, { version: 1 }))).toBe(true);
    expect(await ledger.put(row('1', 1, { name: 'b' }))).toBe(true);
    expect((await ledger.recent('a')).map(({ at }) => at)).toEqual([3, 1]);
  });

  it(`forgets all but the newest ${DROPS_REMEMBERED} of a name`, async () => {
    const ledger = await make();
    for (let at = 1; at <= DROPS_REMEMBERED + 2; at += 1) await ledger.put(row(`file ${at}`, at));
    const kept = (await ledger.recent('a')).map(({ at }) => at);
    expect(kept).toEqual(Array.from({ length: DROPS_REMEMBERED }, (_, i) => DROPS_REMEMBERED + 2 - i));
  });
});
