/** Keys: make, change, limit, rotate, let expire, revoke; and keys that are none. */
import { crc32 } from 'node:zlib';
import type { KeyLimits } from '../../../protocol/admin-api/keys.ts';
import { STALE_MS } from '../truth.ts';
import { codeOf } from '../client.ts';
import { type Actor, type Key, type Outcome, sha256, type Simulation } from '../simulation.ts';
import type { Random } from '../world/random.ts';
import {
  admin,
  complete,
  always,
  committed,
  lastingKeys,
  liveKeys,
  LOST,
  type Operation,
  namesOf,
  pickOr,
  repeat,
  SECOND,
} from './operation.ts';

const MINUTE = 60 * SECOND;
const KEY_REFUSALS = ['conflict', 'version_conflict'];

interface KeyJson {
  id: string;
  key?: string;
  scopes: string[];
  limits: KeyLimits | null;
  expires_at: number | null;
  train?: boolean;
}

/** As the client keeps a key that it was given. */
function keep(
  sim: Simulation,
  { tenant }: Actor,
  text: string,
  json: KeyJson,
  before: Key | null = null,
): Key {
  const { id, scopes, limits, expires_at: endsAt } = json;
  const key: Key = {
    ...{ id, text, tenant: tenant.id, scopes, revokedAt: endsAt, changes: 0, changing: 0 },
    limited: limits !== null,
    counter: before?.counter ?? id,
    replaces: before?.id ?? null,
    trains: json.train ?? false,
  };
  tenant.keys.push(key);
  sim.quotas.know(text, { counter: key.counter, tenant: tenant.id });
  if (sim.truth.keys.now(id) === undefined) sim.fail(LOST, `key ${id} is not in D1`);
  return key;
}

/** Makes a key of the tenant. @returns null when it was refused or lost. */
export async function makeKey(
  sim: Simulation,
  actor: Actor,
  given: { scopes: readonly string[]; limits?: KeyLimits; [right: string]: unknown },
): Promise<{ outcome: Outcome; key: Key | null }> {
  const { outcome, json } = await admin(sim, actor, { path: '/admin/keys', body: given });
  if (outcome !== 'done') return { outcome, key: null };
  const made = json as KeyJson;
  const key = keep(sim, actor, made.key as string, made);
  // No older record of it is anywhere.
  if (given.limits !== undefined) sim.quotas.set(key.counter, given.limits, -Infinity);
  return { outcome, key };
}

const someScopes = ({ tenant, random }: Actor): string[] =>
  random.chance(0.7) ? [`${tenant.id}/**`] : [`${tenant.id}/${random.pick(['a', 'b', 'c'])}/**`];

function someLimits(random: Random): KeyLimits {
  return random.pick<KeyLimits>([
    { tokens_per_day: random.between(200, 3_000), on_outage: 'refuse' },
    { requests_per_minute: random.between(2, 20), on_outage: random.pick(['allow', 'refuse']) },
    { tokens_per_minute: random.between(60, 600), on_outage: random.pick(['allow', 'refuse']) },
    { concurrent: random.between(1, 4) },
    { requests_per_minute: random.between(5, 30), concurrent: random.between(1, 6), on_outage: 'refuse' },
  ]);
}

/** Changes a key, and looks whether that is what D1 has, unless somebody else changed it at the same time. */
async function change(sim: Simulation, actor: Actor, key: Key): Promise<Outcome> {
  const { random, tenant } = actor;
  const label = sim.nextMark();
  const scopes = random.chance(0.2) ? [`${tenant.id}/**`] : undefined;
  const limits = random.chance(0.4)
    ? random.pick([null, { requests_per_minute: random.between(3, 30) }, { tokens_per_minute: null }])
    : undefined;
  key.changes += 1;
  const changes = key.changing === 0 ? key.changes : null;
  key.changing += 1;
  if (limits !== undefined) sim.quotas.changing(key.counter, sim.world.time.now);
  key.limited ||= limits !== undefined;
  const { outcome, json } = await admin(
    sim,
    actor,
    {
      path: '/admin/keys/change',
      body: {
        ...{ id: key.id, label, scopes, limits },
        ...(random.chance(0.4)
          ? { degrade: random.pick(['stale', 'ancestor', 'base', 'refuse', null]) }
          : {}),
        ...(random.chance(0.2) ? { strict: random.chance(0.3) } : {}),
      },
    },
    KEY_REFUSALS,
  );
  key.changing -= 1;
  if (outcome !== 'done' || key.changes !== changes) return outcome;
  const [row] = await committed<{ rights: string }>(sim, 'SELECT rights FROM keys WHERE id = ?', key.id);
  const rights = JSON.parse(row?.rights ?? '{}') as { label?: string; scopes?: string[]; limits?: KeyLimits };
  if (rights.label !== label) sim.fail(LOST, `${label} of key ${key.id}: D1 has ${row?.rights}`);
  key.scopes = rights.scopes ?? [];
  // A key that rotated from it has limits of its own for the same counter.
  const alone = !tenant.keys.some((one) => one !== key && one.counter === key.counter);
  const told = (json as KeyJson).limits;
  if (limits !== undefined) sim.quotas.set(key.counter, alone ? told : null, sim.world.time.now);
  return outcome;
}

/** It, and those that it was rotated into, have ended. */
function ended(sim: Simulation, { tenant }: Actor, id: string): void {
  const { now } = sim.world.time;
  for (const key of tenant.keys)
    if (key.id === id) key.revokedAt = Math.min(key.revokedAt ?? Infinity, now);
    else if (key.replaces === id && (key.revokedAt ?? Infinity) > now)
      ended(sim, { tenant } as Actor, key.id);
}

export async function revoke(sim: Simulation, actor: Actor, key: Key): Promise<Outcome> {
  const query = actor.random.pick(['', '?report=true', '?forget_prompts=true']);
  const path = `/admin/keys/${key.id}${query}`;
  if (query.includes('forget')) sim.forgetting.add(key.counter);
  const from = sim.world.time.now;
  const { outcome } = await repeat(sim, actor, { method: 'DELETE', path });
  if (outcome !== 'done') return outcome;
  ended(sim, actor, key.id);
  if (query.includes('forget')) sim.forgotten.add(key.id);
  // An erasure of its tenant takes revoked keys away.
  if (sim.truth.keys.now(key.id)?.revoked !== true && !sim.truth.erasedDuring(actor.tenant.id, from))
    sim.fail(LOST, `the revocation of ${key.id} is not in D1`);
  return outcome;
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Well-formed, with its checksum. */
function keyText(random: Random, kind: 'gk' | 'ga' = 'gk'): string {
  const head = `${kind}_${Array.from({ length: 27 }, () => random.pick([...DIGITS])).join('')}`;
  let rest = crc32(head);
  let sum = '';
  for (let at = 0; at < 6; at += 1) {
    sum = DIGITS.charAt(rest % 62) + sum;
    rest = Math.floor(rest / 62);
  }
  return head + sum;
}

/** Other than it, and no key. */
function garbled(random: Random, text: string): string {
  const at = random.between(3, text.length - 1);
  const other = DIGITS.charAt((DIGITS.indexOf(text.charAt(at)) + random.between(1, 61)) % 62);
  return random.pick([
    text.slice(0, at) + other + text.slice(at + 1),
    text.slice(0, at),
    `${text}A`,
    text.replace('gk_', 'ga_'),
    keyText(random),
    keyText(random, 'ga'),
  ]);
}

const endedKeys = (sim: Simulation, { tenant }: Actor): Key[] =>
  tenant.keys.filter(({ revokedAt }) => revokedAt !== null && revokedAt + STALE_MS < sim.world.time.now);

export const KEYS = {
  'make a key': {
    weight: 4,
    possible: always,
    run: async (sim, actor) => {
      const { random } = actor;
      const { outcome } = await makeKey(sim, actor, {
        scopes: someScopes(actor),
        ...(random.chance(0.2) ? { limits: someLimits(random) } : {}),
        ...(random.chance(0.2) ? { expires_in: random.between(30 * SECOND, 10 * MINUTE) } : {}),
        ...(random.chance(0.2) ? { degrade: random.pick(['stale', 'ancestor', 'base', 'refuse']) } : {}),
      });
      return outcome;
    },
  },
  'register a key': {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const text = keyText(actor.random);
      const scopes = [`${actor.tenant.id}/**`];
      const { outcome, json } = await repeat(sim, actor, {
        path: '/admin/keys',
        body: { tenant: actor.tenant.id, scopes, hash: sha256(text) },
        key: sim.world.adminKey,
      });
      if (outcome !== 'done') return outcome;
      keep(sim, actor, text, json as KeyJson);
      const rows = await committed(sim, 'SELECT id FROM keys WHERE hash = ?', sha256(text));
      if (rows.length !== 1) sim.fail('a repetition changes nothing', `${rows.length} keys have one hash`);
      return outcome;
    },
  },
  'change a key': {
    weight: 3,
    possible: (sim, actor) => liveKeys(sim, actor).length > 0,
    run: (sim, actor) => change(sim, actor, actor.random.pick(liveKeys(sim, actor))),
  },
  'change a key twice': {
    weight: 1,
    possible: (sim, actor) => liveKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      const key = actor.random.pick(liveKeys(sim, actor));
      const label = sim.nextMark();
      const degrade = actor.random.pick(['stale', 'ancestor', 'base', 'refuse']);
      key.changes += 1;
      const changes = key.changing === 0 ? key.changes : null;
      key.changing += 1;
      const path = '/admin/keys/change';
      const both = await Promise.all(
        [{ label }, { degrade }].map((what) =>
          admin(sim, actor, { path, body: { id: key.id, ...what } }, KEY_REFUSALS),
        ),
      );
      key.changing -= 1;
      const outcomes = both.map(({ outcome }) => outcome);
      if (outcomes.every((one) => one === 'done') && key.changes === changes) {
        const [row] = await committed<{ rights: string }>(
          sim,
          'SELECT rights FROM keys WHERE id = ?',
          key.id,
        );
        const rights = JSON.parse(row?.rights ?? '{}') as { label?: string; degrade?: string };
        if (rights.label !== label || rights.degrade !== degrade)
          sim.fail(LOST, `${label} and ${degrade} of key ${key.id}: D1 has ${row?.rights}`);
      }
      return outcomes.includes('done') ? 'done' : (outcomes[0] as Outcome);
    },
  },
  'change and revoke a key': {
    weight: 3,
    possible: (_sim, actor) => lastingKeys(actor).length > 3,
    run: async (sim, actor) => {
      const key = actor.random.pick(lastingKeys(actor));
      const [, revoked] = await Promise.all([
        change(sim, actor, key),
        sim.world.time.sleep(actor.life, actor.random.below(60)).then(() => revoke(sim, actor, key)),
        sim.world.time.sleep(actor.life, actor.random.below(60)).then(() => change(sim, actor, key)),
      ]);
      if (revoked !== 'done') return revoked;
      const late = await change(sim, actor, key);
      if (late === 'done')
        sim.fail('6 what was revoked opens nothing', `${key.id} was changed after its end`);
      return revoked;
    },
  },
  'rotate a key': {
    weight: 3,
    possible: (_sim, actor) => lastingKeys(actor).length > 0,
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const old = random.pick(lastingKeys(actor));
      const { outcome, json } = await admin(
        sim,
        actor,
        { path: '/admin/keys/rotate', body: { id: old.id, grace: random.between(30 * SECOND, 10 * MINUTE) } },
        KEY_REFUSALS,
      );
      if (outcome !== 'done') {
        // It may end, and nobody knows when.
        old.revokedAt ??= Infinity;
        return outcome;
      }
      const made = json as KeyJson & { old_expires_at: number };
      const key = keep(sim, actor, made.key as string, made, old);
      // Who rotates it twice has two successors; each has the limits that it was made with.
      if (tenant.keys.filter(({ counter }) => counter === key.counter).length > 2)
        sim.quotas.set(key.counter, null, sim.world.time.now);
      old.revokedAt = Math.min(old.revokedAt ?? Infinity, made.old_expires_at);
      const both = await Promise.all([complete(sim, actor, { key }), complete(sim, actor, { key: old })]);
      return both.includes('done') ? 'done' : outcome;
    },
  },
  'revoke a key': {
    weight: 2,
    possible: (_sim, actor) => lastingKeys(actor).length > 2,
    run: (sim, actor) => revoke(sim, actor, actor.random.pick(liveKeys(sim, actor))),
  },
  'ask with an ended key': {
    weight: 2,
    possible: (sim, actor) => endedKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      // An answer is a breach.
      const key = actor.random.pick(endedKeys(sim, actor));
      const outcome = await complete(sim, actor, { key });
      return outcome === 'refused' ? 'done' : 'lost';
    },
  },
  'ask with no key': {
    weight: 1,
    possible: (sim, actor) => liveKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      const { random } = actor;
      const text = garbled(random, random.pick(liveKeys(sim, actor)).text);
      const answered = await sim.ask(
        actor,
        random.chance(0.5)
          ? { path: random.pick(['/v1/models', '/admin/keys', '/admin/names']), key: text }
          : {
              path: '/v1/chat/completions',
              key: text,
              body: { model: 'base', messages: [{ role: 'user', content: 'hello' }], max_tokens: 4 },
            },
      );
      if (answered.kind === 'lost') return 'lost';
      if (answered.status < 300)
        sim.fail('a wrong key opens nothing', `${text}: ${answered.text.slice(0, 200)}`);
      return codeOf(answered) === 'invalid_api_key' ? 'done' : 'refused';
    },
  },
  'exceed limits': {
    weight: 2,
    possible: always,
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const limits = someLimits(random);
      const { outcome, key } = await makeKey(sim, actor, { scopes: [`${tenant.id}/**`], limits });
      if (key === null) return outcome;
      const model = random.chance(0.5) ? 'base' : pickOr(random, namesOf(sim, actor, 'live'), 'base');
      const outcomes = await Promise.all(
        Array.from({ length: random.between(3, 8) }, async () => {
          await sim.world.time.sleep(actor.life, random.below(400));
          return complete(sim, actor, { key, model, maxTokens: random.between(8, 40) });
        }),
      );
      return outcomes.includes('done') ? 'done' : 'refused';
    },
  },
  'limit a tenant': {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const counter = `tenant ${tenant.id}`;
      const limits = random.pick([
        null,
        { requests_per_minute: random.between(10, 60) },
        { tokens_per_minute: random.between(1_000, 4_000), requests_per_minute: null },
        { concurrent: random.between(4, 20), on_outage: 'refuse' },
      ]);
      const begun = (tenant.limitings += 1);
      sim.quotas.changing(counter, sim.world.time.now);
      const { outcome, json } = await admin(sim, actor, {
        path: '/admin/tenants/limits',
        body: { tenant: tenant.id, limits },
        key: sim.world.adminKey,
      });
      if (outcome !== 'done' || begun !== tenant.limitings) return outcome;
      const told = json as { limits: KeyLimits | null; pending: boolean };
      sim.quotas.set(counter, told.pending ? null : told.limits, sim.world.time.now);
      return outcome;
    },
  },
  'reset limits': {
    weight: 1,
    possible: (sim, actor) => liveKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const key = random.pick(liveKeys(sim, actor));
      const whole = random.chance(0.3);
      const counter = whole ? `tenant ${tenant.id}` : key.counter;
      // What runs meanwhile may count or not.
      const counters = whole ? [counter, ...tenant.keys.map((one) => one.counter)] : [counter];
      for (const one of counters) sim.quotas.changing(one, sim.world.time.now);
      const { outcome } = await admin(sim, actor, {
        path: '/admin/limits/reset',
        body: whole ? { tenant: tenant.id } : { key: key.id },
        key: sim.world.adminKey,
      });
      return outcome;
    },
  },
  'list keys': {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const known = actor.tenant.keys.map(({ id }) => id);
      const { outcome, json, answered } = await admin(sim, actor, { path: '/admin/keys' });
      if (outcome !== 'done') return outcome;
      const { keys } = json as { keys: { id: string; tenant: string; revoked_at: number | null }[] };
      const other = keys.find(({ tenant }) => tenant !== actor.tenant.id);
      if (other !== undefined) sim.fail("3 nothing of another tenant's", `keys had ${other.id}`);
      if (answered.kind === 'answer' && /"(key|hash)":/.test(answered.text))
        sim.fail('a key is told once', answered.text.slice(0, 300));
      const ids = new Set(keys.map(({ id }) => id));
      for (const id of known)
        if (!ids.has(id) && sim.truth.keys.now(id) !== undefined) sim.fail(LOST, `key ${id} is not listed`);
      return outcome;
    },
  },
} as const satisfies Record<string, Operation>;
