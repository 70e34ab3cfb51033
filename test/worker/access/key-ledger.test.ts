import { beforeEach, describe, expect, it } from 'vitest';
import { NO_RIGHTS } from '../../../protocol/admin-api/keys.ts';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { openDatabase } from '../platform/database.ts';
import type { KeyRow } from '../../../worker/access/ports.ts';
import type { KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { keyRow } from '../../contracts/sample-rows.ts';

/** Only the key itself. */
const alone = (id: string) => ({ id, successors: false, made: false });

const make = async () => createD1KeyLedger(await openDatabase());

describe('KeyLedger', () => {
  let ledger: KeyLedger;
  beforeEach(async () => {
    ledger = await make();
  });

  const all = async (tenant: string | null = null) =>
    (await ledger.list({ tenant, cursor: null, limit: 99 })).items;

  it('lists a page of keys after the other, also of one moment', async () => {
    const ids = ['key_1', 'key_2', 'key_3', 'key_4', 'key_5'];
    for (const [i, id] of ids.entries()) await ledger.add(keyRow(id, { created_at: Math.floor(i / 3) }));
    await ledger.add(keyRow('key_6', { tenant: 'other' }));
    for (const tenant of ['default', null]) {
      const pages: string[][] = [];
      for (let cursor: string | null = null; ;) {
        const page = await ledger.list({ tenant, cursor, limit: 2 });
        pages.push(page.items.map(({ id }) => id));
        ({ cursor } = page);
        if (cursor === null) break;
      }
      const newest = [...(tenant === null ? ['key_6'] : []), 'key_5', 'key_4', 'key_3', 'key_2', 'key_1'];
      expect(pages.flat()).toEqual(newest);
      expect(pages.length).toBeGreaterThan(2);
    }
  });

  it('returns keys as written, newest first, by tenant', async () => {
    const first = keyRow('key_1');
    const second = keyRow('key_2', { tenant: 'other', created_at: first.created_at + 1, scopes: [] });
    await ledger.add(first);
    await ledger.add(second);
    expect(await ledger.get('key_1')).toEqual(first);
    expect(await ledger.get('key_3')).toBeNull();
    expect(await all()).toEqual([second, first]);
    expect(await all('other')).toEqual([second]);
    expect(await ledger.add(keyRow('key_3', { hash: first.hash }))).toBe(false);
    expect(await ledger.get('key_3')).toBeNull();
  });

  it('stores a key’s limits and expiry', async () => {
    const limits = { requests_per_minute: 50, tokens_per_day: 1e9, on_outage: 'refuse' } as const;
    const more = {
      expires_at: 9,
      strict: true,
      strict_fields: true,
      download: true,
      publish: true,
      train: true,
      keep_prompts: 24,
      prompts: true,
      trust_trace: true,
      degrade: 'base',
      limits,
      counter: 'key_0',
    } as const;
    const row = keyRow('key_1', { ...more, replaced_by: 'key_2' });
    await ledger.add(row);
    expect(await ledger.get('key_1')).toEqual(row);
    expect(await all()).toEqual([row]);
  });

  it('replaces a key atomically', async () => {
    const old = keyRow('key_1', { expires_at: 1_000 });
    const row = { ...keyRow('key_2', { counter: 'key_1' }), replaces: 'key_1' };
    await ledger.add(old);
    expect(await ledger.rotate({ row, expiresAt: 2_000 })).toBe(true);
    expect(await ledger.get('key_2')).toEqual(row);
    expect(await ledger.get('key_1')).toEqual({ ...old, replaced_by: 'key_2' });
    const third = { ...keyRow('key_3'), replaces: 'key_2' };
    await ledger.rotate({ row: third, expiresAt: 500 });
    expect(await ledger.get('key_2')).toMatchObject({ expires_at: 500, replaced_by: 'key_3' });
    const taken = { ...keyRow('key_4', { hash: row.hash }), replaces: 'key_3' };
    await expect(ledger.rotate({ row: taken, expiresAt: 1 })).rejects.toThrow('UNIQUE');
    expect(await ledger.get('key_3')).toEqual(third);
  });

  it('changes a key until it is revoked', async () => {
    const row = keyRow('key_1', { expires_at: 9 });
    await ledger.add(row);
    await ledger.add(keyRow('key_2'));
    const change = {
      id: 'key_1',
      ...NO_RIGHTS,
      scopes: ['a/**'],
      scope_owners: ['clinic'],
      label: 'new',
      limits: { concurrent: 2 },
      limits_fixed: true,
      strict: true,
      strict_fields: true,
      degrade: 'stale' as const,
      download: true,
      publish: true,
      train: true,
      keep_prompts: 720,
      prompts: true,
      trust_trace: true,
    };
    expect(await ledger.change(change, row)).toBe(true);
    expect(await ledger.get('key_1')).toEqual({ ...row, ...change });
    expect(await ledger.get('key_2')).toEqual(keyRow('key_2'));
    // A change based on an older read does not overwrite that.
    const readBefore = { ...row, label: 'mine' };
    expect(await ledger.change(readBefore, row)).toBe(false);
    expect(await ledger.rotate({ row: { ...keyRow('key_3'), replaces: 'key_1' }, expiresAt: 9 })).toBe(false);
    const limits = { tokens_per_day: 9, concurrent: 1, requests_per_minute: 5 };
    const limited = { ...change, limits };
    expect(await ledger.change(limited, change)).toBe(true);
    const otherOrder = { ...limited, limits: { requests_per_minute: 5, concurrent: 1, tokens_per_day: 9 } };
    expect(await ledger.change(change, otherOrder)).toBe(true);
    await ledger.revoke({ ...alone('key_1'), at: 5 });
    expect(await ledger.change({ ...change, label: 'later' }, change)).toBe(false);
    expect(await ledger.get('key_1')).toMatchObject({ label: 'new', revoked_at: 5 });
  });

  it('finds admin keys until they are revoked, and never API keys', async () => {
    const admin = keyRow('key_a', { kind: 'admin' });
    const api = keyRow('key_b');
    await ledger.add(admin);
    await ledger.add(api);
    expect(await ledger.admin(admin.hash)).toEqual(admin);
    expect(await ledger.admin(api.hash)).toBeNull();
    await ledger.revoke({ ...alone('key_a'), at: 7 });
    await ledger.revoke({ ...alone('key_a'), at: 8 });
    expect(await ledger.admin(admin.hash)).toBeNull();
    expect((await ledger.get('key_a'))?.revoked_at).toBe(7);
  });

  /**
   * 1 was rotated into 2, then into 3, and 3 into 4; 2 created 5, which was replaced by 6, and 1 created 7.
   */
  const family = async () => {
    await ledger.add(keyRow('key_1'));
    for (const [id, replaces] of [
      ['key_2', 'key_1'],
      ['key_3', 'key_1'],
      ['key_4', 'key_3'],
    ] as const)
      await ledger.rotate({ row: { ...keyRow(id, { created_by: replaces }), replaces }, expiresAt: 9_000 });
    await ledger.add(keyRow('key_5', { created_by: 'key_2' }));
    await ledger.rotate({ row: { ...keyRow('key_6'), replaces: 'key_5' }, expiresAt: 9_000 });
    await ledger.add(keyRow('key_7', { created_by: 'key_1', expires_at: 50 }));
    await ledger.add(keyRow('key_8'));
  };
  const revoked = async () =>
    (await all()).flatMap(({ id, revoked_at }) => (revoked_at === null ? [] : [id])).sort();
  const idsOf = (rows: KeyRow[]) => rows.map(({ id }) => id);

  it.each([
    [false, false, ['key_1']],
    [true, false, ['key_1', 'key_2', 'key_3', 'key_4']],
    [true, true, ['key_1', 'key_2', 'key_3', 'key_4', 'key_5', 'key_6', 'key_7']],
  ])('ends a key, with its successors %s, with what they made %s', async (successors, made, ids) => {
    await family();
    const line = { id: 'key_1', successors, made };
    await ledger.revoke({ ...line, at: 5 });
    expect(await revoked()).toEqual(ids);
    expect(idsOf(await ledger.line({ ...line, after: null, limit: 9 }))).toEqual(ids);
    const first = await ledger.line({ ...line, after: null, limit: 1 });
    const rest = await ledger.line({ ...line, after: 'key_1', limit: 9 });
    expect(idsOf([...first, ...rest])).toEqual(ids);
  });

  it('lists the keys that a key and its successors created and that are still valid', async () => {
    await family();
    const made = async (id: string, at = 1) => idsOf(await ledger.madeBy({ id, at, limit: 9 })).sort();
    expect(await made('key_1')).toEqual(['key_5', 'key_7']);
    expect(await made('key_1', 50)).toEqual(['key_5']);
    expect(await made('key_3')).toEqual([]);
    expect(await ledger.madeBy({ id: 'key_1', at: 1, limit: 1 })).toHaveLength(1);
    await ledger.revoke({ ...alone('key_5'), at: 5 });
    expect(await made('key_2')).toEqual([]);
  });

  it('adds no key created by, or replacing, a revoked one', async () => {
    await ledger.add(keyRow('key_1'));
    await ledger.add(keyRow('key_2'));
    await ledger.revoke({ ...alone('key_1'), at: 5 });
    expect(await ledger.add(keyRow('key_3', { created_by: 'key_1' }))).toBe(false);
    const rotate = (more: Partial<KeyRow>, replaces: string) =>
      ledger.rotate({ row: { ...keyRow('key_4', more), replaces }, expiresAt: 7 });
    expect(await rotate({}, 'key_1')).toBe(false);
    expect(await rotate({ created_by: 'key_1' }, 'key_2')).toBe(false);
    expect(await ledger.get('key_2')).toEqual(keyRow('key_2'));
    expect(await all()).toHaveLength(2);
  });
});
