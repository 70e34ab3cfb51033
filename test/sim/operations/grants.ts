/** Grants and rooms. */
import { admin, has, type Operation, pickName } from './operation.ts';

export const GRANTS = {
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
} as const satisfies Record<string, Operation>;
