/** Ways to choose an origin; `replicas` and `bounded` are the edge's own code, in virtual time. */
import {
  chooseOrigins,
  rankOrigins,
  createReplicaSets,
  createOriginHealth,
} from '../../worker/origins/routing.ts';
import type { SimulatedOrigin } from './simulated-origin.ts';

export const POLICIES = ['random', 'least-loaded', 'single-home', 'bounded', 'replicas'] as const;
export type Policy = (typeof POLICIES)[number];

export interface Sent {
  origin: SimulatedOrigin;
  /** It got a row: the origin's headers are here. */
  onRow(): void;
  onEnd(): void;
}

/** One isolate of the edge. */
export interface Isolate {
  /** @param chain index of the name. */
  send(chain: number, request: number): Sent;
}

export const nameOf = (chain: number): string => `tenant-${chain}/notes`;
const none = () => undefined;

export function createIsolate(params: {
  policy: Policy;
  origins: readonly SimulatedOrigin[];
  now: () => number;
  random: () => number;
  /** The first origin of a name. */
  homeOf: (chain: number) => SimulatedOrigin;
}): Isolate {
  const { policy, origins, now, random, homeOf } = params;
  const byId = new Map(origins.map((origin) => [origin.id, origin]));
  const known = (id: string) => byId.get(id) as SimulatedOrigin;
  const health = createOriginHealth({ now });
  const sets = createReplicaSets();

  if (policy === 'random')
    return {
      send: () => ({
        origin: origins[Math.floor(random() * origins.length)] as SimulatedOrigin,
        ...{ onRow: none, onEnd: none },
      }),
    };
  if (policy === 'single-home')
    return { send: (chain) => ({ origin: homeOf(chain), onRow: none, onEnd: none }) };
  return {
    send(chain, request) {
      const name = nameOf(chain);
      const states = new Map(origins.map((origin) => [origin.id, health.stateOf(origin)]));
      const stateOf = ({ id }: { id: string }) => states.get(id) ?? health.stateOf(known(id));
      const choice = { spread: `request-${request}`, origins, stateOf };
      const visit = policy === 'replicas' ? sets.arrived(name, { name, origins, stateOf, now: now() }) : null;
      const [first] = chooseOrigins({
        ...choice,
        name: policy === 'least-loaded' ? null : name,
        replicas: visit?.set ?? null,
      });
      for (const { id } of visit?.toWarm ?? [])
        known(id).fetch(chain, () => sets.showed(name, known(id), now()), true);
      const origin = known(first?.id ?? '');
      const since = now();
      const lease = health.start(origin);
      return {
        origin,
        onRow() {
          health.answered(origin, origin.load);
          sets.showed(name, origin, now());
        },
        onEnd() {
          lease.end();
          sets.held(name, now() - since);
        },
      };
    },
  };
}

/** Each name's first origin, found once. */
export function createHomes(origins: readonly SimulatedOrigin[]): (chain: number) => SimulatedOrigin {
  const homes: SimulatedOrigin[] = [];
  return (chain) => {
    const home = homes[chain] ?? (rankOrigins(nameOf(chain), origins)[0] as SimulatedOrigin);
    homes[chain] = home;
    return home;
  };
}
