import { createMiddleware } from 'hono/factory';
import type { WarmedOrigin } from '../../protocol/admin-api/origins.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import {
  LoadAnswer,
  ResidentList,
  type KeepPinsRequest,
  type PinRequest,
  type PrefetchRequest,
} from '../../protocol/origin-wire.ts';
import { keepAlive, type AppEnv } from '../http/request.ts';
import { originUnavailable } from '../errors.ts';
import { logLine } from '../log.ts';
import type { PointerWriter, Registry, VersionRow } from '../registry/ports.ts';
import type { Pools, Origin, PrefetchAt } from './routing.ts';
import type { Exchange, Exchanged, PushedFile } from './send.ts';
import { MAX_PIN_QUESTIONS, ORIGIN_QUESTION_MS, PIN_TIMEOUT_MS, FOLLOW_TIMEOUT_MS } from './limits.ts';
import type { OriginPins, OriginWarmth, PinLedger, PinReport, PinSync } from './ports.ts';
import { type OriginFetch, readOriginText } from './connection.ts';

/**
 * Asks origins to keep adapters in memory: all of a base, because any may have to serve a name when another
 * is busy or lost.
 */
export function createOriginPins(params: {
  pools: Pools;
  exchange: Exchange;
  send: OriginFetch;
}): OriginPins {
  const { pools, exchange, send } = params;
  return {
    round({ signal, keepAlive, loading = signal }) {
      /** Origin's id -> why it was unreachable. */
      const silent = new Map<string, string>();
      const held = new Map<string, Promise<Set<string>>>();
      let questions = 0;

      /** @returns digests that it has pinned; empty if it does not say. */
      async function askHeld(origin: Origin): Promise<Set<string>> {
        const until = AbortSignal.any([signal, AbortSignal.timeout(ORIGIN_QUESTION_MS)]);
        const sent = await send(origin, { method: 'GET', path: '/adapters', signal: until });
        if (!sent.ok) silent.set(origin.id, originUnavailable().message);
        try {
          const text = sent.ok ? ((await readOriginText(sent.value)) ?? '') : '';
          const { adapters } = ResidentList.parse(JSON.parse(text));
          return new Set(
            adapters.flatMap(({ digest, pinned, state }) => (pinned && state === 'ready' ? [digest] : [])),
          );
        } catch {
          return new Set();
        }
      }

      async function pinAt(origin: Origin, chain: readonly ChainEntry[]): Promise<string | null> {
        const asked = held.get(origin.id) ?? askHeld(origin);
        held.set(origin.id, asked);
        const there = await asked;
        const before = silent.get(origin.id);
        if (before !== undefined) return before;
        if (chain.every(({ digest }) => there.has(digest))) return null;
        if (loading.aborted || ++questions > MAX_PIN_QUESTIONS) return NEXT_TIME;
        const body: PinRequest = { digests: [...new Set(chain.map(({ digest }) => digest))] };
        const exchanged = await exchange(origin, {
          path: '/adapters/pins',
          chain,
          body: () => body,
          signal: () => AbortSignal.any([signal, loading, AbortSignal.timeout(PIN_TIMEOUT_MS)]),
          gone: AbortSignal.any([signal, loading]),
          keepAlive,
        });
        // The origin goes on loading, and is not to blame.
        if (loading.aborted && exchanged.kind !== 'answered') return NEXT_TIME;
        const reason = await whyNotLoaded(exchanged);
        if (reason === null) for (const digest of body.digests) there.add(digest);
        if (reason !== null && exchanged.kind === 'unreachable') silent.set(origin.id, reason);
        if (reason !== null)
          logLine('not_pinned', { origin: origin.id, digests: body.digests.join(','), reason });
        return reason;
      }

      async function keepAt(origin: Origin, body: KeepPinsRequest): Promise<boolean> {
        if (silent.has(origin.id)) return false;
        const sent = await send(origin, {
          method: 'PUT',
          path: '/adapters/pins',
          body: JSON.stringify(body),
          signal: AbortSignal.any([signal, AbortSignal.timeout(ORIGIN_QUESTION_MS)]),
        });
        if (sent.ok) await sent.value.body?.cancel();
        if (sent.ok && sent.value.ok) return true;
        const reason = sent.ok ? `answered ${sent.value.status}` : sent.error.reason;
        logLine('not_unpinned', { origin: origin.id, reason });
        return false;
      }

      return {
        pin: ({ base, chain }) =>
          Promise.all(
            pools.of(base).map(async (origin) => {
              const reason = await pinAt(origin, chain);
              return { id: origin.id, ok: reason === null, reason };
            }),
          ),
        async keepPinned(digests) {
          const body: KeepPinsRequest = { digests: [...digests] };
          const done = await Promise.all(pools.all.map((origin) => keepAt(origin, body)));
          return done.every((one) => one);
        },
      };
    },
  };
}

const NEXT_TIME = 'Its turn comes within a minute.';

/** @returns null if all adapters are in memory. */
export async function whyNotLoaded(exchanged: Exchanged): Promise<string | null> {
  switch (exchanged.kind) {
    case 'failed':
    case 'unreachable':
      return exchanged.error.message;
    case 'refused':
      return exchanged.refusal?.message ?? `It answered ${exchanged.response.status}.`;
    case 'answered': {
      try {
        const text = await readOriginText(exchanged.response);
        if (text === null) return 'Its answer is too long.';
        const { results } = LoadAnswer.parse(JSON.parse(text));
        const failed = results.find(({ ok }) => !ok);
        return failed === undefined ? null : (failed.error?.message ?? 'No reason given.');
      } catch {
        return 'Its answer could not be read.';
      }
    }
  }
}

/** Has origins load adapters before they are requested. */
export function createPrefetch(params: {
  pools: Pools;
  /** Order in which requests for this name would ask its base's origins. */
  order: (name: string, base: string) => readonly Origin[];
  exchange: Exchange;
  now: () => number;
}): OriginWarmth & { at: PrefetchAt } {
  const { pools, order, exchange, now } = params;

  const load: PrefetchAt = async (origin, { chain, instead, timeoutMs, signal, keepAlive }) => {
    const since = now();
    const brought: PushedFile[] = [];
    const digests = [...new Set(chain.map(({ digest }) => digest))];
    const body: PrefetchRequest = { digests, ...(instead === undefined ? {} : { if_resident: instead }) };
    const until = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const exchanged = await exchange(origin, {
      path: '/adapters/prefetch',
      chain,
      loadUntil: since + timeoutMs,
      onBrought: (file) => brought.push(file),
      body: () => body,
      signal: () => until,
      gone: until,
      keepAlive,
    });
    const reason = await whyNotLoaded(exchanged);
    if (reason !== null) logLine('not_prefetched', { origin: origin.id, digests: digests.join(','), reason });
    return { id: origin.id, ok: reason === null, reason, brought, ms: now() - since };
  };

  return {
    at: load,

    async warm({ name, base, chain, ...life }) {
      const asked: WarmedOrigin[] = [];
      for (const origin of order(name, base)) {
        asked.push(await load(origin, { ...life, chain, timeoutMs: PIN_TIMEOUT_MS }));
        if (asked.at(-1)?.ok === true || life.signal.aborted) break;
      }
      return asked;
    },

    async follow({ was, base, chain, ...life }) {
      const call = { ...life, chain, instead: was, timeoutMs: FOLLOW_TIMEOUT_MS };
      await Promise.all(pools.of(base).map((origin) => load(origin, call)));
    },
  };
}

type Names = Pick<Registry, 'pointer'>;

/** The version that would serve a request for the name; follows one alias, like requests. */
async function liveVersion(registry: Names, name: string): Promise<VersionRow | null> {
  let pointer = await registry.pointer(name);
  if (pointer.kind === 'alias') pointer = await registry.pointer(pointer.target);
  return pointer.kind === 'version' && pointer.row.withdrawnAt === null ? pointer.row : null;
}

/** Asks origins nothing while there are no pins, once all of them have released theirs. */
export function createPinSync(deps: { pins: PinLedger; registry: Names; origins: OriginPins }): PinSync {
  const { pins, registry, origins } = deps;
  /** Nothing is pinned, and all origins know it. */
  let idle = false;
  return {
    async sync(life) {
      const wanted = await Promise.all(
        (await pins.list()).map(async (pin) => ({ pin, row: await liveVersion(registry, pin.name) })),
      );
      if (idle && wanted.length === 0) return [];
      // One after the other: an origin loads two files at a time while it serves.
      const reports: PinReport[] = [];
      const round = origins.round(life);
      for (const { pin, row } of wanted) {
        const live = row && { name: row.name, version: row.version };
        reports.push({
          ...pin,
          live,
          origins: row === null ? [] : await round.pin({ base: row.base.id, chain: chainOf(row) }),
        });
      }
      const digests = wanted.flatMap(({ row }) => row?.chain.map(({ digest }) => digest) ?? []);
      const done = await round.keepPinned([...new Set(digests)]);
      idle = done && wanted.length === 0;
      return reports;
    },
  };
}

const chainOf = (row: VersionRow): ChainEntry[] => row.chain.map(({ digest, scale }) => ({ digest, scale }));

/**
 * Notices changes of names, so that pins can follow them.
 * @returns the writer to use, and whether a name has changed since the last call.
 */
export function watchPointers(pointers: PointerWriter): { pointers: PointerWriter; changed: () => boolean } {
  let dirty = false;
  return {
    pointers: {
      sync: (name, options) => {
        dirty = true;
        return pointers.sync(name, options);
      },
    },
    changed() {
      const was = dirty;
      dirty = false;
      return was;
    },
  };
}

/**
 * After a request that changed names, has origins load and pin the new chains of pinned names, and release
 * the old ones. The response does not wait for it, but `GET /admin/pins` does; the schedule completes what is
 * cut off.
 */
export const repinAfterChange = (deps: { pointersChanged: () => boolean; pinSync: PinSync }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    await next();
    if (!deps.pointersChanged()) return;
    const { signal } = new AbortController();
    keepAlive(context, deps.pinSync.sync({ signal, keepAlive: (work) => keepAlive(context, work) }));
  });
