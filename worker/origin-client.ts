import type { z } from 'zod';
import {
  BaseInfo,
  err,
  ok,
  ResidentList,
  type AdapterManifest,
  type ApiError,
  type OriginRequest,
  type Result,
  type SigningKey,
} from '../protocol/index.ts';
import type { AdapterTrials } from './intake/intake-deps.ts';
import {
  BASE_INFO_TTL_MS,
  MAX_ORIGIN_ANSWER_BYTES,
  ORIGIN_QUESTION_MS,
  ORIGIN_VERIFY_MS,
  REQUEST_BUDGET_MS,
} from './limits.ts';
import { createExchange, originUnavailable, type Refusal } from './origin-exchange.ts';
import { createOriginFetch, type Fetch } from './origin-fetch.ts';
import { createTransfers } from './origin-transfers.ts';
import { createTrials } from './origin-trials.ts';
import { rankOrigins, type Origin } from './policy/choose-origin.ts';
import type { BlobStore } from './stores/types.ts';

export interface OriginReport {
  id: string;
  /** null when the origin does not answer. */
  base: BaseInfo | null;
  residents: ResidentList | null;
}

export interface CompletionCall {
  path: '/v1/chat/completions' | '/v1/completions' | '/v1/responses';
  /** The client's request, validated. */
  request: Record<string, unknown>;
  model: string;
  /** null = the base model. */
  manifest: AdapterManifest | null;
  tenant: string;
  requestId: string;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** Lets work go on after the response. */
  keepAlive: (work: Promise<unknown>) => void;
}

export interface OriginClient extends AdapterTrials {
  /** Base model of the origins; known from earlier for a while, also when they do not answer. */
  base(): Promise<Result<BaseInfo, ApiError>>;
  report(): Promise<OriginReport[]>;
  /** @returns the origin's response, whose body has not been read; also when it refuses the request. */
  complete(call: CompletionCall): Promise<Result<{ response: Response; origin: Origin }, ApiError>>;
}

/** Statuses of an origin that are about the client's request, and so are the client's to see. */
const PASSED_ON = new Set([400, 404, 413, 422, 429, 500, 503]);

export function createOriginClient(params: {
  origins: readonly Origin[];
  keys: readonly SigningKey[];
  blobs: BlobStore;
  fetch: Fetch;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  /** {@link ORIGIN_VERIFY_MS} unless given. */
  verifyTimeoutMs?: number;
}): OriginClient {
  const { origins, now } = params;
  const send = createOriginFetch(params);
  const exchange = createExchange({ ...params, send, transfers: createTransfers({ ...params, send }) });
  let known: { base: BaseInfo; at: number } | null = null;

  async function ask<T>(origin: Origin, path: string, schema: z.ZodType<T>): Promise<T | null> {
    const answer = await send(origin, {
      method: 'GET',
      path,
      signal: AbortSignal.timeout(ORIGIN_QUESTION_MS),
    });
    if (!answer.ok) return null;
    try {
      const text = answer.value.ok ? await answer.value.text() : '';
      if (text === '' || text.length > MAX_ORIGIN_ANSWER_BYTES) return null;
      return schema.parse(JSON.parse(text));
    } catch (error) {
      console.error(
        JSON.stringify({ event: 'odd_origin_answer', origin: origin.id, path, error: String(error) }),
      );
      return null;
    }
  }

  async function base(): Promise<Result<BaseInfo, ApiError>> {
    if (known !== null && now() - known.at < BASE_INFO_TTL_MS) return ok(known.base);
    for (const origin of origins) {
      const found = await ask(origin, '/base', BaseInfo);
      if (found === null) continue;
      known = { base: found, at: now() };
      return ok(found);
    }
    return known === null ? err(originUnavailable()) : ok(known.base);
  }

  async function complete(call: CompletionCall): ReturnType<OriginClient['complete']> {
    const started = now();
    const origin = rankOrigins(call.manifest?.name ?? 'base', origins)[0];
    if (origin === undefined) return err(originUnavailable());
    const chain = (call.manifest?.chain ?? []).map(({ digest, scale }) => ({ digest, scale }));
    const signal = AbortSignal.any([call.signal, AbortSignal.timeout(REQUEST_BUDGET_MS)]);
    const exchanged = await exchange(origin, {
      path: call.path,
      chain,
      body: (): OriginRequest => ({
        request: call.request,
        graft: {
          chain,
          tenant: call.tenant,
          budget_ms: Math.max(1, REQUEST_BUDGET_MS - (now() - started)),
          request_id: call.requestId,
          model: call.model,
        },
      }),
      signal: () => signal,
      gone: call.signal,
      keepAlive: call.keepAlive,
    });
    switch (exchanged.kind) {
      case 'answered':
        return ok({ response: exchanged.response, origin });
      case 'refused':
        return passOn({ ...exchanged, origin });
      case 'failed':
        return err(exchanged.error);
    }
  }

  return {
    base,
    complete,
    ...createTrials({
      origins,
      exchange,
      verifyTimeoutMs: params.verifyTimeoutMs ?? ORIGIN_VERIFY_MS,
    }),
    report: () =>
      Promise.all(
        origins.map(async (origin) => {
          const [info, residents] = await Promise.all([
            ask(origin, '/base', BaseInfo),
            ask(origin, '/adapters', ResidentList),
          ]);
          return { id: origin.id, base: info, residents };
        }),
      ),
  };
}

/** The origin's own words about the request go to the client; its quarrels with us (401, a proxy's page) do not. */
function passOn(params: {
  response: Response;
  text: string;
  refusal: Refusal | null;
  origin: Origin;
}): Result<{ response: Response; origin: Origin }, ApiError> {
  const { response, text, refusal, origin } = params;
  if (refusal === null || !PASSED_ON.has(response.status)) {
    console.error(JSON.stringify({ event: 'odd_origin_answer', origin: origin.id, status: response.status }));
    return err(originUnavailable());
  }
  const headers = new Headers({ 'content-type': 'application/json' });
  for (const name of ['retry-after', 'retry-after-ms', 'x-should-retry']) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return ok({ response: new Response(text, { status: response.status, headers }), origin });
}
