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
} from '../../protocol/index.ts';
import { originUnavailable, adapterUnavailable } from '../errors.ts';
import { MAX_LOAD_WAIT_MS, LOAD_BUDGET_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { OriginFetch } from './signed-fetch.ts';
import { readOriginText } from './read-text.ts';
import type { Transfers } from './transfers.ts';
import type { Origin } from './choose-origin.ts';

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
  | { kind: 'unreachable'; error: ApiError; reason: string };

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
const textOf = async (response: Response): Promise<string> =>
  (await readOriginText(response).catch(() => null)) ?? '';

function parseRefusal(text: string): Refusal | null {
  try {
    const parsed = OriginError.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.error : null;
  } catch {
    return null;
  }
}
