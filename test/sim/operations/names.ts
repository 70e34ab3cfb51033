/** Names and their versions: publish, promote, roll back, retire, remove, restore, alias, erase. */
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { checkTenantErased, rowsOfTenant } from '../invariants/erased.ts';
import { chainIdOf } from '../world/played-training.ts';
import {
  admin,
  committed,
  LOST,
  repeat,
  wasOnce,
  always,
  has,
  liveKeys,
  NAME_REFUSALS,
  namesOf,
  onName,
  type Operation,
  pickName,
  someName,
  someVersion,
  complete,
  SECOND,
} from './operation.ts';
import { closeUntil, upload } from './uploads.ts';

/**
 * @param params.parent default: none, or one of its own.
 * @param params.byOperator who may publish for a tenant among others' names.
 */
export async function publish(
  sim: Simulation,
  actor: Actor,
  params: {
    stage: boolean;
    name?: string;
    file?: Actor['tenant']['files'][number];
    parent?: string;
    byOperator?: boolean;
  },
): Promise<Outcome> {
  const { tenant, random } = actor;
  const by = params.byOperator === true ? { key: sim.world.adminKey } : {};
  const name = params.name ?? someName(actor, random.chance(0.4));
  // Of others too: the same bytes may be theirs.
  const files = random.chance(0.8)
    ? tenant.files
    : sim.tenants.flatMap((one) => one.files.filter(({ parent }) => parent === null));
  const isNew = params.parent !== undefined || params.byOperator === true;
  const again =
    params.file ?? (!isNew && random.chance(0.15) && files.length > 0 ? random.pick(files) : null);
  const parents = namesOf(sim, actor, 'live').filter((one) => one !== name);
  const own = !isNew && parents.length > 0 && random.chance(0.5) ? random.pick(parents) : null;
  const parent = again !== null ? again.parent : (params.parent ?? own);
  const above = parent === null ? null : (sim.truth.names.now(parent) ?? null);
  const chain = above === null ? null : (sim.truth.versions.get(`${parent}@${above.version}`)?.chain ?? null);
  const adapter = again?.adapter ?? sim.newFile(chain === null ? null : chainIdOf(chain));
  const sent = await upload(sim, actor, adapter, by);
  if (sent !== 'done') return sent;
  if (!tenant.names.includes(name)) tenant.names.push(name);
  const { outcome, json } = await (random.chance(0.4) ? repeat : admin)(
    sim,
    actor,
    {
      ...by,
      path: '/admin/versions',
      body: {
        ...(params.byOperator === true ? { owner: tenant.id } : {}),
        name,
        digest: adapter.digest,
        ...(parent === null ? {} : { parent }),
        ...(params.stage ? { stage: true } : {}),
      },
    },
    ['adapter_invalid', 'invalid_request', ...(name.startsWith(tenant.id) ? [] : ['insufficient_scope'])],
  );
  if (again === null) {
    await checkOneVersion(sim, name, adapter.digest);
    // From now on others publish it, too.
    if (!isNew) tenant.files.push({ adapter, parent });
  }
  if (outcome !== 'done') return outcome;
  const { version } = json as { version: number };
  const rows = sim.truth.everAs(`${name}@${version}`);
  if (!rows.some((row) => row.chain.at(-1)?.digest === adapter.digest && row.owner === tenant.id))
    sim.fail(LOST, `${name}@${version} was acknowledged and is not in D1`);
  sim.acknowledged.set(`${name}@${version}`, name);
  return outcome;
}

/** A file that nobody else has, published once in a row, however often that was asked. */
async function checkOneVersion(sim: Simulation, name: string, digest: string): Promise<void> {
  const rows = await committed<{ version: number; sequence: number }>(
    sim,
    // One that an erasure is about to delete is published anew.
    `SELECT v.version, h.sequence FROM versions v JOIN history h ON h.name = v.name AND h.to_version = v.version
     WHERE v.name = ? AND v.digest = ? AND v.removed_at IS NULL AND h.action IN ('publish', 'stage')`,
    ...[name, digest],
  );
  // After another's change it would be a change.
  if (rows.some(({ sequence }) => rows.some((one) => one.sequence === sequence + 1)))
    sim.fail(
      'a repetition changes nothing',
      `one publish made ${name}@${rows.map(({ version }) => version)}`,
    );
}

/** The live version, as the client knows it, for one in two. */
function expected(sim: Simulation, { random }: Actor, name: string): { expect?: number } {
  return random.chance(0.5) ? { expect: sim.truth.names.now(name)?.version ?? 0 } : {};
}

const isLive = wasOnce(({ version }, { json }) => version === (json as { version: number }).version);

/** Erases page by page. @returns done when nothing is left of it. */
export async function eraseAll(
  sim: Simulation,
  actor: Actor,
  { body, key, pages }: { body: object; key?: string; pages: number },
): Promise<Outcome> {
  let cursor: string | null = null;
  for (let page = 0; page < pages; page += 1) {
    const { outcome, json } = await repeat(
      sim,
      actor,
      {
        path: '/admin/erase',
        body: { ...body, ...(cursor === null ? {} : { cursor }) },
        ...(key === undefined ? {} : { key }),
      },
      NAME_REFUSALS,
    );
    if (outcome !== 'done') return outcome;
    ({ cursor } = json as { cursor: string | null });
    if (cursor === null) return 'done';
  }
  return 'refused';
}

/** The operator erases a tenant, looks whether something is left, and makes it anew. */
export async function eraseTenant(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { tenant } = actor;
  const { world } = sim;
  tenant.erasing = true;
  // The schedule goes on with one that is given up.
  let ended = false;
  // Its counters begin anew, while isolates still know its keys.
  for (const one of [`tenant ${tenant.id}`, ...tenant.keys.map(({ counter }) => counter)])
    sim.quotas.changing(one, world.time.now);
  try {
    const before = await rowsOfTenant(sim, tenant.id);
    const outcome = await eraseAll(sim, actor, {
      body: { tenant: tenant.id, usage: true },
      key: world.adminKey,
      pages: 60,
    });
    ended = outcome === 'done';
    if (ended) {
      sim.receivers.erased(tenant.id);
      tenant.experiments = [];
      // The operator may have made others meanwhile.
      const live = await committed<{ id: string }>(
        sim,
        'SELECT id FROM keys WHERE tenant = ? AND revoked_at IS NULL',
        tenant.id,
      );
      for (const key of tenant.keys)
        if (!live.some(({ id }) => id === key.id))
          key.revokedAt = Math.min(key.revokedAt ?? Infinity, world.time.now);
      await checkTenantErased(sim, tenant.id, before);
    }
    // However far it came, the operator gives the tenant another key.
    for (let tries = 0; tries < 20; tries += 1) {
      const made = await repeat(sim, actor, {
        path: '/admin/keys',
        body: { kind: 'admin', tenant: tenant.id, scopes: [`${tenant.id}/**`] },
        key: world.adminKey,
      });
      if (made.outcome !== 'done') continue;
      tenant.adminKey = (made.json as { key: string }).key;
      await repeat(sim, actor, {
        path: '/admin/rooms',
        body: { name: tenant.id, tenant: tenant.id },
        key: world.adminKey,
      });
      break;
    }
    sim.quotas.set(`tenant ${tenant.id}`, null, world.time.now);
    return outcome;
  } finally {
    tenant.erasures += 1;
    tenant.erasing = false;
    tenant.usageErasedAt = ended ? world.time.now : Infinity;
  }
}

/** After this a dropped file has been taken or refused, however busy the schedule is, ms. */
const DROP_MS = 15 * 60_000;
const WORDS = ['for notes', 'of the team', 'to be tried', 'old'];

const rollBack = onName('/admin/rollback', 'returnable', expected, isLive, { twice: true });

export const NAMES = {
  publish: { weight: 12, possible: always, run: (sim, actor) => publish(sim, actor, { stage: false }) },
  stage: { weight: 6, possible: always, run: (sim, actor) => publish(sim, actor, { stage: true }) },
  promote: {
    weight: 5,
    possible: has('movable'),
    run: onName(
      '/admin/promote',
      'movable',
      (sim, actor, name) => ({ version: someVersion(sim, actor, name), ...expected(sim, actor, name) }),
      isLive,
    ),
  },
  rollback: {
    weight: 5,
    possible: has('returnable'),
    run: (sim, actor) => rollBack(sim, actor),
  },
  'take a version back': {
    weight: 4,
    possible: has('live'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'live');
      const published = await publish(sim, actor, { stage: false, name });
      await sim.world.time.sleep(actor.life, actor.random.below(3 * SECOND));
      return published === 'done' ? rollBack(sim, actor, name) : published;
    },
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
    run: onName(
      '/admin/remove',
      'live',
      (_sim, { random }) => ({ cascade: random.chance(0.7) }),
      wasOnce(({ removed }) => removed),
    ),
  },
  restore: {
    weight: 4,
    possible: has('removed'),
    run: onName(
      '/admin/restore',
      'removed',
      (_sim, { random }) => ({ cascade: random.chance(0.5) }),
      wasOnce(({ removed }) => !removed),
    ),
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
  erase: {
    weight: 1,
    possible: has('any'),
    run: (sim, actor) =>
      eraseAll(sim, actor, { body: { name: pickName(sim, actor, 'any'), cascade: true }, pages: 20 }),
  },
  'erase a room': {
    weight: 1.5,
    possible: has('any'),
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const name = pickName(sim, actor, 'any');
      const digest = sim.truth.versions
        .get(`${name}@${sim.truth.names.now(name)?.version}`)
        ?.chain.at(-1)?.digest;
      const file = tenant.files.find(({ adapter, parent }) => parent === null && adapter.digest === digest);
      // Somebody goes on publishing there, or the same file elsewhere.
      const elsewhere = file !== undefined && random.chance(0.5);
      const [erased] = await Promise.all([
        sim.world.time
          .sleep(actor.life, random.below(2 * SECOND))
          .then(() => eraseAll(sim, actor, { body: { name: `${name}/**`, cascade: true }, pages: 20 })),
        publish(sim, actor, {
          stage: false,
          ...(elsewhere ? { name: someName(actor, true), file } : { name }),
        }),
      ]);
      return erased;
    },
  },
  'send what is erased': {
    weight: 1.5,
    possible: always,
    run: async (sim, actor) => {
      const file = { adapter: sim.newFile(null), parent: null };
      const name = `${actor.tenant.id}/${actor.random.pick(['a', 'b', 'c'])}`;
      const published = await publish(sim, actor, { stage: true, name, file });
      if (published !== 'done') return published;
      let isErased = false;
      const [erased] = await Promise.all([
        eraseAll(sim, actor, { body: { name, cascade: true }, pages: 20 }).finally(() => (isErased = true)),
        closeUntil(sim, actor, file.adapter, () => isErased),
      ]);
      return erased;
    },
  },
  'erase a tenant': {
    weight: 0.4,
    possible: (_sim, { tenant }) => !tenant.erasing,
    run: eraseTenant,
  },
  'erase what answers': {
    weight: 1.5,
    possible: (sim, actor) => namesOf(sim, actor, 'live').length > 0 && liveKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      const { random } = actor;
      const name = pickName(sim, actor, 'live');
      const asked = complete(sim, actor, { model: name, stream: true, maxTokens: random.between(100, 220) });
      // Its adapters may be on their way to an origin.
      await sim.world.time.sleep(actor.life, random.below(random.pick([500, 5_000])));
      const erased =
        random.chance(0.3) && !actor.tenant.erasing
          ? await eraseTenant(sim, actor)
          : await eraseAll(sim, actor, { body: { name, cascade: true }, pages: 20 });
      await asked;
      return erased;
    },
  },
  edit: {
    weight: 2,
    possible: has('any'),
    run: onName('/admin/edit', 'any', (_sim, { random }) => ({
      description: random.pick([...WORDS, null]),
      ...(random.chance(0.5) ? { add_tags: [random.pick(['team:a', 'b'])] } : {}),
      ...(random.chance(0.3) ? { remove_tags: [random.pick(['team:a', 'b'])] } : {}),
    })),
  },
  strict: {
    weight: 2,
    possible: has('live'),
    run: onName('/admin/strict', 'live', (_sim, { random }) => ({ strict: random.chance(0.4) })),
  },
  'publish a file twice': {
    weight: 2,
    possible: (_sim, { tenant }) => tenant.files.some(({ parent }) => parent === null),
    run: async (sim, actor) => {
      const file = actor.random.pick(actor.tenant.files.filter(({ parent }) => parent === null));
      const both = await Promise.all([
        publish(sim, actor, { stage: false, file }),
        publish(sim, actor, { stage: true, file }),
      ]);
      return both.includes('done') ? 'done' : both[0];
    },
  },
  plan: {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const name = someName(actor, actor.random.chance(0.5));
      const adapter = sim.newFile(null);
      const parts = [{ bytes: adapter.bytes.length, sha256: adapter.digest }];
      const { outcome, json } = await admin(
        sim,
        actor,
        {
          path: '/admin/versions/plan',
          body: {
            name,
            digest: adapter.digest,
            file: {
              record: { bytes: adapter.bytes.length, parts },
              header_bytes: 300,
              base: sim.world.base.id,
              parent: null,
              modules: [{ name: 'model.layers.0.self_attn.q_proj', rank: 2, in: 8, out: 6 }],
            },
          },
        },
        ['adapter_invalid', 'insufficient_scope'],
      );
      if (outcome !== 'done') return outcome;
      const told = json as { exists: boolean; bytes_to_send: number; owner: string };
      if (told.exists || told.bytes_to_send !== adapter.bytes.length || told.owner !== actor.tenant.id)
        sim.fail('a plan is right', `${name}: ${JSON.stringify(json).slice(0, 300)}`);
      return outcome;
    },
  },
  drop: {
    weight: 2,
    possible: has('any'),
    run: async (sim, actor) => {
      // Somebody with the right to write KV publishes as the owner of the name above.
      const { tenant, random } = actor;
      const above = pickName(sim, actor, 'any');
      const name = random.chance(0.5) || above.split('/').length > 6 ? above : `${above}/drop`;
      const adapter = sim.newFile(null);
      sim.promised.dropped(tenant.id, name, DROP_MS);
      if (!sim.world.kv.put(`drop:${name}`, Uint8Array.from(adapter.bytes))) return 'refused';
      if (!tenant.names.includes(name)) tenant.names.push(name);
      if (random.chance(0.5) && tenant.keys.length > 0) await complete(sim, actor, { model: name });
      for (let tries = 0; tries < 6; tries += 1) {
        await sim.world.time.sleep(actor.life, 30_000);
        const [row] = await committed(sim, 'SELECT version FROM versions WHERE digest = ?', adapter.digest);
        if (row !== undefined) return 'done';
        if (sim.world.kv.read(`drop:${name}`) === null) return 'refused';
      }
      return 'lost';
    },
  },
} as const satisfies Record<string, Operation>;
