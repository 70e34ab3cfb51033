/** Chains and trees of several owners: children on what others have granted, and names among others' names. */
import type { Actor, Outcome, Simulation, Tenant } from '../simulation.ts';
import { STALE_MS } from '../truth.ts';
import { eraseAll, publish } from './names.ts';
import {
  admin,
  complete,
  has,
  liveKeys,
  namesOf,
  onName,
  type Operation,
  pickName,
  repeat,
  ROOMS,
  SECOND,
} from './operation.ts';

/** Live names of others whose whole chain the tenant may use. */
function usableOfOthers(sim: Simulation, { tenant }: Actor): string[] {
  const { now } = sim.world.time;
  const { truth } = sim;
  return truth.names.keys().filter((name) => {
    const state = truth.names.now(name);
    if (state?.owner === tenant.id || state?.version == null || state.removed) return false;
    const chain = truth.versions.get(`${name}@${state.version}`)?.chain ?? [];
    return chain.length > 0 && chain.every((member) => truth.mightUse(tenant.id, member, now, now));
  });
}

/** Names in rooms, where the operator has put several owners. */
const sharedNames = (sim: Simulation): string[] =>
  sim.truth.names.keys().filter((name) => ROOMS.some((room) => name.startsWith(`${room}/`)));

const LETTERS = ['a', 'b', 'c'];

/** No other tenant owns the name. */
const ownOrFree =
  (sim: Simulation, { tenant }: Actor) =>
  (name: string): boolean =>
    (sim.truth.names.now(name)?.owner ?? tenant.id) === tenant.id;

/** Another tenant, as whose client the actor acts. */
const asOther = (sim: Simulation, actor: Actor): Actor | null => {
  const others = sim.tenants.filter((one) => one !== actor.tenant && !one.erasing);
  return others.length === 0 ? null : { ...actor, tenant: actor.random.pick(others) };
};

/** Grants a name, has another tenant build on it, and ends that while the child lives. */
async function endUnderChild(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, life } = actor;
  const other = asOther(sim, actor);
  if (other === null) return 'refused';
  const parent = pickName(sim, actor, 'live');
  const scope = random.chance(0.5) ? parent : `${parent}/**`;
  const grant = { scope, tenant: other.tenant.id };
  const granted = await repeat(sim, actor, { path: '/admin/grants', body: grant }, ['invalid_request']);
  if (granted.outcome !== 'done') return granted.outcome;
  const name = `${other.tenant.id}/on/${random.pick(LETTERS)}`;
  const published = await publish(sim, other, { stage: false, name, parent });
  if (published !== 'done') return published;
  await askAs(sim, other, name);
  const ended = await end(sim, actor, { parent, grant, other: other.tenant });
  await sim.world.time.sleep(
    life,
    random.chance(0.5) ? STALE_MS + random.below(20 * SECOND) : random.below(5 * SECOND),
  );
  await askAs(sim, other, name);
  return ended;
}

/** The child's chain ends: its grant, its parent, or whoever owns that. */
function end(
  sim: Simulation,
  actor: Actor,
  { parent, grant, other }: { parent: string; grant: { scope: string; tenant: string }; other: Tenant },
): Promise<Outcome> {
  const { random, tenant } = actor;
  const ways: readonly (readonly [number, () => Promise<Outcome>])[] = [
    [
      4,
      async () => {
        const path = `/admin/grants?${new URLSearchParams(grant)}`;
        return (await repeat(sim, actor, { method: 'DELETE', path })).outcome;
      },
    ],
    [2, () => removeWhole(sim, actor, parent)],
    [2, () => eraseAll(sim, actor, { body: { name: parent, cascade: random.chance(0.5) }, pages: 20 })],
    // The holder trusts its giver no more.
    [
      1,
      async () => {
        const body = { from: tenant.id };
        return (await admin(sim, { ...actor, tenant: other }, { path: '/admin/grants/refuse', body }))
          .outcome;
      },
    ],
  ];
  return random.weighted(ways)();
}

/** A live name of the tenant in a room, published if there is none. */
async function ownInRoom(sim: Simulation, actor: Actor): Promise<string | null> {
  const { random } = actor;
  const live = namesOf(sim, actor, 'live');
  const there = sharedNames(sim).filter((name) => live.includes(name) && name.split('/').length < 5);
  if (there.length > 0 && random.chance(0.7)) return random.pick(there);
  const free = ROOMS.flatMap((room) => LETTERS.map((letter) => `${room}/${letter}`)).filter(
    ownOrFree(sim, actor),
  );
  if (free.length === 0) return null;
  const name = random.pick(free);
  return (await publish(sim, actor, { stage: false, name, byOperator: true })) === 'done' ? name : null;
}

/**
 * Another tenant's name below one that it is granted loses what it stands on. What is missing below that is not
 * answered by the one above, which has another owner.
 */
async function endBelowGranted(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const other = asOther(sim, actor);
  const above = other === null ? null : await ownInRoom(sim, actor);
  if (other === null || above === null) return 'refused';
  const others = namesOf(sim, actor, 'live').filter((name) => name !== above);
  if (others.length === 0) return 'refused';
  const parent = random.pick(others);
  for (const scope of [above, parent]) {
    const body = { scope, tenant: other.tenant.id };
    const { outcome } = await repeat(sim, actor, { path: '/admin/grants', body }, ['invalid_request']);
    if (outcome !== 'done') return outcome;
  }
  const name = `${above}/${random.pick(['d', 'e'])}`;
  const published = await publish(sim, other, { stage: false, name, parent, byOperator: true });
  if (published !== 'done') return published;
  await askAs(sim, other, `${name}/x`);
  const grant = { scope: parent, tenant: other.tenant.id };
  // Its outcome does not matter here: what counts is that the requests below get what is there by then.
  await end(sim, actor, { parent, grant, other: other.tenant });
  await sim.world.time.sleep(actor.life, STALE_MS + random.below(20 * SECOND));
  for (const missing of ['x', 'y']) await askAs(sim, other, `${name}/${missing}`);
  return 'done';
}

const removeWhole = onName('/admin/remove', 'live', () => ({ cascade: true }));

async function askAs(sim: Simulation, actor: Actor, model: string): Promise<void> {
  if (liveKeys(sim, actor).length > 0)
    await complete(sim, actor, { key: actor.random.pick(liveKeys(sim, actor)), model });
}

export const SHARED_TREES = {
  "publish on another's name": {
    weight: 3,
    possible: (sim, actor) => usableOfOthers(sim, actor).length > 0,
    run: (sim, actor) =>
      publish(sim, actor, {
        stage: actor.random.chance(0.2),
        parent: actor.random.pick(usableOfOthers(sim, actor)),
      }),
  },
  "end what another's child stands on": {
    weight: 1.5,
    possible: (sim, actor) => sim.tenants.length > 1 && has('live')(sim, actor),
    run: endUnderChild,
  },
  "end what a name below another's stands on": {
    weight: 2.5,
    possible: (sim, actor) => sim.tenants.length > 1 && has('live')(sim, actor),
    run: endBelowGranted,
  },
  "publish among others' names": {
    weight: 1.5,
    possible: () => true,
    run: async (sim, actor) => {
      const { random } = actor;
      const known = sharedNames(sim).filter((name) => name.split('/').length < 5);
      const above = known.length > 0 && random.chance(0.7) ? random.pick(known) : random.pick(ROOMS);
      const own = namesOf(sim, actor, 'live').filter((name) => name === above);
      const free = LETTERS.map((letter) => `${above}/${letter}`).filter(ownOrFree(sim, actor));
      return publish(sim, actor, {
        stage: false,
        name: random.pick(free.length > 0 ? free : [`${above}/d`]),
        byOperator: true,
        ...(own.length > 0 && random.chance(0.5) ? { parent: above } : {}),
      });
    },
  },
  'ask in a shared tree': {
    weight: 2,
    possible: (sim, actor) => sharedNames(sim).length > 0 && liveKeys(sim, actor).length > 0,
    run: (sim, actor) => {
      const { random } = actor;
      const name = random.pick(sharedNames(sim));
      return complete(sim, actor, {
        key: random.pick(liveKeys(sim, actor)),
        model: random.chance(0.6) ? `${name}/${random.pick(['x', 'y'])}` : name,
      });
    },
  },
} as const satisfies Record<string, Operation>;
