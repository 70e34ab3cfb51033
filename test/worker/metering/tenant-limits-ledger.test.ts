import { beforeEach, describe, expect, it } from 'vitest';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1TenantLimits } from '../../../worker/metering/d1-tenant-limits.ts';
import { openDatabase } from '../platform/database.ts';
import type { TenantLimits, TenantLimitsRow } from '../../../worker/metering/ports.ts';
import type { KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { keyRow } from '../../contracts/sample-rows.ts';

const make = async () => {
  const db = await openDatabase();
  return { tenantLimits: createD1TenantLimits(db), keyLedger: createD1KeyLedger(db) };
};

describe('TenantLimits', () => {
  let limits: TenantLimits;
  let keys: KeyLedger;
  const set = async (tenant: string, of: { requests_per_minute: number } | null, changed_at = 1) => {
    const was = (await limits.get(tenant))?.revision ?? 0;
    return (await limits.set({
      tenant,
      limits: of,
      changed_at,
      changed_by: 'bootstrap',
      was,
    })) as TenantLimitsRow;
  };
  beforeEach(async () => {
    ({ tenantLimits: limits, keyLedger: keys } = await make());
  });

  it('keeps the last change, and counts changes', async () => {
    expect(await limits.get('a')).toBeNull();
    const first = await set('a', { requests_per_minute: 5 });
    expect(first).toEqual({
      ...{ tenant: 'a', limits: { requests_per_minute: 5 }, changed_at: 1, changed_by: 'bootstrap' },
      ...{ revision: 1, written_to: '' },
    });
    const second = await set('a', { requests_per_minute: 6 }, 2);
    expect(second).toMatchObject({ limits: { requests_per_minute: 6 }, changed_at: 2, revision: 2 });
    expect(await limits.get('a')).toEqual(second);
  });

  it('rejects changes based on an older state', async () => {
    const change = { tenant: 'a', limits: null, changed_at: 1, changed_by: 'bootstrap' };
    expect(await limits.set({ ...change, was: 1 })).toBeNull();
    expect(await limits.get('a')).toBeNull();
    const first = await set('a', { requests_per_minute: 5 });
    for (const was of [0, 2]) expect(await limits.set({ ...change, was })).toBeNull();
    expect(await limits.get('a')).toEqual(first);
  });

  it('knows which keys were written since the last change', async () => {
    const first = await set('a', { requests_per_minute: 5 });
    await limits.wrote({ ...first, written_to: 'key_1' });
    expect(await limits.unwritten(10)).toEqual([{ ...first, written_to: 'key_1' }]);
    const second = await set('a', null);
    await limits.wrote({ ...first, written_to: null });
    expect(await limits.unwritten(10)).toEqual([second]);
    await limits.wrote({ ...second, written_to: null });
    expect(await limits.unwritten(10)).toEqual([]);
  });

  it('lists tenants with limits, or with keys that still have them', async () => {
    for (const tenant of ['c', 'a', 'b', 'd']) await set(tenant, { requests_per_minute: 5 });
    const lifted = await set('b', null);
    const page = await limits.list({ cursor: null, limit: 3 });
    expect(page.items.map(({ tenant }) => tenant)).toEqual(['a', 'b', 'c']);
    const rest = await limits.list({ cursor: page.cursor, limit: 3 });
    expect(rest.items.map(({ tenant }) => tenant)).toEqual(['d']);
    expect(rest.cursor).toBeNull();
    await limits.wrote({ ...lifted, written_to: null });
    const all = await limits.list({ cursor: null, limit: 10 });
    expect(all.items.map(({ tenant }) => tenant)).toEqual(['a', 'c', 'd']);
  });

  it('come with the rows of the tenant’s keys, however these are read', async () => {
    const hers = keyRow('key_1', { tenant: 'a' });
    const admin = keyRow('key_2', { tenant: 'a', kind: 'admin' });
    await keys.add(hers);
    await keys.add(admin);
    await keys.add(keyRow('key_3', { tenant: 'b' }));
    await set('a', { requests_per_minute: 5 });
    const tenant_limits = { requests_per_minute: 5 };
    expect(await keys.get('key_1')).toEqual({ ...hers, tenant_limits });
    expect(await keys.get('key_3')).toMatchObject({ tenant_limits: null });
    expect(await keys.admin(admin.hash)).toMatchObject({ tenant_limits });
    expect((await keys.page({ cursor: null, limit: 9 })).items[0]).toMatchObject({ tenant_limits });
    expect((await keys.list({ tenant: 'a', cursor: null, limit: 9 })).items).toMatchObject([
      { tenant_limits },
      { tenant_limits },
    ]);
  });

  it('finds the tenant’s valid API keys, page by page', async () => {
    for (const i of [4, 2, 1, 3]) await keys.add(keyRow(`key_${i}`, { tenant: 'a' }));
    await keys.add(keyRow('key_5', { tenant: 'a', kind: 'admin' }));
    await keys.add(keyRow('key_6', { tenant: 'b' }));
    await keys.revoke({ id: 'key_2', successors: false, made: false, at: 9 });
    const page = await keys.ofTenant({ tenant: 'a', cursor: null, limit: 2 });
    expect(page.items.map(({ id }) => id)).toEqual(['key_1', 'key_3']);
    const rest = await keys.ofTenant({ tenant: 'a', cursor: page.cursor, limit: 2 });
    expect(rest.items.map(({ id }) => id)).toEqual(['key_4']);
    expect(rest.cursor).toBeNull();
  });
});
