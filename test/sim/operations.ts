/** The operations of clients, and what their answers must be. */
import { crc32 } from 'node:zlib';
import { codeOf, type Answered } from './client.ts';
import { checkCompletion, checkPrivacy, promptOf, type Completion } from './answers.ts';
import type { Random } from './world/random.ts';
import { type Actor, type Key, type Outcome, sha256, type Simulation } from './simulate.ts';
import type { NameState } from './truth.ts';

interface Operation {
  weight: number;
  /** Whether there is something to do it with. */
  possible: (sim: Simulation, actor: Actor) => boolean;
  run: (sim: Simulation, actor: Actor) => Promise<Outcome>;
}

const SECOND = 1_000;
/** A part of a file; small, so that files have several. */
const PART_BYTES = 160;
const always = (): boolean => true;

/** Kinds of names that an operation can do something with. */
const KINDS = {
  any: () => true,
  live: ({ version, removed }) => version !== null && !removed,
  removed: ({ removed }) => removed,
  /** Has a version that is not live and may become it. */
  movable: ({ version, removed, alias }, versions) =>
    !removed && alias === null && versions.some((one) => one !== version),
  /** Has more than one, of which the live one is not the first. */
  returnable: ({ version, removed }, versions) =>
    version !== null && !removed && versions.some((one) => one < version),
} as const satisfies Record<string, (state: NameState, versions: readonly number[]) => boolean>;

/** The tenant's names of a kind, as D1 has them now. */
function namesOf(sim: Simulation, { tenant }: Actor, kind: keyof typeof KINDS): string[] {
  return sim.truth.names.keys().filter((name) => {
    const state = sim.truth.names.now(name);
    return state?.owner === tenant.id && KINDS[kind](state, usableVersions(sim, name));
  });
}

const usableVersions = (sim: Simulation, name: string): number[] =>
  sim.truth.versionsOf(name).filter((version) => !sim.truth.retired.has(`${name}@${version}`));

const has =
  (kind: keyof typeof KINDS) =>
  (sim: Simulation, actor: Actor): boolean =>
    namesOf(sim, actor, kind).length > 0;

/** Mostly one with which the operation succeeds, sometimes any. */
function pickName(sim: Simulation, actor: Actor, kind: keyof typeof KINDS): string {
  const good = actor.random.chance(0.9) ? namesOf(sim, actor, kind) : actor.tenant.names;
  return actor.random.pick(good.length > 0 ? good : namesOf(sim, actor, 'any'));
}
/** A key that nobody was given, well-formed. */
function madeUpKey(random: Random): string {
  const digit = (n: number): string => KEY_DIGITS.charAt(n % KEY_DIGITS.length);
  const key = `gk_${Array.from({ length: 27 }, () => digit(random.below(62))).join('')}`;
  const sum = crc32(key);
  return key + [5, 4, 3, 2, 1, 0].map((power) => digit(Math.floor(sum / 62 ** power))).join('');
}
const KEY_DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const liveKeys = ({ tenant }: Actor): Key[] => tenant.keys.filter(({ revokedAt }) => revokedAt === null);

/** Codes that a correct request may get, at any time: something is short, away or changed by another. */
const MAY_BE = new Set([
  'registry_unavailable',
  'origin_unavailable',
  'origin_stopped',
  'origin_overloaded',
  'adapter_unavailable',
  'edge_busy',
  'rate_limited',
  'rate_limit_exceeded',
  'quota_exceeded',
  'version_conflict',
  'conflict',
  'deadline_exceeded',
  'queue_full',
  'internal_error',
]);

/** One request of the admin API. `done` unless it was refused or lost. */
async function admin(
  sim: Simulation,
  actor: Actor,
  given: { method?: string; path: string; body?: object | Uint8Array<ArrayBuffer>; key?: string },
  refusals: readonly string[] = [],
): Promise<{ outcome: Outcome; json: unknown; answered: Answered }> {
  const key = given.key ?? actor.tenant.adminKey;
  const answered = await sim.ask(actor, { ...given, key });
  // The operator may see everything.
  if (key !== sim.world.adminKey) checkPrivacy(sim, actor.tenant.id, answered, given.path);
  if (answered.kind === 'lost') return { outcome: 'lost', json: undefined, answered };
  if (answered.status < 300) return { outcome: 'done', json: answered.json, answered };
  const code = codeOf(answered);
  if (code === null || (answered.status >= 500 && code === 'internal_error'))
    sim.fail(
      'errors have a code',
      `${given.path} answered ${answered.status}: ${answered.text.slice(0, 300)}`,
    );
  else if (
    !MAY_BE.has(code) &&
    !refusals.includes(code) &&
    code !== 'not_found' &&
    code !== 'model_not_found'
  )
    sim.fail(
      'a correct request is not refused',
      `${given.path} ${JSON.stringify(given.body)?.slice(0, 200)}: ${answered.text.slice(0, 300)}`,
    );
  return { outcome: 'refused', json: answered.json, answered };
}

/** Sends a file in parts, and closes it. */
async function upload(sim: Simulation, actor: Actor, bytes: Uint8Array, digest: string): Promise<Outcome> {
  try {
    return await sendParts(sim, actor, bytes, digest);
  } finally {
    sim.sentAt.set(digest, sim.world.time.now);
  }
}

async function sendParts(sim: Simulation, actor: Actor, bytes: Uint8Array, digest: string): Promise<Outcome> {
  const parts: { bytes: number; sha256: string }[] = [];
  for (let at = 0; at < bytes.length; at += PART_BYTES) {
    const part = Uint8Array.from(bytes.subarray(at, at + PART_BYTES));
    const sent = await admin(sim, actor, {
      method: 'PUT',
      path: `/admin/blobs/${digest}/parts/${parts.length}`,
      body: part,
    });
    if (sent.outcome !== 'done') return sent.outcome;
    parts.push({ bytes: part.length, sha256: sha256(part) });
  }
  const { outcome } = await admin(
    sim,
    actor,
    { path: `/admin/blobs/${digest}`, body: { bytes: bytes.length, parts } },
    ['invalid_request', 'adapter_invalid'],
  );
  return outcome;
}

/** A name of the tenant, old or new, up to four parts deep. */
function someName({ tenant, random }: Actor, fresh: boolean): string {
  if (!fresh && tenant.names.length > 0) return random.pick(tenant.names);
  const parts = Array.from({ length: random.between(1, 3) }, () => random.pick(['a', 'b', 'c', 'd', 'e']));
  return [tenant.id, ...parts].join('/');
}

async function publish(sim: Simulation, actor: Actor, params: { stage: boolean }): Promise<Outcome> {
  const { tenant, random } = actor;
  const name = someName(actor, random.chance(0.4));
  const again = random.chance(0.15) && tenant.files.length > 0 ? random.pick(tenant.files) : null;
  const parents = namesOf(sim, actor, 'live').filter((one) => one !== name);
  const parent =
    again !== null ? again.parent : parents.length > 0 && random.chance(0.5) ? random.pick(parents) : null;
  const above = parent === null ? null : (sim.truth.names.now(parent) ?? null);
  const chain =
    above?.version == null ? null : (sim.truth.versions.get(`${parent}@${above.version}`)?.chain ?? null);
  const adapter = again?.adapter ?? sim.newFile(chain?.at(-1)?.digest ?? null);
  if (again === null) tenant.files.push({ adapter, parent });
  const sent = await upload(sim, actor, adapter.bytes, adapter.digest);
  if (sent !== 'done') return sent;
  if (!tenant.names.includes(name)) tenant.names.push(name);
  const { outcome, json } = await admin(
    sim,
    actor,
    {
      path: '/admin/versions',
      body: {
        name,
        digest: adapter.digest,
        ...(parent === null ? {} : { parent }),
        ...(params.stage ? { stage: true } : {}),
      },
    },
    ['adapter_invalid', 'invalid_request', 'forbidden', 'name_taken', 'parent_changed', 'not_permitted'],
  );
  if (outcome !== 'done') return outcome;
  const { version } = json as { version: number };
  const row = sim.truth.versions.get(`${name}@${version}`);
  if (row === undefined || row.chain.at(-1)?.digest !== adapter.digest)
    sim.fail('1 nothing acknowledged is lost', `${name}@${version} was acknowledged and is not in D1`);
  return outcome;
}

/** A request about a name. */
const onName =
  (path: string, kind: keyof typeof KINDS, body: (sim: Simulation, actor: Actor, name: string) => object) =>
  async (sim: Simulation, actor: Actor): Promise<Outcome> => {
    const name = pickName(sim, actor, kind);
    const { outcome } = await admin(
      sim,
      actor,
      { path, body: { name, ...body(sim, actor, name) } },
      NAME_REFUSALS,
    );
    return outcome;
  };

const NAME_REFUSALS = ['adapter_invalid', 'invalid_request', 'conflict', 'version_conflict'];

const someVersion = (sim: Simulation, actor: Actor, name: string): number => {
  const versions = usableVersions(sim, name);
  return versions.length === 0 ? 1 : actor.random.pick(versions);
};

const pickOr = (random: Random, names: readonly string[], instead: string): string =>
  names.length === 0 ? instead : random.pick(names);

/** Names of others that the tenant was given. */
const grantedNames = (sim: Simulation, { tenant }: Actor): string[] =>
  sim.truth.grants.keys().flatMap((key) => {
    const grant = sim.truth.grants.now(key);
    const mine = grant !== undefined && (grant.tenant === tenant.id || grant.tenant === '*');
    return mine ? [grant.scope.replace('/**', '')] : [];
  });

async function complete(sim: Simulation, actor: Actor, how: Partial<Completion> = {}): Promise<Outcome> {
  const { random } = actor;
  const keys = random.chance(0.05) ? actor.tenant.keys : liveKeys(actor);
  const key = random.pick(keys.length > 0 ? keys : actor.tenant.keys);
  const others = sim.tenants.flatMap(({ names }) => names);
  const name = random.weighted<string>([
    [1, 'base'],
    [7, pickOr(random, namesOf(sim, actor, 'live'), 'base')],
    [1, pickOr(random, actor.tenant.names, 'base')],
    [1, pickOr(random, others, 'base')],
    [1, pickOr(random, grantedNames(sim, actor), 'base')],
    [1, someName(actor, true)],
  ]);
  const version = random.chance(0.1) ? `@${random.between(1, 3)}` : '';
  return checkCompletion(sim, actor, {
    key,
    model: name === 'base' ? name : `${name}${version}`,
    // No other tenant may ever see this.
    content: `${promptOf(actor.tenant.id)} ${random.pick(['asks', 'what is it', 'hello '.repeat(random.between(2, 12))])}`,
    maxTokens: random.chance(0.15) ? random.between(60, 200) : random.between(1, 24),
    stream: random.chance(0.5),
    leaveAfterMs: null,
    slowMs: null,
    ...how,
  });
}

export const OPERATIONS = {
  complete: {
    weight: 40,
    possible: (_sim, { tenant }) => tenant.keys.length > 0,
    run: (sim, actor) => complete(sim, actor),
  },
  'leave a completion': {
    weight: 6,
    possible: (_sim, { tenant }) => tenant.keys.length > 0,
    run: (sim, actor) => complete(sim, actor, { leaveAfterMs: actor.random.below(1_500) }),
  },
  'ask at once': {
    weight: 3,
    possible: (_sim, { tenant }) => tenant.keys.length > 0,
    run: async (sim, actor) => {
      // Often with a key that has limits: what is counted at once must be counted.
      const limited = liveKeys(actor).filter(({ tokensADay }) => tokensADay !== null);
      const key = limited.length > 0 && actor.random.chance(0.5) ? { key: actor.random.pick(limited) } : {};
      const long = actor.random.chance(0.4) ? { maxTokens: actor.random.between(60, 200) } : {};
      const ended = await Promise.all(
        Array.from({ length: actor.random.between(3, 8) }, () => complete(sim, actor, { ...key, ...long })),
      );
      return ended.includes('done') ? 'done' : 'refused';
    },
  },
  'read slowly': {
    weight: 2,
    possible: (_sim, { tenant }) => tenant.keys.length > 0,
    run: (sim, actor) => complete(sim, actor, { stream: true, slowMs: actor.random.below(3 * SECOND) }),
  },
  publish: { weight: 12, possible: always, run: (sim, actor) => publish(sim, actor, { stage: false }) },
  stage: { weight: 6, possible: always, run: (sim, actor) => publish(sim, actor, { stage: true }) },
  promote: {
    weight: 5,
    possible: has('movable'),
    run: onName('/admin/promote', 'movable', (sim, actor, name) => ({
      version: someVersion(sim, actor, name),
    })),
  },
  rollback: {
    weight: 5,
    possible: has('returnable'),
    run: onName('/admin/rollback', 'returnable', () => ({})),
  },
  retire: {
    weight: 2,
    possible: has('movable'),
    run: onName('/admin/retire', 'movable', (sim, actor, name) => ({
      version: someVersion(sim, actor, name),
    })),
  },
  remove: {
    weight: 2,
    possible: has('live'),
    run: onName('/admin/remove', 'live', (_sim, { random }) => ({ cascade: random.chance(0.7) })),
  },
  restore: {
    weight: 4,
    possible: has('removed'),
    run: onName('/admin/restore', 'removed', (_sim, { random }) => ({ cascade: random.chance(0.5) })),
  },
  'change at once': {
    weight: 4,
    possible: has('movable'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'movable');
      const changes = [
        () =>
          admin(
            sim,
            actor,
            { path: '/admin/promote', body: { name, version: someVersion(sim, actor, name) } },
            NAME_REFUSALS,
          ),
        () => admin(sim, actor, { path: '/admin/rollback', body: { name } }, NAME_REFUSALS),
        () =>
          admin(
            sim,
            actor,
            { path: '/admin/retire', body: { name, version: someVersion(sim, actor, name) } },
            NAME_REFUSALS,
          ),
        () => admin(sim, actor, { path: '/admin/remove', body: { name } }, NAME_REFUSALS),
        () => admin(sim, actor, { path: '/admin/erase', body: { name, cascade: true } }, NAME_REFUSALS),
      ];
      const ended = await Promise.all(
        Array.from({ length: actor.random.between(2, 4) }, () =>
          actor.random.weighted([
            [6, changes[0]],
            [4, changes[1]],
            [1, changes[2]],
            [1, changes[3]],
            [1, changes[4]],
          ] as const)?.(),
        ),
      );
      return ended.some((one) => one?.outcome === 'done') ? 'done' : 'refused';
    },
  },
  alias: {
    weight: 2,
    possible: has('live'),
    run: async (sim, actor) => {
      const name = [actor.tenant.id, actor.random.pick(['now', 'best'])].join('/');
      const target = actor.random.chance(0.2) ? null : pickName(sim, actor, 'live');
      const { outcome } = await admin(
        sim,
        actor,
        { path: '/admin/alias', body: { name, target } },
        NAME_REFUSALS,
      );
      if (outcome === 'done' && target !== null && !actor.tenant.names.includes(name))
        actor.tenant.names.push(name);
      return outcome;
    },
  },
  'make a key': {
    weight: 3,
    possible: always,
    run: async (sim, actor) => {
      const { tenant, random } = actor;
      const scopes = random.chance(0.7)
        ? [`${tenant.id}/**`]
        : [`${tenant.id}/${random.pick(['a', 'b', 'c'])}/**`];
      const tokensADay = random.chance(0.15) ? random.between(200, 3_000) : null;
      const { outcome, json } = await admin(sim, actor, {
        path: '/admin/keys',
        body: {
          scopes,
          ...(tokensADay === null ? {} : { limits: { tokens_per_day: tokensADay, on_outage: 'refuse' } }),
        },
      });
      if (outcome !== 'done') return outcome;
      const { id, key } = json as { id: string; key: string };
      if (sim.truth.keys.now(id) === undefined)
        sim.fail('1 nothing acknowledged is lost', `key ${id} is not in D1`);
      tenant.keys.push({ id, text: key, tenant: tenant.id, scopes, revokedAt: null, tokensADay });
      return outcome;
    },
  },
  'revoke a key': {
    weight: 1,
    possible: (_sim, actor) => liveKeys(actor).length > 2,
    run: async (sim, actor) => {
      const key = actor.random.pick(liveKeys(actor));
      const { outcome } = await admin(sim, actor, { method: 'DELETE', path: `/admin/keys/${key.id}` });
      if (outcome === 'done') {
        key.revokedAt ??= sim.world.time.now;
        if (sim.truth.keys.now(key.id)?.revoked !== true)
          sim.fail('1 nothing acknowledged is lost', `the revocation of ${key.id} is not in D1`);
      }
      return outcome;
    },
  },
  grant: {
    weight: 2,
    possible: (sim, actor) => has('live')(sim, actor) && sim.tenants.length > 1,
    run: async (sim, actor) => {
      const to = actor.random.chance(0.2)
        ? '*'
        : actor.random.pick(sim.tenants.filter((one) => one !== actor.tenant)).id;
      const name = pickName(sim, actor, 'live');
      const scope = actor.random.chance(0.5) ? name : `${name}/**`;
      const { outcome } = await admin(sim, actor, { path: '/admin/grants', body: { scope, tenant: to } }, [
        'invalid_request',
      ]);
      return outcome;
    },
  },
  'take a grant back': {
    weight: 2,
    possible: (sim, { tenant }) =>
      sim.truth.grants.keys().some((key) => sim.truth.grants.now(key)?.owner === tenant.id),
    run: async (sim, actor) => {
      const mine = sim.truth.grants
        .keys()
        .map((key) => sim.truth.grants.now(key))
        .filter((one) => one?.owner === actor.tenant.id);
      const grant = actor.random.pick(mine);
      const query = new URLSearchParams({ scope: grant?.scope ?? '', tenant: grant?.tenant ?? '' });
      const { outcome } = await admin(sim, actor, { method: 'DELETE', path: `/admin/grants?${query}` });
      return outcome;
    },
  },
  pin: {
    weight: 2,
    possible: has('live'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'live');
      const { outcome } = await admin(
        sim,
        actor,
        { path: '/admin/pins', body: { name }, key: sim.world.adminKey },
        NAME_REFUSALS,
      );
      if (outcome === 'done') sim.pinned.add(name);
      return outcome;
    },
  },
  unpin: {
    weight: 2,
    possible: (sim) => sim.pinned.size > 0,
    run: async (sim, actor) => {
      const name = actor.random.pick([...sim.pinned]);
      const path = `/admin/pins?${new URLSearchParams({ name })}`;
      const { outcome } = await admin(
        sim,
        actor,
        { method: 'DELETE', path, key: sim.world.adminKey },
        NAME_REFUSALS,
      );
      if (outcome !== 'lost') sim.pinned.delete(name);
      return outcome;
    },
  },
  'forge a key': {
    weight: 1,
    possible: (_sim, actor) => liveKeys(actor).length > 0,
    run: async (sim, actor) => {
      // A genuine value, moved to where it opens something else; or one with a made-up seal.
      const { kv } = sim.world;
      const genuine = kv.read(`key:${sha256(actor.random.pick(liveKeys(actor)).text)}`);
      if (genuine === null) return 'refused';
      const text = madeUpKey(actor.random);
      const place = `key:${sha256(text)}`;
      const seal = actor.random.chance(0.5) ? new TextEncoder().encode('0'.repeat(64)) : genuine.slice(0, 64);
      sim.forged.add(place);
      kv.forge(place, Uint8Array.from([...seal, ...genuine.slice(64)]));
      await sim.world.time.sleep(actor.life, actor.random.below(40 * SECOND));
      const answered = await sim.ask(actor, { path: '/v1/models', key: text });
      if (answered.kind === 'lost') return 'lost';
      if (answered.status === 200)
        sim.fail(
          '6 nobody can write rights into KV',
          `a forged key was answered: ${answered.text.slice(0, 200)}`,
        );
      return 'done';
    },
  },
  'list names': {
    weight: 2,
    possible: always,
    run: async (sim, actor) => (await admin(sim, actor, { path: '/admin/names' })).outcome,
  },
  'list models': {
    weight: 2,
    possible: (_sim, actor) => liveKeys(actor).length > 0,
    run: async (sim, actor) =>
      (
        await admin(sim, actor, { path: '/v1/models', key: actor.random.pick(liveKeys(actor)).text }, [
          'invalid_api_key',
        ])
      ).outcome,
  },
  'list versions': {
    weight: 2,
    possible: has('any'),
    run: async (sim, actor) =>
      (
        await admin(sim, actor, {
          path: `/admin/versions?${new URLSearchParams({ name: pickName(sim, actor, 'any') })}`,
        })
      ).outcome,
  },
  history: {
    weight: 1,
    possible: always,
    run: async (sim, actor) => (await admin(sim, actor, { path: '/admin/history' })).outcome,
  },
  usage: {
    weight: 1,
    possible: always,
    run: async (sim, actor) => (await admin(sim, actor, { path: '/admin/usage' })).outcome,
  },
  erase: {
    weight: 1,
    possible: has('any'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'any');
      let cursor: string | null = null;
      for (let page = 0; page < 20; page += 1) {
        const { outcome, json } = await admin(
          sim,
          actor,
          { path: '/admin/erase', body: { name, cascade: true, ...(cursor === null ? {} : { cursor }) } },
          NAME_REFUSALS,
        );
        if (outcome !== 'done') return outcome;
        ({ cursor } = json as { cursor: string | null });
        if (cursor === null) return 'done';
      }
      return 'refused';
    },
  },
} as const satisfies Record<string, Operation>;

export type OperationName = keyof typeof OPERATIONS;
