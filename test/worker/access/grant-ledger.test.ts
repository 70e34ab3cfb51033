import { beforeEach, describe, expect, it } from 'vitest';
import { createD1GrantLedger } from '../../../worker/access/d1-grants.ts';
import { openDatabase } from '../platform/database.ts';
import { PUBLIC, type GrantRow } from '../../../worker/access/ports.ts';
import type { GrantLedger } from '../../../worker/access/d1-grants.ts';

const grant = (tenant: string, scope: string, owner: string | null = 'clinic'): GrantRow => ({
  tenant,
  scope,
  owner,
  created_at: 1_700_000_000_000,
  created_by: 'bootstrap',
});

import { NO_CAPS } from '../../contracts/sample-rows.ts';
const make = async () => createD1GrantLedger(await openDatabase());

describe('GrantLedger', () => {
  let ledger: GrantLedger;
  beforeEach(async () => {
    ledger = await make();
  });
  const add = (row: GrantRow) => ledger.add(row, NO_CAPS);

  it('stores a grant once, and one per giver', async () => {
    expect(await add(grant('guest', 'a/**'))).toBe('added');
    expect(await add({ ...grant('guest', 'a/**'), created_by: 'bootstrap' })).toBe('known');
    expect(await add(grant('guest', 'a/**', null))).toBe('added');
    expect(await add(grant('guest', 'a/**', 'other'))).toBe('added');
    expect(await ledger.get(grant('guest', 'a/**', null))).toEqual(grant('guest', 'a/**', null));
    expect(await ledger.get(grant('guest', 'a/*'))).toBeNull();
    expect(await ledger.heldBy(['guest'])).toEqual([
      grant('guest', 'a/**', null),
      grant('guest', 'a/**'),
      grant('guest', 'a/**', 'other'),
    ]);
  });

  it('returns what tenants hold, and nothing of others', async () => {
    for (const row of [grant('guest', 'b'), grant(PUBLIC, 'c'), grant('other', 'd')]) await add(row);
    expect(await ledger.heldBy(['guest', PUBLIC])).toEqual([grant(PUBLIC, 'c'), grant('guest', 'b')]);
    expect(await ledger.heldBy(["guest' OR '1'='1"])).toEqual([]);
    expect(await ledger.heldBy([])).toEqual([]);
  });

  it('removes one giver’s grant, or everyone’s', async () => {
    for (const owner of ['clinic', 'other', null]) await add(grant('guest', 'a', owner));
    expect(await ledger.remove({ scope: 'a', tenant: 'guest', owner: 'other' })).toBe(1);
    expect(await ledger.remove({ scope: 'a', tenant: 'guest', owner: 'other' })).toBe(0);
    expect(await ledger.remove({ scope: 'a/**', tenant: 'guest' })).toBe(0);
    expect(await ledger.remove({ scope: 'a', tenant: PUBLIC })).toBe(0);
    expect(await ledger.remove({ scope: 'a', tenant: 'guest' })).toBe(2);
    expect(await ledger.heldBy(['guest'])).toEqual([]);
  });

  it('lists a giver’s grants, in pages', async () => {
    const all = [grant('a', 'x'), grant('a', 'x', 'other'), grant('a', 'y'), grant('b', 'x')];
    for (const row of [...all].reverse()) await add(row);
    const first = await ledger.list({ owner: null, cursor: null, limit: 3 });
    expect(first.items).toEqual(all.slice(0, 3));
    const rest = await ledger.list({ owner: null, cursor: first.cursor, limit: 3 });
    expect(rest).toEqual({ items: all.slice(3), cursor: null });
    const own = await ledger.list({ owner: 'other', cursor: null, limit: 3 });
    expect(own.items).toEqual([all[1]]);
  });

  it('pages through one giver’s grants', async () => {
    const all = [grant('a', 'x'), grant('a', 'y'), grant('b', 'x')];
    for (const row of [...all, grant('a', 'z', 'other')]) await add(row);
    const found: GrantRow[] = [];
    for (let cursor: string | null = null; ;) {
      const page = await ledger.list({ owner: 'clinic', cursor, limit: 2 });
      found.push(...page.items);
      if (page.cursor === null) break;
      cursor = page.cursor;
    }
    expect(found).toEqual(all);
  });

  it('limits what a tenant holds, holds from one giver, and gives', async () => {
    const caps = { holder: 3, pair: 2, giver: 4 };
    const give = (tenant: string, scope: string, owner: string | null = 'clinic') =>
      ledger.add(grant(tenant, scope, owner), caps);
    expect([await give('a', '1'), await give('a', '2'), await give('a', '3')]).toEqual([
      'added',
      'added',
      'full',
    ]);
    expect(await give('a', '2')).toBe('known');
    expect([await give('a', '1', 'other'), await give('a', '2', 'other')]).toEqual(['added', 'full']);
    expect([await give('b', '1'), await give(PUBLIC, '1'), await give('c', '1')]).toEqual([
      'added',
      'added',
      'full',
    ]);
    expect(await ledger.counts(grant('a', ''))).toEqual({ holder: 3, pair: 2, giver: 4 });
    expect(await ledger.counts(grant('a', '', null))).toEqual({ holder: 3, pair: 0, giver: 0 });
  });

  it('lets a tenant refuse a giver: its grants neither apply nor count there, and stay for others', async () => {
    for (const row of [
      grant('guest', 'a'),
      grant('guest', 'b', 'eve'),
      grant('guest', 'c', null),
      grant(PUBLIC, 'd', 'eve'),
      grant('other', 'e', 'eve'),
    ])
      await add(row);
    const refusal = (owner: string) => ({ tenant: 'guest', owner, created_at: 5, created_by: 'bootstrap' });
    expect(await ledger.refuse(refusal('eve'), 2)).toBe('added');
    expect(await ledger.refuse({ ...refusal('eve'), created_at: 6 }, 2)).toBe('known');
    expect(await ledger.refuse(refusal('mallory'), 2)).toBe('added');
    expect(await ledger.refuse(refusal('trudy'), 2)).toBe('full');
    expect(await ledger.refuse(refusal('eve'), 2)).toBe('known');
    expect(await ledger.refusedBy('guest')).toEqual([refusal('eve'), refusal('mallory')]);
    expect(await ledger.refusedBy('other')).toEqual([]);
    const scopes = async (tenant: string) => (await ledger.usableBy(tenant)).map(({ scope }) => scope).sort();
    expect(await scopes('guest')).toEqual(['a', 'c']);
    expect(await scopes('other')).toEqual(['d', 'e']);
    expect(await ledger.heldBy(['guest'])).toHaveLength(3);
    expect(await ledger.counts(grant('guest', ''))).toMatchObject({ holder: 2 });
    expect(await ledger.accept({ tenant: 'guest', owner: 'eve' })).toBe(true);
    expect(await ledger.accept({ tenant: 'guest', owner: 'eve' })).toBe(false);
    expect(await scopes('guest')).toEqual(['a', 'b', 'c', 'd']);
  });
});
