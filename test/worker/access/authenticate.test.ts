import { describe, expect, it, vi } from 'vitest';
import { generateApiKey, hashApiKey } from '../../../protocol/identity.ts';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { authenticate } from '../../../worker/access/authenticate.ts';
import { authenticateAdmin, presentedAdminKey } from '../../../worker/access/require-admin.ts';
import type { Index, Lookup } from '../../../worker/platform/ports.ts';
import { KeyRecord, keyRecordOf } from '../../../worker/access/ports.ts';
import { keyRow } from '../../contracts/sample-rows.ts';
import { openDatabase } from '../platform/database.ts';

const NOW = 1_800_000_000_000;
const RECORD: KeyRecord = { id: 'key_1', tenant: 'alice', scopes: ['alice/**'] };

const request = (authorization?: string) =>
  new Request('http://edge.test/', authorization === undefined ? {} : { headers: { authorization } });
const index = (lookup: Lookup<KeyRecord>): Index<KeyRecord> & { get: ReturnType<typeof vi.fn> } => ({
  get: vi.fn(async () => lookup),
});
const found = (more: Partial<KeyRecord> = {}): Lookup<KeyRecord> => ({
  state: 'found',
  value: { ...RECORD, ...more },
  stale: false,
});

describe('authenticate', () => {
  const key = generateApiKey('gk');
  const ask = (lookup: Lookup<KeyRecord>, header = `Bearer ${key}`) =>
    authenticate(request(header), index(lookup), () => NOW);

  it('returns the caller with its agreed rights and limits', async () => {
    const limits = { requests_per_minute: 5 };
    expect(await ask(found({ strict: true, limits }))).toEqual({
      ok: true,
      value: { keyId: 'key_1', tenant: 'alice', scopes: ['alice/**'], strict: true, limits, stale: false },
    });
  });

  it('looks up keys by their hash, once', async () => {
    const keys = index(found());
    await authenticate(request(`bearer   ${key} `), keys, () => NOW);
    expect(keys.get.mock.calls).toEqual([[await hashApiKey(key)]]);
  });

  it('refuses a key that has expired, even from the last known record', async () => {
    expect(await ask(found({ expires_at: NOW + 1 }))).toMatchObject({ ok: true });
    for (const stale of [false, true])
      expect(await ask({ state: 'found', value: { ...RECORD, expires_at: NOW }, stale })).toMatchObject({
        ok: false,
        error: { code: 'invalid_api_key', message: expect.stringContaining('expired') },
      });
  });

  it('refuses missing and revoked keys, and reports failures as failures', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    for (const state of ['absent', 'gone'] as const)
      expect(await ask({ state })).toMatchObject({ ok: false, error: { code: 'invalid_api_key' } });
    const trouble = await ask({ state: 'trouble', reason: 'KV is down', retryAfterMs: 2_000 });
    expect(trouble).toMatchObject({
      ok: false,
      error: { code: 'registry_unavailable', retryAfterMs: 2_000 },
    });
  });

  it.each([
    ['', 'malformed'],
    ['Bearer', 'malformed'],
    [`Basic ${key}`, 'malformed'],
    [`Bearer ${key} ${key}`, 'malformed'],
    [`Bearer ${key}${key}`, 'malformed'],
    [key, 'malformed'],
    [`Bearer ${generateApiKey('ga')}`, 'are not accepted here'],
  ])('refuses %j without a look-up', async (header, why) => {
    const keys = index(found());
    const caller = await authenticate(request(header), keys, () => NOW);
    expect(caller).toMatchObject({ ok: false, error: { message: expect.stringContaining(why) } });
    expect(keys.get).not.toHaveBeenCalled();
  });
});

describe('authenticateAdmin', () => {
  const row = keyRow('key_9', { kind: 'admin', tenant: 'alice', scopes: [], scope_owners: [] });

  it('knows the bootstrap key by its hash, and other keys from the system of record', async () => {
    const [bootstrap, hers, late, nobodys] = Array.from({ length: 4 }, () => generateApiKey('ga')) as [
      string,
      string,
      string,
      string,
    ];
    const keyLedger = createD1KeyLedger(await openDatabase());
    await keyLedger.add({ ...row, hash: await hashApiKey(hers) });
    await keyLedger.add({ ...row, id: 'key_8', expires_at: NOW, hash: await hashApiKey(late) });
    const ask = async (key: string, adminKeyHash: string | null = null) => {
      const presented = await presentedAdminKey(request(`Bearer ${key}`), adminKeyHash);
      return presented.ok ? authenticateAdmin(presented.value, { keyLedger, now: () => NOW }) : presented;
    };
    const hash = await hashApiKey(bootstrap);
    expect(await ask(bootstrap, hash)).toMatchObject({ ok: true, value: { root: true } });
    expect(await ask(bootstrap)).toMatchObject({ ok: false });
    expect(await ask(hers, hash)).toMatchObject({ ok: true, value: { root: false, tenant: 'alice' } });
    expect(await ask(nobodys, hash)).toMatchObject({ ok: false, error: { code: 'invalid_api_key' } });
    expect(await ask(late, hash)).toMatchObject({
      ok: false,
      error: { message: expect.stringContaining('expired') },
    });
    expect(await ask(generateApiKey('gk'), hash)).toMatchObject({ ok: false });
  });
});

describe('a key in KV', () => {
  it('contains only what differs from a key without rights', () =>
    expect(keyRecordOf(keyRow('key_1', { scope_owners: [null], strict_fields: true }))).toEqual({
      id: 'key_1',
      tenant: 'default',
      scopes: ['medicine/**'],
      strict_fields: true,
    }));

  it('never has admin rights, whatever the row or the record contains', () => {
    expect(keyRecordOf(keyRow('key_1', { prompts: true }))).not.toHaveProperty('prompts');
    expect(KeyRecord.safeParse(RECORD).success).toBe(true);
    expect(KeyRecord.safeParse({ ...RECORD, prompts: true }).success).toBe(false);
  });
});
