import { beforeEach, describe, expect, it, vi } from 'vitest';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { authenticate } from '../../worker/access/authenticate.ts';
import { authenticateAdmin, presentedAdminKey } from '../../worker/access/require-admin.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { madeUpKey, wellFormedKey } from './hostile-keys.ts';
import { createRandom } from './random.ts';

/** A million takes 25 s: `GUESSES=1000000 npx vitest run test/security/key-guessing.test.ts`. */
const GUESSES = Number(process.env['GUESSES'] ?? 20_000);
const LATER_MS = 61_000;

let graft: AppHarness;
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
});

const ask = (key: string, model = 'notes') =>
  graft.request('/v1/chat/completions', {
    key,
    body: { model, messages: [{ role: 'user', content: 'hi' }] },
  });
const makeKey = async (body: object): Promise<string> => {
  const made = await graft.request('/admin/keys', { body });
  return ((await made.json()) as { key: string }).key;
};

describe('guessing keys', () => {
  it('costs no read, neither of KV nor of the database, whatever is tried', async () => {
    const random = createRandom(1);
    const { keys, keyLedger, adminKeyHash } = graft.services;
    const { now } = graft.clock;
    const reads = [vi.spyOn(keys, 'get'), vi.spyOn(keyLedger, 'admin')];
    const real = { gk: generateApiKey('gk'), ga: generateApiKey('ga') };
    const askAdmin = async (request: Request) => {
      const presented = await presentedAdminKey(request, adminKeyHash);
      return presented.ok ? authenticateAdmin(presented.value, { keyLedger, now }) : presented;
    };
    for (let i = 0; i < GUESSES; i += 1) {
      const forAdmin = i % 2 === 1;
      const guess = madeUpKey(random, forAdmin ? real.ga : real.gk);
      const request = new Request('http://edge.test/', { headers: { authorization: `Bearer ${guess}` } });
      const caller = await (forAdmin ? askAdmin(request) : authenticate(request, keys, now));
      if (caller.ok) throw new Error(`let in: ${guess}`);
    }
    for (const spy of reads) expect(spy).not.toHaveBeenCalled();
    expect(graft.kv.reads).toBe(0);
  });

  it('with a right checksum costs one read and is refused', async () => {
    const random = createRandom(2);
    for (let i = 0; i < 50; i += 1) {
      const body = Array.from({ length: 27 }, () => random.pick([...'0123456789abcdefXYZ'])).join('');
      graft.kv.reads = 0;
      expect((await ask(wellFormedKey('gk', body))).status).toBe(401);
      expect(graft.kv.reads).toBeLessThanOrEqual(2);
    }
  });
});

describe('keys with the same beginning', () => {
  it('are told apart, remembered or not, and revoking one leaves the other', async () => {
    expect((await graft.publish('notes', tinyAdapter({ seed: 1 }))).status).toBe(201);
    const body = 'A'.repeat(26);
    const [mine, theirs, nobodys] = ['0', '1', '2'].map((last) => wellFormedKey('gk', body + last)) as [
      string,
      string,
      string,
    ];
    for (const [key, tenant] of [
      [mine, 'default'],
      [theirs, 'other'],
    ] as const)
      expect(
        (await graft.request('/admin/keys', { body: { tenant, hash: await hashApiKey(key) } })).status,
      ).toBe(201);
    graft.clock.advance(LATER_MS);
    for (let round = 0; round < 3; round += 1) {
      expect((await ask(mine)).status).toBe(200);
      expect((await ask(theirs)).status).toBe(404);
      expect((await ask(nobodys)).status).toBe(401);
    }
    const hash = await hashApiKey(theirs);
    expect((await graft.request(`/admin/keys/key_${hash.slice(0, 16)}`, { method: 'DELETE' })).status).toBe(
      204,
    );
    graft.clock.advance(LATER_MS);
    expect((await ask(theirs)).status).toBe(401);
    expect((await ask(mine)).status).toBe(200);
  });
});

describe('a key of one kind', () => {
  it('is no key of the other, nor are its hash, its id and the secrets of the origins', async () => {
    const api = await makeKey({ scopes: ['**'] });
    const list = (await (await graft.request('/admin/keys')).json()) as { keys: { id: string }[] };
    const hash = graft.services.adminKeyHash as string;
    for (const wrong of [api, hash, list.keys[0]?.id ?? '', 'bootstrap', `ga_${api.slice(3)}`])
      expect((await graft.request('/admin/keys', { key: wrong })).status).toBe(401);
    for (const wrong of [graft.adminKey, hash, `gk_${graft.adminKey.slice(3)}`])
      expect((await ask(wrong)).status).toBe(401);
  });
});
