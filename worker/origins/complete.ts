import {
  ANSWER_PARAMETER,
  ASK_PARAMETER,
  COLD_HEADER,
  err,
  LOAD_HEADER,
  ok,
  sha256Hex,
  type AdapterManifest,
  type ApiError,
  type ChainEntry,
  type OriginRequest,
  type Result,
  type Traceparent,
  USAGE_HEADER,
} from '../../protocol/index.ts';
import { baseUnserved, originUnavailable } from '../errors.ts';
import {
  DEADLINE_GRACE_MS,
  LOAD_BUDGET_MS,
  MAX_SILENCED_ORIGINS,
  MAX_SILENCING_REQUESTS,
  MAX_TOO_SMALL,
  SIGNATURE_EJECT_MS,
  SILENCE_MEMORY_MS,
} from './limits.ts';
import { logLine } from '../log.ts';
import type { ExchangeCall, Exchanged, Refusal, Watch } from './exchange.ts';
import type { OriginHealth, Routing } from './health.ts';
import { createDeliver } from './stream.ts';
import type { Pools, Origin } from './choose-origin.ts';
import type { UsageQuestion } from './ask-origins.ts';
import type { StreamEnd, TokenCounts } from '../metering/ports.ts';

export interface CompletionCall {
  path:
    | '/v1/chat/completions'
    | '/v1/completions'
    | '/v1/responses'
    | '/v1/messages'
    | '/v1/messages/count_tokens'
    | '/v1/responses/input_tokens'
    | '/v1/embeddings'
    | '/tokenize'
    | '/detokenize';
  /** The client's request, validated. */
  request: Record<string, unknown>;
  model: string;
  /** null = the base model. */
  manifest: AdapterManifest | null;
  /** Id of the base, where there is no manifest; null or absent = the default one. */
  base?: string | null;
  /** What is run, when it is not the manifest's chain alone. */
  chain?: readonly ChainEntry[];
  tenant: string;
  requestId: string;
  /** The trace that the client says it belongs to. */
  parent?: Traceparent | null;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** Lets work go on after the response. */
  keepAlive: (work: Promise<unknown>) => void;
  /** What the answer's id is to end with; the origin's own choice unless given. */
  answerText?: string;
  /** Hears that the request waits for an adapter which is brought to the origin, or read into its memory. */
  onCold?: () => void;
  /** Hears that an origin fell silent under it. */
  onSilenced?: () => void;
  /** Hears of each origin that it is sent to, the next one only after the one before. */
  onAsked?: (asked: AskedOrigin) => void;
}

export interface AskedOrigin {
  /** What the request used there, once its client has left it; null when the origin does not say. Never throws. */
  used(): Promise<TokenCounts | null>;
}

export interface Served {
  /** Its body has not been read; also when the origin refuses the request. */
  response: Response;
  /** Of a stream: how it ended, when it has; null for anything else. */
  ended: Promise<StreamEnd> | null;
  origin: Origin;
  /** Of the error that the origin refuses the request with; null when it does not. */
  refused: string | null;
  /** Ids of the origins that were asked before and could not serve. */
  tried: string[];
}

type Judgement =
  | { kind: 'serve'; response: Response; refused?: string }
  /** Nothing has been sent to the client yet, so another origin can be asked. */
  | {
      kind: 'next';
      error: ApiError;
      /** Told to the client when no other does better. */
      told?: { response: Response; refused: string };
      /** It has too little for the request, and others may have more. */
      tooSmall?: boolean;
    }
  | { kind: 'stop'; error: ApiError };

/** Statuses of an origin that are about the client's request, and so are the client's to see. */
const PASSED_ON = new Set([400, 404, 413, 422, 429, 500, 503]);
/** Of Cloudflare, when an origin behind it has said nothing for 100 s: a whole answer that takes longer. */
const PROXY_TIMEOUT = 524;
/** When to come back, and what was counted before the refusal. */
const RETOLD_HEADERS = ['retry-after', 'retry-after-ms', 'x-should-retry', USAGE_HEADER];

const deadline = (budgetMs: number): ApiError => ({
  code: 'deadline_exceeded',
  message: `The request took longer than ${budgetMs / 1000} s.`,
});

const stopped = (): ApiError => ({
  code: 'origin_stopped',
  message: `An origin stopped answering while it served this request, and so did the next one. It is sent to no other one for ${SILENCE_MEMORY_MS / 60_000} minutes.`,
});

/**
 * The requests under which origins fell silent: what stops one would stop them all, one after the other. A request is
 * its tenant, its path and its body.
 */
function createSilences(now: () => number) {
  const found = new Map<string, { origins: number; until: number }>();
  const keyOf = ({ tenant, path, request }: CompletionCall): Promise<string> =>
    sha256Hex(JSON.stringify([tenant, path, request]));
  const timesOf = (key: string): number => {
    const known = found.get(key);
    return known === undefined || known.until <= now() ? 0 : known.origins;
  };
  return {
    async isKnown(call: CompletionCall): Promise<boolean> {
      // Nothing is hashed while every origin answers.
      return found.size > 0 && timesOf(await keyOf(call)) >= MAX_SILENCED_ORIGINS;
    },
    /** @returns how many origins fell silent under it, this one too. */
    async note(call: CompletionCall): Promise<number> {
      const key = await keyOf(call);
      const origins = timesOf(key) + 1;
      found.delete(key);
      found.set(key, { origins, until: now() + SILENCE_MEMORY_MS });
      const [oldest] = found.keys();
      if (found.size > MAX_SILENCING_REQUESTS && oldest !== undefined) found.delete(oldest);
      return origins;
    },
    /** An origin answered it: the one before was lost by itself. */
    async clear(call: CompletionCall): Promise<void> {
      found.delete(await keyOf(call));
    },
  };
}

/** Sends completions to the origins of their base: to the next one when one cannot serve, before the first byte. */
export function createComplete(params: {
  pools: Pools;
  health: OriginHealth;
  routing: Routing;
  watch: Watch;
  now: () => number;
  askUsage: UsageQuestion;
  /** How long an origin may take for a request. */
  budgetMs: number;
}) {
  const { pools, health, routing, watch, now, askUsage, budgetMs } = params;
  const deliver = createDeliver({ health, now });
  const silences = createSilences(now);

  function judge(origin: Origin, exchanged: Exchanged, call: CompletionCall): Judgement {
    switch (exchanged.kind) {
      case 'answered': {
        const { response } = exchanged;
        const type = response.headers.get('content-type') ?? '';
        if (!/^(application\/json|text\/event-stream)\b/.test(type)) {
          response.body?.cancel().catch(() => undefined);
          return odd(origin, { status: response.status, reason: 'neither JSON nor events' });
        }
        health.answered(origin, response.headers.get(LOAD_HEADER));
        if (response.headers.has(COLD_HEADER)) call.onCold?.();
        return { kind: 'serve', response };
      }
      case 'refused':
        return judgeRefusal(origin, exchanged);
      case 'failed': {
        const { error } = exchanged;
        // A store that does not answer would not answer for the next origin either.
        return { kind: error.code === 'registry_unavailable' ? 'stop' : 'next', error };
      }
      case 'unreachable':
        if (call.signal.aborted) return { kind: 'stop', error: exchanged.error };
        health.failed(origin);
        routing.lost(origin);
        return { kind: 'next', error: exchanged.error };
    }
  }

  /** The origin's own words about the request go to the client; its quarrels with us (401, a proxy's page) do not. */
  function judgeRefusal(origin: Origin, refused: Extract<Exchanged, { kind: 'refused' }>): Judgement {
    const { response, text, refusal } = refused;
    const { status } = response;
    if (refusal === null && status === PROXY_TIMEOUT) return tooLongForProxy(origin);
    if (refusal === null) return odd(origin, { status, reason: 'not an answer of an origin' });
    if (refusal.code === 'invalid_signature') return refusedSignature(origin, refusal);
    if (refusal.code === 'origin_unavailable') {
      logLine('origin_not_serving', { origin: origin.id, reason: refusal.message }, 'info');
      health.failed(origin, Number(response.headers.get('retry-after-ms') ?? 0) || 0);
      return { kind: 'next', error: originUnavailable() };
    }
    if (!PASSED_ON.has(status)) return odd(origin, { status, reason: refusal.code });
    health.answered(origin, response.headers.get(LOAD_HEADER));
    const told = retold(response, text);
    // Without a time to come back it never fits this origin: it has fewer rows than others, or takes lower ranks.
    const tooSmall =
      (refusal.code === 'queue_full' && !response.headers.has('retry-after')) ||
      refusal.reason === 'rank_sum_exceeded';
    if (refusal.code !== 'queue_full' && !tooSmall)
      return { kind: 'serve', response: told, refused: refusal.code };
    if (!tooSmall) health.full(origin);
    return {
      kind: 'next',
      error: originUnavailable(),
      told: { response: told, refused: refusal.code },
      tooSmall,
    };
  }

  function odd(origin: Origin, fields: { status: number; reason: string }): Judgement {
    logLine('odd_origin_answer', { origin: origin.id, ...fields });
    health.failed(origin);
    return { kind: 'next', error: originUnavailable() };
  }

  /** It would take as long elsewhere. */
  function tooLongForProxy(origin: Origin): Judgement {
    logLine('odd_origin_answer', {
      origin: origin.id,
      status: PROXY_TIMEOUT,
      reason: 'a proxy did not wait for it',
    });
    const message = 'The answer took longer than a proxy before the model server waits. Ask for a stream.';
    return { kind: 'stop', error: { code: 'deadline_exceeded', message } };
  }

  function refusedSignature(origin: Origin, { message, reason }: Refusal): Judgement {
    logLine('origin_refused_signature', { origin: origin.id, reason, message });
    // A stamp from before its start is over in a moment; keys, ids and clocks need somebody.
    health.failed(origin, reason === 'before_start' ? 0 : SIGNATURE_EJECT_MS);
    return { kind: 'next', error: originUnavailable() };
  }

  return async (call: CompletionCall): Promise<Result<Served, ApiError>> => {
    const started = now();
    const base = call.manifest?.base.id ?? call.base ?? null;
    const origins = pools.of(base);
    if (origins.length === 0) return err(baseUnserved(base ?? '', pools.declared ?? []));
    if (await silences.isKnown(call)) return err(stopped());
    const chain = (call.chain ?? call.manifest?.chain ?? []).map(({ digest, scale }) => ({ digest, scale }));
    const budget = AbortSignal.any([call.signal, AbortSignal.timeout(budgetMs + DEADLINE_GRACE_MS)]);
    const askId = crypto.randomUUID();
    const exchangeCall: ExchangeCall = {
      path: pathOf(call, askId),
      chain,
      requestId: call.requestId,
      parent: call.parent ?? null,
      loadUntil: started + LOAD_BUDGET_MS,
      body: (): OriginRequest => ({
        request: call.request,
        graft: {
          chain,
          tenant: call.tenant,
          budget_ms: Math.max(1, budgetMs - (now() - started)),
          request_id: call.requestId,
          model: call.model,
        },
      }),
      signal: () => budget,
      gone: call.signal,
      keepAlive: call.keepAlive,
      ...(call.onCold === undefined ? {} : { onCold: call.onCold }),
    };
    // With one origin there is nothing to choose: it gets every request.
    if (origins.length > 1) for (const origin of health.toProbe(origins)) call.keepAlive(watch.probe(origin));
    const route = routing.choose({ ...call, name: call.manifest?.name ?? null }, { origins, chain });
    const tried: string[] = [];
    let tooSmall = 0;
    let silenced = false;
    let failure: ApiError | null = null;
    let refusal: Served | null = null;
    for (const origin of route.order) {
      const lease = route.start(origin);
      call.onAsked?.({ used: () => askUsage(origin, askId, call.requestId) });
      const exchanged = await watch.exchange(origin, exchangeCall);
      const judged = judge(origin, exchanged, call);
      if (judged.kind === 'serve' && silenced) await silences.clear(call);
      if (judged.kind === 'serve' && judged.response.ok) route.served(origin);
      if (judged.kind === 'serve')
        return ok({
          ...deliver({ origin, response: judged.response, lease, call }),
          ...{ origin, tried, refused: judged.refused ?? null },
        });
      lease.end();
      failure = judged.error;
      if (now() - started >= budgetMs) return err(deadline(budgetMs));
      if (judged.kind === 'stop') break;
      if (judged.told !== undefined) refusal ??= { ...judged.told, ended: null, origin, tried: [...tried] };
      if (judged.tooSmall === true && ++tooSmall === MAX_TOO_SMALL) break;
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

/** In the path, which is signed: an origin of before passes over what it does not know there, and not in the body. */
function pathOf({ path, onAsked, answerText }: CompletionCall, askId: string): string {
  const parameters = [
    ...(onAsked === undefined ? [] : [`${ASK_PARAMETER}=${askId}`]),
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
