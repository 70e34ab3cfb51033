/** Names and their versions: publish, promote, roll back, retire, remove, restore, alias, erase. */
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { Actor, Outcome, Simulation } from '../simulate.ts';
import { sha256 } from '../simulate.ts';
import {
  admin,
  always,
  has,
  NAME_REFUSALS,
  namesOf,
  onName,
  type Operation,
  pickName,
  someName,
  someVersion,
} from './operation.ts';

/** A part of a file; small, so that files have several. */
const PART_BYTES = 160;

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

/** As `chainId` of protocol/identity.ts, at once. */
const chainIdOf = (chain: readonly ChainEntry[]): string =>
  sha256(chain.map(({ digest, scale }) => `${digest} ${scale}\n`).join(''));

async function publish(sim: Simulation, actor: Actor, params: { stage: boolean }): Promise<Outcome> {
  const { tenant, random } = actor;
  const name = someName(actor, random.chance(0.4));
  const again = random.chance(0.15) && tenant.files.length > 0 ? random.pick(tenant.files) : null;
  const parents = namesOf(sim, actor, 'live').filter((one) => one !== name);
  const parent =
    again !== null ? again.parent : parents.length > 0 && random.chance(0.5) ? random.pick(parents) : null;
  const above = parent === null ? null : (sim.truth.names.now(parent) ?? null);
  const chain = above === null ? null : (sim.truth.versions.get(`${parent}@${above.version}`)?.chain ?? null);
  const adapter = again?.adapter ?? sim.newFile(chain === null ? null : chainIdOf(chain));
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
  sim.acknowledged.set(`${name}@${version}`, name);
  return outcome;
}

export const NAMES = {
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
