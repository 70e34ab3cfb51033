/** Changes of keys and grants that are cut off behind D1: the schedule brings them to KV. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RepairAnswer } from '../../../protocol/admin-api/upkeep.ts';
import { createD1GrantLedger } from '../../../worker/access/d1-grants.ts';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1StaleRights } from '../../../worker/access/d1-stale-rights.ts';
import { STALE_RIGHTS_PER_RUN } from '../../../worker/access/limits.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import { catchUp } from '../../../worker/schedule.ts';
import { keyRow, NO_CAPS } from '../../contracts/sample-rows.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { openDatabase } from '../platform/database.ts';

/** Longer than KV can be stale. */
const LATER_MS = 61_000;

let store: AppHarness;
let key: { id: string; hash: string };
let aliceAdmin: { id: string; key: string };
let carolAdmin: { id: string; key: string };

type Wrap = <P extends object>(port: P, name: string) => P;

/** Replaces the port's methods by what `of` returns for them. */
const replacing =
  (of: (label: string, call: () => Promise<unknown>) => () => Promise<unknown>): Wrap =>
  (port, name) =>
    new Proxy(port, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) =>
          of(`${name}.${String(property)}`, () => Reflect.apply(value, target, args) as Promise<unknown>)();
      },
    });

const away = () => Promise.reject(new StoreUnavailable('D1', new Error('away')));
const isWriter = (label: string): boolean => /^rights\./.test(label);

/** How a change of D1, the call `at`, is cut off; `gone` says so where nobody answers. */
const CUTS: Record<string, (at: string, gone: () => void) => Wrap> = {
  'D1’s answer is lost': (at) => replacing((label, call) => (label === at ? () => call().then(away) : call)),
  'the isolate ends': (at, gone) =>
    replacing((label, call) =>
      label === at ? () => call().then(() => (gone(), new Promise(() => undefined))) : call,
    ),
  'the writer’s call fails': () => replacing((label, call) => (isWriter(label) ? away : call)),
  'the isolate ends in the writer’s call': (_, gone) =>
    replacing((label, call) => (isWriter(label) ? () => (gone(), new Promise(() => undefined)) : call)),
};

/** What changes keys and grants, and the call that tells D1. */
const CHANGES: Record<string, [call: string, change: (isolate: AppHarness) => Promise<Response>]> = {
  'a new key': ['keyLedger.add', (to) => to.request('/admin/keys', { body: { tenant: 'alice' } })],
  'a change': [
    'keyLedger.change',
    (to) =>
      to.request('/admin/keys/change', {
        body: { id: key.id, scopes: ['topsecret'], limits: { requests_per_minute: 1 } },
      }),
  ],
  'a rotation': [
    'keyLedger.rotate',
    (to) => to.request('/admin/keys/rotate', { body: { id: key.id, grace: 0 } }),
  ],
  'a revocation': ['keyLedger.revoke', (to) => to.request(`/admin/keys/${key.id}`, { method: 'DELETE' })],
  'a revocation with all that it made': [
    'keyLedger.revoke',
    (to) => to.request(`/admin/keys/${aliceAdmin.id}?made=true`, { method: 'DELETE' }),
  ],
  'a grant': [
    'grantLedger.add',
    (to) => to.request('/admin/grants', { body: { scope: 'topsecret/**', tenant: 'carol' } }),
  ],
  'a grant to everybody': [
    'grantLedger.add',
    (to) => to.request('/admin/grants', { body: { scope: 'topsecret', tenant: '*' } }),
  ],
  'a grant that is taken back': [
    'grantLedger.remove',
    (to) => to.request('/admin/grants?scope=topsecret&tenant=carol', { method: 'DELETE' }),
  ],
  'a grant that its giver takes back': [
    'grantLedger.remove',
    (to) =>
      to.request('/admin/grants?scope=topsecret&tenant=carol', { method: 'DELETE', key: aliceAdmin.key }),
  ],
  'a refusal': [
    'grantLedger.refuse',
    (to) => to.request('/admin/grants/refuse', { body: { from: 'alice' }, key: carolAdmin.key }),
  ],
  'a refusal that ends': [
    'grantLedger.accept',
    (to) => to.request('/admin/grants/refuse?from=bob', { method: 'DELETE', key: carolAdmin.key }),
  ],
};

const noted = () => store.services.staleRights.list(99);
/** Notes are struck off behind the write. */
const expectNoted = (notes: unknown[]) => vi.waitFor(async () => expect(await noted()).toEqual(notes));

/** Keys and grants that KV does not have as D1 has them. */
async function outdated(): Promise<string[]> {
  store.clock.advance(LATER_MS);
  const found: string[] = [];
  for (let cursor: string | null = null; ;) {
    const answer = await store.request('/admin/repair', { body: { cursor, dry_run: true } });
    const page = RepairAnswer.parse(await answer.json());
    found.push(...page.mended.filter(({ kind }) => kind !== 'name').map(({ kind, id }) => `${kind} ${id}`));
    if (page.cursor === null) return found;
    ({ cursor } = page);
  }
}

/** One scheduled run, in yet another isolate. */
async function runSchedule(wrap?: Wrap): Promise<void> {
  const { schedule } = await createAppHarness({ beside: store, ...(wrap === undefined ? {} : { wrap }) });
  await schedule(() => undefined);
}

async function cutOff(cut: string, change: string): Promise<void> {
  const [call, make] = CHANGES[change]!;
  let gone = (): void => undefined;
  const reached = new Promise<void>((resolve) => (gone = resolve));
  const isolate = await createAppHarness({ beside: store, wrap: CUTS[cut]!(call, gone) });
  const answer = await Promise.race([make(isolate), reached]);
  // It is not acknowledged.
  if (answer !== undefined) expect(answer.status).toBe(503);
}

beforeEach(async () => {
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  store = await createAppHarness();
  const make = async <T>(body: object, by = store.adminKey): Promise<T> => {
    const made = await store.request('/admin/keys', { body, key: by });
    expect(made.status).toBe(201);
    return (await made.json()) as T;
  };
  aliceAdmin = await make({ kind: 'admin', tenant: 'alice' });
  carolAdmin = await make({ kind: 'admin', tenant: 'carol' });
  const { id } = await make<{ id: string }>({ tenant: 'alice' }, aliceAdmin.key);
  key = { id, hash: (await store.services.keyLedger.get(id))!.hash };
  await store.publish('topsecret', tinyAdapter({ seed: 1 }), { owner: 'alice' });
  expect(
    (await store.request('/admin/grants', { body: { scope: 'topsecret', tenant: 'carol' } })).status,
  ).toBe(201);
  const refusing = { body: { from: 'bob' }, key: carolAdmin.key };
  expect((await store.request('/admin/grants/refuse', refusing)).status).toBe(201);
  expect(await outdated()).toEqual([]);
  await expectNoted([]);
});
afterEach(() => vi.restoreAllMocks());

describe.each(Object.keys(CUTS))('a change that is cut off because %s', (cut) => {
  it.each(Object.keys(CHANGES))('reaches KV with the next scheduled run: %s', async (change) => {
    await cutOff(cut, change);
    expect((await outdated()).length).toBeGreaterThan(0);
    expect((await noted()).length).toBeGreaterThan(0);
    await runSchedule();
    expect(await outdated()).toEqual([]);
    await expectNoted([]);
  });

  it('reaches KV with the first request of a fresh isolate', async () => {
    await cutOff(cut, 'a revocation');
    await catchUp((await createAppHarness({ beside: store })).services);
    store.clock.advance(LATER_MS);
    expect(await store.services.keyIndex.get(key.hash)).toMatchObject({ state: 'gone' });
  });
});

describe('the schedule', () => {
  it('writes nothing when nothing is noted', async () => {
    const put = vi.spyOn(store.kv, 'put');
    const calls: string[] = [];
    await runSchedule(replacing((label, call) => (isWriter(label) && calls.push(label), call)));
    expect([calls, put.mock.calls]).toEqual([[], []]);
  });

  it('writes the others when one fails, and that one the next time', async () => {
    await cutOff('the isolate ends', 'a revocation');
    await cutOff('the isolate ends', 'a grant that is taken back');
    await runSchedule(replacing((label, call) => (label === 'rights.syncKey' ? away : call)));
    expect(await outdated()).toEqual([`key ${key.id}`]);
    await expectNoted([{ change: expect.any(Number) as number, key: key.hash }]);
    await runSchedule();
    expect(await outdated()).toEqual([]);
  });

  it('takes the oldest first, some a run', async () => {
    const { keyLedger } = store.services;
    const rows = Array.from({ length: STALE_RIGHTS_PER_RUN + 5 }, (_, i) => keyRow(`key_${100 + i}`));
    for (const row of rows) await keyLedger.add(row);
    await runSchedule();
    await expectNoted(
      rows
        .slice(STALE_RIGHTS_PER_RUN)
        .map(({ hash }) => ({ change: expect.any(Number) as number, key: hash })),
    );
  });

  it.each(['key', 'grants'])('writes a change of the %s that came during an earlier write', async (what) => {
    const { keyLedger, grantLedger } = store.services;
    const put = store.kv.put.bind(store.kv);
    let release = (): void => undefined;
    let hangs = (): void => undefined;
    const hanging = new Promise<void>((resolve) => (hangs = resolve));
    vi.spyOn(store.kv, 'put').mockImplementationOnce(async (name, value) => {
      hangs();
      await new Promise<void>((resolve) => (release = resolve));
      await put(name, value);
    });
    const earlier = CHANGES[what === 'key' ? 'a change' : 'a grant']![1](store);
    await hanging;
    // The request ends behind D1.
    if (what === 'key')
      await keyLedger.revoke({ id: key.id, successors: false, made: false, at: store.clock.now() });
    else await grantLedger.remove({ tenant: 'carol', scope: 'topsecret' });
    release();
    expect((await earlier).status).toBeLessThan(300);
    expect(await outdated()).toEqual([what === 'key' ? `key ${key.id}` : 'grant carol']);
    expect(await noted()).toHaveLength(1);
    await runSchedule();
    expect(await outdated()).toEqual([]);
    await expectNoted([]);
  });

  it('revokes a noted key in KV that D1 no longer has', async () => {
    await store.db.prepare('INSERT INTO stale_rights (record) VALUES (?)').bind(`key:${key.hash}`).run();
    await store.db.prepare('DELETE FROM keys WHERE id = ?').bind(key.id).run();
    await runSchedule();
    store.clock.advance(LATER_MS);
    expect(await store.services.keyIndex.get(key.hash)).toMatchObject({ state: 'gone' });
    await expectNoted([]);
  });
});

describe('notes', () => {
  it('are made by what changes something, and only for keys that KV has', async () => {
    const db = await openDatabase();
    const [keys, grants, stale] = [createD1KeyLedger(db), createD1GrantLedger(db), createD1StaleRights(db)];
    const [row, admin] = [keyRow('key_1'), keyRow('key_2', { kind: 'admin', created_by: 'key_1' })];
    const grant = { tenant: 'b', scope: 'a', owner: 'a', created_at: 1, created_by: 'x' };
    const refusal = { tenant: 'b', owner: 'c', created_at: 1, created_by: 'x' };
    /** Strikes off what is noted. */
    const told = async () => {
      const all = await stale.list(99);
      for (const { change } of all) await stale.written(change);
      return all.map((one) => ('key' in one ? one.key : `grants of ${one.grants}`));
    };
    const line = { successors: true, made: true, at: 1 };
    await keys.add(admin);
    await keys.change({ ...admin, label: 'new' }, admin);
    await keys.rotate({ row: keyRow('key_3', { kind: 'admin', replaces: 'key_2' }) as never, expiresAt: 1 });
    await keys.revoke({ id: 'key_2', ...line });
    expect(await told()).toEqual([]);
    await keys.add(row);
    expect(await told()).toEqual([row.hash]);
    expect(await keys.change(row, { ...row, label: 'older' })).toBe(false);
    expect(await keys.add(keyRow('key_4', { created_by: 'key_2' }))).toBe(false);
    expect(
      await keys.rotate({
        row: { ...keyRow('key_5', { created_by: 'key_2' }), replaces: 'key_1' },
        expiresAt: 1,
      }),
    ).toBe(false);
    await keys.revoke({ id: 'key_9', ...line });
    expect(await told()).toEqual([]);
    expect(await keys.change({ ...row, label: 'new' }, row)).toBe(true);
    await keys.revoke({ id: 'key_1', ...line });
    await keys.revoke({ id: 'key_1', ...line });
    expect(await told()).toEqual([row.hash]);

    expect(await grants.add(grant, { ...NO_CAPS, holder: 0 })).toBe('full');
    expect(await grants.remove(grant)).toBe(0);
    expect(await grants.refuse(refusal, 0)).toBe('full');
    expect(await grants.accept(refusal)).toBe(false);
    expect(await told()).toEqual([]);
    expect(await grants.add(grant, NO_CAPS)).toBe('added');
    expect(await told()).toEqual(['grants of b']);
    expect(await grants.add(grant, NO_CAPS)).toBe('known');
    expect(await told()).toEqual([]);
    expect(await grants.remove({ tenant: 'b', scope: 'a' })).toBe(1);
    expect(await grants.refuse(refusal, 9)).toBe('added');
    expect(await told()).toEqual(['grants of b']);
    expect(await grants.accept(refusal)).toBe(true);
    expect(await told()).toEqual(['grants of b']);
  });

  it('have a number that is never used again', async () => {
    const db = await openDatabase();
    const [keys, stale] = [createD1KeyLedger(db), createD1StaleRights(db)];
    const row = keyRow('key_1');
    await keys.add(row);
    const [{ change } = { change: 0 }] = await stale.list(9);
    await stale.written(change);
    await keys.change({ ...row, label: 'new' }, row);
    // The same write strikes it off once more, late.
    await stale.written(change);
    expect(await stale.list(9)).toEqual([{ change: change + 1, key: row.hash }]);
  });
});
