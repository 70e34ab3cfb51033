import { beforeEach, describe, expect, it, vi } from 'vitest';
import { hashApiKey } from '../../protocol/identity.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const LATER_MS = 61_000;

let graft: AppHarness;
let keys: { alice: string; bob: string };
/** KV key -> genuine values, oldest first. */
let genuine: Map<string, string[]>;

const valueOf = (key: string): string => {
  let value = '';
  graft.kv.tamper(key, (current) => {
    value = current ?? '';
    return current;
  });
  return value;
};

/** What a request gets where nothing is remembered: in a new isolate, so that what is in KV now decides. */
async function ask(
  model: string,
  key: string,
): Promise<{ status: number; chain: string | null; adapter: string | null }> {
  const isolate = await createAppHarness({ beside: graft });
  const { status, headers } = await isolate.request('/v1/chat/completions', {
    key,
    body: { model, messages: [{ role: 'user', content: 'hi' }] },
  });
  return { status, chain: headers.get('x-graft-chain'), adapter: headers.get('x-graft-adapter') };
}

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  genuine = new Map();
  const note = (key: string) => genuine.set(key, [...(genuine.get(key) ?? []), valueOf(key)]);
  keys = { alice: '', bob: '' };
  for (const tenant of ['alice', 'bob'] as const) {
    const made = await graft.request('/admin/keys', { body: { tenant } });
    keys[tenant] = ((await made.json()) as { key: string }).key;
    note(`key:${await hashApiKey(keys[tenant])}`);
  }
  for (const [name, owner, seed] of [
    ['alice/notes', 'alice', 1],
    ['bob/notes', 'bob', 2],
    ['alice/notes', 'alice', 3],
  ] as const) {
    expect((await graft.publish(name, tinyAdapter({ seed }), { owner })).status).toBe(201);
    note(`name:${name}`);
    graft.clock.advance(LATER_MS);
  }
});

const genuineChain = async () => (await ask('alice/notes', keys.alice)).chain;

describe('whoever can write KV', () => {
  it('and flips a byte of a name or a key gets nothing served but the truth', async () => {
    const chain = await genuineChain();
    for (const [key, values] of genuine) {
      if (key === 'name:bob/notes') continue;
      const value = values.at(-1) as string;
      for (let at = 0; at < value.length; at += 5) {
        const flipped =
          value.slice(0, at) + String.fromCharCode(value.charCodeAt(at) ^ 1) + value.slice(at + 1);
        graft.kv.tamper(key, () => flipped);
        const answer = await ask('alice/notes', keys.alice);
        if (key === `key:${await hashApiKey(keys.bob)}`) expect(answer.chain).toBe(chain);
        else expect([key, at, answer.status]).toEqual([key, at, 503]);
      }
      graft.kv.tamper(key, () => value);
    }
    expect(await genuineChain()).toBe(chain);
  });

  it('and moves a genuine value to another key gets nothing served', async () => {
    const names = [...genuine.keys()];
    for (const to of names)
      for (const from of names) {
        if (from === to) continue;
        const value = valueOf(to);
        graft.kv.tamper(to, () => valueOf(from));
        for (const [model, key, owner] of [
          ['alice/notes', keys.alice, 'alice'],
          ['bob/notes', keys.bob, 'bob'],
          ['bob/notes', keys.alice, 'bob'],
          ['alice/notes', keys.bob, 'alice'],
        ] as const) {
          const answer = await ask(model, key);
          expect([200, 404, 503]).toContain(answer.status);
          if (answer.status !== 200) continue;
          expect(key).toBe(keys[owner]);
          expect(answer.adapter?.split('@')[0]).toBe(model);
        }
        graft.kv.tamper(to, () => value);
      }
  });

  it('and moves or makes up a grant opens nothing', async () => {
    const granting = { scope: 'alice/**', tenant: 'carol' };
    expect((await graft.request('/admin/grants', { body: granting })).status).toBe(201);
    graft.clock.advance(LATER_MS);
    const made = await graft.request('/admin/keys', { body: { tenant: 'carol' } });
    const { key: carol } = (await made.json()) as { key: string };
    expect((await ask('alice/notes', carol)).status).toBe(200);
    expect((await ask('alice/notes', keys.bob)).status).toBe(404);
    const hers = valueOf('grant:carol');
    expect(hers).toContain('alice/**');
    for (const to of ['grant:bob', 'grant:*'])
      for (const forged of [
        hers,
        hers.replaceAll('carol', 'bob'),
        hers.slice(65),
        `${'0'.repeat(64)}\n${hers.slice(65)}`,
      ]) {
        const before = valueOf(to);
        graft.kv.tamper(to, () => forged);
        expect([404, 503]).toContain((await ask('alice/notes', keys.bob)).status);
        graft.kv.tamper(to, () => (before === '' ? null : before));
      }
  });

  it('and cuts, doubles, empties or makes up a value gets nothing served', async () => {
    const key = 'name:alice/notes';
    const value = valueOf(key);
    const json = value.slice(65);
    const forged = [
      '',
      '\n',
      json,
      `\n${json}`,
      value.slice(0, 64),
      value.slice(0, -1),
      value + value,
      value.replace('alice', 'bob'),
      `${'0'.repeat(64)}\n${json}`,
      value.toUpperCase(),
      `${value}\n`,
      '{"gone":true}',
      `${value.slice(0, 64)}\n{"gone":true}`,
      'null',
    ];
    for (const text of forged) {
      graft.kv.tamper(key, () => text);
      expect([text.slice(0, 20), (await ask('alice/notes', keys.alice)).status]).toEqual([
        text.slice(0, 20),
        503,
      ]);
    }
  });

  it('and puts an older value back gets the older version served, labelled as that', async () => {
    const [old, now] = genuine.get('name:alice/notes') as [string, string];
    const chain = await genuineChain();
    graft.kv.tamper('name:alice/notes', () => old);
    const replayed = await ask('alice/notes', keys.alice);
    expect(replayed).toMatchObject({ status: 200, adapter: 'alice/notes@1' });
    expect(replayed.chain).not.toBe(chain);
    graft.kv.tamper('name:alice/notes', () => now);
    expect(await ask('alice/notes', keys.alice)).toMatchObject({ adapter: 'alice/notes@2', chain });
  });

  it('cannot make an admin key, nor widen one', async () => {
    const hash = await hashApiKey(keys.bob);
    for (const forged of [
      '{"id":"x","tenant":"alice","scopes":["**"],"kind":"admin"}',
      valueOf(`key:${hash}`),
    ]) {
      graft.kv.tamper(`key:${graft.services.adminKeyHash}`, () => forged);
      graft.kv.tamper(`key:${hash}`, () => forged);
      expect((await graft.request('/admin/keys', { key: keys.bob })).status).toBe(401);
      expect((await ask('alice/notes', keys.bob)).status).not.toBe(200);
    }
  });
});
