/** Somebody with the right to write KV writes what graft has not signed there; the operator mends it. */
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { liveKeys, namesOf, type Operation, repeat, complete } from './operation.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Other bytes for a value: unsigned, of another key, cut, or no value at all. */
function forged(sim: Simulation, { random }: Actor, key: string): Uint8Array<ArrayBuffer> | null {
  const { kv } = sim.world;
  const own = kv.read(key);
  if (own === null) return null;
  const text = decoder.decode(own);
  const cut = text.indexOf('\n') + 1;
  const others = kv.keys(key.slice(0, key.indexOf(':') + 1)).filter((one) => one !== key);
  const other = others.length === 0 ? null : kv.read(random.pick(others));
  return random.pick([
    encoder.encode(text.slice(cut)),
    encoder.encode(text.slice(0, cut) + text.slice(cut).replace(/"version":\d+/, '"version":1')),
    encoder.encode(`${text.slice(0, cut)}${text.slice(cut).replace('"scopes":[', '"scopes":["**",')}`),
    encoder.encode(text.slice(0, random.below(text.length))),
    random.bytes(random.between(1, 80)),
    ...(other === null ? [] : [other]),
  ]);
}

/** Page by page, until it has been through. */
export async function repair(sim: Simulation, actor: Actor): Promise<Outcome> {
  let cursor: string | null = null;
  for (let page = 0; page < 60; page += 1) {
    const { outcome, json } = await repeat(sim, actor, {
      path: '/admin/repair',
      body: { cursor },
      key: sim.world.adminKey,
    });
    if (outcome !== 'done') return outcome;
    ({ cursor } = json as { cursor: string | null });
    // What it has read may come from KV's cache: at rest it is done once more.
    if (cursor === null) return 'done';
  }
  return 'refused';
}

export const TAMPERING = {
  'tamper with KV': {
    weight: 4,
    possible: (sim, actor) =>
      sim.isTampered && namesOf(sim, actor, 'live').length > 0 && liveKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      const { random } = actor;
      const key = random.pick(liveKeys(sim, actor));
      const name = random.pick(namesOf(sim, actor, 'live'));
      const place = random.chance(0.7)
        ? `name:${name}`
        : `key:${sim.truth.keys.now(key.id)?.hash ?? sim.world.base.id}`;
      const bytes = forged(sim, actor, place);
      if (bytes === null || !sim.world.kv.put(place, bytes)) return 'refused';
      sim.tampered += 1;
      // What is answered must be right all the same.
      for (let times = random.between(1, 3); times > 0; times -= 1) {
        await complete(sim, actor, { key, model: name });
        await sim.world.time.sleep(actor.life, random.below(40_000));
      }
      return repair(sim, actor);
    },
  },
  repair: { weight: 1, possible: ({ isTampered }) => isTampered, run: repair },
} as const satisfies Record<string, Operation>;
