import { vi } from 'vitest';
import { hashApiKey } from '../../../protocol/identity.ts';
import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createCopies, type AppHarness } from '../app-harness.ts';

/** Who asks, in the order of the table's columns. */
export const ROLES = [
  /** Without a key. */
  'anonymous',
  /** API key of the tenant `guest`. */
  'guest',
  /** Another one of `guest`, with the scope `clinic/**`. */
  'scoped',
  /** API key of the tenant `friend`, which `clinic` granted `clinic/**`. */
  'friend',
  /** API key of the tenant `clinic`. */
  'clinic',
  /** Admin keys of these tenants, and the bootstrap key. */
  'guestAdmin',
  'friendAdmin',
  'clinicAdmin',
  'root',
] as const;
export type Role = (typeof ROLES)[number];

export const TENANT_OF: Record<Role, string> = {
  anonymous: 'nobody',
  guest: 'guest',
  scoped: 'guest',
  friend: 'friend',
  clinic: 'clinic',
  guestAdmin: 'guest',
  friendAdmin: 'friend',
  clinicAdmin: 'clinic',
  root: 'default',
};

/** Longer than what KV may be behind. */
const LATER_MS = 61_000;

export interface World {
  graft: AppHarness;
  keys: Record<Role, string>;
  /** Id of `clinic`'s API key. */
  clinicKeyId: string;
  /** The file of `clinic/notes@2`, which `clinic` sent. */
  notes: TinyAdapter;
  /** Chain id of `clinic/notes@2`. */
  notesChain: string;
  /** A file that nobody has sent, alone and on top of `clinic/notes`. */
  fresh: TinyAdapter;
  freshChild: TinyAdapter;
  /** Path of the draft of an experiment on `clinic/open`, of that adapter with itself. */
  experiment: string;
  /** Starts it, as the bootstrap key. */
  startExperiment(): Promise<void>;
  /** Sends a file as a role. */
  upload(role: Role, adapter: TinyAdapter): Promise<void>;
  /** What the systems of record hold: a refused request must leave it as it is. */
  fingerprint(): Promise<string>;
}

/**
 * `clinic` owns `clinic/notes` (version 2 is live), `clinic/notes/deep` on top of it, which is strict, and `clinic/open`,
 * which everybody may use and which has an experiment. `guest` owns `guest`, `guest/mixed` on top of `clinic/notes`, from
 * when it was allowed to, which is strict, and `guest/latest`, which stands for `clinic/notes`.
 */
export async function createWorld(): Promise<World> {
  const { graft, made } = await copy();
  answerAtOrigin(graft);
  return worldOf(graft, made);
}

const copy = createCopies({}, (graft) => {
  answerAtOrigin(graft);
  return fill(graft);
});

function answerAtOrigin(graft: AppHarness): void {
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url) => {
    if (path.endsWith('/evaluate')) return Response.json({ rows: [{ exact: true, nll: 0.5, tokens: 3 }] });
    if (method === 'GET' && path === '/adapters')
      return Response.json({ budget_bytes: 1, used_bytes: 0, adapters: [] });
    return answer(method, path, init, url);
  };
}

async function must(answered: Promise<Response>): Promise<Record<string, string>> {
  const response = await answered;
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text}`);
  return text === '' ? {} : (JSON.parse(text) as Record<string, string>);
}

async function send(graft: AppHarness, key: string, { bytes, digest }: TinyAdapter): Promise<void> {
  const path = `/admin/blobs/${digest}`;
  await must(graft.request(`${path}/parts/0`, { method: 'PUT', key, body: new Uint8Array(bytes) }));
  const parts = [{ bytes: bytes.length, sha256: digest }];
  await must(graft.request(path, { key, body: { bytes: bytes.length, parts } }));
}

type Made = Pick<World, 'keys' | 'notesChain' | 'experiment'>;

const NOTES = tinyAdapter({ seed: 2 });

/** Makes keys, names, grants and the draft. */
async function fill(graft: AppHarness): Promise<Made> {
  const make = async (body: object) => (await must(graft.request('/admin/keys', { body })))['key'] as string;
  const keys: Record<Role, string> = {
    anonymous: '',
    guest: await make({ tenant: 'guest' }),
    scoped: '',
    friend: await make({ tenant: 'friend' }),
    clinic: await make({ tenant: 'clinic' }),
    guestAdmin: await make({ kind: 'admin', tenant: 'guest' }),
    friendAdmin: await make({ kind: 'admin', tenant: 'friend' }),
    clinicAdmin: await make({ kind: 'admin', tenant: 'clinic' }),
    root: graft.adminKey,
  };
  const publish = async (role: Role, name: string, adapter: TinyAdapter, parent?: string) => {
    await send(graft, keys[role], adapter);
    const body = { name, digest: adapter.digest, ...(parent === undefined ? {} : { parent }) };
    return (await must(graft.request('/admin/versions', { key: keys[role], body })))['chain_id'] as string;
  };
  const grant = (tenant: string, scope: string) =>
    must(graft.request('/admin/grants', { key: keys.clinicAdmin, body: { scope, tenant } }));

  await publish('clinicAdmin', 'clinic/notes', tinyAdapter({ seed: 1 }));
  graft.clock.advance(LATER_MS);
  const notesChain = await publish('clinicAdmin', 'clinic/notes', NOTES);
  const onNotes = (seed: number) => tinyAdapter({ seed, parent: notesChain });
  await publish('clinicAdmin', 'clinic/notes/deep', onNotes(3), 'clinic/notes');
  await publish('clinicAdmin', 'clinic/open', tinyAdapter({ seed: 4 }));
  await grant('*', 'clinic/open');
  await grant('friend', 'clinic/**');
  await publish('guestAdmin', 'guest', tinyAdapter({ seed: 5 }));
  await grant('guest', 'clinic/notes');
  await publish('guestAdmin', 'guest/mixed', onNotes(6), 'clinic/notes');
  for (const name of ['clinic/notes/deep', 'guest/mixed'])
    await must(graft.request('/admin/strict', { body: { name, strict: true } }));
  const latest = { name: 'guest/latest', target: 'clinic/notes' };
  await must(graft.request('/admin/alias', { key: keys.guestAdmin, body: latest }));
  // A scope is bound to who has the room when the key is made.
  keys.scoped = await make({ tenant: 'guest', scopes: ['clinic/**'] });
  graft.clock.advance(LATER_MS);
  const ended = new URLSearchParams({ tenant: 'guest', scope: 'clinic/notes' });
  await must(graft.request(`/admin/grants?${ended}`, { method: 'DELETE', key: keys.clinicAdmin }));
  graft.clock.advance(LATER_MS);

  const made = await must(
    graft.request('/admin/experiments', {
      key: keys.clinicAdmin,
      body: { name: 'clinic/open', variants: sameTwice('clinic/open@1') },
    }),
  );
  return { keys, notesChain, experiment: `/admin/experiments/${made['id'] ?? ''}` };
}

async function worldOf(graft: AppHarness, { keys, notesChain, experiment }: Made): Promise<World> {
  const { registry } = graft.services;
  return {
    experiment,
    startExperiment: async () => void (await must(graft.request(`${experiment}/start`, { body: {} }))),
    graft,
    keys,
    clinicKeyId: `key_${(await hashApiKey(keys.clinic)).slice(0, 16)}`,
    notes: NOTES,
    notesChain,
    fresh: tinyAdapter({ seed: 7 }),
    freshChild: tinyAdapter({ seed: 8, parent: notesChain }),
    upload: (role, adapter) => send(graft, keys[role], adapter),
    fingerprint: async () =>
      JSON.stringify([
        await registry.history({ name: null, owner: null, before: null, limit: 1_000 }),
        await graft.services.keyLedger.page({ cursor: null, limit: 1_000 }),
        await graft.services.grantLedger.list({ owner: null, cursor: null, limit: 1_000 }),
        await registry.rooms({ tenant: null, cursor: null, limit: 1_000 }),
        await graft.services.pins.list(),
        await graft.services.experimentLedger.list({ owner: null, name: null, cursor: null, limit: 1_000 }),
        await graft.db.prepare('SELECT id, state FROM row_files ORDER BY id').all(),
        await graft.db.prepare('SELECT id, revision FROM training_jobs ORDER BY id').all(),
        await graft.db.prepare('SELECT name, label, sha256 FROM evaluations ORDER BY name, label').all(),
        await graft.db.prepare('SELECT * FROM evaluation_scores ORDER BY name, sha256, chain_id').all(),
      ]),
  };
}

/** Variants that do not differ. */
export const sameTwice = (adapter: string): object[] =>
  ['control', 'treatment'].map((key) => ({ key, adapter, weight: 0.5 }));

/** Trouble that is provoked is no news. */
export const quiet = () => vi.spyOn(console, 'error').mockImplementation(() => undefined);
