/**
 * What one isolate knows of its origins: how busy they are, which are better left alone for a while, and so to which a
 * completion goes.
 */
import type { WarmedOrigin } from '../../protocol/admin-api/origins.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import { readLoad } from '../../protocol/origin-wire.ts';
import { REQUEST_BUDGET_MS } from '../limits.ts';
import { logLine } from '../log.ts';
import {
  type Origin,
  type OriginState,
  chooseOrigins,
  chainKey,
  createReplicaSets,
} from './choose-origin.ts';
import {
  EJECT_MS,
  ORIGIN_LEASE_MS,
  LOAD_ANSWER_FRESH_MS,
  MAX_EJECT_MS,
  PULSE_MS,
  UNKNOWN_SLOTS,
  FOLLOW_TIMEOUT_MS,
} from './limits.ts';
import type { PinLife } from './ports.ts';

/** A request that an origin is answering. */
export interface Lease {
  /** It still is: a part of the answer came. */
  renew(): void;
  /** Once or more often. */
  end(): void;
}

interface Known {
  /** Each ends by itself `until`, unix ms: the work of a request that is cut off never comes to its `finally`. */
  leases: Set<{ until: number }>;
  /** What the origin last said, and when: rows of others than this isolate, and all of its slots. */
  said: { others: number; slots: number; at: number } | null;
  /** Failures since its last good answer. */
  failures: number;
  ejectedUntil: number;
  /** When anything of it last came here, unix ms. */
  heardAt: number;
}

export function createOriginHealth(params: { now: () => number }) {
  const { now } = params;
  const origins = new Map<string, Known>();

  function known({ id }: Origin): Known {
    let found = origins.get(id);
    if (found === undefined) {
      found = { leases: new Set(), said: null, failures: 0, ejectedUntil: 0, heardAt: -Infinity };
      origins.set(id, found);
    }
    return found;
  }

  function inFlight(of: Known): number {
    for (const lease of of.leases) if (lease.until <= now()) of.leases.delete(lease);
    return of.leases.size;
  }

  /** Others go on sending as they did, the less surely the longer nothing was heard of it. */
  const othersNow = ({ said }: Known): number => {
    if (said === null) return 0;
    return said.others * Math.max(0, 1 - (now() - said.at) / LOAD_ANSWER_FRESH_MS);
  };

  const eject = (of: Known, ms: number): void => {
    of.ejectedUntil = Math.max(of.ejectedUntil, now() + ms);
  };

  return {
    stateOf(origin: Origin): OriginState {
      const of = known(origin);
      const mine = inFlight(of);
      return {
        load: mine + othersNow(of),
        own: mine,
        slots: of.said?.slots ?? UNKNOWN_SLOTS,
        ejected: of.failures > 0 || of.ejectedUntil > now(),
      };
    },

    /** A request goes to the origin. */
    start(origin: Origin): Lease {
      const of = known(origin);
      const lease = { until: now() + REQUEST_BUDGET_MS };
      of.leases.add(lease);
      return {
        renew() {
          of.heardAt = now();
          lease.until = of.heardAt + ORIGIN_LEASE_MS;
        },
        end: () => void of.leases.delete(lease),
      };
    },

    /** Has anything of it come since then, an answer or a part of a stream? @param at unix ms. */
    heardSince: (origin: Origin, at: number): boolean => known(origin).heardAt > at,

    /**
     * Half-open: those that failed and whose time is up. They stay ejected until they answer a question, which is for
     * the caller to ask; nobody else is told to for a while.
     */
    toProbe(among: readonly Origin[]): Origin[] {
      return among.filter((origin) => {
        const of = known(origin);
        if (of.failures === 0 || of.ejectedUntil > now()) return false;
        eject(of, PULSE_MS);
        return true;
      });
    },

    /** It answered as an origin does, whatever it said. @param header its `x-graft-load`. */
    answered(origin: Origin, header: string | null): void {
      const of = known(origin);
      of.failures = 0;
      of.ejectedUntil = 0;
      of.heardAt = now();
      const said = readLoad(header);
      if (said === null) return;
      of.said = { others: Math.max(0, said.rows - inFlight(of)), slots: said.slots, at: now() };
      if (said.draining) eject(of, EJECT_MS);
    },

    /** Its queue is full. */
    full(origin: Origin): void {
      const of = known(origin);
      const slots = of.said?.slots ?? UNKNOWN_SLOTS;
      of.said = { others: Math.max(othersNow(of), 2 * slots - inFlight(of)), slots, at: now() };
    },

    /** It did not answer, or not as an origin that serves. @param forMs at least this long, when it said so. */
    failed(origin: Origin, forMs = 0): void {
      const of = known(origin);
      of.failures += 1;
      eject(of, Math.min(MAX_EJECT_MS, Math.max(forMs, EJECT_MS * 2 ** Math.min(of.failures - 1, 10))));
    },
  };
}

export type OriginHealth = ReturnType<typeof createOriginHealth>;

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

/** Has one origin load a chain, brought to it if need be. Never throws. */
export type PrefetchAt = (
  origin: Origin,
  call: PinLife & {
    chain: readonly ChainEntry[];
    /** Only where it has this adapter in memory. */
    instead?: string;
    timeoutMs: number;
  },
) => Promise<WarmedOrigin>;

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
