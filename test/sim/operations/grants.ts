/** Grants, their refusal, and rooms. */
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { admin, always, committed, has, LOST, type Operation, pickName, repeat, ROOMS } from './operation.ts';

/** The tenant refuses grants of another, or accepts them again; D1 must have that. */
async function refuse(sim: Simulation, actor: Actor, { accept }: { accept: boolean }): Promise<Outcome> {
  const { tenant, random } = actor;
  const from = random.pick(sim.tenants.filter((one) => one !== tenant)).id;
  const wasOpen = tenant.refusing > 0;
  const begun = (tenant.refusals += 1);
  const begunAt = sim.world.time.now;
  tenant.refusing += 1;
  const { outcome } = await repeat(
    sim,
    actor,
    accept
      ? { method: 'DELETE', path: `/admin/grants/refuse?from=${from}` }
      : { path: '/admin/grants/refuse', body: { from } },
  );
  // A lost one may be worked on later.
  if (outcome !== 'lost') tenant.refusing -= 1;
  if (
    outcome !== 'done' ||
    wasOpen ||
    tenant.refusals !== begun ||
    sim.truth.erasedDuring(tenant.id, begunAt) ||
    // Refusals of a tenant go with it, too.
    sim.truth.erasedDuring(from, begunAt)
  )
    return outcome;
  const rows = await committed(
    sim,
    'SELECT owner FROM grant_refusals WHERE tenant = ? AND owner = ?',
    ...[tenant.id, from],
  );
  if ((rows.length === 0) !== accept) sim.fail(LOST, `${tenant.id} refuses ${from}: D1 has ${rows.length}`);
  return outcome;
}

export const GRANTS = {
  grant: {
    weight: 3,
    possible: (sim, actor) => has('live')(sim, actor) && sim.tenants.length > 1,
    run: async (sim, actor) => {
      const { random, tenant } = actor;
      const to = random.chance(0.2) ? '*' : random.pick(sim.tenants.filter((one) => one !== tenant)).id;
      const name = pickName(sim, actor, 'live');
      const scope = random.chance(0.5) ? name : `${name}/**`;
      const from = sim.world.time.now;
      const { outcome, json } = await repeat(
        sim,
        actor,
        { path: '/admin/grants', body: { scope, tenant: to } },
        ['invalid_request'],
      );
      if (outcome !== 'done') return outcome;
      const { owner } = json as { owner: string };
      if (sim.truth.grants.during(`${scope} ${to} ${owner}`, from, sim.world.time.now).length === 0)
        sim.fail(LOST, `${owner} granted ${scope} to ${to}: D1 does not have it`);
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
  'refuse grants': {
    weight: 1,
    possible: (sim) => sim.tenants.length > 1,
    run: (sim, actor) => refuse(sim, actor, { accept: false }),
  },
  'accept grants': {
    weight: 2,
    possible: (_sim, { tenant }) => tenant.refusals > 0,
    run: (sim, actor) => refuse(sim, actor, { accept: true }),
  },
  'list grants': {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const path = `/admin/grants${actor.random.pick(['', '?held=true'])}`;
      return (await admin(sim, actor, { path })).outcome;
    },
  },
  'reserve a room': {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const name = actor.random.pick(ROOMS);
      const body = { name, tenant: actor.tenant.id };
      const { outcome } = await repeat(sim, actor, {
        path: '/admin/rooms',
        body,
        key: sim.world.adminKey,
      });
      if (outcome === 'done') sim.reserved.add(name);
      return outcome;
    },
  },
  'release a room': {
    weight: 1,
    possible: (sim) => sim.reserved.size > 0,
    run: async (sim, actor) => {
      const name = actor.random.pick([...sim.reserved]);
      sim.reserved.delete(name);
      const { outcome } = await admin(sim, actor, {
        method: 'DELETE',
        path: `/admin/rooms?name=${name}`,
        key: sim.world.adminKey,
      });
      return outcome;
    },
  },
  'list rooms': {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const { outcome, json } = await admin(sim, actor, { path: '/admin/rooms' });
      if (outcome !== 'done') return outcome;
      const { rooms } = json as { rooms: { name: string; tenant: string }[] };
      const other = rooms.find(({ tenant }) => tenant !== actor.tenant.id);
      if (other !== undefined) sim.fail("3 nothing of another tenant's", `rooms had ${other.name}`);
      return outcome;
    },
  },
} as const satisfies Record<string, Operation>;
