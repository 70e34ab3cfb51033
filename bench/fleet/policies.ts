/** Ways to choose an origin; `replicas` and `bounded` are the edge's own code, in virtual time. */
import {
  chooseOrigins,
  rankOrigins,
  createReplicaSets,
  createOriginHealth,
} from '../../worker/origins/routing.ts';
import { ASK_HEADER } from '../../protocol/pool-notes.ts';
import { createPoolKnowledge } from '../../worker/origins/pool-knowledge.ts';
import { chainOf, type SimulatedOrigin } from './simulated-origin.ts';

export const POLICIES = ['random', 'least-loaded', 'single-home', 'bounded', 'replicas'] as const;
export type Policy = (typeof POLICIES)[number];

/**
 * What origins learn of each other: nothing, and nor do edges of them but their load; each only of itself, and edges
 * by its answers; what edges carry, as the worker does; or, each {@link OBJECT_MS}, all of all, by an object that asks
 * them.
 */
export const TELLS = ['nothing', 'own', 'edges', 'object'] as const;
export type Tells = (typeof TELLS)[number];
export const OBJECT_MS = 200;

export interface Sent {
  origin: SimulatedOrigin;
  /** Of the pool, with the request. */
  headers: Readonly<Record<string, string>>;
  /** It was turned away. @param notes the refusal's. @returns where it goes then. */
  turned(notes: string | null, mayTurn: boolean): Sent;
  /** Nobody answered. @returns where it goes then. */
  failed(): Sent;
  /** The origin is shutting down. @returns where it goes then. */
  refused(): Sent;
  /** It got a row: the origin's headers are here. */
  onRow(notes: string | null): void;
  onEnd(): void;
}

/** One isolate of the edge. */
export interface Isolate {
  /** @param chain index of the name. @param conversation index; null = none. */
  send(chain: number, request: number, conversation: number | null): Sent;
}

export const nameOf = (chain: number): string => `tenant-${chain}/notes`;
const none = () => undefined;

export function createIsolate(params: {
  policy: Policy;
  tells: Tells;
  origins: readonly SimulatedOrigin[];
  now: () => number;
  random: () => number;
  /** The first origin of a name. */
  homeOf: (chain: number) => SimulatedOrigin;
}): Isolate {
  const { policy, tells, origins, now, random, homeOf } = params;
  const byId = new Map(origins.map((origin) => [origin.id, origin]));
  const known = (id: string) => byId.get(id) as SimulatedOrigin;
  const health = createOriginHealth({ now });
  const sets = createReplicaSets();

  const knowledge = createPoolKnowledge({ origins, health, now });
  const blind = (origin: SimulatedOrigin): Sent => ({
    origin,
    headers: {},
    turned: () => blind(origin),
    failed: () => blind(anyOf(origins.filter((one) => one !== origin))),
    refused: () => blind(anyOf(origins.filter((one) => one !== origin))),
    ...{ onRow: none, onEnd: none },
  });
  const anyOf = (among: readonly SimulatedOrigin[]) =>
    among[Math.floor(random() * among.length)] as SimulatedOrigin;

  if (policy === 'random') return { send: () => blind(anyOf(origins)) };
  if (policy === 'single-home') return { send: (chain) => blind(homeOf(chain)) };

  /** What the edge would send, less what `tells` leaves out. */
  function headersFor(origin: SimulatedOrigin, mayTurn: boolean): Record<string, string> {
    if (tells === 'nothing') return {};
    const headers = knowledge.headersFor(origin, mayTurn);
    if (tells === 'edges') return headers;
    const { [ASK_HEADER]: ask = '' } = headers;
    return { [ASK_HEADER]: tells === 'own' ? ask.replace('pool', 'own') : ask };
  }

  function send(
    chain: number,
    asked: Pick<Parameters<typeof chooseOrigins>[0], 'spread' | 'conversation'>,
    left: readonly SimulatedOrigin[],
    mayTurn = true,
  ): Sent {
    const name = nameOf(chain);
    const states = new Map(origins.map((origin) => [origin.id, health.stateOf(origin)]));
    const stateOf = ({ id }: { id: string }) => states.get(id) ?? health.stateOf(known(id));
    const isAgain = left.length < origins.length;
    const visit =
      policy === 'replicas'
        ? sets.arrived(name, {
            ...{ name, origins, stateOf, now: now(), isAgain },
            told: knowledge.demandOf(origins, chainOf(chain)),
          })
        : null;
    const [first] = chooseOrigins({
      ...{ ...asked, origins: left, stateOf },
      name: policy === 'least-loaded' ? null : name,
      replicas: visit?.set ?? null,
    });
    for (const { id } of visit?.toWarm ?? [])
      known(id).fetch(chain, () => sets.showed(name, known(id), now()), true);
    const origin = known(first?.id ?? '');
    const since = now();
    const lease = health.start(origin);
    const hear = (notes: string | null): void => {
      health.answered(origin, origin.load);
      knowledge.heard(origin, notes);
    };
    const elsewhere = (mayTurnThere: boolean): Sent => {
      const others = left.filter((one) => one !== origin);
      // As the worker's request waits and asks again.
      return send(chain, asked, others.length > 0 ? others : origins, mayTurnThere);
    };
    return {
      origin,
      headers: policy === 'replicas' ? headersFor(origin, mayTurn) : {},
      turned(notes, mayTurnAgain) {
        lease.end();
        hear(notes);
        return elsewhere(mayTurnAgain);
      },
      failed() {
        lease.end();
        health.failed(origin);
        sets.lost(origin);
        return elsewhere(mayTurn);
      },
      refused() {
        lease.end();
        health.answered(origin, origin.load);
        return elsewhere(mayTurn);
      },
      onRow(notes) {
        hear(notes);
        sets.showed(name, origin, now());
      },
      onEnd() {
        lease.end();
        sets.held(name, now() - since);
      },
    };
  }
  return {
    send(chain, request, conversation) {
      const asked = {
        spread: `request-${request}`,
        conversation: conversation === null ? null : `conversation-${conversation}`,
      };
      return send(chain, asked, origins);
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
