/**
 * Sends a completion to origins until one starts to answer, copies missing adapters to it, and detects
 * origins that hang.
 */
import { BoundedMap } from '../platform/bounded-map.ts';
import type { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { sha256Hex, type ChainEntry } from '../../protocol/identity.ts';
import {
  ANSWER_PARAMETER,
  CANCEL_PARAMETER,
  COLD_HEADER,
  isEventStream,
  LOAD_HEADER,
  type OriginDirective,
  type OriginRequest,
  USAGE_HEADER,
  pathForBase,
} from '../../protocol/origin-wire.ts';
import { childOf, type Traceparent } from '../../protocol/trace-context.ts';
import { POOL_HEADER, TURNED_HEADER } from '../../protocol/pool-notes.ts';
import type { Stages } from '../tracing/ports.ts';
import { baseUnserved, originUnavailable, adapterUnavailable } from '../errors.ts';
import {
  DEADLINE_GRACE_MS,
  HELD_ANSWER_BYTES,
  LOAD_BUDGET_MS,
  MAX_TURNED_AWAY,
  MAX_SILENCED_ORIGINS,
  MAX_SILENCING_REQUESTS,
  MAX_TOO_SMALL,
  SIGNATURE_EJECT_MS,
  SILENCE_MEMORY_MS,
  MAX_LOAD_WAIT_MS,
} from './limits.ts';
import { RETRY_AFTER_MS } from '../limits.ts';
import { logLine } from '../log.ts';
import { withTimeout } from '../platform/store-calls.ts';
import type { OriginHealth, Routing, Pools, Origin } from './routing.ts';
import { createDeliver, type OriginFetch, readAnswer, readOriginText } from './connection.ts';
import type { PoolKnowledge } from './pool-knowledge.ts';
import type { Cancellation } from './ask-origins.ts';
import type { StreamOutcome, TokenCounts } from '../metering/ports.ts';
import { STREAM_STALL_MS } from '../../protocol/limits.ts';
import { z } from 'zod';
import type { Transfers } from './transfers.ts';

export interface CompletionCall {
  path:
    | '/v1/chat/completions'
    | '/v1/completions'
    | '/v1/responses'
    | '/v1/messages'
    | '/v1/messages/count_tokens'
    | '/v1/responses/input_tokens'
    | '/v1/embeddings'
    | '/v1/classify'
    | '/v1/score'
    | '/v1/rerank'
    | '/tokenize'
    | '/detokenize';
  /** The client's request, validated. */
  request: Record<string, unknown>;
  model: string;
  /** null = the base model. */
  manifest: AdapterManifest | null;
  /** Id of the base if there is no manifest; null or undefined = the default one. */
  base?: string | null;
  /** The chain to run, if not the manifest's. */
  chain?: readonly ChainEntry[];
  /** Whose usual origin is asked first, if there is no manifest; null or undefined = any. */
  name?: string | null;
  tenant: string;
  requestId: string;
  /** When it arrived, unix ms: its time limit counts from then. Default: now. */
  arrivedAt?: number;
  /** The request's span at the edge. */
  parent?: Traceparent | null;
  /** Gets what it waits for. */
  stages?: Stages;
  /** Its experiment, for the origin's trace. */
  experiment?: OriginDirective['experiment'];
  /** Aborts when the client disconnects. */
  signal: AbortSignal;
  /** Lets work continue after the response. */
  keepAlive: (work: Promise<unknown>) => void;
  /** false = its client cannot parse comments in a stream; default true. */
  takesComments?: boolean;
  /** End of the answer's id; default: the origin chooses. */
  answerText?: string;
  /** Called when the request has to wait for an adapter to be copied or loaded. */
  onCold?: () => void;
  /** Called when an origin stopped responding during this request. */
  onSilenced?: () => void;
  /** Called for each origin that it is sent to, one after the other. */
  onAsked?: (asked: AskedOrigin) => void;
}

export interface AskedOrigin {
  /**
   * Cancels the request there.
   * @returns its usage; null if the origin does not say. Never throws.
   */
  cancel(): Promise<TokenCounts | null>;
}

export interface Served {
  /** Its body is unread; may also be the origin's refusal. */
  response: Response;
  /** For a stream: resolves with its outcome when it ends; null otherwise. */
  ended: Promise<StreamOutcome> | null;
  origin: Origin;
  /** Error code of the origin's refusal; null if it serves the request. */
  refused: string | null;
  /** Ids of the origins that were asked before and could not serve. */
  tried: string[];
}

type RetryDecision =
  | { kind: 'serve'; response: Response; refused?: string }
  /** Nothing has been sent to the client yet, so another origin can be asked. */
  | {
      kind: 'next';
      error: ApiError;
      /** For the client if no other origin does better. */
      clientError?: { response: Response; refused: string };
      /** The origin is too small for the request; others may be larger. */
      tooSmall?: boolean;
      /** It is crowded, and let another one have it. */
      turnedAway?: boolean;
    }
  | { kind: 'stop'; error: ApiError };

/** An origin's statuses that concern the client's request, and are passed on to it. */
const PASSED_ON = new Set([400, 404, 413, 422, 429, 500, 503]);
/**
 * Cloudflare's status when an origin behind it has sent nothing for 100 s: a whole answer that takes longer.
 */
const PROXY_TIMEOUT = 524;
/** When to retry, and the usage before the refusal. */
const RETOLD_HEADERS = ['retry-after', 'retry-after-ms', 'x-should-retry', USAGE_HEADER];

const deadline = (budgetMs: number): ApiError => ({
  code: 'deadline_exceeded',
  message: `The request took longer than ${budgetMs / 1000} s.`,
});

const stopped = (): ApiError => ({
  code: 'origin_stopped',
  message:
    'Two origins stopped answering while serving this request. It is blocked for ' +
    `${SILENCE_MEMORY_MS / 60_000} minutes.`,
});

/**
 * Requests during which origins stopped responding: a request that stops one could stop all of them, one
 * after the other. Identified by tenant, path and body.
 */
function createSilences(now: () => number) {
  const found = new BoundedMap<string, { origins: number; until: number }>(MAX_SILENCING_REQUESTS);
  const keyOf = ({ tenant, path, request }: CompletionCall): Promise<string> =>
    sha256Hex(JSON.stringify([tenant, path, request]));
  const timesOf = (key: string): number => {
    const known = found.get(key);
    return known === undefined || known.until <= now() ? 0 : known.origins;
  };
  return {
    async isKnown(call: CompletionCall): Promise<boolean> {
      // No hashing while every origin responds.
      return found.size > 0 && timesOf(await keyOf(call)) >= MAX_SILENCED_ORIGINS;
    },
    /** @returns how many origins it has silenced, including this one. */
    async note(call: CompletionCall): Promise<number> {
      const key = await keyOf(call);
      const origins = timesOf(key) + 1;
      found.set(key, { origins, until: now() + SILENCE_MEMORY_MS });
      return origins;
    },
    /** An origin has answered it, so the earlier one failed for another reason. */
    async clear(call: CompletionCall): Promise<void> {
      found.delete(await keyOf(call));
    },
  };
}

/**
 * Sends completions to the origins of their base, and moves to the next one if one fails before the client has got
 * anything.
 */
export function createComplete(params: {
  pools: Pools;
  pool: PoolKnowledge;
  health: OriginHealth;
  routing: Routing;
  hangDetector: HangDetector;
  now: () => number;
  cancel: Cancellation;
  /** Time limit of a request, from its arrival. */
  budgetMs: number;
}) {
  const { pools, pool, health, routing, hangDetector, now, cancel, budgetMs } = params;
  const deliver = createDeliver({ health, now });
  const silences = createSilences(now);

  async function decideRetry(
    origin: Origin,
    exchanged: Exchanged,
    call: CompletionCall,
  ): Promise<RetryDecision> {
    switch (exchanged.kind) {
      case 'answered': {
        const { response } = exchanged;
        const type = response.headers.get('content-type') ?? '';
        if (!/^(application\/json|text\/event-stream)\b/.test(type)) {
          response.body?.cancel().catch(() => undefined);
          return unexpectedResponse(origin, { status: response.status, reason: 'neither JSON nor events' });
        }
        health.answered(origin, response.headers.get(LOAD_HEADER));
        pool.heard(origin, response.headers.get(POOL_HEADER));
        if (response.headers.has(COLD_HEADER)) call.onCold?.();
        if (isEventStream(response.headers)) return { kind: 'serve', response };
        const whole = await readAnswer(response, { bytes: HELD_ANSWER_BYTES, stallMs: STREAM_STALL_MS });
        if (whole !== null) return { kind: 'serve', response: whole };
        if (!call.signal.aborted) logLine('answer_cut', { origin: origin.id, request_id: call.requestId });
        return lost(origin, originUnavailable(), call);
      }
      case 'refused':
        return judgeRefusal(origin, exchanged);
      case 'failed': {
        const { error } = exchanged;
        // If the store does not respond, other origins cannot get the file either.
        return { kind: error.code === 'registry_unavailable' ? 'stop' : 'next', error };
      }
      case 'unreachable':
        return lost(origin, exchanged.error, call);
    }
  }

  /** No answer came from it, or not all of one. */
  function lost(origin: Origin, error: ApiError, call: CompletionCall): RetryDecision {
    if (call.signal.aborted) return { kind: 'stop', error };
    health.failed(origin);
    routing.lost(origin);
    return { kind: 'next', error };
  }

  /**
   * Decides about an origin's refusal: errors about the request go to the client; others (401, a proxy's
   * page) do not.
   */
  function judgeRefusal(origin: Origin, refused: Extract<Exchanged, { kind: 'refused' }>): RetryDecision {
    const { response, text, refusal } = refused;
    const { status } = response;
    if (refusal === null && status === PROXY_TIMEOUT) return tooLongForProxy(origin);
    if (refusal === null) return unexpectedResponse(origin, { status, reason: 'not an answer of an origin' });
    if (refusal.code === 'invalid_signature') return refusedSignature(origin, refusal);
    if (refusal.code === 'origin_unavailable') {
      logLine('origin_not_serving', { origin: origin.id, reason: refusal.message }, 'info');
      health.failed(origin, Number(response.headers.get('retry-after-ms') ?? 0) || 0);
      return { kind: 'next', error: originUnavailable() };
    }
    if (!PASSED_ON.has(status)) return unexpectedResponse(origin, { status, reason: refusal.code });
    health.answered(origin, response.headers.get(LOAD_HEADER));
    pool.heard(origin, response.headers.get(POOL_HEADER));
    if (refusal.code === 'queue_full' && response.headers.has(TURNED_HEADER))
      return { kind: 'next', error: originUnavailable(), turnedAway: true };
    const told = retold(response, text);
    // Without a time to retry it will never fit this origin, which has fewer rows than others or a lower
    // maximum rank.
    const tooSmall =
      (refusal.code === 'queue_full' && !response.headers.has('retry-after')) ||
      refusal.reason === 'rank_sum_exceeded';
    if (refusal.code !== 'queue_full' && !tooSmall)
      return { kind: 'serve', response: told, refused: refusal.code };
    if (!tooSmall) health.full(origin);
    return {
      kind: 'next',
      error: originUnavailable(),
      clientError: { response: told, refused: refusal.code },
      tooSmall,
    };
  }

  function unexpectedResponse(origin: Origin, fields: { status: number; reason: string }): RetryDecision {
    logLine('odd_origin_answer', { origin: origin.id, ...fields });
    health.failed(origin);
    return { kind: 'next', error: originUnavailable() };
  }

  /** It would take as long at another origin. */
  function tooLongForProxy(origin: Origin): RetryDecision {
    logLine('odd_origin_answer', {
      origin: origin.id,
      status: PROXY_TIMEOUT,
      reason: 'a proxy timed out',
    });
    const message = "The answer took longer than a proxy in front of the model server waits. Use 'stream'.";
    return { kind: 'stop', error: { code: 'deadline_exceeded', message } };
  }

  function refusedSignature(origin: Origin, { message, reason }: Refusal): RetryDecision {
    logLine('origin_refused_signature', { origin: origin.id, reason, message });
    // A stamp from before its start resolves itself in a moment; keys, ids and clocks need an operator.
    health.failed(origin, reason === 'before_start' ? 0 : SIGNATURE_EJECT_MS);
    return { kind: 'next', error: originUnavailable() };
  }

  return async (call: CompletionCall): Promise<Result<Served, ApiError>> => {
    const started = now();
    const until = (call.arrivedAt ?? started) + budgetMs;
    const base = call.manifest?.base.id ?? call.base ?? null;
    const origins = pools.of(base);
    if (origins.length === 0) return err(baseUnserved(base ?? '', pools.declared ?? []));
    if (await silences.isKnown(call)) return err(stopped());
    const endChoice = call.stages?.begin('choose');
    const chain = (call.chain ?? call.manifest?.chain ?? []).map(({ digest, scale }) => ({ digest, scale }));
    const budget = AbortSignal.any([
      call.signal,
      AbortSignal.timeout(Math.max(0, until - started) + DEADLINE_GRACE_MS),
    ]);
    const cancelId = crypto.randomUUID();
    const exchangeCall: ExchangeCall = {
      path: pathOf(call, cancelId),
      chain,
      requestId: call.requestId,
      parent: call.parent ?? null,
      ...(call.stages === undefined ? {} : { stages: call.stages }),
      loadUntil: started + LOAD_BUDGET_MS,
      body: (): OriginRequest => ({
        request: call.request,
        graft: {
          chain,
          tenant: call.tenant,
          budget_ms: Math.max(1, until - now()),
          request_id: call.requestId,
          model: call.model,
          ...(call.manifest === null
            ? {}
            : { adapter: { name: call.manifest.name, version: call.manifest.version } }),
          ...(call.experiment === undefined ? {} : { experiment: call.experiment }),
        },
      }),
      signal: () => budget,
      gone: call.signal,
      keepAlive: call.keepAlive,
      ...(call.onCold === undefined ? {} : { onCold: call.onCold }),
    };
    // A single origin gets every request anyway.
    if (origins.length > 1)
      for (const origin of health.toProbe(origins)) call.keepAlive(hangDetector.probe(origin));
    const route = routing.choose(
      { ...call, name: call.manifest?.name ?? call.name ?? null },
      { origins, chain },
    );
    endChoice?.({
      attributes: { 'graft.origin': route.order[0]?.id, 'graft.origins': route.order.length },
    });
    const tried: string[] = [];
    const asked = new Set<Origin>();
    const turned: Origin[] = [];
    let order = [...route.order];
    let tooSmall = 0;
    let silenced = false;
    let failure: ApiError | null = null;
    let refusal: Served | null = null;
    for (let origin = order.shift(); origin !== undefined; origin = order.shift()) {
      asked.add(origin);
      const mayTurn = turned.length < MAX_TURNED_AWAY && order.some((one) => !turned.includes(one));
      const lease = route.start(origin);
      call.onAsked?.({ cancel: () => cancel(origin, cancelId, call.requestId) });
      const exchanged = await hangDetector.exchange(origin, { ...exchangeCall, mayTurn });
      const decision = await decideRetry(origin, exchanged, call);
      if (decision.kind === 'serve' && silenced) await silences.clear(call);
      if (decision.kind === 'serve' && decision.response.ok) route.served(origin);
      if (decision.kind === 'serve')
        return ok({
          ...deliver({ origin, response: decision.response, lease, call }),
          ...{ origin, tried, refused: decision.refused ?? null },
        });
      lease.end();
      if (decision.kind === 'next' && decision.turnedAway === true && mayTurn) {
        turned.push(origin);
        order = [...route.again(origins.filter((one) => !asked.has(one))), ...turned];
        continue;
      }
      failure = decision.error;
      if (now() >= until) return err(deadline(budgetMs));
      if (decision.kind === 'stop') break;
      if (decision.clientError !== undefined)
        refusal ??= { ...decision.clientError, ended: null, origin, tried: [...tried] };
      if (decision.tooSmall === true && ++tooSmall === MAX_TOO_SMALL) break;
      tried.push(origin.id);
      if (exchanged.kind !== 'unreachable' || exchanged.hangs !== true) continue;
      silenced = true;
      call.onSilenced?.();
      if ((await silences.note(call)) < MAX_SILENCED_ORIGINS) continue;
      logLine('request_stops_origins', {
        request_id: call.requestId,
        tenant: call.tenant,
        origin: origin.id,
      });
      return err(stopped());
    }
    return refusal === null ? err(failure ?? originUnavailable()) : ok(refusal);
  };
}

/** In the path, because that is signed. */
function pathOf({ path, onAsked, answerText }: CompletionCall, cancelId: string): string {
  const parameters = [
    ...(onAsked === undefined ? [] : [`${CANCEL_PARAMETER}=${cancelId}`]),
    ...(answerText === undefined ? [] : [`${ANSWER_PARAMETER}=${answerText}`]),
  ];
  return parameters.length === 0 ? path : `${path}?${parameters.join('&')}`;
}

function retold(response: Response, text: string): Response {
  const headers = new Headers({ 'content-type': 'application/json' });
  for (const name of RETOLD_HEADERS) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return new Response(text, { status: response.status, headers });
}

/** How often one request copies an adapter to an origin that loses it again at once. */
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
/** An origin's error about a request. */
type Refusal = z.infer<typeof OriginError>['error'];

/** An adapter that the origin lacked. */
export interface PushedFile {
  digest: string;
  /** Bytes sent; 0 if another request of this isolate sent it. */
  bytes: number;
  ms: number;
}

interface ExchangeCall {
  path: string;
  /** Everything that it needs on the origin; only these files are copied. */
  chain: readonly ChainEntry[];
  requestId?: string;
  /** The request's span; each attempt is one below it. */
  parent?: Traceparent | null;
  stages?: Stages;
  /** Deadline for copying adapters, unix ms; default: {@link LOAD_BUDGET_MS} from now. */
  loadUntil?: number;
  /** Called for each adapter that was copied. */
  onBrought?: (brought: PushedFile) => void;
  /** A crowded origin may refuse it. Once files were copied to it, it may not. */
  mayTurn?: boolean;
  /** Called before the request waits for an adapter that the origin lacks or is receiving. */
  onCold?: () => void;
  /** Created for each attempt. */
  body: () => object;
  /** For each attempt. */
  signal: () => AbortSignal;
  /** Aborts when the client disconnects. */
  gone: AbortSignal;
  keepAlive: (work: Promise<unknown>) => void;
}

export type Exchanged =
  /** The body is unread. */
  | { kind: 'answered'; response: Response }
  /** `refusal` is null if the response seems to come from something other than an origin. */
  | { kind: 'refused'; response: Response; text: string; refusal: Refusal | null }
  /** A missing file cannot be copied. */
  | { kind: 'failed'; error: ApiError }
  /** It is unreachable. */
  | {
      kind: 'unreachable';
      error: ApiError;
      reason: string;
      /** It gives no sign of life. */ hangs?: boolean;
    };

const cannotLoad = (): ApiError =>
  adapterUnavailable('The adapter could not be loaded in time. Retry in a few seconds.');

/**
 * Sends a request to one origin until it answers, and copies files of the chain that it reports as missing.
 */
export function createExchange(params: {
  send: OriginFetch;
  transfers: Transfers;
  pool: PoolKnowledge;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}) {
  const { send, transfers, pool, now, sleep } = params;

  async function bringAll(
    origin: Origin,
    missing: readonly string[],
    state: Pick<ExchangeCall, 'chain' | 'keepAlive' | 'onBrought' | 'stages'> & {
      brought: Map<string, number>;
      loadUntil: number;
    },
  ): Promise<Result<null, ApiError>> {
    // Only files that the request needs and its sender may use: an origin cannot ask for others' adapters.
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
        const endBringing = state.stages?.begin('bring adapter');
        const sent = await transfers.pushAdapter(origin, digest, { until: loadUntil, keepAlive });
        endBringing?.({
          attributes: {
            'graft.origin': origin.id,
            'graft.adapter.digest': digest,
            'graft.adapter.bytes': sent.ok ? sent.value : null,
            'error.type': sent.ok ? null : sent.error.code,
          },
          failed: !sent.ok,
        });
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
    for (let isFirst = true; ; isFirst = false) {
      const span = parent === null ? null : childOf(parent);
      const endAttempt = span === null ? undefined : call.stages?.begin('origin', span.spanId);
      const sent = await send(origin, {
        method: 'POST',
        path,
        body: JSON.stringify(call.body()),
        signal: call.signal(),
        ...(call.mayTurn === undefined ? {} : { headers: pool.headersFor(origin, call.mayTurn && isFirst) }),
        ...(requestId === undefined ? {} : { requestId }),
        ...(span === null ? {} : { span }),
      });
      endAttempt?.({
        attributes: {
          'graft.origin': origin.id,
          'http.request.method': 'POST',
          'http.response.status_code': sent.ok ? sent.value.status : null,
          'error.type': sent.ok ? null : gone.aborted ? 'cancelled' : sent.error.kind,
        },
        failed: sent.ok ? sent.value.status >= 500 : !gone.aborted,
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

/** @returns '' if the connection breaks, or the response does not end. */
export const textOf = async (response: Response): Promise<string> =>
  (await readOriginText(response).catch(() => null)) ?? '';

/** @returns null if it is not an origin's error. */
export function parseRefusal(text: string): Refusal | null {
  try {
    const parsed = OriginError.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.error : null;
  } catch {
    return null;
  }
}

/** @returns null for a refusal that does not concern the request. */
export function asApiError(
  { code, message, reason }: Pick<Refusal, 'code' | 'message' | 'reason'>,
  response: Response,
): ApiError | null {
  const asked = Number(response.headers.get('retry-after-ms') ?? NaN);
  const retryAfterMs = Number.isFinite(asked) ? asked : RETRY_AFTER_MS;
  switch (code) {
    case 'queue_full':
    case 'deadline_exceeded':
    case 'adapter_unavailable':
      return { code, message, retryAfterMs };
    case 'adapter_invalid':
      return { code, message, ...(reason === undefined ? {} : { reason }) };
    case 'wrong_endpoint':
      return { code, message, param: 'model' };
    default:
      return null;
  }
}

/** Probes origins that seem to hang, so that requests need not hang to find out. */
export function createHangDetector(params: {
  health: OriginHealth;
  exchange: Exchange;
  send: OriginFetch;
  now: () => number;
  /** An origin without headers for this long must answer a probe within `pulseMs`. */
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
   * An overloaded origin still answers others, or continues their streams, and needs no probe.
   * @param since unix ms; anything that arrived since then counts.
   */
  async function isAlive(origin: Origin, since: number): Promise<boolean> {
    if (health.heardSince(origin, since)) return true;
    const answer = await ask(origin);
    if (answer.ok) await answer.value.body?.cancel();
    return answer.ok || health.heardSince(origin, since);
  }

  return {
    /** Half-open: a probe decides whether the origin gets requests again, not a client's request. */
    async probe(origin: Origin): Promise<void> {
      const answer = await ask(origin);
      const response = answer.ok ? answer.value : null;
      await response?.body?.cancel();
      if (response?.ok === true) health.answered(origin, response.headers.get(LOAD_HEADER));
      else health.failed(origin, response?.status === 401 ? SIGNATURE_EJECT_MS : 0);
    },

    /** A probe detects an origin that hangs, since a whole answer may take minutes. */
    async exchange(origin: Origin, call: ExchangeCall): Promise<Exchanged> {
      const dead = new AbortController();
      const signal = () => AbortSignal.any([call.signal(), dead.signal]);
      const asked = exchange(origin, { ...call, signal });
      for (let since = now(); ; since = now()) {
        const exchanged = await withTimeout(asked, patienceMs, () => null);
        if (exchanged !== null) return exchanged;
        if (await isAlive(origin, since)) continue;
        const reason = `no sign of life for ${(patienceMs + pulseMs) / 1000} s`;
        dead.abort(new Error(reason));
        return { kind: 'unreachable', error: originUnavailable(), reason, hangs: true };
      }
    },
  };
}

type HangDetector = ReturnType<typeof createHangDetector>;
