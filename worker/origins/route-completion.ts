import type { ChainEntry, WarmedOrigin } from '../../protocol/index.ts';
import { FOLLOW_TIMEOUT_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { Lease, OriginHealth } from './health.ts';
import { chooseOrigins, type Origin } from './choose-origin.ts';
import { chainKey, createReplicaSets } from './replica-sets.ts';
import type { PrefetchAt } from './pins.ts';

/** The way of one completion. */
export interface Route {
  /** In which to ask the origins. */
  order: readonly Origin[];
  /** It goes to this one. */
  start(origin: Origin): Lease;
  /** It was answered by this one, with its chain. */
  served(origin: Origin): void;
}

/** Paths that run no rows and need no adapter in memory: they say nothing of demand or of what is there. */
const COUNTING = new Set([
  '/tokenize',
  '/detokenize',
  '/v1/messages/count_tokens',
  '/v1/responses/input_tokens',
]);

/**
 * Says to which origins a completion goes, and follows what names are asked for: hot ones get more origins, which load
 * the chain behind the answer to the request that made it so, and get requests when they have it.
 */
export function createRouting(params: { health: OriginHealth; prefetchAt: PrefetchAt; now: () => number }) {
  const { health, prefetchAt, now } = params;
  const sets = createReplicaSets();

  async function warm(
    origin: Origin,
    call: {
      key: string;
      name: string;
      chain: readonly ChainEntry[];
      keepAlive: (work: Promise<unknown>) => void;
    },
  ): Promise<WarmedOrigin> {
    const { key, name, chain, keepAlive } = call;
    // Not the request's own: whoever leaves does not stop what is for all.
    const { signal } = new AbortController();
    const warmed = await prefetchAt(origin, { chain, timeoutMs: FOLLOW_TIMEOUT_MS, signal, keepAlive });
    if (warmed.ok) sets.showed(key, origin, now());
    else sets.didNotLoad(key, origin, now());
    logLine('replica_warmed', { origin: origin.id, name, ok: warmed.ok, ms: warmed.ms }, 'info');
    return warmed;
  }

  return {
    /** @param origins of the pool that may serve it, not empty. */
    choose(
      call: {
        path: string;
        name: string | null;
        requestId: string;
        keepAlive: (work: Promise<unknown>) => void;
      },
      { origins, chain }: { origins: readonly Origin[]; chain: readonly ChainEntry[] },
    ): Route {
      const { path, name, keepAlive } = call;
      // Each state is looked up more than once.
      const states = new Map(origins.map((origin) => [origin.id, health.stateOf(origin)]));
      const stateOf = (origin: Origin) => states.get(origin.id) ?? health.stateOf(origin);
      const choice = { name, spread: call.requestId, origins, stateOf };
      // With one origin there is nothing to choose.
      if (name === null || chain.length === 0 || origins.length < 2 || COUNTING.has(path))
        return {
          order: chooseOrigins(choice),
          start: (origin) => health.start(origin),
          served: () => undefined,
        };
      const key = chainKey(name, chain);
      const { set, before, toWarm } = sets.arrived(key, { name, origins, stateOf, now: now() });
      if (before !== null) logLine('replicas', { name, before, origins: set.count }, 'info');
      const order = chooseOrigins({ ...choice, replicas: set });
      for (const origin of toWarm) keepAlive(warm(origin, { key, name, chain, keepAlive }));
      let answering: Origin | null = null;
      return {
        order,
        start(origin) {
          const since = now();
          const lease = health.start(origin);
          let isHeld = true;
          return {
            renew: lease.renew,
            end() {
              lease.end();
              if (isHeld && answering === origin) sets.held(key, now() - since);
              isHeld = false;
            },
          };
        },
        served(origin) {
          answering = origin;
          sets.showed(key, origin, now());
        },
      };
    },

    /** The origin failed. */
    lost: (origin: Origin): void => sets.lost(origin),
  };
}

export type Routing = ReturnType<typeof createRouting>;
