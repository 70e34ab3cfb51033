/** Completions: read to their end, left, or read slowly. */
import { checkCompletion, type Completion, promptOf } from '../answers.ts';
import type { Actor, Outcome, Simulation } from '../simulate.ts';
import { grantedNames, liveKeys, namesOf, type Operation, pickOr, SECOND, someName } from './operation.ts';

export async function complete(
  sim: Simulation,
  actor: Actor,
  how: Partial<Completion> = {},
): Promise<Outcome> {
  const { random } = actor;
  const keys = random.chance(0.05) ? actor.tenant.keys : liveKeys(sim, actor);
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

export const COMPLETIONS = {
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
      const limited = liveKeys(sim, actor).filter((one) => one.limited);
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
} as const satisfies Record<string, Operation>;
