import { beforeEach, describe, expect, it } from 'vitest';
import { PUBLIC, type GrantLedger, type GrantRow } from '../../worker/stores/types.ts';

const grant = (tenant: string, scope: string, owner: string | null = 'clinic'): GrantRow => ({
  tenant,
  scope,
  owner,
  createdAt: 1_700_000_000_000,
  createdBy: 'key_1',
});

export function grantLedgerContract(backend: string, make: () => Promise<GrantLedger>): void {
  describe(`GrantLedger on ${backend}`, () => {
    let ledger: GrantLedger;
    beforeEach(async () => {
      ledger = await make();
    });

    it('keeps a grant once, and one a giver', async () => {
      expect(await ledger.add(grant('guest', 'a/**'))).toBe(true);
      expect(await ledger.add({ ...grant('guest', 'a/**'), createdBy: 'key_2' })).toBe(false);
      expect(await ledger.add(grant('guest', 'a/**', null))).toBe(true);
      expect(await ledger.add(grant('guest', 'a/**', 'other'))).toBe(true);
      expect(await ledger.heldBy(['guest'])).toEqual([
        grant('guest', 'a/**', null),
        grant('guest', 'a/**'),
        grant('guest', 'a/**', 'other'),
      ]);
    });

    it('tells what tenants hold, and nothing of others', async () => {
      await ledger.add(grant('guest', 'b'));
      await ledger.add(grant(PUBLIC, 'c'));
      await ledger.add(grant('other', 'd'));
      expect(await ledger.heldBy(['guest', PUBLIC])).toEqual([grant(PUBLIC, 'c'), grant('guest', 'b')]);
      expect(await ledger.heldBy(["guest' OR '1'='1"])).toEqual([]);
      expect(await ledger.heldBy([])).toEqual([]);
    });

    it('takes away what one giver gave, or what all did', async () => {
      for (const owner of ['clinic', 'other', null]) await ledger.add(grant('guest', 'a', owner));
      expect(await ledger.remove({ scope: 'a', tenant: 'guest', owner: 'other' })).toBe(1);
      expect(await ledger.remove({ scope: 'a', tenant: 'guest', owner: 'other' })).toBe(0);
      expect(await ledger.remove({ scope: 'a/**', tenant: 'guest' })).toBe(0);
      expect(await ledger.remove({ scope: 'a', tenant: PUBLIC })).toBe(0);
      expect(await ledger.remove({ scope: 'a', tenant: 'guest' })).toBe(2);
      expect(await ledger.heldBy(['guest'])).toEqual([]);
    });

    it('lists by giver, in pages', async () => {
      const all = [grant('a', 'x'), grant('a', 'x', 'other'), grant('a', 'y'), grant('b', 'x')];
      for (const row of [...all].reverse()) await ledger.add(row);
      const first = await ledger.list({ owner: null, cursor: null, limit: 3 });
      expect(first.items).toEqual(all.slice(0, 3));
      const rest = await ledger.list({ owner: null, cursor: first.cursor, limit: 3 });
      expect(rest).toEqual({ items: all.slice(3), cursor: null });
      const own = await ledger.list({ owner: 'other', cursor: null, limit: 3 });
      expect(own.items).toEqual([all[1]]);
    });
  });
}
