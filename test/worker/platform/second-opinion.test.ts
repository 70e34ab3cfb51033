import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createD1GrantLedger } from '../../../worker/access/d1-grants.ts';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { createVersionIndex, recordedGrants, recordedKey } from '../../../worker/access/repair-rights.ts';
import { withDatabaseFallback } from '../../../worker/platform/kv-cache.ts';
import { StoreUnavailable, type Lookup } from '../../../worker/platform/ports.ts';
import { digestOf, keyRow, versionRow } from '../../contracts/sample-rows.ts';
import { NO_CAPS } from '../../contracts/sample-rows.ts';
import { openDatabase } from './database.ts';

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
});

describe('a second opinion', () => {
  function rig(first: Lookup<string>, perSecond = 2) {
    const state = { time: 0 };
    const ask = vi.fn(async (key: string): Promise<Lookup<string>> => ({
      state: 'found',
      value: `${key}!`,
      stale: false,
    }));
    const index = withDatabaseFallback({ get: async () => first }, { ask, perSecond, now: () => state.time });
    return { index, ask, state };
  }

  it('is asked for about an absence, and believed', async () => {
    const { index } = rig({ state: 'absent' });
    expect(await index.get('a')).toEqual({ state: 'found', value: 'a!', stale: false });
  });

  it.each<Lookup<string>>([
    { state: 'found', value: 'x', stale: false },
    { state: 'gone' },
    { state: 'trouble', reason: 'x', retryAfterMs: 1 },
  ])('is not asked for about $state', async (first) => {
    const { index, ask } = rig(first);
    expect(await index.get('a')).toEqual(first);
    expect(ask).not.toHaveBeenCalled();
  });

  it('is asked for so often a second and no more', async () => {
    const { index, ask, state } = rig({ state: 'absent' });
    const answers = await Promise.all(['a', 'b', 'c'].map((key) => index.get(key)));
    expect(answers.map((answer) => answer.state)).toEqual(['found', 'found', 'absent']);
    state.time = 999;
    expect((await index.get('c')).state).toBe('absent');
    state.time = 1_000;
    expect((await index.get('c')).state).toBe('found');
    expect(ask).toHaveBeenCalledTimes(3);
  });

  it('that cannot be had leaves the first one standing; a bug does not', async () => {
    const { index, ask } = rig({ state: 'absent' });
    ask.mockRejectedValueOnce(new StoreUnavailable('D1', new Error('down')));
    expect(await index.get('a')).toEqual({ state: 'absent' });
    ask.mockRejectedValueOnce(new TypeError('bug'));
    await expect(index.get('a')).rejects.toThrow('bug');
  });
});

describe('what the system of record says', () => {
  it('of a key: found, gone or absent, and never by half of its hash', async () => {
    const ledger = createD1KeyLedger(await openDatabase());
    const hash = digestOf('key');
    const row = keyRow(`key_${hash.slice(0, 16)}`, { hash, strict: true });
    await ledger.add(row);
    expect(await recordedKey(ledger, hash)).toEqual({
      state: 'found',
      value: { id: row.id, tenant: row.tenant, scopes: row.scopes, scope_owners: ['clinic'], strict: true },
      stale: false,
    });
    expect(await recordedKey(ledger, hash.slice(0, 16).padEnd(64, '0'))).toEqual({ state: 'absent' });
    await ledger.revoke({ id: row.id, successors: false, made: false, at: 1 });
    expect(await recordedKey(ledger, hash)).toEqual({ state: 'gone' });
    const admin = digestOf('admin key');
    await ledger.add(keyRow(`key_${admin.slice(0, 16)}`, { hash: admin, kind: 'admin' }));
    expect(await recordedKey(ledger, admin)).toEqual({ state: 'absent' });
  });

  it('of grants: all that the tenant has, and no more of them than is needed', async () => {
    const ledger = createD1GrantLedger(await openDatabase());
    const at = { created_at: 1, created_by: 'x' };
    for (const [tenant, scope, owner] of [
      ['guest', 'a/**', 'clinic'],
      ['guest', 'e/**', 'eve'],
      ['other', 'b/**', null],
    ] as const)
      await ledger.add({ tenant, scope, owner, ...at }, NO_CAPS);
    await ledger.refuse({ tenant: 'guest', owner: 'eve', ...at }, 9);
    const held = async (tenant: string) => {
      const lookup = await recordedGrants(ledger, tenant);
      return lookup.state === 'found' && lookup.value;
    };
    expect(await held('guest')).toEqual({ grants: [{ scope: 'a/**', owner: 'clinic' }], refused: ['eve'] });
    expect(await held('nobody')).toEqual({ grants: [], refused: [] });
  });

  it('of a version, by its pin', async () => {
    const registry = createD1Registry(await openDatabase());
    const row = versionRow('a/b', 1);
    await registry.publish({ row, stage: false, before: null });
    const index = createVersionIndex(registry);
    expect(await index.get('a/b@1')).toEqual({ state: 'found', value: row, stale: false });
    // The record itself says so: nothing that was remembered of them is to be served.
    expect(await index.get('a/b@2')).toEqual({ state: 'gone' });
    expect(await index.get('a@1')).toEqual({ state: 'gone' });
  });
});
