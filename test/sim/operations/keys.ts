/** Keys: make, change, rotate, revoke. */
import { admin, always, liveKeys, type Operation } from './operation.ts';

export const KEYS = {
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
} as const satisfies Record<string, Operation>;
