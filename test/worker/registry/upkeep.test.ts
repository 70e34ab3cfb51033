/** Repairing KV from the system of record through the admin API, with fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { hashApiKey } from '../../../protocol/identity.ts';
import { NO_CAPS } from '../../contracts/sample-rows.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { openDatabase } from '../platform/database.ts';
import { EXPERIMENT, startExperiment } from '../experiments/experiment-rig.ts';

/** Longer than KV can be stale. */
const LATER_MS = 61_000;
const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
/** An experiment that exists only in KV. */
const LOST = 'exp_000000000000000b';

let graft: AppHarness;
const post = async (path: string, body: object, key?: string) =>
  graft.request(path, { body, ...(key === undefined ? {} : { key }) });
const newKey = async (body: object) =>
  (await (await post('/admin/keys', body)).json()) as { key: string; id: string };
const ask = async (key: string, model: string) => {
  graft.clock.advance(LATER_MS);
  const response = await graft.request('/v1/chat/completions', {
    key,
    body: { model, strict: true, messages: [{ role: 'user', content: 'hi' }] },
  });
  return response.headers.get('x-graft-adapter') ?? response.status;
};
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
});

describe('repair', () => {
  interface Page {
    step: string;
    checked: number;
    mended: { kind: string; id: string; was: string; did: string }[];
    cursor: string | null;
  }
  /** All pages of one run. */
  async function repair(body: object = {}): Promise<{ mended: string[]; pages: Page[] }> {
    graft.clock.advance(LATER_MS);
    const pages: Page[] = [];
    for (let cursor: string | null = null; ;) {
      const response = await post('/admin/repair', { ...body, ...(cursor === null ? {} : { cursor }) });
      expect(response.status).toBe(200);
      const page = (await response.json()) as Page;
      pages.push(page);
      if (page.cursor === null) break;
      cursor = page.cursor;
    }
    const mended = pages.flatMap((page) => page.mended);
    return { pages, mended: mended.map(({ kind, id, was, did }) => `${kind} ${id}: ${was}, ${did}`) };
  }
  /** Repaired at once, and predicted by a dry run; nothing is left. */
  async function mends(expected: string[]): Promise<void> {
    expect((await repair({ dry_run: true })).mended).toEqual(expected);
    expect((await repair()).mended).toEqual(expected);
    expect((await repair()).mended).toEqual([]);
  }

  let key: { key: string; id: string };
  let hash: string;
  beforeEach(async () => {
    key = await newKey({ tenant: 'default', scopes: [] });
    hash = await hashApiKey(key.key);
    await graft.publish('notes', first);
    await graft.publish('notes', second);
    await post('/admin/alias', { name: 'best', target: 'notes' });
  });

  it('finds nothing if everything is right, and checks every kind', async () => {
    const { mended, pages } = await repair();
    expect(mended).toEqual([]);
    expect(pages.map(({ step, checked }) => `${step} ${checked}`)).toEqual([
      'names 2',
      'keys 1',
      'grants 0',
      'unknown-names 2',
      'unknown-experiments 0',
      'unknown-keys 1',
      'unknown-grants 0',
      'rows 2',
      'rows 2',
      'rows 1',
      'rows 0',
      'rows 0',
      'rows 0',
      'rows 2',
      'files 2',
    ]);
  });

  it('writes names that are missing, forged or outdated, and records that in history', async () => {
    let behind: string | null = null;
    graft.kv.tamper('name:notes', (value) => (behind = value));
    await post('/admin/rollback', { name: 'notes' });
    graft.kv.tamper('name:notes', () => behind);
    graft.kv.tamper('name:best', () => null);
    expect(await ask(key.key, 'notes')).toBe('notes@2');
    await mends(['name best: missing, written', 'name notes: outdated, written']);
    expect(await ask(key.key, 'best')).toBe('notes@1');
    graft.kv.tamper('name:notes', () => 'forged');
    await mends(['name notes: unreadable, written']);
    expect(await ask(key.key, 'notes')).toBe('notes@1');
    const { changes } = (await (await graft.request('/admin/history?name=notes')).json()) as {
      changes: { action: string; from: number; to: number }[];
    };
    expect(changes.slice(0, 3).map(({ action, from, to }) => [action, from, to])).toEqual([
      ['repair', 1, 1],
      ['repair', 1, 1],
      ['rollback', 2, 1],
    ]);
  });

  it('removes names that the system of record does not have', async () => {
    const { registry } = graft.services;
    const row = await registry.live('notes');
    await graft.services.nameIndex.put({ name: 'lost', alias: 'notes' });
    await graft.services.nameIndex.put({ name: 'lost/too', alias: row?.name ?? '' });
    graft.kv.tamper('name:Not A Name', () => 'junk');
    await mends(['name lost: unknown, removed', 'name lost/too: unknown, removed']);
    expect(await ask(key.key, 'lost')).toBe(404);
  });

  it('removes experiments that the system of record does not have, whatever KV contains', async () => {
    const made = await post('/admin/experiments', {
      name: 'notes',
      variants: [
        { key: 'control', adapter: 'notes@1', weight: 0.5 },
        { key: 'treatment', adapter: 'notes@2', weight: 0.5 },
      ],
    });
    const { id } = (await made.json()) as { id: string };
    expect((await post(`/admin/experiments/${id}/start`, {})).status).toBe(200);
    const known = await graft.services.experimentIndex.get(id);
    if (known.state !== 'found') throw new Error(known.state);
    await graft.services.experimentIndex.put({ ...known.value, id: LOST });
    graft.kv.tamper('experiment:exp_000000000000000c', () => 'forged');
    graft.kv.tamper('experiment:Not An Id', () => 'junk');
    await mends([
      `experiment ${LOST}: unknown, removed`,
      'experiment exp_000000000000000c: unknown, removed',
    ]);
    expect(await graft.services.experimentIndex.get(LOST)).toEqual({ state: 'gone' });
    expect(await graft.services.experimentIndex.get(id)).toEqual(known);
  });

  it('removes drafts from KV, and archived experiments that are live there', async () => {
    const variants = [
      { key: 'control', adapter: 'notes@1', weight: 0.5 },
      { key: 'treatment', adapter: 'notes@2', weight: 0.5 },
    ];
    const create = async () => {
      const made = await post('/admin/experiments', { name: 'notes', variants });
      return ((await made.json()) as { id: string }).id;
    };
    const step = async (id: string, name: string) =>
      expect((await post(`/admin/experiments/${id}/${name}`, {})).status).toBe(200);
    const { experimentIndex } = graft.services;
    const old = await create();
    await step(old, 'start');
    const live = await experimentIndex.get(old);
    if (live.state !== 'found') throw new Error(live.state);
    await step(old, 'stop');
    await step(old, 'archive');
    // The name has a newer one, so it does not update the old one.
    const next = await create();
    await step(next, 'start');
    await step(next, 'stop');
    await step(next, 'archive');
    const draft = await create();
    await mends([]);
    await experimentIndex.put(live.value);
    await experimentIndex.put({ ...live.value, id: draft });
    await mends([old, draft].sort().map((id) => `experiment ${id}: outdated, removed`));
    for (const id of [old, draft]) expect(await experimentIndex.get(id)).toEqual({ state: 'gone' });
    // Nobody reads an ended experiment's arms.
    await step(draft, 'archive');
    expect((await post('/admin/retire', { name: 'notes', version: 1 })).status).toBe(200);
    await mends([]);
  });

  it('ends requests’ part in an experiment that it removed', async () => {
    await startExperiment(graft);
    const { key: acme } = await newKey({ tenant: 'acme', scopes: [] });
    const asked = async () => {
      graft.clock.advance(LATER_MS);
      const body = { model: 'support/intent', user: 'alice', messages: [{ role: 'user', content: 'hi' }] };
      const { status, headers } = await graft.request('/v1/chat/completions', { key: acme, body });
      return [status, headers.get('x-graft-adapter'), headers.get('x-graft-experiment')];
    };
    expect(await asked()).toEqual([200, 'support/intent@4', EXPERIMENT]);
    await mends(['name support/intent: outdated, written', `experiment ${EXPERIMENT}: unknown, removed`]);
    expect(await asked()).toEqual([200, 'support/intent@6', null]);
  });

  it('writes keys that are missing, forged or outdated', async () => {
    graft.kv.tamper(`key:${hash}`, () => null);
    await mends([`key ${key.id}: missing, written`]);
    graft.kv.tamper(`key:${hash}`, () => 'forged');
    await mends([`key ${key.id}: unreadable, written`]);
    await graft.services.keyIndex.put(hash, { id: key.id, tenant: 'other', scopes: ['**'] });
    await mends([`key ${key.id}: outdated, written`]);
    expect(await ask(key.key, 'notes')).toBe('notes@2');
  });

  it('never restores a revoked key, whichever store has the revocation', async () => {
    let genuine: string | null = null;
    graft.kv.tamper(`key:${hash}`, (value) => (genuine = value));
    graft.clock.advance(LATER_MS);
    const other = await newKey({ tenant: 'default', scopes: [] });
    const otherHash = await hashApiKey(other.key);
    expect((await graft.request(`/admin/keys/${key.id}`, { method: 'DELETE' })).status).toBe(204);
    graft.kv.tamper(`key:${hash}`, () => genuine);
    graft.clock.advance(LATER_MS);
    // D1 was restored to a state before this revocation.
    await graft.services.keyIndex.revoke(otherHash);
    await mends([`key ${key.id}: outdated, removed`, `key ${other.id}: outdated, revoked`].sort());
    for (const one of [key, other]) expect(await ask(one.key, 'notes')).toBe(401);
    expect((await graft.services.keyLedger.get(other.id))?.revoked_at).not.toBeNull();
  });

  it('removes keys that the system of record does not have: nobody could revoke them', async () => {
    const unknown = 'f'.repeat(64);
    await graft.services.keyIndex.put(unknown, { id: 'key_x', tenant: 'default', scopes: ['**'] });
    await mends([`key key_${'f'.repeat(16)}: unknown, removed`]);
    expect(await graft.services.keyIndex.get(unknown)).toEqual({ state: 'gone' });
  });

  it('writes grants that are missing or outdated, and removes those that were not given', async () => {
    const at = { created_at: 1, created_by: 'x' };
    const row = { tenant: 'guest', scope: 'notes', owner: 'default', ...at };
    await graft.services.grantLedger.add(row, NO_CAPS);
    await graft.services.grantIndex.put('other', { grants: [{ scope: '**', owner: null }], refused: [] });
    graft.kv.tamper('grant:Not A Tenant', () => 'junk');
    await mends(['grant guest: missing, written', 'grant other: unknown, removed']);
    await graft.services.grantIndex.put('guest', { grants: [], refused: [] });
    await mends(['grant guest: outdated, written']);
    await graft.services.grantLedger.refuse({ tenant: 'guest', owner: 'default', ...at }, 9);
    await mends(['grant guest: outdated, written']);
  });

  it('continues over several pages', async () => {
    for (let i = 0; i < 60; i += 1) await post('/admin/alias', { name: `many/${100 + i}`, target: 'notes' });
    graft.kv.tamper('name:many/159', () => null);
    const { mended, pages } = await repair();
    expect(mended).toEqual(['name many/159: missing, written']);
    expect(pages.filter(({ step }) => step === 'names').map(({ checked }) => checked)).toEqual([48, 14]);
  });

  it('is for the bootstrap key alone, and rejects made-up cursors', async () => {
    const { key: tenant } = await newKey({ kind: 'admin', tenant: 'default' });
    for (const path of ['/admin/repair', '/admin/gc'])
      expect((await post(path, {}, tenant)).status).toBe(403);
    expect((await post('/admin/repair', { cursor: 'x' })).status).toBe(400);
    expect((await post('/admin/gc', { cursor: 'x' })).status).toBe(400);
  });
});

describe('the schedule', () => {
  it('strikes off the note of a name that was erased after it was noted', async () => {
    const db = await openDatabase();
    graft = await createAppHarness({ db });
    await db.prepare('INSERT INTO stale_pointers (name, since, change) VALUES (?, 1, 1)').bind('gone').run();
    await graft.schedule(() => undefined);
    const noted = await graft.stores.registry.stalePointers({ limit: 9, newest: false });
    expect(noted).toEqual([]);
  });
});
