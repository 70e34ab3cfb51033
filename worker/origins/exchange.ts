import { z } from 'zod';
import {
  err,
  nextTraceparent,
  ok,
  pathForBase,
  type ApiError,
  type ChainEntry,
  type Result,
  type Traceparent,
  LOAD_HEADER,
} from '../../protocol/index.ts';
import { originUnavailable, adapterUnavailable } from '../errors.ts';
import { MAX_LOAD_WAIT_MS, LOAD_BUDGET_MS, SIGNATURE_EJECT_MS } from './limits.ts';
import { logLine } from '../log.ts';
import { type OriginFetch, readOriginText } from './signed-fetch.ts';
import type { Transfers } from './transfers.ts';
import type { Origin } from './choose-origin.ts';
import type { OriginHealth } from './health.ts';

/** How often one request brings the same adapter to an origin that loses it again at once. */
const MAX_TRANSFERS = 2;

const OriginError = z.object({
  error: z.object({
    message: z.string(),
    code: z.string(),
    param: z.string().nullish(),
    reason: z.string().optional(),
    missing: z.array(z.string()).optional(),
  }),
});
/** An origin's own words about a request. */
export type Refusal = z.infer<typeof OriginError>['error'];

/** An adapter that the origin lacked. */
export interface BroughtFile {
  digest: string;
  /** Sent for it here; 0 when another request of this isolate sent it. */
  bytes: number;
  ms: number;
}

export interface ExchangeCall {
  path: string;
  /** All that the origin needs for it; only these are brought to it. */
  chain: readonly ChainEntry[];
  requestId?: string;
  /** The trace that it belongs to; each try is a span of its own. */
  parent?: Traceparent | null;
  /** Until when adapters may be on their way, unix ms; {@link LOAD_BUDGET_MS} from now unless given. */
  loadUntil?: number;
  /** Hears of each adapter that was brought. */
  onBrought?: (brought: BroughtFile) => void;
  /** Hears, before it does, that the request waits for an adapter that the origin lacks or is being sent. */
  onCold?: () => void;
  /** Made anew for each try. */
  body: () => object;
  /** For each try. */
  signal: () => AbortSignal;
  /** Aborts when the client has gone. */
  gone: AbortSignal;
  keepAlive: (work: Promise<unknown>) => void;
}

export type Exchanged =
  /** The body has not been read. */
  | { kind: 'answered'; response: Response }
  /** `refusal` is null when something else than an origin seems to have answered. */
  | { kind: 'refused'; response: Response; text: string; refusal: Refusal | null }
  /** What it lacks cannot be brought to it. */
  | { kind: 'failed'; error: ApiError }
  /** It is not there. */
  | {
      kind: 'unreachable';
      error: ApiError;
      reason: string;
      /** It gives no sign of life. */ hangs?: boolean;
    };

const cannotLoad = (): ApiError =>
  adapterUnavailable('The adapter could not be loaded in time. Please try again.');

/** Sends a request to one origin, and what it needs of the chain when it says so, until it answers. */
export function createExchange(params: {
  send: OriginFetch;
  transfers: Transfers;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}) {
  const { send, transfers, now, sleep } = params;

  async function bringAll(
    origin: Origin,
    missing: readonly string[],
    state: Pick<ExchangeCall, 'chain' | 'keepAlive' | 'onBrought'> & {
      brought: Map<string, number>;
      loadUntil: number;
    },
  ): Promise<Result<null, ApiError>> {
    // Only what the request named and its sender may use: an origin cannot ask for others' adapters.
    const wanted = [...new Set(missing)].filter((digest) =>
      state.chain.some((member) => member.digest === digest),
    );
    const tooOften = wanted.some((digest) => (state.brought.get(digest) ?? 0) >= MAX_TRANSFERS);
    if (wanted.length === 0 || tooOften || now() >= state.loadUntil) return err(cannotLoad());
    for (const digest of wanted) state.brought.set(digest, (state.brought.get(digest) ?? 0) + 1);
    const results = await Promise.all(
      wanted.map(async (digest): Promise<Result<null, ApiError>> => {
        const since = now();
        const { loadUntil, keepAlive } = state;
        const sent = await transfers.bring(origin, digest, { until: loadUntil, keepAlive });
        if (!sent.ok) return sent;
        state.onBrought?.({ digest, bytes: sent.value, ms: now() - since });
        return ok(null);
      }),
    );
    return results.find((result) => !result.ok) ?? ok(null);
  }

  async function waitForLoad(response: Response, until: number): Promise<Result<null, ApiError>> {
    const asked = Number(response.headers.get('retry-after-ms') ?? 100);
    const wait = Math.min(Math.max(Number.isFinite(asked) ? asked : 100, 5), MAX_LOAD_WAIT_MS);
    if (now() + wait > until) return err(cannotLoad());
    await sleep(wait);
    return ok(null);
  }

  return async (origin: Origin, call: ExchangeCall): Promise<Exchanged> => {
    const { gone, requestId, parent = null } = call;
    const path = pathForBase(call.path, origin.base ?? null);
    const loadUntil = call.loadUntil ?? now() + LOAD_BUDGET_MS;
    const brought = new Map<string, number>();
    for (;;) {
      const sent = await send(origin, {
        method: 'POST',
        path,
        body: JSON.stringify(call.body()),
        signal: call.signal(),
        ...(requestId === undefined ? {} : { requestId }),
        ...(parent === null ? {} : { traceparent: nextTraceparent(parent) }),
      });
      if (!sent.ok) {
        const { reason } = sent.error;
        if (!gone.aborted)
          logLine('origin_unreachable', { origin: origin.id, request_id: requestId, reason });
        return { kind: 'unreachable', error: originUnavailable(), reason };
      }
      const response = sent.value;
      if (response.ok) return { kind: 'answered', response };
      const text = await textOf(response);
      const refusal = parseRefusal(text);
      if (response.status !== 409 || refusal === null) return { kind: 'refused', response, text, refusal };
      call.onCold?.();
      const waited =
        refusal.code === 'adapter_missing'
          ? await bringAll(origin, refusal.missing ?? [], { ...call, brought, loadUntil })
          : await waitForLoad(response, loadUntil);
      if (!waited.ok) return { kind: 'failed', error: waited.error };
      if (gone.aborted) return { kind: 'failed', error: originUnavailable() };
    }
  };
}

export type Exchange = ReturnType<typeof createExchange>;

/** @returns '' when the connection breaks, or the answer does not end. */
export const textOf = async (response: Response): Promise<string> =>
  (await readOriginText(response).catch(() => null)) ?? '';

/** @returns null for what is no origin's. */
export function parseRefusal(text: string): Refusal | null {
  try {
    const parsed = OriginError.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.error : null;
  } catch {
    return null;
  }
}

/** Finds out by small questions which origins live, so that no request has to hang to tell. */
export function createWatch(params: {
  health: OriginHealth;
  exchange: Exchange;
  send: OriginFetch;
  now: () => number;
  /** After this long without headers an origin must give a sign of life within `pulseMs`. */
  patienceMs: number;
  pulseMs: number;
}) {
  const { health, exchange, send, now, patienceMs, pulseMs } = params;

  const ask = (origin: Origin) =>
    send(origin, {
      method: 'GET',
      path: pathForBase('/base', origin.base ?? null),
      signal: AbortSignal.timeout(pulseMs),
    });

  /**
   * An origin that is overloaded answers others, or goes on with their streams, and needs no more questions.
   * @param since unix ms, from when on anything that came counts.
   */
  async function isAlive(origin: Origin, since: number): Promise<boolean> {
    if (health.heardSince(origin, since)) return true;
    const answer = await ask(origin);
    if (answer.ok) await answer.value.body?.cancel();
    return answer.ok || health.heardSince(origin, since);
  }

  return {
    /** Half-open: a question decides whether the origin gets requests again, not somebody's request. */
    async probe(origin: Origin): Promise<void> {
      const answer = await ask(origin);
      const response = answer.ok ? answer.value : null;
      await response?.body?.cancel();
      if (response?.ok === true) health.answered(origin, response.headers.get(LOAD_HEADER));
      else health.failed(origin, response?.status === 401 ? SIGNATURE_EJECT_MS : 0);
    },

    /** An origin that hangs is found out by a question, since a whole answer may take minutes. */
    async exchange(origin: Origin, call: ExchangeCall): Promise<Exchanged> {
      const dead = new AbortController();
      const signal = () => AbortSignal.any([call.signal(), dead.signal]);
      const asked = exchange(origin, { ...call, signal });
      for (let since = now(); ; since = now()) {
        const exchanged = await within(asked, patienceMs);
        if (exchanged !== null) return exchanged;
        if (await isAlive(origin, since)) continue;
        const reason = `no sign of life for ${(patienceMs + pulseMs) / 1000} s`;
        dead.abort(new Error(reason));
        return { kind: 'unreachable', error: originUnavailable(), reason, hangs: true };
      }
    },
  };
}

export type Watch = ReturnType<typeof createWatch>;

/** @returns null when it takes longer. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let give: (late: null) => void = () => undefined;
  const late = new Promise<null>((resolve) => (give = resolve));
  const timer = setTimeout(() => give(null), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
