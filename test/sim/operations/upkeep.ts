/** What operators do, and what shows how things stand. */
import { admin, always, has, liveKeys, NAME_REFUSALS, type Operation, pickName } from './operation.ts';

export const UPKEEP = {
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
  'list names': {
    weight: 2,
    possible: always,
    run: async (sim, actor) => (await admin(sim, actor, { path: '/admin/names' })).outcome,
  },
  'list models': {
    weight: 2,
    possible: (sim, actor) => liveKeys(sim, actor).length > 0,
    run: async (sim, actor) =>
      (
        await admin(sim, actor, { path: '/v1/models', key: actor.random.pick(liveKeys(sim, actor)).text }, [
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
} as const satisfies Record<string, Operation>;
